//! Upstream's own container with nothing but the image exchanged: its command, its arguments with the variables that the
//! kubelet fills in, and no more rights than its chart gives it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cluster::PATIENCE;
use tests::control_plane::{repository, shared};
use tests::kubelet::expand;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::operator::{Builder, Operator};
use tests::{objects, simulator, wait};

use crate::leader::LEASE;

/// What the container is always started with.
const ALWAYS: [&str; 20] = [
    "--aws-region",
    "$(AWS_REGION)",
    "--aws-endpoint-url",
    "$(AWS_ENDPOINT_URL)",
    "--log-level",
    "$(ACK_LOG_LEVEL)",
    "--resource-tags",
    "$(ACK_RESOURCE_TAGS)",
    "--watch-namespace",
    "$(ACK_WATCH_NAMESPACE)",
    "--watch-selectors",
    "$(ACK_WATCH_SELECTORS)",
    "--reconcile-resources",
    "$(RECONCILE_RESOURCES)",
    "--deletion-policy",
    "$(DELETION_POLICY)",
    "--feature-gates",
    "$(FEATURE_GATES)",
    "--enable-carm=true",
    "--enable-cross-namespace=true",
];

/// What its default values add.
const BY_DEFAULT: [&str; 4] = [
    "--reconcile-default-resync-seconds",
    "$(RECONCILE_DEFAULT_RESYNC_SECONDS)",
    "--reconcile-default-max-concurrent-syncs",
    "$(RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS)",
];

/// What the other values add.
const ON_REQUEST: [&str; 15] = [
    "--aws-identity-endpoint-url",
    "$(AWS_IDENTITY_ENDPOINT_URL)",
    "--allow-unsafe-aws-endpoint-urls",
    "--enable-development-logging",
    "--enable-leader-election",
    "--leader-election-namespace",
    "$(LEADER_ELECTION_NAMESPACE)",
    "--reconcile-resource-resync-seconds",
    "$(RECONCILE_RESOURCE_RESYNC_SECONDS_JOBRUN)",
    "--reconcile-resource-resync-seconds",
    "$(RECONCILE_RESOURCE_RESYNC_SECONDS_VIRTUALCLUSTER)",
    "--reconcile-resource-max-concurrent-syncs",
    "$(RECONCILE_RESOURCE_MAX_CONCURRENT_SYNCS_JOBRUN)",
    "--reconcile-resource-max-concurrent-syncs",
    "$(RECONCILE_RESOURCE_MAX_CONCURRENT_SYNCS_VIRTUALCLUSTER)",
];

/// The variables of the container with its default values, but for the one namespace that it watches.
fn environment(namespace: &str) -> BTreeMap<String, String> {
    let tags = "services.k8s.aws/controller-version=%CONTROLLER_SERVICE%-%CONTROLLER_VERSION%,\
                services.k8s.aws/namespace=%K8S_NAMESPACE%,app.kubernetes.io/managed-by=%MANAGED_BY%,\
                kro.run/kro-version=%KRO_VERSION%";
    let gates = "IAMRoleSelector=false,ReadOnlyResources=true,ResourceAdoption=true,ServiceLevelCARM=false,\
                 TeamLevelCARM=false";
    let variables = [
        ("ACK_SYSTEM_NAMESPACE", namespace),
        ("AWS_REGION", "us-west-2"),
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_IDENTITY_ENDPOINT_URL", ""),
        ("ACK_WATCH_NAMESPACE", namespace),
        ("ACK_WATCH_SELECTORS", ""),
        ("RECONCILE_RESOURCES", "JobRun,VirtualCluster"),
        ("DELETION_POLICY", "delete"),
        ("LEADER_ELECTION_NAMESPACE", ""),
        ("ACK_LOG_LEVEL", "info"),
        ("ACK_RESOURCE_TAGS", tags),
        ("RECONCILE_DEFAULT_RESYNC_SECONDS", "36000"),
        ("RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS", "1"),
        ("FEATURE_GATES", gates),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A service account of upstream's name with what its chart grants in a watched namespace, and `more`.
async fn grant(namespace: &str, more: &[Value]) -> Result<()> {
    let all = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let (ours, acks) = ("emrcontainers.services.k8s.aws", "services.k8s.aws");
    let write = ["get", "patch", "update"];
    let mut rules = vec![
        json!({"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list", "patch", "watch"]}),
        json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]}),
        json!({"apiGroups": [ours], "resources": ["jobruns", "virtualclusters"], "verbs": all}),
        json!({"apiGroups": [ours], "resources": ["jobruns/status", "virtualclusters/status"], "verbs": write}),
        json!({"apiGroups": ["iam.services.k8s.aws"], "resources": ["roles", "roles/status"], "verbs": ["get", "list"]}),
        json!({"apiGroups": [acks], "resources": ["fieldexports", "iamroleselectors"], "verbs": all}),
        json!({"apiGroups": [acks], "resources": ["fieldexports/status", "iamroleselectors/status"], "verbs": write}),
    ];
    rules.extend_from_slice(more);
    let account = json!({"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace});
    let rbac = "rbac.authorization.k8s.io/v1";
    let granted = json!([
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
        {"apiVersion": rbac, "kind": "Role", "metadata": {"name": "ack"}, "rules": rules},
        {
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "ack"}, "subjects": [account],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ack"},
        },
    ]);
    let client = shared().await?.client()?;
    for object in granted.as_array().context("a list")? {
        objects::apply(&client, namespace, &object.to_string()).await?;
    }
    Ok(())
}

const ACCOUNT: &str = "ack-emrcontainers-controller";

