//! What is told of conversations as OpenCode 1.18.33 was seen to tell them.

use serde_json::json;

use super::*;

const SINCE: i64 = 1_000;

fn conversation() -> Conversation {
    let fresh = || SessionId::new("01JD8Z2V9Q0000000000000000").ok();
    Conversation::new(Timestamp::from_millis(SINCE), fresh)
}

fn event(kind: &str, facts: Value) -> Value {
    json!({"type": kind, "properties": facts})
}

fn status(word: &str) -> Value {
    event("session.status", json!({"sessionID": "ses_1", "status": {"type": word}}))
}

fn user(id: &str, said: &str) -> [Value; 2] {
    let info = json!({"id": id, "sessionID": "ses_1", "role": "user", "agent": "plan", "time": {"created": SINCE}});
    let part = json!({"id": format!("prt_{id}"), "messageID": id, "sessionID": "ses_1", "type": "text", "text": said});
    [
        event("message.updated", json!({"sessionID": "ses_1", "info": info})),
        event("message.part.updated", json!({"sessionID": "ses_1", "part": part})),
    ]
}

fn assistant(id: &str, parent: &str, more: Value) -> Value {
    let mut info =
        json!({"id": id, "sessionID": "ses_1", "role": "assistant", "parentID": parent, "time": {"created": SINCE}});
    for (key, value) in more.as_object().into_iter().flatten() {
        info[key] = value.clone();
    }
    event("message.updated", json!({"sessionID": "ses_1", "info": info}))
}

fn over(id: &str, parent: &str, finish: &str) -> Value {
    assistant(id, parent, json!({"finish": finish, "time": {"created": SINCE, "completed": SINCE + 1}}))
}

fn part(message: &str, id: &str, more: Value) -> Value {
    let mut part = json!({"id": id, "messageID": message, "sessionID": "ses_1"});
    for (key, value) in more.as_object().into_iter().flatten() {
        part[key] = value.clone();
    }
    event("message.part.updated", json!({"sessionID": "ses_1", "part": part}))
}

fn text_part(message: &str, id: &str, said: &str, is_over: bool) -> Value {
    let time = if is_over { json!({"start": 1, "end": 2}) } else { json!({"start": 1}) };
    part(message, id, json!({"type": "text", "text": said, "time": time}))
}

fn tool(message: &str, id: &str, state: Value) -> Value {
    part(message, id, json!({"type": "tool", "tool": "bash", "callID": format!("call_{id}"), "state": state}))
}

/// One line for each thing told.
fn lines(told: &[Told]) -> Vec<String> {
    let line = |told: &Told| match told {
        Told::Took(content, mode) => format!("took {content} {}", mode.as_ref().map_or("-", InjectMode::as_str)),
        Told::Report(Report::Message { role, kind, content, session_id, .. }) => {
            let child = if session_id.is_some() { "child " } else { "" };
            format!("{child}{role} {}: {content}", kind.as_ref().map_or("-", MessageKind::as_str))
        }
        Told::Report(Report::Status { turn, session_id, .. }) => {
            let child = if session_id.is_some() { "child " } else { "" };
            format!("{child}turn {}", turn.as_ref().map_or("-", Turn::as_str))
        }
        Told::Report(Report::Ask { text, .. }) => format!("ask {text}"),
        Told::Report(Report::Called { call }) => format!("answered {call}"),
        Told::Report(other) => format!("{other:?}"),
    };
    told.iter().map(line).collect()
}

fn tell(it: &mut Conversation, events: impl IntoIterator<Item = Value>) -> Vec<String> {
    events.into_iter().flat_map(|event| lines(&it.event(&event))).collect()
}

#[test]
fn a_turn_is_told_in_the_order_in_which_it_was_said_and_once() {
    let mut it = conversation();
    let done = json!({"status": "completed", "input": {"command": "ls"}, "output": "README.md"});
    let events: Vec<Value> = user("msg_1", "look")
        .into_iter()
        .chain([
            status("busy"),
            assistant("msg_2", "msg_1", json!({})),
            text_part("msg_2", "prt_a", "", false),
            tool("msg_2", "prt_b", json!({"status": "pending", "input": {}})),
            tool("msg_2", "prt_b", json!({"status": "running", "input": {"command": "ls"}})),
            text_part("msg_2", "prt_a", "looking \n", true),
            tool("msg_2", "prt_b", done),
            over("msg_2", "msg_1", "tool-calls"),
            status("idle"),
        ])
        .collect();
    let told = [
        "turn active",
        "took look -",
        "user text: look",
        "agent text: looking",
        "agent toolCall: ls",
        "agent toolResult: README.md",
        "turn idle",
    ];
    assert_eq!(tell(&mut it, events.clone()), told);
    assert_eq!(it.current(), Some(("ses_1", Some("plan"))));
    // Heard of again, by events and as it is read after a new connection.
    assert_eq!(tell(&mut it, events.into_iter().filter(|event| event["type"] != "session.status")), [""; 0]);
}

#[test]
fn what_is_said_in_a_turn_is_told_when_the_model_gets_it_and_how_it_came() {
    for (finish, mode) in [("tool-calls", "steer"), ("stop", "queue")] {
        let mut it = conversation();
        tell(
            &mut it,
            user("msg_1", "look").into_iter().chain([status("busy"), assistant("msg_2", "msg_1", json!({}))]),
        );
        assert_eq!(tell(&mut it, user("msg_3", "wait")), [""; 0], "the model does not have it yet");
        assert_eq!(tell(&mut it, [over("msg_2", "msg_1", finish)]), [""; 0]);
        let told = tell(&mut it, [assistant("msg_4", "msg_3", json!({}))]);
        assert_eq!(told, [format!("took wait {mode}"), "user text: wait".into()]);
    }
}

