//! The older REST form of a gateway, where there is no WebSocket: `GET /sessions`, `GET /sessions/KEY/history`,
//! `POST /sessions/KEY/send`. Polled; it can be read and written to, and nothing else.
//!
//! No release that we know of answers so (measured on 2026.1.30, 2026.3.13, 2026.4.15 and 2026.9.6: the first is the
//! web page, the last does not exist); what fronts a gateway may. So it is believed only where the answer is JSON with
//! a list in it; over `https://` with the same trust that the WebSocket has.

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Delivery, MessageId, Secret};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::core::Core;
use super::gateway::Gateway;
use super::link::Endpoint;
use super::rows::parts;
use super::session::Session;
use crate::provider::InjectOutcome;

/// How long one request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// Looks that may fail before the gateway counts as away.
const FAILURES_MAX: u32 = 3;
/// Longest answer that is read.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// A client of one gateway. A clone is the same one.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: Secret,
}

impl Client {
    /// One, if there really is such an API.
    pub async fn probe(endpoint: &Endpoint, token: &Secret) -> Option<Self> {
        let mut http = reqwest::Client::builder().timeout(ANSWER_WITHIN);
        if let Some(config) = endpoint.tls().ok()? {
            // A redirect to a plain address would show the token to everybody on the way.
            http = http.use_preconfigured_tls(ClientConfig::clone(&config)).https_only(true);
        }
        let http = http.build().ok()?;
        let client = Self { http, base: endpoint.http(), token: token.clone() };
        client.sessions().await.ok().map(|_| client)
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let request = self.http.get(format!("{}{path}", self.base)).header(ACCEPT, "application/json");
        read(request.bearer_auth(self.token.expose()).send().await).await
    }

    async fn sessions(&self) -> Result<Vec<Value>, String> {
        let mut answer = self.get("/sessions").await?;
        let list = answer.get_mut("sessions").map(Value::take).unwrap_or(answer);
        let Value::Array(mut rows) = list else { return Err("the list of sessions is none".into()) };
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            let key = ["key", "sessionKey", "id"].iter().find_map(|name| row.get(*name)).cloned();
            let key = key.unwrap_or_default();
            row.entry("sessionId").or_insert_with(|| key.clone());
            row.insert("key".into(), key);
            if !row.contains_key("hasActiveRun") {
                let is_active = row.get("status").and_then(Value::as_str) == Some("running");
                row.insert("hasActiveRun".into(), is_active.into());
            }
        }
        Ok(rows)
    }

    async fn history(&self, key: &str) -> Result<Vec<Value>, String> {
        let mut answer = self.get(&format!("/sessions/{}/history", escape(key))).await?;
        match answer.get_mut("messages").map(Value::take).unwrap_or(answer) {
            Value::Array(rows) => Ok(rows),
            _ => Err("a history is none".into()),
        }
    }

    /// Sends a message. Never twice: without a record at the other end, an answer that did not come stays unknown.
    pub async fn send(&self, key: &str, message_id: &MessageId, text: &str) -> InjectOutcome {
        let url = format!("{}/sessions/{}/send", self.base, escape(key));
        let body = json!({"message": text, "idempotencyKey": message_id.as_str()});
        let request = self.http.post(url).bearer_auth(self.token.expose()).header(CONTENT_TYPE, "application/json");
        let (state, reason) = match request.body(body.to_string()).send().await {
            Ok(answer) if answer.status().is_success() => (Delivery::Written, None),
            Ok(answer) => (Delivery::Refused, Some(format!("the gateway answers HTTP {}", answer.status().as_u16()))),
            Err(error) if error.is_connect() => (Delivery::Refused, Some("nobody answers at the gateway".to_owned())),
            Err(_) => (Delivery::NotKnown, Some("the gateway did not confirm it".to_owned())),
        };
        InjectOutcome { state, mode: None, reason }
    }
}

async fn read(answer: Result<reqwest::Response, reqwest::Error>) -> Result<Value, String> {
    let mut answer = answer.map_err(|error| error.without_url().to_string())?;
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    if !status.is_success() {
        return Err(format!("HTTP {}", status.as_u16()));
    }
    if !kind.starts_with("application/json") {
        return Err(format!("it answers {kind:?} instead of JSON"));
    }
    let mut bytes = vec![];
    while let Some(more) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
        bytes.extend_from_slice(&more);
        if bytes.len() > MAX_BYTES {
            return Err("its answer is too long".into());
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// A key as one segment of a path.
fn escape(key: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    key.bytes().map(|b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Looks at the sessions until the gateway is away; says why.
pub(super) async fn poll(gateway: &Arc<Gateway>, core: &Core, client: Client) -> String {
    gateway.set_rest(Some(client.clone()));
    let mut failures = 0;
    loop {
        match look(gateway, core, &client).await {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                if failures >= FAILURES_MAX {
                    return why;
                }
            }
        }
        tokio::select! {
            () = sleep(POLL_EVERY) => {}
            () = gateway.look.notified() => {}
        }
    }
}

async fn look(gateway: &Gateway, core: &Core, client: &Client) -> Result<(), String> {
    for row in client.sessions().await? {
        let Some(session) = core.take_row(gateway.id(), &row, false) else { continue };
        if session.ended_at().is_none() {
            look_at(&session, client, &row).await?;
        }
    }
    Ok(())
}

async fn look_at(session: &Session, client: &Client, row: &Value) -> Result<(), String> {
    let rows = client.history(&session.birth().key).await?;
    session.take_parts(parts(&rows));
    session.take_row(row, true);
    Ok(())
}
