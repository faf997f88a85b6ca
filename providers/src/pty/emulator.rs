//! The terminal that an agent believes to have: what it shows, what it answers, and what the agent says by it.
//!
//! One emulator per session answers queries in the order of the stream, because some programs take the order as part
//! of the answer: Claude Code asks for OSC 7501 and then for DA1, and an answer to DA1 alone tells it that there is no
//! OSC 7501 here (seen with 2.1). The kitty keyboard query is never answered: a program that gets an answer turns on
//! other encodings of keys, which an injected Enter is not in.

use std::num::NonZeroU16;

use base64::Engine;
use bus_schema::TerminalSize;
use serde::{Deserialize, Serialize};

use super::ansi::{Byte, Scanner};

/// Longest title, notice or message that is taken from a sequence.
const MAX_TEXT_BYTES: usize = 4096;
/// What we say we are: a VT220 with colour. `ESC[c`.
const DEVICE_ATTRIBUTES: &[u8] = b"\x1b[?62;22c";

/// Something that the program did besides showing text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Bytes that the terminal answers.
    Reply(Vec<u8>),
    /// OSC 7501: where the program stands, in its own words.
    Program(ProgramReport),
    /// OSC 0, 2.
    Title(String),
    /// OSC 9;4: 0 none, 1 running with a number, 2 error, 3 running, 4 paused.
    Progress(u8),
    /// OSC 133;A: the shell shows its prompt.
    Prompt,
    /// OSC 133;C: a command runs.
    CommandRuns,
    /// A row left the primary screen at its top, for ever.
    Scrolled {
        /// Its text.
        text: String,
        /// True if the next row goes on with the same line.
        wrapped: bool,
    },
}

/// One OSC 7501 report about the program itself (revision 0.3 of the program status protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramReport {
    /// Where it stands.
    pub state: ProgramState,
    /// `permission`, `question`, `auth`.
    pub kind: Option<String>,
    /// What it says about it.
    pub text: Option<String>,
    /// Which of its children it is about, if not about itself.
    pub child: Option<String>,
}

/// Where a program stands, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProgramState {
    /// Nothing to do.
    Idle,
    /// At work.
    Working,
    /// Needs a person.
    Blocked,
    /// The turn is over, and nobody has seen it yet.
    Done,
    /// The turn went wrong.
    Error,
    /// It no longer tells.
    Clear,
}

/// A terminal without a window.
pub(crate) struct Emulator {
    parser: vt100::Parser<Listener>,
    scanner: Scanner,
    /// The beginning of a sequence or character that is not complete yet.
    open: Vec<u8>,
}

/// An emulator's state, for going on later or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EmulatorState {
    size: TerminalSize,
    #[serde(with = "serde_bytes")]
    screen: Vec<u8>,
    #[serde(with = "serde_bytes")]
    open: Vec<u8>,
    synchronized: bool,
}

#[derive(Default)]
struct Listener {
    signals: Vec<Signal>,
    /// Whether rows that scroll away are wanted.
    rows: bool,
    /// Between `?2026h` and `?2026l`: a frame is being drawn.
    synchronized: bool,
    frames: u64,
}

impl Emulator {
    /// An empty terminal. `rows` says whether [`Signal::Scrolled`] is wanted.
    pub fn new(size: TerminalSize, rows: bool) -> Self {
        let listener = Listener { rows, ..Listener::default() };
        let parser = vt100::Parser::new_with_callbacks(cells(size.rows), cells(size.cols), 0, listener);
        Self { parser, scanner: Scanner::default(), open: vec![] }
    }

