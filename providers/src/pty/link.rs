//! The node agent's side of the holder's protocol: one connection for each call, and one for each reader of the log. A
//! call that hangs holds nothing up but itself.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::files::SessionDir;
use super::protocol::{Answer, Call, Fault, FromHolder, NEWEST, OLDEST, ProtocolError, ToHolder, frame, take_frame};
use super::socket;

/// How long a connection may take: the holder answers at once or is not well.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A connection to a holder.
pub(crate) struct Link {
    stream: UnixStream,
    input: Vec<u8>,
}

/// A call was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection, or it broke.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The holder did not do it.
    #[error("{}", .0.reason)]
    Fault(Fault),
    /// It took too long.
    #[error("the holder did not answer within {0} s")]
    Deadline(u64),
}

impl CallError {
    /// True if nobody listens there.
    pub fn is_gone(&self) -> bool {
        use std::io::ErrorKind as Kind;
        matches!(self, CallError::Protocol(ProtocolError::Io(error)) if matches!(error.kind(),
            Kind::NotFound | Kind::ConnectionRefused | Kind::ConnectionReset | Kind::BrokenPipe | Kind::UnexpectedEof))
    }
}

impl Link {
    /// Connects to the holder of a session, and agrees on a version.
    pub async fn connect(dir: &Path) -> Result<Self, CallError> {
        let connect = async {
            let open = std::fs::File::open(dir).map_err(ProtocolError::Io)?;
            let path = socket::short_path(&open, SessionDir::HOLDER_SOCKET);
            let stream = UnixStream::connect(path).await.map_err(ProtocolError::Io)?;
            let mut link = Self { stream, input: vec![] };
            link.send(&ToHolder::Hello { oldest: OLDEST, newest: NEWEST }).await?;
            match link.receive().await? {
                FromHolder::Hello { .. } => Ok(link),
                FromHolder::Refused { reason, oldest, newest } => {
                    Err(ProtocolError::Version { reason, oldest, newest })
                }
                FromHolder::Log { .. } | FromHolder::Reply { .. } | FromHolder::Go => Err(ProtocolError::Unexpected),
            }
        };
        let late = |_| CallError::Deadline(CONNECT_WITHIN.as_secs());
        Ok(tokio::time::timeout(CONNECT_WITHIN, connect).await.map_err(late)??)
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &ToHolder) -> Result<(), ProtocolError> {
        Ok(self.stream.write_all(&frame(message)?).await?)
    }

    /// Waits for one message.
    ///
    /// # Cancel safety
    /// Safe: what has come of a message is kept.
    pub async fn receive(&mut self) -> Result<FromHolder, ProtocolError> {
        loop {
            if let Some(message) = take_frame(&mut self.input)? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ProtocolError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Calls the holder of the session in `dir`.
pub(crate) async fn call(dir: &Path, call: Call, within: Duration) -> Result<Answer, CallError> {
    let exchange = async {
        let mut link = Link::connect(dir).await?;
        link.send(&ToHolder::Call { id: 1, call }).await?;
        match link.receive().await? {
            FromHolder::Reply { result, .. } => result.map_err(CallError::Fault),
            FromHolder::Hello { .. } | FromHolder::Refused { .. } | FromHolder::Log { .. } | FromHolder::Go => {
                Err(CallError::Protocol(ProtocolError::Unexpected))
            }
        }
    };
    tokio::time::timeout(within, exchange).await.unwrap_or(Err(CallError::Deadline(within.as_secs())))
}
