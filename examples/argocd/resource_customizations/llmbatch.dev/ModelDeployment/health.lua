-- The status follows kstatus: observedGeneration, Reconciling, Stalled.
-- Deletion is no matter of this check: Argo CD tells it as Progressing before it asks here.
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator to see this generation" }
end

local known = {}
for _, condition in ipairs(status.conditions) do
  known[condition.type] = condition
end
local function holds(type)
  return known[type] ~= nil and known[type].status == "True"
end

if holds("Stalled") then
  return { status = "Degraded", message = known.Stalled.message }
end
if holds("Reconciling") then
  return { status = "Progressing", message = known.Reconciling.message }
end
if holds("Ready") then
  return { status = "Healthy", message = known.Ready.message }
end
if known.Ready ~= nil and known.Ready.reason == "Suspended" then
  return { status = "Suspended", message = known.Ready.message }
end
return { status = "Progressing", message = "Waiting for the operator" }
