-- Asks for it by a RolloutAction: the spec belongs to Git. Who asks is the account that Argo CD creates objects as, which
-- the admission policy compares; Argo CD's own audit log has the person.
local requested_by = "system:serviceaccount:argocd:argocd-server"

local status = obj.status or {}
local spec = {
  service = obj.metadata.name,
  action = wish,
  requestedBy = requested_by,
  reason = "asked for in Argo CD",
}
-- It is meant for what was seen: it expires if another revision is under way by then.
if status.canary ~= nil then
  spec.revision = status.canary.revision
  spec.attempt = status.canary.attempt
  -- Sent twice, it ends one wait.
  if wish == "Promote" and status.step ~= nil then
    spec.step = status.step.awaited
  end
elseif (wish == "Undo" or wish == "Restart") and status.stable ~= nil then
  spec.revision = status.stable.revision
end

local action = {
  apiVersion = "molt.dev/v1alpha1",
  kind = "RolloutAction",
  metadata = {
    name = obj.metadata.name .. "-" .. name .. "-" .. os.date("!%Y%m%d%H%M%S"),
    namespace = obj.metadata.namespace,
  },
  spec = spec,
}
return { { operation = "create", resource = action } }
