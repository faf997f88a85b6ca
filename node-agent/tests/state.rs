//! A session's state: the real one against a small model, and what is on disk against what was in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bus_schema::{
    Attention, AttentionKind, Capability, Delivery, InjectMode, Message, MessageId, MessageKind, Metadata, NodeId,
    Operator, ProviderName, Role, SessionId, Spawn, Status, StatusSource, Timestamp, Turn, UserId, WorkspaceId,
};
use bytes::Bytes;
use node_agent::outbox::record::{Record, RecordKind};
use node_agent::session::recover::{checkpoint, mark, recover};
use node_agent::session::state::{Effect, Home, State};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use providers::{End, InjectOutcome, MessageDraft, News, OperatorMessage, Position};

fn home() -> Home {
    Home {
        workspace: WorkspaceId::new("default").unwrap(),
        node: NodeId::new("n1").unwrap(),
        provider: ProviderName::new("echo").unwrap(),
    }
}

fn ada() -> Operator {
    Operator { id: UserId::new("u1").unwrap(), name: "Ada".into() }
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn new() -> State {
    titled(Some("t"))
}

fn titled(title: Option<&str>) -> State {
    let spawn = Spawn {
        session_id: SessionId::new("01JD8Z2V9Q0000000000000000").unwrap(),
        profile: "echo".into(),
        prompt: None,
        title: title.map(Into::into),
        parent_session_id: None,
        task_id: None,
        task_source: Default::default(),
        mission_id: None,
        resumed: None,
    };
    let mut state = State::spawning(home(), &spawn, &ada(), time(0));
    state.apply(time(0), News::Capabilities(Capability::ALL.to_vec()));
    state
}

fn draft(n: usize) -> MessageDraft {
    MessageDraft {
        message_id: MessageId::new(format!("m{n}")).unwrap(),
        role: Role::Agent,
        kind: MessageKind::Text,
        content: format!("message {n}"),
        timestamp: time(n as i64),
        metadata: Metadata::new(),
    }
}

fn told(status: Status) -> News {
    News::Status { status, reason: None, source: StatusSource::Runtime }
}

fn ended(status: Status) -> News {
    News::Ended(End { status, reason: "over".into(), exit_code: Some(1), error: None, report: None })
}

/// Everything that can happen to a session.
#[derive(Clone, Debug)]
enum Step {
    Told(Status),
    Turn(Option<Turn>),
    Attention(bool),
    Fact(u8, Option<u8>),
    Message,
    Dropped,
    GapClosed,
    Operator,
    Outcome(usize, Delivery),
    Paused,
    Resumed,
    Killed,
    Lost,
    MachineRestarted,
    Ended(Status),
}

fn steps() -> impl Strategy<Value = Step> {
    let status = || prop::sample::select(Status::ALL.to_vec());
    let delivery = prop::sample::select(Delivery::ALL.to_vec());
    prop_oneof![
        6 => status().prop_map(Step::Told),
        1 => prop::option::of(prop::sample::select(Turn::ALL.to_vec())).prop_map(Step::Turn),
        1 => any::<bool>().prop_map(Step::Attention),
        2 => (0u8..4, any::<Option<u8>>()).prop_map(|(key, value)| Step::Fact(key, value)),
        4 => Just(Step::Message),
        2 => Just(Step::Dropped),
        1 => Just(Step::GapClosed),
        2 => Just(Step::Operator),
        3 => (0usize..4, delivery).prop_map(|(which, state)| Step::Outcome(which, state)),
        2 => Just(Step::Paused),
        2 => Just(Step::Resumed),
        1 => Just(Step::Killed),
        1 => Just(Step::Lost),
        1 => Just(Step::MachineRestarted),
        1 => status().prop_map(Step::Ended),
    ]
}

/// The reference: what anybody would expect, without the details.
#[derive(Debug)]
struct Model {
    status: Status,
    seq: u64,
    dropped: u64,
    /// Paused by an operator, and the provider has not told so yet.
    is_held: bool,
    /// Resumed by an operator before the provider had told the pause.
    is_late: bool,
    deliveries: Vec<Delivery>,
}

impl Model {
    fn go(&mut self, next: Status) {
        if self.status.transition(&next).is_ok() {
            self.status = next;
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Told(status) if status.is_terminal() => {}
            Step::Told(Status::Paused) if self.is_held || self.is_late => (self.is_held, self.is_late) = (false, false),
            Step::Told(_) if self.is_held => {}
            Step::Told(status) => self.go(status.clone()),
            Step::Message => self.seq += 1,
            Step::Dropped => self.dropped += 1,
            Step::GapClosed => {
                self.seq += u64::from(self.dropped > 0);
                self.dropped = 0;
            }
            // The session's task refuses it.
            Step::Operator if self.status.is_terminal() => {}
            Step::Operator => {
                self.seq += 1;
                self.deliveries.push(Delivery::Delivered);
            }
            Step::Outcome(which, state) => {
                if let Some(known) = self.deliveries.get_mut(*which) {
                    let doubt = *state == Delivery::NotKnown && *known == Delivery::Delivered;
                    let is_ours = matches!(state, Delivery::Accepted | Delivery::Delivered);
                    if doubt || (!is_ours && state.rank() > known.rank()) {
                        *known = state.clone();
                    }
                }
            }
            Step::Paused => {
                self.is_held |= self.status != Status::Paused;
                self.is_late &= self.status == Status::Paused;
                self.go(Status::Paused);
            }
            Step::Resumed if self.status == Status::Paused => {
                (self.is_held, self.is_late) = (false, self.is_held);
                self.go(Status::Running);
            }
            Step::Killed => self.end(Status::Killed),
            Step::Lost | Step::MachineRestarted => self.end(Status::Failed),
            Step::Ended(status) if status.is_terminal() => self.end(status.clone()),
            Step::Ended(_) => self.end(Status::Failed),
            Step::Resumed | Step::Turn(_) | Step::Attention(_) | Step::Fact(..) => {}
        }
    }

    fn end(&mut self, status: Status) {
        self.go(status);
        for known in &mut self.deliveries {
            if *known == Delivery::Delivered {
                *known = Delivery::Refused;
            }
        }
    }
}

/// The session's task in small: makes a step and records it.
fn record(state: &mut State, step: &Step, n: usize, log: &mut Vec<Record>) {
    let now = time(n as i64);
    let mut add = |kind, body: Vec<u8>| {
        let number = log.len() as u64 + 1;
        log.push(Record { number, kind, position: Position::default(), body: Bytes::from(body) });
    };
    let effect = match step {
        Step::Told(status) => state.apply(now, told(status.clone())),
        Step::Turn(turn) => state.apply(now, News::Turn(turn.clone())),
        Step::Attention(is_needed) => {
            let attention = Attention::new(AttentionKind::Question, "well?", now);
            state.apply(now, News::Attention(is_needed.then_some(attention)))
        }
        Step::Fact(key, value) => {
            let value = value.map_or(serde_json::Value::Null, Into::into);
            state.apply(now, News::Facts(Metadata::from_iter([(format!("k{key}"), value)])))
        }
        Step::Message => {
            let message = state.take(draft(n));
            add(RecordKind::Message, bus_schema::encode(&message).unwrap());
            Effect::None
        }
        Step::Dropped => {
            state.drop(&draft(n));
            add(RecordKind::Mark, mark(state.gap.as_ref()).unwrap());
            Effect::None
        }
        Step::GapClosed => {
            if let Some(message) = state.close_gap(draft(n).message_id, now) {
                add(RecordKind::Message, bus_schema::encode(&message).unwrap());
            }
            Effect::None
        }
        Step::Operator if state.is_ended() => Effect::None,
        Step::Operator => {
            let message_id = MessageId::new(format!("o{n}")).unwrap();
            let message =
                OperatorMessage { message_id, operator: ada(), content: "do".into(), mode: InjectMode::Queue };
            let message: Message = state.operator_message(&message, now);
            add(RecordKind::Message, bus_schema::encode(&message).unwrap());
            Effect::None
        }
        Step::Outcome(which, delivery) => {
            let id = operator_ids(log).get(*which).cloned();
            let outcome = InjectOutcome { state: delivery.clone(), mode: None, reason: None };
            id.and_then(|id| state.delivered(&id, &outcome, now)).map_or(Effect::None, Effect::Receipt)
        }
        Step::Paused => state.paused(&ada(), now),
        Step::Resumed => state.resumed(&ada(), now),
        Step::Killed => state.killed(&ada(), now),
        Step::Lost => state.lost("gone", now),
        Step::MachineRestarted => state.machine_restarted(now),
        Step::Ended(status) => state.apply(now, ended(status.clone())),
    };
    let mut add = |kind, body: Vec<u8>| {
        let number = log.len() as u64 + 1;
        log.push(Record { number, kind, position: Position::default(), body: Bytes::from(body) });
    };
    let (receipts, changed) = match effect {
        Effect::None | Effect::Delta(_) | Effect::Terminal(_) | Effect::Child(_) => (vec![], false),
        Effect::Snapshot => (vec![], true),
        Effect::Receipt(receipt) => (vec![receipt], false),
        Effect::Ended(receipts) => (receipts, true),
    };
    for receipt in receipts {
        add(RecordKind::Receipt, bus_schema::encode(&receipt).unwrap());
    }
    if changed {
        add(RecordKind::Session, bus_schema::encode(&state.snapshot()).unwrap());
    }
    if state.is_over {
        add(RecordKind::Checkpoint, checkpoint(state).unwrap());
    }
}

fn operator_ids(log: &[Record]) -> Vec<MessageId> {
    let messages = log.iter().filter(|record| record.kind == RecordKind::Message);
    let messages = messages.map(|record| bus_schema::decode::<Message>(&record.body, None).unwrap());
    messages.filter(|message| message.role == Role::Operator).map(|message| message.message_id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_state_does_what_the_model_says(steps in prop::collection::vec(steps(), 1..60)) {
        let mut state = new();
        let mut model = Model {
            status: Status::Spawning, seq: 0, dropped: 0, is_held: false, is_late: false, deliveries: vec![],
        };
        let mut log = vec![];
        let mut last = state.session.clone();
        for (n, step) in steps.iter().enumerate() {
            record(&mut state, step, n, &mut log);
            model.step(step);
            let session = &state.session;
            prop_assert_eq!(&session.status, &model.status, "after {:?}", step);
            prop_assert_eq!(session.last_seq, model.seq);
            prop_assert_eq!(state.gap.as_ref().map_or(0, |gap| gap.count), model.dropped);
            let deliveries: Vec<_> =
                operator_ids(&log).iter().map(|id| state.delivery(id).unwrap().clone()).collect();
            prop_assert_eq!(&deliveries, &model.deliveries);
            let unsettled = |d: &&Delivery| matches!(d, Delivery::Delivered | Delivery::NotKnown);
            let waiting = model.deliveries.iter().filter(unsettled).count();
            prop_assert!(state.pending.len() <= waiting);
            // Laws that hold whatever happens.
            prop_assert!(last.status.transition(&session.status).is_ok());
            prop_assert!(session.rev >= last.rev);
            prop_assert_eq!(session.status_since == last.status_since || session.status != last.status, true);
            prop_assert_eq!(session.completed_at.is_some(), session.status.is_terminal());
            last = session.clone();
        }
    }

    #[test]
    fn what_was_recorded_is_what_was(steps in prop::collection::vec(steps(), 1..60), segment in 1usize..60) {
        let mut state = new();
        let mut log = vec![];
        let begin = |state: &State, log: &mut Vec<Record>| {
            let (number, body) = (log.len() as u64 + 1, Bytes::from(checkpoint(state).unwrap()));
            log.push(Record { number, kind: RecordKind::Checkpoint, position: Position::default(), body });
        };
        begin(&state, &mut log);
        let mut segment_start = 0;
        for (n, step) in steps.iter().enumerate() {
            if n % segment == segment - 1 {
                segment_start = log.len();
                begin(&state, &mut log);
            }
            record(&mut state, step, n, &mut log);
            let recovered = recover(&log[segment_start..]).unwrap().unwrap();
            // Which of the two knows of a pause first is forgotten; it only smooths what is shown.
            let forget = |state: &State| recover(&[Record {
                number: 1,
                kind: RecordKind::Checkpoint,
                position: Position::default(),
                body: Bytes::from(checkpoint(state).unwrap()),
            }]).unwrap().unwrap();
            prop_assert_eq!(forget(&recovered), forget(&state), "after {:?}", step);
        }
    }
}

/// The whole table, row by row: a step that must not happen leaves everything as it was.
/// A runtime cannot take back what the node said, nor say it in its place.
#[test]
fn a_runtime_neither_accepts_nor_delivers() {
    let mut state = new();
    let message_id = MessageId::new("o1").unwrap();
    let message = OperatorMessage {
        message_id: message_id.clone(),
        operator: ada(),
        content: "do".into(),
        mode: InjectMode::Queue,
    };
    state.operator_message(&message, time(1));
    for word in [Delivery::NotKnown, Delivery::Accepted, Delivery::Delivered] {
        state.delivered(&message_id, &InjectOutcome { state: word, mode: None, reason: None }, time(2));
        assert_eq!(state.delivery(&message_id), Some(&Delivery::NotKnown));
    }
    assert_eq!(state.pending.len(), 1, "it is still asked for");
}

#[test]
fn every_status_meets_every_event() {
    for from in Status::ALL {
        for to in Status::ALL {
            let mut state = new();
            if from.is_terminal() {
                state.apply(time(1), ended(from.clone()));
            } else {
                state.apply(time(1), told(from.clone()));
            }
            assert_eq!(&state.session.status, from);
            let event = if to.is_terminal() { ended(to.clone()) } else { told(to.clone()) };
            state.apply(time(2), event);
            let expected = if from.transition(to).is_ok() { to } else { from };
            assert_eq!(&state.session.status, expected, "{from} -> {to}");
        }
    }
}

#[test]
fn a_terminal_status_is_never_told_but_by_an_end() {
    let mut state = new();
    assert_eq!(state.apply(time(1), told(Status::Killed)), Effect::None);
    assert_eq!(state.session.status, Status::Spawning);
}

#[test]
fn events_from_before_a_pause_do_not_undo_it() {
    let mut state = new();
    state.apply(time(1), told(Status::Running));
    state.paused(&ada(), time(2));
    assert_eq!(state.apply(time(1), told(Status::Waiting)), Effect::None);
    assert_eq!(state.session.status, Status::Paused);
    assert_eq!(state.session.status_reason.as_deref(), Some("paused by Ada"));
    // Its own event comes; after that the provider's word counts again: somebody else may have thawed it.
    assert_eq!(state.apply(time(2), told(Status::Paused)), Effect::None);
    assert_eq!(state.session.status_source, StatusSource::Operator);
    state.apply(time(3), told(Status::Running));
    assert_eq!(state.session.status, Status::Running);
}

#[test]
fn what_kind_of_pause_it_is_the_runtime_says_whether_before_or_after_it_is_proven() {
    let soft = || News::Status {
        status: Status::Paused,
        reason: Some("soft pause by Ada".into()),
        source: StatusSource::Runtime,
    };
    for comes_first in [true, false] {
        let mut state = new();
        state.apply(time(1), told(Status::Running));
        if comes_first {
            state.apply(time(2), soft());
        }
        state.paused(&ada(), time(2));
        if !comes_first {
            state.apply(time(2), soft());
        }
        assert_eq!(state.session.status_reason.as_deref(), Some("soft pause by Ada"), "{comes_first}");
        assert_eq!(state.session.status_source, StatusSource::Operator);
    }
}

#[test]
fn a_resume_is_not_undone_by_the_event_of_its_pause() {
    let mut state = new();
    state.apply(time(1), told(Status::Running));
    state.paused(&ada(), time(2));
    state.resumed(&ada(), time(3));
    state.apply(time(2), told(Status::Paused));
    assert_eq!(state.session.status, Status::Running);
    state.apply(time(4), told(Status::Paused));
    assert_eq!(state.session.status, Status::Paused);
}

#[test]
fn a_kill_shows_at_once_and_its_event_brings_the_rest() {
    let mut state = new();
    state.apply(time(1), told(Status::Running));
    state.killed(&ada(), time(2));
    assert_eq!((&state.session.status, state.session.exit_code), (&Status::Killed, None));
    state.take(draft(1));
    let end = End { status: Status::Completed, reason: "exit 0".into(), exit_code: Some(0), error: None, report: None };
    state.apply(time(3), News::Ended(end));
    let session = &state.session;
    assert_eq!((&session.status, session.exit_code, session.last_seq), (&Status::Killed, Some(0), 1));
    assert_eq!(session.status_reason.as_deref(), Some("killed by Ada"));
    assert_eq!(session.capabilities, [Capability::Terminal]);
}

#[test]
fn what_waits_when_a_session_ends_is_refused() {
    let mut state = new();
    let message_id = MessageId::new("o1").unwrap();
    let message = OperatorMessage { message_id, operator: ada(), content: "x".into(), mode: InjectMode::Queue };
    state.operator_message(&message, time(1));
    let Effect::Ended(receipts) = state.apply(time(2), ended(Status::Completed)) else { unreachable!() };
    assert_eq!(receipts.iter().map(|r| &r.state).collect::<Vec<_>>(), [&Delivery::Refused]);
    assert!(state.pending.is_empty());
}

#[test]
fn a_gap_tells_what_was_dropped() {
    let mut state = new();
    state.take(draft(1));
    state.drop(&draft(2));
    state.drop(&draft(3));
    let message = state.close_gap(MessageId::new("g").unwrap(), time(9)).unwrap();
    assert_eq!((message.seq, message.role, message.kind), (2, Role::System, MessageKind::Status));
    let gap = &message.metadata["gap"];
    assert_eq!((&gap["count"], &gap["bytes"]), (&2.into(), &18.into()));
    assert_eq!(gap["from"], "1970-01-01T00:00:00.002Z");
    assert_eq!(gap["to"], "1970-01-01T00:00:00.003Z");
    assert!(state.close_gap(MessageId::new("g").unwrap(), time(9)).is_none());
    assert_eq!(state.take(draft(4)).seq, 3);
}

#[test]
fn what_is_too_long_is_cut_and_what_is_too_much_left_out() {
    let mut state = new();
    let big = "x".repeat(60_000);
    state.apply(time(1), News::Facts(Metadata::from_iter([("a".into(), big.clone().into())])));
    state.apply(time(1), News::Facts(Metadata::from_iter([("b".into(), big.clone().into())])));
    assert!(state.session.metadata.contains_key("a") && !state.session.metadata.contains_key("b"));
    let mut untitled = titled(None);
    untitled.apply(time(1), News::Title(big.clone()));
    assert_eq!(untitled.session.title.as_ref().unwrap().len(), 4096);
    let metadata = Metadata::from_iter([("a".into(), big.clone().into()), ("b".into(), big.into())]);
    let message = state.take(MessageDraft { metadata, content: "y".repeat(300_000), ..draft(1) });
    assert_eq!(message.metadata["metadataTruncated"], true);
    assert_eq!((message.content.len(), &message.metadata["fullSizeBytes"]), (256 * 1024, &300_000.into()));
    assert!(bus_schema::encode(&message).is_ok());
}

#[test]
fn the_title_of_an_operator_stays_and_that_of_the_runtime_stands_beside_it() {
    let mut state = new();
    assert_eq!(state.apply(time(1), News::Title("Codex".into())), Effect::Snapshot);
    assert_eq!(state.session.title.as_deref(), Some("t"));
    assert_eq!(state.session.metadata["runtimeTitle"], "Codex");
    let mut untitled = titled(None);
    untitled.apply(time(1), News::Title("Codex".into()));
    untitled.apply(time(2), News::Title("Codex: fix".into()));
    assert_eq!(untitled.session.title.as_deref(), Some("Codex: fix"));
}

#[test]
fn a_session_that_is_found_is_what_its_runtime_says() {
    let info = |status: Status| providers::SessionInfo {
        session_id: SessionId::new("01JD8Z2V9Q0000000000000000").unwrap(),
        parent_session_id: None,
        status,
        status_reason: Some("quiet".into()),
        status_source: StatusSource::Screen,
        title: Some("found".into()),
        agent_type: None,
        profile: None,
        spawned_at: time(1),
        started_at: Some(time(2)),
        ended_at: None,
        capabilities: vec![Capability::Inject],
        metadata: Metadata::new(),
    };
    let session = State::adopted(home(), info(Status::Waiting)).session;
    assert_eq!((&session.status, session.started_at, session.spawned_at), (&Status::Waiting, Some(time(2)), time(1)));
    assert_eq!(session.capabilities, [Capability::Inject]);
    // What it is for is known to the runtime, unless whoever started it said so.
    let work = [("taskId", "T-1"), ("taskSource", "external"), ("missionId", "M-1")];
    let work: Metadata = work.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let knows = providers::SessionInfo { metadata: work, ..info(Status::Running) };
    let session = State::adopted(home(), knows.clone()).session;
    assert_eq!((session.task_id.as_deref(), session.task_source.as_str()), (Some("T-1"), "external"));
    assert_eq!(session.mission_id.as_deref(), Some("M-1"));
    let mut state = new();
    state.session.task_id = Some("T-0".into());
    state.learn(knows);
    assert_eq!((state.session.task_id.as_deref(), state.session.task_source.as_str()), (Some("T-0"), "internal"));
    assert_eq!(state.session.mission_id.as_deref(), Some("M-1"));
    // Its end is told by an event, which says how.
    let mut state = State::adopted(home(), info(Status::Failed));
    assert!(!state.is_ended());
    state.apply(time(3), ended(Status::Failed));
    assert_eq!((&state.session.status, state.session.exit_code), (&Status::Failed, Some(1)));
}
