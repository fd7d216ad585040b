//! Objects as the API server sends them. Whatever is in a spec or a status, the watch goes on: the object is read as
//! kube itself would read it, or it is one that says what is wrong with it. And what was read can be worked with.

use emrcontainers_api::condition::Condition;
use emrcontainers_api::{JobRun, VirtualCluster};
use emrcontainers_operator::decode::{Assembled, Decoded};
use emrcontainers_operator::emr::poll::Observed;
use emrcontainers_operator::job_run::destination::Destination;
use emrcontainers_operator::job_run::plan::{self, Step, View};
use emrcontainers_operator::job_run::status::{self, Manner, Situation, Tags};
use emrcontainers_operator::job_run::target::{self, Reach, Target};
use emrcontainers_operator::memory::Memory;
use emrcontainers_operator::scope::decide::Told;
use emrcontainers_operator::settings::JobReadyPolicy;
use emrcontainers_operator::virtual_cluster;
use emrcontainers_operator::watch::Watched;
use jiff::Timestamp;
use kube::Resource;
use kube::api::{ObjectList, ObjectMeta};
use kube::core::WatchEvent;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // What no API server would send must be no reason to die either.
    let _ = serde_json::from_str::<Decoded<JobRun>>(text);
    let _ = serde_json::from_str::<WatchEvent<Decoded<VirtualCluster>>>(text);
    let Ok(object @ Value::Object(_)) = serde_json::from_str::<Value>(text) else { return };
    if let Some(run) = decodes::<JobRun>(&object) {
        run_can_be_worked_with(&run);
    }
    if let Some(cluster) = decodes::<VirtualCluster>(&object) {
        cluster_can_be_worked_with(&cluster);
    }
}

/// The object, if it can be read.
fn decodes<K>(object: &Value) -> Option<K>
where
    K: Assembled
        + Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + PartialEq
        + std::fmt::Debug,
{
    // The API server vouches for the metadata.
    let metadata: ObjectMeta = serde_json::from_value(object.get("metadata")?.clone()).ok()?;
    let text = object.to_string();
    let Decoded(read) = serde_json::from_str::<Decoded<K>>(&text).unwrap();
    let by_kube = serde_json::from_str::<K>(&text);
    let event = format!("{{\"type\":\"ADDED\",\"object\":{text}}}");
    assert!(serde_json::from_str::<WatchEvent<Decoded<K>>>(&event).is_ok(), "the watch would end");
    let list = json!({ "metadata": {}, "items": [object, { "metadata": { "name": "other" } }] }).to_string();
    let list: ObjectList<Decoded<K>> = serde_json::from_str(&list).expect("the list would fail");
    assert_eq!(list.items.len(), 2);
    match read {
        Ok(read) => {
            assert_eq!(read.meta().name, metadata.name);
            // One that is to be adopted needs no spec, of which kube knows nothing.
            if object.get("spec").is_some() {
                let mut by_kube = by_kube.expect("kube refuses it");
                // The fields of others are read past.
                *by_kube.meta_mut() = ObjectMeta {
                    deletion_grace_period_seconds: None,
                    generate_name: None,
                    managed_fields: None,
                    owner_references: None,
                    self_link: None,
                    ..by_kube.meta().clone()
                };
                assert_eq!(read, by_kube);
            }
            let written = serde_json::to_value(&read).unwrap();
            let Decoded(again): Decoded<K> = serde_json::from_str(&written.to_string()).unwrap();
            // Times are written in whole seconds.
            assert_eq!(serde_json::to_value(again.unwrap()).unwrap(), written, "read and written again");
            Some(read)
        }
        Err(undecodable) => {
            assert!(by_kube.is_err(), "kube can read it: {undecodable}");
            assert_eq!(undecodable.metadata.name, metadata.name);
            assert_eq!(undecodable.metadata.resource_version, metadata.resource_version);
            assert!(!undecodable.error.is_empty());
            None
        }
    }
}

fn run_can_be_worked_with(run: &JobRun) {
    let mut pruned = run.clone();
    pruned.prune();
    assert_eq!(plan::settled(run), plan::settled(&pruned), "pruning unsettles the run");
    let reach = Reach { cross_namespace: true, sees: &|_| true, find: &|_, _| None };
    let target = Target {
        virtual_cluster: target::virtual_cluster(run, &reach),
        execution_role: target::execution_role(run, true),
        default_tags: Vec::new(),
    };
    let memory = Memory::default();
    let tried = Destination::tried(run, &memory);
    let view = View {
        run,
        memory: &memory,
        observation: None,
        target: &target,
        retain: false,
        read_only: false,
        adoption: true,
        scope: None,
        tried: tried.as_ref(),
        elsewhere: false,
    };
    let submitted = run.status.as_ref().is_some_and(|status| status.id.is_some());
    match plan::plan(&view) {
        Step::Start(_) => panic!("a process that knows nothing starts"),
        Step::TakeOver(virtual_cluster_id) | Step::RuleOut(virtual_cluster_id) => {
            assert!(!submitted && !virtual_cluster_id.is_empty());
        }
        Step::Refuse(why) => assert!(!submitted && why.starts_with("spec."), "{why}"),
        _ => {}
    }
    let seen = Observed { state: "RUNNING".to_owned(), ..Observed::default() };
    for situation in [
        Situation::Acknowledged,
        Situation::CancelAsked,
        Situation::Lost,
        Situation::Observed(&seen),
        Situation::Trouble("trouble"),
        Situation::Waiting { reason: "Waiting", message: "wait" },
    ] {
        let manner = Manner {
            ready: JobReadyPolicy::Outcome,
            by_reference: true,
            cross_namespace: true,
            tags: Tags::Sent,
            told: &Told::default(),
            now: Timestamp::UNIX_EPOCH,
        };
        let mut first = run.clone();
        first.status = Some(status::next(run, &situation, manner));
        let later = Manner { now: Timestamp::MAX, ..manner };
        assert_eq!(Some(status::next(&first, &situation, later)), first.status, "{situation:?} said twice");
        if !matches!(situation, Situation::Acknowledged) {
            unique(&first.status.unwrap().conditions);
        }
    }
}

fn cluster_can_be_worked_with(cluster: &VirtualCluster) {
    use virtual_cluster::plan::{View, plan};
    use virtual_cluster::status::{Situation, next};
    let _ = plan(&View {
        cluster,
        memory: &Memory::default(),
        users: &[],
        tags_problem: None,
        retain: false,
        read_only: false,
        adoption: true,
    });
    for situation in [Situation::Trouble("trouble"), Situation::Reopened, Situation::DeleteAsked] {
        let mut first = cluster.clone();
        first.status = Some(next(cluster, &situation, &Told::default(), Timestamp::UNIX_EPOCH));
        assert_eq!(
            Some(next(&first, &situation, &Told::default(), Timestamp::MAX)),
            first.status,
            "{situation:?} said twice"
        );
        unique(&first.status.unwrap().conditions);
    }
}

fn unique(conditions: &[Condition]) {
    for (index, condition) in conditions.iter().enumerate() {
        assert!(conditions[index + 1..].iter().all(|other| other.type_ != condition.type_), "{conditions:?}");
        assert!(condition.last_transition_time.is_some());
    }
}
