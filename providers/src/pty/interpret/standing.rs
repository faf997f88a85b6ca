//! Where a session stands, from everything that tells of it, the best source first.
//!
//! ```text
//! operator (frozen) > its own reports > its hooks > its terminal: OSC 7501 > prompt marks, progress, titles > it runs
//! ```
//! A better source, once it has spoken, is not contradicted by a weaker one. Hooks and OSC 7501 are both the program's
//! own words and hooks do not say all (a turn that is interrupted ends without one), so beside hooks OSC 7501 still
//! counts where it says something else than stands; not against requests that are open, nor against work that goes on
//! behind a turn that is over.

use bus_schema::{Asked, Attention, AttentionKind, MessageId, Operator, Status, StatusSource, Timestamp, Turn};
use serde::{Deserialize, Serialize};

use crate::provider::News;
use crate::pty::emulator::{ProgramReport, ProgramState, Signal};

/// How good a source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Grade {
    #[default]
    Process,
    /// Titles and progress.
    Hints,
    /// OSC 133.
    Marks,
    /// OSC 7501.
    Program,
    /// Hooks of the program.
    Hooks,
    /// The session's own reports.
    Reports,
}

/// Where the session stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Standing {
    started: bool,
    frozen: Option<String>,
    grade: Grade,
    status: Option<(Status, Option<String>)>,
    turn: Option<Turn>,
    attention: Option<Attention>,
    title: Option<String>,
    /// What was told last.
    told: Option<(Status, Option<String>, StatusSource)>,
    turn_over: bool,
    /// Beside hooks: where its terminal says it stands.
    #[serde(default)]
    terminal: Option<Turn>,
    /// Beside hooks: true if what stands is from its terminal.
    #[serde(default)]
    by_terminal: bool,
    /// Requests that can be answered, oldest first.
    #[serde(default)]
    requests: Vec<Request>,
}

/// A request that can be answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Request {
    asked: Asked,
    text: String,
    since: Timestamp,
}

impl Request {
    fn attention(&self) -> Attention {
        let request = Some(self.asked.clone());
        Attention { request, ..Attention::new(AttentionKind::Permission, self.text.clone(), self.since) }
    }
}

/// Longest text of an attention; the message that asks has all of it.
const MAX_ATTENTION_BYTES: usize = 4096;

impl Standing {
    /// Its program runs.
    pub fn started(&mut self) -> Vec<News> {
        self.started = true;
        self.status_news()
    }

    /// Its program runs, and is still opening a session: what was told before holds.
    pub fn opening(&mut self) {
        self.started = true;
        self.told = Some((Status::Running, None, StatusSource::Process));
    }

    /// Its protocol says where it stands.
    pub fn follows(&mut self, turn: Turn, reason: Option<String>, attention: Option<Attention>) -> Vec<News> {
        self.grade = Grade::Reports;
        self.stand(Some((status_of_turn(&turn), reason)), Some(turn), attention)
    }

    /// It stands still.
    pub fn frozen(&mut self, by: &Operator) -> Vec<News> {
        self.frozen = Some(format!("paused by {}", by.name));
        self.status_news()
    }

    /// It goes on.
    pub fn thawed(&mut self) -> Vec<News> {
        self.frozen = None;
        self.status_news()
    }

    /// It says itself where it stands.
    pub fn reported(&mut self, turn: Option<Turn>, status: Option<Status>, reason: Option<String>) -> Vec<News> {
        self.grade = Grade::Reports;
        let derived = turn.as_ref().map(status_of_turn);
        let status = status.or(derived).unwrap_or(Status::Running);
        self.stand(Some((status, reason)), turn.or(self.turn.clone()), None)
    }

    /// Its hooks say where it stands.
    pub fn hooked(&mut self, turn: Option<Turn>, status: Option<Status>, reason: Option<String>) -> Vec<News> {
        self.grade = self.grade.max(Grade::Hooks);
        // While it asks for leave, it waits, whatever else goes on in it.
        if self.grade > Grade::Hooks || !self.requests.is_empty() {
            return vec![];
        }
        self.by_terminal = false;
        let derived = turn.as_ref().map(status_of_turn);
        let status = status.or(derived).unwrap_or(Status::Running);
        self.stand(Some((status, reason)), turn.or(self.turn.clone()), None)
    }

