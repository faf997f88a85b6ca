//! A person at the hub's API.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::sse::Events;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Somebody at the API, signed in or not.
#[derive(Clone, Debug)]
pub struct Person {
    http: reqwest::Client,
    url: String,
    cookie: Option<String>,
    workspace: Option<String>,
    token: Option<String>,
}

impl Person {
    /// Nobody yet, at the hub of that address.
    pub fn nobody(url: impl Into<String>) -> Self {
        Self { http: reqwest::Client::new(), url: url.into(), cookie: None, token: None, workspace: None }
    }

    /// A script with that API token, at the hub of that address.
    pub fn with_token(url: impl Into<String>, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..Self::nobody(url) }
    }

    /// A browser with that cookie (`name=value`), at the hub of that address.
    pub fn with_cookie(url: impl Into<String>, cookie: impl Into<String>) -> Self {
        Self { cookie: Some(cookie.into()), ..Self::nobody(url) }
    }

    /// The same person, who trusts that authority (a PEM file) and no other.
    ///
    /// # Errors
    /// There is no certificate in it.
    pub fn trusting(self, ca: &Path) -> anyhow::Result<Self> {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(ca).with_context(|| format!("read {}", ca.display()))?)?;
        let http = reqwest::Client::builder().tls_built_in_root_certs(false).add_root_certificate(ca).build()?;
        Ok(Self { http, ..self })
    }

    /// The same person at another address of the hub.
    pub fn at(&self, url: impl Into<String>) -> Self {
        Self { url: url.into(), ..self.clone() }
    }

    /// The same person, in that workspace.
    pub fn in_workspace(&self, workspace: &str) -> Self {
        Self { workspace: Some(workspace.into()), ..self.clone() }
    }

    /// Signs in.
    ///
    /// # Errors
    /// The hub does not answer or refuses.
    pub async fn sign_in(&self, email: &str, password: &str) -> anyhow::Result<Self> {
        let body = json!({"email": email, "password": password});
        let answer = self.send(Method::POST, "/api/auth/login", Some(&body)).await?;
        let status = answer.status();
        let cookie = answer.headers().get("set-cookie").and_then(|v| v.to_str().ok()).map(str::to_owned);
        ensure!(status == StatusCode::NO_CONTENT, "sign-in of {email}: {status}: {}", answer.text().await?);
        let cookie = cookie.context("no cookie")?;
        Ok(Self { cookie: cookie.split(';').next().map(str::to_owned), ..self.clone() })
    }

    /// A request as this person.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(workspace) = &self.workspace {
            request = request.header("x-workspace", workspace);
        }
        match (&self.cookie, &self.token) {
            (Some(cookie), _) => request.header("cookie", cookie),
            (None, Some(token)) => request.bearer_auth(token),
            (None, None) => request,
        }
    }

    /// Asks something, with a JSON body or without.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Response> {
        let mut request = self.request(method, path).timeout(WITHIN);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.with_context(|| format!("ask {path}"))
    }

    /// The JSON at a path.
    ///
    /// # Errors
    /// The hub does not answer, or not with 200.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.send(Method::GET, path, None).await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status == StatusCode::OK, "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// What a post is answered with: status and JSON (or text).
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<(u16, Value)> {
        let answer = self.send(Method::POST, path, Some(&body)).await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Every message of a session behind `after`, page by page.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn messages(&self, session: &str, mut after: u64) -> anyhow::Result<Vec<Value>> {
        let mut all = vec![];
        loop {
            let path = format!("/api/mission-control/sessions/{session}/messages?limit=500&after={after}");
            let page = self.get(&path).await?;
            let messages = page["messages"].as_array().context("messages")?.clone();
            after = messages.last().and_then(|m| m["seq"].as_u64()).unwrap_or(after);
            all.extend(messages);
            if page["hasMore"] == false {
                return Ok(all);
            }
        }
    }

    /// Opens a stream of events.
    ///
    /// # Errors
    /// The hub does not answer, or not with 200.
    pub async fn events(&self, path: &str) -> anyhow::Result<Events> {
        let answer = self.request(Method::GET, path).send().await?;
        let status = answer.status();
        ensure!(status == StatusCode::OK, "{path}: {status}");
        Ok(Events::of(answer))
    }

    /// Starts a session from a profile; its id.
    ///
    /// # Errors
    /// The hub does not answer, or refuses.
    pub async fn spawn(&self, node: &str, profile: &str) -> anyhow::Result<String> {
        self.spawn_with(json!({"node": node, "profile": profile})).await
    }

    /// Starts a session with everything said; its id.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub async fn spawn_with(&self, body: Value) -> anyhow::Result<String> {
        let (status, answer) = self.post("/api/mission-control/sessions", body).await?;
        ensure!(status == 201, "spawn: {status}: {answer}");
        Ok(answer["session"]["sessionId"].as_str().context("sessionId")?.to_owned())
    }

    /// One session.
    ///
    /// # Errors
    /// The hub does not answer, or does not know it.
    pub async fn session(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.get(&format!("/api/mission-control/sessions/{id}")).await?["session"].take())
    }

    /// Does something with a session: `pause`, `kill`, …
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn act(&self, id: &str, verb: &str) -> anyhow::Result<(u16, Value)> {
        self.post(&format!("/api/mission-control/sessions/{id}/{verb}"), json!({})).await
    }
}
