//! Payloads as lines for people. Pure: bytes in, text out.
//!
//! A line has time, node, the last six characters of the session, who speaks, and the text; further lines of a text
//! are indented under it.

use std::collections::HashMap;

use bus_schema::{
    AuditEntry, Delta, Kind, Message, MessageKind, NodeState, NodeStatus, Receipt, RefusedCommand, Role, Session,
    SessionId, Subject, Timestamp, decode,
};
use chrono::Local;

use crate::{decode as payloads, escape};

/// Width of what stands before the text: `20:05:00 n1       000000 agent    `.
const INDENT: usize = 35;
/// Longest text shown of one message, in lines; the page shows all of it.
const MAX_LINES: usize = 40;
/// Nodes whose last state is remembered; beyond that every heartbeat of a further one is shown.
const MAX_NODES: usize = 10_000;

/// Turns payloads into lines.
pub(crate) struct Renderer {
    colours: bool,
    nodes: HashMap<String, NodeStatus>,
}

/// SGR codes.
const DIM: &str = "2";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "36";

impl Renderer {
    pub fn new(colours: bool) -> Self {
        Self { colours, nodes: HashMap::new() }
    }

    /// The line for a heartbeat that says something new: a node that came or is leaving.
    pub fn node_change(&mut self, subject: &Subject, payload: &[u8]) -> Option<String> {
        let node = subject.node()?.as_str().to_owned();
        let status = decode::<NodeState>(payload, None).ok()?.status;
        if self.nodes.get(&node) == Some(&status) {
            return None;
        }
        if self.nodes.len() < MAX_NODES {
            self.nodes.insert(node, status);
        }
        Some(self.line(subject, payload))
    }

    /// The line for a payload; one that does not fit its subject is shown as JSON.
    pub fn line(&self, subject: &Subject, payload: &[u8]) -> String {
        self.known(subject, payload).unwrap_or_else(|| {
            let text = payloads::line(payload);
            self.assemble(None, subject, subject.kind().as_str(), RED, &text)
        })
    }

    fn known(&self, subject: &Subject, payload: &[u8]) -> Option<String> {
        Some(match subject.kind() {
            Kind::Message => {
                let message: Message = decode(payload, None).ok()?;
                let (who, colour) = speaker(&message);
                let text = match message.kind {
                    MessageKind::Reasoning => format!("(thinks) {}", message.content),
                    MessageKind::ToolCall => format!("→ {}", message.content),
                    MessageKind::ToolResult => format!("← {}", message.content),
                    MessageKind::Permission => format!("(asks for leave) {}", message.content),
                    MessageKind::Text | MessageKind::Status | MessageKind::Unknown(_) => message.content,
                };
                self.assemble(Some(message.timestamp), subject, &who, colour, &text)
            }
            Kind::Delta => {
                let delta: Delta = decode(payload, None).ok()?;
                let last = delta.content.lines().next_back().unwrap_or_default();
                self.assemble(Some(delta.timestamp), subject, "…", DIM, last)
            }
            Kind::Session => {
                let session: Session = decode(payload, None).ok()?;
                self.assemble(Some(session.status_since), subject, "session", BLUE, &state(&session))
            }
            Kind::Receipt => {
                let receipt: Receipt = decode(payload, None).ok()?;
                let reason = receipt.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                let text = format!("message {} {}{reason}", receipt.message_id, receipt.state);
                self.assemble(Some(receipt.timestamp), subject, "receipt", DIM, &text)
            }
            Kind::Node => {
                let node: NodeState = decode(payload, None).ok()?;
                let text = format!(
                    "{} {} ({}), {} sessions, {} records to send",
                    node.status, node.version, node.host.hostname, node.load.sessions, node.load.outbox_records
                );
                self.assemble(Some(node.timestamp), subject, "node", BLUE, &text)
            }
            Kind::Refusal => {
                let refused: RefusedCommand = decode(payload, None).ok()?;
                let action = refused.action.map_or_else(|| "a command".into(), |action| action.to_string());
                let more = if refused.untold > 0 { format!(" (and {} more)", refused.untold) } else { String::new() };
                let text = format!("did not obey {action}: {}{more}", refused.refusal);
                self.assemble(Some(refused.refused_at), subject, "refusal", RED, &text)
            }
            Kind::Audit => {
                let (at, text) = match AuditEntry::from_payload(payload, None).ok()? {
                    AuditEntry::Row(line) => {
                        let row = line.row;
                        let text = format!("{}: {} ({}) {}", row.user.name, row.action, row.phase, row.result);
                        (row.timestamp, text)
                    }
                    AuditEntry::Checkpoint(line) => {
                        let said = line.checkpoint;
                        (said.timestamp, format!("rows up to {} are signed", said.checkpoint))
                    }
                };
                self.assemble(Some(at), subject, "audit", YELLOW, &text)
            }
            Kind::Terminal | Kind::Command => return None,
        })
    }

