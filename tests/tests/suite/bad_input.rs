//! Objects that are older than the schema: what the API server would refuse today is refused by the operator, so that
//! no workflow waits for ever.
//!
//! They live on a control plane of their own, whose definitions check nothing.

pub(crate) mod world;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use emr_simulator::{Refusal, Rule};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::ControlPlane;
use tests::manifest::job_run;
use tests::objects::{condition, status};
use tests::simulator::{all_calls, calls, quick};
use tests::wait;
use tokio::sync::OnceCell;

use world::{RETRY, apply, environment, is_refused, right, spoilt, stays_as_it_is, with_old_definitions};

/// A name, what is spoilt, and the words of the refusal: the field and the remedy.
type Case = (&'static str, Value, Vec<&'static str>);

fn unsendable() -> Vec<Case> {
    let upper = json!({"virtualClusterRef": null, "virtualClusterID": "ABC"});
    let submit = json!({"entryPoint": "s3://bucket/job.py"});
    vec![
        (
            "text",
            json!({"configurationOverrides": "{"}),
            vec!["spec.configurationOverrides", "neither YAML nor JSON"],
        ),
        (
            "list",
            json!({"configurationOverrides": "- a"}),
            vec!["spec.configurationOverrides", "has to be an object"],
        ),
        (
            "key",
            json!({"configurationOverrides": "MonitoringConfiguration: {S3MonitoringConfiguration: {LogUrl: x}}"}),
            vec![
                "spec.configurationOverrides.monitoringConfiguration.s3MonitoringConfiguration.LogUrl",
                "known are encryptionKeyArn, logUri",
            ],
        ),
        (
            "forms",
            json!({"configurationOverrides": "{}", "overrides": {}}),
            vec!["spec.overrides", "keep one"],
        ),
        (
            "inner-key",
            json!({"overrides": {"applicationConfiguration": [{"classification": "a", "configurations": [{"clasification": "b"}]}]}}),
            vec![
                "spec.overrides.applicationConfiguration[0].configurations[0].clasification",
                "known are classification",
            ],
        ),
        (
            "two-drivers",
            json!({"jobDriver": {"sparkSubmitJobDriver": submit, "sparkSQLJobDriver": submit}}),
            vec!["spec.jobDriver", "two drivers", "keep sparkSubmitJobDriver or sparkSQLJobDriver"],
        ),
        (
            "no-driver",
            json!({"jobDriver": {}}),
            vec!["spec.jobDriver", "set sparkSubmitJobDriver or sparkSQLJobDriver"],
        ),
        ("nothing-to-run", json!({"jobDriver": null}), vec!["spec.jobDriver", "is missing; set"]),
        (
            "no-entry-point",
            json!({"jobDriver": {"sparkSubmitJobDriver": {}}}),
            vec!["spec.jobDriver", "entryPoint is missing; set"],
        ),
        ("upper-case", upper, vec!["spec.virtualClusterID", "\"ABC\"", "lower-case letters and digits"]),
        (
            "role",
            json!({"executionRoleARN": "emr-job"}),
            vec!["spec.executionRoleARN", "\"emr-job\"", "arn:aws:iam::"],
        ),
        ("no-role", json!({"executionRoleARN": null}), vec!["spec.executionRoleARN", "is missing; set"]),
        (
            "two-roles",
            json!({"executionRoleRef": {"from": {"name": "r"}}}),
            vec!["spec.executionRoleRef", "cannot be used together", "keep one of them"],
        ),
        (
            "empty-role-ref",
            json!({"executionRoleARN": null, "executionRoleRef": {"from": {"namespace": "x"}}}),
            vec![
                "spec.executionRoleRef",
                "nil or empty: ExecutionRoleRef",
                "set spec.executionRoleRef.from.name",
            ],
        ),
        ("no-release", json!({"releaseLabel": null}), vec!["spec.releaseLabel", "is missing; set"]),
        (
            "id-and-ref",
            json!({"virtualClusterID": "abc"}),
            vec![
                "spec.virtualClusterRef",
                "cannot be used together: VirtualClusterID,VirtualClusterRef",
                "keep one of them",
            ],
        ),
        (
            "no-cluster",
            json!({"virtualClusterRef": null}),
            vec![
                "spec.virtualClusterRef",
                "wrapper or ID required: VirtualClusterID,VirtualClusterRef",
                "set one of them",
            ],
        ),
        (
            "empty-ref",
            json!({"virtualClusterRef": {"from": {}}}),
            vec![
                "spec.virtualClusterRef",
                "nil or empty: VirtualClusterRef",
                "set spec.virtualClusterRef.from.name",
            ],
        ),
    ]
}