#[test]
fn an_aborted_turn_is_over_behind_its_last_words() {
    let mut it = conversation();
    let begun = user("msg_1", "look").into_iter().chain([
        status("busy"),
        assistant("msg_2", "msg_1", json!({})),
        text_part("msg_2", "prt_a", "", false),
        event("session.error", json!({"sessionID": "ses_1", "error": {"name": "MessageAbortedError", "data": {}}})),
        status("idle"),
    ]);
    assert_eq!(tell(&mut it, begun), ["turn active", "took look -", "user text: look"]);
    let aborted = json!({"time": {"created": SINCE, "completed": 2_000}, "error": {"name": "MessageAbortedError"}});
    let rest = [text_part("msg_2", "prt_a", "so far", true), assistant("msg_2", "msg_1", aborted), status("idle")];
    assert_eq!(tell(&mut it, rest), ["agent text: so far", "system status: turn aborted", "turn idle"]);
}

#[test]
fn an_error_is_told_once_with_its_words_whether_a_message_has_it_or_not() {
    let error = json!({"name": "APIError", "data": {"message": "broken"}});
    let failed = event("session.error", json!({"sessionID": "ses_1", "error": error}));
    let mut it = conversation();
    let done = json!({"time": {"created": SINCE, "completed": 2_000}, "error": error});
    let events = user("msg_1", "x").into_iter().chain([status("busy"), assistant("msg_2", "msg_1", json!({}))]);
    let told = tell(
        &mut it,
        events.chain([failed.clone(), status("idle"), assistant("msg_2", "msg_1", done), status("idle")]),
    );
    assert_eq!(&told[3..], ["system text: APIError: broken", "turn idle"]);
    let mut it = conversation();
    let told = tell(&mut it, user("msg_1", "x").into_iter().chain([status("busy"), failed, status("idle")]));
    assert_eq!(told, ["turn active", "took x -", "user text: x", "system text: APIError: broken", "turn idle"]);
}

#[test]
fn leave_is_asked_for_behind_the_call_and_answered_anywhere() {
    let mut it = conversation();
    let asked = json!({
        "id": "per_1", "sessionID": "ses_1", "permission": "bash", "patterns": ["touch a"], "always": ["touch *"],
        "tool": {"messageID": "msg_2", "callID": "call_prt_b"},
    });
    tell(&mut it, user("msg_1", "x").into_iter().chain([status("busy"), assistant("msg_2", "msg_1", json!({}))]));
    let running = json!({"status": "running", "input": {"command": "touch  a"}});
    let events = [
        text_part("msg_2", "prt_a", "", false),
        tool("msg_2", "prt_b", running),
        event("permission.asked", asked.clone()),
        text_part("msg_2", "prt_a", "may I", true),
    ];
    assert_eq!(tell(&mut it, events), ["agent text: may I", "agent toolCall: touch  a", "ask bash: touch  a"]);
    // A new connection finds it open, and the next one finds it gone.
    let busy = json!({"ses_1": {"type": "busy"}});
    assert_eq!(lines(&it.opened(&busy, &json!([asked.clone()]))), [""; 0]);
    assert_eq!(lines(&it.opened(&busy, &json!([]))), ["answered per_1"]);
    // One whose call never comes is asked all the same.
    let mut it = conversation();
    let mut other = asked;
    other["tool"] = Value::Null;
    assert_eq!(tell(&mut it, [event("permission.asked", other)]), ["ask bash: touch a"]);
}

#[test]
fn what_was_missed_is_told_from_what_is_read_and_what_was_before_is_not() {
    let mut it = conversation();
    let info = |id: &str, role: &str, created: i64| json!({"id": id, "sessionID": "ses_1", "role": role, "time": {"created": created, "completed": created}});
    let said = |id: &str, said: &str| json!({"id": format!("prt_{id}"), "messageID": id, "type": "text", "text": said, "time": {"end": 1}});
    let mut answer = info("msg_4", "assistant", SINCE + 1);
    answer["parentID"] = "msg_3".into();
    let messages = json!([
        {"info": info("msg_1", "user", 1), "parts": [said("msg_1", "old")]},
        {"info": info("msg_2", "assistant", 2), "parts": [said("msg_2", "older")]},
        {"info": info("msg_3", "user", SINCE), "parts": [said("msg_3", "new")]},
        {"info": answer, "parts": [said("msg_4", "here")]},
    ]);
    let told = lines(&it.session(&json!({"id": "ses_1"}), &messages));
    assert_eq!(told, ["took new -", "user text: new", "agent text: here"]);
    assert_eq!(lines(&it.session(&json!({"id": "ses_1"}), &messages)), [""; 0]);
}

#[test]
fn a_session_with_a_parent_is_a_child() {
    let mut it = conversation();
    tell(&mut it, user("msg_1", "x"));
    let info = json!({"id": "ses_2", "parentID": "ses_1", "title": "helper"});
    let told = it.event(&event("session.created", json!({"sessionID": "ses_2", "info": info})));
    let [Told::Report(Report::Child { title: Some(title), session_id: Some(_), .. })] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(title, "helper");
    let busy = event("session.status", json!({"sessionID": "ses_2", "status": {"type": "busy"}}));
    assert_eq!(tell(&mut it, [busy]), ["child turn active"]);
    assert_eq!(it.current().map(|(session, _)| session), Some("ses_1"), "nobody speaks with a child");
}

#[test]
fn last_words_are_told_as_far_as_they_came() {
    let mut it = conversation();
    let begun = [status("busy"), assistant("msg_2", "msg_1", json!({})), text_part("msg_2", "prt_a", "half a", false)];
    tell(&mut it, begun);
    assert_eq!(lines(&it.finish()), ["agent text: half a"]);
}
