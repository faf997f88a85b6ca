//! Hands operator messages to the agent, one after the other. Pure: the loop tells it what it sees and does what it says.
//!
//! ```text
//! waiting ─ready─► (interrupting ─►) writing ─all taken─► pausing ─► Enter ─► checking ─► told for the last time
//! ```
//!
//! A text goes in as a bracketed paste, and Enter as a write of its own after a pause: programs take a burst that ends
//! in Enter for a paste with a newline in it (seen with Codex and Gemini). A paste begins with ESC, so it is never made
//! into a selection list, which it would cancel: a program that says it is blocked gets nothing.
//!
//! Laws:
//! 1. The same message id is typed once, ever.
//! 2. Every message is told: at once if it can be, at the latest after [`TELL_WITHIN`]; and once for the last time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bus_schema::{Delivery, InjectMode, MessageId};

use super::outcomes::Outcomes;
use super::terminal::InputModes;
use crate::profile::Protocol;
use crate::provider::InjectOutcome;
use crate::pty::emulator::{Emulator, ProgramState};
use crate::pty::protocol::{Fault, FaultKind};
use crate::pty::record::Injecting;

/// Messages that wait behind the one being handed over. People wait for each.
const MAX_WAITING: usize = 32;
/// Bytes of text that wait.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// How long a program may take until it is ready for input. The slowest seen took 27 s to its first frame.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long whoever asked is left without an answer.
const TELL_WITHIN: Duration = Duration::from_secs(8);
/// How long the agent may leave typed text unread before that is told.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Between a paste and Enter; 150 to 300 ms worked with all programs tried.
const AFTER_PASTE: Duration = Duration::from_millis(200);
/// Between typed text and Enter: longer than the 120 ms within which Codex takes keys for a burst.
const AFTER_TYPING: Duration = Duration::from_millis(150);
/// How long the program may take to show the text on its input line, before Enter is pressed all the same: what has
/// not been shown may not have been read, and Enter in one read with a paste is no Enter.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);
/// How long the program may take to show that it took the text.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);
/// How long of that a program that tells where it stands is waited for.
const TELLING: Duration = Duration::from_secs(1);
/// How long an interrupted program may take to stop working.
const INTERRUPT_WITHIN: Duration = Duration::from_secs(3);
/// A program without bracketed paste is taken for ready when it was silent for so long.
const SILENCE: Duration = Duration::from_millis(300);
/// A program that is never silent is taken for ready when it has taken pastes for so long.
const BRACKETED_AGE: Duration = Duration::from_secs(2);
/// A program that collects lines, and does not wait for one in a way that can be seen, is taken for ready at this age.
const SETTLED_AGE: Duration = Duration::from_secs(10);
/// A line that the system collects holds 4095 bytes; what is longer is cut without a word.
const MAX_COLLECTED_LINE: usize = 4000;
/// How often is looked, where nothing else wakes the loop.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What the loop sees.
pub(crate) struct View<'a> {
    pub now: Instant,
    pub protocol: Protocol,
    pub agent_type: Option<&'a str>,
    /// True while the session stands still.
    pub frozen: bool,
    /// How the terminal takes input.
    pub modes: InputModes,
    /// What it shows; `None` for protocols without a screen.
    pub emulator: Option<&'a Emulator>,
    /// For how long it has taken bracketed pastes; `None` if it does not.
    pub bracketed: Option<Duration>,
    /// Where the program says it stands.
    pub program: Option<ProgramState>,
    /// For how long it has written nothing.
    pub quiet: Duration,
    /// For how long it has been running; `None` before that.
    pub age: Option<Duration>,
    /// Bytes typed that it has not read.
    pub unread: usize,
    /// Whether a program in front waits for input at the terminal, if that can be seen.
    pub reader_waits: &'a dyn Fn() -> Option<bool>,
}

/// What the loop is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Type this, on behalf of the message.
    Type(MessageId, Vec<u8>),
    /// The message has come so far.
    Tell { message_id: MessageId, outcome: InjectOutcome },
}

