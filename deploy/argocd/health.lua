-- The health of a PythonService, as Argo CD shows it and waits for.
local health = {}
local status = obj.status
local generation = obj.metadata.generation

-- Somebody has changed the spec, and the operator has not looked at it yet.
if status == nil or status.observedGeneration == nil or status.observedGeneration < generation then
  health.status = "Progressing"
  health.message = "waiting for the operator to look at the spec"
  return health
end

local of_phase = {
  Initializing = "Progressing",
  Progressing = "Progressing",
  RollingBack = "Progressing",
  Healthy = "Healthy",
  Paused = "Suspended",
  RolledBack = "Degraded",
  Degraded = "Degraded",
}
health.status = of_phase[status.phase] or "Unknown"
health.message = status.message or status.phase or "no phase yet"
return health
