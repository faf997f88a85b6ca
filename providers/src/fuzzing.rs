//! What the runtimes read that others have written, for the fuzz targets of `ops/fuzz`: each function takes any bytes
//! whatsoever and checks what must hold of them. Part of no program.
//!
//! Laws: a function depends on its bytes alone, so that a finding can be shown again; and it panics only where a
//! promise is broken.

use std::time::{Duration, Instant};

use bus_schema::{Answer, InjectMode, MessageId, Operator, Role, SessionId, TerminalSize, UserId};
use serde_json::Value;

use crate::acp::client::{Client, Step};
use crate::profile::Protocol;
use crate::provider::News;
use crate::pty::emulator::{Emulator, Signal};
use crate::pty::interpret::Interpreter;
use crate::pty::log::{Block, Decoder, Kind, SegmentHeader, parse_size};
use crate::pty::protocol::{FromHolder, ToHolder, take_frame};
use crate::pty::record::{Injecting, unpack};
use crate::pty::report::Report;

pub use crate::docker::fuzzing::{container, engine_log};
pub use crate::openclaw::fuzzing::gateway;

/// Largest terminal that is tried: a larger one only costs time.
const MAX_SIDE: u16 = 200;

/// Any session: ids that are made of it must not depend on which.
pub(crate) fn session() -> Option<SessionId> {
    SessionId::new("01JD8Z2V9Q0000000000000000").ok()
}

fn operator() -> Option<Operator> {
    Some(Operator { id: UserId::new("u").ok()?, name: "Ada".into() })
}

fn size(cols: u8, rows: u8) -> TerminalSize {
    TerminalSize { cols: u16::from(cols % 120) + 2, rows: u16::from(rows % 60) + 2 }
}

/// Output of a program in a terminal: `cols rows portion output…`. It shows and tells the same however it is cut, and
/// an emulator that was saved goes on.
pub fn terminal(data: &[u8]) {
    let [cols, rows, cut, bytes @ ..] = data else { return };
    let size = size(*cols, *rows);
    let mut whole = Emulator::new(size, true);
    let told = whole.feed(bytes);
    let mut parts = Emulator::new(size, true);
    let told_in_parts: Vec<Signal> = bytes.chunks(usize::from(*cut) + 1).flat_map(|part| parts.feed(part)).collect();
    assert_eq!(told, told_in_parts, "told the same however it is cut");
    assert_eq!(whole.paint(), parts.paint(), "shown the same however it is cut");
    let state = whole.save();
    let restored = Emulator::restore(&state, true);
    assert_eq!(whole.screen().contents(), restored.screen().contents(), "a saved terminal shows the same");
    assert_eq!(whole.is_drawing(), restored.is_drawing());
    let _ = (whole.cursor_line(), whole.size());
}

/// The blocks of a session's log: `protocol`, then `kind length:u16 bytes…` again and again; the highest bit of a kind
/// begins a segment. What is told is in order, never claims to be an operator's, and is the same from any checkpoint.
pub fn interpreter(data: &[u8]) {
    let ([protocol, rest @ ..], Some(session)) = (data, session()) else { return };
    let protocol = [Protocol::Terminal, Protocol::Lines, Protocol::Jsonl, Protocol::Acp][usize::from(protocol % 4)];
    let header = SegmentHeader { base: 0, output: 0, size: TerminalSize { cols: 80, rows: 24 } };
    let mut going_on = Interpreter::new(&session, protocol, header);
    let mut restored: Option<Interpreter> = None;
    let mut last = None;
    for block in blocks(rest) {
        let events = going_on.block(&block);
        if let Some(other) = &mut restored {
            assert_eq!(events, other.block(&block), "told the same from a checkpoint");
            assert_eq!(going_on.delta(), other.delta());
        }
        if let Some((base, bytes)) = going_on.take_checkpoint() {
            restored = Interpreter::restore(&session, protocol, base, &bytes);
            assert!(restored.is_some(), "a checkpoint can be read");
            if let Some(other) = &mut restored {
                assert_eq!(events, other.block(&block), "told the same from a checkpoint");
            }
        }
        for event in &events {
            assert!(last.is_none_or(|last| last < event.position), "events are in order");
            last = Some(event.position);
            if let News::Message(draft) = &event.news
                && !matches!(block.kind, Kind::Note | Kind::Input)
            {
                assert_ne!(draft.role, Role::Operator, "an agent does not speak as an operator");
            }
        }
    }
}

