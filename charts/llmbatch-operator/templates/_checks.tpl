{{/* What the schema cannot say, such as of values that depend on each other: one error that tells all that is wrong. */}}
{{- define "llmbatch-operator.checks" -}}
{{- $wrong := list }}
{{- range list "podFaults" "flagFaults" "monitoringFaults" "networkFaults" }}
{{- $wrong = include (print "llmbatch-operator." .) $ | splitList "\n" | compact | concat $wrong }}
{{- end }}
{{- with $wrong }}
{{- printf "\n\n* %s\n" (join "\n* " .) | fail }}
{{- end }}
{{- end }}

{{/* What is wrong with how the pods run: as in those below, a line for each fault. */}}
{{- define "llmbatch-operator.podFaults" -}}
{{- $pods := int .Values.replicaCount }}
{{- if and (gt $pods 1) (not .Values.leaderElection.enabled) }}
{{ printf "replicaCount is %d: more than one pod needs leaderElection.enabled" $pods }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- $least := .minAvailable | default "" | toString }}
{{- /* Of a percentage the cluster takes the next whole pod, and so many must stay. */}}
{{- $part := div (add (mul (trimSuffix "%" $least | int) $pods) 99) 100 | int }}
{{- if and .enabled (gt $pods 1) (ge (hasSuffix "%" $least | ternary $part (int $least)) $pods) }}
{{ printf "podDisruptionBudget.minAvailable is %s of %d pods: no node could be drained" $least $pods }}
{{- end }}
{{- if and .enabled (not (or .minAvailable .maxUnavailable)) }}
podDisruptionBudget.enabled needs maxUnavailable or minAvailable
{{- end }}
{{- end }}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
serviceAccount.create is false: name the account in serviceAccount.name
{{- end }}
{{- end }}

{{- define "llmbatch-operator.flagFaults" -}}
{{- $interval := .Values.pollInterval }}
{{- if or (lt (float64 $interval) 0.2) (gt (float64 $interval) 3600.0) }}
{{ printf "pollInterval is %v: it must be 0.2 to 3600 seconds" $interval }}
{{- end }}
{{- range $flag, $owner := include "llmbatch-operator.ownFlags" . | fromYaml }}
{{- range $.Values.extraArgs }}
{{- $given := splitList "=" . | first }}
{{- if eq $given (print "--" $flag) }}
{{ printf "extraArgs: %s is set by %s" $given $owner }}
{{- end }}
{{- end }}
{{- range $.Values.extraEnv }}
{{- if eq (upper .name) (printf "LLMBATCH_%s" (upper $flag | replace "-" "_")) }}
{{ printf "extraEnv: %s is set by %s" .name $owner }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "llmbatch-operator.monitoringFaults" -}}
{{- with .Values.metrics }}
{{- if and .serviceMonitor.enabled (not .service.enabled) }}
metrics.serviceMonitor.enabled needs metrics.service.enabled; metrics.podMonitor.enabled does not
{{- end }}
{{- if and .serviceMonitor.enabled .podMonitor.enabled }}
metrics.serviceMonitor.enabled and metrics.podMonitor.enabled together would count everything twice
{{- end }}
{{- $alerts := dict }}
{{- range ($.Files.Get "files/rules.yaml" | fromYaml).groups }}
{{- range .rules }}
{{- $_ := set $alerts .alert true }}
{{- end }}
{{- end }}
{{- range .prometheusRule.disabled }}
{{- if not (hasKey $alerts .) }}
{{ printf "metrics.prometheusRule.disabled: there is no alert %s" . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "llmbatch-operator.networkFaults" -}}
{{- $policy := .Values.networkPolicy }}
{{- $networks := dict
  "allowNetworks" .Values.allowNetworks
  "networkPolicy.apiServer.cidrs" $policy.apiServer.cidrs
  "networkPolicy.providers.cidrs" $policy.providers.cidrs
  "networkPolicy.providers.except" $policy.providers.except }}
{{- range $name, $listed := $networks }}
{{- range $listed }}
{{- with include "llmbatch-operator.networkFault" . }}
{{ printf "%s: %s" $name . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