/// The container's process, before it is started.
async fn container(namespace: &str, aws_url: &str, variables: &BTreeMap<String, String>) -> Result<Builder> {
    let kubeconfig = shared().await?.kubeconfig_for_service_account(namespace, ACCOUNT).await?;
    let builder = Operator::builder(kubeconfig, aws_url);
    Ok(variables.iter().fold(builder, |builder, (name, value)| builder.environment(name, value)))
}

async fn completes(namespace: &str, operator: &Operator) -> Result<()> {
    let client = shared().await?.client()?;
    objects::apply(&client, namespace, &virtual_cluster("vc", namespace)).await?;
    objects::apply(&client, namespace, &job_run("run", "vc", "")).await?;
    let runs = objects::ours(&client, namespace, "JobRun");
    let is_completed = |run: Option<&kube::api::DynamicObject>| {
        (objects::status(run?, "state") == Some("COMPLETED")).then_some(())
    };
    let completed = wait::object(runs, "run", PATIENCE, "should be COMPLETED", is_completed).await;
    completed.with_context(|| format!("the log ends with\n{}", operator.process().log_tail(30)))
}

#[tokio::test]
async fn upstreams_container_works_as_it_is_with_its_default_values_and_rights() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let namespace = Namespace::create(&plane.client()?, "drop-in").await?;
    grant(namespace.name(), &[]).await?;
    let aws = emr_simulator::start(simulator::quick()).await?;
    let variables = environment(namespace.name());
    let arguments = ALWAYS.iter().chain(&BY_DEFAULT).map(|argument| expand(argument, &variables)).collect();
    let container = container(namespace.name(), aws.url(), &variables).await?;
    let operator = container.deployed(arguments).start(plane.scratch()).await?;
    completes(namespace.name(), &operator).await?;
    // Its chart grants nothing for an election that its values don't ask for.
    let warning = "no leader is elected, because the account may not use the lease";
    ensure!(operator.log().contains(warning), "{}", operator.log());
    let metrics = operator.metrics().await?;
    let passes = metrics.sum("controller_runtime_max_concurrent_reconciles", &[("controller", "jobrun")]);
    ensure!((passes - 1.0).abs() < 0.1, "{passes}");
    let job = aws.snapshot().job_runs.into_iter().next().context("a job")?;
    ensure!(job.tags.get("services.k8s.aws/namespace").is_some_and(|tag| tag == namespace.name()), "{job:?}");

    // Once the account may use the lease, nobody works without it any more.
    let leases = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]});
    grant(namespace.name(), &[leases]).await?;
    let code = operator.process().wait_exit(PATIENCE).await?;
    let log = operator.log();
    ensure!(
        code == 1 && log.contains("this process must exit, so that a leader is elected"),
        "{code}: {log}"
    );
    Ok(())
}

#[tokio::test]
async fn upstreams_container_works_as_it_is_with_every_value_set() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let namespace = Namespace::create(&plane.client()?, "drop-in-all").await?;
    let lease = json!({
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    });
    grant(namespace.name(), &[lease]).await?;
    let aws = emr_simulator::start(simulator::quick()).await?;
    let mut variables = environment(namespace.name());
    let more = [
        ("AWS_ENDPOINT_URL", aws.url().to_owned()),
        ("AWS_IDENTITY_ENDPOINT_URL", aws.url().to_owned()),
        ("LEADER_ELECTION_NAMESPACE", namespace.name().to_owned()),
        ("RECONCILE_RESOURCE_RESYNC_SECONDS_JOBRUN", "JobRun=60".to_owned()),
        ("RECONCILE_RESOURCE_RESYNC_SECONDS_VIRTUALCLUSTER", "VirtualCluster=300".to_owned()),
        ("RECONCILE_RESOURCE_MAX_CONCURRENT_SYNCS_JOBRUN", "JobRun=5".to_owned()),
        ("RECONCILE_RESOURCE_MAX_CONCURRENT_SYNCS_VIRTUALCLUSTER", "VirtualCluster=2".to_owned()),
    ];
    variables.extend(more.map(|(name, value)| (name.to_owned(), value)));
    let arguments: Vec<String> = ALWAYS
        .iter()
        .chain(&BY_DEFAULT)
        .chain(&ON_REQUEST)
        .map(|argument| expand(argument, &variables))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let container = container(namespace.name(), "", &variables).await?;
    let operator = container.bare().arguments(&arguments).start(plane.scratch()).await?;
    completes(namespace.name(), &operator).await?;
    let metrics = operator.metrics().await?;
    for (controller, expected) in [("jobrun", 5.0), ("virtualcluster", 2.0)] {
        let passes =
            metrics.sum("controller_runtime_max_concurrent_reconciles", &[("controller", controller)]);
        ensure!((passes - expected).abs() < 0.1, "{controller}: {passes}");
    }
    ensure!(metrics.sum("leader_election_master_status", &[("name", LEASE)]) > 0.5);
    let log = operator.log();
    ensure!(log.contains("the lease is ours") && !log.contains("\"msg\""), "readable text: {log}");
    ensure!(operator.terminate().await? == 0);
    Ok(())
}

#[test]
fn the_image_has_the_path_that_upstreams_container_starts() -> Result<()> {
    let image = std::fs::read_to_string(repository().join("Dockerfile"))?;
    let (_, last_stage) = image.rsplit_once("\nFROM ").context("stages")?;
    // `./bin/controller`, from the image's working directory.
    ensure!(
        last_stage.contains("\nWORKDIR /\n") && last_stage.contains("COPY --from=build /out/ /\n"),
        "{last_stage}"
    );
    ensure!(image.contains("ln -s /emrcontainers-operator /out/bin/controller"), "{image}");
    Ok(())
}
