//! The operator as a process: flags and variables, start-up errors, health, metrics, the log, signals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind};
use kube::api::DeleteParams;
use serde_json::Value;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::{ControlPlane, repository, shared};
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::{self, Namespace};
use tests::objects;
use tests::operator::Operator;
use tests::process::Signal;
use tests::simulator::quick;
use tests::wait;

/// What the operator says when it doesn't start with these arguments and variables, and its exit code.
async fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(i32, String)> {
    let plane = shared().await?;
    let builder = Operator::builder(plane.kubeconfig(), "").bare().without_waiting().arguments(arguments);
    let builder = environment.iter().fold(builder, |builder, (key, value)| builder.environment(key, value));
    let operator = builder.start(plane.scratch()).await?;
    let code = operator.process().wait_exit(PATIENCE).await?;
    Ok((code, operator.log()))
}

/// Arguments, variables, and words that the operator must say.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str]);

#[tokio::test]
async fn what_cannot_work_is_said_at_once_and_all_together() -> Result<()> {
    let cases: [Case; 6] = [
        (&[], &[], &["--aws-region is empty: give the region"]),
        (
            &["--aws-region=us-west-2", "--aws-endpoint-url=http://localhost:1"],
            &[],
            &["--aws-endpoint-url", "add --allow-unsafe-aws-endpoint-urls to accept it"],
        ),
        (
            &["--aws-quotas=StartJobs=1:1"],
            &[("AWS_REGION", "us-west-2")],
            &["--aws-quotas unknown operation `StartJobs`: use one of all, CancelJobRun"],
        ),
        (
            &[],
            &[("AWS_REGION", "us-west-2"), ("ACK_WATCH_NAMESPACE", "a,,b")],
            &["--watch-namespace is `a,,b`, which has a blank entry"],
        ),
        (&["--aws-region=us-west-2", "--watch-namespace=a,a"], &[], &["names `a` twice"]),
        (
            &["--watch-namespace=A", "--deletion-policy=keep"],
            &[("RECONCILE_RESOURCES", "JobRun,Bucket")],
            &[
                "--aws-region is empty",
                "--watch-namespace has `A`",
                "--deletion-policy is `keep`",
                "--reconcile-resources names the kind `Bucket`",
            ],
        ),
    ];
    for (arguments, environment, expected) in cases {
        let (code, log) = refusal(arguments, environment).await?;
        ensure!(code == 2, "{arguments:?} {environment:?}: exit code {code}");
        for words in expected {
            ensure!(log.contains(words), "{arguments:?} {environment:?}: {words:?} is not in {log}");
        }
    }
    let (code, log) = refusal(&["--no-such-flag"], &[]).await?;
    ensure!(code == 2 && log.contains("--no-such-flag"), "{code}: {log}");
    let (code, log) = refusal(&["--aws-region=us-west-2"], &[("KUBECONFIG", "/nowhere/kubeconfig")]).await?;
    ensure!(code == 1 && log.contains("KUBECONFIG names /nowhere/kubeconfig"), "{code}: {log}");
    Ok(())
}

