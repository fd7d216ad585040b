//! The control plane, the simulated AWS and the operator, started one after the other with a line for each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use emr_simulator::{Handle, Options};
use tests::control_plane::ControlPlane;
use tests::namespace;
use tests::operator::Operator;
use tests::simulator::failing;

use crate::show::say;

/// Where the operator lives, as in an installation with its chart.
const OPERATOR_NAMESPACE: &str = "ack-system";
/// Long enough to see each state, short enough to wait for.
const JOB_RUNS_FOR: Duration = Duration::from_secs(5);

/// Everything that runs.
pub(crate) struct Stack {
    pub(crate) plane: ControlPlane,
    pub(crate) operator: Operator,
    /// Answers as long as it lives.
    _simulator: Handle,
}

impl Stack {
    pub(crate) async fn start() -> Result<Self> {
        let from = Instant::now();
        say("starting etcd and kube-apiserver ...");
        let plane = ControlPlane::start().await?;
        plane.start_controller_manager().await?;
        say(&format!(
            "kube-apiserver is ready at {} after {:.1} s",
            plane.url(),
            from.elapsed().as_secs_f64()
        ));

        let simulator =
            emr_simulator::start(Options { running_for: JOB_RUNS_FOR, ..Options::default() }).await?;
        simulator.add_outcome(failing("meant-to-fail", FAILURE))?;
        say(&format!("the simulated EMR on EKS answers at {}", simulator.url()));

        plane.install_crds().await.context("can't install manifests/crds")?;
        let client = plane.client()?;
        namespace::ensure(&client, OPERATOR_NAMESPACE).await?;
        let operator =
            Operator::builder(plane.kubeconfig(), simulator.url()).leader_election(OPERATOR_NAMESPACE);
        let operator = operator.start(plane.scratch()).await?;
        say(&format!("the operator is ready; metrics at {}", operator.metrics_url()));
        Ok(Self { plane, operator, _simulator: simulator })
    }

    /// Fails when the operator or a server has ended.
    pub(crate) fn ensure_running(&self) -> Result<()> {
        self.operator.ensure_running()?;
        self.plane.ensure_running()
    }
}

/// What EMR says of a program that ends with an error.
const FAILURE: &str = "JobRun failed. Main Spark container terminated with reason: Error. Exit code: 1. \
    ZeroDivisionError: division by zero. Please refer logs uploaded to S3/CloudWatch based on your monitoring configuration.";
