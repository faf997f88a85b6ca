//! `mosaic identity …`: the identity of a mesh, by hand or by a script.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use bus_schema::{BusRole, NodeId, WorkspaceId};
use clap::{Args, Subcommand};
use hub_identity::{Identity, ServerConfig};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes an identity with its first workspace, or what of it is missing. Asked again, it changes nothing.
    Init(Init),
    /// Adds a workspace. Servers that run learn of it when a hub starts, or when they start again.
    AddWorkspace(Place),
    /// Makes the credentials file of a node and prints its path. Asked again, it gives the same file.
    AddNode(AddNode),
    /// Prints new credentials for one more reader. They are not kept.
    AddReader(AddReader),
    /// Prints the configuration of a NATS server of this mesh.
    ServerConfig(Server),
}

/// Which identity and which workspace of it.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Folder of the identity.
    #[arg(long, env = "MOSAIC_IDENTITY", value_name = "DIR", default_value = "identity")]
    dir: PathBuf,
    /// Workspace.
    #[arg(long, env = "MOSAIC_WORKSPACE", default_value = "default")]
    workspace: WorkspaceId,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    place: Place,
    /// Print the paths as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddNode {
    #[command(flatten)]
    place: Place,
    /// Name of the node.
    node: NodeId,
}

#[derive(Debug, Args)]
pub(crate) struct AddReader {
    #[command(flatten)]
    place: Place,
    /// Name of the reader.
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    #[command(flatten)]
    place: Place,
    /// Address and port; port -1 is any free one.
    #[arg(long, default_value = "127.0.0.1:4222", allow_hyphen_values = true)]
    listen: String,
    /// Folder of JetStream's store.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Folder for the file that tells the ports.
    #[arg(long, value_name = "DIR")]
    ports_dir: Option<PathBuf>,
    /// File for the server's log, instead of stderr.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// The server's name, unique in a cluster.
    #[arg(long, default_value = "mosaic")]
    name: String,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(init) => {
            let identity = Identity::init(&init.place.dir, &init.place.workspace)?;
            if init.json { print(&summary(&identity, &init.place.workspace).to_string()) } else { report(&identity) }
        }
        Command::AddWorkspace(place) => {
            let mut identity = Identity::open(&place.dir)?;
            identity.add_workspace(&place.workspace)?;
            report(&identity)
        }
        Command::AddNode(AddNode { place, node }) => {
            let path = Identity::open(&place.dir)?.add_node(&place.workspace, &node)?;
            print(&path.to_string_lossy())
        }
        Command::AddReader(AddReader { place, name }) => {
            let credentials = Identity::open(&place.dir)?.issue(&place.workspace, BusRole::Reader, &name)?;
            print(credentials.text.expose().trim_end())
        }
        Command::ServerConfig(server) => {
            let config = ServerConfig {
                name: &server.name,
                listen: &server.listen,
                store_dir: &std::path::absolute(&server.store).context("the store's folder")?,
                ports_dir: server.ports_dir.as_deref(),
                log_file: server.log_file.as_deref(),
                tls: None,
            };
            print(Identity::open(&server.place.dir)?.server_config(&config)?.trim_end())
        }
    }
}

/// Where everything is, for scripts. No secrets: paths and public keys.
fn summary(identity: &Identity, workspace: &WorkspaceId) -> serde_json::Value {
    json!({
        "dir": identity.dir(),
        "workspace": workspace.as_str(),
        "commandKey": identity.command_public_key(),
        "commandKeyFile": identity.command_key_path(),
        "creds": {
            "hub": identity.hub_creds(workspace),
            "journal": identity.journal_creds(),
            "reader": identity.reader_creds(workspace),
            "sys": identity.sys_creds(),
        },
    })
}

fn report(identity: &Identity) -> anyhow::Result<()> {
    let mut lines = vec![format!("identity in {}", identity.dir().display())];
    lines.push(format!("nodes obey the command key {}", identity.command_public_key()));
    for workspace in identity.workspaces() {
        let users: Vec<_> =
            identity.users(workspace).into_iter().map(|(name, role)| format!("{name} ({})", role.as_str())).collect();
        lines.push(format!("workspace {workspace}: {}", users.join(", ")));
    }
    print(&lines.join("\n"))
}

fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("write to stdout")
}
