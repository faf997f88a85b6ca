//! Our side of the conversation, with lines in place of an agent.

use bus_schema::UserId;
use serde_json::json;

use super::*;

struct Bench {
    client: Client,
    now: Instant,
    told: Vec<(String, String, String)>,
}

fn ada() -> Operator {
    Operator { id: UserId::new("u").unwrap(), name: "Ada".into() }
}

fn session() -> SessionId {
    SessionId::new("01JD8Z2V9Q0000000000000000").unwrap()
}

fn message(id: &str, mode: InjectMode) -> Injecting {
    Injecting { message_id: MessageId::new(id).unwrap(), operator: ada(), content: format!("text of {id}"), mode }
}

impl Bench {
    fn new() -> Self {
        Self::that_goes_on(None)
    }

    /// One that is to go on with this conversation.
    fn that_goes_on(conversation: Option<&str>) -> Self {
        let client = Client::new(&session(), "/srv".into(), conversation.map(Into::into), || None);
        let mut bench = Self { client, now: Instant::now(), told: vec![] };
        bench.client.started(bench.now);
        bench
    }

    /// One that has opened its session.
    fn ready(steers: bool) -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.sent()[0]["method"], "initialize");
        bench.hear(json!({"id": 0, "result": {"protocolVersion": 1, "_meta": {"steering": {"supported": steers}}}}));
        let sent = bench.sent();
        assert_eq!((&sent[0]["method"], &sent[0]["params"]["cwd"]), (&json!("session/new"), &json!("/srv")));
        bench.hear(json!({"id": 1, "result": {"sessionId": "s"}}));
        bench
    }

    fn hear(&mut self, line: Value) {
        self.client.output(format!("{line}\n").as_bytes(), self.now);
    }

    fn inject(&mut self, id: &str, mode: InjectMode) {
        self.client.accept(&message(id, mode), self.now).unwrap();
    }

    fn later(&mut self, after: Duration, frozen: bool) {
        self.now += after;
        self.client.look(self.now, frozen);
    }

    /// What was sent since the last look; what was told is kept apart.
    fn sent(&mut self) -> Vec<Value> {
        let mut sent = vec![];
        for step in self.client.take_steps() {
            match step {
                Step::Send(_, line) => sent.push(serde_json::from_slice(&line).unwrap()),
                Step::Tell(id, outcome) => {
                    let mode = outcome.mode.map(|mode| mode.as_str().to_owned()).unwrap_or_default();
                    self.told.push((id.as_str().into(), outcome.state.as_str().into(), mode));
                }
                Step::Report(report) => sent.push(json!({"reported": format!("{report:?}")})),
                Step::GiveUp(reason) => sent.push(json!({"gaveUp": reason})),
            }
        }
        sent
    }

    fn methods(&mut self) -> Vec<String> {
        let name = |line: Value| match &line["method"] {
            Value::String(method) => method.clone(),
            _ => line["result"]["outcome"]["outcome"].as_str().map_or(line.to_string(), ToOwned::to_owned),
        };
        self.sent().into_iter().map(name).collect()
    }

    fn told(&mut self) -> Vec<(String, String, String)> {
        let more = self.sent();
        assert_eq!(more, Vec::<Value>::new());
        std::mem::take(&mut self.told)
    }

    fn work(&mut self) {
        self.hear(json!({"method": "session/update", "params": {"update": {"sessionUpdate": "tool_call"}}}));
    }

    fn ask(&mut self, id: u64) {
        let options = json!([{"optionId": "yes"}, {"optionId": "no"}]);
        self.hear(json!({"id": id, "method": "session/request_permission", "params": {"options": options}}));
    }
}

