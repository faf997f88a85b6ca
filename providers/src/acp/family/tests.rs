//! What is reported of sub-agents as real agents told of them (codex-acp 2.6.0, claude-agent-acp 0.101.0).

use std::cell::Cell;

use serde_json::json;

use super::*;

thread_local! {
    static NEXT: Cell<u8> = const { Cell::new(0) };
}

fn fresh() -> Option<SessionId> {
    let number = NEXT.get();
    NEXT.set(number + 1);
    SessionId::new(format!("01JD8Z2V9Q000000000000000{number}")).ok()
}

struct Listener {
    family: Family,
    place: u64,
}

impl Listener {
    fn new() -> Self {
        NEXT.set(1);
        Self { family: Family::new(fresh), place: 0 }
    }

    fn hear(&mut self, session: &str, update: Value) -> Vec<String> {
        self.place += 1;
        let reports = self.family.heard("main", self.place, &json!({"sessionId": session, "update": update}));
        reports.iter().map(short).collect()
    }

    fn state(&mut self, state: Value) -> Vec<String> {
        self.hear("main", json!({"sessionUpdate": "subagent_update", "sessionId": "kid", "state": state}))
    }
}

fn short(report: &Report) -> String {
    let last = |id: &Option<SessionId>| id.as_ref().unwrap().as_str().chars().last().unwrap();
    match report {
        Report::Child { session_id, title, ended, .. } => {
            format!("{} {}{}", last(session_id), title.as_deref().unwrap_or("-"), if *ended { ", over" } else { "" })
        }
        Report::Status { turn, session_id, .. } => {
            format!("{} {}", last(session_id), turn.as_ref().unwrap().as_str())
        }
        Report::Message { role, content, kind, session_id, .. } => {
            format!("{} {} {}: {content}", last(session_id), role.as_str(), kind.as_ref().unwrap().as_str())
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_sub_agent_as_claude_tells_of_it() {
    let mut it = Listener::new();
    let update = json!({"sessionUpdate": "subagent_update", "sessionId": "kid", "title": "Scripted sub-agent",
        "description": "general-purpose", "capabilities": {"cancel": {}}, "state": {"state": "running"}});
    assert_eq!(it.hear("main", update), ["1 Scripted sub-agent", "1 active"]);
    let given = json!({"sessionUpdate": "session_message", "messageId": "toolu_1", "senderSessionId": "main",
        "recipientSessionId": "kid", "content": [{"type": "text", "text": "look"}]});
    assert_eq!(it.hear("main", given.clone()), Vec::<String>::new(), "told by the parent's own conversation");
    assert_eq!(it.hear("kid", given), ["1 user text: look"]);
    let chunk = json!({"sessionUpdate": "agent_message_chunk", "messageId": "m",
        "content": {"type": "text", "text": "child here"}});
    assert_eq!(it.hear("kid", chunk), Vec::<String>::new());
    assert_eq!(
        it.state(json!({"state": "idle", "stopReason": "end_turn"})),
        ["1 agent text: child here", "1 Scripted sub-agent, over"]
    );
}

#[test]
fn one_that_is_over_stays_over_and_works_again_as_another() {
    let mut it = Listener::new();
    let begins = json!({"sessionUpdate": "subagent_update", "sessionId": "kid", "description": "do it\nwell"});
    assert_eq!(it.hear("main", begins), ["1 do it"]);
    assert_eq!(it.state(json!({"state": "idle"})).len(), 1, "it has not begun");
    it.state(json!({"state": "running"}));
    let ended = it.state(json!({"state": "idle", "stopReason": "cancelled"}));
    assert_eq!(ended, ["1 system status: the turn was interrupted", "1 do it, over"]);
    // Seen with codex-acp: what it can do is told behind its end.
    let late = json!({"sessionUpdate": "subagent_update", "sessionId": "kid", "capabilities": {"cancel": null}});
    assert_eq!(it.hear("main", late), Vec::<String>::new());
    assert_eq!(it.state(json!({"state": "idle"})), Vec::<String>::new());
    assert_eq!(it.state(json!({"state": "running"})), ["2 -", "2 active"]);
}

#[test]
fn strangers_and_endless_families_are_not_told() {
    let mut it = Listener::new();
    let chunk = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}});
    assert_eq!(it.hear("stranger", chunk), Vec::<String>::new());
    NEXT.set(0);
    for n in 0..2 * MAX_KIN {
        NEXT.set(0);
        it.hear("main", json!({"sessionUpdate": "subagent_update", "sessionId": format!("k{n}"), "title": "t"}));
    }
    assert_eq!(it.family.kin.len(), MAX_KIN);
}
