//! What both sides of an ACP conversation have said, and what the mesh is told of it: pure, line by line, a function of
//! the session's log alone. Called by the interpreter of that log.
//!
//! Laws:
//! 1. A text is told as it grows, and as one message when something else follows it or its turn ends.
//! 2. A turn is open from its prompt to the answer to that; what ends it decides how it ended, but an agent that has
//!    said that it failed is believed over an `end_turn` (seen with codex-acp 2.6).
//! 3. A request for leave is open until an answer to it was sent.
//! 4. An update of a kind that we do not know changes nothing.
//! 5. What an agent tells again of an earlier conversation is told by the session in which it was said, and not here.

use std::collections::VecDeque;

use bus_schema::{
    AnswerOption, Asked, Attention, AttentionKind, MessageId, MessageKind, Metadata, Operator, OptionKind, Role,
    SessionId, Timestamp, Turn,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::SOURCE;
use super::client::{MAX_OPEN, key_of};
use super::tool::Tool;
use super::wire::{self, Failure, Heard, text_of};
use crate::provider::DeltaDraft;
use crate::pty::interpret::Voice;

/// Longest text that is collected. The mesh cuts messages at a quarter of this.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// Longest text that is told while it is being written: the whole of it goes over the bus each time.
const MAX_DELTA_BYTES: usize = 64 * 1024;
/// Tools in use at one time. Beyond it the oldest is told as it stands.
const MAX_TOOLS: usize = 64;
/// Our requests without an answer that are remembered: one prompt, one steering and what an agent never answered.
const MAX_ASKED: usize = 64;

/// The fact by which another session can go on with the conversation of this one.
const CONVERSATION: &str = "conversation";

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tale {
    /// A message, with the key of its id.
    Say(String, Voice),
    /// The agent has opened its session.
    Opened,
    /// Where the turn stands, why, and who is needed.
    Stand(Turn, Option<String>, Option<Attention>),
    /// Further facts.
    Facts(Metadata),
    /// A better title.
    Title(String),
}

/// What has been said so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conversation {
    /// What the agent calls itself.
    agent: String,
    /// True once it gave a text an id.
    has_ids: bool,
    asked: VecDeque<(u64, Question)>,
    /// The open prompt.
    turn: Option<u64>,
    /// The agent said that it fails; in which words.
    failure: Option<String>,
    /// What ended the last turn, if that failed, and when.
    failed: Option<(String, Timestamp)>,
    /// The text being written.
    text: Option<Text>,
    tools: VecDeque<Tool>,
    open: Vec<Open>,
    usage: Option<Value>,
    /// The agent's own name of the session that it goes on with, or was given.
    #[serde(default)]
    main: Option<String>,
    /// True if another session can go on with this one.
    #[serde(default)]
    can_go_on: bool,
    /// True while it tells what was said earlier.
    #[serde(default)]
    is_retelling: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Question {
    Initialize,
    NewSession,
    /// An earlier session is gone on with.
    GoOn,
    Prompt,
    Other,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Text {
    start: u64,
    /// The agent's own id.
    id: Option<String>,
    role: Role,
    kind: MessageKind,
    content: String,
    /// Bytes that were too many.
    dropped: u64,
    parent: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    start: u64,
    id: Value,
    text: String,
    since: Timestamp,
    options: Vec<AnswerOption>,
}

impl Conversation {
    /// Of an agent that calls itself so.
    pub fn of(agent: &str) -> Self {
        Self { agent: agent.into(), ..Self::default() }
    }

    /// The agent said this line, at this place of its output.
    pub fn heard(&mut self, session: &SessionId, start: u64, line: &[u8], at: Timestamp) -> Vec<Tale> {
        let mut tales = vec![];
        match wire::hear(line) {
            Some(Heard::Notice { method, params }) if method == wire::UPDATE && self.concerns(&params) => {
                self.update(start, params.get("update").unwrap_or(&Value::Null), &mut tales);
            }
            Some(Heard::Request { id, method, params }) if method == wire::PERMISSION => {
                self.permission(session, start, id, &params, at, &mut tales);
            }
            Some(Heard::Answer { id, result }) => self.answered(session, start, &id, result, at, &mut tales),
            Some(Heard::Notice { .. } | Heard::Request { .. }) => {}
            None => {
                let text = String::from_utf8_lossy(line);
                let text = text.trim();
                if !text.is_empty() {
                    let facts = Metadata::from_iter([("stream".to_owned(), "stdout".into())]);
                    tales.push(Tale::Say(key_of(start), system(text, MessageKind::Status, facts)));
                }
            }
        }
        tales
    }

    /// We said this line, on behalf of this operator, if it was one.
    pub fn said(&mut self, session: &SessionId, line: &[u8], by: Option<&Operator>) -> Vec<Tale> {
        let mut tales = vec![];
        match wire::hear(line) {
            Some(Heard::Request { id, method, params }) => {
                let question = match method.as_str() {
                    wire::INITIALIZE => Question::Initialize,
                    wire::NEW_SESSION => Question::NewSession,
                    wire::RESUME | wire::LOAD => {
                        self.main = text_of(&params, "sessionId").map(Into::into);
                        self.is_retelling = method == wire::LOAD;
                        Question::GoOn
                    }
                    wire::PROMPT => Question::Prompt,
                    _ => Question::Other,
                };
                if let Some(id) = id.as_u64() {
                    if self.asked.len() >= MAX_ASKED {
                        self.asked.pop_front();
                    }
                    self.asked.push_back((id, question));
                    if question == Question::Prompt {
                        (self.turn, self.failure, self.failed) = (Some(id), None, None);
                        tales.push(self.stand(session));
                    }
                }
            }
            Some(Heard::Answer { id, result: Ok(result) }) => {
                let decision = self.open.iter().position(|open| open.id == id);
                if let Some(open) = decision.map(|at| self.open.remove(at)) {
                    tales.push(decided(session, &open, &result, by));
                    tales.push(self.stand(session));
                }
            }
            Some(Heard::Answer { result: Err(_), .. } | Heard::Notice { .. }) | None => {}
        }
        tales
    }

    /// The session is over: what is still being told is told as it stands.
    pub fn finish(&mut self) -> Vec<Tale> {
        let mut tales = vec![];
        self.end_text(&mut tales);
        self.end_tools(&mut tales);
        tales
    }

    /// The text being written, if it is not too long.
    pub fn delta(&self, session: &SessionId) -> Option<DeltaDraft> {
        let text = self.text.as_ref().filter(|text| text.content.len() <= MAX_DELTA_BYTES)?;
        let content = text.content.trim().to_owned();
        let message_id = message_id(session, &key_of(text.start)).filter(|_| !content.is_empty())?;
        Some(DeltaDraft { message_id, role: text.role.clone(), kind: text.kind.clone(), content })
    }

    /// Where the turn stands now.
    fn stand(&self, session: &SessionId) -> Tale {
        match (self.open.first(), self.turn) {
            (Some(open), _) => {
                let request = message_id(session, &key_of(open.start)).map(|request_id| Asked {
                    request_id,
                    options: open.options.clone(),
                    takes_text: false,
                });
                let attention =
                    Attention { request, ..Attention::new(AttentionKind::Permission, &open.text, open.since) };
                Tale::Stand(Turn::Blocked, Some("waits for a permission".into()), Some(attention))
            }
            (None, Some(_)) => Tale::Stand(Turn::Active, None, None),
            (None, None) => match &self.failed {
                Some((text, since)) => {
                    let attention = Attention::new(AttentionKind::Error, text, *since);
                    Tale::Stand(Turn::Error, Some("the last turn failed".into()), Some(attention))
                }
                None => Tale::Stand(Turn::Idle, None, None),
            },
        }
    }

    /// The same for an update alone, of a sub-agent with this name.
    pub fn updated(&mut self, name: &str, start: u64, update: &Value) -> Vec<Tale> {
        if self.main.is_none() {
            self.main = Some(name.to_owned());
        }
        let mut tales = vec![];
        self.update(start, update, &mut tales);
        tales
    }

    /// True for what is told of this session, now. Its sub-agents have sessions of their own.
    fn concerns(&self, params: &Value) -> bool {
        let theirs = text_of(params, "sessionId").filter(|_| self.main.is_some());
        let is_known = theirs.is_none() || theirs == self.main.as_deref();
        let tells_facts = ["session_info_update", "current_mode_update"];
        let kind = params.get("update").map(wire::update_kind).unwrap_or_default();
        is_known && (!self.is_retelling || tells_facts.contains(&kind))
    }

    fn update(&mut self, start: u64, update: &Value, tales: &mut Vec<Tale>) {
        match wire::update_kind(update) {
            "agent_message_chunk" => self.chunk(start, update, Role::Agent, MessageKind::Text, tales),
            "agent_thought_chunk" => self.chunk(start, update, Role::Agent, MessageKind::Reasoning, tales),
            "user_message_chunk" => self.chunk(start, update, Role::User, MessageKind::Text, tales),
            "tool_call" | "tool_call_update" => self.tool(start, update, tales),
            wire::BETWEEN => {
                self.end_text(tales);
                tales.extend(self.between(start, update));
            }
            "plan" => {
                self.end_text(tales);
                let entries = update.get("entries").cloned().unwrap_or_default();
                let text = entries.as_array().into_iter().flatten().map(plan_line).collect::<Vec<_>>().join("\n");
                let facts = Metadata::from_iter([("plan".to_owned(), entries)]);
                tales.push(Tale::Say(key_of(start), system(&text, MessageKind::Status, facts)));
            }
            "session_info_update" => {
                if let Some(title) = text_of(update, "title") {
                    tales.push(Tale::Title(title.into()));
                }
                let status = update.pointer("/_meta/codex/threadStatus");
                let status = status.and_then(|status| status.as_str().or_else(|| text_of(status, "type")));
                if status == Some("systemError") {
                    self.failure.get_or_insert_default();
                }
            }
            "current_mode_update" => {
                let mode = update.get("currentModeId").cloned().unwrap_or_default();
                tales.push(Tale::Facts(Metadata::from_iter([("mode".to_owned(), mode)])));
            }
            "usage_update" => {
                // Outside of a turn nothing else says that a text is over (seen: Claude Code, told of a background task).
                if self.turn.is_none() {
                    self.end_text(tales);
                }
                self.usage = Some(json!({"used": update.get("used"), "size": update.get("size")}));
            }
            "notice" | "compaction_update" => {
                let text = update.get("content").map(wire::text_of_content).filter(|text| !text.is_empty());
                let text = text.or_else(|| text_of(update, "message").map(Into::into));
                if let Some(text) = text {
                    self.end_text(tales);
                    tales.push(Tale::Say(key_of(start), system(&text, MessageKind::Status, Metadata::new())));
                }
            }
            _ => {}
        }
    }

    /// What this session says to a sub-agent of its own, or hears from it or from its parent.
    fn between(&self, start: u64, update: &Value) -> Option<Tale> {
        let content = update.get("content")?;
        let text = match content.as_array() {
            Some(parts) => parts.iter().map(wire::text_of_content).collect::<Vec<_>>().join("\n"),
            None => wire::text_of_content(content),
        };
        let (sender, recipient) = (text_of(update, "senderSessionId")?, text_of(update, "recipientSessionId")?);
        let main = self.main.as_deref()?;
        let id = text_of(update, "messageId").unwrap_or_default();
        let (role, kind, other) = match (sender == main, id.ends_with(":reply")) {
            (true, false) => (Role::Agent, MessageKind::ToolCall, recipient),
            (true, true) => return None,
            (false, true) => (Role::Agent, MessageKind::ToolResult, sender),
            (false, false) => (Role::User, MessageKind::Text, sender),
        };
        let mut facts = Metadata::from_iter([("acpSessionId".to_owned(), other.into())]);
        if kind != MessageKind::Text {
            facts.insert("tool".into(), "subagent".into());
            facts.insert("toolCallId".into(), id.trim_end_matches(":reply").into());
        }
        Some(Tale::Say(key_of(start), Voice::claimed(role, kind, text, Some(facts), SOURCE)))
    }

    fn chunk(&mut self, start: u64, update: &Value, role: Role, kind: MessageKind, tales: &mut Vec<Tale>) {
        let piece = update.get("content").map(wire::text_of_content).unwrap_or_default();
        let id = text_of(update, "messageId").map(ToOwned::to_owned);
        self.has_ids |= id.is_some();
        // Adapters put warnings of their own between the texts of the model, and those have no id (seen with codex-acp
        // 2.6 and claude-agent-acp 0.101). Agents that give no ids at all speak for themselves.
        let gives_ids = self.has_ids || ["codex-acp", "claude-agent-acp"].iter().any(|name| self.agent.ends_with(name));
        if id.is_none() && gives_ids && kind == MessageKind::Text && role == Role::Agent {
            self.end_text(tales);
            if let Some(failure) = self.failure.as_mut().filter(|failure| failure.is_empty()) {
                *failure = piece.trim().into();
            }
            tales.push(Tale::Say(key_of(start), system(piece.trim(), MessageKind::Status, Metadata::new())));
            return;
        }
        let parent = update.pointer("/_meta/claudeCode/parentToolUseId").and_then(Value::as_str).map(ToOwned::to_owned);
        let goes_on = |text: &Text| (&text.role, &text.kind, &text.id, &text.parent) == (&role, &kind, &id, &parent);
        if !self.text.as_ref().is_some_and(goes_on) {
            self.end_text(tales);
            self.text = Some(Text { start, id, role, kind, content: String::new(), dropped: 0, parent });
        }
        if let Some(text) = &mut self.text {
            let room = MAX_TEXT_BYTES.saturating_sub(text.content.len());
            let kept = piece.get(..piece.floor_char_boundary(room)).unwrap_or_default();
            text.content.push_str(kept);
            text.dropped += (piece.len() - kept.len()) as u64;
        }
    }

    fn end_text(&mut self, tales: &mut Vec<Tale>) {
        let Some(text) = self.text.take() else { return };
        let content = text.content.trim();
        if content.is_empty() {
            return;
        }
        let mut metadata = Metadata::new();
        metadata.extend(text.id.map(|id| ("acpMessageId".to_owned(), id.into())));
        metadata.extend(text.parent.map(|parent| ("parentToolCallId".to_owned(), parent.into())));
        if text.dropped > 0 {
            metadata.insert("droppedBytes".into(), text.dropped.into());
        }
        let voice = Voice::claimed(text.role, text.kind, content.to_owned(), Some(metadata), SOURCE);
        tales.push(Tale::Say(key_of(text.start), voice));
    }

    fn tool(&mut self, start: u64, update: &Value, tales: &mut Vec<Tale>) {
        let Some(id) = text_of(update, "toolCallId") else { return };
        self.end_text(tales);
        let mut tool = match self.tools.iter().position(|tool| tool.id == id).and_then(|at| self.tools.remove(at)) {
            Some(tool) => tool,
            None => Tool::new(id, start),
        };
        tool.update(update);
        if tool.is_known() {
            tales.extend(call_of(&mut tool));
        }
        if tool.is_over() {
            tales.push(Tale::Say(format!("r{:x}", tool.start), tool.outcome()));
            return;
        }
        self.tools.push_back(tool);
        if self.tools.len() > MAX_TOOLS {
            tales.extend(self.tools.pop_front().as_mut().and_then(call_of));
        }
    }

    /// Tools that never said more than that they exist are told when the turn ends.
    fn end_tools(&mut self, tales: &mut Vec<Tale>) {
        for mut tool in std::mem::take(&mut self.tools) {
            tales.extend(call_of(&mut tool));
        }
    }

    fn permission(
        &mut self,
        session: &SessionId,
        start: u64,
        id: Value,
        params: &Value,
        at: Timestamp,
        tales: &mut Vec<Tale>,
    ) {
        // The client answers no more than that.
        if self.open.len() >= MAX_OPEN {
            return;
        }
        self.end_text(tales);
        let call = params.get("toolCall").cloned().unwrap_or_default();
        let tool_id = text_of(&call, "toolCallId").unwrap_or_default().to_owned();
        let known = self.tools.iter_mut().find(|tool| tool.id == tool_id);
        let text = match known {
            Some(tool) => {
                tool.update(&call);
                tales.extend(call_of(tool));
                tool.title().to_owned()
            }
            None => text_of(&call, "title").unwrap_or("the agent asks for leave").to_owned(),
        };
        let options = params.get("options").and_then(Value::as_array).into_iter().flatten();
        let options: Vec<AnswerOption> = options.filter_map(option).collect();
        let facts = Metadata::from_iter([
            ("toolCallId".to_owned(), tool_id.into()),
            ("options".to_owned(), serde_json::to_value(&options).unwrap_or_default()),
        ]);
        tales.push(Tale::Say(key_of(start), system(&text, MessageKind::Permission, facts)));
        self.open.push(Open { start, id, text, since: at, options });
        tales.push(self.stand(session));
    }

    fn answered(
        &mut self,
        session: &SessionId,
        start: u64,
        id: &Value,
        result: Result<Value, Failure>,
        at: Timestamp,
        tales: &mut Vec<Tale>,
    ) {
        let asked = self.asked.iter().position(|(asked, _)| Some(*asked) == id.as_u64());
        let Some((number, question)) = asked.and_then(|at| self.asked.remove(at)) else { return };
        match (question, result) {
            (Question::Initialize, Ok(result)) => {
                let info = |key: &str| result.pointer(&format!("/agentInfo/{key}")).and_then(Value::as_str);
                self.agent = info("name").unwrap_or_default().into();
                let mut facts = Metadata::new();
                facts.extend(info("name").map(|name| ("acpAgent".to_owned(), name.into())));
                facts.extend(info("version").map(|version| ("acpAgentVersion".to_owned(), version.into())));
                self.can_go_on = wire::way_to_go_on(&result).is_some();
                tales.push(Tale::Facts(facts));
            }
            (Question::NewSession | Question::GoOn, Ok(result)) => {
                self.main = text_of(&result, "sessionId").map(Into::into).or(self.main.take());
                self.is_retelling = false;
                let mut facts = Metadata::new();
                let named = |name: &str| self.main.clone().map(|id| (name.to_owned(), id.into()));
                facts.extend(named("acpSessionId"));
                facts.extend(named(CONVERSATION).filter(|_| self.can_go_on));
                if question == Question::GoOn {
                    let text = "goes on with an earlier conversation";
                    tales.push(Tale::Say(key_of(start), system(text, MessageKind::Status, Metadata::new())));
                }
                let mode = result.pointer("/modes/currentModeId").cloned();
                facts.extend(mode.map(|mode| ("mode".to_owned(), mode)));
                tales.extend([Tale::Facts(facts), Tale::Opened, self.stand(session)]);
            }
            (Question::Initialize | Question::NewSession | Question::GoOn, Err(failure)) => {
                let text = format!("the agent opened no session: {}", failure.message);
                tales.push(Tale::Say(key_of(start), system(&text, MessageKind::Status, Metadata::new())));
            }
            (Question::Prompt, result) if self.turn == Some(number) => {
                self.turn = None;
                self.end_text(tales);
                self.end_tools(tales);
                if let Some(usage) = self.usage.take() {
                    tales.push(Tale::Facts(Metadata::from_iter([("usage".to_owned(), usage)])));
                }
                self.end_turn(session, start, result, at, tales);
            }
            (Question::Prompt | Question::Other, _) => {}
        }
    }

    fn end_turn(
        &mut self,
        session: &SessionId,
        start: u64,
        result: Result<Value, Failure>,
        at: Timestamp,
        tales: &mut Vec<Tale>,
    ) {
        let failure = match &result {
            Err(failure) => Some(failure.message.clone()),
            Ok(_) => self.failure.take().map(|text| if text.is_empty() { "the agent failed".into() } else { text }),
        };
        if let Some(failure) = failure {
            let text = format!("the turn failed: {failure}");
            tales.push(Tale::Say(key_of(start), system(&text, MessageKind::Status, Metadata::new())));
            self.failed = Some((failure, at));
            tales.push(self.stand(session));
            return;
        }
        let reason = result.as_ref().ok().and_then(|result| text_of(result, "stopReason")).unwrap_or("end_turn");
        if reason != "end_turn" {
            tales.push(ended_early(start, reason));
        }
        tales.push(self.stand(session));
    }
}

/// A line of the agent is so long that it was not kept.
pub(crate) fn left_out(start: u64, bytes: u64) -> Tale {
    let text = format!("a line of {bytes} bytes of the agent is too long and was left out");
    let facts = Metadata::from_iter([("lineBytes".to_owned(), bytes.into())]);
    Tale::Say(key_of(start), system(&text, MessageKind::Status, facts))
}

/// What is told of a turn that ended for another reason than that it was over.
pub(super) fn ended_early(start: u64, reason: &str) -> Tale {
    let text = match reason {
        "cancelled" => "the turn was interrupted".to_owned(),
        other => format!("the turn ended early: {other}"),
    };
    let facts = Metadata::from_iter([("stopReason".to_owned(), reason.into())]);
    Tale::Say(key_of(start), system(&text, MessageKind::Status, facts))
}

/// The message that tells what was answered, and by whom.
fn decided(session: &SessionId, open: &Open, result: &Value, by: Option<&Operator>) -> Tale {
    let option = result.pointer("/outcome/optionId").and_then(Value::as_str);
    let label = option.and_then(|id| open.options.iter().find(|option| option.option_id == id));
    let content = match option {
        Some(option) => label.map_or(option, |label| &label.label).to_owned(),
        None => "not answered any more".to_owned(),
    };
    let mut metadata = Metadata::from_iter([("source".to_owned(), SOURCE.into())]);
    let request = message_id(session, &key_of(open.start));
    metadata.extend(request.map(|request| ("answers".to_owned(), request.as_str().into())));
    metadata.extend(option.map(|option| ("optionId".to_owned(), option.into())));
    metadata.extend(by.map(|by| ("operator".to_owned(), json!({"id": by.id, "name": by.name}))));
    let voice = Voice { role: Role::System, kind: MessageKind::Permission, content, metadata };
    Tale::Say(format!("a{:x}", open.start), voice)
}

fn option(option: &Value) -> Option<AnswerOption> {
    let option_id = text_of(option, "optionId")?.to_owned();
    let kind = match text_of(option, "kind") {
        Some("allow_once") => OptionKind::AllowOnce,
        Some("allow_always") => OptionKind::AllowAlways,
        Some("reject_once") => OptionKind::RejectOnce,
        Some("reject_always") => OptionKind::RejectAlways,
        Some(_) | None => OptionKind::Choice,
    };
    let label = text_of(option, "name").unwrap_or(&option_id).to_owned();
    Some(AnswerOption { option_id, label, kind })
}

fn plan_line(entry: &Value) -> String {
    let mark = match text_of(entry, "status") {
        Some("completed") => "[x]",
        Some("in_progress") => "[>]",
        Some(_) | None => "[ ]",
    };
    format!("{mark} {}", text_of(entry, "content").unwrap_or_default())
}

fn system(text: &str, kind: MessageKind, facts: Metadata) -> Voice {
    Voice::claimed(Role::System, kind, text.to_owned(), Some(facts), SOURCE)
}

fn message_id(session: &SessionId, key: &str) -> Option<MessageId> {
    MessageId::new(format!("{session}-{key}")).ok()
}

/// The message of a call, once.
fn call_of(tool: &mut Tool) -> Option<Tale> {
    let key = format!("c{:x}", tool.start);
    tool.call().map(|call| Tale::Say(key, call))
}

#[cfg(test)]
mod tests;
