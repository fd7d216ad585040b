//! Whether the API server has our definitions and lets us do our work: the gates of /readyz that can close again.
//!
//! Both are looked up every half minute, and at once when a request was refused; by a replica that waits for the lease
//! too. Permissions are asked for one by one with SelfSubjectAccessReviews, which every account may create and which change
//! nothing, so that a missing one shows before the first object needs it. Decides nothing else: passes and watches go on
//! as they can. Invariant: a gate that is closed names what is missing and what helps, and opens by itself.

use std::sync::{Arc, Once};

use emrcontainers_api::{FieldExport, IAMRoleSelector, JobRun, SHARED_GROUP, VirtualCluster};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Client, Resource};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::access_needs::{Need, export_needs, missing, needs};
use crate::health::{Gate, Readiness, Work};
use crate::leader;
use crate::settings::{LeaderElection, Settings};
use crate::timing;

/// What the API server has and allows; clones share their state.
#[derive(Clone, Debug)]
pub struct Access {
    server: Gate,
    definitions: Gate,
    permissions: Gate,
    doubts: Arc<Notify>,
    listable: Arc<watch::Sender<bool>>,
    exports_listable: Arc<watch::Sender<bool>>,
    told_of_exports: Arc<Once>,
}

/// The API server didn't answer, or not as one that works.
struct Silence(String);

/// Whether something is there, or why not.
type Found = Result<(), String>;

impl Access {
    /// Adds the gates, which are closed until everything has been looked up.
    pub fn new(readiness: &Readiness) -> Self {
        Self {
            server: readiness.gate("api-server", "has not been asked yet"),
            definitions: readiness.gate("crds", "the custom resources have not been looked up yet"),
            permissions: readiness.gate("permissions", "have not been looked up yet"),
            doubts: Arc::default(),
            listable: Arc::new(watch::Sender::new(false)),
            exports_listable: Arc::new(watch::Sender::new(false)),
            told_of_exports: Arc::new(Once::new()),
        }
    }

    /// A request was refused: looks everything up soon.
    pub fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// Waits until both kinds can be listed.
    pub async fn listable(&self) {
        // It can't end: the sender is in `self`.
        let _ = self.listable.subscribe().wait_for(|listable| *listable).await;
    }

    /// Waits until FieldExports can be listed.
    pub async fn exports_listable(&self) {
        let _ = self.exports_listable.subscribe().wait_for(|listable| *listable).await;
    }

    /// Looks everything up again and again.
    pub async fn keep_checking(self, settings: Settings, client: Client, work: Work) {
        let is_elected = settings.leader_election == LeaderElection::On;
        let lease = is_elected.then(|| leader::namespace_of_lease(&settings));
        let namespaces: Vec<_> = settings.watch_namespaces.iter().map(String::as_str).collect();
        let mut needs = needs(&settings, lease.as_deref());
        let mut of_exports = if settings.field_exports { export_needs(&namespaces) } else { Vec::new() };
        if settings.read_only {
            needs.retain(Need::is_read);
            of_exports.clear();
        }
        let selectors = settings.feature_gates.iam_role_selector;
        let mut before = None;
        loop {
            let now = self.check(&client, namespaces.first().copied(), selectors, &needs, &of_exports).await;
            match &now {
                Err(why) if before.as_ref() != Some(&now) => tracing::warn!("{why}"),
                Ok(()) if before.is_some() && before.as_ref() != Some(&now) => {
                    tracing::info!("the API server has and allows all that is needed");
                }
                _ => {}
            }
            // Soon, as long as somebody waits for it.
            let pause = if now.is_ok() { timing::ACCESS_CHECK } else { timing::START_UP_RETRY };
            before = Some(now);
            work.due_at(Instant::now() + pause);
            tokio::select! {
                () = sleep(pause) => {}
                // Not at once: many are refused at the same time.
                () = async { self.doubts.notified().await; sleep(timing::START_UP_RETRY).await } => {}
            }
        }
    }

