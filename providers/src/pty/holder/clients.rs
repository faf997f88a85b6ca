//! Clients of the holder's protocol.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;

use super::wire::Wire;
use crate::pty::log::LogWriter;
use crate::pty::protocol::{
    Answer, Call, Fault, FromHolder, LOG_FRAME_BYTES, MAX_FRAME_BYTES, NEWEST, OLDEST, ToHolder, agree, frame,
    take_frame,
};

/// Clients at one time: the node agent has one for the log and one for each call under way.
const MAX_CLIENTS: usize = 64;
/// How much of the log waits in a connection. Beyond it the client reads from the log later; nothing is kept for it.
const MAX_LOG_WAITING: usize = 2 * LOG_FRAME_BYTES;
/// Answers that a client may leave unread before it is taken for broken.
const MAX_ANSWERS_WAITING: usize = 4 * 1024 * 1024;

/// Something a client wants.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Do something, and answer under this number.
    Call { id: u64, call: Call },
    /// It has so much.
    Acknowledge { acknowledged: u64, floor: u64 },
    /// The exec shim asks for leave to run the program.
    Launching { error: Option<String> },
    /// The exec shim could not.
    LaunchFailed { error: String },
}

/// One client.
pub(crate) struct Client {
    pub wire: Wire,
    greeted: bool,
    /// Where it reads the log, if it does.
    cursor: Option<u64>,
    /// True for the exec shim.
    pub is_launcher: bool,
}

/// All clients.
pub(crate) struct Clients {
    listener: UnixListener,
    pub all: BTreeMap<u64, Client>,
    next: u64,
}

impl Clients {
    /// Serves this socket.
    pub fn new(listener: UnixListener) -> Self {
        Self { listener, all: BTreeMap::new(), next: 0 }
    }

    /// For waiting: the socket itself.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Takes new connections. When there are too many, the oldest that only calls goes: it is one that forgot to.
    pub fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.all.len() >= MAX_CLIENTS {
                let idle = self.all.iter().find(|(_, client)| client.cursor.is_none() && !client.is_launcher);
                let Some(idle) = idle.map(|(key, _)| *key) else { continue };
                self.all.remove(&idle);
            }
            if let Ok(wire) = Wire::new(stream) {
                self.all.insert(self.next, Client { wire, greeted: false, cursor: None, is_launcher: false });
                self.next += 1;
            }
        }
    }

    /// Reads a client and gives what it wants.
    pub fn read(&mut self, key: u64) -> Vec<Wish> {
        let Some(client) = self.all.get_mut(&key) else { return vec![] };
        client.wire.fill();
        let mut wishes = vec![];
        loop {
            match take_frame::<ToHolder>(&mut client.wire.input) {
                Ok(Some(message)) => wishes.extend(client.take(message)),
                Ok(None) => break,
                // Of a newer version, or nonsense: without its number it cannot be answered.
                Err(_) => {
                    client.wire.is_closed = true;
                    break;
                }
            }
        }
        if client.wire.input.len() > MAX_FRAME_BYTES + 4 || client.wire.waiting() > MAX_ANSWERS_WAITING {
            client.wire.is_closed = true;
        }
        wishes
    }

    /// Sends what waits to a client.
    pub fn flush(&mut self, key: u64) {
        if let Some(client) = self.all.get_mut(&key) {
            client.wire.flush();
        }
    }

    /// Sends the log to those who read it, as far as they take it.
    pub fn pump(&mut self, log: &LogWriter) {
        for client in self.all.values_mut() {
            client.pump(log);
        }
    }

    /// Answers a call, if the client is still there.
    pub fn reply(&mut self, key: u64, id: u64, result: Result<Answer, Fault>) {
        if let Some(client) = self.all.get_mut(&key) {
            client.send(&FromHolder::Reply { id, result });
        }
    }

    /// Lets the exec shim run the program.
    pub fn go(&mut self, key: u64) {
        if let Some(client) = self.all.get_mut(&key) {
            client.is_launcher = true;
            client.send(&FromHolder::Go);
        }
    }

    /// The exec shim's connections.
    pub fn launchers(&self) -> Vec<u64> {
        self.all.iter().filter(|(_, client)| client.is_launcher).map(|(key, _)| *key).collect()
    }

    /// True if nobody waits for more of the log, and no answer is under way.
    pub fn have_all(&self, end: u64) -> bool {
        self.all.values().all(|client| client.wire.waiting() == 0 && client.cursor.is_none_or(|cursor| cursor >= end))
    }

    /// Forgets connections that are closed; true if the exec shim was among them.
    pub fn sweep(&mut self) -> bool {
        let launcher = self.all.values().any(|client| client.wire.is_closed && client.is_launcher);
        self.all.retain(|_, client| !client.wire.is_closed);
        launcher
    }
}

impl Client {
    fn take(&mut self, message: ToHolder) -> Option<Wish> {
        match message {
            ToHolder::Hello { oldest, newest } => {
                self.greeted = true;
                match agree(oldest, newest) {
                    Ok(version) => self.send(&FromHolder::Hello { version }),
                    Err(reason) => {
                        self.send(&FromHolder::Refused { reason, oldest: OLDEST, newest: NEWEST });
                        self.wire.is_closed = true;
                    }
                }
                None
            }
            _ if !self.greeted => {
                self.wire.is_closed = true;
                None
            }
            ToHolder::Attach { from } => {
                self.cursor = Some(from);
                None
            }
            ToHolder::Acknowledge { acknowledged, floor } => Some(Wish::Acknowledge { acknowledged, floor }),
            ToHolder::Call { id, call } => Some(Wish::Call { id, call }),
            ToHolder::Launching { error } => Some(Wish::Launching { error }),
            ToHolder::LaunchFailed { error } => Some(Wish::LaunchFailed { error }),
        }
    }

    fn send(&mut self, message: &FromHolder) {
        match frame(message) {
            Ok(bytes) => self.wire.send(&bytes),
            // Longer than a frame may be: the client sees the end of the connection instead of silence.
            Err(_) => self.wire.is_closed = true,
        }
    }

    /// True if it waits to be sent something.
    pub fn wants_more(&self, end: u64) -> bool {
        self.wire.waiting() > 0 || self.cursor.is_some_and(|cursor| cursor < end)
    }

    fn pump(&mut self, log: &LogWriter) {
        while let Some(offset) = self.cursor.filter(|cursor| *cursor < log.end())
            && self.wire.waiting() < MAX_LOG_WAITING
            && !self.wire.is_closed
        {
            match log.read(offset, LOG_FRAME_BYTES) {
                Ok((segment, data)) => {
                    self.cursor = Some(offset + data.len() as u64);
                    self.send(&FromHolder::Log { offset, segment, data });
                }
                // No longer kept. The client asks from a later place, or not at all.
                Err(_) => self.wire.is_closed = true,
            }
        }
    }
}
