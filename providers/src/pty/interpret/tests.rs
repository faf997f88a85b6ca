//! The interpreter over recorded logs: the same messages whatever the cuts, and wherever it is begun again.

mod acp;

use bus_schema::{Delivery, InjectMode, Operator, Status, UserId};
use proptest::prelude::*;

use super::*;
use crate::provider::End;
use crate::pty::log::{LogLimits, LogReader, LogWriter, size_bytes};
use crate::pty::record::{Answered, pack};
use crate::pty::report::{HOOK, Report};

const SIZE: TerminalSize = TerminalSize { cols: 40, rows: 6 };

fn session() -> SessionId {
    SessionId::new("01JD8Z2V9Q0000000000000000").unwrap()
}

fn report(json: &str) -> Vec<u8> {
    let report = Report::parse(json.as_bytes()).unwrap();
    serde_json::to_vec(&Sourced { source: "socket".into(), report }).unwrap()
}

fn exit() -> Vec<u8> {
    let (status, reason) = (Status::Completed, "exited with code 0".into());
    pack(&Exit { end: End { status, reason, exit_code: Some(0), error: None, report: None } })
}

fn injecting(id: &str, content: &str) -> Vec<u8> {
    let operator = Operator { id: UserId::new("u").unwrap(), name: "Ada".into() };
    let (message_id, content) = (MessageId::new(id).unwrap(), content.into());
    pack(&Note::Injecting(Injecting { message_id, operator, content, mode: InjectMode::Steer }))
}

/// A log with these blocks, one millisecond apart, and what is told of it from the beginning.
fn tell(protocol: Protocol, blocks: &[(Kind, Vec<u8>)], segment_bytes: u64) -> (tempfile::TempDir, Vec<AgentEvent>) {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_bytes, ..LogLimits::default() };
    let mut writer = LogWriter::create(dir.path(), limits, SIZE).unwrap();
    for (number, (kind, data)) in blocks.iter().enumerate() {
        writer.append(*kind, 1_000_000 + number as i64 * 1000, data).unwrap();
    }
    let header = LogReader::first(dir.path()).unwrap().unwrap();
    let mut interpreter = Interpreter::new(&session(), protocol, header);
    let mut reader = LogReader::open(dir.path(), 0).unwrap();
    let mut events = vec![];
    while let Some(block) = reader.next().unwrap() {
        events.extend(interpreter.block(&block));
        // From its checkpoint, all that follows is told in the same way.
        if let Some((base, bytes)) = interpreter.take_checkpoint() {
            let mut again = Interpreter::restore(&session(), protocol, base, &bytes).unwrap();
            let mut later = LogReader::open(dir.path(), base).unwrap();
            let first = later.next().unwrap().unwrap();
            let told: Vec<AgentEvent> = events.iter().filter(|e| e.position.offset == first.end).cloned().collect();
            assert_eq!(again.block(&first), told, "at {base}");
            interpreter = again;
        }
    }
    (dir, events)
}

fn messages(events: &[AgentEvent]) -> Vec<(String, String)> {
    let message = |event: &AgentEvent| match &event.news {
        News::Message(draft) => Some((draft.role.to_string(), draft.content.clone())),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

#[test]
fn every_line_is_one_message_and_the_last_one_needs_no_newline() {
    let blocks =
        [(Kind::Output, b"one\r\n\r\ntw".to_vec()), (Kind::Output, b"o\r\nthree".to_vec()), (Kind::Exit, exit())];
    let (_dir, events) = tell(Protocol::Lines, &blocks, 1 << 20);
    let texts: Vec<String> = messages(&events).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "", "two", "three"]);
    assert!(matches!(events.last().unwrap().news, News::Ended(_)));
    assert!(events.is_sorted_by(|a, b| a.position < b.position));
}

