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
{{- else -}}
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns, virtualclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns/status, virtualclusters/status]
  verbs: [update]
# The objects of ACK's IAM controller that runs refer to as spec.executionRoleRef.
- apiGroups: [iam.services.k8s.aws]
  resources: [roles]
  verbs: [get]
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

{{- /* Feature gates that differ from upstream's defaults, as --feature-gates takes them. */ -}}
{{- define "operator.featureGates" -}}
{{- $default := dict "IAMRoleSelector" false "ReadOnlyResources" true "ResourceAdoption" true "ServiceLevelCARM" false "TeamLevelCARM" false -}}
{{- $gates := list -}}
{{- range $name, $on := .Values.featureGates -}}
{{- if or (not (hasKey $default $name)) (ne $on (get $default $name)) -}}
{{- $gates = append $gates (printf "%s=%t" $name $on) -}}
{{- end -}}
{{- end -}}
{{- join "," $gates -}}
{{- end -}}

{{- /* The command line, one flag a line. Flags without an effect are passed when they were changed only, so that the
operator's log speaks of them exactly then. */ -}}
{{- define "operator.args" -}}
{{- $v := .Values -}}
{{- with $v.aws.region }}
- {{ printf "--aws-region=%s" . }}
{{- end }}
{{- with $v.aws.endpoint_url }}
- {{ printf "--aws-endpoint-url=%s" . }}
{{- end }}
{{- with $v.aws.identity_endpoint_url }}
- {{ printf "--aws-identity-endpoint-url=%s" . }}
{{- end }}
{{- with $v.aws.event_queue_url }}
- {{ printf "--event-queue-url=%s" . }}
{{- end }}
{{- if $v.aws.allow_unsafe_aws_endpoint_urls }}
- --allow-unsafe-aws-endpoint-urls
{{- end }}
- {{ printf "--aws-quotas=%s" $v.aws.quotas }}
- {{ printf "--http-client-timeout=%s" $v.aws.http_client_timeout }}
- {{ printf "--metrics-addr=0.0.0.0:%d" (int $v.deployment.containerPort) }}
- {{ printf "--log-level=%s" $v.log.level }}
{{- if $v.log.enable_development_logging }}
- --enable-development-logging
{{- end }}
{{- if eq $v.installScope "namespace" }}
- {{ printf "--watch-namespace=%s" (include "operator.watchNamespace" .) }}
{{- end }}
{{- with $v.watchSelectors }}
- {{ printf "--watch-selectors=%s" . | quote }}
{{- end }}
- {{ printf "--resource-tags=%s" (join "," (without $v.resourceTags "")) | quote }}
- {{ printf "--deletion-policy=%s" $v.deletionPolicy }}
- {{ printf "--job-ready-policy=%s" $v.jobReadyPolicy }}
{{- if $v.readOnly }}
- --read-only
{{- end }}
{{- if gt (int $v.reconcile.defaultMaxConcurrentSyncs) 0 }}
- {{ printf "--reconcile-default-max-concurrent-syncs=%d" (int $v.reconcile.defaultMaxConcurrentSyncs) }}
{{- end }}
{{- range $kind, $count := $v.reconcile.resourceMaxConcurrentSyncs }}
- {{ printf "--reconcile-resource-max-concurrent-syncs=%s=%d" $kind (int $count) }}
{{- end }}
{{- if gt (int $v.reconcile.defaultResyncPeriod) 0 }}
- {{ printf "--reconcile-default-resync-seconds=%d" (int $v.reconcile.defaultResyncPeriod) }}
{{- end }}
{{- range $kind, $seconds := $v.reconcile.resourceResyncPeriods }}
- {{ printf "--reconcile-resource-resync-seconds=%s=%d" $kind (int $seconds) }}
{{- end }}
{{- with $v.reconcile.resources }}
- {{ printf "--reconcile-resources=%s" (join "," .) }}
{{- end }}
{{- if $v.leaderElection.enabled }}
- --enable-leader-election
- {{ printf "--leader-election-namespace=%s" (include "operator.leaseNamespace" .) }}
- {{ printf "--leader-election-lease-duration=%s" $v.leaderElection.leaseDuration }}
- {{ printf "--leader-election-renew-deadline=%s" $v.leaderElection.renewDeadline }}
- {{ printf "--leader-election-retry-period=%s" $v.leaderElection.retryPeriod }}
{{- else }}
- --enable-leader-election=false
{{- end }}
{{- if not $v.enableCARM }}
- --enable-carm=false
{{- end }}
{{- if not $v.enableCrossNamespace }}
- --enable-cross-namespace=false
{{- end }}
{{- if not $v.enableFieldExportReconciler }}
- --enable-field-export-reconciler=false
{{- end }}
{{- with include "operator.featureGates" . }}
- {{ printf "--feature-gates=%s" . }}
{{- end }}
{{- end -}}