fn unsendable_tags() -> Vec<Case> {
    vec![
        (
            "tag-of-aws",
            json!({"tags": {"aws:x": "y"}}),
            vec!["spec.tags: the key \"aws:x\" begins with aws:", "name the tag otherwise"],
        ),
        (
            "tag-value",
            json!({"tags": {"k": "v".repeat(257)}}),
            vec!["spec.tags: the key \"k\"", "shorten it"],
        ),
        (
            "many-tags",
            json!({"tags": (0..49).map(|index| (format!("k{index}"), "v")).collect::<BTreeMap<_, _>>()}),
            vec!["spec.tags", "51 tags, and AWS takes 50", "take 1 away"],
        ),
    ]
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_without_a_call_and_the_others_go_on() -> Result<()> {
    let env = environment("unsendable").await?;
    env.ready_cluster("vc").await?;
    let cases = [unsendable(), unsendable_tags()].concat();
    for (name, changes, _) in &cases {
        apply(&env, name, &spoilt(changes)).await?;
    }
    let mut refused = Vec::new();
    for (name, _, words) in &cases {
        let run = is_refused(&env, name, words).await?;
        ensure!(run.metadata.finalizers.is_none(), "{name}: nothing has to be cleaned up");
        refused.push(run);
    }
    ensure!(calls(env.simulator(), "StartJobRun") == 0, "{:?}", env.simulator().counters());
    are_left_alone(&env, &refused, 1).await
}

/// Nothing is repeated for runs that were refused: a good one starts, with which there were `starts` calls in all, and
/// deleting the refused ones takes none.
async fn are_left_alone(env: &TestEnv, refused: &[DynamicObject], starts: u64) -> Result<()> {
    stays_as_it_is(env, refused).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == starts, "only the good one was started");
    let before = all_calls(env.simulator());
    for run in refused {
        env.delete(env.job_runs(), &run.name_any()).await?;
    }
    ensure!(all_calls(env.simulator()) == before, "deleting them takes no call");
    Ok(())
}

#[tokio::test]
async fn what_aws_refuses_is_refused_after_one_call() -> Result<()> {
    let env = environment("refused").await?;
    env.ready_cluster("vc").await?;
    let words = "Release label emr-9.9.9-latest is not supported.";
    let refusal = Refusal { code: "ValidationException".to_owned(), message: words.to_owned(), status: 400 };
    let release_label = Some("emr-9.9.9-latest".to_owned());
    env.simulator().add_outcome(Rule { release_label, start_refused: Some(refusal), ..Rule::default() })?;
    let by_id = json!({"virtualClusterRef": null, "virtualClusterID": "0000000nobody"});
    let cases = [
        ("release", json!({"releaseLabel": "emr-9.9.9-latest"}), vec!["ValidationException", words]),
        ("blanks", json!({"releaseLabel": "emr 7"}), vec!["ValidationException", "releaseLabel"]),
        ("name", json!({"name": "word count"}), vec!["ValidationException", "name"]),
        (
            "id",
            by_id,
            vec!["spec.virtualClusterID", "0000000nobody", "give the id of a running virtual cluster"],
        ),
        (
            "attempts",
            json!({"retryPolicyConfiguration": {"maxAttempts": 0}}),
            vec!["ValidationException", "maxAttempts"],
        ),
        (
            "enum",
            json!({"overrides": {"monitoringConfiguration": {"persistentAppUI": "SOMETIMES"}}}),
            vec!["ValidationException", "persistentAppUI"],
        ),
    ];
    for (name, changes, _) in &cases {
        apply(&env, name, &spoilt(changes)).await?;
    }
    let mut refused = Vec::new();
    for (name, _, words) in &cases {
        refused.push(is_refused(&env, name, words).await?);
    }
    let expected = u64::try_from(cases.len())?;
    ensure!(calls(env.simulator(), "StartJobRun") == expected, "{:?}", env.simulator().counters());
    are_left_alone(&env, &refused, expected + 1).await
}