/// Messages to hand over, and what became of those before.
#[derive(Default)]
pub(crate) struct Injector {
    jobs: VecDeque<Job>,
    outcomes: Outcomes,
}

struct Job {
    message: Injecting,
    asked: Instant,
    /// True once something was told.
    told: bool,
    mode: InjectMode,
    stage: Stage,
}

enum Stage {
    Waiting,
    Interrupting { until: Instant },
    Writing { since: Instant },
    Pausing { until: Option<Instant> },
    Checking { until: Instant, again: bool, before: Before },
}

/// What was to be seen before Enter.
struct Before {
    /// The end of the text, if it stood on the input line.
    typed: Option<String>,
    screen: String,
    working: bool,
}

/// Why a text cannot be handed over.
enum Unfit {
    Lines,
    Long,
}

impl Injector {
    /// Takes a message. `Ok(None)` if it is new, the outcome so far if it is not.
    ///
    /// # Errors
    /// A fault if too many wait already.
    pub fn accept(&mut self, message: &Injecting, now: Instant) -> Result<Option<InjectOutcome>, Fault> {
        if let Some(known) = self.outcome(&message.message_id) {
            return Ok(Some(known));
        }
        let bytes = self.jobs.iter().map(|job| job.message.content.len()).sum::<usize>() + message.content.len();
        if self.jobs.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            let reason = format!("the agent does not read its input: {} messages wait for it", self.jobs.len());
            return Err(Fault::new(FaultKind::NotReading, reason));
        }
        let (message, mode) = (message.clone(), InjectMode::Queue);
        self.jobs.push_back(Job { message, asked: now, told: false, mode, stage: Stage::Waiting });
        Ok(None)
    }

    /// How far a message has come; `None` if it never came here.
    pub fn outcome(&self, message_id: &MessageId) -> Option<InjectOutcome> {
        let under_way = || {
            self.jobs.iter().find(|job| job.message.message_id == *message_id)?;
            Some(InjectOutcome {
                state: Delivery::NotKnown,
                mode: None,
                reason: Some("it is being handed over".into()),
            })
        };
        self.outcomes.get(message_id).cloned().or_else(under_way)
    }

    /// True while a message with this id has not been told for the last time.
    pub fn is_under_way(&self, message_id: &MessageId) -> bool {
        self.jobs.iter().any(|job| job.message.message_id == *message_id)
    }

    /// When to look again.
    pub fn look_again(&self) -> Option<Duration> {
        (!self.jobs.is_empty()).then_some(LOOK_AGAIN)
    }

    /// The session is over: what is not handed over never will be.
    pub fn abandon(&mut self) -> Vec<Step> {
        let jobs = std::mem::take(&mut self.jobs);
        let tell = |job: Job| {
            let (state, reason) = match job.stage {
                Stage::Waiting | Stage::Interrupting { .. } => {
                    (Delivery::Refused, "the session ended before it could be handed over")
                }
                Stage::Writing { .. } | Stage::Pausing { .. } | Stage::Checking { .. } => {
                    (Delivery::NotKnown, "unconfirmed: the session ended before it showed that it took the text")
                }
            };
            let outcome = InjectOutcome { state, mode: None, reason: Some(reason.into()) };
            (job.message.message_id, outcome)
        };
        let told: Vec<_> = jobs.into_iter().map(tell).collect();
        told.into_iter().map(|(message_id, outcome)| self.tell(message_id, outcome)).collect()
    }

    /// What to do now.
    pub fn advance(&mut self, view: &View<'_>) -> Vec<Step> {
        let mut steps = vec![];
        while let Some(mut job) = self.jobs.pop_front() {
            let before = steps.len();
            match job.advance(view, &mut steps) {
                Some(outcome) => {
                    let last = self.tell(job.message.message_id, outcome);
                    steps.push(last);
                    // Enough for one look: what was typed changes what there is to see.
                    if steps.iter().skip(before).any(|step| matches!(step, Step::Type(..))) {
                        break;
                    }
                }
                None => {
                    if let Some(outcome) = job.early(view) {
                        job.told = true;
                        steps.push(self.tell(job.message.message_id.clone(), outcome));
                    }
                    self.jobs.push_front(job);
                    break;
                }
            }
        }
        // Those behind it must not wait without an answer either.
        let late: Vec<MessageId> = self.jobs.iter_mut().skip(1).filter_map(|job| job.late(view.now)).collect();
        for message_id in late {
            let reason = Some("it waits behind other messages".into());
            steps.push(self.tell(message_id, InjectOutcome { state: Delivery::NotKnown, mode: None, reason }));
        }
        steps
    }

    fn tell(&mut self, message_id: MessageId, outcome: InjectOutcome) -> Step {
        self.outcomes.tell(&message_id, &outcome);
        Step::Tell { message_id, outcome }
    }
}

