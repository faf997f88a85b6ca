//! `mosaic node …`: who may be a node, at the folder of the identity.
//!
//! For setting up, and for the time when no hub is there. What is done here is in the audit log as soon as a hub with
//! this folder runs; through a hub (`POST /api/nodes`, `DELETE /api/nodes/NAME`) it is there at once.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use bus_schema::{BusRole, NodeId};
use clap::{Args, Subcommand};
use hub_identity::{Deed, Identity};

use crate::identity::{Place, Server, print};
use crate::{deeds, servers};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lets a node in: prints the line to say on its machine. It holds the node's credentials, and is told once.
    Enroll(Enroll),
    /// Shuts a node out: its credentials are void, and running servers end its connection.
    Revoke(Revoke),
    /// Writes new credentials for a node that has some, signed by the key of today: to be put in the place of its
    /// `node.creds`. The old ones stay valid until they are revoked or their key is withdrawn.
    Renew(Renew),
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
pub(crate) struct Renew {
    #[command(flatten)]
    place: Place,
    /// Name of the node.
    node: NodeId,
    /// Where the credentials go. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    creds: PathBuf,
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
            let deed = Deed::new(&place.workspace, "enrolNode", deeds::somebody()).on(&node);
            let token =
                deeds::done(&mut identity, deed, |identity| Ok(identity.enrol(&place.workspace, &node, url, ca)?))?;
            if let Some(mut file) = file {
                file.write_all(token.creds.expose().as_bytes()).context("write the credentials")?;
            }
            print(&format!("mosaic-node join {}", token.to_text()?.expose()))
        }
        Command::Renew(Renew { place, node, creds }) => {
            let mut identity = Identity::open(&place.dir)?;
            let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&creds);
            let mut file = file.with_context(|| format!("make {}", creds.display()))?;
            let deed = Deed::new(&place.workspace, "renewNode", deeds::somebody()).on(&node);
            let made = deeds::done(&mut identity, deed, |identity| {
                Ok(identity.renew(&place.workspace, BusRole::Node, node.as_str())?)
            });
            if made.is_err() {
                // Nothing is in it.
                let _ = std::fs::remove_file(&creds);
            }
            file.write_all(made?.text.expose().as_bytes()).context("write the credentials")?;
            print(&format!(
                "new credentials of node {node} are in {}; put them in the place of its node.creds and start it again",
                creds.display()
            ))
        }
        Command::Revoke(Revoke { place, server, node }) => {
            let mut identity = Identity::open(&place.dir)?;
            let users = identity.users(&place.workspace);
            anyhow::ensure!(
                users.get(node.as_str()) == Some(&BusRole::Node),
                "no node {node} is enrolled in workspace {}",
                place.workspace
            );
            let deed = Deed::new(&place.workspace, "revokeNode", deeds::somebody()).on(&node);
            deeds::done(&mut identity, deed, |identity| {
                let update = identity.revoke(&place.workspace, node.as_str())?;
                servers::tell(identity, &server, &[update])
                    .with_context(|| format!("node {node} is revoked, but the servers do not know it"))
            })?;
            print(&format!("node {node} is revoked, and cut off"))
        }
    }
}