    /// It asks for leave, and can be answered.
    pub fn asked(&mut self, asked: Asked, text: &str, since: Timestamp) -> Vec<News> {
        self.grade = self.grade.max(Grade::Hooks);
        self.by_terminal = false;
        self.requests.push(Request { asked, text: cut(text).into(), since });
        self.blocked()
    }

    /// A request cannot be answered any more.
    pub fn closed(&mut self, request: &MessageId) -> Vec<News> {
        let before = self.requests.len();
        self.requests.retain(|open| open.asked.request_id != *request);
        if before == self.requests.len() {
            return vec![];
        }
        if !self.requests.is_empty() {
            return self.blocked();
        }
        match self.terminal.clone() {
            // The dialog is still there, for whoever is at the terminal.
            Some(Turn::Blocked) => {
                let attention = self.attention.clone().map(|attention| Attention { request: None, ..attention });
                self.attention_news(attention)
            }
            terminal => {
                let turn = terminal.unwrap_or(Turn::Active);
                self.by_terminal = self.terminal.is_some();
                self.turn_news(turn, None)
            }
        }
    }

    fn blocked(&mut self) -> Vec<News> {
        let attention = self.requests.first().map(Request::attention);
        self.turn_news(Turn::Blocked, attention)
    }

    /// Somebody is needed, or no longer.
    pub fn attention(&mut self, kind: Option<AttentionKind>, text: String, since: Timestamp) -> Vec<News> {
        let attention = kind.map(|kind| Attention::new(kind, text, since));
        self.attention_news(attention)
    }

    /// It has a title.
    pub fn titled(&mut self, title: &str) -> Vec<News> {
        let title = title.trim();
        if title.is_empty() || self.title.as_deref() == Some(title) {
            return vec![];
        }
        self.title = Some(title.into());
        vec![News::Title(title.into())]
    }

    /// True once after a turn ended.
    pub fn take_turn_over(&mut self) -> bool {
        std::mem::take(&mut self.turn_over)
    }

    /// Its terminal says something.
    pub fn signal(&mut self, signal: &Signal, at: Timestamp) -> Vec<News> {
        match signal {
            Signal::Program(report) if report.child.is_none() => self.program(report, at),
            Signal::Prompt => self.hint(Grade::Marks, Some(Turn::Idle)),
            Signal::CommandRuns => self.hint(Grade::Marks, Some(Turn::Active)),
            Signal::Progress(0) => self.hint(Grade::Hints, Some(Turn::Idle)),
            Signal::Progress(1 | 3) => self.hint(Grade::Hints, Some(Turn::Active)),
            Signal::Progress(2) => self.hint(Grade::Hints, Some(Turn::Error)),
            Signal::Title(title) => {
                let (mark, title) = split_mark(title);
                let mut news = self.titled(title);
                // A spinner that is gone has stopped.
                let stopped = || (self.grade == Grade::Hints && self.turn == Some(Turn::Active)).then_some(Turn::Idle);
                if let Some(turn) = mark.or_else(stopped) {
                    news.extend(self.hint(Grade::Hints, Some(turn)));
                }
                news
            }
            Signal::Program(_) | Signal::Progress(_) | Signal::Reply(_) | Signal::Scrolled { .. } => vec![],
        }
    }