fn said(all: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    all.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

#[test]
fn what_comes_before_the_session_is_open_waits_for_it() {
    let mut bench = Bench::new();
    bench.inject("m1", InjectMode::Steer);
    assert_eq!(bench.methods(), ["initialize"]);
    assert_eq!(bench.told(), said(&[("m1", "written", "queue")]));
    bench.hear(json!({"id": 0, "result": {"protocolVersion": 1}}));
    bench.hear(json!({"id": 1, "result": {"sessionId": "s"}}));
    let sent = bench.sent();
    assert_eq!(sent[1]["params"]["prompt"][0]["text"], "text of m1");
    bench.work();
    bench.work();
    let told = bench.told();
    assert_eq!(told.last(), said(&[("m1", "taken", "queue")]).last(), "{told:?}");
    assert_eq!(told.iter().filter(|told| told.1 == "taken").count(), 1);
}

#[test]
fn never_two_prompts_at_once() {
    let mut bench = Bench::ready(false);
    for id in ["m1", "m2", "m3"] {
        bench.inject(id, InjectMode::Steer);
    }
    assert_eq!(bench.methods(), ["session/prompt"]);
    bench.hear(json!({"id": 2, "result": {"stopReason": "end_turn"}}));
    assert_eq!(bench.methods(), ["session/prompt"]);
    // The answer to something else ends no turn.
    bench.hear(json!({"id": 77, "result": {"stopReason": "end_turn"}}));
    assert_eq!(bench.methods(), Vec::<String>::new());
    bench.hear(json!({"id": 3, "error": {"code": 1, "message": "x"}}));
    assert_eq!(bench.methods(), ["session/prompt"]);
}

#[test]
fn a_steered_text_is_taken_or_becomes_the_next_prompt() {
    let mut bench = Bench::ready(true);
    bench.inject("m1", InjectMode::Steer);
    bench.inject("m2", InjectMode::Steer);
    bench.inject("m3", InjectMode::Queue);
    assert_eq!(bench.methods(), ["session/prompt", "_session/steering"]);
    bench.told.clear();
    bench.hear(json!({"id": 3, "result": {"outcome": "injected"}}));
    assert_eq!(bench.told(), said(&[("m2", "taken", "steer")]));
    bench.inject("m4", InjectMode::Steer);
    assert_eq!(bench.methods(), ["_session/steering"]);
    // The turn ends first: the agent says that it needs a prompt, and nothing is sent before that.
    bench.hear(json!({"id": 2, "result": {"stopReason": "end_turn"}}));
    assert_eq!(bench.methods(), Vec::<String>::new());
    bench.hear(json!({"id": 4, "result": {"outcome": "promptRequired"}}));
    let sent = bench.sent();
    assert_eq!(sent[0]["params"]["prompt"][0]["text"], "text of m4");
    assert_eq!(sent.len(), 1);
    bench.hear(json!({"id": 5, "result": {"stopReason": "end_turn"}}));
    assert_eq!(bench.sent()[0]["params"]["prompt"][0]["text"], "text of m3");
}

#[test]
fn an_agent_that_says_nothing_about_a_steered_text_holds_nobody_up() {
    let mut bench = Bench::ready(true);
    bench.inject("m1", InjectMode::Steer);
    bench.inject("m2", InjectMode::Steer);
    bench.methods();
    bench.told.clear();
    bench.later(TELL_WITHIN, true);
    assert_eq!(bench.told(), said(&[("m2", "unknown", "steer")]));
    bench.later(STEER_WITHIN, true);
    bench.hear(json!({"id": 2, "result": {"stopReason": "end_turn"}}));
    bench.inject("m3", InjectMode::Steer);
    assert_eq!(bench.methods(), Vec::<String>::new(), "it stands still, so its silence says nothing");
    bench.later(STEER_WITHIN, false);
    assert_eq!(bench.sent()[0]["params"]["prompt"][0]["text"], "text of m3", "and m2 is not sent twice");
}

#[test]
fn an_interrupt_cancels_answers_and_goes_first() {
    let mut bench = Bench::ready(true);
    bench.inject("m1", InjectMode::Steer);
    bench.inject("m2", InjectMode::Queue);
    bench.ask(90);
    bench.methods();
    bench.inject("m3", InjectMode::Interrupt);
    assert_eq!(bench.methods(), ["session/cancel", "cancelled"]);
    // What is asked behind the cancel is cancelled too.
    bench.ask(91);
    assert_eq!(bench.methods(), ["cancelled"]);
    bench.hear(json!({"id": 2, "result": {"stopReason": "cancelled"}}));
    assert_eq!(bench.sent()[0]["params"]["prompt"][0]["text"], "text of m3");
    assert!(bench.told.contains(&said(&[("m3", "written", "interrupt")])[0]));
    bench.hear(json!({"id": 3, "result": {"stopReason": "end_turn"}}));
    assert_eq!(bench.sent()[0]["params"]["prompt"][0]["text"], "text of m2");
}

#[test]
fn every_request_is_answered_once() {
    let mut bench = Bench::ready(false);
    bench.inject("m1", InjectMode::Steer);
    bench.methods();
    bench.hear(json!({"id": "f", "method": "fs/read_text_file", "params": {}}));
    assert_eq!(
        bench.sent(),
        [json!({"jsonrpc": "2.0", "id": "f", "error": {
        "code": -32601, "message": "this client does not offer fs/read_text_file"}})]
    );
    let place = bench.client.lines.partial().map_or(0, |line| line.start);
    assert_eq!(place, 0);
    bench.ask(90);
    let start = bench.client.open[0].start;
    let request = MessageId::new(format!("{}-{}", session(), key_of(start))).unwrap();
    let answer = |option: &str| Answer { option_id: Some(option.into()), text: None };
    assert_eq!(bench.client.answer(&request, &answer("maybe"), ada()).unwrap_err().kind, FaultKind::Invalid);
    bench.client.answer(&request, &answer("no"), ada()).unwrap();
    bench.client.answer(&request, &answer("no"), ada()).unwrap();
    assert_eq!(bench.client.answer(&request, &answer("yes"), ada()).unwrap_err().kind, FaultKind::WrongState);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((&sent[0]["id"], &sent[0]["result"]["outcome"]["optionId"]), (&json!(90), &json!("no")));
    // Taken back, it still gets an answer; one that the turn leaves behind, too.
    bench.ask(91);
    bench.hear(json!({"method": "$/cancel_request", "params": {"requestId": 91}}));
    assert_eq!(bench.methods(), ["cancelled"]);
    bench.ask(92);
    bench.hear(json!({"id": 2, "result": {"stopReason": "end_turn"}}));
    assert_eq!(bench.methods(), ["cancelled"]);
    let foreign = MessageId::new("01JD8Z2V9Q0000000000000001-o5").unwrap();
    assert_eq!(bench.client.answer(&foreign, &answer("no"), ada()).unwrap_err().kind, FaultKind::Invalid);
}

#[test]
fn an_agent_that_opens_nothing_is_given_up_with_the_reason() {
    let cases = [
        (json!({"id": 0, "result": {"protocolVersion": 2}}), "version 2"),
        (json!({"id": 0, "error": {"code": -1, "message": "no licence"}}), "no licence"),
    ];
    for (answer, reason) in cases {
        let mut bench = Bench::new();
        bench.sent();
        bench.hear(answer);
        let sent = bench.sent();
        assert!(sent[0]["gaveUp"].as_str().unwrap().contains(reason), "{sent:?}");
        assert!(bench.client.accept(&message("m1", InjectMode::Steer), bench.now).is_err());
    }
    let mut silent = Bench::new();
    silent.sent();
    silent.later(OPEN_WITHIN, true);
    assert_eq!(silent.sent(), Vec::<Value>::new());
    silent.later(OPEN_WITHIN, false);
    assert!(silent.sent()[0]["gaveUp"].as_str().unwrap().contains("180 s"));
}

#[test]
fn what_is_left_at_the_end_is_told() {
    let mut bench = Bench::ready(true);
    for (id, mode) in [("m1", InjectMode::Steer), ("m2", InjectMode::Steer), ("m3", InjectMode::Queue)] {
        bench.inject(id, mode);
    }
    bench.methods();
    bench.told.clear();
    bench.client.leave();
    assert_eq!(bench.methods(), ["session/cancel"]);
    bench.client.abandon();
    assert_eq!(bench.told(), said(&[("m2", "unknown", ""), ("m3", "unknown", "")]));
}

#[test]
fn only_so_many_messages_wait() {
    let mut bench = Bench::ready(false);
    bench.inject("m", InjectMode::Queue);
    for n in 0..MAX_WAITING {
        bench.inject(&format!("m{n}"), InjectMode::Queue);
    }
    let fault = bench.client.accept(&message("last", InjectMode::Queue), bench.now).unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotReading);
}