impl Job {
    fn late(&mut self, now: Instant) -> Option<MessageId> {
        let late = !self.told && now.saturating_duration_since(self.asked) >= TELL_WITHIN;
        self.told |= late;
        late.then(|| self.message.message_id.clone())
    }

    fn outcome(&self, state: Delivery, reason: Option<&str>) -> InjectOutcome {
        InjectOutcome { state, mode: Some(self.mode.clone()), reason: reason.map(Into::into) }
    }

    /// What can be told before the last word, once.
    fn early(&self, view: &View<'_>) -> Option<InjectOutcome> {
        if self.told {
            return None;
        }
        let late = view.now.saturating_duration_since(self.asked) >= TELL_WITHIN;
        match &self.stage {
            Stage::Waiting | Stage::Interrupting { .. } if view.frozen => {
                let reason = "the session is paused and not ready for input; the text is kept, and follows when it is";
                Some(self.outcome(Delivery::NotKnown, Some(reason)))
            }
            Stage::Waiting | Stage::Interrupting { .. } if late => {
                Some(self.outcome(Delivery::NotKnown, Some("waiting until the program is ready for input")))
            }
            Stage::Writing { .. } | Stage::Pausing { .. } | Stage::Checking { .. } if view.frozen => {
                let reason = "the session is paused; the text is kept, and read when it goes on";
                Some(self.outcome(Delivery::Written, Some(reason)))
            }
            Stage::Writing { since } if view.now.saturating_duration_since(*since) >= READ_WITHIN => {
                let reason = format!("the agent does not read its input: {} bytes wait for it", view.unread);
                Some(self.outcome(Delivery::NotKnown, Some(&reason)))
            }
            Stage::Pausing { .. } | Stage::Checking { .. } if late => {
                Some(self.outcome(Delivery::NotKnown, Some("typed, and not confirmed yet")))
            }
            Stage::Waiting
            | Stage::Interrupting { .. }
            | Stage::Writing { .. }
            | Stage::Pausing { .. }
            | Stage::Checking { .. } => None,
        }
    }

    /// One look; the outcome once there is nothing more to do.
    fn advance(&mut self, view: &View<'_>, steps: &mut Vec<Step>) -> Option<InjectOutcome> {
        match &mut self.stage {
            Stage::Waiting => self.wait(view, steps),
            Stage::Interrupting { until } => {
                let stopped = view.program != Some(ProgramState::Working);
                if !stopped && (view.now < *until || view.frozen) {
                    return None;
                }
                self.mode = if stopped { InjectMode::Interrupt } else { mode_of(view, &self.message.mode) };
                self.write(view, steps)
            }
            Stage::Writing { .. } if view.unread > 0 => None,
            Stage::Writing { .. } => {
                if view.protocol != Protocol::Terminal {
                    let paused = view.frozen.then_some("the session is paused; its terminal keeps the text");
                    return Some(self.outcome(Delivery::Written, paused));
                }
                self.stage = Stage::Pausing { until: None };
                None
            }
            // Time counts only while the program could have read.
            Stage::Pausing { until } if view.frozen => {
                *until = None;
                None
            }
            Stage::Pausing { until } => {
                let pause = if view.bracketed.is_some() { AFTER_PASTE } else { AFTER_TYPING };
                let until = *until.get_or_insert(view.now + pause);
                if view.now < until {
                    return None;
                }
                let before = Before::of(view, &self.message.content);
                if before.typed.is_none() && view.now < until + SHOWN_WITHIN {
                    return None;
                }
                self.enter(view, steps, false, before);
                None
            }
            Stage::Checking { until, .. } if view.frozen => {
                *until = view.now + CONFIRM_WITHIN;
                None
            }
            Stage::Checking { .. } => self.check(view, steps),
        }
    }

