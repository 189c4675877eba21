{{/* The name of the operator's objects, and the address that gateways find it by: one operator a namespace. */}}
{{- define "weir.name" -}}
weir-operator
{{- end }}

{{- define "weir.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "weir.name" .) .Values.serviceAccount.name }}
{{- else }}{{ required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "weir.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The pod of `helm test`. */}}
{{- define "weir.testSelector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/component: test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* managed-by is Helm here: `weir` in that label marks what the operator makes. */}}
{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Variables of everything that connects to the outside. The cluster's own names never go through a proxy. */}}
{{- define "weir.environment" -}}
{{- $variables := dict }}
{{- with .Values.proxy.httpsProxy }}{{ $_ := set $variables "HTTPS_PROXY" . }}{{ end }}
{{- with .Values.proxy.httpProxy }}{{ $_ := set $variables "HTTP_PROXY" . }}{{ end }}
{{- if or .Values.proxy.httpsProxy .Values.proxy.httpProxy }}
{{- $inside := list "localhost" "127.0.0.1" ".svc" ".cluster.local" }}
{{- with .Values.proxy.noProxy }}{{ $inside = append $inside . }}{{ end }}
{{- $_ := set $variables "NO_PROXY" (join "," $inside) }}
{{- end }}
{{- mergeOverwrite $variables .Values.extraEnvironment | toYaml }}
{{- end }}

{{/* What every container of this chart may do: nothing but run. */}}
{{- define "weir.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "weir.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
