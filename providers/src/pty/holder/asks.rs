//! Requests for leave that wait for an answer: on the connection of whoever asks, which is told what an operator chose,
//! or in a dialog on the screen, in which the key is pressed.
//!
//! ```text
//! asked ─┬─ answered through the mesh ─► handed over ─► the agent goes on: confirmed, or not in time: unconfirmed
//!        ├─ what was asked for is carried out, or the program is blocked no more: answered at the terminal
//!        └─ the connection ends: taken back
//! ```
//!
//! Laws:
//! 1. Asking, answering and closing are in the log, in this order. Nothing else tells of a request.
//! 2. An answer is given once. Who gives the same one again is told what became of it.
//! 3. That it took effect is seen by what the agent does, not by our having said it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bus_schema::{AnswerOption, MessageId, Operator, OptionKind, Status};

use super::dialog::{Dialog, key};
use super::reporters::new_id;
use super::session::Session;
use crate::pty::emulator::ProgramState;
use crate::pty::protocol::{Answer, Fault, FaultKind};
use crate::pty::record::Typist;
use crate::pty::record::{Answered, Note};
use crate::pty::report::{Report, SCREEN};

/// Requests open at once: half of the connections there may be. An agent shows one dialog at a time.
const MAX_OPEN: usize = 16;
/// Answers that are remembered for whoever asks again.
const MAX_ANSWERED: usize = 256;
/// How long an agent may take to show that it took an answer.
const CONFIRM_WITHIN: Duration = Duration::from_secs(6);
/// How long a program must say that it waits for nothing until what it asked for counts as answered: between two
/// dialogs it may say so for a moment.
const UNBLOCKED_FOR: Duration = Duration::from_millis(700);
/// How long an answer waits for a program to have drawn its frame, before its dialog counts as gone.
const DRAWN_WITHIN: Duration = Duration::from_secs(1);
/// Longest text that is handed over with an answer.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The requests of a session.
#[derive(Default)]
pub(crate) struct Asks {
    /// In the order in which they were asked.
    open: Vec<Open>,
    answered: VecDeque<(String, Result<(), &'static str>)>,
    /// Answers that came while the screen was being drawn, at most [`MAX_OPEN`].
    postponed: Vec<Postponed>,
}

/// An answer that came when nobody could say which dialog is on the screen.
struct Postponed {
    who: (u64, u64),
    request: MessageId,
    words: (Option<String>, Option<String>),
    by: Operator,
    until: Instant,
}

/// A request as it is asked.
pub(crate) struct Request {
    pub way: Way,
    /// Where it was asked.
    pub source: String,
    pub call: Option<String>,
    pub options: Vec<AnswerOption>,
    pub takes_text: bool,
}

/// How a request is answered.
pub(crate) enum Way {
    /// By a line on this connection.
    Connection(u64),
    /// By a key in this dialog.
    Keys(Dialog),
    /// Through the agent's API, by its own name there.
    Api(String),
}

struct Open {
    name: String,
    request: Request,
    /// True once the program said that it is blocked.
    was_blocked: bool,
    /// Since when it says that it is not, after it was.
    unblocked: Option<Instant>,
    given: Option<Given>,
}

struct Given {
    answered: Answered,
    until: Instant,
    /// Who waits to hear.
    waiting: Vec<(u64, u64)>,
}

/// What is to be done about a request.
enum Next {
    Confirm(bool),
    Close(&'static str),
}

impl Open {
    fn next(&mut self, program: Option<ProgramState>, is_connected: bool, now: Instant) -> Option<Next> {
        match program {
            Some(ProgramState::Blocked) => (self.was_blocked, self.unblocked) = (true, None),
            Some(_) if self.was_blocked => self.unblocked = self.unblocked.or(Some(now)),
            Some(_) | None => {}
        }
        match &self.given {
            Some(_) if self.unblocked.is_some() => Some(Next::Confirm(true)),
            Some(given) if now >= given.until => Some(Next::Confirm(false)),
            Some(_) => None,
            None if !is_connected => Some(Next::Close("it asks no longer")),
            None if self.unblocked.is_some_and(|since| now >= since + UNBLOCKED_FOR) => {
                Some(Next::Close("answered at the terminal"))
            }
            None => None,
        }
    }
}

impl Asks {
    /// When to look again, if nothing happens before.
    pub fn look_at(&self) -> Option<Instant> {
        let at = |open: &Open| match &open.given {
            Some(given) => Some(given.until),
            None => open.unblocked.map(|since| since + UNBLOCKED_FOR),
        };
        let postponed = self.postponed.iter().map(|postponed| postponed.until);
        self.open.iter().filter_map(at).chain(postponed).min()
    }
}

impl Session {
    /// Takes a request: it waits from now on.
    pub fn ask(&mut self, name: String, request: Request, report: Report) {
        if self.asks.open.len() >= MAX_OPEN {
            let line = serde_json::json!({"closed": format!("{MAX_OPEN} requests are open already")});
            return self.tell_asker(&request.way, &line);
        }
        self.report(&request.source, Report::Answers);
        self.report(&request.source, report);
        self.asks.open.push(Open { name, request, was_blocked: false, unblocked: None, given: None });
    }

