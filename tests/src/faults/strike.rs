//! Carries out what befalls AWS and the API server.
//!
//! Must not: leave anything broken behind. Invariant: a lane does one thing after the other, in the order of the plan.

use std::time::Duration;

use anyhow::Result;
use emr_simulator::{Fault, Handle};
use tokio::time::sleep;

use super::plan::{Outage, OutageKind, Timed, Trouble};
use super::world::{BINDING, World};
use crate::objects;
use crate::process::Signal;

/// What AWS does wrong.
pub async fn aws(aws: &Handle, plan: &[Timed<Trouble>]) -> Result<()> {
    for Timed { wait, what } in plan {
        sleep(*wait).await;
        let fault = Fault::new(what.operation, what.kind);
        let id = aws.add_fault(Fault { probability: what.share, delay_ms: millis(what.delay)?, ..fault })?;
        sleep(what.lasting).await;
        aws.remove_fault(id);
    }
    Ok(())
}

/// What befalls the API server.
pub async fn api(world: &World<'_>, plan: &[Timed<Outage>]) -> Result<()> {
    for Timed { wait, what: Outage { kind, lasting } } in plan {
        sleep(*wait).await;
        match kind {
            OutageKind::Freeze => {
                world.plane.signal_api_server(Signal::STOP)?;
                sleep(*lasting).await;
                world.plane.signal_api_server(Signal::CONT)?;
            }
            OutageKind::Crash => {
                world.plane.stop_api_server().await?;
                sleep(*lasting).await;
                world.plane.start_api_server().await?;
            }
            OutageKind::Compact => {
                world.plane.stop_api_server().await?;
                world.plane.compact_etcd().await?;
                world.plane.start_api_server().await?;
            }
            OutageKind::Rights => {
                world.remove(BINDING).await?;
                sleep(*lasting).await;
                world.apply(BINDING).await?;
            }
            OutageKind::StatusWrites => {
                let policy = policy(world.namespace.name());
                world.apply(&policy).await?;
                sleep(*lasting).await;
                world.remove(&policy).await?;
            }
        }
    }
    Ok(())
}

/// Refuses every write of a status in a namespace.
fn policy(namespace: &str) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {namespace}}}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - apiGroups: [{group}]
      apiVersions: ['*']
      operations: [UPDATE]
      resources: [jobruns/status, virtualclusters/status]
  validations: [{{expression: 'false', message: statuses are frozen}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {namespace}}}
spec:
  policyName: {namespace}
  validationActions: [Deny]
  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}
",
        group = objects::GROUP
    )
}

fn millis(time: Duration) -> Result<u64> {
    Ok(time.as_millis().try_into()?)
}
