//! Every error of the API: status, code for programs, sentence for people. What is inside goes to the log.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bus_schema::RefusalCode;
use hub_identity::IdentityError;
use hub_store::StoreError;
use serde::Serialize;

use crate::actions::ActionError;
use crate::agent_providers::AgentProviderError;
use crate::audit::AuditError;
use crate::authn::{AuthnError, OidcError};
use crate::bus::{BusError, CommandError};
use crate::control::ControlError;
use crate::enrolment::EnrolmentError;
use crate::journal::JournalError;
use crate::limits::Limited;
use crate::policy::Role;
use crate::retention::RetentionError;

/// What an error looks like on the wire.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDetail {
    /// For programs.
    code: String,
    /// For people: what is wrong and what to do.
    message: String,
    /// The request, as the logs know it.
    request_id: String,
}

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: String,
    message: String,
    detail: Option<String>,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// An error with its sentence.
    pub fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), detail: None, retry_after_s: None }
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "sign in first: POST /api/auth/login")
    }

    pub(super) fn forbidden(role: Role) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", format!("your role, {role}, does not allow this"))
    }

    pub(super) fn cross_site() -> Self {
        let text = "this request comes from another site's page; use Mission Control itself, or a script";
        Self::new(StatusCode::FORBIDDEN, "crossSite", text)
    }

    pub(super) fn not_in_person() -> Self {
        let text = "this is for people who signed in at a browser, not for API tokens";
        Self::new(StatusCode::FORBIDDEN, "notInPerson", text)
    }

    /// Its code is another than [`not_in_person`](Self::not_in_person)'s: the route as such is open to tokens' roles.
    pub(super) fn second_in_person() -> Self {
        let text = "only a person who signed in at a browser can agree, not an API token";
        Self::new(StatusCode::FORBIDDEN, "secondInPerson", text)
    }

    pub(super) fn out_of_scope() -> Self {
        let text = "this token is bound to some sessions; this is none of them, or about more than them";
        Self::new(StatusCode::FORBIDDEN, "outOfScope", text)
    }

    pub(super) fn unknown_workspace() -> Self {
        let text = "there is no such workspace here, or you have no role in it";
        Self::new(StatusCode::NOT_FOUND, "unknownWorkspace", text)
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", message)
    }

    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "notFound", what)
    }

    /// Something of ours is away, and may be back.
    pub(super) fn away(code: &str, message: impl Into<String>, inner: &dyn std::error::Error) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).with_detail(inner);
        error.retry_after_s = Some(2);
        error
    }

    fn internal(inner: &dyn std::error::Error) -> Self {
        let text = "something went wrong in the hub; its log knows more under the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text).with_detail(inner)
    }

    fn with_detail(mut self, inner: &dyn std::error::Error) -> Self {
        let mut chain = inner.to_string();
        let mut source = inner.source();
        while let Some(cause) = source {
            chain = format!("{chain}: {cause}");
            source = cause.source();
        }
        self.detail = Some(chain);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn detail(&self) -> &str {
        self.detail.as_deref().unwrap_or(&self.message)
    }

    pub(super) fn render(self, request_id: &str) -> Response {
        let detail = ErrorDetail { code: self.code, message: self.message, request_id: request_id.to_owned() };
        let mut response = (self.status, Json(ErrorBody { error: detail })).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The body is made around every request, where its id is known.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

pub(super) async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrongMethod", "this path has no such method; see /api/openapi.json")
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_passing() {
            return Self::away("storeAway", "the store is away; try again", &error);
        }
        Self::internal(&error)
    }
}

impl From<BusError> for ApiError {
    fn from(error: BusError) -> Self {
        match &error {
            BusError::Away { .. } | BusError::Conflict { .. } => {
                Self::away("busAway", "the bus is away; try again", &error)
            }
            BusError::Refused { .. }
            | BusError::NoRoom { .. }
            | BusError::TooOld { .. }
            | BusError::Credentials { .. } => Self::internal(&error),
        }
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Bus(error) => error.into(),
            JournalError::Store(error) => error.into(),
            JournalError::Encode(_) => Self::internal(&error),
            JournalError::Behind => Self::away("storeBehind", error.to_string(), &error),
        }
    }
}

