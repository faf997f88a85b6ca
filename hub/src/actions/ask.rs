//! What can be asked of a session: its word, what it needs, what the audit log is told, and the command it becomes.

use bus_schema::{
    Action, Answer, Asked, Attention, Capability, InjectMode, MessageId, Refusal, RefusalCode, Session, SessionId,
    Spawn, Status, TerminalSize,
};

use crate::audit::Deed;

/// What is to be done with a session.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Freeze it.
    Pause,
    /// Let it go on.
    Resume,
    /// Ask it to end.
    Terminate,
    /// End it at once.
    Kill,
    /// Type into its terminal.
    Input(Vec<u8>),
    /// Change its terminal's size.
    Resize(TerminalSize),
    /// Answer what it asks.
    Answer {
        /// The message that asks.
        request: MessageId,
        /// What is answered.
        answer: Answer,
    },
    /// Send it a message.
    Inject {
        /// Its id.
        message: MessageId,
        /// The text.
        content: String,
        /// How it is to arrive.
        mode: InjectMode,
        /// Freeze the session first.
        pause_first: bool,
        /// The message in whose place it is sent.
        retry_of: Option<MessageId>,
    },
}

impl Ask {
    pub(super) fn action(&self) -> Action {
        match self {
            Ask::Pause => Action::Pause,
            Ask::Resume => Action::Resume,
            Ask::Terminate => Action::Terminate,
            Ask::Kill => Action::Kill,
            Ask::Input(_) => Action::Input,
            Ask::Resize(_) => Action::Resize,
            Ask::Answer { .. } => Action::Answer,
            Ask::Inject { .. } => Action::Inject,
        }
    }

    pub(super) fn capability(&self) -> Capability {
        match self {
            Ask::Pause => Capability::Pause,
            Ask::Resume => Capability::Resume,
            Ask::Terminate => Capability::Terminate,
            Ask::Kill => Capability::Kill,
            Ask::Input(_) => Capability::Input,
            Ask::Resize(_) => Capability::Resize,
            Ask::Answer { .. } => Capability::Approve,
            Ask::Inject { .. } => Capability::Inject,
        }
    }

    /// The word in the audit log and the counters.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Ask::Pause => "pause",
            Ask::Resume => "resume",
            Ask::Terminate => "terminate",
            Ask::Kill => "kill",
            Ask::Input(_) => "input",
            Ask::Resize(_) => "resize",
            Ask::Answer { .. } => "answer",
            Ask::Inject { .. } => "inject",
        }
    }

    /// What the audit log is told of it, beside the word.
    pub(super) fn note_in(&self, deed: &mut Deed, session: &Session) {
        match self {
            Ask::Inject { message, content, mode, pause_first, retry_of } => {
                deed.content = Some(content.clone());
                deed.metadata.insert("messageId".into(), message.as_str().into());
                deed.metadata.insert("mode".into(), mode.as_str().into());
                deed.metadata.insert("pauseFirst".into(), (*pause_first).into());
                if let Some(old) = retry_of {
                    deed.metadata.insert("retryOf".into(), old.as_str().into());
                }
            }
            Ask::Answer { request, answer } => {
                deed.content = answer.text.clone();
                deed.metadata.insert("requestId".into(), request.as_str().into());
                if let Some(option) = &answer.option_id {
                    deed.metadata.insert("optionId".into(), option.as_str().into());
                }
                // An id says little by itself: what was asked, and what the option was called, in the agent's words.
                let Some((attention, asked)) = open_request(session).filter(|(_, asked)| asked.request_id == *request)
                else {
                    return;
                };
                deed.metadata.insert("asked".into(), attention.text.as_str().into());
                if let Some(option) = asked.options.iter().find(|o| Some(&o.option_id) == answer.option_id.as_ref()) {
                    deed.metadata.insert("option".into(), option.label.as_str().into());
                }
            }
            // What is typed may be a password: only how much of it is written down.
            Ask::Input(data) => drop(deed.metadata.insert("bytes".into(), data.len().into())),
            Ask::Resize(size) => {
                drop(deed.metadata.insert("size".into(), format!("{}x{}", size.cols, size.rows).into()))
            }
            Ask::Pause | Ask::Resume | Ask::Terminate | Ask::Kill => {}
        }
    }

    /// Whether it fits what the session says of itself. Of several open requests a session tells only the oldest: of
    /// the others its node decides.
    pub(super) fn fits(&self, session: &Session) -> Result<(), Refusal> {
        let Ask::Answer { request, answer } = self else { return Ok(()) };
        let Some((_, asked)) = open_request(session) else {
            return Err(Refusal::new(RefusalCode::WrongState, "the session asks nothing now: it was answered already"));
        };
        if asked.request_id != *request {
            return Ok(());
        }
        if let Some(option) = &answer.option_id
            && !asked.options.iter().any(|o| o.option_id == *option)
        {
            let offered = asked.options.iter().map(|o| o.option_id.as_str()).collect::<Vec<_>>().join(", ");
            let text = format!("the request offers no option {option:?}, but: {offered}");
            return Err(Refusal::new(RefusalCode::Invalid, text));
        }
        if answer.option_id.is_none() && !asked.takes_text {
            return Err(Refusal::new(RefusalCode::Invalid, "the request is not answered in words; choose an option"));
        }
        Ok(())
    }
}

