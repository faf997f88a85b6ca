//! One HTTP request over the engine's local socket whose answer is a stream of bytes without end.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// Longest explanation of an error that is read.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// The request or its answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Nobody listens.
    #[error("connecting")]
    Connect(#[source] std::io::Error),
    /// Not as HTTP wants it, or the connection broke.
    #[error("talking HTTP")]
    Http(#[source] hyper::Error),
    /// The request could not be written down.
    #[error("making a request")]
    Request(#[source] hyper::http::Error),
    /// It was refused.
    #[error("status {status}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
}

/// An answer, as it comes. Whoever does not read it makes the engine wait.
#[derive(Debug)]
pub(crate) struct LogBody {
    body: Incoming,
    /// The connection: ends with the body.
    _connection: JoinSet<()>,
}

impl LogBody {
    /// The next bytes; `None` at its end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(WireError::Http(error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// Asks for `path`, and gives the answer once its head is there.
pub(crate) async fn ask(socket: &Path, method: hyper::Method, path: &str) -> Result<LogBody, WireError> {
    let stream = UnixStream::connect(socket).await.map_err(WireError::Connect)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(WireError::Http)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // How it ended is told by the body.
        let _ = connection.await;
    });
    let request = hyper::Request::builder().method(method).uri(path).header(hyper::header::HOST, "docker");
    let request = request.body(Empty::<Bytes>::new()).map_err(WireError::Request)?;
    let response = sender.send_request(request).await.map_err(WireError::Http)?;
    let status = response.status();
    if !status.is_success() {
        let body = Limited::new(response.into_body(), MAX_MESSAGE_BYTES).collect().await;
        let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let said = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let message = said.as_ref().and_then(|said| said.get("message")?.as_str()).map(str::to_owned);
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned());
        return Err(WireError::Status { status: status.as_u16(), message });
    }
    Ok(LogBody { body: response.into_body(), _connection: tasks })
}
