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

if holds.Stalled ~= nil then
  return { status = "Degraded", message = holds.Stalled.message }
end
if holds.Reconciling ~= nil then
  return { status = "Progressing", message = holds.Reconciling.message }
end
-- One deployment that holds the file is enough for a job to run; the message names those that do not.
if holds.Ready ~= nil then
  return { status = "Healthy", message = holds.Ready.message }
end
return { status = "Progressing", message = "Waiting for the operator" }
