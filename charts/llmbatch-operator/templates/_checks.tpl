{{/* What the schema cannot say of values that depend on each other: one error that tells all that is wrong. */}}
{{- define "llmbatch-operator.checks" -}}
{{- $wrong := list }}
{{- with .Values }}
{{- if and (gt (int .replicaCount) 1) (not .leaderElection.enabled) }}
{{- $wrong = append $wrong (printf "replicaCount is %d: more than one pod needs leaderElection.enabled" (int .replicaCount)) }}
{{- end }}
{{- $least := .podDisruptionBudget.minAvailable }}
{{- if and .podDisruptionBudget.enabled (not (kindIs "string" $least)) (gt (int .replicaCount) 1) }}
{{- if ge (int $least) (int .replicaCount) }}
{{- $wrong = append $wrong (printf "podDisruptionBudget.minAvailable is %d of %d pods: no node could be drained" (int $least) (int .replicaCount)) }}
{{- end }}
{{- end }}
{{- if not (or .serviceAccount.create .serviceAccount.name) }}
{{- $wrong = append $wrong "serviceAccount.create is false: name the account in serviceAccount.name" }}
{{- end }}
{{- if and .metrics.serviceMonitor.enabled (not .metrics.service.enabled) }}
{{- $wrong = append $wrong "metrics.serviceMonitor.enabled needs metrics.service.enabled; metrics.podMonitor.enabled does not" }}
{{- end }}
{{- if and .metrics.serviceMonitor.enabled .metrics.podMonitor.enabled }}
{{- $wrong = append $wrong "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled together would count everything twice" }}
{{- end }}
{{- $networks := dict
  "allowNetworks" .allowNetworks
  "networkPolicy.apiServer.cidrs" .networkPolicy.apiServer.cidrs
  "networkPolicy.providers.cidrs" .networkPolicy.providers.cidrs
  "networkPolicy.providers.except" .networkPolicy.providers.except }}
{{- range $name, $listed := $networks }}
{{- range $listed }}
{{- with include "llmbatch-operator.networkFault" . }}
{{- $wrong = append $wrong (printf "%s: %s" $name .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- printf "\n\n* %s\n" (join "\n* " $wrong) | fail }}
{{- end }}
{{- end }}

{{/* Why an IPv4 network is none, or nothing. The operator and the API server take no network with host bits either. */}}
{{- define "llmbatch-operator.networkFault" -}}
{{- $network := . }}
{{- $address := splitList "/" . | first }}
{{- $length := splitList "/" . | last | int }}
{{- if not (contains ":" $address) }}
{{- $octets := splitList "." $address }}
{{- $host := 0 }}
{{- $valid := and (eq (len $octets) 4) (le $length 32) }}
{{- range $at, $octet := $octets }}
{{- $valid = and $valid (ne $octet "") (le (int $octet) 255) }}
{{- /* Of this octet, so many lowest bits are the host's. */}}
{{- $bits := sub (mul 8 (add1 $at)) $length | max 0 | min 8 | int }}
{{- $size := index (list 1 2 4 8 16 32 64 128 256) $bits }}
{{- $host = add $host (mod (int $octet) $size) }}
{{- end }}
{{- if not $valid }}
{{- printf "%s is no network; write it as 10.1.0.0/16" $network }}
{{- else if $host }}
{{- printf "%s is an address in a network; with /%d the bits behind the first %d must be 0" $network $length $length }}
{{- end }}
{{- end }}
{{- end }}
