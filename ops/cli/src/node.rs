//! `mosaic node …`: who may be a node, at the folder of the identity.
//!
//! For setting up, and for the time when no hub is there. Through a hub (`POST /api/nodes`, `DELETE /api/nodes/NAME`)
//! the same is in the audit log.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use bus_schema::{BusRole, NodeId};
use clap::{Args, Subcommand};
use hub_identity::Identity;

use crate::identity::{Place, Server, print};
use crate::servers;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lets a node in: prints the line to say on its machine. It holds the node's credentials, and is told once.
    ///
    /// Not in the audit log: that is what `POST /api/nodes` of the hub is for.
    Enroll(Enroll),
    /// Shuts a node out: its credentials are void, and running servers end its connection.
    ///
    /// Not in the audit log: that is what `DELETE /api/nodes/NAME` of the hub is for.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Enroll {
    #[command(flatten)]
    place: Place,
    /// Name of the node: letters, digits, `-` and `_`.
    node: NodeId,
    /// Address of the bus as the node reaches it; several with commas. `tls://` gives it the authority too.
    #[arg(long, env = "MOSAIC_NATS_URL", default_value = "nats://127.0.0.1:4222", value_delimiter = ',')]
    url: Vec<String>,
    /// Also write the credentials alone to this file.
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    server: Server,
    /// Name of the node.
    node: NodeId,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Enroll(Enroll { place, node, url, creds }) => {
            let mut identity = Identity::open(&place.dir)?;
            // With an authority the node insists on TLS.
            let tls = identity.tls_files().filter(|_| url.iter().any(|url| url.starts_with("tls://")));
            let ca = tls.map(|tls| std::fs::read_to_string(&tls.ca)).transpose();
            let ca = ca.context("read the certificate of the authority")?;
            // Made before anything is written, so that a file that cannot be made costs no credentials.
            let file = creds.as_ref().map(|path| {
                let made = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
                made.with_context(|| format!("make {}", path.display()))
            });
            let file = file.transpose()?;
            let token = identity.enrol(&place.workspace, &node, url, ca)?;
            if let Some(mut file) = file {
                file.write_all(token.creds.expose().as_bytes()).context("write the credentials")?;
            }
            print(&format!("mosaic-node join {}", token.to_text()?.expose()))
        }
        Command::Revoke(Revoke { place, server, node }) => {
            let mut identity = Identity::open(&place.dir)?;
            let users = identity.users(&place.workspace);
            anyhow::ensure!(
                users.get(node.as_str()) == Some(&BusRole::Node),
                "no node {node} is enrolled in workspace {}",
                place.workspace
            );
            let update = identity.revoke(&place.workspace, node.as_str())?;
            servers::tell(&identity, &server, &[update])
                .with_context(|| format!("node {node} is revoked, but the servers do not know it"))?;
            print(&format!("node {node} is revoked, and cut off"))
        }
    }
}
