//! Where a session stands, from everything that tells of it, the best source first.
//!
//! ```text
//! operator (frozen) > its own reports > its terminal: OSC 7501 > prompt marks, progress, titles > that it runs
//! ```
//! A better source, once it has spoken, is not contradicted by a weaker one.

use bus_schema::{Attention, AttentionKind, Operator, Status, StatusSource, Timestamp, Turn};
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
}

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
        if self.grade > Grade::Program {
            return vec![];
        }
        self.grade = Grade::Program;
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
                let source = if self.grade == Grade::Reports { StatusSource::Runtime } else { StatusSource::Terminal };
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

    #[test]
    fn a_failed_turn_is_not_a_failed_session() {
        let mut standing = Standing::default();
        standing.started();
        let told = standing.signal(&program(ProgramState::Error), at());
        assert_eq!(statuses(&told), ["waiting by terminal", "turn error", "needs error"]);
    }
}
