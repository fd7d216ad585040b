//! The API's URIs, and replies on their way out.
//!
//! Must not decide anything: it reads a call, asks `service`, and carries the delivery out.
//! Invariant: a lost reply closes its connection without a byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, post};
use serde_json::json;

use crate::caller::{self, Credential};
use crate::error::ApiError;
use crate::operation::Operation;
use crate::paging::Query;
use crate::service::{Call, Delivery, Reply, Service};
use crate::sts;

/// More than any request that the API's own limits allow to make sense.
const BODY_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Marks a response that must not be sent; `server` closes the connection instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoReply;

type Params = Result<RawPathParams, RawPathParamsRejection>;

/// The API's routes.
pub(crate) fn api() -> Router<Arc<Service>> {
    use Operation as O;
    const GET: MethodFilter = MethodFilter::GET;
    const POST: MethodFilter = MethodFilter::POST;
    const PATCH: MethodFilter = MethodFilter::PATCH;
    const DELETE: MethodFilter = MethodFilter::DELETE;
    let cluster = "/virtualclusters/{virtualClusterId}";
    Router::new()
        .route("/", post(query_protocol))
        .route("/virtualclusters", on(POST, O::CreateVirtualCluster).merge(on(GET, O::ListVirtualClusters)))
        .route(
            cluster,
            on(GET, O::DescribeVirtualCluster)
                .merge(on(PATCH, O::UpdateVirtualCluster))
                .merge(on(DELETE, O::DeleteVirtualCluster)),
        )
        .route(&format!("{cluster}/jobruns"), on(POST, O::StartJobRun).merge(on(GET, O::ListJobRuns)))
        .route(
            &format!("{cluster}/jobruns/{{id}}"),
            on(GET, O::DescribeJobRun).merge(on(DELETE, O::CancelJobRun)),
        )
        .route(
            &format!("{cluster}/endpoints"),
            on(POST, O::CreateManagedEndpoint).merge(on(GET, O::ListManagedEndpoints)),
        )
        .route(
            &format!("{cluster}/endpoints/{{id}}"),
            on(GET, O::DescribeManagedEndpoint).merge(on(DELETE, O::DeleteManagedEndpoint)),
        )
        .route(
            &format!("{cluster}/endpoints/{{id}}/credentials"),
            on(POST, O::GetManagedEndpointSessionCredentials),
        )
        .route("/jobtemplates", on(POST, O::CreateJobTemplate).merge(on(GET, O::ListJobTemplates)))
        .route("/jobtemplates/{id}", on(GET, O::DescribeJobTemplate).merge(on(DELETE, O::DeleteJobTemplate)))
        .route(
            "/securityconfigurations",
            on(POST, O::CreateSecurityConfiguration).merge(on(GET, O::ListSecurityConfigurations)),
        )
        .route(
            "/securityconfigurations/{id}",
            on(GET, O::DescribeSecurityConfiguration).merge(on(DELETE, O::DeleteSecurityConfiguration)),
        )
        .route(
            "/tags/{*id}",
            on(POST, O::TagResource)
                .merge(on(DELETE, O::UntagResource))
                .merge(on(GET, O::ListTagsForResource)),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
}

fn on(filter: MethodFilter, operation: Operation) -> MethodRouter<Arc<Service>> {
    axum::routing::on(
        filter,
        async move |State(service): State<Arc<Service>>, params: Params, request: Request| {
            let params = match params {
                Ok(params) => params,
                Err(rejection) => {
                    let error = ApiError::serialization(format!("the URI can't be read: {rejection}"));
                    return respond(operation, &Err(error), "");
                }
            };
            let mut call = match read(operation, request).await {
                Ok(call) => call,
                Err(error) => return respond(operation, &Err(error), ""),
            };
            for (name, value) in &params {
                let slot = if name == "virtualClusterId" { &mut call.cluster } else { &mut call.id };
                *slot = Some(value.to_owned());
            }
            deliver(&service, &call).await
        },
    )
}

/// STS is told apart by the form's `Action`.
async fn query_protocol(State(service): State<Arc<Service>>, request: Request) -> Response {
    let mut call = match read(Operation::GetCallerIdentity, request).await {
        Ok(call) => call,
        Err(error) => return respond(Operation::GetCallerIdentity, &Err(error), ""),
    };
    let action = form_urlencoded::parse(&call.body).find(|(key, _)| key == "Action");
    let operation = action.and_then(|(_, name)| Operation::parse(&name)).filter(|found| found.is_sts());
    let Some(operation) = operation else {
        let error = ApiError::new(400, "InvalidAction", "the simulator does not know this action");
        return respond(Operation::GetCallerIdentity, &Err(error), "");
    };
    call.operation = operation;
    deliver(&service, &call).await
}

async fn unknown(request: Request) -> Response {
    let message = format!("no operation has the URI {} {}", request.method(), request.uri());
    let error = ApiError::new(404, "UnknownOperationException", message);
    respond(Operation::ListVirtualClusters, &Err(error), "")
}

async fn read(operation: Operation, request: Request) -> Result<Call, ApiError> {
    let (parts, body) = request.into_parts();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let body = axum::body::to_bytes(body, BODY_LIMIT_BYTES)
        .await
        .map_err(|error| ApiError::new(413, "RequestEntityTooLargeException", error.to_string()))?;
    Ok(Call {
        operation,
        credential: Credential::parse(header(header::AUTHORIZATION)),
        cluster: None,
        id: None,
        query: Query(query.into_owned().collect()),
        uri: parts.uri.to_string(),
        body,
        user_agent: header(header::USER_AGENT).map(str::to_owned),
        signed_at: caller::signed_at(parts.headers.get("x-amz-date").and_then(|date| date.to_str().ok())),
    })
}

/// Counts a held reply for as long as somebody waits for it.
struct Held<'a>(&'a AtomicUsize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn deliver(service: &Service, call: &Call) -> Response {
    // Subscribed before the decision, so that a release right after it is seen.
    let mut released = service.released.subscribe();
    let answer = service.answer(call);
    let response = respond(call.operation, &answer.reply, &answer.request_id);
    match answer.delivery {
        Delivery::Hang if answer.delay.is_zero() => std::future::pending().await,
        Delivery::Hold => {
            service.held.fetch_add(1, Ordering::SeqCst);
            let _held = Held(&service.held);
            // The sender lives as long as the service, which is borrowed here.
            let _ = released.changed().await;
        }
        Delivery::Hang | Delivery::Send | Delivery::Lose => {}
    }
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    if matches!(answer.delivery, Delivery::Lose | Delivery::Hang) {
        let mut closed = Response::new(Body::empty());
        closed.extensions_mut().insert(NoReply);
        return closed;
    }
    response
}

/// Writes a reply as the operation's protocol does.
fn respond(operation: Operation, reply: &Reply, request_id: &str) -> Response {
    let xml = operation.is_sts();
    let mut headers = HeaderMap::new();
    let content_type = if xml { "text/xml" } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-amzn-requestid", value);
    }
    let (status, body) = match reply {
        Ok(body) => (StatusCode::OK, body.clone()),
        Err(error) => {
            if !error.code.is_empty()
                && let Ok(value) = HeaderValue::from_str(&error.code)
            {
                headers.insert("x-amzn-errortype", value);
            }
            let body = if xml {
                sts::error_body(error)
            } else if error.code.is_empty() {
                Vec::new()
            } else {
                json!({ "message": error.message }).to_string().into_bytes()
            };
            (StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST), body)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
