//! `mosaic identity …`: the identity of a mesh, by hand or by a script.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use bus_schema::{BusRole, NodeId, WorkspaceId};
use clap::{Args, Subcommand};
use hub_identity::{Deed, Identity, ServerConfig, SigningKey};
use serde_json::json;

use crate::{deeds, servers};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes an identity with its first workspace, or what of it is missing. Asked again, it changes nothing.
    Init(Init),
    /// Adds a workspace: an account of its own on the bus, which sees nothing of the others, with credentials for its
    /// hub and its reader. Servers that run learn of it by `push`, when a hub starts, or when they start again.
    ///
    /// Give it to a hub that there is, as `[[workspaces]]` with `name = "NAME"` and `creds = ".../creds/NAME/hub.creds"`,
    /// or to one of its own.
    AddWorkspace(Place),
    /// Tells running servers all accounts, as a hub does when it starts.
    Push(Push),
    /// Puts a new command key in the place of the one there is. Start every hub again afterwards.
    ///
    /// The old key signs the statement that the new one takes its place, and is gone. Nodes learn the new key from the
    /// first command that they get, also if they were away for long; until the overlap is over they obey both.
    RotateCommandKey(Rotate),
    /// Puts a new key in the place of the one that signs users of a role, and tells the servers. Nobody is cut off: what
    /// the old key signed stays valid until it is withdrawn, and nobody new is signed by it.
    ///
    /// Credentials in this folder are made anew; nodes elsewhere get theirs with `mosaic node renew`, readers with
    /// `add-reader`. Start hubs again after a change of their own key.
    RotateSigningKey(RotateSigning),
    /// Lists the keys that sign users, and who would be cut off if one of them was withdrawn.
    SigningKeys(Place),
    /// Takes a key that was changed out of the account and tells the servers: whoever it signed is refused and cut off.
    WithdrawSigningKey(Withdraw),
    /// Makes certificates for TLS on the bus, or what of them is missing, and prints where they are.
    Tls(Tls),
    /// Makes the credentials file of a node and prints its path. Asked again, it gives the same file.
    AddNode(AddNode),
    /// Prints new credentials for one more reader. They are not kept.
    AddReader(AddReader),
    /// Prints the configuration of a NATS server of this mesh.
    ServerConfig(ServerOptions),
}

/// Which identity and which workspace of it.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Folder of the identity.
    #[arg(long, env = "MOSAIC_IDENTITY", value_name = "DIR", default_value = "identity")]
    pub dir: PathBuf,
    /// Workspace.
    #[arg(long, env = "MOSAIC_WORKSPACE", default_value = "default")]
    pub workspace: WorkspaceId,
}

/// A server to be told.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Address of a running server.
    #[arg(long, env = "MOSAIC_NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub url: String,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    place: Place,
    /// How long the old key counts beside the new one, in hours: until every hub was started again.
    #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(0..=8760))]
    overlap_h: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RotateSigning {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    server: Server,
    /// Whom the key signs: hub, node or reader.
    #[arg(long, value_parser = role)]
    role: BusRole,
}

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    server: Server,
    /// Public half of the key, `A…`: one of `mosaic identity signing-keys`.
    key: String,
    /// Also if somebody has nothing newer: they are cut off.
    #[arg(long)]
    cut_off: bool,
}

fn role(word: &str) -> Result<BusRole, String> {
    let words: Vec<_> = BusRole::ALL.iter().map(|role| role.as_str()).collect();
    let found = BusRole::ALL.iter().copied().find(|role| role.as_str() == word);
    found.ok_or_else(|| format!("one of {}", words.join(", ")))
}

