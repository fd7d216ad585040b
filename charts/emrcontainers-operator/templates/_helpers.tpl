{{- define "operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Short enough that a suffix such as -leaderelection still makes a valid name. */ -}}
{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains (include "operator.name" .) .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "operator.name" .) | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
k8s-app: {{ include "operator.name" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "operator.roleLabels" -}}
{{ include "operator.labels" . }}
{{- include "operator.strings" .Values.role.labels }}
{{- end -}}

{{- /* Labels or annotations, a line each after a line break; numbers and booleans become the strings that they have to be. */ -}}
{{- define "operator.strings" -}}
{{- range $key, $value := . }}
{{ $key }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{- /* The watched namespaces of installScope namespace, separated by commas. */ -}}
{{- define "operator.watchNamespace" -}}
{{- .Values.watchNamespace | default .Release.Namespace -}}
{{- end -}}

{{- define "operator.leaseNamespace" -}}
{{- .Values.leaderElection.namespace | default .Release.Namespace -}}
{{- end -}}

{{- /* What the operator may do with the objects that it runs, and no more: it patches finalizers and annotations, and
replaces the status. */ -}}
{{- define "operator.rules" -}}
{{- if .Values.readOnly }}
{{- include "operator.readerRules" . }}
{{ include "operator.roleRule" . }}
{{- else -}}
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns, virtualclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns/status, virtualclusters/status]
  verbs: [update]
{{ include "operator.roleRule" . }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.enableFieldExportReconciler }}
- apiGroups: [services.k8s.aws]
  resources: [fieldexports]
  verbs: [get, list, watch, patch]
- apiGroups: [services.k8s.aws]
  resources: [fieldexports/status]
  verbs: [update]
# What a FieldExport names, one by one: never listed, watched or made.
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [get, patch]
{{- end }}
{{- end -}}
{{- end -}}

{{- define "operator.roleRule" -}}
# The objects of ACK's IAM controller that runs refer to as spec.executionRoleRef.
- apiGroups: [iam.services.k8s.aws]
  resources: [roles]
  verbs: [get]
{{- end -}}

{{- define "operator.readerRules" -}}
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns, virtualclusters]
  verbs: [get, list, watch]
{{- end -}}

{{- /* Users write objects, never their status: that is the operator's word on what happened in AWS. */ -}}
{{- define "operator.writerRules" -}}
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns, virtualclusters]
  verbs: [create, delete, deletecollection, get, list, patch, update, watch]
{{- end -}}
