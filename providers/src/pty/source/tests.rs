//! The records that CLIs keep of their own conversations, as they grow, are cut short or replaced.

use std::io::Write;

use serde_json::json;

use super::*;

const BEGIN: &str = "2026-11-22T20:00:00.000Z";
const NOW: &str = "2026-11-22T20:00:05.000Z";

/// What these lines of a file say: `role kind content`, children with the last four characters of their id.
fn told(program: Program, child: Option<SessionId>, lines: &[Value]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut tail = Tail::open(path, child).unwrap();
    let since = BEGIN.parse().unwrap();
    let mut all = vec![];
    for line in lines {
        let text = format!("{line}\n");
        let (first, second) = text.split_at(text.len() / 2);
        write!(file, "{first}").unwrap();
        assert_eq!(tail.read(), Vec::<Vec<u8>>::new(), "half a line is none");
        write!(file, "{second}").unwrap();
        for line in tail.read() {
            let line: Value = serde_json::from_slice(&line).unwrap();
            if time(&line).is_some_and(|at| at < since) {
                tail.old(&line, program);
            } else {
                all.extend(tail.take(&line, program));
            }
        }
    }
    let last = |id: &Option<SessionId>| id.as_ref().map_or(String::new(), |id| format!(" @{}", &id.as_str()[22..]));
    let text = |report: Report| match report {
        Report::Message { role, content, kind, metadata, session_id } => {
            let facts = serde_json::to_string(&metadata.unwrap_or_default()).unwrap();
            format!("{role} {} {content} {facts}{}", kind.unwrap(), last(&session_id))
        }
        Report::Status { turn, session_id, .. } => format!("turn {}{}", turn.unwrap(), last(&session_id)),
        Report::Child { session_id, title, .. } => format!("child {}{}", title.unwrap_or_default(), last(&session_id)),
        other => format!("{other:?}"),
    };
    all.into_iter().map(text).collect()
}

fn codex(kind: &str, payload: Value) -> Value {
    json!({"timestamp": NOW, "type": kind, "payload": payload})
}

fn item(item: Value) -> Value {
    codex("event_msg", json!({"type": "item_completed", "item": item}))
}

#[test]
fn a_codex_turn_is_all_there_and_once() {
    let call =
        json!({"type": "function_call", "name": "exec_command", "arguments": "{\"cmd\":\"ls -1\"}", "call_id": "c1"});
    let done = json!({"type": "CommandExecution", "id": "c1", "aggregated_output": "a.txt\n", "exit_code": 0});
    let output = json!({"type": "function_call_output", "call_id": "c1", "output": "Chunk ID: 1\nOutput:\na.txt\n"});
    let other = json!({"type": "function_call_output", "call_id": "c2", "output": "plan updated"});
    let lines = [
        codex("session_meta", json!({"id": "01a20568-3ea3-7972-870d-28faf46afcf9", "source": "cli"})),
        codex("event_msg", json!({"type": "task_started"})),
        codex(
            "response_item",
            json!({"type": "message", "role": "user", "content": [{"text": "<environment_context>"}]}),
        ),
        item(json!({"type": "UserMessage", "content": [{"type": "text", "text": "look around"}]})),
        item(json!({"type": "AgentMessage", "content": [{"type": "Text", "text": "looking"}]})),
        codex("response_item", json!({"type": "message", "role": "assistant", "content": [{"text": "looking"}]})),
        codex("event_msg", json!({"type": "agent_message", "message": "looking"})),
        codex("response_item", json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]})),
        codex("response_item", call),
        item(done),
        codex("response_item", output),
        codex("response_item", other),
        codex("event_msg", json!({"type": "error", "message": "overloaded"})),
        codex("event_msg", json!({"type": "task_complete"})),
    ];
    assert_eq!(
        told(Program::Codex, None, &lines),
        [
            "user text look around {}",
            "agent text looking {}",
            "agent reasoning hm {}",
            r#"agent toolCall ls -1 {"callId":"c1","tool":"exec_command"}"#,
            "agent toolResult a.txt\n {\"callId\":\"c1\",\"exitCode\":\"0\"}",
            r#"agent toolResult plan updated {"callId":"c2"}"#,
            "system text overloaded {}",
        ]
    );
}

#[test]
fn an_older_codex_is_understood_too() {
    let lines = [
        codex("event_msg", json!({"type": "user_message", "message": "hi"})),
        codex("event_msg", json!({"type": "agent_message", "message": "hello"})),
    ];
    assert_eq!(told(Program::Codex, None, &lines), ["user text hi {}", "agent text hello {}"]);
}