    /// What leave was asked for was carried out.
    pub fn called(&mut self, call: &str) {
        if let Some(at) = self.asks.open.iter().position(|open| open.request.call.as_deref() == Some(call)) {
            self.settle(at, true, "answered at the terminal");
        }
    }

    /// The agent goes on: whatever was answered has arrived.
    pub fn goes_on(&mut self) {
        while let Some(at) = self.asks.open.iter().position(|open| open.given.is_some()) {
            self.settle(at, true, "");
        }
    }

    fn tell_asker(&mut self, way: &Way, line: &serde_json::Value) {
        if let Way::Connection(connection) = way {
            self.parts.reporters.tell(*connection, line);
        }
    }

    /// The dialog on the screen, where its program says that it needs a person.
    fn dialog(&self) -> Option<Dialog> {
        let emulator = self.emulator.as_ref().filter(|emulator| !emulator.is_drawing())?;
        if self.program != Some(ProgramState::Blocked) || self.parts.spec.agent_type.as_deref() != Some("codex") {
            return None;
        }
        let screen = emulator.screen();
        Dialog::on(&screen.rows(0, u16::MAX).collect::<Vec<_>>())
    }

    /// Takes the dialog on the screen for a request, once.
    fn look_at_dialog(&mut self, now: Instant) {
        let is_open = |open: &Open| matches!(open.request.way, Way::Keys(_));
        if self.asks.open.iter().any(is_open) {
            return;
        }
        let Some(dialog) = self.dialog() else { return };
        // The call for which leave is asked comes first.
        self.read_sources(now);
        let Some(name) = new_id().map(|id| format!("q{id}")) else { return };
        let Dialog { text, options } = dialog.clone().with_call(self.last_call.as_deref());
        let report =
            Report::Ask { request: Some(name.clone()), text, call: None, options: options.clone(), takes_text: false };
        let (way, source) = (Way::Keys(dialog), SCREEN.into());
        self.ask(name, Request { way, source, call: None, options, takes_text: false }, report);
    }

    /// Looks what became of requests.
    pub fn look_at_asks(&mut self, now: Instant) {
        self.look_at_dialog(now);
        let is_drawing = self.emulator.as_ref().is_some_and(|emulator| emulator.is_drawing());
        let mut at = 0;
        while let Some(shown) = self.asks.open.get(at).map(|open| match &open.request.way {
            Way::Connection(connection) => (self.program, self.parts.reporters.has(*connection)),
            Way::Keys(dialog) if is_drawing || self.dialog().as_ref() == Some(dialog) => {
                (Some(ProgramState::Blocked), true)
            }
            Way::Keys(_) => (Some(ProgramState::Working), true),
            Way::Api(_) => (None, true),
        }) && let Some(open) = self.asks.open.get_mut(at)
        {
            let (program, is_connected) = shown;
            match open.next(program, is_connected, now) {
                Some(Next::Confirm(confirmed)) => self.settle(at, confirmed, ""),
                Some(Next::Close(reason)) => self.settle(at, false, reason),
                None => at += 1,
            }
        }
        if !is_drawing || self.asks.postponed.iter().any(|postponed| now >= postponed.until) {
            for Postponed { who, request, words, by, .. } in std::mem::take(&mut self.asks.postponed) {
                if let Some(result) = self.hand_over(who, &request, words, by) {
                    self.parts.clients.reply(who.0, who.1, result);
                }
            }
        }
    }

    /// The session is over: nobody goes on.
    pub fn abandon_asks(&mut self) {
        while !self.asks.open.is_empty() {
            self.settle(0, false, "the session ended");
        }
        for Postponed { who, .. } in std::mem::take(&mut self.asks.postponed) {
            let fault = Fault::wrong_state(Status::Running, "the request is not open any more");
            self.parts.clients.reply(who.0, who.1, Err(fault));
        }
    }

