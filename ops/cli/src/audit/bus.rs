//! The audit log on the bus: read from its stream with the hub's credentials, or watched with a reader's.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use bus_schema::jetstream::AUDIT;
use bus_schema::{AuditEntry, Kind, header};
use futures::StreamExt;

use super::{Place, Witness};
use crate::{complain, tail};

/// How long the server may take for the next message of a stream that has one.
const WITHIN: Duration = Duration::from_secs(10);
/// Where `cargo xtask up` puts the credentials.
const LOCAL_CREDS: &str = ".mosaic/identity/creds";

fn creds(place: &Place, whose: &str) -> anyhow::Result<PathBuf> {
    let local = || PathBuf::from(LOCAL_CREDS).join(format!("{whose}.creds"));
    let path = place.creds.clone().unwrap_or_else(local);
    if !path.exists() {
        bail!("no credentials at {}: give --creds FILE, such as DIR/identity/creds/{whose}.creds", path.display());
    }
    Ok(path)
}

/// Hands over everything that the stream holds now, in its order: the entry, or the place and what is wrong there.
pub(super) async fn read(
    place: &Place,
    mut take: impl FnMut(Result<AuditEntry, (String, String)>),
) -> anyhow::Result<()> {
    let creds = creds(place, "hub")?;
    let (client, _events) =
        tail::connect(&place.url, &creds, "hub", "mosaic audit verify", place.ca.as_deref()).await?;
    let mut context = jetstream::new(client);
    context.set_timeout(WITHIN);
    let stream = context.get_stream(AUDIT.name).await.with_context(|| {
        format!("read the stream {}: that needs the hub's credentials, and a hub must have run once", AUDIT.name)
    })?;
    let filter_subject = Kind::Audit.filter(Some(&place.workspace), None);
    let config = OrderedConfig { filter_subject, ..OrderedConfig::default() };
    let consumer = stream.create_consumer(config).await.context("read the audit stream")?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(());
    }
    let mut messages = consumer.messages().await.context("read the audit stream")?;
    loop {
        let next = tokio::time::timeout(WITHIN, messages.next()).await.context("the bus does not go on")?;
        let message = next.context("the audit stream broke off")?.context("read the audit stream")?;
        let info = message.info().map_err(|e| anyhow::anyhow!("a message without its place: {e}"))?;
        let (sequence, pending) = (info.stream_sequence, info.pending);
        let schema = message.headers.as_ref().and_then(|h| h.get(header::SCHEMA)).map(|v| v.as_str());
        let entry = AuditEntry::from_payload(&message.payload, schema);
        take(entry.map_err(|e| (format!("message {sequence} of the stream"), e.to_string())));
        if pending == 0 {
            return Ok(());
        }
    }
}

/// Appends what is published to a file, until it is stopped.
pub(super) async fn witness(arguments: &Witness) -> anyhow::Result<()> {
    let creds = creds(&arguments.place, "reader")?;
    let file = OpenOptions::new().create(true).append(true).open(&arguments.file);
    let mut file = file.with_context(|| format!("write to {}", arguments.file.display()))?;
    let (client, mut told) = tail::connect(
        &arguments.place.url,
        &creds,
        &arguments.name,
        "mosaic audit witness",
        arguments.place.ca.as_deref(),
    )
    .await?;
    let filter = Kind::Audit.live_filter(Some(&arguments.place.workspace), None);
    let mut rows = client.subscribe(filter).await.context("subscribe")?;
    client.flush().await.context("subscribe")?;
    complain(&format!("writing what is published into {}; Ctrl-C ends it", arguments.file.display()));
    loop {
        tokio::select! {
            Some(event) = told.recv() => tail::tell_event(&event)?,
            message = rows.next() => {
                let Some(message) = message else { bail!("the connection has ended") };
                match AuditEntry::from_payload(&message.payload, None) {
                    Ok(AuditEntry::Row(line)) => append(&mut file, &line.text)?,
                    Ok(AuditEntry::Checkpoint(line)) => append(&mut file, &line.text)?,
                    Err(error) => complain(&format!("what was published is no row: {error}")),
                }
            }
        }
    }
}

/// A row counts as seen once it is on disk.
fn append(file: &mut File, line: &str) -> anyhow::Result<()> {
    file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).context("write down a row")
}