#[tokio::test]
async fn the_variables_of_upstreams_chart_stand_in_for_flags() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "proc-env").await?;
    let simulator = emr_simulator::start(quick()).await?;
    let operator = Operator::builder(plane.kubeconfig(), "")
        .bare()
        .arguments(&["--allow-unsafe-aws-endpoint-urls=true", "--enable-leader-election=false"])
        .environment("AWS_REGION", "eu-central-1")
        .environment("AWS_ENDPOINT_URL", simulator.url())
        .environment("AWS_IDENTITY_ENDPOINT_URL", simulator.url())
        .environment("ACK_WATCH_NAMESPACE", namespace.name())
        .environment("ACK_RESOURCE_TAGS", "owner=me,kind=%K8S_RESOURCE_KIND%")
        .environment("ACK_LOG_LEVEL", "debug")
        .environment("DELETION_POLICY", "retain")
        .environment("RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS", "3")
        .start(plane.scratch())
        .await?;
    objects::apply(&client, namespace.name(), &virtual_cluster("vc", namespace.name())).await?;
    let api = objects::ours(&client, namespace.name(), "VirtualCluster");
    let ready = |vc: Option<&kube::api::DynamicObject>| {
        vc.filter(|vc| objects::condition(vc, "Ready").is_some_and(|ready| ready.status == "True")).cloned()
    };
    wait::object(api.clone(), "vc", PATIENCE, "should be ready", ready).await?;
    let cluster = simulator.snapshot().virtual_clusters.pop().context("a cluster")?;
    ensure!(cluster.region == "eu-central-1", "{cluster:?}");
    let tags =
        [("owner", "me"), ("kind", "VirtualCluster")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    ensure!(cluster.tags == BTreeMap::from(tags), "{cluster:?}");
    ensure!(operator.log().contains("\"level\":\"debug\""), "the log should be finer");
    // Retained: the object goes, the cluster stays.
    api.delete("vc", &DeleteParams::default()).await?;
    wait::deleted(api, "vc", PATIENCE).await?;
    let cluster = simulator.snapshot().virtual_clusters.pop().context("a cluster")?;
    ensure!(cluster.state == "RUNNING", "{cluster:?}");
    Ok(())
}

#[tokio::test]
async fn two_watched_namespaces_are_served_and_a_third_is_left_alone() -> Result<()> {
    let client = shared().await?.client()?;
    let (a, b) = (Namespace::create(&client, "proc-a").await?, Namespace::create(&client, "proc-b").await?);
    let list = format!("{},{}", a.name(), b.name());
    let env = TestEnv::with("proc-c", quick(), |operator| operator.arguments(&["--watch-namespace", &list]))
        .await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    for namespace in [a.name(), b.name()] {
        objects::apply(&client, namespace, &virtual_cluster("vc", namespace)).await?;
        objects::apply(&client, namespace, &job_run("run", "vc", "")).await?;
    }
    for namespace in [a.name(), b.name()] {
        let completed = |run: &kube::api::DynamicObject| objects::status(run, "state") == Some("COMPLETED");
        env.until(objects::ours(&client, namespace, "JobRun"), "run", "should end", completed).await?;
    }
    let elsewhere = env.virtual_clusters().get("vc").await?;
    ensure!(
        elsewhere.metadata.finalizers.is_none() && elsewhere.data.get("status").is_none(),
        "{elsewhere:?}"
    );
    Ok(())
}

#[tokio::test]
async fn readyz_names_missing_definitions_and_then_all_namespaces_are_watched() -> Result<()> {
    // A control plane of its own: this operator watches everything, and there are no definitions at first.
    let plane = ControlPlane::start().await?;
    let simulator = emr_simulator::start(quick()).await?;
    let operator = Operator::builder(plane.kubeconfig(), simulator.url())
        .without_waiting()
        .start(plane.scratch())
        .await?;
    operator.wait_unready("install the CustomResourceDefinitions").await?;
    ensure!(operator.health("/healthz").await?.0 == 200, "a process that waits is alive");
    let client = plane.client()?;
    // As helm leaves it on an upgrade: without the definition of exports, which nothing else needs.
    for path in objects::yaml_files(&repository().join("manifests/crds"))? {
        if !path.display().to_string().contains("fieldexports") {
            objects::apply(&client, "", &std::fs::read_to_string(path)?).await?;
        }
    }
    operator.wait_ready(PATIENCE).await?;
    ensure!(operator.log().contains("no fieldexports.services.k8s.aws"), "the log should name it");
    for name in ["one", "two"] {
        namespace::ensure(&client, name).await?;
        objects::apply(&client, name, &virtual_cluster("vc", name)).await?;
    }
    for name in ["one", "two"] {
        let ready = |vc: Option<&kube::api::DynamicObject>| {
            objects::condition(vc?, "Ready").filter(|ready| ready.status == "True").map(drop)
        };
        wait::object(
            objects::ours(&client, name, "VirtualCluster"),
            "vc",
            PATIENCE,
            "should be ready",
            ready,
        )
        .await?;
    }
    plane.install_crds().await?;
    crate::field_export::exports_a_name(&client, "one", "vc").await?;
    ensure!(operator.terminate().await? == 0);
    Ok(())
}

