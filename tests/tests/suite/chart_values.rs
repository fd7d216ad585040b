//! Every value of upstream's chart is taken under its name, and does what it does there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::chart::{self, helm};
use tests::control_plane::{ControlPlane, shared};
use tests::{kubelet, objects};

/// Where a value shows: in an object of this kind at this place, or as an argument of the operator.
enum Shows {
    At(&'static str, &'static str, Value),
    Argument(&'static str),
}

use Shows::{Argument, At};

/// The place of the pod's specification.
macro_rules! pod {
    ($rest:literal) => {
        concat!("/spec/template/spec", $rest)
    };
}

/// The place of the pod's only container.
macro_rules! container {
    ($rest:literal) => {
        concat!("/spec/template/spec/containers/0", $rest)
    };
}

fn values_of_the_pod() -> Vec<(&'static str, Value, Vec<Shows>)> {
    let volume = json!({"name": "ca", "configMap": {"name": "ca"}});
    let mount = json!({"name": "ca", "mountPath": "/ca", "readOnly": true});
    let toleration = json!({"key": "dedicated", "operator": "Exists"});
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
    let resources = json!({"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}});
    let image = container!("/image");
    vec![
        ("image", json!({"repository": "r/o", "tag": "9"}), vec![At("Deployment", image, json!("r/o:9"))]),
        (
            "image.pullPolicy",
            json!("Always"),
            vec![At("Deployment", container!("/imagePullPolicy"), json!("Always"))],
        ),
        (
            "image.pullSecrets",
            json!(["s"]),
            vec![At("Deployment", pod!("/imagePullSecrets"), json!([{"name": "s"}]))],
        ),
        (
            "deployment.annotations",
            json!({"a": 1}),
            vec![At("Deployment", "/spec/template/metadata/annotations/a", json!("1"))],
        ),
        (
            "deployment.labels",
            json!({"a": true}),
            vec![
                At("Deployment", "/metadata/labels/a", json!("true")),
                At("Deployment", "/spec/template/metadata/labels/a", json!("true")),
            ],
        ),
        (
            "deployment.containerPort",
            json!(9090),
            vec![
                At("Deployment", container!("/ports/0/containerPort"), json!(9090)),
                Argument("--metrics-addr=0.0.0.0:9090"),
            ],
        ),
        ("deployment.replicas", json!(3), vec![At("Deployment", "/spec/replicas", json!(3))]),
        (
            "deployment.nodeSelector",
            json!({"a": "b"}),
            vec![At("Deployment", pod!("/nodeSelector/a"), json!("b"))],
        ),
        (
            "deployment.tolerations",
            json!([toleration]),
            vec![At("Deployment", pod!("/tolerations/0"), toleration)],
        ),
        ("deployment.affinity", affinity.clone(), vec![At("Deployment", pod!("/affinity"), affinity)]),
        (
            "deployment.priorityClassName",
            json!("p"),
            vec![At("Deployment", pod!("/priorityClassName"), json!("p"))],
        ),
        ("deployment.hostNetwork", json!(true), vec![At("Deployment", pod!("/hostNetwork"), json!(true))]),
        (
            "deployment.dnsPolicy",
            json!("Default"),
            vec![At("Deployment", pod!("/dnsPolicy"), json!("Default"))],
        ),
        (
            "deployment.strategy",
            json!({"type": "Recreate"}),
            vec![At("Deployment", "/spec/strategy/type", json!("Recreate"))],
        ),
        ("deployment.extraVolumes", json!([volume]), vec![At("Deployment", pod!("/volumes/0"), volume)]),
        (
            "deployment.extraVolumeMounts",
            json!([mount]),
            vec![At("Deployment", container!("/volumeMounts/0"), mount)],
        ),
        ("resources", resources.clone(), vec![At("Deployment", container!("/resources"), resources)]),
    ]
}

fn values_of_the_installation() -> Vec<(&'static str, Value, Vec<Shows>)> {
    vec![
        (
            "nameOverride",
            json!("emrcontainers-chart"),
            vec![
                At("Deployment", "/metadata/name", json!("release-emrcontainers-chart")),
                At("Deployment", "/spec/template/metadata/labels/k8s-app", json!("emrcontainers-chart")),
                At(
                    "Deployment",
                    "/spec/selector/matchLabels/app.kubernetes.io~1name",
                    json!("emrcontainers-chart"),
                ),
            ],
        ),
        ("fullnameOverride", json!("emr"), vec![At("Deployment", "/metadata/name", json!("emr"))]),
        ("role.labels", json!({"a": "b"}), vec![At("ClusterRole", "/metadata/labels/a", json!("b"))]),
        (
            "metrics.service",
            json!({"create": true, "type": "NodePort"}),
            vec![
                At("Service", "/metadata/name", json!("emrcontainers-controller-metrics")),
                At("Service", "/spec/type", json!("NodePort")),
                At(
                    "Service",
                    "/spec/ports/0",
                    json!({"name": "metricsport", "port": 8080, "protocol": "TCP", "targetPort": "http"}),
                ),
            ],
        ),
        (
            "serviceAccount",
            json!({"create": true, "name": "named", "annotations": {"a": "b"}}),
            vec![
                At("ServiceAccount", "/metadata/name", json!("named")),
                At("ServiceAccount", "/metadata/annotations/a", json!("b")),
                At("Deployment", pod!("/serviceAccountName"), json!("named")),
            ],
        ),
        (
            "installScope",
            json!("namespace"),
            vec![Argument("--watch-namespace=home"), At("Role", "/metadata/namespace", json!("home"))],
        ),
        ("watchSelectors", json!("a=b,c!=d"), vec![Argument("--watch-selectors=a=b,c!=d")]),
        (
            "leaderElection",
            json!({"enabled": true, "namespace": "l"}),
            vec![Argument("--enable-leader-election"), Argument("--leader-election-namespace=l")],
        ),
        ("leaderElection.enabled", json!(false), vec![Argument("--enable-leader-election=false")]),
    ]
}

fn values_of_the_operator() -> Vec<(&'static str, Value, Vec<Shows>)> {
    let secret = json!({"secretName": "s", "secretKey": "k", "profile": "p"});
    vec![
        ("aws.region", json!("eu-west-1"), vec![Argument("--aws-region=eu-west-1")]),
        ("aws.endpoint_url", json!("https://e"), vec![Argument("--aws-endpoint-url=https://e")]),
        (
            "aws.identity_endpoint_url",
            json!("https://i"),
            vec![Argument("--aws-identity-endpoint-url=https://i")],
        ),
        (
            "aws.allow_unsafe_aws_endpoint_urls",
            json!(true),
            vec![Argument("--allow-unsafe-aws-endpoint-urls")],
        ),
        ("aws.credentials", secret, vec![At("Deployment", pod!("/volumes/0/secret/secretName"), json!("s"))]),
        (
            "log",
            json!({"enable_development_logging": true, "level": "debug"}),
            vec![Argument("--enable-development-logging"), Argument("--log-level=debug")],
        ),
        (
            "resourceTags",
            json!(["a=b", "c=%K8S_NAMESPACE%"]),
            vec![Argument("--resource-tags=a=b,c=%K8S_NAMESPACE%")],
        ),
        ("resourceTags", json!([""]), vec![Argument("--resource-tags=")]),
        ("deletionPolicy", json!("retain"), vec![Argument("--deletion-policy=retain")]),
        (
            "reconcile.defaultResyncPeriod",
            json!(36000),
            vec![Argument("--reconcile-default-resync-seconds=36000")],
        ),
        (
            "reconcile.resourceResyncPeriods",
            json!({"VirtualCluster": 60}),
            vec![Argument("--reconcile-resource-resync-seconds=VirtualCluster=60")],
        ),
        (
            "reconcile.defaultMaxConcurrentSyncs",
            json!(7),
            vec![Argument("--reconcile-default-max-concurrent-syncs=7")],
        ),
        (
            "reconcile.resourceMaxConcurrentSyncs",
            json!({"JobRun": 9}),
            vec![Argument("--reconcile-resource-max-concurrent-syncs=JobRun=9")],
        ),
        ("reconcile.resources", json!(["JobRun"]), vec![Argument("--reconcile-resources=JobRun")]),
        ("enableCARM", json!(false), vec![Argument("--enable-carm=false")]),
        ("enableCrossNamespace", json!(false), vec![Argument("--enable-cross-namespace=false")]),
        (
            "featureGates",
            json!({"IAMRoleSelector": true}),
            vec![Argument("--feature-gates=IAMRoleSelector=true")],
        ),
    ]
}

/// The chart's manifests with some values, in the namespace `home`.
pub(crate) async fn render(plane: &ControlPlane, values: &[&str]) -> Result<Vec<Value>> {
    let chart = chart::folder().display().to_string();
    let command = [&["template", "release", &chart, "--namespace", "home"], values].concat();
    let objects = objects::parse(&helm(plane, &command).await?)?;
    objects.iter().map(|object| Ok(serde_json::to_value(object)?)).collect()
}

fn shows(objects: &[Value], expected: &Shows) -> bool {
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    match expected {
        At(kind, place, value) => of_kind(kind).any(|object| object.pointer(place) == Some(value)),
        Argument(argument) => {
            process(objects).is_ok_and(|(_, given)| given.iter().any(|given| given == argument))
        }
    }
}

/// The variables and arguments that the kubelet starts the operator with.
pub(crate) fn process(objects: &[Value]) -> Result<(BTreeMap<String, String>, Vec<String>)> {
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
    let container = deployment.pointer(container!("")).context("a container")?;
    kubelet::process(container, |path| Some(format!("the pod's {path}")))
}

#[tokio::test]
async fn every_value_of_upstreams_chart_has_its_effect() -> Result<()> {
    let plane = shared().await?;
    let defaults = render(plane, &[]).await?;
    let values = [values_of_the_pod(), values_of_the_installation(), values_of_the_operator()];
    for (name, value, expected) in values.into_iter().flatten() {
        let objects = render(plane, &["--set-json", &format!("{name}={value}")]).await?;
        for expected in &expected {
            ensure!(shows(&objects, expected), "{name}={value} doesn't show in {objects:#?}");
        }
        // What shows without the value proves nothing.
        ensure!(!expected.iter().all(|expected| shows(&defaults, expected)), "{name}={value} is the default");
    }
    Ok(())
}

#[tokio::test]
async fn the_pod_gets_the_variables_of_its_credentials_and_those_that_are_asked_for() -> Result<()> {
    let plane = shared().await?;
    let extra = r#"deployment.extraEnvVars=[{"name":"HTTPS_PROXY","value":"http://proxy"}]"#;
    let secret = r#"aws.credentials={"secretName":"s","secretKey":"k","profile":"p"}"#;
    let objects = render(plane, &["--set-json", extra, "--set-json", secret]).await?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
    let variables = deployment.pointer(container!("/env")).and_then(Value::as_array).context("variables")?;
    for (name, value) in [
        ("HTTPS_PROXY", "http://proxy"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/var/run/secrets/aws/k"),
        ("AWS_PROFILE", "p"),
    ] {
        ensure!(variables.contains(&json!({"name": name, "value": value})), "no {name} in {variables:?}");
    }
    let mounts = deployment.pointer(container!("/volumeMounts")).context("mounts")?;
    ensure!(mounts[0]["mountPath"] == "/var/run/secrets/aws", "{mounts}");
    Ok(())
}

/// The values file of upstream's chart, but for the image.
pub(crate) fn upstreams_defaults() -> Value {
    json!({
        "image": {"repository": "ours", "tag": "1.4.1", "pullPolicy": "IfNotPresent", "pullSecrets": []},
        "nameOverride": "", "fullnameOverride": "",
        "deployment": {
            "annotations": {}, "labels": {}, "containerPort": 8080, "replicas": 1,
            "nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [], "affinity": {}, "priorityClassName": "",
            "hostNetwork": false, "dnsPolicy": "ClusterFirst", "strategy": {}, "extraVolumes": [],
            "extraVolumeMounts": [], "extraEnvVars": [],
        },
        "role": {"labels": {}}, "metrics": {"service": {"create": false, "type": "ClusterIP"}},
        "resources": {"requests": {"memory": "64Mi", "cpu": "50m"}, "limits": {"memory": "128Mi", "cpu": "100m"}},
        "aws": {
            "region": "", "endpoint_url": "", "identity_endpoint_url": "", "allow_unsafe_aws_endpoint_urls": false,
            "credentials": {"secretName": "", "secretKey": "credentials", "profile": "default"},
        },
        "log": {"enable_development_logging": false, "level": "info"},
        "installScope": "cluster", "watchNamespace": "", "watchSelectors": "",
        "resourceTags": [
            "services.k8s.aws/controller-version=%CONTROLLER_SERVICE%-%CONTROLLER_VERSION%",
            "services.k8s.aws/namespace=%K8S_NAMESPACE%", "app.kubernetes.io/managed-by=%MANAGED_BY%",
            "kro.run/kro-version=%KRO_VERSION%",
        ],
        "deletionPolicy": "delete",
        "reconcile": {
            "defaultResyncPeriod": 36000, "resourceResyncPeriods": {}, "defaultMaxConcurrentSyncs": 1,
            "resourceMaxConcurrentSyncs": {}, "resources": ["JobRun", "VirtualCluster"],
        },
        "serviceAccount": {"create": true, "name": "ack-emrcontainers-controller", "annotations": {}},
        "leaderElection": {"enabled": false, "namespace": ""}, "enableCARM": true, "enableCrossNamespace": true,
        "featureGates": {
            "ServiceLevelCARM": false, "TeamLevelCARM": false, "ReadOnlyResources": true, "ResourceAdoption": true,
            "IAMRoleSelector": false,
        },
    })
}

#[tokio::test]
async fn the_default_values_of_upstreams_chart_are_taken_as_they_are() -> Result<()> {
    let values = upstreams_defaults();
    let plane = shared().await?;
    let path = plane.scratch().join("upstreams-values.json");
    std::fs::write(&path, values.to_string())?;
    let theirs = render(plane, &["--values", &path.display().to_string()]).await?;
    // Where our defaults differ, theirs are what holds.
    for argument in [
        "--reconcile-default-max-concurrent-syncs=1",
        "--reconcile-default-resync-seconds=36000",
        "--enable-leader-election=false",
    ] {
        ensure!(shows(&theirs, &Argument(argument)), "{argument} is missing: {theirs:#?}");
    }
    // And where a value says nothing, so does the argument.
    let none = r#"reconcile={"defaultMaxConcurrentSyncs":0,"defaultResyncPeriod":0,"resources":[]}"#;
    let (_, arguments) = process(&render(plane, &["--set-json", none]).await?)?;
    let about: Vec<_> = arguments.iter().filter(|argument| argument.starts_with("--reconcile-")).collect();
    ensure!(about == ["--reconcile-resources="], "{about:?}");
    Ok(())
}