fn open_request(session: &Session) -> Option<(&Attention, &Asked)> {
    let attention = session.attention.as_ref()?;
    Some((attention, attention.request.as_ref()?))
}

/// The part of a command that depends on the action.
pub(super) struct CommandBody {
    pub(super) action: Action,
    pub(super) session: Option<SessionId>,
    pub(super) spawn: Option<Spawn>,
    pub(super) message: Option<MessageId>,
    pub(super) content: Option<String>,
    pub(super) mode: Option<InjectMode>,
    pub(super) pause_first: bool,
    pub(super) data: Option<Vec<u8>>,
    pub(super) size: Option<TerminalSize>,
    pub(super) answer: Option<Answer>,
}

impl CommandBody {
    pub(super) fn new(action: Action) -> Self {
        Self {
            action,
            session: None,
            spawn: None,
            message: None,
            content: None,
            mode: None,
            pause_first: false,
            data: None,
            size: None,
            answer: None,
        }
    }
}

pub(super) fn ask_command(session: &Session, ask: &Ask) -> CommandBody {
    let mut body = CommandBody::new(ask.action());
    body.session = Some(session.session_id.clone());
    match ask.clone() {
        Ask::Pause | Ask::Resume | Ask::Terminate | Ask::Kill => {}
        Ask::Answer { request, answer } => (body.message, body.answer) = (Some(request), Some(answer)),
        Ask::Input(data) => body.data = Some(data),
        Ask::Resize(size) => body.size = Some(size),
        Ask::Inject { message, content, mode, pause_first, .. } => {
            (body.message, body.content, body.mode) = (Some(message), Some(content), Some(mode));
            body.pause_first = pause_first;
        }
    }
    body
}

/// Whether a session can do something, from what it says of itself.
pub(super) fn can(session: &Session, capability: &Capability) -> Result<(), Refusal> {
    if session.status.is_terminal() {
        let text = format!("the session has ended: it is {}", session.status);
        return Err(Refusal::new(RefusalCode::WrongState, text));
    }
    // Of a session that is being started nobody knows yet what it can do: its node decides, and lets it wait.
    if session.is_capable(capability) || session.status == Status::Spawning && session.capabilities.is_empty() {
        return Ok(());
    }
    let reason = session.metadata.get("notCapable").and_then(|m| m.get(capability.as_str())).and_then(|r| r.as_str());
    let reason = reason.unwrap_or("its runtime does not offer it");
    Err(Refusal::new(RefusalCode::NotCapable, format!("this session cannot {capability}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(status: &str, capabilities: &[&str]) -> Session {
        serde_json::from_value(serde_json::json!({
            "sessionId": "01JD8Z2V9Q0000000000000001", "workspace": "default", "node": "n1", "provider": "pty",
            "status": status, "statusSource": "process", "statusSince": "2026-11-22T20:00:00Z",
            "spawnedAt": "2026-11-22T20:00:00Z", "capabilities": capabilities,
            "metadata": {"notCapable": {"pause": "the gateway has no pause"}},
        }))
        .unwrap()
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_reason() {
        assert!(can(&session("running", &["kill"]), &Capability::Kill).is_ok());
        let refusal = can(&session("running", &["kill"]), &Capability::Pause).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotCapable);
        assert_eq!(refusal.message, "this session cannot pause: the gateway has no pause");
        assert!(can(&session("spawning", &[]), &Capability::Pause).is_ok(), "nobody knows yet");
        assert!(can(&session("spawning", &["kill"]), &Capability::Pause).is_err());
        let refusal = can(&session("killed", &["kill"]), &Capability::Kill).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (RefusalCode::WrongState, "the session has ended: it is killed")
        );
    }

    #[test]
    fn an_answer_fits_what_is_asked_or_is_refused_with_the_reason() {
        let mut session = session("waiting", &["approve"]);
        let answer = |request: &str, option: Option<&str>, text: Option<&str>| Ask::Answer {
            request: MessageId::new(request).unwrap(),
            answer: Answer { option_id: option.map(str::to_owned), text: text.map(str::to_owned) },
        };
        let code = |ask: &Ask, session: &Session| ask.fits(session).err().map(|r| r.code);
        assert_eq!(code(&answer("m1", Some("yes"), None), &session), Some(RefusalCode::WrongState));
        session.attention = serde_json::from_value(serde_json::json!({
            "kind": "permission", "text": "May I?", "since": "2026-11-22T20:00:00Z",
            "request": {"requestId": "m1", "options": [{"optionId": "yes", "label": "Yes", "kind": "allowOnce"}]},
        }))
        .unwrap();
        assert_eq!(code(&answer("m1", Some("yes"), None), &session), None);
        assert_eq!(code(&answer("m1", Some("yes"), Some("because")), &session), None);
        assert_eq!(code(&answer("m1", Some("no"), None), &session), Some(RefusalCode::Invalid));
        assert_eq!(code(&answer("m1", None, Some("because")), &session), Some(RefusalCode::Invalid));
        assert_eq!(code(&answer("m2", Some("no"), None), &session), None, "of another request the node decides");
        assert_eq!(code(&Ask::Kill, &session), None);
    }
}