/// The blocks that are written down in `data`.
fn blocks(mut data: &[u8]) -> Vec<Block> {
    let (mut blocks, mut end, mut segment, mut time) = (vec![], 0_u64, 0, 1_000_000);
    while let [kind, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, later) = rest.split_at(length);
        data = later;
        if kind & 0x80 != 0 {
            segment = end;
        }
        let kind = Kind::of(kind & 0x7f);
        let too_large =
            kind == Kind::Resize && parse_size(bytes).is_some_and(|size| size.cols > MAX_SIDE || size.rows > MAX_SIDE);
        if too_large {
            continue;
        }
        end += 17 + length as u64;
        time += 1000;
        blocks.push(Block { kind, time, data: bytes.to_vec(), end, segment });
    }
    blocks
}

/// Output in lines, for the protocols `lines`, `jsonl` and `acp`: `protocol portion output…`. The same messages with
/// the same ids however it is cut.
pub fn lines(data: &[u8]) {
    let ([protocol, cut, bytes @ ..], Some(session)) = (data, session()) else { return };
    let protocol = [Protocol::Lines, Protocol::Jsonl, Protocol::Acp][usize::from(protocol % 3)];
    let header = SegmentHeader { base: 0, output: 0, size: TerminalSize { cols: 80, rows: 24 } };
    let told = |portion: usize| {
        let mut interpreter = Interpreter::new(&session, protocol, header);
        let mut messages = vec![];
        let mut end = 0;
        for part in bytes.chunks(portion) {
            end += 17 + part.len() as u64;
            let block = Block { kind: Kind::Output, time: 1_000_000, data: part.to_vec(), end, segment: 0 };
            messages.extend(interpreter.block(&block).into_iter().filter_map(|event| match event.news {
                News::Message(draft) => Some(draft),
                _ => None,
            }));
        }
        messages
    };
    let whole = told(bytes.len().max(1));
    assert_eq!(whole, told(usize::from(*cut) + 1), "the same messages however the output is cut");
    for draft in whole {
        assert_ne!(draft.role, Role::Operator, "an agent does not speak as an operator");
    }
}

/// A line on a session's socket, and an event of an agent's hook. What a hook tells, the socket understands.
pub fn report(data: &[u8]) {
    if let Ok(report) = Report::parse(data) {
        let text = serde_json::to_vec(&report).unwrap_or_default();
        assert_eq!(Report::parse(&text), Ok(report), "a report comes back as it was");
    }
    let _ = crate::pty::report::source_of(data);
    if let Ok(event) = serde_json::from_slice::<Value>(data) {
        for report in crate::pty::hook::claude::tell(&event).reports {
            let text = serde_json::to_vec(&report).unwrap_or_default();
            assert_eq!(Report::parse(&text), Ok(report), "what a hook tells is understood");
        }
        for choice in ["allow", "always", "deny", "\u{0}"] {
            let decision = crate::pty::hook::Decision { option_id: choice.into(), text: Some("no".into()) };
            let decided = crate::pty::hook::claude::decided(&event, &decision);
            let behavior = decided.pointer("/hookSpecificOutput/decision/behavior").and_then(Value::as_str);
            assert_eq!(behavior == Some("allow"), matches!(choice, "allow" | "always"), "only leave is leave");
        }
    }
}

/// Lines of a conversation's file: `program lines…`. Reports of the file are understood like all others.
pub fn transcript(data: &[u8]) {
    let [program, lines @ ..] = data else { return };
    for report in crate::pty::source::read_back(program % 2 == 0, lines) {
        let text = serde_json::to_vec(&report).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Report>(&text).ok(), Some(report), "a report comes back as it was");
    }
}