    /// Takes the next output of the program, cut anywhere, and gives what it did.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Signal> {
        if self.scanner.is_ground() && !self.open.is_empty() {
            let joined = [std::mem::take(&mut self.open).as_slice(), bytes].concat();
            self.advance(&joined);
        } else {
            self.advance(bytes);
        }
        std::mem::take(&mut self.parser.callbacks_mut().signals)
    }

    fn advance(&mut self, bytes: &[u8]) {
        // `pending`: what the parser has not had yet. `text`: what came behind the last sequence.
        let (mut pending, mut text, mut at) = (0, 0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.scanner.is_ground() {
                // Text up to the next sequence needs no look at each byte.
                let Some(plain) = rest.iter().position(|byte| *byte == 0x1b) else { break };
                at += plain;
            }
            let Some(byte) = bytes.get(at).copied() else { break };
            let is_carried_out = self.scanner.is_carried_out(byte);
            let kind = self.scanner.step(byte);
            if kind == Byte::Excess {
                self.parser.process(bytes.get(pending..at).unwrap_or_default());
                pending = at + 1;
            } else if self.scanner.is_ground() {
                self.open.clear();
                text = at + 1;
            } else if !is_carried_out {
                self.open.push(byte);
            }
            at += 1;
        }
        let mut end = bytes.len();
        if self.scanner.is_ground() {
            // The parser loses text behind a character that it gets in two portions (vte 0.15), so it gets it whole.
            end -= incomplete(bytes.get(text..).unwrap_or_default());
            self.open.extend_from_slice(bytes.get(end..).unwrap_or_default());
        }
        self.parser.process(bytes.get(pending..end).unwrap_or_default());
    }

    /// Changes the size, as the program will see it change.
    pub fn resize(&mut self, size: TerminalSize) -> Vec<Signal> {
        self.parser.set_size(cells(size.rows), cells(size.cols));
        std::mem::take(&mut self.parser.callbacks_mut().signals)
    }

    /// What it shows.
    pub fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }

    /// Its size.
    pub fn size(&self) -> TerminalSize {
        let (rows, cols) = self.screen().size();
        TerminalSize { cols: cols.get(), rows: rows.get() }
    }

    /// True while a program that draws whole frames is within one.
    pub fn is_drawing(&self) -> bool {
        self.parser.callbacks().synchronized
    }

    /// The text of the line in which the cursor stands, rows that wrap joined, up to the cursor and beyond it.
    pub fn cursor_line(&self) -> String {
        let (screen, (row, _)) = (self.screen(), self.screen().cursor_position());
        let mut first = row;
        while first > 0 && screen.row_wrapped(first - 1) {
            first -= 1;
        }
        let rows: Vec<String> = screen.rows(0, u16::MAX).collect();
        rows.get(usize::from(first)..=usize::from(row)).unwrap_or_default().concat()
    }

    /// Bytes that paint what is shown onto an empty terminal of the same size, and leave it in the same modes.
    pub fn paint(&self) -> Vec<u8> {
        let mut bytes = vec![];
        if self.screen().alternate_screen() {
            bytes.extend_from_slice(b"\x1b[?1049h");
        }
        bytes.extend_from_slice(self.screen().state_formatted().as_bytes());
        bytes.extend_from_slice(&self.open);
        bytes
    }

    /// Its state. What [`restore`](Self::restore) makes of it shows the same and goes on in the same way, but for the
    /// primary screen behind an alternate one, which is not kept.
    pub fn save(&self) -> EmulatorState {
        let mut screen = self.paint();
        screen.truncate(screen.len() - self.open.len());
        let synchronized = self.parser.callbacks().synchronized;
        EmulatorState { size: self.size(), screen, open: self.open.clone(), synchronized }
    }

    /// An emulator in that state.
    pub fn restore(state: &EmulatorState, rows: bool) -> Self {
        let mut emulator = Self::new(state.size, rows);
        emulator.feed(&state.screen);
        emulator.feed(&state.open);
        emulator.parser.callbacks_mut().synchronized = state.synchronized;
        emulator
    }
}

/// How many bytes at the end are the beginning of a character.
fn incomplete(text: &[u8]) -> usize {
    let most = text.len().min(3);
    let is_open = |count: &usize| {
        let suffix = text.get(text.len() - count..).unwrap_or_default();
        std::str::from_utf8(suffix).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=most).rev().find(is_open).unwrap_or(0)
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}

impl Listener {
    fn reply(&mut self, bytes: impl Into<Vec<u8>>) {
        self.signals.push(Signal::Reply(bytes.into()));
    }

    /// `ESC[?…h` and `ESC[?…l` that the screen itself does not know.
    fn mode(&mut self, params: &[&[u16]], on: bool) {
        if params.contains(&&[2026][..]) {
            self.synchronized = on;
            self.frames += u64::from(!on);
        }
    }
}

