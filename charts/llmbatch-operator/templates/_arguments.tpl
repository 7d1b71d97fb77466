{{/* The command line, as a YAML list. */}}
{{- define "llmbatch-operator.arguments" -}}
- run
{{- if .Values.leaderElection.enabled }}
- --leader-elect
- --lease-namespace=$(POD_NAMESPACE)
- --lease-name={{ include "llmbatch-operator.fullname" . }}
{{- else }}
- --no-leader-elect
{{- end }}
{{- range include "llmbatch-operator.namespaces" . | fromJsonArray }}
- --namespace={{ . }}
{{- end }}
{{- range .Values.sharedNamespaces }}
- --shared-deployment-namespace={{ . }}
{{- end }}
{{- range .Values.allowNetworks }}
- --allow-network={{ . }}
{{- end }}
{{- range .Values.ambientCredentialPrefixes }}
- {{ printf "--ambient-credential-prefix=%s" . | quote }}
{{- end }}
{{- with .Values.clusterID }}
- {{ printf "--cluster-id=%s" . | quote }}
{{- end }}
- --poll-interval={{ .Values.pollInterval }}
- --log-level={{ .Values.logLevel }}
- --log-format={{ .Values.logFormat }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* The flags that are not for extraArgs and extraEnv, each with what sets it, as YAML. */}}
{{- define "llmbatch-operator.ownFlags" -}}
leader-elect: leaderElection.enabled
no-leader-elect: leaderElection.enabled
lease-namespace: the release's namespace
lease-name: fullnameOverride
namespace: watchNamespaces
shared-deployment-namespace: sharedNamespaces
allow-network: allowNetworks
ambient-credential-prefix: ambientCredentialPrefixes
cluster-id: clusterID
poll-interval: pollInterval
log-level: logLevel
log-format: logFormat
metrics-address: the container's ports
health-address: the container's ports
{{- end }}