#[tokio::test]
async fn readyz_names_a_missing_permission_and_a_failing_identity() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "proc-rbac").await?;
    let yaml = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: operator}}";
    objects::apply(&client, namespace.name(), yaml).await?;
    let kubeconfig = plane.kubeconfig_for_service_account(namespace.name(), "operator").await?;
    let simulator = emr_simulator::start(quick()).await?;
    simulator.add_fault(Fault::new("GetCallerIdentity", FaultKind::AccessDenied))?;
    let operator = Operator::builder(kubeconfig, simulator.url())
        .watch_namespace(namespace.name())
        .without_waiting()
        .start(plane.scratch())
        .await?;
    operator.wait_unready("is not allowed").await?;
    operator.wait_unready("grant get, list and watch").await?;
    operator.wait_unready("who we are: AccessDenied").await?;
    operator.wait_unready("check the credentials, the region and --aws-identity-endpoint-url").await?;
    let role = format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: operator}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}
subjects: [{{kind: ServiceAccount, name: operator, namespace: {}}}]
",
        namespace.name()
    );
    objects::apply(&client, namespace.name(), &role).await?;
    operator.wait_unready("[+]crds ok").await?;
    simulator.clear_faults();
    operator.wait_ready(PATIENCE).await?;
    ensure!(operator.health("/readyz").await?.1.lines().count() >= 4, "every part has its line");
    Ok(())
}

#[tokio::test]
async fn metrics_parse_are_documented_and_count_what_aws_counts() -> Result<()> {
    let env = TestEnv::new("proc-metrics").await?;
    let throttle = Fault { count: Some(1), ..Fault::new("StartJobRun", FaultKind::Throttle) };
    env.simulator().add_fault(throttle)?;
    env.ready_cluster("vc").await?;
    for name in ["a", "b"] {
        env.apply(&job_run(name, "vc", "")).await?;
    }
    for name in ["a", "b"] {
        env.job_run_in(name, "COMPLETED").await?;
    }
    // The poller's last look may still be under way when the status is seen.
    let metrics = wait::eventually(PATIENCE, "the counters should agree", async || {
        let metrics = env.operator().metrics().await?;
        for (operation, counter) in env.simulator().counters() {
            if operation == "GetCallerIdentity" {
                continue;
            }
            let ours = metrics.sum("ack_outbound_api_requests_total", &[("op_id", &operation)]);
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let theirs = counter.calls as f64;
            ensure!((ours - theirs).abs() < 0.5, "{operation}: {ours} and not {theirs}");
        }
        for controller in ["jobrun", "virtualcluster", "fieldexport"] {
            let bound =
                metrics.sum("controller_runtime_max_concurrent_reconciles", &[("controller", controller)]);
            ensure!(bound > 0.0, "no controller {controller}");
        }
        Ok(Some(metrics))
    })
    .await?;
    let is = |name: &str, labels: &[(&str, &str)], expected: f64| {
        let found = metrics.sum(name, labels);
        ensure!((found - expected).abs() < 0.1, "{name} {labels:?} is {found} and not {expected}");
        Ok(())
    };
    let start = [("service", "emrcontainers"), ("op_type", "CREATE"), ("op_id", "StartJobRun")];
    is("ack_outbound_api_requests_total", &start, 3.0)?;
    is("ack_outbound_api_requests_error_total", &[("op_id", "StartJobRun"), ("status_code", "400")], 1.0)?;
    is("emrcontainers_aws_throttled_total", &[("op", "StartJobRun")], 1.0)?;
    is("emrcontainers_job_run_submissions_total", &[], 2.0)?;
    is("emrcontainers_apply_to_start_seconds_count", &[], 2.0)?;
    is("emrcontainers_state_lag_seconds_count", &[], 2.0)?;
    is("emrcontainers_job_runs", &[("state", "COMPLETED")], 2.0)?;
    is("emrcontainers_job_runs", &[], 2.0)?;
    is("emrcontainers_poller_tracked_runs", &[], 0.0)?;
    is("emrcontainers_leader", &[], 1.0)?;
    let passes = metrics.sum("emrcontainers_reconcile_passes_total", &[("kind", "jobrun")]);
    is("controller_runtime_reconcile_total", &[("controller", "jobrun")], passes)?;
    is("controller_runtime_max_concurrent_reconciles", &[("controller", "jobrun")], 20.0)?;
    ensure!(passes > 3.0 && metrics.sum("workqueue_adds_total", &[("name", "jobrun")]) > 3.0);
    ensure!(metrics.sum("rest_client_requests_total", &[("method", "PATCH"), ("code", "200")]) > 2.0);
    ensure!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
    let reference = std::fs::read_to_string(tests::control_plane::repository().join("docs/reference.md"))?;
    for series in metrics.series().keys() {
        let name = series.split('{').next().unwrap_or(series);
        let name =
            ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        ensure!(reference.contains(&format!("`{name}`")), "{name} is not in the reference's table");
    }
    Ok(())
}

