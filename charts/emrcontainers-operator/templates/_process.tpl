{{- /* The operator's process: its variables and its command line. The kubelet fills in $(VARIABLES), so that
deployment.extraEnvVars can replace a value or refer to one, as with upstream's chart. */ -}}

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

{{- /* A variable with its value. */ -}}
{{- define "operator.variable" -}}
- {name: {{ index . 0 }}, value: {{ index . 1 | toString | quote }}}
{{ end -}}

{{- /* A variable from the pod. */ -}}
{{- define "operator.fieldVariable" -}}
- {name: {{ index . 0 }}, valueFrom: {fieldRef: {fieldPath: {{ index . 1 }}}}}
{{ end -}}

{{- /* The variables by upstream's names and in its order, between ours. AWS_REGION and AWS_ENDPOINT_URL are there only when
they have a value: EKS injects the one, and AWS's libraries read both. */ -}}
{{- define "operator.variables" -}}
{{- $v := .Values -}}
{{- $watched := ternary (include "operator.watchNamespace" .) "" (eq $v.installScope "namespace") -}}
{{- include "operator.fieldVariable" (list "POD_NAME" "metadata.name") }}
{{- include "operator.fieldVariable" (list "POD_UID" "metadata.uid") }}
{{- include "operator.fieldVariable" (list "POD_NAMESPACE" "metadata.namespace") }}
{{- include "operator.fieldVariable" (list "K8S_NAMESPACE" "metadata.namespace") }}
{{- include "operator.fieldVariable" (list "ACK_SYSTEM_NAMESPACE" "metadata.namespace") }}
{{- with $v.aws.region }}{{ include "operator.variable" (list "AWS_REGION" .) }}{{ end }}
{{- with $v.aws.endpoint_url }}{{ include "operator.variable" (list "AWS_ENDPOINT_URL" .) }}{{ end }}
{{- include "operator.variable" (list "AWS_IDENTITY_ENDPOINT_URL" ($v.aws.identity_endpoint_url | default "")) }}
{{- include "operator.variable" (list "ACK_WATCH_NAMESPACE" $watched) }}
{{- include "operator.variable" (list "ACK_WATCH_SELECTORS" ($v.watchSelectors | default "")) }}
{{- include "operator.variable" (list "RECONCILE_RESOURCES" (join "," $v.reconcile.resources)) }}
{{- include "operator.variable" (list "DELETION_POLICY" $v.deletionPolicy) }}
{{- include "operator.variable" (list "LEADER_ELECTION_NAMESPACE" (include "operator.leaseNamespace" .)) }}
{{- include "operator.variable" (list "ACK_LOG_LEVEL" $v.log.level) }}
{{- include "operator.variable" (list "ACK_RESOURCE_TAGS" (join "," (without $v.resourceTags ""))) }}
{{- with int $v.reconcile.defaultResyncPeriod }}
{{- include "operator.variable" (list "RECONCILE_DEFAULT_RESYNC_SECONDS" .) }}
{{- end }}
{{- range $kind, $seconds := $v.reconcile.resourceResyncPeriods }}
{{- $name := printf "RECONCILE_RESOURCE_RESYNC_SECONDS_%s" (upper $kind) }}
{{- include "operator.variable" (list $name (printf "%s=%d" $kind (int $seconds))) }}
{{- end }}
{{- with int $v.reconcile.defaultMaxConcurrentSyncs }}
{{- include "operator.variable" (list "RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS" .) }}
{{- end }}
{{- range $kind, $count := $v.reconcile.resourceMaxConcurrentSyncs }}
{{- $name := printf "RECONCILE_RESOURCE_MAX_CONCURRENT_SYNCS_%s" (upper $kind) }}
{{- include "operator.variable" (list $name (printf "%s=%d" $kind (int $count))) }}
{{- end }}
{{- include "operator.variable" (list "FEATURE_GATES" (include "operator.featureGates" .)) }}
{{- include "operator.variable" (list "AWS_QUOTAS" $v.aws.quotas) }}
{{- include "operator.variable" (list "EVENT_QUEUE_URL" ($v.aws.event_queue_url | default "")) }}
{{- if $v.aws.credentials.secretName }}
{{- $path := printf "/var/run/secrets/aws/%s" $v.aws.credentials.secretKey }}
{{- include "operator.variable" (list "AWS_SHARED_CREDENTIALS_FILE" $path) }}
{{- include "operator.variable" (list "AWS_PROFILE" ($v.aws.credentials.profile | default "")) }}
{{- end }}
{{- end -}}

