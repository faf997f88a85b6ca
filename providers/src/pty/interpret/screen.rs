//! Messages from what a terminal shows: the last resort, for programs that tell in no better way.
//!
//! Two kinds of programs. One writes line after line on the primary screen, as a shell does: a line is told when it has
//! scrolled away, or when nothing was written for a moment and the cursor stands below it. The other paints the
//! alternate screen: when it is still, or says that its turn is over, the lines are told that were not shown before.
//!
//! Laws:
//! 1. The line in which the cursor stands is for input and is not told.
//! 2. A line that shows what was typed is not the agent's: what an operator injected is left out, what a person typed at
//!    the terminal is told as theirs.
//! 3. Silence is a block of the log, so it is the same when the log is read again.

use std::collections::{BTreeSet, VecDeque};

use bus_schema::TerminalSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::message::normalised;
use crate::pty::ansi;
use crate::pty::emulator::{Emulator, EmulatorState, Signal};

/// Rows that scroll away are told together, at most so many bytes in one message.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Silence after which a painted screen is taken for still. Spinners and clocks paint more often than this.
const STILL_MILLIS: u32 = 2000;
/// Lines that are remembered as told, for programs that paint them again.
const MAX_SEEN: usize = 2000;
/// Longest row that is looked at for typed text.
const MAX_ECHO_BYTES: usize = 1000;
/// Typed texts, and lines to type into, that are remembered until they show.
const MAX_TYPED: usize = 64;

/// Text that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub speaker: Speaker,
    pub text: String,
}

/// Whose text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Speaker {
    Agent,
    /// A person at the terminal.
    User,
}

/// A line for input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Prompt {
    number: u64,
    /// What stood there before the input.
    text: String,
    /// True if a person typed into it.
    by_hand: bool,
}

/// A typed text that shows, perhaps over several rows, wrapped where the program likes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Echoed {
    /// Its words.
    text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
    /// How much of it has shown; zero before its beginning did.
    shown: usize,
}

impl Echoed {
    fn new(content: &str) -> Self {
        let (mut text, mut lines) = (String::new(), vec![]);
        // Without what is not typed.
        let typed = |line: &str| normalised(&line.chars().filter(|c| !c.is_control()).collect::<String>());
        for line in content.lines().map(typed).filter(|line| !line.is_empty()) {
            if !text.is_empty() {
                text.push(' ');
            }
            lines.push(text.len());
            text.push_str(&line);
        }
        Self { text, lines, shown: 0 }
    }

    /// Whether a row shows the next words of it, or, behind a prompt, the words of one of its lines.
    fn shows(&mut self, row: &str) -> bool {
        if row.is_empty() || row.len() > MAX_ECHO_BYTES {
            return false;
        }
        let goes_on = self.text.get(self.shown..).filter(|_| self.shown > 0).map(str::trim_start);
        if let Some(rest) = goes_on.filter(|rest| goes_on_with(rest, row)) {
            self.shown = self.text.len() - rest.len() + row.len();
            return true;
        }
        for line in &self.lines {
            let Some(rest) = self.text.get(*line..) else { continue };
            let begins = row.char_indices().map(|(at, _)| row.split_at(at)).find(|(prompt, words)| {
                let words = words.trim_start();
                !words.is_empty() && is_prompt(prompt) && goes_on_with(rest, words)
            });
            if let Some((_, words)) = begins {
                self.shown = line + words.trim_start().len();
                return true;
            }
        }
        false
    }

    fn has_shown(&self) -> bool {
        self.shown >= self.text.len()
    }
}

/// True if `text` begins with these words, whole ones.
fn goes_on_with(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// One row, with its number since the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    number: u64,
    text: String,
    wrapped: bool,
}

