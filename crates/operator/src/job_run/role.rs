//! Reads the IAM roles that runs refer to: objects of ACK's IAM controller, if there is one.
//!
//! They are read one by one when a run is to be started, and not watched: most clusters have none, and a run that has
//! been started never asks for its role again. Decides nothing: `target` does. Invariant: a role is asked for once a
//! second at most, however many runs wait for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use serde_json::Value;
use tokio::time::Instant;

use super::target::not_found;
use crate::timing;

/// Its kind, as the API server spells it.
const RESOURCE: &str = "roles.iam.services.k8s.aws";

/// What a role says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether it is being deleted.
    pub is_going: bool,
    /// Whether it has `ACK.Terminal`.
    pub is_terminal: bool,
    /// Whether it has `ACK.ResourceSynced`.
    pub is_synced: bool,
    /// Its ARN.
    pub arn: Option<String>,
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    Found(Role),
    /// It isn't, or can't be read: why, and what helps.
    Missing(String),
}

/// Namespace and name.
type Key = (String, String);

/// The roles of the cluster.
pub struct Roles {
    client: Client,
    recent: Mutex<HashMap<Key, (Instant, Answer)>>,
}

impl Roles {
    /// Reads through this client.
    pub fn new(client: Client) -> Self {
        Self { client, recent: Mutex::default() }
    }

    /// The role of that name, as it is now or was a moment ago.
    ///
    /// # Errors
    /// When the API server can't be reached, or fails.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Answer, kube::Error> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(answer) = self.recent(&key) {
            return Ok(answer);
        }
        let answer = self.look(namespace, name).await?;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, (at, _)| at.elapsed() < timing::ROLE_ANSWER);
        recent.insert(key, (Instant::now(), answer.clone()));
        Ok(answer)
    }

    fn recent(&self, key: &Key) -> Option<Answer> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = recent.get(key)?;
        (at.elapsed() < timing::ROLE_ANSWER).then(|| answer.clone())
    }

    async fn look(&self, namespace: &str, name: &str) -> Result<Answer, kube::Error> {
        // What can't be a name could lead to another path of the API server.
        if !(is_name(namespace) && is_name(name)) {
            return Ok(Answer::Missing(format!(
                "{}: the name or the namespace can't be one; correct spec.executionRoleRef",
                not_found(RESOURCE, name)
            )));
        }
        let path = format!("/apis/iam.services.k8s.aws/v1alpha1/namespaces/{namespace}/roles");
        let request =
            Request::new(path).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        match self.client.request::<Value>(request).await {
            Ok(role) => Ok(Answer::Found(read(&role))),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                Ok(Answer::Missing(why_not(status.code, &status.message, namespace, name)))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a text can be the name of an object in a path.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    text.bytes().all(inner) && !text.starts_with('.') && !text.is_empty()
}

/// The kind is another controller's: what it lacks is taken for not there yet.
fn read(role: &Value) -> Role {
    let conditions = role.pointer("/status/conditions").and_then(Value::as_array);
    let is_true = |kind: &str| {
        let mut of_kind = conditions.into_iter().flatten().filter(|condition| {
            condition.get("type").and_then(Value::as_str) == Some(kind)
                && condition.get("status").and_then(Value::as_str) == Some("True")
        });
        of_kind.next().is_some()
    };
    let arn = role.pointer("/status/ackResourceMetadata/arn").and_then(Value::as_str);
    Role {
        is_going: role.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null()),
        is_terminal: is_true("ACK.Terminal"),
        is_synced: is_true("ACK.ResourceSynced"),
        arn: arn.filter(|arn| !arn.is_empty()).map(str::to_owned),
    }
}

fn why_not(code: u16, message: &str, namespace: &str, name: &str) -> String {
    if code == 403 {
        return format!("{message}: grant the operator's account to get {RESOURCE} in namespace {namespace}");
    }
    let missing = not_found(RESOURCE, name);
    // An API server that doesn't have the kind says so in other words than one that doesn't have the object.
    if message.contains(&missing) {
        format!("{missing} in namespace \"{namespace}\": create it, or correct spec.executionRoleRef")
    } else {
        format!(
            "{missing}: this cluster has no such kind; install ACK's controller of IAM, or set spec.executionRoleARN \
             instead"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Json;
    use axum::Router;
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_role_lacks_is_not_there_yet() {
        assert_eq!(read(&json!({})), Role::default());
        let role = read(&json!({
            "metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"},
            "status": {
                "ackResourceMetadata": {"arn": "arn:x"},
                "conditions": [{"type": "ACK.ResourceSynced", "status": "True"}, {"type": "ACK.Terminal", "status": "False"}, 7],
            },
        }));
        let expected =
            Role { is_going: true, is_terminal: false, is_synced: true, arn: Some("arn:x".into()) };
        assert_eq!(role, expected);
    }

    #[test]
    fn what_is_missing_is_told_with_a_remedy() {
        let object = "roles.iam.services.k8s.aws \"r\" not found";
        assert!(why_not(404, object, "a", "r").contains("create it, or correct"));
        let kind = why_not(404, "the server could not find the requested resource", "a", "r");
        assert!(kind.starts_with(object) && kind.contains("set spec.executionRoleARN instead"), "{kind}");
        assert!(
            why_not(403, "forbidden", "a", "r").contains("get roles.iam.services.k8s.aws in namespace a")
        );
        for name in ["", "..", "../../secrets", "a/b", "a?b", "A", "a%2f"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("emr-job.v2"));
    }

    #[tokio::test(start_paused = true)]
    async fn many_runs_ask_once_a_second() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let server = Router::new().fallback(move || {
            count.fetch_add(1, Ordering::Relaxed);
            async { (StatusCode::OK, Json(json!({"status": {"ackResourceMetadata": {"arn": "arn:x"}}}))) }
        });
        let roles = Roles::new(Client::new(server, "default"));
        for _ in 0..3 {
            for _ in 0..10 {
                let answer = roles.get("a", "r").await.unwrap();
                assert!(matches!(answer, Answer::Found(role) if role.arn.as_deref() == Some("arn:x")));
            }
            tokio::time::advance(timing::ROLE_ANSWER).await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert!(roles.get("a", "../x").await.is_ok_and(|answer| matches!(answer, Answer::Missing(_))));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