impl From<AuthnError> for ApiError {
    fn from(error: AuthnError) -> Self {
        match error {
            AuthnError::Wrong => Self::new(StatusCode::UNAUTHORIZED, "wrongCredentials", "email or password is wrong"),
            AuthnError::NoRole(_) => {
                Self::new(StatusCode::FORBIDDEN, "noRole", "you have no role in this workspace; ask an admin for one")
            }
            AuthnError::Disabled(_) => {
                let text = "an admin keeps you out of this workspace; ask them";
                Self::new(StatusCode::FORBIDDEN, "disabled", text)
            }
            AuthnError::Invalid(text) => Self::invalid(text),
            AuthnError::NoPerson(_) | AuthnError::NoInvitation => Self::not_found(error.to_string()),
            AuthnError::Member(_) => Self::new(StatusCode::CONFLICT, "alreadyMember", error.to_string()),
            AuthnError::LastAdmin => Self::new(StatusCode::CONFLICT, "lastAdmin", error.to_string()),
            AuthnError::Limited(limited) => limited.into(),
            AuthnError::Oidc(error) => error.into(),
            AuthnError::Store(error) => error.into(),
            AuthnError::Journal(error) => error.into(),
            AuthnError::Hash(_) | AuthnError::Random => Self::internal(&error),
        }
    }
}

impl From<OidcError> for ApiError {
    fn from(error: OidcError) -> Self {
        match &error {
            OidcError::Unknown(_) => Self::not_found(error.to_string()),
            OidcError::State | OidcError::Refused(_) | OidcError::Untrusted(_) => {
                Self::new(StatusCode::UNAUTHORIZED, "signInFailed", error.to_string())
            }
            OidcError::NotLetIn(_) => Self::new(StatusCode::FORBIDDEN, "notLetIn", error.to_string()),
            OidcError::Away(_) => Self::away("signInAway", "the sign-in service is away; try again", &error),
        }
    }
}

impl From<Limited> for ApiError {
    fn from(limited: Limited) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "tooMany", limited.to_string());
        error.retry_after_s = Some(limited.retry_after_s);
        error
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        Self::away("auditAway", "nothing was done: the audit log cannot be written now", &error)
    }
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::NoSession(_) => Self::not_found(error.to_string()),
            ActionError::NoNode { .. } => Self::invalid(error.to_string()),
            ActionError::Refused(refusal) => {
                Self::new(refusal_status(&refusal.code), refusal.code.as_str(), refusal.message)
            }
            ActionError::Failed(refusal) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal.code.as_str(), refusal.message)
            }
            ActionError::Command(inner) => match &inner {
                CommandError::NodeAway(node) => Self::away(
                    "nodeAway",
                    format!("node {node} is away; nothing was done. Its sessions are shown as they were known last"),
                    &inner,
                ),
                CommandError::BusAway => Self::away("busAway", "the bus is away; nothing was done", &inner),
                CommandError::Deadline { .. } => {
                    Self::away("deadline", format!("{inner}: whether it was done is not known yet"), &inner)
                }
                CommandError::Unsendable(_) | CommandError::Unreadable { .. } => Self::internal(&inner),
            },
            ActionError::Audit(inner) => inner.into(),
            ActionError::Control(inner) => inner.into(),
            ActionError::Store(inner) => inner.into(),
            ActionError::Id(inner) => Self::internal(&inner),
            ActionError::Ending => Self::away("ending", error.to_string(), &error),
        }
    }
}

