-- What a person can ask of a PythonService at the moment.
local status = obj.status or {}
local phase = status.phase
local canary = status.canary ~= nil
local moving = phase == "Progressing" or phase == "Paused"
local paused_by_person = false
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Paused" and condition.status == "True" then
    paused_by_person = condition.reason == "PausedByPerson"
  end
end

local function only_if(possible)
  return { disabled = not possible }
end

return {
  ["promote"] = only_if(canary and moving),
  ["promote-full"] = only_if(canary and moving),
  ["abort"] = only_if(canary and moving),
  ["pause"] = only_if(canary and phase == "Progressing"),
  ["resume"] = only_if(canary and paused_by_person),
  ["retry"] = only_if(phase == "RolledBack"),
  ["undo"] = only_if(phase == "Healthy"),
  ["restart"] = only_if(phase == "Healthy"),
}
