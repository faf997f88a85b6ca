//! The interpreter over logs of both sides of ACP conversations.

use serde_json::{Value, json};

use super::*;

/// One line of either side.
#[derive(Clone, Debug)]
enum Said {
    Agent(String),
    Errors(String),
    Us(Typist, Value),
    Note(Note),
}

fn update(update: Value) -> Said {
    let update = json!({"method": "session/update", "params": {"sessionId": "s", "update": update}});
    Said::Agent(update.to_string())
}

fn chunk(id: Option<u8>, text: &str, kind: &str) -> Said {
    let id = id.map(|id| format!("m{id}"));
    update(json!({"sessionUpdate": kind, "messageId": id, "content": {"type": "text", "text": text}}))
}

fn tool(id: u8, status: &str) -> Said {
    let id = format!("t{id}");
    update(json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "title": "ls", "status": status}))
}

fn ask(id: u8) -> Said {
    let options = json!([{"optionId": "y", "name": "Yes", "kind": "allow_once"}]);
    let params = json!({"toolCall": {"toolCallId": format!("t{id}")}, "options": options});
    Said::Agent(json!({"id": id, "method": "session/request_permission", "params": params}).to_string())
}

fn by() -> Operator {
    Operator { id: UserId::new("u").unwrap(), name: "Ada".into() }
}

fn decide(id: u8, option: Option<&str>) -> Said {
    let outcome = option.map_or(json!({"outcome": "cancelled"}), |o| json!({"outcome": "selected", "optionId": o}));
    let typist = if option.is_some() { Typist::Operator(by()) } else { Typist::Client };
    Said::Us(typist, json!({"id": id, "result": {"outcome": outcome}}))
}

fn line() -> impl Strategy<Value = Said> {
    let text = "[a-zé ]{0,6}";
    prop_oneof![
        4 => (prop::option::of(0u8..3), text).prop_map(|(id, text)| chunk(id, &text, "agent_message_chunk")),
        1 => (prop::option::of(0u8..3), text).prop_map(|(id, text)| chunk(id, &text, "agent_thought_chunk")),
        2 => (0u8..3, prop_oneof![Just("pending"), Just("in_progress"), Just("completed"), Just("failed")])
            .prop_map(|(id, status)| tool(id, status)),
        1 => (0u8..3).prop_map(ask),
        1 => (0u8..3, any::<bool>()).prop_map(|(id, yes)| decide(id, yes.then_some("y"))),
        1 => (2u64..6).prop_map(|id| Said::Us(Typist::Client, json!({"id": id, "method": "session/prompt"}))),
        1 => (2u64..6).prop_map(|id| Said::Agent(json!({"id": id, "result": {"stopReason": "end_turn"}}).to_string())),
        1 => (2u64..6).prop_map(|id| Said::Agent(json!({"id": id, "error": {"code": 1, "message": "x"}}).to_string())),
        1 => "[ -~é]{0,12}".prop_map(Said::Agent),
        1 => text.prop_map(Said::Errors),
        1 => any::<bool>().prop_map(|is| Said::Note(if is { Note::Frozen { by: by() } } else { Note::Thawed { by: by() } })),
    ]
}

/// A whole session: it is opened, then anything is said in any order.
fn sessions() -> impl Strategy<Value = Vec<Said>> {
    prop::collection::vec(line(), 0..50).prop_map(|lines| {
        let agent = json!({"id": 0, "result": {"protocolVersion": 1, "agentInfo": {"name": "x"}}});
        let mut all = vec![
            Said::Note(Note::Started { pid: 7, containment: "cgroup".into() }),
            Said::Us(Typist::Client, json!({"id": 0, "method": "initialize"})),
            Said::Agent(agent.to_string()),
            Said::Us(Typist::Client, json!({"id": 1, "method": "session/new"})),
            Said::Agent(json!({"id": 1, "result": {"sessionId": "s"}}).to_string()),
        ];
        all.extend(lines);
        all
    })
}

