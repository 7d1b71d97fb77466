-- The status follows kstatus: observedGeneration, Reconciling, Stalled.
-- Deletion is no matter of this check: Argo CD tells it as Progressing before it asks here.
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator to see this generation" }
end

local holds = {}
for _, condition in ipairs(status.conditions) do
  if condition.status == "True" then
    holds[condition.type] = condition
  end
end

if holds.Suspended ~= nil then
  return { status = "Suspended", message = holds.Suspended.message }
end
if holds.Stalled ~= nil then
  return { status = "Degraded", message = holds.Stalled.message }
end
if holds.Reconciling ~= nil then
  return { status = "Progressing", message = holds.Reconciling.message }
end
if holds.Complete ~= nil then
  return { status = "Healthy", message = holds.Complete.message }
end
if holds.Failed ~= nil then
  -- What is left is a cancelled job. Where the spec asks for that, the job is what it should be; but a sync that
  -- waits for a hook must not go on as if it had its results.
  local annotations = obj.metadata.annotations or {}
  if obj.spec.cancel and annotations["argocd.argoproj.io/hook"] == nil then
    return { status = "Healthy", message = holds.Failed.message }
  end
  return { status = "Degraded", message = holds.Failed.message }
end
return { status = "Progressing", message = "Waiting for the operator" }
