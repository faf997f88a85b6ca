//! One subscription: reads a session's log from the disk, and tells its events.

use std::sync::Arc;

use bus_schema::{MessageId, MessageKind, Metadata, Role};
use tokio::sync::mpsc;

use super::session::Session;
use crate::clock;
use crate::provider::{AgentEvent, MessageDraft, News, Position};
use crate::pty::feed::begin;
use crate::pty::interpret::Interpreter;
use crate::pty::log::{Block, LogError, LogReader};

/// Blocks read at a time.
const BATCH: usize = 256;

/// A subscription.
pub(crate) struct Feed {
    session: Arc<Session>,
    events: mpsc::Sender<AgentEvent>,
    interpreter: Interpreter,
    /// The place behind the last block that was interpreted.
    offset: u64,
    /// The last position that the subscriber has.
    told: Position,
    /// Where the log begins, if that is behind the subscriber's place.
    gap: Option<u64>,
}

impl Feed {
    /// Prepares to tell what is behind `from`. Blocks: it reads files.
    pub fn open(session: Arc<Session>, from: Position, events: mpsc::Sender<AgentEvent>) -> Result<Self, LogError> {
        let (interpreter, offset) = begin(&session.shelf(), from)?;
        let gap = (offset > from.offset).then_some(offset);
        session.has(from.offset);
        Ok(Self { session, events, interpreter, offset, told: from, gap })
    }

    /// Tells events until the session is over or the subscriber gone.
    pub async fn run(mut self) {
        if !self.tell_gap().await {
            return;
        }
        let mut end = self.session.record.end();
        let mut reader = None;
        while !self.interpreter.has_ended() {
            let grown = end.wait_for(|end| *end > self.offset);
            let until = tokio::select! {
                grown = grown => match grown {
                    Ok(end) => *end,
                    Err(_) => return,
                },
                () = self.events.closed() => return,
            };
            let (dir, offset, own) = (self.session.folder.log(), self.offset, reader.take());
            let read = tokio::task::spawn_blocking(move || read(own, &dir, offset, until));
            let Ok(read) = read.await else { return };
            match read {
                Ok((next, blocks)) => {
                    reader = Some(next);
                    for block in blocks {
                        if !self.block(&block).await {
                            return;
                        }
                    }
                }
                Err(error) => {
                    // Deleted under us, since somebody acknowledged it: goes on at the next checkpoint.
                    let (session, told, before) = (Arc::clone(&self.session), self.told, self.offset);
                    let again = tokio::task::spawn_blocking(move || begin(&session.shelf(), told)).await;
                    match again {
                        Ok(Ok((interpreter, offset))) if offset > before => {
                            (self.interpreter, self.offset) = (interpreter, offset);
                        }
                        Ok(_) | Err(_) => {
                            tracing::error!(session_id = %self.session.id, %error, "log cannot be told on");
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Says that the beginning of the log is gone. It was acknowledged, but perhaps not by this subscriber.
    async fn tell_gap(&mut self) -> bool {
        let Some(base) = self.gap.take() else { return true };
        let Ok(message_id) = MessageId::new(format!("{}-gap{base:x}", self.session.id)) else { return true };
        let content = format!("what this session did before byte {base} of its log is no longer kept");
        let (timestamp, mut metadata) = (clock::now(), Metadata::new());
        metadata.insert("firstOffset".into(), base.into());
        let (role, kind) = (Role::System, MessageKind::Status);
        let draft = MessageDraft { message_id, role, kind, content, timestamp, metadata };
        self.told = Position { offset: base, index: 0 };
        let event = AgentEvent { position: self.told, at: timestamp, news: News::Message(draft) };
        self.events.send(event).await.is_ok()
    }

    /// Tells what a block says. False once there is nobody to tell, or nothing more.
    async fn block(&mut self, block: &Block) -> bool {
        let events = self.interpreter.block(block);
        self.offset = block.end;
        if let Some((base, bytes)) = self.interpreter.take_checkpoint() {
            self.session.checkpoints.keep(base, bytes).await;
        }
        for event in events {
            if event.position <= self.told {
                continue;
            }
            self.told = event.position;
            if self.events.send(event).await.is_err() {
                return false;
            }
        }
        !self.interpreter.has_ended()
    }
}

/// The next blocks before `until`.
fn read(
    own: Option<LogReader>,
    dir: &std::path::Path,
    offset: u64,
    until: u64,
) -> Result<(LogReader, Vec<Block>), LogError> {
    let mut reader = match own {
        Some(reader) => reader,
        None => LogReader::open(dir, offset)?,
    };
    let (mut blocks, mut at) = (vec![], offset);
    while at < until && blocks.len() < BATCH {
        let Some(block) = reader.next()? else { break };
        at = block.end;
        blocks.push(block);
    }
    Ok((reader, blocks))
}