/// The blocks of a session, with what the agent writes cut into pieces of at most so many bytes.
fn blocks(session: &[Said], cut: usize) -> Vec<(Kind, Vec<u8>)> {
    let mut blocks = vec![];
    let cut_up = |kind, line: &str| {
        let bytes = format!("{line}\n").into_bytes();
        bytes.chunks(cut).map(|part| (kind, part.to_vec())).collect::<Vec<_>>()
    };
    for said in session {
        match said {
            Said::Agent(line) => blocks.extend(cut_up(Kind::Output, line)),
            Said::Errors(line) => blocks.extend(cut_up(Kind::Errors, line)),
            Said::Us(by, line) => {
                let (by, data) = (by.clone(), format!("{line}\n").into_bytes());
                blocks.push((Kind::Input, pack(&Input { by, data, hidden: false })));
            }
            Said::Note(note) => blocks.push((Kind::Note, pack(note))),
        }
    }
    blocks.push((Kind::Exit, exit()));
    blocks
}

/// What was told, without the times, which the cuts decide.
fn told(events: &[AgentEvent]) -> Vec<String> {
    let short = |event: &AgentEvent| match &event.news {
        News::Message(draft) => format!("{:?}", MessageDraft { timestamp: Timestamp::from_millis(0), ..draft.clone() }),
        News::Attention(Some(attention)) => format!("{} {} {:?}", attention.kind, attention.text, attention.request),
        news => format!("{news:?}"),
    };
    events.iter().map(short).collect()
}

proptest! {
    /// However the pipe cut it, and wherever the log is begun again (`tell` begins at every segment), the same is told.
    #[test]
    fn any_cutting_and_any_checkpoint_tells_the_same(session in sessions(), cut in 1usize..40) {
        let whole = tell(Protocol::Acp, &blocks(&session, usize::MAX), 1 << 20).1;
        let (_dir, parts) = tell(Protocol::Acp, &blocks(&session, cut), 300);
        prop_assert_eq!(told(&whole), told(&parts));
        prop_assert!(parts.is_sorted_by(|a, b| a.position < b.position));
        let ids: Vec<_> = whole.iter().filter_map(|event| match &event.news {
            News::Message(draft) => Some(draft.message_id.clone()),
            _ => None,
        }).collect();
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        prop_assert_eq!(distinct.len(), ids.len(), "one id for one message");
    }
}

#[test]
fn a_line_without_measure_is_left_out_and_said_to_be() {
    let huge = "x".repeat(crate::pty::lines::MAX_LINE_BYTES + 5);
    let session = [Said::Agent(huge), chunk(Some(1), "after it", "agent_message_chunk")];
    let events = tell(Protocol::Acp, &blocks(&session, 60_000), 1 << 20).1;
    let told = messages(&events);
    assert!(told[0].1.contains("a line of 1048581 bytes"), "{told:?}");
    assert_eq!(told[1], ("agent".to_owned(), "after it".to_owned()));
}

#[test]
fn a_session_that_opens_is_not_running_before() {
    let opening = [
        Said::Note(Note::Started { pid: 7, containment: "cgroup".into() }),
        Said::Us(Typist::Client, json!({"id": 0, "method": "initialize"})),
        Said::Errors("warming up".into()),
        Said::Us(Typist::Client, json!({"id": 1, "method": "session/new"})),
        Said::Agent(json!({"id": 1, "result": {"sessionId": "s"}}).to_string()),
    ];
    let events = tell(Protocol::Acp, &blocks(&opening, 7), 1 << 20).1;
    let statuses = events.iter().filter_map(|event| match &event.news {
        News::Status { status, .. } => Some(status.to_string()),
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), ["waiting"]);
    assert_eq!(messages(&events), [("system".to_owned(), "warming up".to_owned())]);
    assert!(!events.iter().any(|event| matches!(event.news, News::Terminal(_))), "there is no terminal");
}
