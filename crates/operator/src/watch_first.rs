//! The first list after a start: the objects that may need a pass, before the list of all of them.
//!
//! Tens of thousands of runs that have ended take the API server many seconds to list, and a run that is to be started must
//! not wait behind them. Must not be needed: where the definition in the cluster has no such selectable field (upstream's
//! has none) or anything goes wrong, there is no first list. Invariant: what it yields is a whole list or nothing.

use futures::{Stream, StreamExt, stream};
use kube::api::{Api, ListParams};
use kube_runtime::watcher::{self, Event};
use tracing::debug;

use crate::decode::Decoded;
use crate::watch::Watched;

/// Lists what [`Watched::UNSETTLED`] selects, as the events of a list; nothing if that can't be done.
pub fn unsettled<K: Watched>(
    api: Api<Decoded<K>>,
    config: &watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<Decoded<K>>>> + Send + use<K> {
    let params = K::UNSETTLED.map(|fields| ListParams {
        label_selector: config.label_selector.clone(),
        field_selector: Some(fields.to_owned()),
        limit: config.page_size,
        ..ListParams::default()
    });
    stream::once(async move {
        let objects = match params {
            Some(params) => pages(&api, params).await,
            None => None,
        };
        let whole = objects.map(|objects| {
            let applied = objects.into_iter().map(Event::InitApply);
            std::iter::once(Event::Init).chain(applied).chain(std::iter::once(Event::InitDone)).map(Ok)
        });
        stream::iter(whole.into_iter().flatten())
    })
    .flatten()
}

async fn pages<K: Watched>(api: &Api<Decoded<K>>, mut params: ListParams) -> Option<Vec<Decoded<K>>> {
    let mut objects = Vec::new();
    loop {
        let page = api.list(&params).await.inspect_err(|error| {
            debug!(kind = K::KIND.as_str(), %error, "no first list of what is unsettled");
        });
        let page = page.ok()?;
        objects.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Some(objects);
        }
    }
}
