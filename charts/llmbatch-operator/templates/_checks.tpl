{{/* What the schema cannot say of values that depend on each other: one error that tells all of them. */}}
{{- define "llmbatch-operator.checks" -}}
{{- $wrong := list }}
{{- with .Values }}
{{- if and (gt (int .replicaCount) 1) (not .leaderElection.enabled) }}
{{- $wrong = append $wrong (printf "replicaCount is %d: more than one replica needs leaderElection.enabled" (int .replicaCount)) }}
{{- end }}
{{- if not (or .serviceAccount.create .serviceAccount.name) }}
{{- $wrong = append $wrong "serviceAccount.create is false: name the account in serviceAccount.name" }}
{{- end }}
{{- if and .metrics.serviceMonitor.enabled (not .metrics.service.enabled) }}
{{- $wrong = append $wrong "metrics.serviceMonitor.enabled needs metrics.service.enabled; metrics.podMonitor.enabled does not" }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- printf "\n\n* %s\n" (join "\n* " $wrong) | fail }}
{{- end }}
{{- end }}
