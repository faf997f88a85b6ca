//! The HTTP API: one table of routes, what each asks of whoever calls it, and what happens around every request.
//!
//! ```text
//! request ─► what is around every one (around.rs) ─► its workspace ─► the route's access ─► handler
//! ```
//!
//! Laws:
//! 1. A route exists by being in [`table`], and nowhere else: with its access, its documentation, its handler.
//! 2. An error is JSON with code, message and request id, whatever went wrong.
//! 3. A write by a browser comes from our own page, or it is refused. A script with a token is no browser.

mod actions;
mod agent_providers;
mod around;
mod audit;
mod auth;
mod body;
mod control;
mod deeds;
mod document;
mod error;
mod invitations;
mod layout;
mod legacy;
mod nodes;
mod oidc;
mod ops;
mod page;
mod recording;
mod retention;
mod search;
mod sessions;
mod sse;
mod terminal;
mod tokens;
mod undelivered;
mod users;
mod workspaces;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::AsHeaderName;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use bus_schema::{Actor, SessionId};
use hub_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::openapi::path::PathItem;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::actions::kill_all::KillAll;
use crate::actions::{Actions, Asker};
use crate::agent_providers::AgentProviders;
use crate::audit::{Audit, Deed};
use crate::authn::{Authn, COOKIE, Oidc, Principal, SECURE_COOKIE, Shown, cookie};
use crate::bus::Bus;
use crate::control::Control;
use crate::enrolment::Enrolment;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::policy::{Access, Role};
use crate::retention::Retention;
pub use around::RequestId;
pub use document::openapi;
use error::ApiError;
pub use workspaces::{Workspaces, router};

/// Everything that handlers need, in one workspace.
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
    /// Services that people sign in with.
    pub oidc: Arc<Oidc>,
    /// How much anybody may ask for.
    pub limits: Arc<Limits>,
    /// Scheme and host of the hub as browsers see it.
    pub public_url: Option<String>,
    /// True if the hub itself shakes hands.
    pub tls: bool,
    /// Proxies before the hub that are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// What operators do.
    pub actions: Arc<Actions>,
    /// What they do to all at once.
    pub kill_all: Arc<KillAll>,
    /// What is set up for runtimes.
    pub agent_providers: Arc<AgentProviders>,
    /// Who may be a node.
    pub enrolment: Arc<Enrolment>,
    /// How long messages are kept.
    pub retention: Arc<Retention>,
    /// Who may act on a session at this moment.
    pub control: Arc<Control>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends open streams.
    pub stop: CancellationToken,
    /// Owns what outlives its request.
    pub tasks: TaskTracker,
    /// True once the people of the configuration are there.
    pub people: watch::Receiver<bool>,
    /// All workspaces of the hub, this one among them.
    pub workspaces: Arc<Workspaces>,
}

impl App {
    /// Whether browsers reach the hub over TLS.
    pub fn is_https(&self) -> bool {
        self.public_url.as_ref().map_or(self.tls, |url| url.starts_with("https://"))
    }

