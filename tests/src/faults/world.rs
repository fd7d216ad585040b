//! What a round takes place in: a namespace, the operator's rights in it, an AWS of its own, replicas, and the users.
//!
//! Must not: know what goes wrong. Invariant: users repeat what failed until it is done, so what they asked for is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use emr_simulator::{Handle, Options, Rule, ThrottleForm};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::counters;
use super::plan::{self, Deed, Fate, Timed};
use super::replicas::Replicas;
use super::tally::Tally;
use super::truth::{self, Asked, Kind, Seen, Wrong};
use crate::clock::Clock;
use crate::control_plane::ControlPlane;
use crate::manifest::{job_run, virtual_cluster};
use crate::namespace::Namespace;
use crate::operator::Operator;
use crate::{objects, simulator, wait};

/// Requests of users at the same time.
const PARALLEL: usize = 4;
/// VirtualClusters, with an equal share of the runs that end.
const CLUSTERS: usize = 2;
/// The VirtualCluster of the others, which users delete with them.
const ENDLESS_CLUSTER: &str = "endless";
/// How often users create a run beside those of the plan, so that there is always something that can go wrong.
const MORE_EVERY: Duration = Duration::from_millis(500);
/// How long a cancellation takes: long enough for an object to go too early, and to be missed.
const CANCEL_FOR: Duration = Duration::from_millis(1500);
/// How often it is looked whether one did.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For how long users try again: longer than any outage lasts.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long the operator's figures may take to be as they should; a scrape shows what was a moment ago.
const FIGURES_WITHIN: Duration = Duration::from_secs(15);
/// What AWS lets the time of a signature differ by.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// The operator's account, and the same rights as the chart gives it in a namespace.
const ROLE: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: operator}
rules:
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns, virtualclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [emrcontainers.services.k8s.aws]
  resources: [jobruns/status, virtualclusters/status]
  verbs: [update]
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, get, list, watch, update]}
";
/// What makes them the account's.
pub const BINDING: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: operator}
subjects: [{kind: ServiceAccount, name: operator}]
";

/// Where a round takes place.
pub struct World<'a> {
    /// The API server.
    pub plane: &'a ControlPlane,
    /// A client with all rights.
    pub client: Client,
    /// The round's namespace.
    pub namespace: Namespace,
    /// The round's AWS.
    pub simulator: Handle,
    /// The operator.
    pub replicas: Replicas,
    /// For how long lists lack a run that was started.
    pub list_delay: Duration,
    /// The operator's wall clock.
    pub clock: Clock,
    /// How often what struck.
    pub tally: Tally,
    runs: Api<DynamicObject>,
    clusters: Api<DynamicObject>,
    asked: Mutex<Asked>,
    orphans: Mutex<BTreeMap<String, Wrong>>,
}

impl<'a> World<'a> {
    /// Starts everything, with so many replicas, and waits for nothing but the VirtualClusters' objects.
    pub async fn start(plane: &'a ControlPlane, replicas: usize, list_delay: Duration) -> Result<Self> {
        let client = plane.client()?;
        let namespace = Namespace::create(&client, "faults").await?;
        let options = Options {
            throttle_form: ThrottleForm::TooManyRequestsException,
            clock_skew: Some(CLOCK_SKEW),
            cancel_for: CANCEL_FOR,
            list_delay,
            ..simulator::quick()
        };
        let simulator = emr_simulator::start(options).await?;
        simulator.add_outcome(simulator::endless("endless-*"))?;
        simulator.add_outcome(Rule {
            running_seconds: Some(0.5),
            ..simulator::failing("fails-*", "it was meant to")
        })?;
        objects::apply(&client, namespace.name(), &format!("{ROLE}---{BINDING}")).await?;
        let (clock, tally) = (Clock::create(plane.scratch()).await?, Tally::default());
        let kubeconfig = plane.kubeconfig_for_service_account(namespace.name(), "operator").await?;
        let builder = Operator::builder(kubeconfig, simulator.url()).watch_namespace(namespace.name());
        let builder = builder.arguments(&["--aws-quotas=off"]).clock(&clock);
        let builder = if replicas > 1 { builder.leader_election(namespace.name()) } else { builder };
        let leases = Api::namespaced(client.clone(), namespace.name());
        let directory = plane.scratch().to_owned();
        let replicas = Replicas::start(builder, replicas, directory, leases, tally.clone()).await?;
        let runs = objects::ours(&client, namespace.name(), "JobRun");
        let clusters = objects::ours(&client, namespace.name(), "VirtualCluster");
        let (asked, orphans) = (Mutex::default(), Mutex::default());
        let world = Self {
            plane,
            client,
            namespace,
            simulator,
            replicas,
            list_delay,
            clock,
            tally,
            runs,
            clusters,
            asked,
            orphans,
        };
        let numbered = (0..CLUSTERS).map(cluster_name);
        for cluster in numbered.chain([ENDLESS_CLUSTER.to_owned()]) {
            world.create_cluster(&cluster).await?;
        }
        Ok(world)
    }

