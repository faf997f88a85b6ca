//! How we get in: the socket, the gateway's challenge, our signed answer, and what we were given.
//!
//! ```text
//! TCP ─► TLS (wss) ─► WebSocket ─► connect.challenge ─► connect (signed) ─► hello-ok: protocol, scopes, tick
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Secret, Timestamp};
use futures::{SinkExt, StreamExt};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{Connector, client_async_tls_with_config};

use super::{Link, LinkError, Opened, Socket, answer, left, tls};
use crate::clock;
use crate::openclaw::key::{DeviceKey, Signed};
use crate::openclaw::rows::OUR_NAME;

/// What we ask for: to read, to write, to archive and abort what others started, to answer requests.
pub(in crate::openclaw) const SCOPES: [&str; 4] =
    ["operator.read", "operator.write", "operator.admin", "operator.approvals"];
/// Without these we are of no use.
const NEEDED: [&str; 2] = ["operator.read", "operator.write"];
/// A closed enum of the gateway's: names of our own are refused (2026.9.6).
const CLIENT_ID: &str = "gateway-client";
const CLIENT_MODE: &str = "backend";
/// Events of tools; and without the other two a gateway refuses what needs leave instead of asking us (2026.9.6:
/// `canDeliverApprovals`).
const CAPS: [&str; 3] = ["tool-events", "exec-approvals", "plugin-approvals"];
/// How long the gateway may take to say its first word.
const CHALLENGE_WITHIN: Duration = Duration::from_secs(6);
/// The gateway's own limit for one frame (2026.9.6: `policy.maxPayload`).
const MAX_FRAME_BYTES: usize = 26_214_400;
/// Between two ticks where it does not tell.
const DEFAULT_TICK: Duration = Duration::from_secs(30);
const TICK: std::ops::RangeInclusive<u64> = 1_000..=300_000;

/// Where a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::openclaw) struct Endpoint {
    host: String,
    port: u16,
    is_tls: bool,
    path: String,
    /// The only authority that is trusted; the machine's own if absent.
    ca: Option<PathBuf>,
}

impl Endpoint {
    /// Reads `ws://`, `wss://`, `http://` or `https://`.
    pub fn parse(url: &str) -> Result<Self, LinkError> {
        let wrong = |what: &str| LinkError::Address(what.to_owned());
        let uri: Uri = url.trim().parse().map_err(|_| wrong("it cannot be read; write ws://host:18789/"))?;
        let is_tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(wrong("it begins neither with ws:// nor with wss://")),
        };
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(wrong("it must not hold a token or a password: those have a field of their own"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 18_789 });
        Ok(Self { host: host.to_owned(), port, is_tls, path: uri.path().trim_end_matches('/').to_owned(), ca: None })
    }

    /// The same, trusting only this authority.
    pub fn trusting(self, ca: Option<PathBuf>) -> Self {
        Self { ca, ..self }
    }

    /// What plain requests trust, if they are to be encrypted.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, String> {
        self.is_tls.then(|| tls::config(self.ca.as_deref())).transpose()
    }

    /// For people, and for the log.
    pub fn at(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The address of the same place for plain requests.
    pub fn http(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }

    fn ws(&self) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        format!("{scheme}://{}:{}{}/", self.host, self.port, self.path)
    }

    fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LinkError {
        LinkError::Unreachable { at: self.at(), source: Some(source.into()) }
    }

    fn not_a_gateway(&self, what: impl Into<String>) -> LinkError {
        LinkError::NotAGateway { at: self.at(), what: what.into() }
    }
}

/// What we were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::openclaw) struct Hello {
    /// Version of the protocol: 3 or 4.
    pub protocol: u64,
    /// The gateway's own version.
    pub version: String,
    /// What we may do; empty where an old gateway does not tell.
    pub scopes: Vec<String>,
    /// Between two ticks.
    pub tick: Duration,
    /// When the gateway began to run, if it tells.
    pub began_at: Option<Timestamp>,
}

impl Hello {
    /// True unless the gateway has told otherwise.
    pub fn may(&self, scope: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|s| s == scope || s == "operator.admin")
    }
}

/// Opens a connection, in all within `within`.
pub(in crate::openclaw) async fn open(
    endpoint: &Endpoint,
    token: &Secret,
    key: &DeviceKey,
    within: Duration,
) -> Result<Opened, LinkError> {
    let until = Instant::now() + within;
    let late = |_| endpoint.unreachable(format!("no answer within {within:?}"));
    let tcp = timeout(left(until), TcpStream::connect((endpoint.host.trim_matches(['[', ']']), endpoint.port)));
    let tcp = tcp.await.map_err(late)?.map_err(|error| endpoint.unreachable(error))?;
    let _ = tcp.set_nodelay(true);
    let mut socket = timeout(left(until), upgrade(endpoint, tcp)).await.map_err(late)??;
    let challenge = first_word(endpoint, &mut socket, left(until).min(CHALLENGE_WITHIN)).await?;
    let hello = timeout(left(until), introduce(endpoint, &mut socket, &challenge, token, key));
    let hello = hello.await.map_err(|_| endpoint.not_a_gateway("it does not answer our introduction"))??;
    if let Some(missing) = NEEDED.iter().find(|scope| !hello.may(scope)) {
        return Err(LinkError::Forbidden(format!(
            "the scope {missing} was not granted; approve this device on the gateway's machine \
             (openclaw devices list, openclaw devices approve) or use its shared token"
        )));
    }
    Ok(Link::around(socket, hello))
}

