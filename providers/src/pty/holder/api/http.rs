//! HTTP/1.1 to an agent that serves an API on this machine: blocking, on loopback only, every wait with a deadline.
//!
//! Laws:
//! 1. The password goes only to a socket of our own user: whoever else listens there gets nothing.
//! 2. An error says whether the agent can have got the request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer may take. Seen with OpenCode 1.18.33 on a busy machine: 14 s while it set itself up; a request
/// that came too early was never answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long a stream may be silent: OpenCode sends a heartbeat every 10 s.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// Longest line of a head or of a stream: a tool's output is in one event.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;
/// Largest answer: the last messages of a conversation.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// Where an agent serves its API, and what it asks for. Not to be printed.
pub(crate) struct Address {
    /// The port on loopback.
    pub port: u16,
    /// Who we are there.
    pub user: String,
    /// The secret that only its session and its holder have.
    pub password: String,
}

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It never left.
    #[error("its API cannot be reached")]
    Away(#[source] io::Error),
    /// What became of it is not known.
    #[error("its API did not answer")]
    Silent(#[source] io::Error),
    /// It was refused.
    #[error("its API answered {0}: {1}")]
    Refused(u16, String),
}

impl Address {
    /// Asks for something.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let (status, body) = self.open(method, path, body)?;
        let mut bytes = vec![];
        body.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).map_err(ApiError::Silent)?;
        if !(200..300).contains(&status) {
            let text: String = String::from_utf8_lossy(&bytes).chars().take(300).collect();
            return Err(ApiError::Refused(status, text));
        }
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Follows a stream of events.
    pub fn events(&self, path: &str) -> Result<Events, ApiError> {
        let (status, body) = self.open("GET", path, None)?;
        if status != 200 {
            return Err(ApiError::Refused(status, String::new()));
        }
        body.set_patience(SILENT_FOR).map_err(ApiError::Silent)?;
        Ok(Events { lines: BufReader::new(body) })
    }

    fn open(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Body), ApiError> {
        if !is_ours(self.port) {
            return Err(ApiError::Away(io::ErrorKind::ConnectionRefused.into()));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN).map_err(ApiError::Away)?;
        let answered = Some(ANSWER_WITHIN);
        let set = stream.set_read_timeout(answered).and_then(|()| stream.set_write_timeout(answered));
        set.map_err(ApiError::Away)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let secret = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Basic {secret}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(ApiError::Silent)?;
        Body::of(stream).map_err(ApiError::Silent)
    }
}

/// True if a process of our own user listens on this port of loopback.
fn is_ours(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let wanted = format!("0100007F:{port:04X}");
    let own = rustix::process::geteuid().as_raw().to_string();
    sockets.lines().any(|line| {
        // Columns: number, local address, remote address, state (0A: it listens), queues, timers, retransmits, user.
        let columns: Vec<&str> = line.split_whitespace().collect();
        let column = |at: usize| columns.get(at).copied().unwrap_or_default();
        column(1) == wanted && column(3) == "0A" && column(7) == own
    })
}

/// How much of a body is left.
enum Left {
    Bytes(u64),
    Chunk(u64),
    ToItsEnd,
}

/// The body of an answer.
struct Body {
    stream: BufReader<TcpStream>,
    left: Left,
}

impl Body {
    /// Reads the head.
    fn of(stream: TcpStream) -> io::Result<(u16, Self)> {
        let mut stream = BufReader::new(stream);
        let first = line(&mut stream)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
        let mut left = Left::ToItsEnd;
        loop {
            let header = line(&mut stream)?;
            if header.is_empty() {
                break;
            }
            let Some((name, value)) = header.split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => left = Left::Bytes(value.trim().parse().map_err(|_| broken())?),
                "transfer-encoding" if value.trim().eq_ignore_ascii_case("chunked") => left = Left::Chunk(0),
                _ => {}
            }
        }
        if status == 204 {
            left = Left::Bytes(0);
        }
        Ok((status, Self { stream, left }))
    }

    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Left::Chunk(0) = self.left {
            let mut size = line(&mut self.stream)?;
            if size.is_empty() {
                // The end of the chunk before.
                size = line(&mut self.stream)?;
            }
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| broken())?;
            self.left = if size == 0 { Left::Bytes(0) } else { Left::Chunk(size) };
        }
        let most = match self.left {
            Left::Bytes(left) | Left::Chunk(left) => left,
            Left::ToItsEnd => u64::MAX,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.stream.read(buffer.get_mut(..most).unwrap_or_default())?;
        match &mut self.left {
            Left::Bytes(left) | Left::Chunk(left) => {
                if count == 0 && *left > 0 && most > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
            }
            Left::ToItsEnd => {}
        }
        Ok(count)
    }
}

/// A line without its end; an error where there is none.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = vec![];
    let count = stream.take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)?;
    if count == 0 || !bytes.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not HTTP")
}

/// A stream of server-sent events with JSON in them.
pub(crate) struct Events {
    lines: BufReader<Body>,
}

impl Events {
    /// The next one.
    ///
    /// # Errors
    /// The stream is over, or was silent for too long.
    pub fn next(&mut self) -> io::Result<Value> {
        loop {
            let line = line(&mut self.lines)?;
            if let Some(event) = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok()) {
                return Ok(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with this, and gives what was asked.
    fn answering(answer: &'static str) -> (Address, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        (Address { port, user: "opencode".into(), password: "s3".into() }, served)
    }

    #[test]
    fn an_answer_in_chunks_is_read_and_the_password_is_shown() {
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n";
        let (address, served) = answering(chunks);
        let body = serde_json::json!({"x": "y"});
        assert_eq!(address.call("POST", "/p", Some(&body)).unwrap(), serde_json::json!({"a": 1}));
        let asked = served.join().unwrap();
        assert!(asked.starts_with("POST /p HTTP/1.1\r\n") && asked.ends_with("\r\n\r\n{\"x\":\"y\"}"), "{asked}");
        assert!(asked.contains("Authorization: Basic b3BlbmNvZGU6czM=\r\n"), "{asked}");
    }

    #[test]
    fn a_refusal_says_why_and_a_cut_answer_is_none() {
        let (address, served) = answering("HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno");
        let refused = address.call("GET", "/", None).unwrap_err();
        assert!(matches!(&refused, ApiError::Refused(400, text) if text == "no"), "{refused}");
        served.join().unwrap();
        let (address, served) = answering("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"a\"");
        assert!(matches!(address.call("GET", "/", None), Err(ApiError::Silent(_))));
        served.join().unwrap();
    }

    #[test]
    fn nothing_is_sent_where_nobody_of_ours_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_ours(port));
        drop(listener);
        let address = Address { port, user: "u".into(), password: "p".into() };
        assert!(matches!(address.call("GET", "/", None), Err(ApiError::Away(_))));
    }

    #[test]
    fn events_come_one_by_one() {
        let stream = "HTTP/1.1 200 OK\r\n\r\ndata: {\"type\":\"a\"}\n\n: x\n\ndata: {\"type\":\"b\"}\n\n";
        let (address, served) = answering(stream);
        let mut events = address.events("/event").unwrap();
        assert_eq!(events.next().unwrap()["type"], "a");
        assert_eq!(events.next().unwrap()["type"], "b");
        assert!(events.next().is_err());
        served.join().unwrap();
    }
}