    fn program(&mut self, report: &ProgramReport, at: Timestamp) -> Vec<News> {
        let turn = match report.state {
            ProgramState::Idle | ProgramState::Done => Some(Turn::Idle),
            ProgramState::Working => Some(Turn::Active),
            ProgramState::Error => Some(Turn::Error),
            ProgramState::Blocked => Some(Turn::Blocked),
            ProgramState::Clear => None,
        };
        let is_news = self.terminal != turn;
        self.terminal.clone_from(&turn);
        if self.grade > Grade::Hooks {
            return vec![];
        }
        if self.grade == Grade::Hooks {
            if !is_news || turn.is_none() || turn == self.turn || !self.requests.is_empty() {
                return vec![];
            }
            self.by_terminal = true;
        } else {
            self.grade = Grade::Program;
        }
        let text = report.text.clone().unwrap_or_default();
        let attention = |kind| Some(Attention::new(kind, text.clone(), at));
        match report.state {
            ProgramState::Idle => self.turn_news(Turn::Idle, None),
            ProgramState::Done => self.turn_news(Turn::Idle, None),
            ProgramState::Working => self.turn_news(Turn::Active, None),
            ProgramState::Error => self.turn_news(Turn::Error, attention(AttentionKind::Error)),
            ProgramState::Blocked => {
                let kind = match report.kind.as_deref() {
                    Some("permission" | "auth") => AttentionKind::Permission,
                    Some(_) | None => AttentionKind::Question,
                };
                self.turn_news(Turn::Blocked, attention(kind))
            }
            ProgramState::Clear => {
                self.grade = Grade::Process;
                // Never beside hooks: what stands there is theirs.
                self.stand(None, None, None)
            }
        }
    }

    fn hint(&mut self, grade: Grade, turn: Option<Turn>) -> Vec<News> {
        if self.grade > grade {
            return vec![];
        }
        self.grade = grade;
        turn.map_or(vec![], |turn| self.turn_news(turn, None))
    }

    fn turn_news(&mut self, turn: Turn, attention: Option<Attention>) -> Vec<News> {
        let status = status_of_turn(&turn);
        let reason = match &turn {
            Turn::Blocked => attention.as_ref().map(|attention| format!("waits for a {}", attention.kind)),
            Turn::Idle | Turn::Active | Turn::Error | Turn::Unknown(_) => None,
        };
        self.stand(Some((status, reason)), Some(turn), attention)
    }

    fn stand(
        &mut self,
        status: Option<(Status, Option<String>)>,
        turn: Option<Turn>,
        attention: Option<Attention>,
    ) -> Vec<News> {
        self.status = status;
        let mut news = self.status_news();
        if self.turn != turn {
            self.turn_over |= self.turn == Some(Turn::Active);
            self.turn.clone_from(&turn);
            news.push(News::Turn(turn));
        }
        news.extend(self.attention_news(attention));
        news
    }

    fn attention_news(&mut self, attention: Option<Attention>) -> Vec<News> {
        let same = match (&self.attention, &attention) {
            (None, None) => true,
            (Some(old), Some(new)) => (&old.kind, &old.text, &old.request) == (&new.kind, &new.text, &new.request),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            return vec![];
        }
        self.attention.clone_from(&attention);
        vec![News::Attention(attention)]
    }

    fn status_news(&mut self) -> Vec<News> {
        if !self.started {
            return vec![];
        }
        let (status, reason, source) = match (&self.frozen, &self.status) {
            (Some(reason), _) => (Status::Paused, Some(reason.clone()), StatusSource::Operator),
            (None, Some((status, reason))) => {
                let is_own = self.grade == Grade::Reports || (self.grade == Grade::Hooks && !self.by_terminal);
                let source = if is_own { StatusSource::Runtime } else { StatusSource::Terminal };
                (status.clone(), reason.clone(), source)
            }
            (None, None) => (Status::Running, None, StatusSource::Process),
        };
        let told = Some((status.clone(), reason.clone(), source.clone()));
        if self.told == told {
            return vec![];
        }
        self.told = told;
        vec![News::Status { status, reason, source }]
    }
}