async fn upgrade(endpoint: &Endpoint, tcp: TcpStream) -> Result<Socket, LinkError> {
    let request = endpoint.ws().into_client_request().map_err(|error| LinkError::Address(error.to_string()))?;
    let config = endpoint.tls().map_err(|what| LinkError::Tls { at: endpoint.at(), what })?;
    let connector = config.map_or(Connector::Plain, Connector::Rustls);
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_FRAME_BYTES)).max_frame_size(Some(MAX_FRAME_BYTES));
    match client_async_tls_with_config(request, tcp, Some(config), Some(connector)).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(classify(endpoint, error).await),
    }
}

/// What a failed upgrade means.
async fn classify(endpoint: &Endpoint, error: WsError) -> LinkError {
    match error {
        WsError::Http(response) => {
            endpoint.not_a_gateway(format!("it answers HTTP {} instead of a WebSocket", response.status().as_u16()))
        }
        WsError::Tls(error) => LinkError::Tls { at: endpoint.at(), what: error.to_string() },
        WsError::Io(error) if endpoint.is_tls => LinkError::Tls { at: endpoint.at(), what: innermost(&error) },
        _ if !endpoint.is_tls && speaks_tls(endpoint).await => LinkError::Tls {
            at: endpoint.at(),
            what: "it expects an encrypted connection; write wss:// in place of ws://".into(),
        },
        error => endpoint.not_a_gateway(format!("it does not speak HTTP: {error}")),
    }
}

fn innermost(error: &std::io::Error) -> String {
    error.get_ref().map_or_else(|| error.to_string(), ToString::to_string)
}

/// True if what answers a plain request is an alert of TLS (record type 21, RFC 8446 section 5.1).
async fn speaks_tls(endpoint: &Endpoint) -> bool {
    let look = async {
        let mut tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.ok()?;
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.ok()?;
        let mut first = [0; 2];
        tcp.read_exact(&mut first).await.ok()?;
        Some(first == [21, 3])
    };
    timeout(Duration::from_secs(2), look).await.ok().flatten().unwrap_or(false)
}

/// The next frame that is JSON.
async fn next(endpoint: &Endpoint, socket: &mut Socket) -> Result<Value, LinkError> {
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Text(text)) => {
                let frame = serde_json::from_str(&text);
                return frame.map_err(|_| endpoint.not_a_gateway("its first words are not JSON"));
            }
            Ok(Message::Close(Some(close))) if u16::from(close.code) == 1013 => return Err(LinkError::NotReady),
            Ok(Message::Close(close)) => {
                let why = close.map(|close| format!("{} {}", u16::from(close.code), close.reason));
                return Err(endpoint.not_a_gateway(format!("it hung up: {}", why.unwrap_or_default())));
            }
            Ok(_) => {}
            Err(error) => return Err(endpoint.not_a_gateway(format!("it hung up: {error}"))),
        }
    }
    Err(endpoint.not_a_gateway("it hung up"))
}

async fn first_word(endpoint: &Endpoint, socket: &mut Socket, within: Duration) -> Result<Value, LinkError> {
    let frame = timeout(within, next(endpoint, socket)).await;
    let frame = frame.map_err(|_| endpoint.not_a_gateway("it opens a WebSocket and says nothing"))??;
    if frame.get("event").and_then(Value::as_str) != Some("connect.challenge") {
        return Err(endpoint.not_a_gateway("its first word is not a challenge"));
    }
    Ok(frame)
}