    /// A request is open no more: answered through the mesh, or for another reason.
    fn settle(&mut self, at: usize, confirmed: bool, reason: &str) {
        let Open { name, request, given, .. } = self.asks.open.remove(at);
        let Some(Given { mut answered, waiting, .. }) = given else {
            self.tell_asker(&request.way, &serde_json::json!({"closed": reason}));
            return self.report(&request.source, Report::Closed { request: name, reason: reason.into() });
        };
        answered.confirmed = confirmed;
        self.note(&Note::Answered(answered));
        let result = if confirmed {
            Ok(())
        } else {
            Err("unconfirmed: the answer was handed over, and the agent was not seen to go on")
        };
        self.asks.answered.push_back((name, result));
        if self.asks.answered.len() > MAX_ANSWERED {
            self.asks.answered.pop_front();
        }
        for (client, id) in waiting {
            self.parts.clients.reply(client, id, told(result));
        }
    }

    /// Hands an operator's answer over. `None` if what became of it is told later.
    pub fn answer_ask(
        &mut self,
        who: (u64, u64),
        request: &MessageId,
        words: (Option<String>, Option<String>),
        by: Operator,
    ) -> Option<Result<Answer, Fault>> {
        let is_drawing = self.emulator.as_ref().is_some_and(|emulator| emulator.is_drawing());
        let in_dialog = self.asks.open.iter().any(|open| matches!(open.request.way, Way::Keys(_)));
        if is_drawing && in_dialog && self.asks.postponed.len() < MAX_OPEN {
            let until = Instant::now() + DRAWN_WITHIN;
            self.asks.postponed.push(Postponed { who, request: request.clone(), words, by, until });
            return None;
        }
        self.hand_over(who, request, words, by)
    }

