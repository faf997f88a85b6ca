//! Which commands were carried out, with their answers: `done-commands.log`.
//!
//! Laws:
//! 1. A command is noted before it is begun and again when it is answered, so that a node agent which is killed in
//!    between knows that it may have been carried out.
//! 2. An id is kept as long as its command could still be accepted, and no longer.
//! 3. Bounded: with [`MAX_REMEMBERED`] ids, further commands are refused rather than old ones forgotten.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use bus_schema::{CommandId, Timestamp};
use bytes::Bytes;
use providers::Position;
use serde::{Deserialize, Serialize};

use crate::outbox::record::{Parsed, RecordKind, parse, write};

/// Ids remembered at once: five commands a second over the longest validity.
const MAX_REMEMBERED: usize = 20_000;
/// The log is written anew when it is so large, in bytes, or has doubled since it was written anew.
const COMPACT_ABOVE: u64 = 1024 * 1024;
/// How often ids that are of no use any more are looked for.
const SWEEP_EVERY_MS: u64 = 1_000;

/// The log of commands.
pub struct DoneLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    known: BTreeMap<CommandId, Known>,
    swept_at: Timestamp,
    compact_above: u64,
}

#[derive(Clone, Debug)]
struct Known {
    keep_until: Timestamp,
    /// `None`: begun, and not answered.
    reply: Option<Bytes>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    command_id: CommandId,
    keep_until: Timestamp,
    #[serde(default, with = "serde_bytes")]
    reply: Option<Vec<u8>>,
}

/// What is known of a command that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: it is noted now.
    Never,
    /// It was begun before, and perhaps carried out; the answer is lost.
    Begun,
    /// It was answered so.
    Answered(Bytes),
    /// There is no room to remember it.
    Full,
}

impl DoneLog {
    /// Opens the log; cuts a torn tail, and leaves out what is of no use any more.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(path: &Path, now: Timestamp) -> std::io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
            read => read?,
        };
        let mut known = BTreeMap::new();
        let mut rest = &bytes[..];
        while let Parsed::Whole(record, length) = parse(rest) {
            rest = rest.get(length..).unwrap_or_default();
            let Ok(line) = rmp_serde::from_slice::<Line>(&record.body) else { continue };
            if line.keep_until > now {
                known
                    .insert(line.command_id, Known { keep_until: line.keep_until, reply: line.reply.map(Bytes::from) });
            }
        }
        let (file, bytes) = rewrite(path, &known)?;
        Ok(Self { path: path.to_owned(), file, bytes, known, swept_at: now, compact_above: COMPACT_ABOVE })
    }

    /// Looks a command up, and notes it if it is new.
    ///
    /// # Errors
    /// If it cannot be noted. Then it must not be carried out.
    pub fn begin(&mut self, id: &CommandId, keep_until: Timestamp, now: Timestamp) -> std::io::Result<Seen> {
        self.sweep(now)?;
        match self.known.get(id) {
            Some(Known { reply: Some(reply), .. }) => return Ok(Seen::Answered(reply.clone())),
            Some(Known { reply: None, .. }) => return Ok(Seen::Begun),
            None if self.known.len() >= MAX_REMEMBERED => return Ok(Seen::Full),
            None => {}
        }
        self.note(id, Known { keep_until, reply: None })?;
        Ok(Seen::Never)
    }

    fn sweep(&mut self, now: Timestamp) -> std::io::Result<()> {
        if now.millis_since(self.swept_at) < SWEEP_EVERY_MS {
            return Ok(());
        }
        self.swept_at = now;
        self.known.retain(|_, known| known.keep_until > now);
        if self.bytes > self.compact_above {
            (self.file, self.bytes) = rewrite(&self.path, &self.known)?;
            self.compact_above = COMPACT_ABOVE.max(2 * self.bytes);
        }
        Ok(())
    }

    /// Notes the answer to a command.
    ///
    /// # Errors
    /// If it cannot be noted.
    pub fn answered(&mut self, id: &CommandId, reply: Bytes) -> std::io::Result<()> {
        match self.known.get(id) {
            Some(known) => self.note(id, Known { keep_until: known.keep_until, reply: Some(reply) }),
            None => Ok(()),
        }
    }

    /// Forgets a command that was begun and did nothing.
    pub fn forget(&mut self, id: &CommandId) {
        self.known.remove(id);
    }

    fn note(&mut self, id: &CommandId, known: Known) -> std::io::Result<()> {
        let line = encode(id, &known)?;
        if let Err(error) = self.file.write_all(&line) {
            // A part of a line would hide what is written behind it.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.known.insert(id.clone(), known);
        Ok(())
    }
}