    /// Looks everything up, sets the gates, and says what is amiss.
    async fn check(
        &self,
        client: &Client,
        namespace: Option<&str>,
        selectors: bool,
        needs: &[Need],
        of_exports: &[Need],
    ) -> Found {
        let definitions = async {
            let mut definitions = served::<JobRun>(client, namespace).await?;
            definitions = definitions.and(served::<VirtualCluster>(client, namespace).await?);
            if selectors {
                definitions = definitions.and(served::<IAMRoleSelector>(client, None).await?);
            }
            Ok(definitions)
        };
        let definitions: Result<Found, Silence> = definitions.await;
        let definitions = match definitions {
            Ok(definitions) => set(&self.definitions, definitions),
            Err(silence) => return self.silent(silence),
        };
        self.listable.send_replace(definitions.is_ok());
        let denied = async {
            let mut denied = denied(client, needs).await?;
            denied.extend(self.denied_for_exports(client, namespace, of_exports).await?);
            Ok(denied)
        };
        let denied: Result<Vec<&Need>, Silence> = denied.await;
        let permissions = match denied {
            Ok(denied) => set(&self.permissions, missing(&denied)),
            Err(silence) => return self.silent(silence),
        };
        self.server.open();
        definitions.and(permissions)
    }

    /// What FieldExports lack. Where they have no definition there is none of them, so nothing is missing.
    async fn denied_for_exports<'a>(
        &self,
        client: &Client,
        namespace: Option<&str>,
        needs: &'a [Need],
    ) -> Result<Vec<&'a Need>, Silence> {
        if needs.is_empty() {
            return Ok(Vec::new());
        }
        let exports = api::<FieldExport>(client, namespace);
        let listed = answer(exports.list_metadata(&ListParams::default().limit(1))).await?;
        self.exports_listable.send_replace(listed.is_ok());
        if listed.is_err_and(|refusal| refusal.code == 404) {
            self.told_of_exports.call_once(|| {
                tracing::warn!(
                    "the API server has no fieldexports.{SHARED_GROUP}: fields are exported once the \
                     CustomResourceDefinition is installed; everything else works"
                );
            });
            return Ok(Vec::new());
        }
        denied(client, needs).await
    }

    /// What was known last still stands, but it can't be told whether it is so.
    fn silent(&self, Silence(why): Silence) -> Found {
        self.server.close(why.clone());
        Err(why)
    }
}

fn set(gate: &Gate, found: Found) -> Found {
    match &found {
        Ok(()) => gate.open(),
        Err(why) => gate.close(why.clone()),
    }
    found
}

/// Whether a kind can be listed. Reading one object asks more of the API server than its word that it has the kind.
async fn served<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: Option<&str>,
) -> Result<Found, Silence> {
    let (plural, group) = (K::plural(&()), K::group(&()));
    match answer(api::<K>(client, namespace).list_metadata(&ListParams::default().limit(1))).await? {
        Ok(_) => Ok(Ok(())),
        Err(refusal) if refusal.code == 404 => {
            Ok(Err(format!("the API server has no {plural}.{group}: install the CustomResourceDefinitions")))
        }
        Err(refusal) => Ok(Err(format!(
            "listing {plural} is not allowed: {}; grant get, list and watch",
            refusal.message
        ))),
    }
}

fn api<K: Resource<DynamicType = ()>>(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<K>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// What we may not do of all that we need.
async fn denied<'a>(client: &Client, needs: &'a [Need]) -> Result<Vec<&'a Need>, Silence> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut denied = Vec::new();
    // One after the other: they must not get in the way of the work.
    for need in needs {
        let review = need.review();
        let answer = answer(reviews.create(&PostParams::default(), &review)).await?;
        // Where not even this may be asked, nothing is held against the account.
        if answer.is_ok_and(|review| review.status.is_some_and(|status| !status.allowed)) {
            denied.push(need);
        }
    }
    Ok(denied)
}

/// What the API server says, if it answers: what was asked for, or that it isn't there or isn't allowed.
async fn answer<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, Box<kube::core::Status>>, Silence> {
    match timeout(timing::ACCESS_REQUEST, request).await {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => Ok(Err(status)),
        Ok(Err(error)) => Err(Silence(format!("doesn't answer as it should: {error}"))),
        Err(_) => Err(Silence(format!("has not answered for {} s", timing::ACCESS_REQUEST.as_secs()))),
    }
}
