//! What is told of lines as real agents wrote them (codex-acp 2.6.0, claude-agent-acp 0.101.0), and of worse ones.

use super::*;

struct Listener {
    conversation: Conversation,
    place: u64,
    tales: Vec<Tale>,
}

fn session() -> SessionId {
    SessionId::new("01JD8Z2V9Q0000000000000000").unwrap()
}

fn at() -> Timestamp {
    Timestamp::from_millis(7)
}

impl Listener {
    /// One that knows the agent's name, with an open turn.
    fn of(agent: &str) -> Self {
        let mut listener = Self { conversation: Conversation::default(), place: 0, tales: vec![] };
        listener.say(&wire::initialize(0));
        listener.hear(json!({"id": 0, "result": {"agentInfo": {"name": agent, "version": "1"}}}));
        listener.say(&wire::new_session(1, "/x"));
        listener.hear(json!({"id": 1, "result": {"sessionId": "s"}}));
        listener.say(&wire::prompt(2, "s", "go"));
        listener.tales.clear();
        listener
    }

    fn hear(&mut self, line: Value) {
        self.line(&line.to_string());
    }

    fn line(&mut self, line: &str) {
        let tales = self.conversation.heard(&session(), self.place, line.as_bytes(), at());
        self.place += line.len() as u64 + 1;
        self.tales.extend(tales);
    }

    fn say(&mut self, line: &[u8]) {
        self.tales.extend(self.conversation.said(&session(), line, None));
    }

    fn update(&mut self, update: Value) {
        self.hear(json!({"method": "session/update", "params": {"sessionId": "s", "update": update}}));
    }

    fn chunk(&mut self, id: Option<&str>, text: &str) {
        let mut update = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}});
        if let Some(id) = id {
            update["messageId"] = id.into();
        }
        self.update(update);
    }

    fn ends(&mut self, reason: &str) {
        self.hear(json!({"id": 2, "result": {"stopReason": reason}}));
    }

    /// What was told since the last look, in short.
    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.tales).iter().map(short).collect()
    }
}

fn short(tale: &Tale) -> String {
    match tale {
        Tale::Say(_, voice) => format!("{} {}: {}", voice.role, voice.kind.as_str(), voice.content),
        Tale::Opened => "opened".into(),
        Tale::Stand(turn, _, attention) => {
            let needed = attention.as_ref().map_or(String::new(), |a| format!(", {}: {}", a.kind.as_str(), a.text));
            format!("turn {}{needed}", turn.as_str())
        }
        Tale::Facts(facts) => format!("facts {}", serde_json::to_string(facts).unwrap()),
        Tale::Title(title) => format!("title {title}"),
    }
}

#[test]
fn texts_are_whole_when_something_else_follows() {
    let mut it = Listener::of("scripted");
    it.chunk(Some("a"), "hel");
    assert_eq!(it.conversation.delta(&session()).unwrap().content, "hel");
    it.chunk(Some("a"), "lo");
    let delta = it.conversation.delta(&session()).unwrap();
    assert_eq!(it.told(), Vec::<String>::new());
    it.chunk(Some("b"), "again");
    let Tale::Say(key, _) = &it.tales[0] else { panic!("{:?}", it.tales) };
    assert_eq!(delta.message_id.as_str(), format!("{}-{key}", session()), "what is told as it grows is that message");
    assert_eq!(it.told(), ["agent text: hello"]);
    // What says nothing of the conversation does not cut a text in two.
    it.update(json!({"sessionUpdate": "usage_update", "used": 5, "size": 9}));
    it.chunk(Some("b"), ", again");
    it.ends("end_turn");
    let usage = it.tales.remove(1);
    assert_eq!(usage, Tale::Facts(Metadata::from_iter([("usage".to_owned(), json!({"used": 5, "size": 9}))])));
    assert_eq!(it.told(), ["agent text: again, again", "turn idle"]);
    assert_eq!(it.conversation.delta(&session()), None);
}

#[test]
fn warnings_of_an_adapter_are_not_the_agents_words() {
    let mut it = Listener::of("@agentclientprotocol/codex-acp");
    it.chunk(None, "Warning: no metadata\n\n");
    it.chunk(Some("m"), "the answer");
    it.ends("end_turn");
    assert_eq!(it.told(), ["system status: Warning: no metadata", "agent text: the answer", "turn idle"]);
    // An agent that gives no ids at all speaks for itself.
    let mut it = Listener::of("plain");
    it.chunk(None, "one ");
    it.chunk(None, "text");
    it.ends("end_turn");
    assert_eq!(it.told(), ["agent text: one text", "turn idle"]);
}