/// Finds text on a screen.
pub(super) struct Screen {
    emulator: Emulator,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Rows that have left the primary screen.
    scrolled: u64,
    /// Rows before this number were told.
    told: u64,
    /// Rows that have left and were not told.
    gone: VecDeque<Row>,
    gone_bytes: usize,
    /// Lines in which the cursor stood when it was still, or when a person began to type.
    prompts: VecDeque<Prompt>,
    /// Texts that the mesh has typed, until they have shown.
    injected: VecDeque<Echoed>,
    /// Rows of the primary screen that were told, for when it is painted again.
    seen: VecDeque<String>,
    /// The same of the alternate screen.
    seen_alternate: VecDeque<String>,
    /// True once the turn was said to be over: the next silence is enough.
    settle: bool,
}

impl Screen {
    /// An empty one.
    pub fn new(size: TerminalSize) -> Self {
        Self { emulator: Emulator::new(size, true), state: State::default() }
    }

    /// Takes output; gives what is certain by it, and what the program did besides.
    pub fn output(&mut self, data: &[u8]) -> (Vec<Found>, Vec<Signal>) {
        let signals = self.emulator.feed(data);
        let (rows, rest): (Vec<Signal>, Vec<Signal>) =
            signals.into_iter().partition(|signal| matches!(signal, Signal::Scrolled { .. }));
        (self.scroll(rows), rest)
    }

    fn scroll(&mut self, rows: Vec<Signal>) -> Vec<Found> {
        let mut found = vec![];
        for row in rows {
            let Signal::Scrolled { text, wrapped } = row else { continue };
            let number = self.state.scrolled;
            self.state.scrolled += 1;
            if number < self.state.told {
                continue;
            }
            self.state.gone_bytes += text.len() + 1;
            self.state.gone.push_back(Row { number, text, wrapped });
            if self.state.gone_bytes > MAX_MESSAGE_BYTES && !wrapped {
                found.extend(self.tell_gone());
            }
        }
        found
    }

    /// The size changes. What stands there is told first, because rows move.
    pub fn resize(&mut self, size: TerminalSize) -> Vec<Found> {
        let mut found = self.settle_primary();
        let signals = self.emulator.resize(size);
        found.extend(self.scroll(signals));
        found.extend(self.tell_gone());
        // A terminal that grows shows empty rows at its top for those that have left.
        self.state.told = self.state.scrolled + u64::from(self.cursor_row());
        self.state.prompts.clear();
        found
    }

    /// A person typed.
    pub fn typed(&mut self, data: &[u8]) {
        if ansi::strip(data).is_empty() || self.emulator.screen().alternate_screen() {
            return;
        }
        self.prompt().by_hand = true;
    }

    /// The line in which the cursor stands. When it is seen for the first time, what stands in it is the prompt.
    fn prompt(&mut self) -> &mut Prompt {
        let number = self.state.scrolled + u64::from(self.cursor_row());
        let text = self.emulator.cursor_line().trim_end().to_owned();
        let prompts = &mut self.state.prompts;
        let index = prompts.iter().position(|prompt| prompt.number == number).unwrap_or_else(|| {
            if prompts.len() >= MAX_TYPED {
                prompts.pop_front();
            }
            prompts.push_back(Prompt { number, text, by_hand: false });
            prompts.len() - 1
        });
        &mut prompts[index]
    }

    /// An operator message is being typed.
    pub fn injected(&mut self, content: &str) {
        if self.state.injected.len() >= MAX_TYPED {
            self.state.injected.pop_front();
        }
        self.state.injected.push_back(Echoed::new(content));
    }

    /// The program's turn is over: the next silence, however short, settles its screen.
    pub fn settle_soon(&mut self) {
        self.state.settle = true;
    }

    /// There was no output for so long; zero if output goes on.
    pub fn quiet(&mut self, millis: u32) -> Vec<Found> {
        if self.emulator.screen().alternate_screen() {
            let is_still = millis >= STILL_MILLIS || (millis > 0 && self.state.settle);
            return if is_still && !self.emulator.is_drawing() { self.settle_alternate() } else { vec![] };
        }
        self.state.settle = false;
        if millis == 0 { self.tell_gone() } else { self.settle_primary() }
    }

