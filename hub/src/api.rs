//! The HTTP API: one table of routes, what each asks of whoever calls it, and what happens around every request.
//!
//! ```text
//! request ─► request id ─► answer counted, headers ─► the route's access ─► handler
//! ```
//!
//! Laws:
//! 1. A route exists by being in [`table`], and nowhere else: with its access, its documentation, its handler.
//! 2. An error is JSON with code, message and request id, whatever went wrong.
//! 3. A write by a browser comes from our own page, or it is refused.

mod actions;
mod agent_providers;
mod audit;
mod auth;
mod body;
mod error;
mod layout;
mod legacy;
mod nodes;
mod ops;
mod page;
mod retention;
mod sessions;
mod sse;
mod terminal;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use bus_schema::{SessionId, WorkspaceId};
use hub_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ulid::Ulid;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::actions::{Actions, Asker};
use crate::agent_providers::AgentProviders;
use crate::audit::{Audit, Deed};
use crate::authn::{Authn, Principal, cookie};
use crate::bus::Bus;
use crate::journal::Journal;
use crate::live::Live;
use crate::metrics::{Answer, Metrics};
use crate::policy::{Access, Role};
use crate::retention::Retention;
use error::ApiError;

/// Everything that handlers need.
pub struct App {
    /// The bus.
    pub bus: Bus,
    /// The store.
    pub store: Store,
    /// The live path.
    pub live: Arc<Live>,
    /// The hub's own records.
    pub journal: Arc<Journal>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// Who is who.
    pub authn: Arc<Authn>,
    /// What operators do.
    pub actions: Arc<Actions>,
    /// What is set up for runtimes.
    pub agent_providers: Arc<AgentProviders>,
    /// How long messages are kept.
    pub retention: Arc<Retention>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends open streams.
    pub stop: CancellationToken,
    /// Owns what outlives its request.
    pub tasks: TaskTracker,
    /// True once the people of the configuration are there.
    pub people: watch::Receiver<bool>,
}

/// State of every handler.
pub type Shared = Arc<App>;

/// A route, with what it asks of whoever calls it.
pub struct Route {
    /// Its pattern, such as `/agents/{id}/kill`.
    pub path: String,
    /// Its methods.
    pub methods: Vec<Method>,
    /// Who gets in.
    pub access: Access,
    docs: (Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>, utoipa::openapi::path::Paths),
    router: MethodRouter<Shared>,
}

fn route(access: Access, (schemas, paths, router): UtoipaMethodRouter<Shared>) -> Route {
    let (path, item) = paths.paths.iter().next().map(|(p, i)| (p.clone(), i.clone())).unwrap_or_default();
    Route { path, methods: methods(&item), access, docs: (schemas, paths), router }
}

fn methods(item: &PathItem) -> Vec<Method> {
    let all = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
    ];
    all.into_iter().filter(|(_, operation)| operation.is_some()).map(|(method, _)| method).collect()
}

/// Every route of the API.
pub fn table() -> Vec<Route> {
    let public = |r| route(Access::Public, r);
    let signed_in = |r| route(Access::SignedIn, r);
    let observer = |r| route(Access::AtLeast(Role::Observer), r);
    let operator = |r| route(Access::AtLeast(Role::Operator), r);
    let admin = |r| route(Access::AtLeast(Role::Admin), r);
    vec![
        public(routes!(ops::healthz)),
        public(routes!(ops::readyz)),
        public(routes!(ops::metrics)),
        public(routes!(ops::openapi)),
        public(routes!(auth::login)),
        signed_in(routes!(auth::logout)),
        signed_in(routes!(auth::me)),
        observer(routes!(sessions::list)),
        operator(routes!(sessions::spawn)),
        observer(routes!(sessions::get)),
        observer(routes!(sessions::messages)),
        observer(routes!(sessions::tree)),
        observer(routes!(sse::stream)),
        observer(routes!(sse::session_stream)),
        operator(routes!(actions::inject)),
        operator(routes!(actions::answer)),
        operator(routes!(actions::pause)),
        operator(routes!(actions::resume)),
        operator(routes!(actions::terminate)),
        operator(routes!(actions::kill)),
        operator(routes!(actions::kill_all)),
        observer(routes!(terminal::stream)),
        operator(routes!(terminal::input)),
        operator(routes!(terminal::resize)),
        observer(routes!(layout::get)),
        observer(routes!(layout::put)),
        observer(routes!(audit::list)),
        admin(routes!(audit::export)),
        admin(routes!(ops::parked)),
        admin(routes!(retention::get)),
        admin(routes!(retention::put)),
        observer(routes!(retention::get_hold)),
        admin(routes!(retention::put_hold)),
        observer(routes!(nodes::list)),
        observer(routes!(agent_providers::list)),
        admin(routes!(agent_providers::create)),
        admin(routes!(agent_providers::test)),
        admin(routes!(agent_providers::update)),
        admin(routes!(agent_providers::delete)),
        admin(routes!(agent_providers::test_kept)),
        observer(routes!(legacy::agents)),
        observer(routes!(legacy::tree)),
        observer(routes!(legacy::events)),
        observer(routes!(legacy::messages)),
        observer(routes!(legacy::messages_stream)),
        operator(routes!(legacy::inject)),
        operator(routes!(legacy::pause)),
        operator(routes!(legacy::resume)),
        operator(routes!(legacy::kill)),
        operator(routes!(legacy::kill_all)),
    ]
}