    /// Applies YAML to the round's namespace, until it is done.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        persist("it should be applied", async || {
            objects::apply(&self.client, self.namespace.name(), yaml).await.map(drop)
        })
        .await
    }

    /// Deletes what the YAML names, until it is done.
    pub async fn remove(&self, yaml: &str) -> Result<()> {
        for object in objects::parse(yaml)? {
            persist("it should be removed", async || {
                let api = objects::api_for(&self.client, self.namespace.name(), &object).await?;
                gone(api.delete(&object.name_any(), &DeleteParams::default()).await)
            })
            .await?;
        }
        Ok(())
    }

    /// Does what the plan says that users do.
    pub async fn act(&self, plan: &[Timed<Deed>]) -> Result<()> {
        for Timed { wait, what } in plan {
            tokio::time::sleep(*wait).await;
            match what {
                Deed::Apply(runs) => {
                    let created =
                        stream::iter(runs.clone()).map(|run| self.create(run)).buffer_unordered(PARALLEL);
                    created.try_for_each(|()| async { Ok(()) }).await?;
                }
                Deed::Delete(runs) => {
                    let deleted =
                        stream::iter(runs.clone()).map(|run| self.delete(run)).buffer_unordered(PARALLEL);
                    deleted.try_for_each(|()| async { Ok(()) }).await?;
                }
                Deed::ApplyCluster(cluster) => self.create_cluster(&spare_name(*cluster)).await?,
                Deed::DeleteCluster(cluster) => self.delete_cluster(&spare_name(*cluster)).await?,
                Deed::DeleteEndlessCluster => self.delete_cluster(ENDLESS_CLUSTER).await?,
            }
        }
        Ok(())
    }

    /// Creates runs that complete, numbered from `first` on, until it is enough.
    pub async fn go_on(&self, first: usize, enough: &CancellationToken) -> Result<()> {
        for run in (first..).filter(|run| plan::fate(*run) == Fate::Completes) {
            tokio::select! {
                () = enough.cancelled() => break,
                () = sleep(MORE_EVERY) => self.create(run).await?,
            }
        }
        Ok(())
    }

    /// Looks for objects that go before their jobs have ended, for ever: once all is calm it can't be seen any more.
    pub async fn look_for_orphans(&self) -> Result<()> {
        loop {
            sleep(LOOK_EVERY).await;
            let created = self.with(|asked| asked.runs.created.keys().cloned().collect());
            // While the API server is away nothing goes.
            let Ok(objects) = self.runs.list(&ListParams::default()).await else { continue };
            let found = truth::orphans(&created, &objects.items, &self.simulator.snapshot());
            let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
            orphans.extend(found.into_iter().map(|wrong| (wrong.what.clone(), wrong)));
        }
    }

    /// What was found of that. Those that the operator didn't let go can only be seen off after they went.
    pub async fn orphans(&self) -> Vec<Wrong> {
        let vanished = self.vanished().await;
        let orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        let is_let_go = |orphan: &&Wrong| orphan.name().is_none_or(|name| !vanished.contains(name));
        orphans.values().filter(is_let_go).cloned().collect()
    }

    /// Objects that the API server deleted past the finalizer, by the operator's log: of what it lets go itself it never
    /// says so.
    pub async fn vanished(&self) -> BTreeSet<String> {
        self.replicas.said_so_of("was deleted although it has our finalizer").await
    }

    async fn create(&self, run: usize) -> Result<()> {
        let name = plan::name(run);
        let cluster = match plan::fate(run) {
            Fate::Endless => ENDLESS_CLUSTER.to_owned(),
            Fate::Completes | Fate::Fails => cluster_name(run % CLUSTERS),
        };
        let yaml = job_run(&name, &cluster, "");
        let uid = create(&self.runs, &name, &yaml).await?;
        self.with(|asked| asked.runs.created.insert(name, uid));
        Ok(())
    }

    async fn create_cluster(&self, name: &str) -> Result<()> {
        let yaml = virtual_cluster(name, &format!("{}-{name}", self.namespace.name()));
        let uid = create(&self.clusters, name, &yaml).await?;
        self.with(|asked| asked.clusters.created.insert(name.to_owned(), uid));
        Ok(())
    }

    async fn delete_cluster(&self, name: &str) -> Result<()> {
        self.with(|asked| asked.clusters.deleted.insert(name.to_owned()));
        delete(&self.clusters, name).await
    }

    async fn delete(&self, run: usize) -> Result<()> {
        let name = plan::name(run);
        self.with(|asked| asked.runs.deleted.insert(name.clone()));
        delete(&self.runs, &name).await
    }

    fn with<T>(&self, change: impl FnOnce(&mut Asked) -> T) -> T {
        change(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What users asked for.
    pub fn asked(&self) -> Asked {
        self.with(|asked| asked.clone())
    }

    async fn seen(&self) -> Result<Seen> {
        let all = ListParams::default();
        Ok(Seen {
            runs: self.runs.list(&all).await?.items,
            clusters: self.clusters.list(&all).await?.items,
            aws: self.simulator.snapshot(),
            calls: self.simulator.requests_since(0),
        })
    }

    /// What is wrong now.
    pub async fn judge(&self) -> Result<Vec<Wrong>> {
        Ok(truth::judge(&self.asked(), &self.seen().await?))
    }

    /// In what the operator's figures still differ from what is after some time; all must be calm.
    pub async fn reckon(&self) -> Result<Vec<Wrong>> {
        let differ = async || -> Result<Vec<Wrong>> {
            let seen = self.seen().await?;
            Ok(counters::judge(&self.replicas.counted().await?, &seen.runs, &seen.calls))
        };
        let equal = wait::eventually(FIGURES_WITHIN, "figures should add up", async || {
            Ok(differ().await?.is_empty().then_some(()))
        });
        if equal.await.is_ok() { Ok(Vec::new()) } else { differ().await }
    }

    /// Waits until nothing is wrong any more; says what still is when that takes too long.
    pub async fn settle(&self, deadline: Duration) -> Result<Vec<Wrong>> {
        let calm = wait::eventually(deadline, "all should be as AWS has it", async || {
            let wrong = self.judge().await?;
            // What was done twice can't be undone; all else may still come right, so it isn't told then.
            let twice: Vec<_> = wrong.iter().filter(|wrong| wrong.kind == Kind::Duplicate).cloned().collect();
            match wrong.first() {
                Some(first) if twice.is_empty() => {
                    bail!("{} things are wrong, the first: {first}", wrong.len())
                }
                Some(_) | None => Ok(Some(twice)),
            }
        });
        if let Ok(wrong) = calm.await { Ok(wrong) } else { self.judge().await }
    }
}

/// What isn't there any more needn't be deleted.
fn gone<T>(deleted: kube::Result<T>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => Ok(deleted.map(drop)?),
    }
}

async fn create(api: &Api<DynamicObject>, name: &str, yaml: &str) -> Result<String> {
    let object = objects::parse(yaml)?.pop().context("an object")?;
    let params = PatchParams::apply(objects::FIELD_MANAGER).force();
    persist(&format!("{name} should be created"), async || {
        let created = api.patch(name, &params, &Patch::Apply(&object)).await?;
        created.uid().context("an object has a UID")
    })
    .await
}

async fn delete(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    let what = format!("{name} should be deleted");
    persist(&what, async || gone(api.delete(name, &DeleteParams::default()).await)).await
}

/// One that has runs which end.
fn cluster_name(cluster: usize) -> String {
    format!("cluster-{cluster}")
}

/// One that has none.
fn spare_name(cluster: usize) -> String {
    format!("spare-{cluster}")
}

/// Repeats what the API server refuses or doesn't answer, as users do.
pub async fn persist<T>(what: &str, mut request: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    wait::eventually(PATIENCE, what, async || request().await.map(Some)).await
}