#[tokio::test]
async fn a_run_whose_cluster_is_missing_says_so_and_starts_when_it_comes() -> Result<()> {
    let env = environment("dangling").await?;
    env.ready_cluster("vc").await?;
    apply(&env, "run", &spoilt(&json!({"virtualClusterRef": {"from": {"name": "late"}}}))).await?;
    let run = env.condition(env.job_runs(), "run", "ACK.ReferencesResolved", "Unknown").await?;
    let resolved = condition(&run, "ACK.ReferencesResolved").context("a condition")?;
    ensure!(resolved.message == "Reference resolution failed", "{resolved:?}");
    for word in ["\"late\" not found", env.namespace(), "create it, or correct spec.virtualClusterRef"] {
        ensure!(resolved.reason.contains(word), "{word:?} is not in {resolved:?}");
    }
    ensure!(condition(&run, "ACK.Terminal").is_none() && status(&run, "state").is_none(), "{:?}", run.data);
    let ready = condition(&run, "Ready").context("Ready")?;
    ensure!(ready.status == "False" && ready.reason == "ReferenceNotReady", "{ready:?}");
    let event = env.event("run", "WaitingForReference").await?;
    ensure!(event.note == resolved.reason, "{event:?}");
    stays_as_it_is(&env, &[run]).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1, "only the good one was started");
    let late = tests::manifest::virtual_cluster("late", &format!("{}-late", env.namespace()));
    env.apply(&late).await?;
    env.job_run_in("run", "COMPLETED").await?;
    ensure!(env.the_job("run").is_ok() && calls(env.simulator(), "StartJobRun") == 2);
    Ok(())
}

#[tokio::test]
async fn a_refused_run_starts_by_the_retry_annotation_with_another_token() -> Result<()> {
    let env = environment("retry").await?;
    env.ready_cluster("vc").await?;
    let message = "Role emr-job does not trust the service account.".to_owned();
    let refusal = Refusal { code: "ValidationException".to_owned(), message, status: 400 };
    env.simulator().add_outcome(Rule { start_refused: Some(refusal), count: Some(2), ..Rule::default() })?;
    apply(&env, "run", &right()).await?;
    is_refused(&env, "run", &["does not trust"]).await?;
    // The cause is still there: refused once more, by one more call.
    env.annotate(env.job_runs(), "run", RETRY, "1").await?;
    let again = |run: &DynamicObject| status(run, "lastHandledRetry") == Some("1");
    env.until(env.job_runs(), "run", "should be refused again", again).await?;
    is_refused(&env, "run", &["does not trust"]).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 2, "{:?}", env.simulator().counters());
    // Taking the annotation away is no wish for another try.
    env.kubectl(&["annotate", "jobrun", "run", &format!("{RETRY}-")]).await?;
    let refused = env.job_runs().get("run").await?;
    stays_as_it_is(&env, &[refused]).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 3, "{:?}", env.simulator().counters());
    env.annotate(env.job_runs(), "run", RETRY, "2").await?;
    let run = env.job_run_in("run", "COMPLETED").await?;
    ensure!(
        condition(&run, "ACK.Terminal").is_none() && status(&run, "failureReason").is_none(),
        "{:?}",
        run.data
    );
    let starts = env.simulator().requests_since(0);
    let starts = starts.iter().filter(|r| r.operation == "StartJobRun" && r.body["name"] == "run");
    let mut tokens: Vec<_> = starts.map(|request| request.body["clientToken"].to_string()).collect();
    ensure!(tokens.len() == 3, "{tokens:?}");
    tokens.sort();
    tokens.dedup();
    ensure!(tokens.len() == 3, "every try after a refusal has a token of its own: {tokens:?}");
    env.the_job("run").map(drop)
}