impl vt100::Callbacks for Listener {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.signals.push(Signal::Title(text(title)));
    }

    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        first: Option<u8>,
        second: Option<u8>,
        params: &[&[u16]],
        end: char,
    ) {
        let number = params.first().and_then(|param| param.first()).copied().unwrap_or(0);
        match (first, second, end) {
            (None, None, 'c') if number == 0 => self.reply(DEVICE_ATTRIBUTES),
            (None, None, 'n') if number == 5 => self.reply(*b"\x1b[0n"),
            (None, None, 'n') if number == 6 => {
                let (row, col) = screen.cursor_position();
                // Behind the last column the cursor waits to wrap; a terminal says the last column then.
                let col = col.min(screen.size().1.get() - 1);
                self.reply(format!("\x1b[{};{}R", row + 1, col + 1));
            }
            (Some(b'?'), Some(b'$'), 'p') => {
                let set = |on: bool| if on { 1 } else { 2 };
                let value = match number {
                    25 => set(!screen.hide_cursor()),
                    1049 | 47 => set(screen.alternate_screen()),
                    2004 => set(screen.bracketed_paste()),
                    2026 => set(self.synchronized),
                    1 => set(screen.application_cursor()),
                    7 => 1,
                    6 | 9 | 1000 | 1002 | 1003 | 1004 | 1005 | 1006 => 2,
                    _ => 0,
                };
                self.reply(format!("\x1b[?{number};{value}$y"));
            }
            (Some(b'?'), None, 'h') => self.mode(params, true),
            (Some(b'?'), None, 'l') => self.mode(params, false),
            _ => {}
        }
    }

    fn unhandled_osc(&mut self, _: &mut vt100::Screen, params: &[&[u8]]) {
        match params {
            [b"7501", b"?"] => self.reply(*b"\x1b]7501;?\x1b\\"),
            [b"7501", fields @ ..] => self.signals.extend(program(fields).map(Signal::Program)),
            // A light text on a dark ground.
            [b"10", b"?"] => self.reply(*b"\x1b]10;rgb:d8d8/d8d8/d8d8\x1b\\"),
            [b"11", b"?"] => self.reply(*b"\x1b]11;rgb:1010/1010/1010\x1b\\"),
            // A title with semicolons in it.
            [b"0" | b"2", parts @ ..] => self.signals.push(Signal::Title(text(&parts.join(&b';')))),
            [b"9", b"4", state, ..] => {
                let state = state.first().copied().filter(u8::is_ascii_digit).map(|digit| digit - b'0');
                self.signals.extend(state.map(Signal::Progress));
            }
            [b"133", mark, ..] => match mark.first() {
                Some(b'A') => self.signals.push(Signal::Prompt),
                Some(b'C') => self.signals.push(Signal::CommandRuns),
                _ => {}
            },
            _ => {}
        }
    }

    fn on_scroll(&mut self, row: vt100::capture::RowContents<'_>, alternate: bool) {
        if !self.rows || alternate {
            return;
        }
        let mut state = vt100::capture::BasicFormattedCaptureState::new();
        let mut formatted = String::new();
        // Writing to a string does not fail.
        let _ = row.write_formatted_basic(&mut formatted, &mut state);
        let text: String = vt100::capture::basic_formatted_to_plain(&formatted).collect();
        // Whether the row goes on in the next one shows only in what would be written before that.
        let mut probe = FirstCharacter(None);
        let _ = row.write_formatted_basic(&mut probe, &mut state);
        let wrapped = probe.0 != Some('\n');
        self.signals.push(Signal::Scrolled { text, wrapped });
    }
}

/// Takes one character and refuses the rest.
struct FirstCharacter(Option<char>);

impl std::fmt::Write for FirstCharacter {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 = self.0.or(text.chars().next());
        if self.0.is_some() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MAX_TEXT_BYTES).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()
}

/// `key=value` fields of an OSC 7501 report, with colons between them (seen: `state=working:app=codex`); `None` if it
/// says nothing about a state.
fn program(parts: &[&[u8]]) -> Option<ProgramReport> {
    let fields = || parts.iter().flat_map(|part| part.split(|byte| *byte == b':'));
    let field = |name: &str| {
        let found = fields().find_map(|field| field.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        found.map(text).filter(|value| !value.is_empty())
    };
    let state = match field("state")?.as_str() {
        "idle" => ProgramState::Idle,
        "working" => ProgramState::Working,
        "blocked" => ProgramState::Blocked,
        "done" => ProgramState::Done,
        "error" => ProgramState::Error,
        "clear" => ProgramState::Clear,
        _ => return None,
    };
    let decoded = |name: &str| {
        let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
        engine.decode(field(name)?).ok().map(|bytes| text(&bytes))
    };
    let text = decoded("msg").or_else(|| decoded("title"));
    Some(ProgramReport { state, kind: field("kind"), text, child: field("id") })
}

/// Padding may be left out.
const LENIENT: base64::engine::GeneralPurposeConfig = base64::engine::GeneralPurposeConfig::new()
    .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);

#[cfg(test)]
mod tests;