#[tokio::test]
async fn every_line_of_the_log_is_json_with_what_it_is_about() -> Result<()> {
    let env = TestEnv::new("proc-log").await?;
    env.simulator()
        .add_fault(Fault { count: Some(1), ..Fault::new("CreateVirtualCluster", FaultKind::AccessDenied) })?;
    env.ready_cluster("vc").await?;
    ensure!(env.operator().terminate().await? == 0);
    let log = env.operator().log();
    let mut of_object = 0;
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        for field in ["ts", "level", "logger", "msg"] {
            ensure!(entry.get(field).is_some_and(Value::is_string), "no {field} in {line}");
        }
        let of_pass = entry["kind"] == "virtualcluster" && entry["namespace"] == env.namespace();
        of_object += u32::from(of_pass && entry["name"] == "vc");
    }
    ensure!(of_object > 0, "a failed pass should be logged with its object's name: {log}");
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_an_idle_process_at_once_and_one_that_waits_for_aws_in_bounded_time() -> Result<()> {
    let env = TestEnv::new("proc-term").await?;
    let began = Instant::now();
    ensure!(env.operator().terminate().await? == 0);
    println!("SIGTERM while idle: {} ms", began.elapsed().as_millis());
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());

    env.simulator().add_fault(Fault::new("CreateVirtualCluster", FaultKind::Hang))?;
    let operator = env.builder().start(env.plane().scratch()).await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.in_aws("the call should hang", |aws| {
        aws.counters().get("CreateVirtualCluster").filter(|counter| counter.calls > 0).map(drop)
    })
    .await?;
    operator.process().signal(Signal::TERM)?;
    let began = Instant::now();
    operator.wait_unready("draining").await?;
    ensure!(operator.process().wait_exit(PATIENCE).await? == 0, "{}", operator.process().log_tail(10));
    println!("SIGTERM while AWS hangs: {} ms", began.elapsed().as_millis());
    ensure!(began.elapsed() < Duration::from_secs(10), "a kubelet kills after 10 s: {:?}", began.elapsed());

    // While STS hangs it has not even begun.
    env.simulator().add_fault(Fault::new("GetCallerIdentity", FaultKind::Hang))?;
    let operator = env.builder().without_waiting().start(env.plane().scratch()).await?;
    operator.wait_unready("the AWS identity has not been looked up yet").await?;
    ensure!(operator.terminate().await? == 0, "{}", operator.process().log_tail(10));
    Ok(())
}
