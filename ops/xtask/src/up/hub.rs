//! Talking to the hub: a few lines of HTTP, over TLS where the stack has it, since one local server is asked a few
//! questions.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use super::files::Account;
use crate::say;

/// Longest wait for one read or write. A hub that was asked too early is asked again.
const WITHIN: Duration = Duration::from_secs(10);

/// The hub of the stack.
pub(super) struct Hub {
    url: String,
    /// Whom we trust, if the hub speaks HTTPS.
    tls: Option<Arc<rustls::ClientConfig>>,
    cookie: Option<String>,
    /// True once it was told why it cannot become ready.
    told: Cell<bool>,
}

struct Reply {
    status: u16,
    head: String,
    body: Value,
}

impl Hub {
    /// At that address; with an authority it has to show a certificate of it.
    pub fn new(url: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let tls = ca.map(trusting).transpose()?;
        Ok(Self { url: url.trim_end_matches('/').into(), tls, cookie: None, told: Cell::new(false) })
    }

    /// `Some` once it says that it is ready.
    pub fn is_ready(&self) -> Option<()> {
        let reply = self.ask("GET", "/readyz", None).ok()?;
        if reply.status != 200 {
            let waits = reply.body.pointer("/waiting/0").and_then(Value::as_str);
            // Waiting does not help against that one: told at once, and once.
            if let Some(why) = waits.filter(|why| why.contains("has no room"))
                && !self.told.replace(true)
            {
                say::error(why);
            }
        }
        (reply.status == 200).then_some(())
    }

    pub fn sign_in(&mut self, account: &Account) -> anyhow::Result<()> {
        let body = json!({"email": account.email, "password": account.password});
        let reply = self.ask("POST", "/api/auth/login", Some(&body)).context("sign in at the hub")?;
        ensure!(
            reply.status < 300,
            "the hub does not take the password of {} in users.json ({}); was the file made anew? Set the old one back, \
             or begin with another --data",
            account.email,
            reply.status
        );
        let cookies = reply.head.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("set-cookie").then(|| value.trim().split(';').next().unwrap_or_default())
        });
        self.cookie = Some(cookies.collect::<Vec<_>>().join("; "));
        Ok(())
    }

    /// `Some` once the hub hears from the node.
    pub fn node_online(&self, node: &str) -> Option<()> {
        let nodes = self.nodes().ok()?;
        let online = |n: &&Value| n.get("node") == Some(&json!(node)) && n.get("online") == Some(&json!(true));
        nodes.iter().find(online).map(|_| ())
    }

    pub fn nodes(&self) -> anyhow::Result<Vec<Value>> {
        let reply = self.ask("GET", "/api/nodes", None)?;
        ensure!(reply.status == 200, "GET /api/nodes: {}", reply.status);
        Ok(reply.body.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Starts the demo agent, unless something is alive already.
    pub fn ensure_session(&self, node: &str) -> anyhow::Result<()> {
        let path = "/api/mission-control/sessions";
        let reply = self.ask("GET", path, None)?;
        ensure!(reply.status == 200, "GET {path}: {}", reply.status);
        if reply.body.get("sessions").and_then(Value::as_array).is_some_and(|sessions| !sessions.is_empty()) {
            return Ok(());
        }
        let body = json!({"node": node, "profile": "demo", "title": "A first look around"});
        let reply = self.ask("POST", path, Some(&body))?;
        ensure!(reply.status < 300, "POST {path}: {} {}", reply.status, reply.body);
        say::good("the demo agent is at work");
        Ok(())
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Reply> {
        let (_, host) = self.url.split_once("://").context("the hub's address has no scheme")?;
        let socket = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
        socket.set_read_timeout(Some(WITHIN))?;
        socket.set_write_timeout(Some(WITHIN))?;
        // HTTP/1.0, so that the answer is not chunked and ends with the connection.
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nOrigin: {}\r\n", self.url);
        if let Some(cookie) = &self.cookie {
            request.push_str(&format!("Cookie: {cookie}\r\n"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            request.push_str("Content-Type: application/json\r\n");
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let answer = match &self.tls {
            None => exchange(socket, &request),
            Some(tls) => {
                let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
                let name = ServerName::try_from(name.to_owned()).context("the hub's name")?;
                exchange(
                    rustls::StreamOwned::new(rustls::ClientConnection::new(Arc::clone(tls), name)?, socket),
                    &request,
                )
            }
        };
        let answer = answer.with_context(|| format!("{method} {path}"))?;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("{method} {path}: not HTTP") };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        Ok(Reply { status, head: head.into(), body: serde_json::from_str(body).unwrap_or_default() })
    }
}

/// Trusts that authority and no other.
fn trusting(ca: &Path) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(ca).with_context(|| format!("read {}", ca.display()))?;
    roots.add(authority).with_context(|| format!("trust {}", ca.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