    fn wait(&mut self, view: &View<'_>, steps: &mut Vec<Step>) -> Option<InjectOutcome> {
        if view.protocol != Protocol::Terminal {
            return self.write(view, steps);
        }
        if view.program == Some(ProgramState::Blocked) {
            let reason = "the program waits for a choice; answer that at the terminal first";
            return Some(self.outcome(Delivery::Refused, Some(reason)));
        }
        let waited = view.now.saturating_duration_since(self.asked);
        if !is_ready(view) {
            if waited < READY_WITHIN || view.frozen {
                return None;
            }
            if expects_screen(view) {
                let reason = "the program was not ready for input within a minute";
                return Some(self.outcome(Delivery::Refused, Some(reason)));
            }
        }
        if self.message.mode == InjectMode::Interrupt && view.program == Some(ProgramState::Working) && !view.frozen {
            steps.push(Step::Type(self.message.message_id.clone(), vec![0x1b]));
            self.stage = Stage::Interrupting { until: view.now + INTERRUPT_WITHIN };
            return None;
        }
        self.mode = mode_of(view, &self.message.mode);
        self.write(view, steps)
    }

    fn write(&mut self, view: &View<'_>, steps: &mut Vec<Step>) -> Option<InjectOutcome> {
        let bytes = match self.bytes(view) {
            Ok(bytes) => bytes,
            Err(Unfit::Lines) => {
                let reason = "the program takes one line at a time (no bracketed paste); send each line by itself";
                return Some(self.outcome(Delivery::Refused, Some(reason)));
            }
            Err(Unfit::Long) => {
                let reason = format!("the terminal takes lines of at most {MAX_COLLECTED_LINE} bytes now");
                return Some(self.outcome(Delivery::Refused, Some(&reason)));
            }
        };
        steps.push(Step::Type(self.message.message_id.clone(), bytes));
        self.stage = Stage::Writing { since: view.now };
        None
    }

    /// The text as it is typed, without Enter for terminals.
    fn bytes(&self, view: &View<'_>) -> Result<Vec<u8>, Unfit> {
        let text = sanitised(&self.message.content);
        match view.protocol {
            Protocol::Lines => return Ok(format!("{text}\n").into_bytes()),
            Protocol::Jsonl | Protocol::Acp => return Ok(json_line(&self.message)),
            Protocol::Terminal => {}
        }
        if view.bracketed.is_some() {
            return Ok([b"\x1b[200~", text.as_bytes(), b"\x1b[201~"].concat());
        }
        let line = text.trim_end_matches('\n');
        if line.contains('\n') {
            return Err(Unfit::Lines);
        }
        if view.modes.canonical && line.len() > MAX_COLLECTED_LINE {
            return Err(Unfit::Long);
        }
        // A tab would complete something.
        Ok(line.replace('\t', " ").into_bytes())
    }

    fn enter(&mut self, view: &View<'_>, steps: &mut Vec<Step>, again: bool, before: Before) {
        steps.push(Step::Type(self.message.message_id.clone(), b"\r".to_vec()));
        self.stage = Stage::Checking { until: view.now + CONFIRM_WITHIN, again, before };
    }