{{- /* The variables and those that are asked for, the last of a name counting. One that is replaced is left out, since a
server-side apply refuses two of a name, but where another refers to it. */ -}}
{{- define "operator.env" -}}
{{- $extra := .Values.deployment.extraEnvVars | default list -}}
{{- $variables := list -}}
{{- range $variable := include "operator.variables" . | fromYamlArray -}}
{{- $reference := printf "$(%s)" $variable.name -}}
{{- $replaced := false -}}
{{- $referred := false -}}
{{- range $extra -}}
{{- $replaced = or $replaced (eq .name $variable.name) -}}
{{- $referred = or $referred (contains $reference (.value | default "" | toString)) -}}
{{- end -}}
{{- if or (not $replaced) $referred -}}
{{- $variables = append $variables $variable -}}
{{- end -}}
{{- end -}}
{{- concat $variables $extra | toYaml -}}
{{- end -}}

{{- /* The command line, one flag a line. A flag with a variable takes its value from there. */ -}}
{{- define "operator.args" -}}
{{- $v := .Values -}}
{{- if $v.aws.region }}
- --aws-region=$(AWS_REGION)
{{- end }}
{{- if $v.aws.endpoint_url }}
- --aws-endpoint-url=$(AWS_ENDPOINT_URL)
{{- end }}
- --aws-identity-endpoint-url=$(AWS_IDENTITY_ENDPOINT_URL)
- --event-queue-url=$(EVENT_QUEUE_URL)
{{- if $v.aws.allow_unsafe_aws_endpoint_urls }}
- --allow-unsafe-aws-endpoint-urls
{{- end }}
- --aws-quotas=$(AWS_QUOTAS)
- {{ printf "--http-client-timeout=%s" $v.aws.http_client_timeout }}
- {{ printf "--metrics-addr=0.0.0.0:%d" (int $v.deployment.containerPort) }}
- --log-level=$(ACK_LOG_LEVEL)
{{- if $v.log.enable_development_logging }}
- --enable-development-logging
{{- end }}
- --watch-namespace=$(ACK_WATCH_NAMESPACE)
- --watch-selectors=$(ACK_WATCH_SELECTORS)
- --resource-tags=$(ACK_RESOURCE_TAGS)
- --deletion-policy=$(DELETION_POLICY)
- {{ printf "--job-ready-policy=%s" $v.jobReadyPolicy }}
{{- if $v.readOnly }}
- --read-only
{{- end }}
{{- if gt (int $v.reconcile.defaultMaxConcurrentSyncs) 0 }}
- --reconcile-default-max-concurrent-syncs=$(RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS)
{{- end }}
{{- range $kind, $count := $v.reconcile.resourceMaxConcurrentSyncs }}
- {{ printf "--reconcile-resource-max-concurrent-syncs=$(RECONCILE_RESOURCE_MAX_CONCURRENT_SYNCS_%s)" (upper $kind) }}
{{- end }}
{{- if gt (int $v.reconcile.defaultResyncPeriod) 0 }}
- --reconcile-default-resync-seconds=$(RECONCILE_DEFAULT_RESYNC_SECONDS)
{{- end }}
{{- range $kind, $seconds := $v.reconcile.resourceResyncPeriods }}
- {{ printf "--reconcile-resource-resync-seconds=$(RECONCILE_RESOURCE_RESYNC_SECONDS_%s)" (upper $kind) }}
{{- end }}
- --reconcile-resources=$(RECONCILE_RESOURCES)
{{- if $v.leaderElection.enabled }}
- --enable-leader-election
- --leader-election-namespace=$(LEADER_ELECTION_NAMESPACE)
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
- --feature-gates=$(FEATURE_GATES)
{{- end -}}