/// The OpenAPI document of [`table`].
pub fn openapi() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Mosaic Mesh")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("API of the hub. Errors are `{\"error\":{\"code\",\"message\",\"requestId\"}}`."))
        .build();
    let mut api = OpenApiBuilder::new().info(info).build();
    let mut schemas = std::collections::BTreeMap::new();
    for route in table() {
        let (more, paths) = route.docs;
        schemas.extend(more);
        for (path, mut item) in paths.paths {
            let access = match route.access {
                Access::Public => "Public.".to_owned(),
                Access::SignedIn => "Needs a signed-in user.".to_owned(),
                Access::AtLeast(role) => format!("Needs the role {role}."),
            };
            let operations = [
                ("get", &mut item.get),
                ("put", &mut item.put),
                ("post", &mut item.post),
                ("delete", &mut item.delete),
                ("patch", &mut item.patch),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                operation.operation_id = Some(operation_id(method, &path));
                let said = operation.description.take().unwrap_or_default();
                operation.description = Some(format!("{said}\n\n{access}").trim().to_owned());
            }
            match api.paths.paths.get_mut(&path) {
                Some(known) => known.merge_operations(item),
                None => drop(api.paths.paths.insert(path, item)),
            }
        }
    }
    let components = api.components.get_or_insert_default();
    components.schemas.extend(schemas);
    let error = <error::ErrorBody as utoipa::PartialSchema>::schema();
    components.schemas.insert("ErrorBody".into(), error);
    let detail = <error::ErrorDetail as utoipa::PartialSchema>::schema();
    components.schemas.insert("ErrorDetail".into(), detail);
    sse::add_event_schemas(components);
    api
}

/// `post` and `/api/mission-control/sessions/{id}/kill` give `postMissionControlSessionsIdKill`: unique, as the paths
/// are.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.trim_start_matches("/api").split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    words.fold(method.to_owned(), |id, word| id + &capital(word))
}

/// The whole server.
pub fn router(app: Shared) -> Router {
    let mut router = Router::new();
    for route in table() {
        let guard = from_fn_with_state((Arc::clone(&app), route.access), guard);
        router = router.route(&route.path, route.router.route_layer(guard));
    }
    let router = router.merge(page::router()).fallback(page::fallback).method_not_allowed_fallback(error::wrong_method);
    router.layer(from_fn_with_state(Arc::clone(&app), around)).with_state(app)
}

/// The id of a request, for the logs of both sides.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Around every request: its id, the counter, headers, and errors as JSON with the id.
async fn around(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get("x-request-id").and_then(|v| v.to_str().ok());
    let id = given.filter(|id| WorkspaceId::new(id).is_ok()).map_or_else(|| Ulid::new().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = request.extensions().get::<MatchedPath>().map_or("none", |p| p.as_str()).to_owned();
    let method = request.method().clone();
    let begun = std::time::Instant::now();
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if error.status().is_server_error() {
            tracing::warn!(request_id = id, %method, route, code = error.code(), detail = error.detail(), "request failed");
        }
        response = error.render(&id);
    }
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(request_id = id, %method, route, status = response.status().as_u16(), millis, "request");
    app.metrics.answers.get_or_create(&Answer { route, status: response.status().as_u16() }).inc();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Before every handler of a route: who is it, may they, and does a browser's write come from our own page.
async fn guard(State((app, access)): State<(Shared, Access)>, mut request: Request, next: Next) -> Response {
    let write = !matches!(*request.method(), Method::GET | Method::HEAD);
    let asked = Asked::of(&request);
    match admit(&app, access, write, request.headers().clone()).await {
        Ok(None) => next.run(request).await,
        Ok(Some(principal)) => {
            let asker = Asker { principal, request_id: asked.request_id.clone() };
            request.extensions_mut().insert(asker.clone());
            let response = next.run(request).await;
            if let Some(error) = response.extensions().get::<ApiError>() {
                note_refusal(&app, &asker, &asked, error).await;
            }
            response
        }
        Err(Turned { error, away: None }) => error.into_response(),
        Err(Turned { error, away: Some(principal) }) => {
            let asker = Asker { principal: *principal, request_id: asked.request_id.clone() };
            note_refusal(&app, &asker, &asked, &error).await;
            error.into_response()
        }
    }
}

/// What a request asked for, for the audit log.
struct Asked {
    request_id: String,
    method: String,
    route: String,
    session: Option<SessionId>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let of = request.extensions();
        let mut words = request.uri().path().split('/');
        Self {
            request_id: of.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
            method: request.method().to_string(),
            route: of.get::<MatchedPath>().map_or("none", |p| p.as_str()).to_owned(),
            session: words.find_map(|word| SessionId::new(word).ok()),
        }
    }
}