    /// It is over: all that stands there is told, the cursor's line too.
    pub fn finish(&mut self) -> Vec<Found> {
        if self.emulator.screen().alternate_screen() {
            return self.settle_alternate();
        }
        let rows = self.emulator.size().rows;
        let last = self.rows(rows).into_iter().rposition(|row| !row.text.is_empty()).map_or(0, |last| last + 1);
        let all: Vec<Row> = self.rows(u16::try_from(last).unwrap_or(rows));
        let end = self.state.scrolled + last as u64;
        self.tell_rows(all, end)
    }

    /// The first row of the line in which the cursor stands.
    fn cursor_row(&self) -> u16 {
        let screen = self.emulator.screen();
        let mut row = screen.cursor_position().0;
        while row > 0 && screen.row_wrapped(row - 1) {
            row -= 1;
        }
        row
    }

    /// The rows shown before row `end`.
    fn rows(&self, end: u16) -> Vec<Row> {
        let screen = self.emulator.screen();
        let texts = screen.rows(0, u16::MAX).take(usize::from(end)).enumerate();
        let row = |(index, text): (usize, String)| Row {
            number: self.state.scrolled + index as u64,
            wrapped: u16::try_from(index).is_ok_and(|index| screen.row_wrapped(index)),
            text,
        };
        texts.map(row).collect()
    }

    /// Tells what has scrolled away.
    fn tell_gone(&mut self) -> Vec<Found> {
        // A line that goes on on the screen is not complete.
        let whole = self.state.gone.iter().rposition(|row| !row.wrapped).map_or(0, |last| last + 1);
        let rows: Vec<Row> = self.state.gone.drain(..whole).collect();
        self.state.gone_bytes = self.state.gone.iter().map(|row| row.text.len() + 1).sum();
        let Some(end) = rows.last().map(|row| row.number + 1) else { return vec![] };
        self.tell_lines(rows, end)
    }

    /// Tells what stands above the cursor.
    fn settle_primary(&mut self) -> Vec<Found> {
        if self.emulator.screen().alternate_screen() {
            return vec![];
        }
        let cursor = self.cursor_row();
        let end = self.state.scrolled + u64::from(cursor);
        let rows = self.rows(cursor);
        let found = self.tell_rows(rows, end);
        // Lower than before if the screen was cleared.
        self.state.told = end;
        self.state.prompts.retain(|prompt| prompt.number >= end);
        self.prompt();
        found
    }

    /// Tells what has scrolled away and these rows, as far as they were not.
    fn tell_rows(&mut self, rows: Vec<Row>, end: u64) -> Vec<Found> {
        let told = self.state.told;
        let mut all: Vec<Row> = self.state.gone.drain(..).collect();
        self.state.gone_bytes = 0;
        // A row that was told and shows something else now has been painted again, or the screen was cleared.
        let seen: BTreeSet<&str> = self.state.seen.iter().map(String::as_str).collect();
        all.extend(rows.into_iter().filter(|row| row.number >= told || !seen.contains(&*normalised(&row.text))));
        self.tell_lines(all, end)
    }

    fn tell_lines(&mut self, rows: Vec<Row>, end: u64) -> Vec<Found> {
        self.state.told = self.state.told.max(end);
        let mut found: Vec<Found> = vec![];
        let mut lines: Vec<String> = vec![];
        for row in &rows {
            let normal = normalised(&row.text);
            if !normal.is_empty() {
                remember(&mut self.state.seen, normal);
            }
        }
        for (number, line) in joined(rows) {
            match self.echo(number, &line) {
                Echo::None if is_rule(&line) => {}
                Echo::None => lines.push(line),
                Echo::Injected => {}
                Echo::ByHand(text) => {
                    found.extend(agent(std::mem::take(&mut lines)));
                    found.extend(Some(Found { speaker: Speaker::User, text }).filter(|found| !found.text.is_empty()));
                }
            }
        }
        found.extend(agent(lines));
        found
    }

