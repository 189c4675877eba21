//! The HTTP surfaces: routes, and what every handler shares.
//!
//! A handler turns bytes into an [`crate::ask::Ask`] or a memory call and the result into bytes; it decides nothing.
//! Errors are [`Rescue`]s. One file a surface: `chat.rs` first.

mod admission;
mod asked;
pub(crate) mod body;
mod chat;
mod chunks;
mod completions;
mod decisions;
mod embeddings;
mod feedback;
mod generate;
mod health;
mod memory;
mod models;
mod outcome;
mod pinned;
mod responses;
mod route;
mod stream;
mod unread;

use crate::ask::{Ask, Caller, ModelChoice};
use crate::auth::{Identity, Refused};
use crate::choose::guardrail;
use crate::extension::Extension;
use crate::gateway::{Gateway, new_id};
use crate::grpc;
use crate::metrics::Metrics;
use crate::quota::Taken;
use crate::rescue::Rescue;
use crate::serving::Serving;
use admission::{Admission, Place};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
pub(crate) use chat::{recall_name, unix_seconds, usage};
pub(crate) use health::can_answer;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_plan::Scope;

/// What every handler can reach.
#[derive(Debug)]
pub(crate) struct Surfaces {
    gateway: Gateway,
    admission: Admission,
    metrics: Metrics,
}

/// Bodies that are types, for the document of the surface.
pub(crate) mod bodies {
    pub(crate) use super::embeddings::Wanted as Embeddings;
    pub(crate) use super::feedback::Given as Feedback;
    pub(crate) use super::generate::Wanted as Generate;
    pub(crate) use super::memory::{Edges, Nodes, Question};
}

type Shared = State<Arc<Surfaces>>;

/// All routes of a gateway on one port.
pub(crate) fn router(gateway: Gateway) -> Router {
    let surfaces = surfaces(gateway.clone());
    let routes = clients().get("/metrics", health::metrics);
    grpc::beside(finish(routes, surfaces), gateway)
}

/// The routes of clients, and those of who runs the gateway. Health stands on both: a probe asks where requests go.
pub(crate) fn routers(gateway: Gateway) -> (Router, Router) {
    let surfaces = surfaces(gateway.clone());
    (
        grpc::beside(finish(clients(), Arc::clone(&surfaces)), gateway),
        finish(operations(), surfaces),
    )
}

fn surfaces(gateway: Gateway) -> Arc<Surfaces> {
    let (admission, metrics) = (Admission::default(), Metrics::new());
    gateway.decisions().measured_by(metrics.steps());
    let surfaces = Arc::new(Surfaces {
        gateway,
        admission,
        metrics,
    });
    spawn_upkeep(&surfaces);
    spawn_issuer(&surfaces);
    surfaces
}

/// Routes with their names beside them, which axum does not tell: the document of the surface must have the same.
struct Routes {
    router: Router<Arc<Surfaces>>,
    served: Vec<(&'static str, &'static str)>,
}

impl Routes {
    fn new() -> Self {
        Self {
            router: Router::new(),
            served: Vec::new(),
        }
    }

    fn get<H: Handler<T, Arc<Surfaces>>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add("get", path, get(handler))
    }

    fn post<H: Handler<T, Arc<Surfaces>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add("post", path, post(handler))
    }

    fn delete<H: Handler<T, Arc<Surfaces>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add("delete", path, delete(handler))
    }

    fn add(
        mut self,
        method: &'static str,
        path: &'static str,
        handler: MethodRouter<Arc<Surfaces>>,
    ) -> Self {
        self.served.push((method, path));
        Self {
            router: self.router.route(path, handler),
            ..self
        }
    }
}

fn clients() -> Routes {
    Routes::new()
        .post("/v1/chat/completions", chat::complete)
        .post("/v1/completions", completions::complete)
        .post("/v1/responses", responses::respond)
        .get("/v1/models", models::list)
        .get("/v1/models/{model}", models::one)
        .post("/v1/embeddings", embeddings::embed)
        .post("/generate", generate::generate)
        .post("/v1/route", route::route)
        .post("/v1/memory/nodes", memory::write_nodes)
        .delete("/v1/memory/nodes/{id}", memory::delete_node)
        .post("/v1/memory/edges", memory::write_edges)
        .delete("/v1/memory/subjects/{subject}", memory::erase_subject)
        .post("/v1/memory/search", memory::search)
        .post("/v1/memory/attend", memory::attend)
        .post("/v1/feedback", feedback::take)
        .get("/v1/decisions/{id}", decisions::show)
        .get("/healthz", health::healthz)
        .get("/readyz", health::readyz)
}

fn operations() -> Routes {
    Routes::new()
        .get("/healthz", health::healthz)
        .get("/readyz", health::readyz)
        .get("/metrics", health::metrics)
}

/// Method and path of every route.
#[cfg(test)]
pub(crate) fn served() -> Vec<(&'static str, &'static str)> {
    [clients().served, operations().served].concat()
}

fn finish(routes: Routes, surfaces: Arc<Surfaces>) -> Router {
    routes
        .router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(Arc::clone(&surfaces), observe))
        .with_state(surfaces)
}

impl Surfaces {
    /// Who asks. A token that opens nothing is counted.
    async fn identity(&self, serving: &Serving, headers: &HeaderMap) -> Result<Identity, Rescue> {
        let found = self.gateway.identity(serving, headers).await;
        if let Err(Refused::Token(error)) = found {
            self.metrics.token_refused(error);
        }
        Ok(found?)
    }