    /// As [`Session::answer_ask`], with what is on the screen now.
    fn hand_over(
        &mut self,
        (client, id): (u64, u64),
        request: &MessageId,
        (option_id, text): (Option<String>, Option<String>),
        by: Operator,
    ) -> Option<Result<Answer, Fault>> {
        let prefix = format!("{}-", self.parts.spec.session_id);
        let name = request.as_str().strip_prefix(&prefix).unwrap_or_default().to_owned();
        if let Some((_, result)) = self.asks.answered.iter().find(|(answered, _)| *answered == name) {
            return Some(told(*result));
        }
        if let Some(fault) = self.ended_fault() {
            return Some(Err(fault));
        }
        let frozen = self.parts.state.frozen_by.is_some();
        let dialog = self.dialog();
        let Some(open) = self.asks.open.iter_mut().find(|open| open.name == name) else {
            let reason = "the request is not open any more";
            return Some(Err(Fault::wrong_state(Status::Running, reason)));
        };
        if let Some(given) = &mut open.given {
            given.waiting.push((client, id));
            return None;
        }
        if frozen {
            return Some(Err(Fault::wrong_state(Status::Paused, "resume it first: what stands still takes no answer")));
        }
        let option = match choose(&open.request, option_id.as_deref(), text.as_deref()) {
            Ok(option) => option.clone(),
            Err(reason) => return Some(Err(Fault::new(FaultKind::Invalid, reason))),
        };
        let answer = serde_json::json!({"answer": {"optionId": option.option_id, "text": text}});
        if let Way::Keys(shown) = &open.request.way {
            let has_room = self.parts.channel.has_room(key(&option.option_id).len());
            if dialog.as_ref() != Some(shown) || !has_room {
                let reason = "its dialog is not on the screen now; see what it shows";
                return Some(Err(Fault::wrong_state(Status::Running, reason)));
            }
        }
        let by_api = match &open.request.way {
            Way::Api(permission) => Some(permission.clone()),
            Way::Connection(_) | Way::Keys(_) => None,
        };
        let press = matches!(open.request.way, Way::Keys(_)).then(|| key(&option.option_id).to_vec());
        let (chosen, words) = (option.option_id.clone(), text.clone());
        let AnswerOption { option_id: option, label, kind: _ } = option;
        let source = open.request.source.clone();
        let answered = Answered { request: name, option, label, text, by: by.clone(), confirmed: false, source };
        let until = Instant::now() + CONFIRM_WITHIN;
        open.given = Some(Given { answered, until, waiting: vec![(client, id)] });
        match (press, &open.request.way) {
            (Some(press), _) => self.type_in(Typist::Operator(by), &press),
            (None, Way::Connection(connection)) => self.parts.reporters.tell(*connection, &answer),
            (None, Way::Keys(_) | Way::Api(_)) => {}
        }
        if let Some(permission) = by_api {
            // Where it cannot be handed over, it is told as unconfirmed.
            self.answer_api(&permission, &chosen, words.as_deref());
        }
        None
    }
}

fn told(result: Result<(), &'static str>) -> Result<Answer, Fault> {
    result.map(|()| Answer::Done).map_err(|reason| Fault::new(FaultKind::Failed, reason))
}

/// The option that an answer chooses: the one it names, or with words alone the one that says no.
fn choose<'a>(request: &'a Request, option_id: Option<&str>, text: Option<&str>) -> Result<&'a AnswerOption, String> {
    if text.is_some() && !request.takes_text {
        return Err("this request is not answered in words".into());
    }
    if text.is_some_and(|text| text.len() > MAX_TEXT_BYTES) {
        return Err(format!("an answer has at most {MAX_TEXT_BYTES} bytes of text"));
    }
    let found = match option_id {
        Some(id) => request.options.iter().find(|option| option.option_id == id),
        None if text.is_some() => request.options.iter().find(|option| option.kind == OptionKind::RejectOnce),
        None => None,
    };
    found.ok_or_else(|| {
        let offered = request.options.iter().map(|option| option.option_id.as_str()).collect::<Vec<_>>();
        format!("{:?} is not offered; one of {}", option_id.unwrap_or_default(), offered.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(id: &str, kind: OptionKind) -> AnswerOption {
        AnswerOption { option_id: id.into(), label: id.into(), kind }
    }

    fn request() -> Request {
        let options = vec![option("allow", OptionKind::AllowOnce), option("deny", OptionKind::RejectOnce)];
        Request { way: Way::Connection(1), source: "hook".into(), call: None, options, takes_text: true }
    }

    fn open() -> Open {
        Open { name: "q".into(), request: request(), was_blocked: false, unblocked: None, given: None }
    }

    fn word(next: Option<Next>) -> String {
        match next {
            Some(Next::Confirm(confirmed)) => format!("confirmed {confirmed}"),
            Some(Next::Close(reason)) => reason.into(),
            None => String::new(),
        }
    }

    #[test]
    fn an_answer_names_an_option_or_says_no_in_words() {
        let request = request();
        let chosen = |id, text| choose(&request, id, text).map(|option| option.option_id.as_str());
        assert_eq!(chosen(Some("allow"), None), Ok("allow"));
        assert_eq!(chosen(Some("deny"), Some("not now")), Ok("deny"));
        assert_eq!(chosen(None, Some("use b.txt")), Ok("deny"));
        assert!(chosen(Some("always"), None).unwrap_err().contains("one of allow, deny"));
        assert!(chosen(None, None).is_err());
        assert!(choose(&Request { takes_text: false, ..super::tests::request() }, None, Some("x")).is_err());
    }

    #[test]
    fn a_request_is_closed_where_the_terminal_answered_it_and_not_between_two_dialogs() {
        let (now, mut open) = (Instant::now(), open());
        let ms = Duration::from_millis;
        let mut at = |program, after| word(open.next(program, true, now + ms(after)));
        // Not drawn yet: what is said before it is blocked says nothing.
        assert_eq!(at(Some(ProgramState::Working), 0), "");
        assert_eq!(at(Some(ProgramState::Working), 5_000), "");
        assert_eq!(at(Some(ProgramState::Blocked), 5_100), "");
        assert_eq!(at(Some(ProgramState::Working), 5_200), "");
        assert_eq!(at(Some(ProgramState::Blocked), 5_300), "");
        assert_eq!(at(Some(ProgramState::Working), 6_500), "");
        assert_eq!(at(Some(ProgramState::Working), 7_200), "answered at the terminal");
    }

    #[test]
    fn who_is_gone_asks_no_longer() {
        assert_eq!(word(open().next(Some(ProgramState::Blocked), false, Instant::now())), "it asks no longer");
    }

    #[test]
    fn an_answer_is_confirmed_by_what_the_agent_does() {
        let (now, mut open) = (Instant::now(), open());
        let by = Operator { id: bus_schema::UserId::new("u").unwrap(), name: "Ada".into() };
        let (request, option, label) = ("q".into(), "allow".into(), "Yes".into());
        let source = "hook".into();
        let answered = Answered { request, option, label, text: None, by, confirmed: false, source };
        open.next(Some(ProgramState::Blocked), true, now);
        open.given = Some(Given { answered, until: now + CONFIRM_WITHIN, waiting: vec![] });
        assert_eq!(word(open.next(Some(ProgramState::Blocked), false, now)), "");
        assert_eq!(word(open.next(Some(ProgramState::Blocked), false, now + CONFIRM_WITHIN)), "confirmed false");
        assert_eq!(word(open.next(Some(ProgramState::Working), false, now)), "confirmed true");
    }
}
