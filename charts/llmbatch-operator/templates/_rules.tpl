{{/*
What the operator may do in a namespace that it works in, for a Role there or a ClusterRole. A Role too can give `get`
of the namespace that it is in.
*/}}
{{- define "llmbatch-operator.rules" -}}
- apiGroups: [llmbatch.dev]
  resources: [modeldeployments, batchfiles, batchjobs]
  verbs: [get, list, watch, patch]
- apiGroups: [llmbatch.dev]
  resources: [modeldeployments/status, batchfiles/status, batchjobs/status]
  verbs: [patch]
- apiGroups: [llmbatch.dev]
  resources: [batchjobs]
  verbs: [delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, update]
- apiGroups: [""]
  resources: [secrets]
  verbs: {{ .Values.rbac.secretOutputs | ternary (list "get" "create" "update") (list "get") | toJson }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* A binding's end: called with a list of the root, the kind of the role and its name. */}}
{{- define "llmbatch-operator.binding" -}}
{{- $root := index . 0 -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ index . 1 }}
  name: {{ index . 2 }}
subjects:
  - kind: ServiceAccount
    name: {{ include "llmbatch-operator.serviceAccountName" $root }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