    /// Name of the cookie.
    pub fn cookie(&self) -> &'static str {
        if self.is_https() { SECURE_COOKIE } else { COOKIE }
    }
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
    let in_person = |r| route(Access::InPerson, r);
    let observer = |r| route(Access::AtLeast(Role::Observer), r);
    let operator = |r| route(Access::AtLeast(Role::Operator), r);
    let admin = |r| route(Access::AtLeast(Role::Admin), r);
    vec![
        public(routes!(ops::healthz)),
        public(routes!(ops::readyz)),
        public(routes!(ops::metrics)),
        public(routes!(ops::openapi)),
        public(routes!(auth::login)),
        public(routes!(oidc::list)),
        public(routes!(oidc::begin)),
        public(routes!(oidc::finish)),
        public(routes!(invitations::accept)),
        in_person(routes!(auth::logout)),
        signed_in(routes!(auth::me)),
        in_person(routes!(auth::password)),
        in_person(routes!(auth::sessions)),
        in_person(routes!(auth::end_sessions)),
        in_person(routes!(auth::end_session)),
        in_person(routes!(tokens::list)),
        in_person(routes!(tokens::create)),
        in_person(routes!(tokens::delete)),
        admin(routes!(users::list)),
        admin(routes!(users::update)),
        admin(routes!(users::delete)),
        admin(routes!(invitations::list)),
        admin(routes!(invitations::create)),
        admin(routes!(invitations::delete)),
        observer(routes!(sessions::list)),
        operator(routes!(sessions::spawn)),
        observer(routes!(sessions::get)),
        observer(routes!(sessions::messages)),
        observer(routes!(sessions::tree)),
        observer(routes!(sse::stream)),
        observer(routes!(sse::session_stream)),
        operator(routes!(actions::inject)),
        operator(routes!(undelivered::discard)),
        operator(routes!(actions::answer)),
        operator(routes!(actions::pause)),
        operator(routes!(actions::resume)),
        operator(routes!(actions::terminate)),
        operator(routes!(actions::kill)),
        operator(routes!(actions::kill_all)),
        observer(routes!(actions::kill_receipts)),
        observer(routes!(actions::kill_receipt)),
        observer(routes!(terminal::stream)),
        observer(routes!(recording::get)),
        operator(routes!(terminal::input)),
        operator(routes!(terminal::resize)),
        operator(routes!(control::take)),
        operator(routes!(control::release)),
        observer(routes!(control::get)),
        observer(routes!(control::get_four_eyes)),
        admin(routes!(control::put_four_eyes)),
        observer(routes!(control::approvals)),
        operator(routes!(control::approve)),
        operator(routes!(control::refuse)),
        observer(routes!(search::search)),
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
        admin(routes!(nodes::enrol)),
        admin(routes!(nodes::revoke)),
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

/// What answers in one workspace.
fn router_of(app: Shared) -> Router {
    let mut router = Router::new();
    for route in table() {
        let guard = from_fn_with_state((Arc::clone(&app), route.access), guard);
        router = router.route(&route.path, route.router.route_layer(guard));
    }
    let router = router.merge(page::router()).fallback(page::fallback).method_not_allowed_fallback(error::wrong_method);
    router.layer(from_fn(around::named)).with_state(app)
}

/// Before every handler of a route: who is it, may they, and does a browser's write come from our own page.
async fn guard(State((app, access)): State<(Shared, Access)>, mut request: Request, next: Next) -> Response {
    let head = Head::of(&request);
    match admit(&app, access, &head).await {
        Ok(None) => next.run(request).await,
        Ok(Some(principal)) => {
            let asker = Asker { principal, request_id: head.request_id.clone() };
            request.extensions_mut().insert(asker.clone());
            let response = next.run(request).await;
            if let Some(error) = response.extensions().get::<ApiError>() {
                note_refusal(&app, asker.principal.actor(), &head, error).await;
            }
            response
        }
        Err(Turned { error, away: None }) => error.into_response(),
        Err(Turned { error, away: Some(who) }) => {
            note_refusal(&app, *who, &head, &error).await;
            error.into_response()
        }
    }
}

/// What of a request says who asks for what: without its body, which cannot be shared.
struct Head {
    request_id: String,
    method: Method,
    headers: HeaderMap,
    route: String,
    path: String,
}

impl Head {
    fn of(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map_or("", |p| p.as_str()).to_owned();
        let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Self { request_id, method, headers: request.headers().clone(), route, path }
    }

    fn text(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.text(header::AUTHORIZATION)?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let headers = self.headers.get_all(header::COOKIE).iter();
        headers.filter_map(|v| v.to_str().ok()).find_map(|header| cookie(header, name))
    }

    /// The session that the path names.
    fn session(&self) -> Option<SessionId> {
        let of_session = ["/api/mission-control/sessions/{id}", "/agents/{id}"];
        if !of_session.iter().any(|prefix| self.route.starts_with(prefix)) {
            return None;
        }
        let at = self.route.split('/').position(|part| part == "{id}")?;
        SessionId::new(self.path.split('/').nth(at)?).ok()
    }
}

/// Somebody was turned away; who, where it is to be written down.
struct Turned {
    error: ApiError,
    away: Option<Box<Actor>>,
}

impl Turned {
    fn away(error: impl Into<ApiError>, principal: &Principal) -> Self {
        Self { error: error.into(), away: Some(Box::new(principal.actor())) }
    }
}

impl<E: Into<ApiError>> From<E> for Turned {
    fn from(error: E) -> Self {
        Self { error: error.into(), away: None }
    }
}

/// What somebody may not do (403), or not so often (429), is written down.
async fn note_refusal(app: &App, who: Actor, head: &Head, error: &ApiError) {
    let status = error.status();
    if !matches!(status, axum::http::StatusCode::FORBIDDEN | axum::http::StatusCode::TOO_MANY_REQUESTS) {
        return;
    }
    let mut deed = Deed::new("refused", who, head.request_id.clone())
        .with("method", head.method.as_str())
        .with("route", head.route.as_str())
        .with("status", status.as_u16())
        .with("code", error.code());
    deed.session_id = head.session();
    app.audit.refused(deed, error.message()).await;
}

async fn admit(app: &App, access: Access, head: &Head) -> Result<Option<Principal>, Turned> {
    // Whether the hub lives is answered always.
    if head.route.starts_with("/api/") || access != Access::Public {
        app.limits.request()?;
    }
    // A browser sends cookies by itself, but never a token: only with a cookie may a write be somebody else's idea.
    let cookie = head.cookie(app.cookie()).map(Shown::Cookie);
    if head.bearer().is_none()
        && !matches!(head.method, Method::GET | Method::HEAD)
        && let Err(error) = same_site(&head.headers, app.public_url.as_deref())
    {
        return Err(Turned { error, away: Some(Box::new(lured(app, cookie).await)) });
    }
    if access == Access::Public {
        return Ok(None);
    }
    let principal = match head.bearer().map(Shown::Bearer).or(cookie) {
        Some(shown) => app.authn.recognise(shown).await?,
        None => None,
    };
    let Some(principal) = principal else {
        return Err(ApiError::unauthenticated().into());
    };
    if let Err(limited) = app.limits.request_of(&principal.user) {
        return Err(Turned::away(limited, &principal));
    }
    if head.headers.contains_key("x-workspace") && head.text("x-workspace") != Some(principal.workspace.as_str()) {
        return Err(ApiError::unknown_workspace().into());
    }
    if !access.admits(Some(principal.role)) {
        return Err(Turned::away(ApiError::forbidden(principal.role), &principal));
    }
    if access == Access::InPerson && !principal.via.in_person() {
        return Err(Turned::away(ApiError::not_in_person(), &principal));
    }
    if principal.only().is_some() {
        // What a stream of several shows is looked at where it is opened.
        let looked_at = ["/api/auth/me", "/api/mission-control/stream", "/agents/events"];
        let touches = head.session().is_some_and(|session| principal.may_touch(&session));
        if !touches && !looked_at.contains(&head.route.as_str()) {
            return Err(Turned::away(ApiError::out_of_scope(), &principal));
        }
    }
    Ok(Some(principal))
}

/// Whose browser another site's page has used, if it brought a cookie of ours.
async fn lured(app: &App, cookie: Option<Shown<'_>>) -> Actor {
    if let Some(shown) = cookie
        && let Ok(Some(principal)) = app.authn.recognise(shown).await
    {
        return principal.actor();
    }
    Actor { id: None, name: "a browser on another site's page".into(), email: None, role: None }
}

/// A browser says where a request comes from; what is not a browser says nothing.
fn same_site(headers: &HeaderMap, public_url: Option<&str>) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let foreign = match text("sec-fetch-site") {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => match (text("origin"), text("host")) {
            (Some(origin), _) if Some(origin) == public_url => false,
            (Some(origin), Some(host)) => origin.split_once("://").map(|(_, h)| h) != Some(host),
            (Some(_), None) => true,
            (None, _) => false,
        },
    };
    if foreign { Err(ApiError::cross_site()) } else { Ok(()) }
}

/// A role named in a body.
fn role(word: &str) -> Result<Role, ApiError> {
    Role::parse(word).ok_or_else(|| ApiError::invalid("role must be admin, operator or observer"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn writes_from_other_sites_are_refused() {
        let same_site = |headers: &HeaderMap| same_site(headers, Some("https://mesh.example"));
        assert!(same_site(&headers(&[])).is_ok(), "a script");
        assert!(
            same_site(&headers(&[("origin", "https://mesh.example"), ("host", "10.0.0.1:7420")])).is_ok(),
            "a proxy"
        );
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
        let free = ["/api/auth/login", "/api/invitations/accept", "/api/mission-control/layout"];
        for route in table().into_iter().filter(|r| r.methods.iter().any(|m| *m != Method::GET)) {
            let needs_operator = !Access::admits(route.access, Some(Role::Observer));
            let own = route.access == Access::InPerson;
            assert!(own || needs_operator || free.contains(&route.path.as_str()), "{} is open", route.path);
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