#[test]
fn an_earlier_conversation_is_gone_on_with_or_that_is_refused() {
    for (can, method) in [
        (json!({"loadSession": true, "sessionCapabilities": {"resume": {}}}), "session/resume"),
        (json!({"loadSession": true}), "session/load"),
    ] {
        let mut it = Bench::that_goes_on(Some("c-1"));
        it.inject("m", InjectMode::Queue);
        it.sent();
        it.hear(json!({"id": 0, "result": {"protocolVersion": 1, "agentCapabilities": can}}));
        let sent = it.sent();
        assert_eq!((&sent[0]["method"], &sent[0]["params"]["sessionId"]), (&json!(method), &json!("c-1")));
        // What it tells again is no sign that it acts on what waits.
        let update = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "old"}});
        it.hear(json!({"method": "session/update", "params": {"sessionId": "c-1", "update": update}}));
        assert_eq!(it.sent(), Vec::<Value>::new());
        it.hear(json!({"id": 1, "result": {}}));
        let sent = it.sent();
        assert_eq!((&sent[0]["method"], &sent[0]["params"]["sessionId"]), (&json!("session/prompt"), &json!("c-1")));
    }
    let mut it = Bench::that_goes_on(Some("c-1"));
    it.hear(json!({"id": 0, "result": {"protocolVersion": 1, "agentCapabilities": {}}}));
    let sent = it.sent();
    let reason = sent.last().unwrap()["gaveUp"].as_str().unwrap();
    assert!(reason.contains("session/resume") && reason.contains("session/load"), "{reason}");
}