#[test]
fn a_thread_of_a_sub_agent_is_a_child() {
    let id = "01a20568-4205-7563-95d3-e321c08530c0";
    let meta = json!({"id": id, "parent_thread_id": "01a2", "source": {"subagent": {}}, "agent_nickname": "Lagrange"});
    let lines = [
        codex("session_meta", meta),
        codex("event_msg", json!({"type": "task_started"})),
        item(json!({"type": "AgentMessage", "content": [{"text": "sub here"}]})),
        codex("event_msg", json!({"type": "task_complete"})),
    ];
    let child = session_of_uuid(id).unwrap();
    let tail = &child.as_str()[22..];
    assert_eq!(
        told(Program::Codex, None, &lines),
        [
            format!("child Lagrange @{tail}"),
            format!("turn active @{tail}"),
            format!("agent text sub here {{}} @{tail}"),
            format!("turn idle @{tail}"),
        ]
    );
}

#[test]
fn what_was_said_before_the_session_is_not_told() {
    let old = json!({"timestamp": "2026-11-22T19:59:59.000Z", "type": "event_msg", "payload":
        {"type": "agent_message", "message": "long ago"}});
    let lines = [old, codex("event_msg", json!({"type": "agent_message", "message": "now"}))];
    assert_eq!(told(Program::Codex, None, &lines), ["agent text now {}"]);
}

fn claude(kind: &str, rest: Value) -> Value {
    let mut line = json!({"timestamp": NOW, "type": kind});
    line.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    line
}

fn says(parts: Value, stop: &str) -> Value {
    claude("assistant", json!({"message": {"role": "assistant", "content": parts, "stop_reason": stop}}))
}

#[test]
fn a_claude_turn_is_all_there_and_once() {
    let human = json!({"kind": "human"});
    let result = json!([{"type": "tool_result", "tool_use_id": "t1", "content": "a.txt", "is_error": false}]);
    let parts = json!([{"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "no"}], "is_error": true}]);
    let lines = [
        claude("mode", json!({"mode": "normal"})),
        claude("user", json!({"message": {"content": "look around"}, "origin": human})),
        claude("attachment", json!({"attachment": {"type": "environment"}})),
        says(json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "looking"}]), "tool_use"),
        says(json!([{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls -1"}}]), "tool_use"),
        claude("user", json!({"message": {"content": result}})),
        claude("queue-operation", json!({"operation": "enqueue", "content": "also this"})),
        claude("user", json!({"message": {"content": parts}})),
        claude("attachment", json!({"attachment": {"type": "queued_command", "prompt": "also this", "origin": human}})),
        claude("user", json!({"message": {"content": "<system-reminder>"}, "isMeta": true})),
        claude("user", json!({"message": {"content": "<task-notification>done</task-notification>"}})),
        claude("user", json!({"message": {"content": "a sub-agent's"}, "isSidechain": true})),
        says(json!([{"type": "text", "text": "done"}]), "end_turn"),
        claude(
            "assistant",
            json!({"message": {"content": [{"type": "text", "text": "529"}]}, "isApiErrorMessage": true}),
        ),
    ];
    assert_eq!(
        told(Program::Claude, None, &lines),
        [
            "user text look around {}",
            "agent reasoning hm {}",
            "agent text looking {}",
            r#"agent toolCall ls -1 {"callId":"t1","tool":"Bash"}"#,
            r#"agent toolResult a.txt {"callId":"t1"}"#,
            r#"agent toolResult no {"callId":"t2","isError":"true"}"#,
            "user text also this {}",
            "system text <task-notification>done</task-notification> {}",
            "agent text done {}",
            "system text 529 {}",
        ]
    );
}

#[test]
fn a_sub_agent_of_claude_is_a_child() {
    let child = SessionId::new("01JD8Z2V9Q0000000000000009").unwrap();
    let lines = [
        claude("user", json!({"message": {"content": "do it"}, "isSidechain": true})),
        says(json!([{"type": "text", "text": "done"}]), "end_turn"),
    ];
    assert_eq!(
        told(Program::Claude, Some(child), &lines),
        ["child  @0009", "user text do it {} @0009", "agent text done {} @0009", "turn idle @0009",]
    );
}

#[test]
fn a_line_without_end_is_left_out_and_the_next_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut tail = Tail::open(path, None).unwrap();
    for _ in 0..6 {
        file.write_all(&vec![b'x'; 1024 * 1024]).unwrap();
        assert_eq!(tail.read(), Vec::<Vec<u8>>::new());
    }
    file.write_all(b"x\n{}\n").unwrap();
    assert_eq!(tail.read(), [b"{}\n".to_vec()]);
}

#[test]
fn files_are_looked_at_after_output_and_then_no_more() {
    let now = Instant::now();
    let mut sources = Sources::of(Some("codex"), BEGIN.parse().unwrap(), now).unwrap();
    assert_eq!(sources.look_at(), None);
    sources.output(now);
    sources.output(now + Duration::from_millis(100));
    let mut looks = vec![];
    while let Some(at) = sources.look_at() {
        looks.push((at - now).as_millis());
        sources.look(0, at);
    }
    assert_eq!(looks, [250, 1100, 4100]);
    assert!(Sources::of(Some("aider"), BEGIN.parse().unwrap(), now).is_none());
}
