//! The connection to the API server: every request on it is counted, and none waits for ever.
//!
//! Must not change a request or an answer. Invariants: a request that ends is counted once, however it ends; a connection
//! that falls silent is given up, whatever waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{Layer, Service};

use crate::metrics::Metrics;
use crate::timing;

/// Connects to the API server of a configuration.
///
/// # Errors
/// When the configuration can't be used, because of its certificates for example.
pub fn client(mut config: Config, metrics: Metrics) -> Result<Client, kube::Error> {
    if config.read_timeout.is_none() {
        config.read_timeout = Some(timing::API_SILENCE);
        // The time counts from a request on, and not from when its connection was used before.
        config.reset_reader_on_write = true;
    }
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let counted = Counted { metrics, host: Arc::new(host) };
    Ok(ClientBuilder::try_from(config)?.with_layer(&counted).build())
}

#[derive(Clone)]
struct Counted {
    metrics: Metrics,
    host: Arc<String>,
}

impl<S> Layer<S> for Counted {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting { inner, counted: self.clone() }
    }
}

struct Counting<S> {
    inner: S,
    counted: Counted,
}

impl<S, B> Service<Request<Body>> for Counting<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Counted { metrics, host } = self.counted.clone();
        let method = request.method().clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            metrics.api_request(&method, host, code);
            answer
        })
    }
}