    /// Who asks, refused unless the key has the scope.
    async fn identify(
        &self,
        serving: &Serving,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Identity, Rescue> {
        let identity = self.identity(serving, headers).await?;
        Ok(identity.require(scope)?)
    }

    /// The same where one of several scopes is enough.
    async fn identify_any(
        &self,
        serving: &Serving,
        headers: &HeaderMap,
        scopes: &[Scope],
    ) -> Result<Identity, Rescue> {
        let identity = self.identity(serving, headers).await?;
        let has_one = scopes.iter().copied().find(|scope| identity.has(*scope));
        Ok(identity.require(has_one.unwrap_or(scopes[0]))?)
    }

    /// A place among the requests in flight, kept until the last byte has left.
    async fn enter(
        &self,
        serving: &Serving,
        tenant: &str,
        deadline: Instant,
    ) -> Result<Place, Rescue> {
        let limits = &serving.plan.limits;
        self.admission.enter(tenant, limits, deadline).await
    }

    /// The same for what a model is asked: it is taken out of the tenant's budget before it waits, and marked where that is used
    /// up and the smallest model answers.
    async fn enter_to_ask(
        &self,
        serving: &Serving,
        ask: &mut Ask,
        deadline: Instant,
    ) -> Result<Place, Rescue> {
        let (plan, tenant) = (&serving.plan, &ask.caller.tenant);
        let ruled = guardrail(&plan.guardrails, ask.weir.domain.as_deref()).is_some();
        let may_degrade = ask.model == ModelChoice::Auto && !ruled;
        let limits = (tenant.as_str(), plan.tenants.get(tenant));
        let quotas = self.gateway.quotas();
        let taken = quotas.take(limits, may_degrade, Instant::now());
        let taken = taken.inspect_err(|over| self.metrics.over_budget(over.kind))?;
        ask.over_budget = taken == Taken::Beyond;
        self.enter(serving, &ask.caller.tenant, deadline).await
    }
}

/// The caller as the request's flow sees it.
fn caller(identity: Identity, headers: &HeaderMap) -> Caller {
    let text = |name: &HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    Caller {
        tenant: identity.tenant,
        request_id: text(&REQUEST_ID).unwrap_or_default(),
        traceparent: text(&TRACEPARENT),
        key_id: identity.key_id,
    }
}

/// Weir's per-request settings from the `x-weir-*` headers. A value that is not ASCII is read like any other: skipped, it
/// would let a request travel further than it says.
fn extension(headers: &HeaderMap) -> Result<Extension, Rescue> {
    let ours = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-weir-"));
    let texts: Vec<_> = ours
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    if texts.is_empty() {
        return Ok(Extension::default());
    }
    let pairs = texts.iter().map(|(name, text)| (*name, text.as_ref()));
    Ok(Extension::from_headers(pairs)?)
}

/// Seconds since the plan that serves came, in the header that every answer carries.
fn plan_age(serving: &Serving) -> HeaderValue {
    HeaderValue::from(serving.since.elapsed().as_secs())
}

/// Keeps the metrics' memory bounded while nobody scrapes; ends with the routes.
fn spawn_upkeep(surfaces: &Arc<Surfaces>) {
    let surfaces = Arc::downgrade(surfaces);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            match surfaces.upgrade() {
                Some(surfaces) => surfaces.metrics.upkeep(),
                None => return,
            }
        }
    });
}

/// Keeps the keys of the plan's issuer fresh; ends with the routes.
fn spawn_issuer(surfaces: &Arc<Surfaces>) {
    let issuer = surfaces.gateway.issuer().clone();
    let surfaces = Arc::downgrade(surfaces);
    tokio::spawn(async move {
        while surfaces.strong_count() > 0 {
            issuer.upkeep(UPKEEP).await;
        }
    });
}

const UPKEEP: Duration = Duration::from_secs(10);
/// Of the trace that a request is a part of (W3C Trace Context).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Stands on every answer while the operator does not confirm the plan.
static PLAN_STALE: HeaderName = HeaderName::from_static("x-weir-plan-stale");
/// Longest request id that is taken over from a client.
const REQUEST_ID_MAX: usize = 128;

/// Names the request, counts it, and times it until its head is there.
async fn observe(
    State(surfaces): Shared,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| id.len() <= REQUEST_ID_MAX)
        .cloned();
    let id = id.or_else(|| HeaderValue::try_from(new_id()).ok());
    if let Some(id) = &id {
        request.headers_mut().insert(&REQUEST_ID, id.clone());
    }
    let version = request.version();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(id) = id {
        headers.insert(&REQUEST_ID, id);
    }
    if surfaces.gateway.is_stale() {
        headers.insert(&PLAN_STALE, HeaderValue::from_static("true"));
    }
    // A client that keeps its connection would find it closed in the middle of its next request.
    if surfaces.gateway.is_draining() && version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if version >= Version::HTTP_2 && is_event_stream(&response) {
        let limit = surfaces.gateway.serving().plan.limits.request_timeout_ms;
        let patience = Duration::from_millis(limit);
        response = response.map(|body| unread::given_up_after(patience, body));
    }
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    surfaces
        .metrics
        .responded(path, response.status(), started.elapsed());
    response
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

async fn unknown_path(request: Request) -> Response {
    if let Some(refused) = grpc::unknown(request.headers()) {
        return refused;
    }
    let shown: String = request.uri().path().chars().take(80).collect();
    Rescue::not_found(&format!("the path {shown:?}")).into_response()
}

async fn unknown_method(request: Request) -> Response {
    let message = format!("{} is not served at this path", request.method());
    Rescue::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_ascii_is_read_or_refused_and_never_skipped() {
        let sent = |name: &'static str, value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            extension(&HeaderMap::from_iter([(name.parse().unwrap(), value)]))
        };
        let read = sent("x-weir-domain", "médecine".as_bytes()).unwrap();
        assert_eq!(read.domain.as_deref(), Some("médecine"));
        assert!(sent("x-weir-privacy", b"local\xa0").is_err());
    }
}