    fn check(&mut self, view: &View<'_>, steps: &mut Vec<Step>) -> Option<InjectOutcome> {
        let Stage::Checking { until, again, before } = &self.stage else { return None };
        if view.program == Some(ProgramState::Working) && !before.working {
            return Some(self.outcome(Delivery::Taken, None));
        }
        let emulator = view.emulator?;
        let stands = before.typed.as_ref().map(|typed| emulator.cursor_line().contains(typed));
        match stands {
            // A program that tells where it stands has a moment to do so, which is the better proof.
            Some(false)
                if view.program.is_some() && !before.working && view.now < *until - CONFIRM_WITHIN + TELLING => {}
            Some(false) => return Some(self.outcome(Delivery::Written, None)),
            None if view.program.is_some() && !before.working && view.now < *until - CONFIRM_WITHIN + TELLING => {}
            None if emulator.screen().contents() != before.screen => {
                let reason = "the text was not seen on the input line; the screen changed after Enter";
                return Some(self.outcome(Delivery::Written, Some(reason)));
            }
            Some(true) | None => {}
        }
        if view.now < *until {
            return None;
        }
        if stands == Some(true) && !again {
            let before = Before::of(view, &self.message.content);
            self.enter(view, steps, true, before);
            return None;
        }
        let reason = match stands {
            Some(_) => "unconfirmed: the text still stands on the input line",
            None => "unconfirmed: nothing changed on the screen after Enter",
        };
        Some(self.outcome(Delivery::NotKnown, Some(reason)))
    }
}

impl Before {
    fn of(view: &View<'_>, content: &str) -> Self {
        let line = view.emulator.map(Emulator::cursor_line).unwrap_or_default();
        let typed = last_words(content).filter(|words| line.contains(words));
        let screen = view.emulator.map(|emulator| emulator.screen().contents()).unwrap_or_default();
        Self { typed, screen, working: view.program == Some(ProgramState::Working) }
    }
}

/// The end of the text, short enough to stand on one row of an input box.
fn last_words(content: &str) -> Option<String> {
    // A tab is shown as who knows how many spaces.
    let line = sanitised(content).trim_end().rsplit(['\n', '\t']).next().map(str::trim).map(ToOwned::to_owned)?;
    let from = line.char_indices().rev().nth(9).map_or(0, |(at, _)| at);
    line.get(from..).map(str::trim).filter(|words| !words.is_empty()).map(Into::into)
}

/// Programs that are known to draw a screen and to switch bracketed paste on when they are ready.
fn expects_screen(view: &View<'_>) -> bool {
    matches!(view.agent_type, Some("codex" | "claude" | "opencode" | "gemini"))
}

fn is_ready(view: &View<'_>) -> bool {
    if let Some(bracketed) = view.bracketed {
        // Switched on, it may still be reading answers of the terminal.
        return !view.modes.canonical && (view.quiet >= SILENCE || bracketed >= BRACKETED_AGE || view.frozen);
    }
    let Some(age) = view.age.filter(|_| !expects_screen(view)) else { return false };
    if !view.modes.canonical {
        return view.quiet >= SILENCE;
    }
    match (view.reader_waits)() {
        Some(true) => true,
        // It may wait for more than the terminal, which cannot be told from not waiting.
        Some(false) | None => age >= SETTLED_AGE && view.quiet >= SILENCE,
    }
}

/// How the message will arrive, as far as that is known.
fn mode_of(view: &View<'_>, asked: &InjectMode) -> InjectMode {
    match view.program {
        // Seen: Enter in the middle of a turn steers Codex and Claude Code; others queue it.
        Some(ProgramState::Working) if matches!(view.agent_type, Some("codex" | "claude")) => InjectMode::Steer,
        Some(ProgramState::Idle | ProgramState::Done) if *asked == InjectMode::Steer => InjectMode::Steer,
        Some(_) | None => InjectMode::Queue,
    }
}

/// The text without anything that a terminal or a program would take for more than text.
pub(crate) fn sanitised(content: &str) -> String {
    let content = content.replace("\r\n", "\n").replace('\r', "\n");
    content.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n')).collect()
}

/// The message for a program that speaks JSON lines.
pub(crate) fn json_line(message: &Injecting) -> Vec<u8> {
    let operator = serde_json::json!({"id": message.operator.id, "name": message.operator.name});
    let line = serde_json::json!({"role": "operator", "content": message.content, "operator": operator});
    format!("{line}\n").into_bytes()
}

#[cfg(test)]
mod tests;