impl From<AgentProviderError> for ApiError {
    fn from(error: AgentProviderError) -> Self {
        let conflict = |code: &str| Self::new(StatusCode::CONFLICT, code, error.to_string());
        match error {
            AgentProviderError::NotFound(_) => Self::not_found(error.to_string()),
            AgentProviderError::Taken(_) => conflict("nameTaken"),
            AgentProviderError::TooMany => conflict("tooMany"),
            AgentProviderError::NodeTooOld(_) => conflict("nodeTooOld"),
            AgentProviderError::Secrets { .. } => conflict("credentialsUnreadable"),
            AgentProviderError::Invalid(text) => Self::invalid(text),
            AgentProviderError::Seal { .. } | AgentProviderError::Encode(_) => Self::internal(&error),
            AgentProviderError::Journal(inner) => inner.into(),
            AgentProviderError::Store(inner) => inner.into(),
            AgentProviderError::Audit(inner) => inner.into(),
            AgentProviderError::Action(inner) => inner.into(),
            AgentProviderError::Ending => Self::away("ending", error.to_string(), &error),
        }
    }
}

impl From<EnrolmentError> for ApiError {
    fn from(error: EnrolmentError) -> Self {
        let conflict = |code: &str| Self::new(StatusCode::CONFLICT, code, error.to_string());
        match error {
            EnrolmentError::Off => conflict("enrolmentOff"),
            EnrolmentError::Name(_) => Self::invalid(error.to_string()),
            EnrolmentError::Identity(IdentityError::Enrolled(_)) => conflict("enrolledAlready"),
            EnrolmentError::Identity(IdentityError::NameTaken { .. }) => conflict("nameTaken"),
            EnrolmentError::Identity(IdentityError::UnknownUser { .. }) => Self::not_found(error.to_string()),
            EnrolmentError::Identity(_) | EnrolmentError::Token(_) => Self::internal(&error),
            EnrolmentError::Untold { .. } => Self::away("busAway", error.to_string(), &error),
            EnrolmentError::Audit(inner) => inner.into(),
            EnrolmentError::Ending => Self::away("ending", error.to_string(), &error),
        }
    }
}

impl From<RetentionError> for ApiError {
    fn from(error: RetentionError) -> Self {
        match error {
            RetentionError::Invalid(text) => Self::invalid(text),
            RetentionError::Bus(inner) => inner.into(),
            RetentionError::Store(inner) => inner.into(),
            RetentionError::Journal(inner) => inner.into(),
            RetentionError::Audit(inner) => inner.into(),
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let conflict = |code: &str| Self::new(StatusCode::CONFLICT, code, error.to_string());
        match error {
            ControlError::Held(_) => conflict("held"),
            ControlError::NotYours(_) => conflict("notYours"),
            ControlError::NeedsSecond(_) => conflict("needsSecond"),
            ControlError::SamePerson => Self::new(StatusCode::FORBIDDEN, "samePerson", error.to_string()),
            ControlError::NoRequest(_) => Self::not_found(error.to_string()),
            ControlError::Decided(_) => conflict("decided"),
            ControlError::AskerGone(_) => conflict("askerGone"),
            ControlError::NobodyElse => conflict("nobodyElse"),
            ControlError::Inherited(_) => conflict("inherited"),
            ControlError::TooMany => conflict("tooManyRequests"),
            ControlError::Invalid(text) => Self::invalid(text),
            ControlError::Journal(inner) => inner.into(),
            ControlError::Store(inner) => inner.into(),
            ControlError::Audit(inner) => inner.into(),
        }
    }
}

fn refusal_status(code: &RefusalCode) -> StatusCode {
    match code {
        RefusalCode::UnknownSession => StatusCode::NOT_FOUND,
        RefusalCode::UnknownProfile | RefusalCode::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalCode::NotCapable | RefusalCode::WrongState | RefusalCode::UnknownAction => StatusCode::CONFLICT,
        RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::Expired
        | RefusalCode::NotForMe
        | RefusalCode::BadSignature
        | RefusalCode::Replayed
        | RefusalCode::Busy
        | RefusalCode::ProviderFailed
        | RefusalCode::Deadline
        | RefusalCode::Unknown(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
