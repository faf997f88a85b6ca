//! `mosaic tail`: watches a workspace with a reader's credentials.
//!
//! Subscribes to what the streams have stored (`live.…`) and to the partial texts; creates no consumer, publishes
//! nothing. So it sees what happens from now on; what was before is the hub's to tell.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::{Client, ConnectOptions, Event, Message};
use bus_schema::{Kind, SessionId, Subject, WorkspaceId, inbox_prefix};
use clap::Args;
use futures::StreamExt;
use futures::stream::select_all;
use tokio::sync::mpsc;

use crate::render::Renderer;
use crate::{complain, decode, json};

/// Where `cargo xtask up` puts the reader's credentials.
const LOCAL_CREDS: &str = ".mosaic/identity/creds/reader.creds";
/// News of the connection that wait to be told; more at once are of no use to a person.
const EVENTS: usize = 64;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Server.
    #[arg(long, env = "MOSAIC_NATS_URL", default_value = "nats://127.0.0.1:4222")]
    url: String,
    /// Credentials file; without it, that of a stack started here by `cargo xtask up`.
    #[arg(long, env = "MOSAIC_NATS_CREDS", value_name = "FILE")]
    creds: Option<PathBuf>,
    /// Certificate of the authority of the servers: with it TLS is a must.
    #[arg(long, env = "MOSAIC_NATS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Name of the user in the credentials.
    #[arg(long, default_value = "reader")]
    name: String,
    /// Workspace.
    #[arg(long, env = "MOSAIC_WORKSPACE", default_value = "default")]
    workspace: WorkspaceId,
    /// Only this session.
    #[arg(long)]
    session: Option<SessionId>,
    /// One line of JSON for each message: subject, stream sequence, payload.
    #[arg(long)]
    json: bool,
    /// Also the partial text of messages being written. With --json it is always there.
    #[arg(long)]
    deltas: bool,
    /// Also a line for each heartbeat of a node. With --json it is always there.
    #[arg(long)]
    nodes: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(watch(arguments))
}

/// A connection with somebody's credentials, and the news of it. `name` is the user's in the credentials: it makes the
/// inbox that they may use.
pub(crate) async fn connect(
    url: &str,
    creds: &Path,
    name: &str,
    program: &str,
    ca: Option<&Path>,
) -> anyhow::Result<(Client, mpsc::Receiver<Event>)> {
    let (tell, told) = mpsc::channel(EVENTS);
    // Several are built in, and the client asks for the one of the process; whoever came first has chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = ConnectOptions::with_credentials_file(creds).await;
    let options = options.with_context(|| format!("read {}", creds.display()))?;
    let options = match ca {
        Some(ca) => options.add_root_certificates(ca.to_owned()).require_tls(true),
        None => options,
    };
    let client = options
        .name(program)
        .custom_inbox_prefix(inbox_prefix(name))
        .ping_interval(Duration::from_secs(15))
        .event_callback(move |event| {
            let tell = tell.clone();
            async move {
                // Full: a person who is told 64 things at once misses nothing.
                let _ = tell.try_send(event);
            }
        })
        .connect(url)
        .await
        .with_context(|| format!("connect to {url}"))?;
    Ok((client, told))
}

async fn watch(arguments: Arguments) -> anyhow::Result<()> {
    let creds = match &arguments.creds {
        Some(path) => path.clone(),
        None => PathBuf::from(LOCAL_CREDS),
    };
    if !creds.exists() {
        bail!("no credentials at {}: give --creds FILE, such as DIR/identity/creds/reader.creds", creds.display());
    }
    let (client, mut told) =
        connect(&arguments.url, &creds, &arguments.name, "mosaic tail", arguments.ca.as_deref()).await?;
    let mut subscriptions = vec![];
    for kind in Kind::ALL {
        let filter = match kind {
            // Not for lines: raw bytes of terminals. Commands are between hub and node.
            Kind::Terminal | Kind::Command => continue,
            Kind::Delta => kind.filter(Some(&arguments.workspace), None),
            Kind::Node | Kind::Session | Kind::Message | Kind::Receipt | Kind::Refusal | Kind::Audit => {
                kind.live_filter(Some(&arguments.workspace), None)
            }
        };
        subscriptions.push(client.subscribe(filter).await.context("subscribe")?);
    }
    let mut messages = select_all(subscriptions);
    let mut renderer = Renderer::new(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    loop {
        tokio::select! {
            Some(event) = told.recv() => tell_event(&event)?,
            message = messages.next() => {
                let Some(message) = message else { bail!("the connection has ended") };
                let Some(line) = one(&arguments, &mut renderer, &message) else { continue };
                let mut out = std::io::stdout().lock();
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return Ok(()); // whoever read us has gone
                }
            }
        }
    }
}

/// What to print for a message, if anything.
fn one(arguments: &Arguments, renderer: &mut Renderer, message: &Message) -> Option<String> {
    let text = message.subject.as_str();
    let subject = Subject::parse_live(text).or_else(|_| text.parse::<Subject>()).ok()?;
    if arguments.session.is_some() && subject.session() != arguments.session.as_ref() {
        return None;
    }
    if arguments.json {
        let sequence =
            message.headers.as_ref().and_then(|h| h.get("Nats-Sequence")).and_then(|v| v.as_str().parse().ok());
        return Some(json_line(text, sequence, &message.payload));
    }
    match subject.kind() {
        Kind::Delta if !arguments.deltas => None,
        Kind::Node if !arguments.nodes => renderer.node_change(&subject, &message.payload),
        Kind::Node
        | Kind::Session
        | Kind::Message
        | Kind::Delta
        | Kind::Terminal
        | Kind::Command
        | Kind::Receipt
        | Kind::Refusal
        | Kind::Audit => Some(renderer.line(&subject, &message.payload)),
    }
}

fn json_line(subject: &str, sequence: Option<u64>, payload: &[u8]) -> String {
    let mut line = String::from("{\"subject\":");
    json::string(&mut line, subject);
    if let Some(sequence) = sequence {
        line.push_str(&format!(",\"sequence\":{sequence}"));
    }
    line.push_str(",\"payload\":");
    line.push_str(&decode::line(payload));
    line.push('}');
    line
}

/// News of the connection, for the person at the terminal.
pub(crate) fn tell_event(event: &Event) -> anyhow::Result<()> {
    match event {
        Event::Connected => complain("connected"),
        Event::Disconnected => complain("connection lost; what happens until it is back is not shown"),
        Event::SlowConsumer(_) => complain("too slow: some messages were not shown"),
        Event::ServerError(error) if error.to_string().to_lowercase().contains("permissions violation") => {
            bail!("{error}: the credentials are not a reader's of this workspace")
        }
        Event::ServerError(error) => complain(&format!("the server says: {error}")),
        Event::Closed => bail!("the connection has ended"),
        Event::LameDuckMode | Event::Draining | Event::ClientError(_) => {}
    }
    Ok(())
}
