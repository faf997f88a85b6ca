//! Operator messages that were handed over to one session: on disk before the handing over begins, so that a message is
//! never handed over twice, whoever is killed in between.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bus_schema::{Delivery, MessageId};
use serde::{Deserialize, Serialize};

use crate::provider::InjectOutcome;

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    message_id: MessageId,
    #[serde(flatten)]
    step: Step,
}

/// How far a message is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "step")]
enum Step {
    /// It is being handed over.
    Begun,
    /// It was.
    Done { outcome: InjectOutcome },
    /// Nothing of it left us.
    Withdrawn,
}

/// The journal of one session.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Option<File>,
    known: BTreeMap<MessageId, Step>,
}

impl Journal {
    /// Reads it. A torn last line was never acted on.
    pub fn open(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let mut known = BTreeMap::new();
        for Line { message_id, step } in lines {
            known.insert(message_id, step);
        }
        Self { path: path.into(), file: None, known }
    }

    /// What became of a message; `None` if it was never handed over.
    pub fn outcome(&self, message: &MessageId) -> Option<InjectOutcome> {
        match self.known.get(message)? {
            Step::Begun => Some(InjectOutcome {
                state: Delivery::NotKnown,
                mode: None,
                reason: Some("the node agent ended while it handed the message over".into()),
            }),
            Step::Done { outcome } => Some(outcome.clone()),
            Step::Withdrawn => None,
        }
    }

    /// The handing over begins.
    pub fn begin(&mut self, message: &MessageId) -> io::Result<()> {
        self.write(message, Step::Begun)
    }

    /// It came to this.
    pub fn done(&mut self, message: &MessageId, outcome: InjectOutcome) -> io::Result<()> {
        self.write(message, Step::Done { outcome })
    }

    /// Nothing of it was handed over.
    pub fn withdraw(&mut self, message: &MessageId) -> io::Result<()> {
        self.write(message, Step::Withdrawn)
    }

    fn write(&mut self, message: &MessageId, step: Step) -> io::Result<()> {
        let line = serde_json::to_vec(&Line { message_id: message.clone(), step: step.clone() })?;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => File::options().create(true).append(true).open(&self.path)?,
        };
        // Begins with a newline too: what was torn before it stays a line of its own.
        file.write_all(&[b"\n", &line[..], b"\n"].concat())?;
        file.sync_data()?;
        self.file = Some(file);
        self.known.insert(message.clone(), step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MessageId {
        MessageId::new(text).unwrap()
    }

    #[test]
    fn what_was_begun_and_not_ended_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("injections");
        let mut journal = Journal::open(&path);
        let written = InjectOutcome { state: Delivery::Written, mode: None, reason: None };
        for message in ["m1", "m2", "m3"] {
            assert_eq!(journal.outcome(&id(message)), None);
            journal.begin(&id(message)).unwrap();
        }
        journal.done(&id("m1"), written.clone()).unwrap();
        journal.withdraw(&id("m3")).unwrap();
        // A crash in the middle of a line.
        std::fs::File::options().append(true).open(&path).unwrap().write_all(b"{\"messageId\":\"m9").unwrap();
        let mut again = Journal::open(&path);
        assert_eq!(again.outcome(&id("m1")), Some(written.clone()));
        assert_eq!(again.outcome(&id("m2")).map(|outcome| outcome.state), Some(Delivery::NotKnown));
        assert_eq!((again.outcome(&id("m3")), again.outcome(&id("m9"))), (None, None));
        again.done(&id("m4"), written.clone()).unwrap();
        assert_eq!(Journal::open(&path).outcome(&id("m4")), Some(written));
    }
}