#[test]
fn a_tool_as_claude_tells_it() {
    let mut it = Listener::of("@agentclientprotocol/claude-agent-acp");
    let meta = json!({"claudeCode": {"toolName": "Bash", "parentToolUseId": "toolu_0"}});
    it.update(json!({"_meta": meta, "toolCallId": "toolu_1", "sessionUpdate": "tool_call", "name": "Bash",
        "rawInput": {}, "status": "pending", "title": "Terminal", "kind": "execute", "content": []}));
    assert_eq!(it.told(), Vec::<String>::new(), "nothing is known of it yet");
    it.update(json!({"_meta": meta, "toolCallId": "toolu_1", "sessionUpdate": "tool_call_update",
        "rawInput": {"command": "cat x"}, "title": "cat x"}));
    let Tale::Say(_, call) = &it.tales[0] else { panic!("{:?}", it.tales) };
    assert_eq!((&call.metadata["tool"], &call.metadata["parentToolCallId"]), (&json!("Bash"), &json!("toolu_0")));
    assert_eq!(call.metadata["rawInput"], json!({"command": "cat x"}));
    it.update(json!({"toolCallId": "toolu_1", "sessionUpdate": "tool_call_update",
        "rawInput": {"command": "cat x", "description": "look"}}));
    it.update(json!({"toolCallId": "toolu_1", "sessionUpdate": "tool_call_update", "status": "completed",
        "rawOutput": "hello", "content": [{"type": "content", "content": {"type": "text", "text": "```\nhello\n```"}}]}));
    assert_eq!(it.told(), ["agent toolCall: cat x", "agent toolResult: hello"]);
}

#[test]
fn a_tool_as_codex_tells_it() {
    let mut it = Listener::of("@agentclientprotocol/codex-acp");
    it.update(json!({"sessionUpdate": "tool_call", "toolCallId": "c", "name": "exec_command", "kind": "execute",
        "title": "cat x", "status": "in_progress", "content": [{"type": "terminal", "terminalId": "c"}],
        "rawInput": {"command": "cat x", "cwd": "/w"}}));
    for piece in ["hel", "lo\n"] {
        it.update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "c",
            "_meta": {"terminal_output_delta": {"data": piece, "terminal_id": "c"}}}));
    }
    it.update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "failed",
        "_meta": {"terminal_exit": {"exit_code": 3, "signal": null, "terminal_id": "c"}}}));
    let Some(Tale::Say(_, result)) = it.tales.last() else { panic!("{:?}", it.tales) };
    assert_eq!((&result.metadata["exitCode"], &result.metadata["status"]), (&json!(3), &json!("failed")));
    assert_eq!(it.told(), ["agent toolCall: cat x", "agent toolResult: hello\n"]);
}

#[test]
fn a_failure_is_believed_over_a_fine_end() {
    let mut it = Listener::of("@agentclientprotocol/codex-acp");
    it.update(
        json!({"sessionUpdate": "session_info_update", "_meta": {"codex": {"threadStatus": {"type": "systemError"}}}}),
    );
    it.chunk(None, "the model is broken\n\n");
    it.ends("end_turn");
    let told = it.told();
    let expected = [
        "system status: the model is broken",
        "system status: the turn failed: the model is broken",
        "turn error, error: the model is broken",
    ];
    assert_eq!(told, expected);
    // The next prompt is a new beginning.
    it.say(&wire::prompt(2, "s", "go"));
    it.ends("end_turn");
    assert_eq!(it.told(), ["turn active", "turn idle"]);
}

#[test]
fn requests_stay_open_until_they_are_answered() {
    let mut it = Listener::of("scripted");
    for (id, title) in [(4, "first"), (5, "second")] {
        let params = json!({"sessionId": "s", "toolCall": {"toolCallId": title, "title": title},
            "options": [{"optionId": "y", "name": "Yes", "kind": "allow_once"}, {"optionId": "n", "name": "No", "kind": "new"}]});
        it.hear(json!({"id": id, "method": "session/request_permission", "params": params}));
    }
    let Some(Tale::Stand(_, _, Some(attention))) = it.tales.last() else { panic!("{:?}", it.tales) };
    let asked = attention.request.clone().unwrap();
    let kinds: Vec<_> = asked.options.iter().map(|option| option.kind.clone()).collect();
    assert_eq!(kinds, [OptionKind::AllowOnce, OptionKind::Choice]);
    it.say(&wire::decide(&json!(4), Some("y")));
    it.ends("cancelled");
    it.say(&wire::decide(&json!(5), None));
    it.say(&wire::decide(&json!(5), None));
    let expected = [
        "system permission: first",
        "turn blocked, permission: first",
        "system permission: second",
        "turn blocked, permission: first",
        "system permission: Yes",
        "turn blocked, permission: second",
        "system status: the turn was interrupted",
        "turn blocked, permission: second",
        "system permission: not answered any more",
        "turn idle",
    ];
    assert_eq!(it.told(), expected);
}

