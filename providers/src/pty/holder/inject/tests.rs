//! Injection played on a stage of our own: a program at a terminal, and a clock that the test moves.

use bus_schema::{Operator, TerminalSize, UserId};

use super::*;

/// A program at a terminal, and a clock.
struct Stage {
    now: Instant,
    emulator: Emulator,
    program: Option<ProgramState>,
    protocol: Protocol,
    canonical: bool,
    reads: Option<bool>,
    frozen: bool,
    unread: usize,
    quiet: Duration,
    bracketed: Duration,
    agent_type: Option<&'static str>,
    injector: Injector,
}

impl Stage {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            emulator: Emulator::new(TerminalSize { cols: 40, rows: 5 }, false),
            program: None,
            protocol: Protocol::Terminal,
            canonical: false,
            reads: None,
            frozen: false,
            unread: 0,
            quiet: Duration::from_secs(1),
            bracketed: Duration::from_millis(500),
            agent_type: None,
            injector: Injector::default(),
        }
    }

    fn inject(&mut self, content: &str, mode: InjectMode) -> Result<Option<InjectOutcome>, Fault> {
        let operator = Operator { id: UserId::new("u1").unwrap(), name: "Ada".into() };
        let message_id = MessageId::new(format!("m-{}", content.len())).unwrap();
        let message = Injecting { message_id, operator, content: content.into(), mode };
        self.injector.accept(&message, self.now)
    }

    fn look(&mut self) -> Vec<Step> {
        let view = View {
            now: self.now,
            protocol: self.protocol,
            agent_type: self.agent_type,
            frozen: self.frozen,
            modes: InputModes { canonical: self.canonical, echo: true },
            emulator: (self.protocol == Protocol::Terminal).then_some(&self.emulator),
            bracketed: self.emulator.screen().bracketed_paste().then_some(self.bracketed),
            program: self.program,
            quiet: self.quiet,
            age: Some(Duration::from_secs(1)),
            unread: self.unread,
            reader_waits: &|| self.reads,
        };
        self.injector.advance(&view)
    }

    /// Looks as long as there is something to type, and gives what was typed and told.
    fn typed(&mut self) -> String {
        let text = |step: Step| match step {
            Step::Type(_, bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Step::Tell { outcome, .. } => format!("<{} {}>", outcome.state, outcome.reason.unwrap_or_default()),
        };
        (0..4).flat_map(|_| self.look()).map(text).collect()
    }

    fn pass(&mut self, ms: u64) -> &mut Self {
        self.now += Duration::from_millis(ms);
        self
    }
}

#[test]
fn a_paste_then_a_pause_then_enter_then_proof() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h> ");
    stage.inject("fix the\nbuild\x1b[201~\x07!", InjectMode::Steer).unwrap();
    assert_eq!(stage.typed(), "\x1b[200~fix the\nbuild[201~!\x1b[201~");
    stage.emulator.feed(b"fix the build[201~!");
    assert_eq!(stage.pass(199).typed(), "");
    assert_eq!(stage.pass(1).typed(), "\r");
    assert_eq!(stage.pass(500).typed(), "");
    stage.emulator.feed(b"\r\n> ");
    assert_eq!(stage.typed(), "<written >");
    assert!(stage.injector.look_again().is_none());
}

#[test]
fn enter_waits_a_while_until_the_text_is_shown() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h> ");
    stage.inject("hello there", InjectMode::Steer).unwrap();
    stage.typed();
    assert_eq!(stage.pass(200).typed(), "");
    assert_eq!(stage.pass(700).typed(), "");
    stage.emulator.feed(b"hello there");
    assert_eq!(stage.typed(), "\r");
    stage.emulator.feed(b"\r\n> ");
    assert_eq!(stage.typed(), "<written >");
}