async fn introduce(
    endpoint: &Endpoint,
    socket: &mut Socket,
    challenge: &Value,
    token: &Secret,
    key: &DeviceKey,
) -> Result<Hello, LinkError> {
    let nonce = challenge.pointer("/payload/nonce").and_then(Value::as_str).unwrap_or_default();
    let signed_at_ms = challenge.pointer("/payload/ts").and_then(Value::as_i64).unwrap_or_default();
    let signed = Signed {
        client_id: CLIENT_ID,
        client_mode: CLIENT_MODE,
        role: "operator",
        scopes: &SCOPES,
        signed_at_ms,
        token: token.expose(),
        nonce,
    };
    let mut params = json!({
        "minProtocol": 3,
        "maxProtocol": 4,
        "client": {
            "id": CLIENT_ID, "mode": CLIENT_MODE, "displayName": OUR_NAME,
            "version": env!("CARGO_PKG_VERSION"), "platform": std::env::consts::OS,
        },
        "role": "operator",
        "scopes": SCOPES,
        "caps": CAPS,
        "device": {
            "id": key.id(), "publicKey": key.public(), "signature": key.sign(&signed),
            "signedAt": signed_at_ms, "nonce": nonce,
        },
    });
    if !token.is_empty()
        && let Some(params) = params.as_object_mut()
    {
        params.insert("auth".into(), json!({ "token": token.expose() }));
    }
    let request = json!({"type": "req", "id": "0", "method": "connect", "params": params}).to_string();
    socket.send(Message::text(request)).await.map_err(|error| endpoint.not_a_gateway(error.to_string()))?;
    loop {
        let frame = next(endpoint, socket).await?;
        if frame.get("type").and_then(Value::as_str) != Some("res") {
            continue;
        }
        let expected = frame.pointer("/error/details/expectedProtocol").and_then(Value::as_u64);
        return match answer(frame) {
            Err(LinkError::Refused { .. }) if expected.is_some() => {
                Err(LinkError::Version(versions(expected.unwrap_or_default())))
            }
            Ok(hello) => read_hello(endpoint, &hello),
            Err(LinkError::Refused { code, detail, message }) => Err(refused(&code, &detail, message)),
            Err(error) => Err(error),
        };
    }
}

pub(in crate::openclaw) fn read_hello(endpoint: &Endpoint, hello: &Value) -> Result<Hello, LinkError> {
    let protocol = hello.get("protocol").and_then(Value::as_u64);
    let protocol = protocol.ok_or_else(|| endpoint.not_a_gateway("its welcome names no protocol"))?;
    if !(3..=4).contains(&protocol) {
        return Err(LinkError::Version(versions(protocol)));
    }
    let tick = hello.pointer("/policy/tickIntervalMs").and_then(Value::as_u64);
    let scopes = hello.pointer("/auth/scopes").and_then(Value::as_array).cloned();
    // On protocol 4 an empty list is a list: connected, and allowed nothing.
    if protocol == 4 && scopes.as_ref().is_some_and(Vec::is_empty) {
        let sentence = "it granted no scope at all; approve this device (openclaw devices approve) or use its token";
        return Err(LinkError::Forbidden(sentence.into()));
    }
    let scopes = scopes.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let version = hello.pointer("/server/version").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let tick = tick.filter(|ms| TICK.contains(ms)).map_or(DEFAULT_TICK, Duration::from_millis);
    let uptime = hello.pointer("/snapshot/uptimeMs").and_then(Value::as_i64);
    let began_at = uptime.map(|ms| clock::now().plus_millis(ms.saturating_neg()));
    Ok(Hello { protocol, version, scopes, tick, began_at })
}

/// Which of the two is too old, for people.
fn versions(protocol: u64) -> String {
    let advice =
        if protocol > 4 { "it is newer: update this node agent" } else { "it is older: update OpenClaw there" };
    format!("{protocol}, and this node speaks 3 and 4; {advice}")
}

/// What a refused introduction means. By code and detail; the text is the gateway's and holds no token of ours.
fn refused(code: &str, detail: &str, message: String) -> LinkError {
    match (code, detail) {
        ("UNAVAILABLE", _) => LinkError::NotReady,
        ("PROTOCOL_MISMATCH", _) | (_, "PROTOCOL_MISMATCH") => LinkError::Version(message),
        ("NOT_PAIRED", "DEVICE_IDENTITY_REQUIRED") => LinkError::Unauthorized("it wants a token".into()),
        ("NOT_PAIRED", _) | (_, "PAIRING_REQUIRED") => LinkError::Forbidden(
            "this device is not approved yet; on the gateway's machine: openclaw devices list, then openclaw devices \
             approve"
                .into(),
        ),
        ("FORBIDDEN", _) => LinkError::Forbidden(message),
        (_, detail) if detail.starts_with("AUTH_") || detail.contains("TOKEN") => {
            LinkError::Unauthorized("the token is wrong or missing".into())
        }
        _ if message.to_lowercase().contains("unauthorized") => {
            LinkError::Unauthorized("the token is wrong or missing".into())
        }
        _ => LinkError::Refused { code: code.into(), detail: detail.into(), message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_secrets_in_them_refused() {
        let at = |url: &str| Endpoint::parse(url).map(|endpoint| endpoint.ws());
        assert_eq!(at("ws://127.0.0.1").unwrap(), "ws://127.0.0.1:18789/");
        assert_eq!(at("https://gate.example/claw/").unwrap(), "wss://gate.example:443/claw/");
        for wrong in ["gate:18789", "ftp://x", "ws://", "ws://user:pw@x/", "ws://x/?token=s3cret"] {
            let error = at(wrong).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && !error.contains("pw@"), "{error}");
        }
    }
}