    /// Whether a line shows what was typed.
    fn echo(&mut self, number: u64, line: &str) -> Echo {
        let normal = normalised(line);
        if let Some(index) = self.state.injected.iter_mut().position(|echoed| echoed.shows(&normal)) {
            if self.state.injected.get(index).is_some_and(Echoed::has_shown) {
                self.state.injected.remove(index);
            }
            return Echo::Injected;
        }
        let Some(prompt) = self.state.prompts.iter().find(|prompt| prompt.number == number) else {
            return Echo::None;
        };
        match line.strip_prefix(prompt.text.as_str()).map(str::trim) {
            Some(rest) if prompt.by_hand => Echo::ByHand(rest.to_owned()),
            // The prompt itself, left behind without input.
            Some("") if !prompt.text.is_empty() && is_prompt(&prompt.text) => Echo::Injected,
            Some(_) | None => Echo::None,
        }
    }

    /// Tells what is new on a painted screen.
    fn settle_alternate(&mut self) -> Vec<Found> {
        self.state.settle = false;
        let cursor = self.emulator.screen().cursor_position().0;
        let seen: BTreeSet<String> = self.state.seen_alternate.iter().cloned().collect();
        let mut lines = vec![];
        for row in self.rows(self.emulator.size().rows) {
            let text = row.text.trim_matches(is_frame).trim().to_owned();
            // Seconds that count up do not make a line new.
            let known = masked(&text);
            let is_input = row.number == self.state.scrolled + u64::from(cursor);
            if text.is_empty() || is_input || seen.contains(&known) {
                continue;
            }
            remember(&mut self.state.seen_alternate, known);
            if !matches!(self.echo(u64::MAX, &text), Echo::Injected) {
                lines.push(text);
            }
        }
        agent(lines).into_iter().collect()
    }
}

/// What a line shows of what was typed.
enum Echo {
    None,
    /// By the mesh, or nothing but the prompt.
    Injected,
    /// By a person.
    ByHand(String),
}

/// Rows as lines, each with the number of its first row.
fn joined(rows: Vec<Row>) -> Vec<(u64, String)> {
    let mut lines: Vec<(u64, String)> = vec![];
    let mut goes_on = false;
    for row in rows {
        // Blanks at the end of a row that goes on stand between words.
        let text = if row.wrapped { row.text.as_str() } else { row.text.trim_end() };
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, line)) => line.push_str(text),
            None => lines.push((row.number, text.to_owned())),
        }
        goes_on = row.wrapped;
    }
    lines
}

/// Lines as one message, without empty ones around them.
fn agent(lines: Vec<String>) -> Option<Found> {
    let first = lines.iter().position(|line| !line.trim().is_empty())?;
    let last = lines.iter().rposition(|line| !line.trim().is_empty())?;
    let text = lines.get(first..=last)?.join("\n");
    Some(Found { speaker: Speaker::Agent, text })
}

fn remember(lines: &mut VecDeque<String>, line: String) {
    if lines.len() >= MAX_SEEN {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// True for what may stand before input: a short text that ends in a sign.
fn is_prompt(text: &str) -> bool {
    let text = text.trim_end();
    text.is_empty() || text.ends_with(['$', '#', '>', '%', ':', '❯', '›', '»', '→', '|', '│'])
}

/// Frames, rules and blocks.
fn is_frame(c: char) -> bool {
    c.is_whitespace() || ('\u{2500}'..='\u{259f}').contains(&c) || c == '|'
}

/// A line that only divides.
fn is_rule(line: &str) -> bool {
    !line.trim().is_empty() && line.chars().all(|c| c.is_whitespace() || ('\u{2500}'..='\u{259f}').contains(&c))
}

/// A line with its numbers and spinner signs made equal.
fn masked(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let text: String = text.chars().filter(|c| !('\u{2800}'..='\u{28ff}').contains(c)).map(keep).collect();
    let mut short = String::with_capacity(text.len());
    for c in normalised(&text).chars() {
        if c != '0' || !short.ends_with('0') {
            short.push(c);
        }
    }
    short
}

#[derive(Serialize, Deserialize)]
struct Saved {
    emulator: EmulatorState,
    state: State,
}

impl Serialize for Screen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Saved { emulator: self.emulator.save(), state: self.state.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Screen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Saved { emulator, state } = Saved::deserialize(deserializer)?;
        Ok(Self { emulator: Emulator::restore(&emulator, true), state })
    }
}

#[cfg(test)]
mod tests;
