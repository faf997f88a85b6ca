//! Connections to `MOSAIC_SOCKET`: lines in, one answer for each.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use bus_schema::SessionId;

use super::wire::Wire;
use crate::clock;
use crate::pty::report::{MAX_REPORT_BYTES, Report, source_of};

/// Reporters at one time. Hooks connect for one line; further ones wait in the socket's own queue.
const MAX_REPORTERS: usize = 32;
/// Answers that one reporter may leave unread. Most never read any.
const MAX_UNREAD_ANSWERS: usize = 64 * 1024;

/// All reporters.
pub(crate) struct Reporters {
    listener: UnixListener,
    connections: BTreeMap<u64, Wire>,
    next: u64,
    /// Lines that were no report.
    pub bad: u64,
    /// Answers that were not read.
    pub lost: u64,
}

impl Reporters {
    /// Serves this socket.
    pub fn new(listener: UnixListener) -> Self {
        Self { listener, connections: BTreeMap::new(), next: 0, bad: 0, lost: 0 }
    }

    /// For waiting: the socket itself, unless all places are taken.
    pub fn listener(&self) -> Option<&UnixListener> {
        (self.connections.len() < MAX_REPORTERS).then_some(&self.listener)
    }

    /// For waiting: all connections.
    pub fn connections(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>, bool)> {
        self.connections.iter().map(|(key, wire)| (*key, wire.fd(), wire.waiting() > 0))
    }

    /// Takes new connections.
    pub fn accept(&mut self) {
        while self.connections.len() < MAX_REPORTERS
            && let Ok((stream, _)) = self.listener.accept()
        {
            self.add(stream);
        }
    }

    fn add(&mut self, stream: UnixStream) {
        if let Ok(wire) = Wire::new(stream) {
            self.connections.insert(self.next, wire);
            self.next += 1;
        }
    }

    /// Sends what waits to a connection.
    pub fn flush(&mut self, key: u64) {
        if let Some(wire) = self.connections.get_mut(&key) {
            wire.flush();
        }
    }

    /// Sends a further line to who asked, if it is still there.
    pub fn tell(&mut self, key: u64, line: &serde_json::Value) {
        if let Some(wire) = self.connections.get_mut(&key) {
            wire.send(format!("{line}\n").as_bytes());
        }
    }

    /// True while a connection is there.
    pub fn has(&self, key: u64) -> bool {
        self.connections.contains_key(&key)
    }

    /// Reads a connection, and gives its reports with where they were taken from.
    pub fn read(&mut self, key: u64) -> Vec<(&'static str, Report)> {
        let Some(mut wire) = self.connections.remove(&key) else { return vec![] };
        wire.fill();
        let mut reports = vec![];
        let mut from = 0;
        while let Some(length) = wire.input.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
            let line = wire.input.get(from..from + length).unwrap_or_default().to_vec();
            from += length + 1;
            self.line(&mut wire, &line, &mut reports);
        }
        wire.input.drain(..from);
        if wire.input.len() > MAX_REPORT_BYTES {
            let error = format!("a line of more than {MAX_REPORT_BYTES} bytes");
            self.answer(&mut wire, &Err(error));
            wire.is_closed = true;
        }
        if wire.is_closed {
            // The last line may lack its end; many programs write it so.
            let line = std::mem::take(&mut wire.input);
            if line.len() <= MAX_REPORT_BYTES {
                self.line(&mut wire, &line, &mut reports);
            }
        } else {
            self.connections.insert(key, wire);
        }
        reports
    }

    fn line(&mut self, wire: &mut Wire, line: &[u8], reports: &mut Vec<(&'static str, Report)>) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let result = Report::parse(line).map(with_id);
        let answer = match &result {
            Ok(Report::Child { session_id, .. }) => Ok(session_id.clone()),
            Ok(_) => Ok(None),
            Err(error) => Err(error.clone()),
        };
        self.answer(wire, &answer);
        reports.extend(result.ok().map(|report| (source_of(line), report)));
    }

    fn answer(&mut self, wire: &mut Wire, answer: &Result<Option<SessionId>, String>) {
        let answer = match answer {
            Ok(None) => serde_json::json!({"ok": true}),
            Ok(Some(child)) => serde_json::json!({"ok": true, "sessionId": child}),
            Err(error) => {
                self.bad += 1;
                serde_json::json!({"ok": false, "error": error})
            }
        };
        if wire.waiting() > MAX_UNREAD_ANSWERS {
            self.lost += 1;
        } else {
            wire.send(format!("{answer}\n").as_bytes());
        }
    }
}

/// A child or a request without an id is given one. A request's own is never taken: it names the message that asks.
fn with_id(report: Report) -> Report {
    match report {
        Report::Ask { request: _, text, call, options, takes_text } => {
            let request = new_id().map(|id| format!("q{id}"));
            Report::Ask { request, text, call, options, takes_text }
        }
        Report::Child { session_id: None, title, agent_type, ended } => {
            Report::Child { session_id: new_id(), title, agent_type, ended }
        }
        other => other,
    }
}

/// A new session id: the time and 80 random bits.
pub(super) fn new_id() -> Option<SessionId> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).ok()?;
    let millis = u64::try_from(clock::now().as_millis()).unwrap_or(0);
    SessionId::new(ulid::Ulid::from_parts(millis, u128::from_be_bytes(random)).to_string()).ok()
}
