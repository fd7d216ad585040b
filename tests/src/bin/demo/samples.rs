//! Applies the samples, follows them to the state that each one's annotation expects, and explains the one that fails.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, watcher};
use tests::objects;

use crate::show::{bold, green, say};
use crate::stack::Stack;
use crate::table::{Row, Table};

/// Says in which state the demo expects a sample.
const EXPECT: &str = "demo.emrcontainers.services.k8s.aws/expect";
/// Where the samples go.
const NAMESPACE: &str = "default";
/// The table's clock.
const TICK: Duration = Duration::from_millis(500);

/// The whole demo.
pub(crate) async fn run(folder: &Path, deadline: Duration) -> Result<()> {
    let samples = read(folder)?;
    let rows: Vec<Row> = samples.iter().map(row).collect::<Result<_>>()?;
    let stack = Stack::start().await?;
    let client = stack.plane.client()?;
    say(&format!("\nkubectl apply -f {}", shown(folder)));
    for sample in &samples {
        objects::apply_one(&client, NAMESPACE, sample).await?;
    }
    let mut table = Table::new(rows);
    let followed = follow(&stack, &client, &mut table, deadline).await;
    if let Err(error) = followed {
        for row in table.rows.iter().filter(|row| !row.is_expected()) {
            say(&explain(row));
        }
        say(&format!("\nthe operator's log ends with\n{}", stack.operator.process().log_tail(20)));
        return Err(error);
    }
    for row in table.rows.iter().filter(|row| row.expected == "FAILED") {
        say(&explain(row));
    }
    ensure!(
        stack.operator.terminate().await? == 0,
        "the operator should exit with 0 when it is asked to end"
    );
    say(&format!("\n{} every sample is in the expected state.", green("done:")));
    say(&next_steps(folder));
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<DynamicObject>> {
    let mut samples = Vec::new();
    for path in objects::yaml_files(folder)? {
        let yaml = std::fs::read_to_string(&path)?;
        samples.extend(objects::parse(&yaml).with_context(|| format!("in {}", path.display()))?);
    }
    Ok(samples)
}

fn kind(object: &DynamicObject) -> String {
    object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default()
}

/// A sample without an expectation is refused: the demo would pass without checking it.
fn row(sample: &DynamicObject) -> Result<Row> {
    let (kind, name) = (kind(sample), sample.name_any());
    let expected = sample.annotations().get(EXPECT);
    let expected =
        expected.with_context(|| format!("{kind} {name} has no annotation {EXPECT}: add its final state"))?;
    Ok(Row { kind, name, expected: expected.clone(), seen: None })
}

/// Shows every change until all samples are where they should be.
async fn follow(stack: &Stack, client: &Client, table: &mut Table, deadline: Duration) -> Result<()> {
    let end = Instant::now() + deadline;
    let watch = |kind: &'static str| {
        let api = objects::ours(client, NAMESPACE, kind);
        let events = watcher(api, Config::default());
        events.default_backoff().applied_objects().map_ok(move |object| (kind, object)).boxed()
    };
    let mut changes = stream::select(watch("VirtualCluster"), watch("JobRun"));
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok((kind, object))) => table.update(kind, object),
                Some(Err(_)) => {} // The watch tries again; the deadline ends it.
                None => bail!("the watch ended"),
            },
            _ = tick.tick() => stack.ensure_running()?,
        }
        table.draw();
        if table.rows.iter().all(Row::is_expected) {
            return Ok(());
        }
        if let Some(row) = table.rows.iter().find(|row| row.is_stuck()) {
            bail!("{} should end {}, but is {}", row.label(), row.expected, row.state());
        }
        let late: Vec<_> =
            table.rows.iter().filter(|row| !row.is_expected()).map(|row| row.name.as_str()).collect();
        ensure!(Instant::now() < end, "{} not in the expected state within {deadline:?}", late.join(", "));
    }
}

/// Why a sample is in its state, as its status tells it.
fn explain(row: &Row) -> String {
    let mut lines = vec![format!("\n{} is {}", bold(&row.label()), row.state())];
    let fields = [
        ("failureReason", "/status/failureReason"),
        ("stateDetails", "/status/stateDetails"),
        ("logs", "/status/logs/s3URI"),
        ("logs", "/status/logs/cloudWatchLogGroup"),
    ];
    for (name, pointer) in fields {
        lines.extend(row.text(pointer).map(|text| format!("  {name}: {text}")));
    }
    for kind in ["ACK.Terminal", "ACK.Recoverable", "Ready"] {
        let condition = row.seen.as_ref().and_then(|object| objects::condition(object, kind));
        lines.extend(condition.map(|condition| {
            format!("  {kind}: {} {} {}", condition.status, condition.reason, condition.message)
        }));
    }
    lines.join("\n")
}

fn next_steps(folder: &Path) -> String {
    format!(
        "\nTo play with it yourself:\n  \
        make up                                  # the same, left running; prints the KUBECONFIG to export\n  \
        kubectl apply -f {}\n  \
        kubectl get emr -o wide --watch\n  \
        kubectl describe jobrun meant-to-fail\n  \
        make down",
        shown(folder)
    )
}

/// A path as the user would type it in the clone.
fn shown(path: &Path) -> String {
    let clone = tests::control_plane::repository();
    path.strip_prefix(clone).unwrap_or(path).display().to_string()
}
