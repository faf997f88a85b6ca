//! Commands to nodes: signed, with a deadline, answered or told why not.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{
    Checkpoint, CheckpointLine, Command, CommandReply, NodeId, SCHEMA_VERSION, Subject, decode, encode, header,
    signed_bytes,
};

use super::{Bus, BusError};

/// How much later than the client's own deadline we give up: its begins only when the request has left.
const SLACK: Duration = Duration::from_millis(500);

/// A command got no answer, or none that can be read.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Nobody listens: the node is away.
    #[error("node {0} is away")]
    NodeAway(NodeId),
    /// There is no connection to the bus.
    #[error("the bus is away")]
    BusAway,
    /// The node did not answer in time: what became of the command is not known.
    #[error("node {node} did not answer within {seconds} s")]
    Deadline {
        /// Which node.
        node: NodeId,
        /// The deadline.
        seconds: u64,
    },
    /// The command is too large for the bus, or cannot be signed.
    #[error("the command cannot be sent: {0}")]
    Unsendable(String),
    /// The answer cannot be read.
    #[error("the answer of node {node} cannot be read: {detail}")]
    Unreadable {
        /// Which node.
        node: NodeId,
        /// Why.
        detail: String,
    },
}

impl Bus {
    /// The public half of the key that signs commands and checkpoints.
    pub fn signing_key(&self) -> String {
        self.inner.signer.public_key()
    }

    /// Signs a checkpoint of the audit log.
    ///
    /// # Errors
    /// [`BusError::Refused`], which a key with its seed does not give.
    pub fn sign_checkpoint(&self, checkpoint: Checkpoint) -> Result<CheckpointLine, BusError> {
        let checkpoint = Checkpoint { key: self.signing_key(), ..checkpoint };
        let wrong =
            |e: nkeys::error::Error| BusError::Refused { doing: "signing a checkpoint".into(), detail: e.to_string() };
        CheckpointLine::signed(checkpoint, |bytes| {
            self.inner.signer.sign(bytes).map(|signature| URL_SAFE_NO_PAD.encode(signature)).map_err(wrong)
        })
    }

    /// Whether a checkpoint bears the signature of the key with which this hub signs.
    pub fn is_signed_here(&self, line: &CheckpointLine) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(&line.checkpoint.signature);
        line.checkpoint.key == self.signing_key()
            && signature.is_ok_and(|signature| self.inner.signer.verify(&line.signed_bytes(), &signature).is_ok())
    }

    /// Signs a command, sends it to its node and waits for the answer.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn command(
        &self,
        command: &Command,
        request_id: &str,
        deadline: Duration,
    ) -> Result<CommandReply, CommandError> {
        if !self.is_connected() {
            return Err(CommandError::BusAway);
        }
        let node = command.node.clone();
        let subject = Subject::Command(command.workspace.clone(), node.clone());
        let payload = encode(command).map_err(|e| CommandError::Unsendable(e.to_string()))?;
        let signature = self.inner.signer.sign(&signed_bytes(&subject, &payload));
        let signature = signature.map_err(|e| CommandError::Unsendable(e.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::MSGPACK);
        headers.insert(header::SCHEMA, SCHEMA_VERSION.to_string().as_str());
        headers.insert(header::REQUEST_ID, request_id);
        headers.insert(header::KEY, self.inner.signer.public_key().as_str());
        if self.has_key_chain() {
            headers.insert(header::KEY_CHAIN, self.inner.key_chain.as_str());
        }
        headers.insert(header::SIGNATURE, URL_SAFE_NO_PAD.encode(signature).as_str());
        let request = Request::new()
            .payload(payload.into())
            .headers(headers)
            .inbox(self.inner.client.new_inbox())
            .timeout(Some(deadline));
        let asked = self.inner.client.send_request(subject.to_string(), request);
        let late = || CommandError::Deadline { node: node.clone(), seconds: deadline.as_secs() };
        let answer = tokio::time::timeout(deadline + SLACK, asked).await.map_err(|_| late())?;
        let answer = answer.map_err(|e| match e.kind() {
            RequestErrorKind::NoResponders => CommandError::NodeAway(node.clone()),
            RequestErrorKind::TimedOut => late(),
            _ => CommandError::Unsendable(e.to_string()),
        })?;
        let schema = answer.headers.as_ref().and_then(|h| h.get(header::SCHEMA)).map(|v| v.as_str());
        decode(&answer.payload, schema).map_err(|e| CommandError::Unreadable { node, detail: e.to_string() })
    }
}
