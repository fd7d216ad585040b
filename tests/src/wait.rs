//! Waits for a condition with a deadline; when the deadline passes, says what was seen last.
//!
//! Must not: sleep without looking. Invariant: every wait ends.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use kube::{Api, Resource};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::watch_object;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

/// The first pause between two looks; each one is half as long again, up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Long enough to leave two busy cores alone, short enough that no test waits noticeably longer than it must.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Looks again and again until `look` returns `Ok(Some(_))` or the deadline passes.
///
/// `Ok(None)` and `Err(_)` both mean "not yet". An error's text is what the message shows as last seen, so
/// `bail!("state is {state}")` in `look` makes a time-out readable.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = SHORTEST_PAUSE;
    let mut last = "nothing yet".to_owned();
    loop {
        match tokio::time::timeout_at(end, look()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => last = format!("{last} (the last look itself did not end)"),
        }
        if Instant::now() + pause >= end {
            return Err(anyhow!("{what}: not within {deadline:?}; last seen: {last}"));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Watches one object until `pick` returns something; `None` is passed while the object doesn't exist.
pub async fn object<K, T>(
    api: Api<K>,
    name: &str,
    deadline: Duration,
    what: &str,
    mut pick: impl FnMut(Option<&K>) -> Option<T>,
) -> Result<T>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let mut last = "nothing yet".to_owned();
    let watched = async {
        let mut stream = pin!(watch_object(api, name).default_backoff());
        while let Some(event) = stream.next().await {
            match event {
                Ok(object) => {
                    if let Some(found) = pick(object.as_ref()) {
                        return Some(found);
                    }
                    last = object.map_or_else(|| "it does not exist".to_owned(), |object| describe(&object));
                }
                Err(error) => last = format!("{error:#}"),
            }
        }
        None
    };
    let ended = timeout(deadline, watched).await;
    match ended {
        Ok(Some(found)) => Ok(found),
        Ok(None) | Err(_) => Err(anyhow!("{what} ({name}): not within {deadline:?}; last seen: {last}")),
    }
}

/// Waits until an object is gone.
pub async fn deleted<K>(api: Api<K>, name: &str, deadline: Duration) -> Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    object(api, name, deadline, "should be deleted", |object| object.is_none().then_some(())).await
}

/// Asks `url` until it answers 200; `alive` fails early when the server has ended.
pub async fn http_ok(
    url: &str,
    deadline: Duration,
    what: &str,
    alive: impl Fn() -> Result<()>,
) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let ready = eventually(deadline, what, async || {
        if let Err(ended) = alive() {
            return Ok(Some(Err(ended)));
        }
        let response = client.get(url).send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(Some(Ok(())));
        }
        Err(anyhow!("{url} answers {status}: {}", response.text().await.context("no body")?.trim()))
    });
    ready.await?
}

/// Status if there is one, else the whole object, and the marks of a deletion.
fn describe<K: Resource + Serialize>(object: &K) -> String {
    let json = serde_json::to_value(object).unwrap_or_default();
    let meta = object.meta();
    let shown = json.get("status").unwrap_or(&json);
    match &meta.deletion_timestamp {
        Some(since) => format!("{shown}, deleted at {since:?} with finalizers {:?}", meta.finalizers),
        None => shown.to_string(),
    }
}
