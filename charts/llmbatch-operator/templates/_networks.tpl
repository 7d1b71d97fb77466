{{/* The bits of an address, as a string of 0 and 1; nothing where it is none. IPv6 has no part in IPv4 notation. */}}
{{- define "llmbatch-operator.bits" -}}
{{- if contains ":" . }}
{{- $full := . }}
{{- $missing := regexFindAll "[0-9a-fA-F]+" . -1 | len | sub 8 | int }}
{{- if gt $missing 0 }}
{{- $full = replace "::" (printf "%s:" (repeat $missing ":0")) . }}
{{- $full = hasPrefix "::" . | ternary (trimPrefix ":" $full) $full }}
{{- $full = hasSuffix "::" . | ternary (trimSuffix ":" $full) $full }}
{{- end }}
{{- if regexMatch "^([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}$" $full }}
{{- range splitList ":" $full }}
{{- print "0x" . | int | printf "%016b" }}
{{- end }}
{{- end }}
{{- else }}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" }}
{{- if regexMatch (printf "^(%s[.]){3}%s$" $octet $octet) . }}
{{- range splitList "." . }}
{{- int . | printf "%08b" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Why a network is none, or nothing. The operator and the API server take no network with host bits either. */}}
{{- define "llmbatch-operator.networkFault" -}}
{{- $bits := splitList "/" . | first | include "llmbatch-operator.bits" }}
{{- $length := splitList "/" . | last }}
{{- if or (empty $bits) (not (regexMatch "^(0|[1-9][0-9]{0,2})$" $length)) (gt (int $length) (len $bits)) }}
{{- printf "%s is no network; write it as 10.1.0.0/16 or 2001:db8::/32" . }}
{{- else if contains "1" (substr (int $length) -1 $bits) }}
{{- printf "%s is an address in a network; with /%s the bits behind the first %s must be 0" . $length $length }}
{{- end }}
{{- end }}

{{/*
The exceptions to a network: those that are a part of it, since the API server takes no others. Called with a list of
the network and all exceptions.
*/}}
{{- define "llmbatch-operator.except" -}}
{{- $bits := first . | splitList "/" | first | include "llmbatch-operator.bits" }}
{{- $length := first . | splitList "/" | last | int }}
{{- $of := list }}
{{- range last . }}
{{- $theirs := splitList "/" . | first | include "llmbatch-operator.bits" }}
{{- $longer := gt (splitList "/" . | last | int) $length }}
{{- if and $longer (eq (len $theirs) (len $bits)) (hasPrefix (substr 0 $length $bits) $theirs) }}
{{- $of = append $of . }}
{{- end }}
{{- end }}
{{- with $of -}}
except:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