#[test]
fn a_program_that_begins_to_work_has_taken_it() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h");
    stage.program = Some(ProgramState::Idle);
    stage.inject("hello", InjectMode::Steer).unwrap();
    stage.typed();
    stage.pass(200).typed();
    stage.pass(1000).typed();
    stage.program = Some(ProgramState::Working);
    assert_eq!(stage.typed(), "<taken >");
}

#[test]
fn enter_is_pressed_once_more_and_then_the_truth_is_told() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h> ");
    stage.inject("hello there", InjectMode::Steer).unwrap();
    stage.typed();
    stage.emulator.feed(b"hello there");
    assert_eq!(stage.pass(200).typed(), "\r");
    assert_eq!(stage.pass(3000).typed(), "\r");
    assert_eq!(stage.pass(3000).typed(), "<unknown unconfirmed: the text still stands on the input line>");
}

#[test]
fn a_program_that_waits_for_a_choice_gets_nothing() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h");
    stage.program = Some(ProgramState::Blocked);
    stage.inject("yes", InjectMode::Steer).unwrap();
    assert!(stage.typed().starts_with("<refused the program waits for a choice"));
}

#[test]
fn without_bracketed_paste_only_one_line_is_typed() {
    let mut stage = Stage::new();
    stage.inject("two\nlines", InjectMode::Steer).unwrap();
    assert!(stage.typed().starts_with("<refused the program takes one line"));
    stage.inject("a\tline\n", InjectMode::Steer).unwrap();
    assert_eq!(stage.typed(), "a line");
    stage.emulator.feed(b"a line");
    assert_eq!(stage.pass(150).typed(), "\r");
    stage.canonical = true;
    stage.reads = Some(true);
    stage.emulator.feed(b"\r\nx");
    stage.typed();
    stage.inject(&"x".repeat(5000), InjectMode::Steer).unwrap();
    assert!(stage.typed().contains("<refused the terminal takes lines of at most 4000"));
}

#[test]
fn a_program_that_collects_lines_is_ready_when_it_reads() {
    let mut stage = Stage::new();
    (stage.canonical, stage.reads) = (true, Some(false));
    stage.inject("hi", InjectMode::Steer).unwrap();
    assert_eq!(stage.typed(), "");
    stage.reads = Some(true);
    assert_eq!(stage.typed(), "hi");
}

#[test]
fn a_screen_program_gets_nothing_before_it_is_ready() {
    let mut stage = Stage::new();
    stage.agent_type = Some("opencode");
    stage.inject("hi", InjectMode::Steer).unwrap();
    assert_eq!(stage.pass(7_000).typed(), "");
    assert_eq!(stage.pass(1_000).typed(), "<unknown waiting until the program is ready for input>");
    stage.emulator.feed(b"\x1b[?2004h");
    assert_eq!(stage.pass(20_000).typed(), "\x1b[200~hi\x1b[201~");
}

#[test]
fn a_program_that_never_rests_is_ready_after_a_while() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h");
    stage.quiet = Duration::ZERO;
    stage.inject("hi", InjectMode::Steer).unwrap();
    assert_eq!(stage.typed(), "");
    stage.bracketed = Duration::from_secs(2);
    assert_eq!(stage.typed(), "\x1b[200~hi\x1b[201~");
}

#[test]
fn while_paused_the_text_is_written_and_enter_follows_later() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h> ");
    stage.frozen = true;
    stage.inject("hi there", InjectMode::Steer).unwrap();
    let typed = stage.typed();
    assert!(typed.starts_with("\x1b[200~hi there\x1b[201~<written the session is paused"), "{typed}");
    assert_eq!(stage.pass(60_000).typed(), "");
    stage.frozen = false;
    stage.emulator.feed(b"hi there");
    assert_eq!(stage.typed(), "");
    assert_eq!(stage.pass(200).typed(), "\r");
    stage.emulator.feed(b"\r\n");
    assert_eq!(stage.typed(), "<written >");
}