#[tokio::test]
async fn d13_unreadable_overrides_neither_repeat_nor_panic_and_can_be_taken_out() -> Result<()> {
    let env = environment("d13").await?;
    env.ready_cluster("vc").await?;
    // On creation, where upstream repeats for ever: refused once, and mended by an edit.
    apply(&env, "early", &spoilt(&json!({"configurationOverrides": "a: [b"}))).await?;
    let refused = is_refused(&env, "early", &["spec.configurationOverrides"]).await?;
    // Added to a run that is there, where upstream panics at every pass: nothing follows from it.
    apply(&env, "late", &right()).await?;
    env.until(env.job_runs(), "late", "should be submitted", |run| status(run, "id").is_some()).await?;
    apply(&env, "late", &spoilt(&json!({"configurationOverrides": "a: [b"}))).await?;
    let done = env.job_run_in("late", "COMPLETED").await?;
    ensure!(condition(&done, "Ready").is_some_and(|ready| ready.status == "True"), "{:?}", done.data);
    stays_as_it_is(&env, &[refused]).await?;
    apply(&env, "early", &right()).await?;
    env.job_run_in("early", "COMPLETED").await?;
    ensure!(env.the_job("early").is_ok() && env.the_job("late").is_ok());
    ensure!(calls(env.simulator(), "StartJobRun") == 3, "{:?}", env.simulator().counters());
    Ok(())
}

#[tokio::test]
async fn an_object_that_does_not_decode_is_counted_and_stops_nothing() -> Result<()> {
    let mut env = environment("undecodable").await?;
    apply(&env, "odd", &spoilt(&json!({"tags": ["a", "list"]}))).await?;
    let odd_cluster = tests::manifest::virtual_cluster("odd", env.namespace()) + "  tags: [a, list]\n";
    env.apply(&odd_cluster).await?;
    counted(&env).await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("good", "vc", "")).await?;
    env.job_run_in("good", "COMPLETED").await?;
    // The list of a new process holds them too.
    env.operator().terminate().await?;
    env.restart_operator().await?;
    counted(&env).await?;
    env.apply(&job_run("after", "vc", "")).await?;
    env.job_run_in("after", "COMPLETED").await?;
    ensure!(env.operator().log().contains("doesn't decode"), "the log names the object");
    ensure!(env.jobs("odd").is_empty() && env.job_runs().get("odd").await?.data.get("status").is_none());
    // Mended, it is an object like any other.
    apply(&env, "odd", &right()).await?;
    env.job_run_in("odd", "COMPLETED").await?;
    Ok(())
}

async fn counted(env: &TestEnv) -> Result<()> {
    wait::eventually(PATIENCE, "both objects should be counted", async || {
        let metrics = env.operator().metrics().await?;
        let count = |kind: &str| metrics.sum("emrcontainers_undecodable_objects_total", &[("kind", kind)]);
        let (runs, clusters) = (count("jobrun"), count("virtualcluster"));
        if runs < 1.0 || clusters < 1.0 {
            bail!("{runs} runs and {clusters} clusters are counted");
        }
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn objects_from_before_an_upgrade_of_the_definitions_are_told_too() -> Result<()> {
    // Not the one of the other tests: its definitions change under the objects.
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    let plane = PLANE.get_or_try_init(with_old_definitions).await?;
    let env = TestEnv::on(plane, "upgrade", quick(), |operator| operator).await?;
    env.operator().terminate().await?;
    let two = json!({"jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "a"}, "sparkSQLJobDriver": {"entryPoint": "a"}}});
    apply(&env, "drivers", &spoilt(&two)).await?;
    apply(&env, "name", &spoilt(&json!({"name": "word count"}))).await?;
    plane.install_crds().await?;
    let mut env = env;
    env.restart_operator().await?;
    env.ready_cluster("vc").await?;
    // The statuses, and for the second the finalizer, are written although the spec breaks today's rules.
    is_refused(&env, "drivers", &["two drivers"]).await?;
    is_refused(&env, "name", &["ValidationException"]).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1, "{:?}", env.simulator().counters());
    for name in ["drivers", "name"] {
        env.delete(env.job_runs(), name).await?;
    }
    Ok(())
}
