//! A few lines of HTTP/1.1, enough to ask a local server something in a test.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};

/// Longest wait for one read or write.
const WITHIN: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// Status code.
    pub status: u16,
    /// Body, whole.
    pub body: String,
}

impl HttpReply {
    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// `GET url`, for `http://HOST:PORT/PATH`.
///
/// # Errors
/// No connection, no answer in time, or not HTTP.
pub fn http_get(url: &str) -> anyhow::Result<HttpReply> {
    exchange("GET", url, "")
}

/// `POST url` with a JSON body.
///
/// # Errors
/// No connection, no answer in time, or not HTTP.
pub fn http_post(url: &str, body: &serde_json::Value) -> anyhow::Result<HttpReply> {
    exchange("POST", url, &body.to_string())
}

fn exchange(method: &str, url: &str, body: &str) -> anyhow::Result<HttpReply> {
    let rest = url.strip_prefix("http://").context("only http:// here")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, WITHIN).with_context(|| format!("connect to {host}"))?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    // HTTP/1.0, so that the answer is not chunked and ends with the connection.
    let head = format!("{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer).with_context(|| format!("{method} {url}"))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("{method} {url}: not HTTP: {answer:.200}") };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    Ok(HttpReply { status, body: body.into() })
}
