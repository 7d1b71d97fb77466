{{/* The chart's name, or what takes its place. 63 characters: a label's limit. */}}
{{- define "llmbatch-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The name of the release's objects: the release's name where that says enough. With the longest ending that an object's
name has it stays within 63 characters.
*/}}
{{- define "llmbatch-operator.fullname" -}}
{{- $name := include "llmbatch-operator.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 53 | trimSuffix "-" }}
{{- end }}

{{/*
What the name of an object ends with that lies in another namespace than the release, where a release of the same name
may have one too. No namespace has a dot. Called with a list of the root and the namespace.
*/}}
{{- define "llmbatch-operator.origin" -}}
{{- $from := (first .).Release.Namespace }}
{{- if ne (last .) $from }}.{{ $from }}{{ end }}
{{- end }}

{{- define "llmbatch-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llmbatch-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/*
Labels of an object: what an administrator adds never replaces our own.
Called with a list of the root and, where there are some, the object's further labels.
*/}}
{{- define "llmbatch-operator.labels" -}}
{{- $root := first . }}
{{- $own := dict
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/part-of" "llmbatch"
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $selector := include "llmbatch-operator.selectorLabels" $root | fromYaml }}
{{- $more := rest . | first | default dict }}
{{- merge $selector $own $more ($root.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/* Labels of the pods: those that change with every version would restart them for nothing. */}}
{{- define "llmbatch-operator.podLabels" -}}
{{- $selector := include "llmbatch-operator.selectorLabels" . | fromYaml }}
{{- merge $selector (.Values.podLabels | default dict) (.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{- define "llmbatch-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "llmbatch-operator.fullname" .) }}
{{- end }}

{{- define "llmbatch-operator.image" -}}
{{- with .Values.image -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/* Namespaces to work in, as a JSON list; none is all of them. */}}
{{- define "llmbatch-operator.namespaces" -}}
{{- if .Values.watchNamespaces }}
{{- concat .Values.watchNamespaces (.Values.sharedNamespaces | default list) | uniq | toJson }}
{{- else -}}
[]
{{- end }}
{{- end }}
