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

{{/* What it needs of the namespace kube-system, whose UID names the cluster. */}}
{{- define "llmbatch-operator.clusterRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
{{- end }}

{{/* What it needs where its Lease lies. */}}
{{- define "llmbatch-operator.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "llmbatch-operator.fullname" . | quote }}]
  verbs: [get, update]
{{- end }}

{{/*
A role and its binding to the operator's account: called with a dictionary of the `root`, a `name`, its `rules` as YAML
and, for a Role, its `namespace`.
*/}}
{{- define "llmbatch-operator.role" -}}
{{- $scope := empty .namespace | ternary "Cluster" "" }}
{{- $metadata := dict "name" .name "labels" (include "llmbatch-operator.labels" (list .root) | fromYaml) }}
{{- with .namespace }}
{{- $_ := set $metadata "namespace" . }}
{{- end -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}Role
metadata:
  {{- toYaml $metadata | nindent 2 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}RoleBinding
metadata:
  {{- toYaml $metadata | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $scope }}Role
  name: {{ .name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ include "llmbatch-operator.serviceAccountName" .root | quote }}
    namespace: {{ .root.Release.Namespace | quote }}
{{ end }}