#[derive(Debug, Args)]
pub(crate) struct Tls {
    #[command(flatten)]
    place: Place,
    /// Name or address under which clients reach the servers, beside this machine's own; may be repeated.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Print the paths as one line of JSON.
    #[arg(long)]
    json: bool,
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
pub(crate) struct ServerOptions {
    #[command(flatten)]
    place: Place,
    /// Take nobody without TLS; see `mosaic identity tls`.
    #[arg(long)]
    tls: bool,
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
            let mut identity = Identity::open(&place.dir)?;
            let deed = Deed::new(&place.workspace, "addReader", deeds::somebody()).with("reader", &name);
            let credentials = deeds::done(&mut identity, deed, |identity| {
                Ok(identity.issue(&place.workspace, BusRole::Reader, &name)?)
            })?;
            print(credentials.text.expose().trim_end())
        }
        Command::Push(Push { place, server }) => {
            let identity = Identity::open(&place.dir)?;
            let updates = identity.account_updates()?;
            servers::tell(&identity, &server, &updates)?;
            print(&format!("{} knows {} accounts", server.url, updates.len()))
        }
        Command::RotateCommandKey(Rotate { place, overlap_h }) => {
            let mut identity = Identity::open(&place.dir)?;
            let deed = Deed::new(&place.workspace, "rotateCommandKey", deeds::somebody());
            let made = deeds::done(&mut identity, deed, |identity| {
                Ok(identity.rotate_command_key(overlap_h.saturating_mul(3_600))?)
            })?;
            print(&format!(
                "the command key is now {}; start every hub again. {} counts until {}",
                made.new, made.old, made.until
            ))
        }
        Command::RotateSigningKey(RotateSigning { place, server, role }) => {
            let mut identity = Identity::open(&place.dir)?;
            let deed = Deed::new(&place.workspace, "rotateSigningKey", deeds::somebody()).with("role", role.as_str());
            let made = deeds::done(&mut identity, deed, |identity| {
                let made = identity.rotate_signing_key(&place.workspace, role)?;
                servers::tell(identity, &server, std::slice::from_ref(&made.update))
                    .context("the key is changed, but the servers do not know the new one")?;
                Ok(made)
            })?;
            let mut lines =
                vec![format!("{} signs {}s now; {} counts until it is withdrawn", made.new, role.as_str(), made.old)];
            lines.extend(made.renewed.iter().map(|path| format!("new credentials in {}", path.display())));
            print(&lines.join("\n"))
        }
        Command::SigningKeys(place) => {
            let keys = Identity::open(&place.dir)?.signing_keys(&place.workspace)?;
            let line = |key: &SigningKey| {
                let holders = key.holders.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let state = if key.replaced_at_s.is_some() { "replaced" } else { "signs" };
                format!("{} {:6} {state:8} {holders}", key.key, key.role.as_str()).trim_end().to_owned()
            };
            print(&keys.iter().map(line).collect::<Vec<_>>().join("\n"))
        }
        Command::WithdrawSigningKey(Withdraw { place, server, key, cut_off }) => {
            let mut identity = Identity::open(&place.dir)?;
            let deed = Deed::new(&place.workspace, "withdrawSigningKey", deeds::somebody()).with("key", &key);
            deeds::done(&mut identity, deed, |identity| {
                let update = identity.withdraw_signing_key(&place.workspace, &key, cut_off)?;
                servers::tell(identity, &server, &[update])
                    .context("the key is withdrawn, but the servers do not know it")
            })?;
            print(&format!("{key} is withdrawn: whoever it signed is refused"))
        }
        Command::Tls(Tls { place, names, json }) => {
            let made = Identity::open(&place.dir)?.tls(&names)?;
            let line = json!({"ca": made.ca, "cert": made.cert, "key": made.key});
            let (ca, cert) = (made.ca.display(), made.cert.display());
            print(&if json { line.to_string() } else { format!("clients trust {ca}\nservers show {cert}") })
        }
        Command::ServerConfig(server) => {
            let identity = Identity::open(&server.place.dir)?;
            let tls = identity.tls_files();
            anyhow::ensure!(
                tls.is_some() || !server.tls,
                "there are no certificates; make them with `mosaic identity tls`"
            );
            let config = ServerConfig {
                name: &server.name,
                listen: &server.listen,
                store_dir: &std::path::absolute(&server.store).context("the store's folder")?,
                ports_dir: server.ports_dir.as_deref(),
                log_file: server.log_file.as_deref(),
                tls: tls.as_ref().filter(|_| server.tls),
            };
            print(identity.server_config(&config)?.trim_end())
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

pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("write to stdout")
}
