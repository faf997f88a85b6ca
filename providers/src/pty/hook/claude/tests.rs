//! Events as Claude Code 2.1.330 sends them, and what is told of each.

use super::*;

const CONVERSATION: &str = "01a20568-3ea3-4972-870d-28faf46afcf9";

fn event(name: &str, rest: Value) -> Value {
    let mut event = json!({"session_id": CONVERSATION, "cwd": "/srv", "hook_event_name": name});
    event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    event
}

/// What an event tells: one word for each report.
fn told(name: &str, rest: Value) -> Vec<String> {
    let at = |id: &Option<SessionId>| id.as_ref().map_or(String::new(), |id| format!(" @{}", &id.as_str()[22..]));
    let word = |report: Report| match report {
        Report::Status { turn, status, reason, session_id } => {
            let status = status.map_or(String::new(), |status| format!(" {status}"));
            format!(
                "{}{status}{}{}",
                turn.unwrap(),
                reason.map_or(String::new(), |r| format!(" ({r})")),
                at(&session_id)
            )
        }
        Report::Prompt { content } => format!("prompt {content}"),
        Report::Child { session_id, .. } => format!("child{}", at(&session_id)),
        Report::Attention { kind, text } => format!("{} {text}", kind.unwrap()),
        Report::Called { .. } => "called".into(),
        Report::Answers => "answers".into(),
        other => format!("{other:?}"),
    };
    tell(&event(name, rest)).reports.into_iter().map(word).collect()
}

#[test]
fn a_turn_is_told_from_its_first_word_to_its_last() {
    let tool = json!({"tool_name": "Bash", "tool_input": {"command": "ls"}});
    assert_eq!(told("SessionStart", json!({"source": "startup"})), ["answers"]);
    assert_eq!(told("UserPromptSubmit", json!({"prompt": "look"})), ["active", "prompt look"]);
    assert_eq!(told("PreToolUse", tool.clone()), ["active"]);
    assert_eq!(told("PostToolUse", tool), ["called", "active"]);
    assert_eq!(told("Stop", json!({"background_tasks": []})), ["idle waiting"]);
    assert_eq!(told("SessionEnd", json!({"reason": "clear"})), ["idle (its conversation is over: clear)"]);
    assert_eq!(told("Levitate", json!({})), Vec::<String>::new());
}

#[test]
fn with_work_in_the_background_it_does_not_wait() {
    let tasks = json!([{"id": "a", "status": "running"}, {"id": "b", "status": "completed"}]);
    assert_eq!(
        told("Stop", json!({"background_tasks": tasks})),
        ["idle running (a task of it runs in the background)"]
    );
}

#[test]
fn a_sub_agent_is_a_child_and_its_tools_are_its_own() {
    let agent = json!({"agent_id": "a3bfbf1787e7e4449", "agent_type": "general-purpose"});
    assert_eq!(
        told("SubagentStart", agent.clone()),
        ["child @S295", "active @S295"].map(|w| w.replace("S295", &tail()))
    );
    assert_eq!(told("SubagentStop", agent.clone()), [format!("idle @{}", tail())]);
    let mut tool = agent;
    tool["tool_name"] = "Bash".into();
    assert_eq!(told("PreToolUse", tool), [format!("active @{}", tail())]);
}

fn tail() -> String {
    child(CONVERSATION, "a3bfbf1787e7e4449").unwrap().as_str()[22..].to_owned()
}

fn permission() -> Value {
    event(
        "PermissionRequest",
        json!({"tool_name": "Bash", "tool_input": {"command": "touch a.txt", "description": "make a file"},
            "permission_suggestions": [
                {"type": "addRules", "rules": [{"toolName": "Bash", "ruleContent": "touch:*"}]},
                {"type": "setMode", "mode": "acceptEdits", "destination": "session"}]}),
    )
}