/// The beginning of a text, as far as an attention holds it.
fn cut(text: &str) -> &str {
    let end = (0..=MAX_ATTENTION_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

fn status_of_turn(turn: &Turn) -> Status {
    match turn {
        Turn::Active => Status::Running,
        // A failed turn is not a failed session: it waits for the next one.
        Turn::Idle | Turn::Blocked | Turn::Error => Status::Waiting,
        Turn::Unknown(_) => Status::Running,
    }
}

/// Programs put a sign before their title: a spinner while they work, another sign when they wait (seen: Codex `⠋`,
/// Claude Code `✳ ◐`, Gemini `◇ ✦ ✋`).
fn split_mark(title: &str) -> (Option<Turn>, &str) {
    let mut characters = title.chars();
    let turn = match characters.next() {
        Some('\u{2800}'..='\u{28ff}' | '◐' | '◓' | '◑' | '◒' | '✦') => Turn::Active,
        Some('✳' | '◇') => Turn::Idle,
        Some('✋') => Turn::Blocked,
        Some(_) | None => return (None, title),
    };
    (Some(turn), characters.as_str().trim_start_matches(['\u{fe0e}', '\u{fe0f}']).trim_start())
}

#[cfg(test)]
mod tests {
    use bus_schema::UserId;

    use super::*;

    const AT: i64 = 1_000;

    fn at() -> Timestamp {
        Timestamp::from_millis(AT)
    }

    fn program(state: ProgramState) -> Signal {
        Signal::Program(ProgramReport { state, kind: Some("permission".into()), text: Some("rm".into()), child: None })
    }

    fn statuses(news: &[News]) -> Vec<String> {
        let text = |news: &News| match news {
            News::Status { status, source, .. } => Some(format!("{status} by {source}")),
            News::Turn(turn) => Some(format!("turn {}", turn.as_ref().map_or("none", Turn::as_str))),
            News::Attention(attention) => {
                Some(format!("needs {}", attention.as_ref().map_or("nobody", |a| a.kind.as_str())))
            }
            News::Title(title) => Some(format!("title {title}")),
            _ => None,
        };
        news.iter().filter_map(text).collect()
    }

    #[test]
    fn a_turn_as_codex_tells_it() {
        let mut standing = Standing::default();
        let mut told = standing.started();
        for state in [
            ProgramState::Idle,
            ProgramState::Working,
            ProgramState::Working,
            ProgramState::Blocked,
            ProgramState::Working,
            ProgramState::Done,
        ] {
            told.extend(standing.signal(&program(state), at()));
        }
        assert_eq!(
            statuses(&told),
            [
                "running by process",
                "waiting by terminal",
                "turn idle",
                "running by terminal",
                "turn active",
                "waiting by terminal",
                "turn blocked",
                "needs permission",
                "running by terminal",
                "turn active",
                "needs nobody",
                "waiting by terminal",
                "turn idle",
            ]
        );
    }

    #[test]
    fn paused_hides_what_is_below_and_shows_it_again() {
        let mut standing = Standing::default();
        standing.started();
        standing.signal(&program(ProgramState::Idle), at());
        let by = Operator { id: UserId::new("u").unwrap(), name: "Ada".into() };
        assert_eq!(statuses(&standing.frozen(&by)), ["paused by operator"]);
        assert_eq!(statuses(&standing.signal(&program(ProgramState::Working), at())), ["turn active"]);
        assert_eq!(statuses(&standing.thawed()), ["running by terminal"]);
    }

    #[test]
    fn the_better_source_is_not_contradicted() {
        let mut standing = Standing::default();
        standing.started();
        let title = |text: &str| Signal::Title(text.into());
        let told = standing.signal(&title("⠋ fix"), at());
        assert_eq!(statuses(&told), ["title fix", "running by terminal", "turn active"]);
        assert_eq!(statuses(&standing.signal(&title("fix"), at())), ["waiting by terminal", "turn idle"]);
        standing.signal(&program(ProgramState::Idle), at());
        assert_eq!(statuses(&standing.signal(&title("⠙ fix"), at())), Vec::<String>::new());
        let told = standing.reported(Some(Turn::Active), None, None);
        assert_eq!(statuses(&told), ["running by runtime", "turn active"]);
        assert_eq!(statuses(&standing.signal(&program(ProgramState::Idle), at())), Vec::<String>::new());
    }

    fn asked(name: &str) -> (Asked, MessageId) {
        let request_id = MessageId::new(name).unwrap();
        (Asked { request_id: request_id.clone(), options: vec![], takes_text: false }, request_id)
    }

    fn hook(standing: &mut Standing, turn: Turn) -> Vec<String> {
        statuses(&standing.hooked(Some(turn), None, None))
    }

    fn osc(standing: &mut Standing, state: ProgramState) -> Vec<String> {
        statuses(&standing.signal(&program(state), at()))
    }

    #[test]
    fn a_turn_as_claude_tells_it_by_hooks_and_terminal() {
        let mut it = Standing::default();
        it.started();
        assert_eq!(osc(&mut it, ProgramState::Idle), ["waiting by terminal", "turn idle"]);
        assert_eq!(hook(&mut it, Turn::Active), ["running by runtime", "turn active"]);
        assert_eq!(osc(&mut it, ProgramState::Working), Vec::<String>::new());
        let (ask, request) = asked("q1");
        let told = statuses(&it.asked(ask, "Bash: touch a", at()));
        assert_eq!(told, ["waiting by runtime", "turn blocked", "needs permission"]);
        // Neither its terminal nor another tool that ends beside it takes the request away.
        assert_eq!(osc(&mut it, ProgramState::Blocked), Vec::<String>::new());
        assert_eq!(hook(&mut it, Turn::Active), Vec::<String>::new());
        assert_eq!(osc(&mut it, ProgramState::Working), Vec::<String>::new());
        assert_eq!(statuses(&it.closed(&request)), ["running by terminal", "turn active", "needs nobody"]);
        assert_eq!(hook(&mut it, Turn::Active), ["running by runtime"]);
        assert_eq!(hook(&mut it, Turn::Idle), ["waiting by runtime", "turn idle"]);
        assert_eq!(osc(&mut it, ProgramState::Done), Vec::<String>::new());
    }

    #[test]
    fn a_turn_that_was_interrupted_ends_though_no_hook_says_so() {
        let mut it = Standing::default();
        it.started();
        hook(&mut it, Turn::Active);
        osc(&mut it, ProgramState::Working);
        assert_eq!(osc(&mut it, ProgramState::Idle), ["waiting by terminal", "turn idle"]);
        // The same at a dialog.
        hook(&mut it, Turn::Active);
        osc(&mut it, ProgramState::Blocked);
        let (ask, request) = asked("q1");
        it.asked(ask, "Bash: touch a", at());
        assert_eq!(osc(&mut it, ProgramState::Idle), Vec::<String>::new());
        assert_eq!(statuses(&it.closed(&request)), ["waiting by terminal", "turn idle", "needs nobody"]);
    }

    #[test]
    fn work_behind_a_turn_that_is_over_keeps_it_running() {
        let mut it = Standing::default();
        it.started();
        hook(&mut it, Turn::Active);
        osc(&mut it, ProgramState::Working);
        let told = it.hooked(Some(Turn::Idle), Some(Status::Running), Some("a task".into()));
        assert_eq!(statuses(&told), ["running by runtime", "turn idle"]);
        assert_eq!(osc(&mut it, ProgramState::Done), Vec::<String>::new());
        assert_eq!(hook(&mut it, Turn::Active), ["running by runtime", "turn active"]);
    }

    #[test]
    fn the_oldest_request_is_told_until_none_is_left() {
        let mut it = Standing::default();
        it.started();
        let (first, one) = asked("q1");
        let (second, two) = asked("q2");
        it.asked(first, "one", at());
        assert_eq!(it.asked(second, "two", at()), []);
        assert!(matches!(it.closed(&two).as_slice(), []), "the one that is told of is still open");
        let (second, two) = asked("q2");
        it.asked(second, "two", at());
        let news = it.closed(&one);
        let [News::Attention(Some(next))] = news.as_slice() else { panic!("{news:?}") };
        assert_eq!((next.text.as_str(), next.request.as_ref().map(|r| &r.request_id)), ("two", Some(&two)));
        assert!(statuses(&it.closed(&two)).contains(&"needs nobody".into()));
        // A dialog that is left behind is still somebody's business.
        osc(&mut it, ProgramState::Blocked);
        let (third, three) = asked("q3");
        it.asked(third, "three", at());
        let news = it.closed(&three);
        assert!(matches!(news.as_slice(), [News::Attention(Some(left))] if left.request.is_none()), "{news:?}");
    }

    #[test]
    fn a_failed_turn_is_not_a_failed_session() {
        let mut standing = Standing::default();
        standing.started();
        let told = standing.signal(&program(ProgramState::Error), at());
        assert_eq!(statuses(&told), ["waiting by terminal", "turn error", "needs error"]);
    }
}