    fn assemble(&self, at: Option<Timestamp>, subject: &Subject, who: &str, colour: &str, text: &str) -> String {
        let time =
            at.map_or_else(String::new, |at| at.to_chrono().with_timezone(&Local).format("%H:%M:%S").to_string());
        let node = subject.node().map_or("hub", |node| node.as_str());
        let session = subject.session().map_or("", short);
        let head = format!("{time:8} {:8} {session:6} ", cut(node, 8));
        let who = format!("{:9}", cut(&escape::line(who), 9));
        let mut line = format!("{}{} ", self.paint(DIM, &head), self.paint(colour, &who));
        let mut lines = text.lines();
        line.push_str(&escape::line(lines.next().unwrap_or_default()));
        for (n, further) in lines.by_ref().enumerate() {
            line.push('\n');
            line.push_str(&" ".repeat(INDENT));
            if n + 2 > MAX_LINES {
                line.push_str(&self.paint(DIM, &format!("({} more lines)", lines.count().saturating_add(1))));
                break;
            }
            line.push_str(&escape::line(further));
        }
        line
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn speaker(message: &Message) -> (String, &'static str) {
    match &message.role {
        Role::Agent if message.kind == MessageKind::Text => ("agent".into(), GREEN),
        Role::Agent => ("agent".into(), DIM),
        Role::User => ("user".into(), BLUE),
        Role::System => ("system".into(), YELLOW),
        Role::Operator => {
            let name = message.metadata.get("operator").and_then(|o| o.get("name")).and_then(|n| n.as_str());
            (name.map_or("operator".into(), |name| format!("@{name}")), BOLD)
        }
        Role::Unknown(word) => (word.to_string(), DIM),
    }
}

/// Where a session stands, in one line.
fn state(session: &Session) -> String {
    let mut text = session.status.to_string();
    if let Some(turn) = &session.turn {
        text.push_str(&format!(", turn {turn}"));
    }
    if let Some(reason) = &session.status_reason {
        text.push_str(&format!(": {reason}"));
    }
    if let Some(attention) = &session.attention {
        text.push_str(&format!(" [{}: {}]", attention.kind, attention.text));
    }
    format!("{} — {text}", session.title.as_deref().unwrap_or(session.provider.as_str()))
}

/// The last six characters: the first ones are the time and much alike.
fn short(session: &SessionId) -> &str {
    let text = session.as_str();
    text.get(text.len().saturating_sub(6)..).unwrap_or(text)
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use bus_schema::{MessageId, encode};
    use serde_json::json;

    use super::*;

    const SESSION: &str = "01JD8Z2V9Q0000000000ABCDEF";

    fn message(role: &str, kind: &str, content: &str) -> (Subject, Vec<u8>) {
        let value = json!({
            "messageId": MessageId::new("m1").unwrap(), "sessionId": SESSION, "seq": 1, "role": role, "kind": kind,
            "content": content, "timestamp": "2026-11-22T20:05:00.123Z", "metadata": {"operator": {"name": "Ada"}},
        });
        let message: Message = serde_json::from_value(value).unwrap();
        (format!("mosaic.v1.default.n1.message.{SESSION}").parse().unwrap(), encode(&message).unwrap())
    }

    fn line(role: &str, kind: &str, content: &str) -> String {
        let (subject, payload) = message(role, kind, content);
        Renderer::new(false).line(&subject, &payload)
    }

    #[test]
    fn a_line_says_when_where_and_who() {
        let text = line("agent", "text", "hello");
        assert!(text.ends_with(" n1       ABCDEF agent     hello"), "{text}");
        assert!(line("operator", "text", "stop").contains("@Ada      stop"));
        assert!(line("agent", "toolCall", "ls").contains("→ ls"));
    }

    #[test]
    fn further_lines_stand_under_the_first_and_have_an_end() {
        let text = line("agent", "text", "one\ntwo");
        let second = text.lines().nth(1).unwrap();
        assert_eq!(second.trim_start(), "two");
        assert_eq!(text.lines().next().unwrap().find("one"), second.find("two"));
        let many = line("agent", "text", &"x\n".repeat(1000));
        assert!(many.lines().count() <= MAX_LINES + 1 && many.contains("more lines"), "{many}");
    }

    #[test]
    fn an_agent_cannot_speak_to_the_terminal() {
        for text in [line("agent", "text", "\x1b[2J\u{9b}\u{202e}x"), line("\x1b[2J", "text", "y")] {
            assert!(!text.chars().any(|c| c != '\n' && escape::is_unsafe(c)), "{text:?}");
        }
        // Nor with what does not fit its subject.
        let (subject, _) = message("agent", "text", "");
        let text = Renderer::new(false).line(&subject, &encode(&json!({"content": "\x1b[2J"})).unwrap());
        assert!(text.contains("\\u001b") && !text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn colours_only_where_asked_for() {
        let (subject, payload) = message("agent", "text", "hello");
        assert!(Renderer::new(true).line(&subject, &payload).contains("\x1b[32m"));
        assert!(!Renderer::new(false).line(&subject, &payload).contains('\x1b'));
    }
}