#[test]
fn a_request_is_told_word_for_word_with_what_can_be_chosen() {
    let Told { reports, asks } = tell(&permission());
    let [Report::Ask { text, call, options, takes_text, request: None }] = reports.as_slice() else {
        panic!("{reports:?}")
    };
    assert_eq!((text.as_str(), *takes_text, asks), ("Bash: touch a.txt", true, true));
    let offered: Vec<_> = options.iter().map(|o| (o.option_id.as_str(), o.label.as_str(), o.kind.as_str())).collect();
    let always = "Yes, and from now on: Bash(touch:*), mode acceptEdits";
    assert_eq!(
        offered,
        [("allow", "Yes", "allowOnce"), ("always", always, "allowAlways"), ("deny", "No", "rejectOnce")]
    );
    // What is carried out later has the same name; another call has not.
    let mut done = permission();
    assert_eq!(call.as_deref(), Some(super::call(&done).as_str()));
    done["tool_input"]["command"] = "touch b.txt".into();
    assert_ne!(call.as_deref(), Some(super::call(&done).as_str()));
}

#[test]
fn what_leave_does_not_answer_is_a_question() {
    let question = json!({"tool_name": "AskUserQuestion", "tool_input": {"questions": []}});
    assert_eq!(
        told("PermissionRequest", question.clone()),
        ["blocked", r#"question AskUserQuestion: {"questions":[]}"#]
    );
    assert!(!tell(&event("PermissionRequest", question)).asks);
}

#[test]
fn an_answer_is_what_the_hook_prints() {
    let decide = |option: &str, text: Option<&str>| {
        let decision = Decision { option_id: option.into(), text: text.map(Into::into) };
        decided(&permission(), &decision)["hookSpecificOutput"]["decision"].clone()
    };
    assert_eq!(decide("allow", None), json!({"behavior": "allow"}));
    assert_eq!(decide("always", None)["updatedPermissions"], permission()["permission_suggestions"]);
    assert_eq!(decide("deny", Some("use b.txt")), json!({"behavior": "deny", "message": "use b.txt"}));
    assert_eq!(decide("whatever", None)["behavior"], "deny");
}

#[test]
fn hooks_are_set_up_unless_somebody_has_chosen_his_own() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let session = SessionId::new("01JD8Z2V9Q0000000000000009").unwrap();
    let with = |text: &str| with_hooks(&words(text), Path::new("/s/hooks.json"), &session).join(" ");
    assert_eq!(
        with("claude --model x"),
        "claude --model x --settings /s/hooks.json --session-id 0193511f-1b37-0000-0000-000000000009"
            .replace("0193511f-1b37", &uuid(&session).unwrap()[..13])
    );
    assert_eq!(with("claude --resume abc"), "claude --resume abc --settings /s/hooks.json");
    assert!(with("claude -- prompt").ends_with("0009 -- prompt"));
    assert!(is_ours(&words("/usr/bin/claude"), None));
    assert!(is_ours(&words("node cli.js"), Some("claude")));
    assert!(!is_ours(&words("claude --settings=x.json"), None));
    assert!(!is_ours(&words("codex"), Some("codex")));
}

#[test]
fn the_uuid_of_a_conversation_leads_back_to_its_session() {
    let session = SessionId::new("01JD8Z2V9Q0000000000000009").unwrap();
    let digits = uuid(&session).unwrap().replace('-', "");
    let number = u128::from_str_radix(&digits, 16).unwrap();
    assert_eq!(ulid::Ulid::from(number).to_string(), session.as_str());
}

#[test]
fn the_hook_is_this_program_however_its_path_is_written() {
    let settings = settings(&["/opt/it's here/mosaic-node".into()]);
    for (event, _) in EVENTS {
        let command = settings["hooks"][event][0]["hooks"][0]["command"].as_str().unwrap();
        assert_eq!(command, r"'/opt/it'\''s here/mosaic-node' 'report' 'hook' 'claude'");
    }
}