/// Somebody was turned away; who, where that is known.
struct Turned {
    error: ApiError,
    away: Option<Box<Principal>>,
}

impl<E: Into<ApiError>> From<E> for Turned {
    fn from(error: E) -> Self {
        Self { error: error.into(), away: None }
    }
}

/// What somebody may not do (403), or not so often (429), is written down.
async fn note_refusal(app: &App, asker: &Asker, asked: &Asked, error: &ApiError) {
    let status = error.status();
    if !matches!(status, axum::http::StatusCode::FORBIDDEN | axum::http::StatusCode::TOO_MANY_REQUESTS) {
        return;
    }
    let mut deed = Deed::by(asker, "refused")
        .with("method", asked.method.as_str())
        .with("route", asked.route.as_str())
        .with("status", status.as_u16())
        .with("code", error.code());
    deed.session_id = asked.session.clone();
    app.audit.refused(deed, error.message()).await;
}

async fn admit(app: &App, access: Access, write: bool, headers: HeaderMap) -> Result<Option<Principal>, Turned> {
    if write {
        same_site(&headers)?;
    }
    if access == Access::Public {
        return Ok(None);
    }
    let token = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).find_map(cookie);
    let principal = match token {
        Some(token) => app.authn.recognise(token).await?,
        None => None,
    };
    let Some(principal) = principal else {
        return Err(ApiError::unauthenticated().into());
    };
    if let Some(workspace) = headers.get("x-workspace")
        && workspace.to_str().ok() != Some(principal.workspace.as_str())
    {
        let text = "there is no such workspace here, or you have no role in it";
        return Err(ApiError::new(axum::http::StatusCode::NOT_FOUND, "unknownWorkspace", text).into());
    }
    if !access.admits(Some(principal.role)) {
        return Err(Turned { error: ApiError::forbidden(principal.role), away: Some(Box::new(principal)) });
    }
    Ok(Some(principal))
}

/// A browser says where a request comes from; what is not a browser says nothing.
fn same_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let foreign = match text("sec-fetch-site") {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => match (text("origin"), text("host")) {
            (Some(origin), Some(host)) => origin.split_once("://").map(|(_, h)| h) != Some(host),
            (Some(_), None) => true,
            (None, _) => false,
        },
    };
    if foreign { Err(ApiError::cross_site()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn writes_from_other_sites_are_refused() {
        assert!(same_site(&headers(&[])).is_ok(), "a script");
        assert!(same_site(&headers(&[("sec-fetch-site", "same-origin")])).is_ok());
        assert!(same_site(&headers(&[("origin", "http://hub:7420"), ("host", "hub:7420")])).is_ok());
        for foreign in [
            headers(&[("sec-fetch-site", "cross-site")]),
            headers(&[("sec-fetch-site", "same-site")]),
            headers(&[("origin", "http://evil"), ("host", "hub:7420")]),
            headers(&[("origin", "null"), ("host", "hub:7420")]),
        ] {
            assert!(same_site(&foreign).is_err(), "{foreign:?}");
        }
    }

    #[test]
    fn each_route_is_in_the_table_once() {
        let mut seen = std::collections::BTreeSet::new();
        for route in table() {
            assert!(!route.methods.is_empty(), "{} has no method", route.path);
            for method in &route.methods {
                assert!(seen.insert((route.path.clone(), method.to_string())), "{method} {} twice", route.path);
            }
        }
    }

    #[test]
    fn no_route_changes_the_audit_log() {
        for route in table().into_iter().filter(|r| r.path.contains("audit")) {
            assert_eq!(route.methods, [Method::GET], "{}", route.path);
        }
    }

    #[test]
    fn every_write_asks_for_a_role() {
        let free = ["/api/auth/login", "/api/auth/logout", "/api/mission-control/layout"];
        for route in table().into_iter().filter(|r| r.methods.iter().any(|m| *m != Method::GET)) {
            let needs_operator = !Access::admits(route.access, Some(Role::Observer));
            assert!(needs_operator || free.contains(&route.path.as_str()), "{} is open to observers", route.path);
        }
    }

    #[test]
    fn the_document_has_every_route() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for route in table() {
            for method in &route.methods {
                let operation = &document["paths"][&route.path][method.as_str().to_lowercase()];
                assert!(operation.is_object(), "{method} {}", route.path);
                assert!(operation["summary"].is_string(), "{method} {} says nothing of itself", route.path);
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            }
        }
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at + 21..].split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name} is named and not there");
        }
    }
}
