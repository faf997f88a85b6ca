//! Telling running servers of changed accounts.

use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::ConnectOptions;
use bus_schema::inbox_prefix;
use hub_identity::{ACCOUNT_UPDATE_SUBJECT, AccountUpdate, Identity};

use crate::identity::Server;

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(15);

/// Gives accounts to the servers, by the credentials of the system account.
pub(crate) fn tell(identity: &Identity, server: &Server, updates: &[AccountUpdate]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let told = runtime.block_on(async { tokio::time::timeout(WITHIN, push(identity, server, updates)).await });
    told.unwrap_or_else(|_| bail!("no answer from {} within {} s", server.url, WITHIN.as_secs())).with_context(|| {
        format!("tell {}; a hub that starts tells them too, and `mosaic identity push` does it again", server.url)
    })
}

async fn push(identity: &Identity, server: &Server, updates: &[AccountUpdate]) -> anyhow::Result<()> {
    // Several are built in, and the client asks for the one of the process; whoever came first has chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = ConnectOptions::with_credentials_file(identity.sys_creds()).await.context("system credentials")?;
    let options = options.name("mosaic identity").custom_inbox_prefix(inbox_prefix("sys"));
    let options = match identity.tls_files() {
        Some(tls) => options.add_root_certificates(tls.ca).require_tls(server.url.starts_with("tls://")),
        None => options,
    };
    let client = options.connect(server.url.as_str()).await.context("connect")?;
    for update in updates {
        let answer = client.request(ACCOUNT_UPDATE_SUBJECT, update.jwt.clone().into()).await.context("ask")?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).context("an answer that is no JSON")?;
        if answer.pointer("/data/code").and_then(serde_json::Value::as_u64) != Some(200) {
            bail!("the server does not take the account {}: {answer}", update.account);
        }
    }
    Ok(())
}