#[test]
fn terminal_pieces_carry_offsets_and_sizes() {
    let resized = TerminalSize { cols: 50, rows: 9 };
    let blocks = [
        (Kind::Output, b"ab".to_vec()),
        (Kind::Output, b"c".to_vec()),
        (Kind::Resize, size_bytes(resized).to_vec()),
        (Kind::Output, b"d".to_vec()),
    ];
    let (_dir, events) = tell(Protocol::Terminal, &blocks, 1 << 20);
    let pieces: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.news {
            News::Terminal(piece) => Some((piece.offset, piece.data.len(), piece.size)),
            _ => None,
        })
        .collect();
    assert_eq!(pieces, [(0, 2, Some(SIZE)), (2, 1, None), (3, 1, Some(resized))]);
}

#[test]
fn reports_are_messages_and_then_the_screen_is_silent() {
    let quiet = |ms: u32| (Kind::Quiet, ms.to_le_bytes().to_vec());
    let blocks = [
        (Kind::Output, b"banner\r\n> ".to_vec()),
        quiet(400),
        (Kind::Report, report(r#"{"type":"message","role":"agent","content":"hello","kind":"toolCall"}"#)),
        (Kind::Output, b"\r\nhello on the screen\r\n> ".to_vec()),
        quiet(400),
        quiet(2000),
    ];
    let (_dir, events) = tell(Protocol::Terminal, &blocks, 1 << 20);
    let agent = |text: &str| ("agent".to_owned(), text.to_owned());
    assert_eq!(messages(&events), [agent("banner"), agent("hello")]);
}

#[test]
fn an_injected_text_that_comes_back_is_a_receipt_and_not_a_message() {
    let blocks = [
        (Kind::Note, injecting("m1", "fix the\n  build")),
        (Kind::Report, report(r#"{"type":"message","role":"user","content":"fix the build"}"#)),
        (Kind::Report, report(r#"{"type":"message","role":"user","content":"fix the build"}"#)),
    ];
    let (_dir, events) = tell(Protocol::Terminal, &blocks, 1 << 20);
    let News::Receipt { message_id, outcome } = &events[0].news else { panic!("{events:?}") };
    assert_eq!((message_id.as_str(), &outcome.state), ("m1", &Delivery::Taken));
    // Said again, it is a person's own.
    assert_eq!(messages(&events), [("user".to_owned(), "fix the build".to_owned())]);
}

fn hook(json: &str) -> (Kind, Vec<u8>) {
    let report: Report = serde_json::from_str(json).unwrap();
    (Kind::Report, serde_json::to_vec(&Sourced { source: HOOK.into(), report }).unwrap())
}

fn ask(name: &str) -> (Kind, Vec<u8>) {
    hook(&format!(
        r#"{{"type":"ask","request":"{name}","text":"Bash: rm {name}","takesText":true,
            "options":[{{"optionId":"allow","label":"Yes","kind":"allowOnce"}}]}}"#
    ))
}

fn answered(name: &str, confirmed: bool) -> (Kind, Vec<u8>) {
    let by = Operator { id: UserId::new("u").unwrap(), name: "Ada".into() };
    let (request, option, label) = (name.into(), "allow".into(), "Yes".into());
    let source = HOOK.into();
    (Kind::Note, pack(&Note::Answered(Answered { request, option, label, text: None, by, confirmed, source })))
}

#[test]
fn a_prompt_is_the_receipt_and_the_conversation_says_it_no_second_time() {
    let outcome = InjectOutcome { state: Delivery::Written, mode: Some(InjectMode::Queue), reason: None };
    let injected = Note::Injected { message_id: MessageId::new("m1").unwrap(), outcome };
    let blocks = [
        (Kind::Note, injecting("m1", "fix the\n  build")),
        hook(r#"{"type":"prompt","content":"<task-notification>"}"#),
        hook(r#"{"type":"prompt","content":"fix the build"}"#),
        (Kind::Note, pack(&injected)),
        (Kind::Report, report(r#"{"type":"message","role":"user","content":"fix the build"}"#)),
    ];
    let (_dir, events) = tell(Protocol::Terminal, &blocks, 1 << 20);
    let told = events.iter().map(|event| match &event.news {
        News::Receipt { outcome, .. } => (outcome.state.clone(), outcome.mode.clone()),
        other => panic!("{other:?}"),
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [(Delivery::Taken, None), (Delivery::Taken, Some(InjectMode::Queue))]);
}

#[test]
fn a_request_is_told_before_it_is_needed_and_its_answer_with_who_gave_it() {
    let blocks = [hook(r#"{"type":"answers"}"#), ask("q1"), answered("q1", true), ask("q2"), answered("q2", false)];
    let (_dir, events) = tell(Protocol::Terminal, &blocks, 1 << 20);
    assert!(matches!(&events[0].news, News::Capabilities(all) if all.contains(&bus_schema::Capability::Approve)));
    let News::Message(asks) = &events[2].news else { panic!("{events:?}") };
    assert_eq!(
        (asks.role.as_str(), asks.kind.as_str(), asks.content.as_str()),
        ("system", "permission", "Bash: rm q1")
    );
    let open = events.iter().find_map(|event| match &event.news {
        News::Attention(Some(attention)) => attention.request.clone(),
        _ => None,
    });
    assert_eq!(open.unwrap().request_id, asks.message_id);
    let answers = events.iter().filter_map(|event| match &event.news {
        News::Message(draft) => draft.metadata.contains_key("answers").then_some(draft),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers[0].metadata["answers"], asks.message_id.as_str());
    assert_eq!(answers[0].metadata["operator"]["name"], "Ada");
    assert_eq!(answers.iter().map(|a| a.metadata.get("confirmed").is_none()).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_partial_line_can_be_told_under_the_id_it_will_have() {
    let mut interpreter =
        Interpreter::new(&session(), Protocol::Lines, SegmentHeader { base: 0, output: 0, size: SIZE });
    let block = |data: &[u8], end| Block { kind: Kind::Output, time: 0, data: data.into(), end, segment: 0 };
    assert_eq!(interpreter.delta(), None);
    interpreter.block(&block(b"one\nhalf a", 100));
    let delta = interpreter.delta().unwrap();
    assert_eq!(delta.content, "half a");
    let events = interpreter.block(&block(b" line\n", 200));
    let News::Message(draft) = &events[1].news else { panic!("{events:?}") };
    assert_eq!((&draft.message_id, draft.content.as_str()), (&delta.message_id, "half a line"));
}

fn blocks() -> impl Strategy<Value = Vec<(Kind, Vec<u8>)>> {
    let output = prop_oneof![
        "[a-z {}\":,]{0,20}".prop_map(String::into_bytes),
        Just(b"\r\n".to_vec()),
        Just(br#"{"role":"agent","content":"x"}"#.to_vec()),
        Just(b"\x1b[2J\x1b[H".to_vec()),
        Just(b"\x1b]7501;state=working\x07".to_vec()),
        Just(b"\x1b]7501;state=idle\x07".to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    let block = prop_oneof![
        6 => output.prop_map(|data| (Kind::Output, data)),
        1 => prop_oneof![Just(0u32), Just(400), Just(2000)].prop_map(|ms| (Kind::Quiet, ms.to_le_bytes().to_vec())),
        1 => Just((Kind::Note, injecting("m1", "abc"))),
        1 => Just((Kind::Report, report(r#"{"type":"status","turn":"active"}"#))),
        1 => Just(hook(r#"{"type":"status","turn":"active"}"#)),
        1 => Just(hook(r#"{"type":"status","turn":"idle","status":"running"}"#)),
        1 => Just(hook(r#"{"type":"prompt","content":"abc"}"#)),
        1 => Just(hook(r#"{"type":"answers"}"#)),
        1 => prop_oneof![Just("q1"), Just("q2")].prop_map(ask),
        1 => prop_oneof![Just("q1"), Just("q2")].prop_map(|name| answered(name, true)),
        1 => Just(hook(r#"{"type":"closed","request":"q2","reason":"gone"}"#)),
    ];
    prop::collection::vec(block, 1..60)
}

#[test]
fn a_screen_is_held_back_while_a_better_source_is_expected_and_told_if_that_does_not_come() {
    let own =
        |report: Report| (Kind::Report, serde_json::to_vec(&Sourced { source: "screen".into(), report }).unwrap());
    let shown = [
        own(Report::Expected),
        (Kind::Output, b"welcome to it\r\n".to_vec()),
        (Kind::Quiet, 2000u32.to_le_bytes().to_vec()),
    ];
    let told = |more: Vec<(Kind, Vec<u8>)>| {
        let blocks: Vec<_> = shown.iter().cloned().chain(more).collect();
        let said = messages(&tell(Protocol::Terminal, &blocks, 100).1);
        said.into_iter().map(|(_, content)| content).collect::<Vec<_>>()
    };
    let line = report(r#"{"type":"message","role":"agent","content":"hi"}"#);
    let none: [&str; 0] = [];
    assert_eq!(told(vec![own(Report::Speaks), (Kind::Exit, exit())]), none);
    assert_eq!(told(vec![(Kind::Report, line), (Kind::Exit, exit())]), ["hi"]);
    assert_eq!(told(vec![(Kind::Exit, exit())]), none, "it ended well, and was never asked anything");
    let note = "its own record of the conversation was not found; messages are taken from its screen";
    assert_eq!(told(vec![own(Report::Missing)]), [note, "welcome to it"]);
    assert_eq!(told(vec![own(Report::Missing), own(Report::Missing)]), [note, "welcome to it"]);
    let end = End { status: Status::Failed, reason: "x".into(), exit_code: Some(1), error: None, report: None };
    assert_eq!(told(vec![(Kind::Exit, pack(&Exit { end }))]), [note, "welcome to it"], "why it failed");
}

proptest! {
    /// Law 1 and 2: with many small segments, going on and starting again at any of them are one thing.
    #[test]
    fn any_checkpoint_tells_the_same(blocks in blocks(), protocol in prop_oneof![
        Just(Protocol::Lines), Just(Protocol::Jsonl), Just(Protocol::Terminal)
    ]) {
        let (dir, events) = tell(protocol, &blocks, 100);
        prop_assert!(events.is_sorted_by(|a, b| a.position < b.position));
        // And from the beginning again, without stopping.
        let header = LogReader::first(dir.path()).unwrap().unwrap();
        let mut interpreter = Interpreter::new(&session(), protocol, header);
        let mut reader = LogReader::open(dir.path(), 0).unwrap();
        let mut again = vec![];
        while let Some(block) = reader.next().unwrap() {
            again.extend(interpreter.block(&block));
        }
        prop_assert_eq!(again, events);
    }

    /// However the terminal cut the output, the messages are the same.
    #[test]
    fn any_cutting_gives_the_same_messages(blocks in blocks(), cut in 1usize..5, jsonl in any::<bool>()) {
        let protocol = if jsonl { Protocol::Jsonl } else { Protocol::Lines };
        let parts: Vec<(Kind, Vec<u8>)> = blocks.iter().flat_map(|(kind, data)| match kind {
            Kind::Output => data.chunks(cut).map(|part| (Kind::Output, part.to_vec())).collect::<Vec<_>>(),
            other => vec![(*other, data.clone())],
        }).collect();
        let whole = tell(protocol, &blocks, 1 << 20).1;
        let cut = tell(protocol, &parts, 1 << 20).1;
        let ids = |events: &[AgentEvent]| events.iter().filter_map(|event| match &event.news {
            News::Message(draft) => Some((draft.message_id.clone(), draft.content.clone(), draft.metadata.clone())),
            _ => None,
        }).collect::<Vec<_>>();
        prop_assert_eq!(ids(&whole), ids(&cut));
    }
}
