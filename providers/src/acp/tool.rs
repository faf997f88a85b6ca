//! What an agent tells of one use of a tool, piece by piece: updates are partial, and the first one often knows little
//! (seen: claude-agent-acp calls a tool "Terminal" until its arguments are whole). Pure.

use bus_schema::{MessageKind, Metadata, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire::{text_of, text_of_content};
use crate::pty::interpret::Voice;

/// Longest output of a tool that is collected. The mesh cuts messages at a quarter of this.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// Largest arguments that are told beside the call, as JSON.
const MAX_INPUT_BYTES: usize = 16 * 1024;

/// One use of a tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tool {
    /// The agent's own name for this use.
    pub id: String,
    /// The place where it was named first.
    pub start: u64,
    title: String,
    name: Option<String>,
    kind: Option<String>,
    status: String,
    input: Option<Value>,
    parent: Option<String>,
    /// What it shows: content blocks, as text.
    content: String,
    /// What it gives back.
    result: Option<Value>,
    /// What it wrote so far, where that is streamed.
    output: String,
    exit_code: Option<i64>,
    is_told: bool,
}

impl Tool {
    /// One that was just named.
    pub fn new(id: &str, start: u64) -> Self {
        Self { id: id.into(), start, ..Self::default() }
    }

    /// Takes an update over.
    pub fn update(&mut self, update: &Value) {
        if let Some(title) = text_of(update, "title").filter(|title| !title.is_empty()) {
            self.title = title.into();
        }
        if let Some(status) = text_of(update, "status") {
            self.status = status.into();
        }
        let name = text_of(update, "name").or(update.pointer("/_meta/claudeCode/toolName").and_then(Value::as_str));
        self.name = name.map(Into::into).or(self.name.take());
        self.kind = text_of(update, "kind").map(Into::into).or(self.kind.take());
        let parent = update.pointer("/_meta/claudeCode/parentToolUseId").and_then(Value::as_str);
        self.parent = parent.map(Into::into).or(self.parent.take());
        let is_empty = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        if let Some(input) = update.get("rawInput").filter(|input| !is_empty(input)) {
            self.input = Some(input.clone());
        }
        if let Some(result) = update.get("rawOutput").filter(|result| !result.is_null()) {
            self.result = Some(result.clone());
        }
        if let Some(content) = update.get("content").and_then(Value::as_array) {
            let parts: Vec<String> = content.iter().map(shown).filter(|part| !part.is_empty()).collect();
            self.content = bounded(parts.join("\n"));
        }
        // Seen with codex-acp 2.6, also towards a client without terminals.
        if let Some(piece) = update.pointer("/_meta/terminal_output_delta/data").and_then(Value::as_str) {
            let room = MAX_OUTPUT_BYTES.saturating_sub(self.output.len());
            self.output.push_str(piece.get(..piece.floor_char_boundary(room)).unwrap_or_default());
        }
        let code = update.pointer("/_meta/terminal_exit/exit_code").and_then(Value::as_i64);
        self.exit_code = code.or(self.exit_code);
    }

    /// True once the call is worth telling: it has begun, or says with what it is called.
    pub fn is_known(&self) -> bool {
        self.input.is_some() || matches!(self.status.as_str(), "in_progress" | "completed" | "failed")
    }

    /// True once it is over.
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed")
    }

    /// In a few words.
    pub fn title(&self) -> &str {
        if self.title.is_empty() { self.name.as_deref().unwrap_or("a tool") } else { &self.title }
    }

    /// The call, once.
    pub fn call(&mut self) -> Option<Voice> {
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let mut metadata = self.facts();
        let input = self.input.clone().filter(|input| input.to_string().len() <= MAX_INPUT_BYTES);
        metadata.extend(input.map(|input| ("rawInput".to_owned(), input)));
        Some(self.voice(MessageKind::ToolCall, self.title().to_owned(), metadata))
    }

    /// What came of it.
    pub fn outcome(self) -> Voice {
        let mut metadata = self.facts();
        metadata.insert("status".into(), self.status.as_str().into());
        metadata.extend(self.exit_code.map(|code| ("exitCode".to_owned(), code.into())));
        let content = match &self.result {
            _ if !self.output.is_empty() => self.output.clone(),
            Some(Value::String(text)) => text.clone(),
            Some(_) | None if !self.content.is_empty() => self.content.clone(),
            Some(result) => bounded(result.to_string()),
            None => String::new(),
        };
        self.voice(MessageKind::ToolResult, content, metadata)
    }

    fn facts(&self) -> Metadata {
        let text = |key: &str, value: &Option<String>| value.clone().map(|value| (key.to_owned(), value.into()));
        let all = [text("tool", &self.name), text("toolKind", &self.kind), text("parentToolCallId", &self.parent)];
        let id = ("toolCallId".to_owned(), self.id.as_str().into());
        all.into_iter().flatten().chain([id]).collect()
    }

    fn voice(&self, kind: MessageKind, content: String, metadata: Metadata) -> Voice {
        Voice::claimed(Role::Agent, kind, content, Some(metadata), super::SOURCE)
    }
}

/// What a piece of content shows: text, the file that was changed, or nothing.
fn shown(content: &Value) -> String {
    match text_of(content, "type") {
        Some("content") => content.get("content").map(text_of_content).unwrap_or_default(),
        Some("diff") => format!("changed {}", text_of(content, "path").unwrap_or("?")),
        Some(_) | None => String::new(),
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_OUTPUT_BYTES));
    text
}