#[test]
fn an_interrupt_needs_a_program_that_says_it_works() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h");
    stage.program = Some(ProgramState::Working);
    stage.inject("stop", InjectMode::Interrupt).unwrap();
    assert_eq!(stage.typed(), "\x1b");
    stage.program = Some(ProgramState::Idle);
    assert_eq!(stage.typed(), "\x1b[200~stop\x1b[201~");
    stage.pass(200).typed();
    stage.pass(1000).typed();
    stage.emulator.feed(b"changed");
    assert_eq!(stage.look(), [], "it says where it stands, so it has a moment to say that it works");
    let told = stage.pass(1000).look();
    let Some(Step::Tell { outcome, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(outcome.mode, Some(InjectMode::Interrupt));

    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h");
    stage.inject("stop", InjectMode::Interrupt).unwrap();
    assert_eq!(stage.typed(), "\x1b[200~stop\x1b[201~");
    stage.pass(200).typed();
    stage.pass(1000).typed();
    stage.emulator.feed(b"changed");
    let told = stage.look();
    let Some(Step::Tell { outcome, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(outcome.mode, Some(InjectMode::Queue), "nothing told that it could be interrupted");
}

#[test]
fn lines_go_as_they_are_and_json_lines_carry_the_operator() {
    let mut stage = Stage::new();
    stage.protocol = Protocol::Lines;
    stage.inject("one\ntwo", InjectMode::Steer).unwrap();
    assert_eq!(stage.typed(), "one\ntwo\n<written >");
    stage.protocol = Protocol::Jsonl;
    stage.inject("a \"b\"", InjectMode::Steer).unwrap();
    let typed = stage.typed();
    let line: serde_json::Value = serde_json::from_str(typed.split('\n').next().unwrap()).unwrap();
    assert_eq!(line["role"], "operator");
    assert_eq!(line["content"], "a \"b\"");
    assert_eq!(line["operator"]["name"], "Ada");
}

#[test]
fn an_agent_that_does_not_read_is_told_of() {
    let mut stage = Stage::new();
    stage.protocol = Protocol::Lines;
    stage.inject("hello", InjectMode::Steer).unwrap();
    stage.unread = 6;
    assert_eq!(stage.typed(), "hello\n");
    assert_eq!(stage.pass(5_000).typed(), "<unknown the agent does not read its input: 6 bytes wait for it>");
    stage.unread = 0;
    assert_eq!(stage.typed(), "<written >");
}

#[test]
fn the_same_message_is_typed_once() {
    let mut stage = Stage::new();
    stage.protocol = Protocol::Lines;
    assert_eq!(stage.inject("hello", InjectMode::Steer).unwrap(), None);
    assert_eq!(stage.inject("hello", InjectMode::Steer).unwrap().unwrap().state, Delivery::NotKnown);
    assert_eq!(stage.typed(), "hello\n<written >");
    assert_eq!(stage.inject("hello", InjectMode::Steer).unwrap().unwrap().state, Delivery::Written);
    assert_eq!(stage.typed(), "");
}

#[test]
fn what_waits_when_the_session_ends_is_told() {
    let mut stage = Stage::new();
    stage.emulator.feed(b"\x1b[?2004h");
    stage.inject("first", InjectMode::Steer).unwrap();
    stage.inject("second", InjectMode::Steer).unwrap();
    stage.typed();
    let states: Vec<Delivery> = stage
        .injector
        .abandon()
        .into_iter()
        .map(|step| match step {
            Step::Tell { outcome, .. } => outcome.state,
            Step::Type(..) => panic!("typed into a session that is over"),
        })
        .collect();
    assert_eq!(states, [Delivery::NotKnown, Delivery::Refused]);
}

#[test]
fn too_many_at_once_are_refused() {
    let mut stage = Stage::new();
    stage.agent_type = Some("codex");
    for length in 1..=MAX_WAITING {
        stage.inject(&"x".repeat(length), InjectMode::Steer).unwrap();
    }
    assert!(stage.inject(&"x".repeat(MAX_WAITING + 1), InjectMode::Steer).is_err());
}
