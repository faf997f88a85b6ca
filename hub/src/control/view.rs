//! What everybody sees of control: of each session who writes, whether it is marked, and what waits. Pure.

use std::collections::BTreeMap;

use bus_schema::{Operator, SessionId, Timestamp, UserId};
use hub_store::{Approval, FourEyes, Wish, Writer};
use serde::Serialize;

/// How long a request is shown after it was decided, so that whoever asked sees what became of it.
pub(super) const RECENT_MS: i64 = 10 * 60_000;

/// Who may act on a session now.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlView {
    /// Which session.
    pub session_id: SessionId,
    /// Who writes on its terminal; nobody if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<WriterView>,
    /// Its own mark. A session is also marked through every ancestor that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub four_eyes: Option<FourEyesView>,
    /// What waits for a second person, and what was decided lately.
    pub requests: Vec<ApprovalView>,
}

/// Who writes on a terminal.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriterView {
    /// The person.
    pub user_id: UserId,
    /// Their name; of a script also the name of its token.
    pub name: String,
    /// The id of the token, for a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when, if nothing more is typed.
    pub until: Timestamp,
    /// Who agreed, where two are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Operator>,
}

/// A mark: kill, terminate, messages, answers and control of the terminal need two.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FourEyesView {
    /// Why.
    pub reason: String,
    /// Who marked it.
    pub by: Operator,
    /// Since when.
    pub since: Timestamp,
}

impl From<FourEyes> for FourEyesView {
    fn from(mark: FourEyes) -> Self {
        Self { reason: mark.reason, by: mark.by, since: mark.since }
    }
}

/// What one person has asked for and a second one decides.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalView {
    /// For ever.
    pub approval_id: String,
    /// On which session.
    pub session_id: SessionId,
    /// `kill`, `terminate`, `inject`, `answer`, `control`, `unmark`.
    pub action: String,
    /// The words, of a message or an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The option, of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option_id: Option<String>,
    /// Who asked.
    pub by: Operator,
    /// When.
    pub asked_at: Timestamp,
    /// Until when it can be decided.
    pub expires_at: Timestamp,
    /// `open`; `approved` while it is carried out; then `done`, `failed`, `unknown`; or `refused`, `withdrawn`,
    /// `expired`.
    pub state: String,
    /// Who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Operator>,
    /// When it was changed last.
    pub at: Timestamp,
    /// Why, or what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

impl From<Approval> for ApprovalView {
    fn from(a: Approval) -> Self {
        let (content, option_id) = match &a.wish {
            Wish::Inject { content, .. } => (Some(content.clone()), None),
            Wish::Answer { answer, .. } => (answer.text.clone(), answer.option_id.clone()),
            Wish::Kill | Wish::Terminate | Wish::Control { .. } | Wish::Unmark => (None, None),
        };
        Self {
            approval_id: a.id,
            session_id: a.session_id,
            action: a.wish.as_str().to_owned(),
            content,
            option_id,
            by: a.by,
            asked_at: a.asked,
            expires_at: a.expires,
            state: a.state,
            decided_by: a.decided_by,
            at: a.at,
            outcome: a.outcome,
        }
    }
}

impl ControlView {
    /// Nothing to say of a session.
    pub fn empty(session_id: SessionId) -> Self {
        Self { session_id, writer: None, four_eyes: None, requests: vec![] }
    }

    /// When time alone changes it.
    pub(super) fn ends(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let requests = self.requests.iter().map(|r| match r.state.as_str() {
            Approval::OPEN => r.expires_at,
            Approval::APPROVED => r.at.plus_millis(super::approvals::CARRIED_MS),
            _ => r.at.plus_millis(RECENT_MS),
        });
        self.writer.iter().map(|w| w.until).chain(requests)
    }
}

pub(super) fn collect(
    writers: Vec<Writer>,
    marks: Vec<FourEyes>,
    approvals: Vec<Approval>,
) -> BTreeMap<SessionId, ControlView> {
    fn of<'a>(all: &'a mut BTreeMap<SessionId, ControlView>, id: &SessionId) -> &'a mut ControlView {
        all.entry(id.clone()).or_insert_with(|| ControlView::empty(id.clone()))
    }
    let mut all = BTreeMap::new();
    for lease in writers {
        let view = WriterView {
            user_id: lease.holder.user,
            name: lease.holder.name,
            token_id: lease.holder.token,
            since: lease.since,
            until: lease.until,
            approved_by: lease.approved_by,
        };
        of(&mut all, &lease.session_id).writer = Some(view);
    }
    for mark in marks {
        of(&mut all, &mark.session_id).four_eyes = Some(mark.clone().into());
    }
    for approval in approvals {
        of(&mut all, &approval.session_id).requests.push(approval.clone().into());
    }
    all
}