fn encode(id: &CommandId, known: &Known) -> std::io::Result<Vec<u8>> {
    let reply = known.reply.as_ref().map(|reply| reply.to_vec());
    let line = Line { command_id: id.clone(), keep_until: known.keep_until, reply };
    let body = rmp_serde::to_vec_named(&line).map_err(std::io::Error::other)?;
    let mut bytes = vec![];
    write(&mut bytes, 0, RecordKind::Mark, Position::default(), &body);
    Ok(bytes)
}

/// Writes the log anew, in another file that then takes its place.
fn rewrite(path: &Path, known: &BTreeMap<CommandId, Known>) -> std::io::Result<(File, u64)> {
    let mut bytes = vec![];
    for (id, known) in known {
        bytes.extend(encode(id, known)?);
    }
    let new = path.with_extension("new");
    std::fs::write(&new, &bytes)?;
    std::fs::rename(&new, path)?;
    Ok((File::options().append(true).open(path)?, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> CommandId {
        CommandId::new(format!("c{n}")).unwrap()
    }

    fn time(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn commands_are_known_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("done-commands.log");
        let mut log = DoneLog::open(&path, time(0)).unwrap();
        assert_eq!(log.begin(&id(1), time(1_000), time(0)).unwrap(), Seen::Never);
        log.answered(&id(1), Bytes::from_static(b"yes")).unwrap();
        assert_eq!(log.begin(&id(2), time(1_000), time(0)).unwrap(), Seen::Never);
        drop(log);
        // A line that was cut by a crash was never written.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&bytes.clone()[..20]);
        std::fs::write(&path, bytes).unwrap();
        let mut log = DoneLog::open(&path, time(10)).unwrap();
        assert_eq!(log.begin(&id(1), time(1_000), time(10)).unwrap(), Seen::Answered(Bytes::from_static(b"yes")));
        assert_eq!(log.begin(&id(2), time(1_000), time(10)).unwrap(), Seen::Begun);
        assert_eq!(log.begin(&id(3), time(1_000), time(10)).unwrap(), Seen::Never);
        drop(log);
        let mut log = DoneLog::open(&path, time(1_001)).unwrap();
        assert_eq!(log.begin(&id(1), time(2_000), time(1_001)).unwrap(), Seen::Never);
    }

    #[test]
    fn the_log_is_bounded_and_shrinks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("done-commands.log");
        let mut log = DoneLog::open(&path, time(0)).unwrap();
        for n in 0..MAX_REMEMBERED {
            assert_eq!(log.begin(&id(n), time(1_000), time(0)).unwrap(), Seen::Never);
        }
        assert_eq!(log.begin(&id(MAX_REMEMBERED), time(1_000), time(0)).unwrap(), Seen::Full);
        log.answered(&id(0), vec![0; 1_000_000].into()).unwrap();
        let large = std::fs::metadata(&path).unwrap().len();
        assert_eq!(log.begin(&id(MAX_REMEMBERED), time(3_000), time(2_000)).unwrap(), Seen::Never);
        assert!(std::fs::metadata(&path).unwrap().len() < large / 10);
        assert_eq!(log.begin(&id(MAX_REMEMBERED), time(3_000), time(2_000)).unwrap(), Seen::Begun);
    }
}