#[test]
fn what_is_unknown_changes_nothing_and_garbage_is_shown() {
    let mut it = Listener::of("scripted");
    it.chunk(Some("a"), "whole");
    for line in [
        json!({"method": "session/update", "params": {"update": {"sessionUpdate": "levitation"}}}),
        json!({"method": "session/update", "params": {}}),
        json!({"method": "session/update"}),
        json!({"method": "_vendor/x", "params": [1]}),
        json!({"id": 99, "result": {"stopReason": "end_turn"}}),
        json!({"method": "session/update", "params": {"update": {"sessionUpdate": "tool_call"}}}),
    ] {
        it.hear(line);
    }
    assert_eq!(it.told(), Vec::<String>::new());
    it.line("npm warn deprecated");
    it.line("");
    it.ends("refusal");
    let told = it.told();
    let expected = [
        "system status: npm warn deprecated",
        "agent text: whole",
        "system status: the turn ended early: refusal",
        "turn idle",
    ];
    assert_eq!(told, expected);
}

#[test]
fn plans_titles_and_what_the_session_is_about() {
    let mut it = Listener::of("scripted");
    it.update(json!({"sessionUpdate": "plan", "entries": [
        {"content": "look", "priority": "high", "status": "completed"},
        {"content": "do", "priority": "high", "status": "pending"}]}));
    it.update(json!({"sessionUpdate": "session_info_update", "title": "Fix it"}));
    it.update(json!({"sessionUpdate": "current_mode_update", "currentModeId": "plan"}));
    it.update(json!({"sessionUpdate": "available_commands_update", "availableCommands": []}));
    assert_eq!(it.told(), ["system status: [x] look\n[ ] do", "title Fix it", "facts {\"mode\":\"plan\"}"]);
}

#[test]
fn nothing_grows_without_end() {
    let mut it = Listener::of("scripted");
    for _ in 0..3 {
        it.chunk(Some("a"), &"é".repeat(MAX_TEXT_BYTES / 4));
    }
    assert_eq!(it.conversation.delta(&session()), None, "too long to be told each time");
    for n in 0..=MAX_TOOLS {
        it.update(json!({"sessionUpdate": "tool_call", "toolCallId": format!("t{n}"), "title": format!("tool {n}")}));
    }
    assert_eq!(it.conversation.tools.len(), MAX_TOOLS);
    let Tale::Say(_, voice) = &it.tales[0] else { panic!() };
    assert_eq!(voice.content.len(), MAX_TEXT_BYTES);
    assert_eq!(voice.metadata["droppedBytes"], json!(MAX_TEXT_BYTES / 2));
    for id in 0..200 {
        it.say(&wire::steer(id + 10, "s", "x"));
    }
    assert_eq!(it.conversation.asked.len(), MAX_ASKED);
}

#[test]
fn what_is_told_again_of_an_earlier_conversation_is_no_news() {
    let mut it = Listener { conversation: Conversation::default(), place: 0, tales: vec![] };
    it.say(&wire::initialize(0));
    it.hear(json!({"id": 0, "result": {"agentInfo": {"name": "x"}, "agentCapabilities": {"loadSession": true}}}));
    it.say(&wire::go_on(1, wire::LOAD, "s", "/x"));
    it.tales.clear();
    it.update(json!({"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": "old question"}}));
    it.chunk(Some("a"), "old answer");
    it.update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "ls", "status": "completed"}));
    it.update(json!({"sessionUpdate": "session_info_update", "title": "Fix it"}));
    assert_eq!(it.told(), ["title Fix it"]);
    it.hear(json!({"id": 1, "result": {}}));
    let facts = it.tales.iter().find_map(|tale| match tale {
        Tale::Facts(facts) => Some(facts.clone()),
        _ => None,
    });
    assert_eq!(facts.unwrap()["conversation"], "s");
    assert_eq!(it.told()[0], "system status: goes on with an earlier conversation");
    it.say(&wire::prompt(2, "s", "go"));
    it.chunk(Some("b"), "new answer");
    // Not of this session.
    it.hear(json!({"method": "session/update", "params": {"sessionId": "child", "update":
        {"sessionUpdate": "agent_message_chunk", "messageId": "c", "content": {"type": "text", "text": "a child's"}}}}));
    it.ends("end_turn");
    assert_eq!(it.told(), ["turn active", "agent text: new answer", "turn idle"]);
}