/// A session's log as it stands on disk, and frames between holder and node agent: `portion bytes…`.
pub fn holder(data: &[u8]) {
    let [cut, bytes @ ..] = data else { return };
    let read = |portion: usize| {
        let mut decoder = Decoder::new(7);
        let mut found = vec![];
        for part in bytes.chunks(portion.max(1)) {
            decoder.push(0, part);
            loop {
                match decoder.next() {
                    Ok(Some(block)) => found.push(block),
                    Ok(None) => break,
                    Err(_) => return found,
                }
            }
        }
        found
    };
    assert_eq!(read(bytes.len()), read(usize::from(*cut) + 1), "the same blocks however they are cut");
    let mut buffer = bytes.to_vec();
    while let Ok(Some(frame)) = take_frame::<ToHolder>(&mut buffer) {
        let text = crate::pty::protocol::frame(&frame).unwrap_or_default();
        assert_eq!(take_frame::<ToHolder>(&mut text.clone()).ok().flatten(), Some(frame), "a frame comes back");
    }
    let mut buffer = bytes.to_vec();
    while let Ok(Some(_)) = take_frame::<FromHolder>(&mut buffer) {}
    let _ = unpack::<crate::pty::record::Note>(bytes);
    let _ = unpack::<crate::pty::record::Input>(bytes);
    let _ = crate::pty::record::Fragment::decode(bytes);
    let _ = crate::pty::record::Shown::decode(bytes);
}

/// Our side of ACP: `op length:u16 bytes…` again and again: the agent's output, an operator's message or answer, time.
/// What is sent is one JSON object a line, every request of the agent is answered at most once, and no prompt is sent
/// beside one that is not answered.
pub fn acp_client(data: &[u8]) {
    let (Some(session), Some(ada)) = (session(), operator()) else { return };
    let mut client = Client::new(&session, "/srv".into(), None, session_for_child);
    let begun = Instant::now();
    let (mut now, mut rest, mut number) = (begun, data, 0);
    client.started(now);
    let mut prompts = Prompts::default();
    prompts.see(&mut client);
    while let [op, low, high, later @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(later.len());
        let (bytes, behind) = later.split_at(length);
        rest = behind;
        match op % 5 {
            0 | 1 => {
                prompts.hear(bytes);
                client.output(bytes, now);
            }
            2 => {
                number += 1;
                let Ok(message_id) = MessageId::new(format!("m{number}")) else { return };
                let mode =
                    [InjectMode::Steer, InjectMode::Queue, InjectMode::Interrupt][usize::from(op / 5 % 3)].clone();
                let content = String::from_utf8_lossy(bytes).into_owned();
                // Refused where too many wait.
                let _ = client.accept(&Injecting { message_id, operator: ada.clone(), content, mode }, now);
            }
            3 => {
                if let Ok(answer) = serde_json::from_slice::<Answer>(bytes)
                    && let Ok(request) = MessageId::new(format!("{session}-{}", crate::acp::client::key_of(0)))
                {
                    let _ = client.answer(&request, &answer, ada.clone());
                }
            }
            _ => {
                now += Duration::from_millis(u64::from(*low) * 500);
                client.look(now, op & 0x80 != 0);
            }
        }
        prompts.see(&mut client);
    }
    client.leave();
    client.abandon();
    let _ = client.take_steps();
}

fn session_for_child() -> Option<SessionId> {
    SessionId::new("01JD8Z2V9Q0000000000000001").ok()
}

/// Prompts that we sent and that are not answered.
#[derive(Default)]
struct Prompts {
    open: Vec<Value>,
    partial: Vec<u8>,
}

impl Prompts {
    fn hear(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let said: Option<Value> = serde_json::from_slice(&line).ok();
            if let Some(said) = said.filter(|said| said.get("method").is_none_or(|method| !method.is_string())) {
                self.open.retain(|id| said.get("id") != Some(id));
            }
        }
    }

    fn see(&mut self, client: &mut Client) {
        for step in client.take_steps() {
            let Step::Send(_, line) = step else { continue };
            let text = line.strip_suffix(b"\n").unwrap_or_default();
            assert!(!text.contains(&b'\n'), "one line");
            let said: Value = serde_json::from_slice(text).unwrap_or_default();
            assert!(said.is_object(), "a line that is sent is one JSON object");
            if said.get("method").and_then(Value::as_str) == Some("session/prompt") {
                self.open.extend(said.get("id").cloned());
                assert!(self.open.len() <= 1, "never a second prompt beside one that is not answered");
            }
        }
    }
}
