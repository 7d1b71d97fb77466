{{/* The command line, as a YAML list. */}}
{{- define "llmbatch-operator.arguments" -}}
- run
{{- if .Values.leaderElection.enabled }}
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
