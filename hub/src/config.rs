//! Configuration: one TOML file, overridden by the environment. Every problem is reported at once.

mod limits;
mod oidc;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus_schema::{KeySuccession, Secret, WorkspaceId};
use hub_identity::{IdentityError, command_chain};
use hub_store::{StoreConfig, StoreLocation};
use serde::Deserialize;

use crate::authn::OidcConfig;
pub use limits::LimitsConfig;

/// Everything the hub can be told, as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hub: HubTable,
    nats: NatsTable,
    #[serde(default)]
    store: StoreTable,
    #[serde(default)]
    limits: LimitsConfig,
    #[serde(default)]
    oidc: Vec<oidc::OidcTable>,
    #[serde(default)]
    workspaces: Vec<WorkspaceTable>,
}

/// A further workspace that the hub serves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkspaceTable {
    /// Its name.
    name: String,
    /// Credentials of the hub in its account.
    creds: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HubTable {
    /// Address of the HTTP server; port 0 takes any free one. `MOSAIC_HUB_LISTEN`.
    #[serde(default = "default_listen")]
    listen: String,
    /// Where the hub keeps its store. `MOSAIC_HUB_DATA_DIR`.
    data_dir: PathBuf,
    /// The workspace it serves, the first of them if there are more. `MOSAIC_WORKSPACE`.
    #[serde(default = "default_workspace")]
    workspace: String,
    /// People to make if they are not there: a JSON list of `email`, `name`, `password`, `role`, and `workspace` where
    /// it is not the first one.
    /// `MOSAIC_HUB_BOOTSTRAP_USERS`.
    bootstrap_users: Option<PathBuf>,
    /// Address of the hub as browsers see it, such as `https://mesh.example.org`. With https the cookie is for TLS
    /// only. `MOSAIC_HUB_PUBLIC_URL`.
    public_url: Option<String>,
    /// Addresses of proxies before the hub: what they say in `X-Forwarded-For` is believed.
    #[serde(default)]
    trusted_proxies: Vec<String>,
    /// File with the keys that seal what is kept secret; made if it is not there, `secret.key` beside the store if
    /// absent. Several hubs share one. `MOSAIC_SECRET_KEY`.
    secret_key: Option<PathBuf>,
    /// HTTPS: certificate and key, PEM. In plain if absent. Where `public_url` does not say otherwise, the cookie is for
    /// TLS only then.
    tls: Option<TlsTable>,
    /// How long a kill-all waits for nodes that are away, in seconds: those that come back later do not carry it out.
    #[serde(default = "default_kill_all_lease")]
    kill_all_lease_s: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsTable {
    /// The certificate, with those between it and its authority.
    cert: PathBuf,
    /// Its key.
    key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NatsTable {
    /// Address, or several with commas. `MOSAIC_NATS_URL`.
    #[serde(default = "default_nats")]
    url: String,
    /// Credentials of the hub in the workspace's account. `MOSAIC_NATS_CREDS`.
    creds: PathBuf,
    /// Credentials in the hub's own account. `MOSAIC_NATS_JOURNAL_CREDS`.
    journal_creds: PathBuf,
    /// File with the seed (nkey, `SV…`) that signs commands; beside it, `.chain`, the statements of the keys before it.
    /// `MOSAIC_COMMAND_KEY`.
    command_key: PathBuf,
    /// Certificate of the authority of the servers (PEM). With it nothing goes over the bus in plain, and no other
    /// authority is trusted. `MOSAIC_NATS_CA`.
    ca: Option<PathBuf>,
    /// Folder of the identity, for a hub that may let nodes in and shut them out. `MOSAIC_IDENTITY`.
    identity: Option<PathBuf>,
    /// Address that new nodes are told, or several with commas; `url` if absent.
    public_url: Option<String>,
    /// Largest size of the messages' stream, in bytes; the protocol's own if absent.
    messages_max_bytes: Option<i64>,
    /// Largest size of the terminals' stream, in bytes; the protocol's own if absent.
    terminal_max_bytes: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    /// `ws://` or `wss://` address of a SurrealDB server; embedded in the hub if absent.
    url: Option<String>,
    /// Remote: namespace and database, `mosaic` if absent.
    namespace: Option<String>,
    database: Option<String>,
    /// Remote: user of that database.
    user: Option<String>,
    /// Remote: file with their password.
    password_file: Option<PathBuf>,
    /// Embedded: bytes of writes held in memory. `MOSAIC_STORE_MEMTABLE_BYTES`.
    memtable_bytes: Option<u64>,
    /// Embedded: bytes of blocks held in memory for reading.
    block_cache_bytes: Option<u64>,
}

fn default_listen() -> String {
    "127.0.0.1:7420".into()
}

fn default_workspace() -> String {
    "default".into()
}

fn default_kill_all_lease() -> u64 {
    900
}

/// Longest lease of a kill-all: a day.
const MAX_KILL_ALL_LEASE_S: u64 = 86_400;

fn default_nats() -> String {
    "nats://127.0.0.1:4222".into()
}

/// The hub's settings, checked.
#[derive(Debug)]
pub struct Config {
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Where the hub keeps its files.
    pub data_dir: PathBuf,
    /// The workspaces it serves, one at least: each with the bus as it is there.
    pub workspaces: Vec<(WorkspaceId, std::sync::Arc<NatsConfig>)>,
    /// People to make if they are not there.
    pub bootstrap_users: Option<PathBuf>,
    /// The keys that seal what is kept secret.
    pub secret_key: PathBuf,
    /// HTTPS: certificate and key. In plain if absent.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How long a kill-all waits for nodes that are away.
    pub kill_all_lease: Duration,
    /// The store.
    pub store: StoreConfig,
    /// Scheme and host of the hub as browsers see it.
    pub public_url: Option<String>,
    /// Proxies before the hub that are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How much anybody may ask for.
    pub limits: LimitsConfig,
    /// Services that people sign in with.
    pub oidc: Vec<OidcConfig>,
}

/// Where the bus is and who the hub is there.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Address, or several with commas.
    pub url: String,
    /// Credentials of the hub in the workspace's account.
    pub creds: PathBuf,
    /// Credentials in the hub's own account.
    pub journal_creds: PathBuf,
    /// Seed that signs commands.
    pub command_key: Secret,
    /// How nodes come to trust that key: statements of the keys before it.
    pub key_chain: Vec<KeySuccession>,
    /// Certificate of the authority of the servers.
    pub ca: Option<PathBuf>,
    /// Folder of the identity.
    pub identity: Option<PathBuf>,
    /// Address that new nodes are told, or several with commas.
    pub public_url: String,
    /// Largest size of the messages' stream, in bytes.
    pub messages_max_bytes: Option<i64>,
    /// Largest size of the terminals' stream, in bytes.
    pub terminal_max_bytes: Option<i64>,
}

impl NatsConfig {
    /// The addresses, one by one.
    pub fn servers(&self) -> Vec<&str> {
        self.url.split(',').map(str::trim).collect()
    }

    /// The addresses that new nodes are told.
    pub fn told_to_nodes(&self) -> Vec<String> {
        self.public_url.split(',').map(|url| url.trim().to_owned()).collect()
    }

    /// The certificate of the authority, for new nodes.
    ///
    /// # Errors
    /// If it cannot be read any more.
    pub fn ca_text(&self) -> Result<Option<String>, IdentityError> {
        let Some(path) = &self.ca else { return Ok(None) };
        let io = |source| IdentityError::Io { doing: "read", path: path.clone(), source };
        std::fs::read_to_string(path).map(Some).map_err(io)
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("configuration {}:\n  - {}", path.display(), problems.join("\n  - "))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Everything that is wrong with it.
    pub problems: Vec<String>,
}

/// Environment variables that stand over the file.
pub type Environment = dyn Fn(&str) -> Option<String>;

/// Smallest memtable: the crash tests' own. A transaction must fit into it.
const MIN_MEMTABLE_BYTES: u64 = 1024 * 1024;

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem there is.
    pub fn load(path: &Path, env: &Environment) -> Result<Self, ConfigError> {
        let fail = |problems| ConfigError { path: path.to_owned(), problems };
        let text = std::fs::read_to_string(path).map_err(|e| fail(vec![format!("cannot be read: {e}")]))?;
        let file: File = toml::from_str(&text).map_err(|e| fail(vec![e.to_string().trim().replace('\n', "\n    ")]))?;
        Self::check(file, path.parent().unwrap_or(Path::new(".")), env).map_err(fail)
    }

    fn check(file: File, base: &Path, env: &Environment) -> Result<Self, Vec<String>> {
        let mut problems = vec![];
        let over = |name: &str, text: String| env(name).unwrap_or(text);
        let path_over = |name: &str, path: PathBuf| base.join(env(name).map_or(path, PathBuf::from));

        let listen = over("MOSAIC_HUB_LISTEN", file.hub.listen);
        let listen = listen.parse::<SocketAddr>().map_err(|_| {
            problems.push(format!("hub.listen {listen:?} is not an address with a port, such as 127.0.0.1:7420"));
        });
        let workspace = WorkspaceId::new(over("MOSAIC_WORKSPACE", file.hub.workspace)).map_err(|e| {
            problems.push(format!("hub.workspace: {e}"));
        });
        let data_dir = path_over("MOSAIC_HUB_DATA_DIR", file.hub.data_dir);
        let bootstrap = env("MOSAIC_HUB_BOOTSTRAP_USERS").map(PathBuf::from).or(file.hub.bootstrap_users);
        let bootstrap_users = bootstrap.map(|p| base.join(p));
        let secret_key = env("MOSAIC_SECRET_KEY").map(PathBuf::from).or(file.hub.secret_key);
        let secret_key = secret_key.map_or_else(|| data_dir.join("secret.key"), |p| base.join(p));

        let tls = file.hub.tls.map(|tls| (base.join(tls.cert), base.join(tls.key)));
        if let Some((cert, key)) = &tls
            && let Err(error) = crate::tls::acceptor(cert, key)
        {
            problems.push(format!("hub.tls: {}", crate::supervisor::chain(&error)));
        }

        let creds = path_over("MOSAIC_NATS_CREDS", file.nats.creds);
        let journal_creds = path_over("MOSAIC_NATS_JOURNAL_CREDS", file.nats.journal_creds);
        for (key, path) in [("nats.creds", &creds), ("nats.journal_creds", &journal_creds)] {
            if let Err(e) = std::fs::read(path) {
                problems.push(format!("{key} {}: {e}; make it with `mosaic identity init`", path.display()));
            }
        }
        let key_file = path_over("MOSAIC_COMMAND_KEY", file.nats.command_key);
        let command_key = read_key(&key_file).map_err(|problem| problems.push(problem));
        let chain = command_chain(&key_file).map_err(|e| problems.push(format!("nats.command_key: {e}")));
        let key_chain = match (&command_key, chain) {
            (Ok(key), Ok(chain)) => KeySuccession::leading_to(&chain, &public_key(key)),
            _ => vec![],
        };
        let given = |name: &str, path: Option<PathBuf>| env(name).map(PathBuf::from).or(path).map(|p| base.join(p));
        let ca = given("MOSAIC_NATS_CA", file.nats.ca);
        if let Some(path) = ca.as_ref().filter(|path| !path.is_file()) {
            problems.push(format!("nats.ca {}: no such file", path.display()));
        }
        let identity = given("MOSAIC_IDENTITY", file.nats.identity);
        if let Some(dir) = identity.as_ref().filter(|dir| !dir.join("identity.json").is_file()) {
            problems.push(format!("nats.identity {}: no identity there; see `mosaic identity init`", dir.display()));
        }
        let url = over("MOSAIC_NATS_URL", file.nats.url);
        for (key, bytes) in
            [("messages_max_bytes", file.nats.messages_max_bytes), ("terminal_max_bytes", file.nats.terminal_max_bytes)]
        {
            if bytes.is_some_and(|b| b < 1024 * 1024) {
                problems.push(format!("nats.{key} must be at least 1048576 (1 MiB)"));
            }
        }
        let store = check_store(file.store, &data_dir, base, env, &mut problems);
        let public_url = env("MOSAIC_HUB_PUBLIC_URL").or(file.hub.public_url).map(|text| oidc::public_url(&text));
        let public_url = public_url.transpose().unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let mut trusted_proxies = vec![];
        for text in &file.hub.trusted_proxies {
            match text.parse() {
                Ok(address) => trusted_proxies.push(address),
                Err(_) => problems.push(format!("hub.trusted_proxies {text:?} is not an IP address")),
            }
        }
        file.limits.check(&mut problems);
        let kill_all_lease_s = file.hub.kill_all_lease_s;
        if !(1..=MAX_KILL_ALL_LEASE_S).contains(&kill_all_lease_s) {
            problems.push(format!("hub.kill_all_lease_s {kill_all_lease_s} must be from 1 to {MAX_KILL_ALL_LEASE_S}"));
        }
        let mut others: Vec<(WorkspaceId, PathBuf)> = vec![];
        for table in file.workspaces {
            let creds = base.join(table.creds);
            if let Err(e) = std::fs::read(&creds) {
                let path = creds.display();
                problems.push(format!("workspaces.creds {path}: {e}; make it with `mosaic identity add-workspace`"));
            }
            match WorkspaceId::new(&table.name) {
                Ok(name) if workspace.as_ref() == Ok(&name) || others.iter().any(|(other, _)| *other == name) => {
                    problems.push(format!("workspaces: {name} is there twice"));
                }
                Ok(name) => others.push((name, creds)),
                Err(e) => problems.push(format!("workspaces.name: {e}")),
            }
        }
        let served: Vec<_> = workspace.iter().chain(others.iter().map(|(name, _)| name)).cloned().collect();
        let oidc = oidc::check(file.oidc, public_url.as_deref(), base, &served, &mut problems);
        match (listen, workspace, command_key) {
            (Ok(listen), Ok(workspace), Ok(command_key)) if problems.is_empty() => Ok(Self {
                listen,
                data_dir,
                workspaces: {
                    let nats = NatsConfig {
                        public_url: file.nats.public_url.unwrap_or_else(|| url.clone()),
                        url,
                        creds,
                        journal_creds,
                        command_key,
                        key_chain,
                        ca,
                        identity,
                        messages_max_bytes: file.nats.messages_max_bytes,
                        terminal_max_bytes: file.nats.terminal_max_bytes,
                    };
                    let others = others.into_iter();
                    let others = others.map(|(name, creds)| (name, NatsConfig { creds, ..nats.clone() }.into()));
                    let mut all: Vec<(WorkspaceId, std::sync::Arc<NatsConfig>)> = others.collect();
                    all.insert(0, (workspace, nats.into()));
                    all
                },
                bootstrap_users,
                secret_key,
                tls,
                kill_all_lease: Duration::from_secs(kill_all_lease_s),
                store,
                public_url,
                trusted_proxies,
                limits: file.limits,
                oidc,
            }),
            _ => Err(problems),
        }
    }
}

fn read_key(path: &Path) -> Result<Secret, String> {
    let problem =
        |what: String| format!("nats.command_key {}: {what}; make it with `mosaic identity init`", path.display());
    let seed = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
    let pair = nkeys::KeyPair::from_seed(seed.trim()).map_err(|_| problem("is not the seed of an nkey".into()))?;
    match pair.key_pair_type() {
        nkeys::KeyPairType::Service => Ok(Secret::new(seed.trim())),
        _ => Err(problem("is not a service key (its seed begins with SV)".into())),
    }
}

/// The public half of a seed that was checked.
fn public_key(seed: &Secret) -> String {
    nkeys::KeyPair::from_seed(seed.expose()).map(|pair| pair.public_key()).unwrap_or_default()
}

fn check_store(
    table: StoreTable,
    data_dir: &Path,
    base: &Path,
    env: &Environment,
    problems: &mut Vec<String>,
) -> StoreConfig {
    let location = match table.url {
        None => StoreLocation::Embedded(data_dir.join("store")),
        Some(url) => {
            if !url.starts_with("ws://") && !url.starts_with("wss://") {
                problems.push(format!("store.url {url:?} must begin with ws:// or wss://"));
            }
            let password = match &table.password_file {
                None => Err("store.password_file is needed with store.url".to_owned()),
                Some(path) => std::fs::read_to_string(base.join(path))
                    .map_err(|e| format!("store.password_file {}: {e}", path.display())),
            };
            let password = password.map_err(|problem| problems.push(problem)).unwrap_or_default();
            if table.user.is_none() {
                problems.push("store.user is needed with store.url".into());
            }
            StoreLocation::Remote {
                url,
                namespace: table.namespace.unwrap_or_else(|| "mosaic".into()),
                database: table.database.unwrap_or_else(|| "mosaic".into()),
                user: table.user.unwrap_or_default(),
                password: Secret::new(password.trim()),
            }
        }
    };
    let mut config = StoreConfig::new(location);
    let memtable = match env("MOSAIC_STORE_MEMTABLE_BYTES") {
        None => table.memtable_bytes,
        Some(text) => match text.parse() {
            Ok(bytes) => Some(bytes),
            Err(_) => {
                problems.push(format!("MOSAIC_STORE_MEMTABLE_BYTES {text:?} is not a number"));
                None
            }
        },
    };
    config.memtable_bytes = memtable.unwrap_or(config.memtable_bytes);
    config.block_cache_bytes = table.block_cache_bytes.unwrap_or(config.block_cache_bytes);
    if config.memtable_bytes < MIN_MEMTABLE_BYTES {
        problems.push(format!("store.memtable_bytes {} must be at least {MIN_MEMTABLE_BYTES}", config.memtable_bytes));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        let seed = nkeys::KeyPair::new(nkeys::KeyPairType::Service).seed().unwrap();
        for (name, content) in [("a.creds", "x"), ("k.nk", seed.as_str()), ("hub.toml", text)] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let env: std::collections::HashMap<_, _> = env.iter().copied().collect();
        let env: Vec<_> = env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Config::load(&path, &move |name| env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    const GOOD: &str = "[hub]\ndata_dir = \"d\"\n\
                        [nats]\ncreds = \"a.creds\"\njournal_creds = \"a.creds\"\ncommand_key = \"k.nk\"\n";

    #[test]
    fn little_is_needed_and_the_environment_stands_over_it() {
        let config = load(GOOD, &[]).unwrap();
        assert_eq!((config.listen.port(), config.workspaces[0].0.as_str()), (7420, "default"));
        assert!(config.data_dir.ends_with("d") && config.secret_key.ends_with("d/secret.key"));
        let config =
            load(GOOD, &[("MOSAIC_HUB_LISTEN", "[::1]:0"), ("MOSAIC_STORE_MEMTABLE_BYTES", "1048576")]).unwrap();
        assert_eq!((config.listen.to_string().as_str(), config.store.memtable_bytes), ("[::1]:0", 1_048_576));
    }

    #[test]
    fn the_key_file_may_lie_elsewhere() {
        let named = GOOD.replace("[nats]", "secret_key = \"keys/hub.key\"\n[nats]");
        assert!(load(&named, &[]).unwrap().secret_key.ends_with("keys/hub.key"));
        let config = load(&named, &[("MOSAIC_SECRET_KEY", "/etc/k")]).unwrap();
        assert_eq!(config.secret_key, Path::new("/etc/k"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = "[hub]\nlisten = \"here\"\ndata_dir = \"d\"\nworkspace = \"a.b\"\n\
                    [nats]\ncreds = \"no.creds\"\njournal_creds = \"a.creds\"\ncommand_key = \"a.creds\"\n\
                    messages_max_bytes = 3\n[store]\nurl = \"http://x\"\nmemtable_bytes = 5\n\
                    [limits]\nbody_bytes = 7\nconnections = 0\n\
                    [[oidc]]\nname = \"a b\"\nissuer = \"http://far.example\"\nclient_id = \"x\"\n\
                    client_secret_file = \"none\"\ndefault_role = \"boss\"\n[oidc.roles]\nx = \"admin\"\n";
        let text = &text.replace("data_dir", "public_url = \"ftp://x/y\"\ntrusted_proxies = [\"near\"]\ndata_dir");
        let error = load(text, &[]).unwrap_err();
        let told = error.to_string();
        for part in [
            "hub.listen \"here\"",
            "hub.workspace",
            "no.creds",
            "command_key",
            "messages_max_bytes",
            "ws://",
            "password_file",
            "store.user",
            "memtable_bytes 5",
            "limits.body_bytes 7",
            "limits.connections 0",
            "hub.public_url \"ftp://x/y\"",
            "hub.public_url is needed",
            "trusted_proxies \"near\"",
            "name must be",
            "http://far.example",
            "client_secret_file",
            "default_role \"boss\"",
            "role_claim is needed",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn further_workspaces_have_names_and_credentials_of_their_own() {
        let table = |name: &str, creds: &str| format!("[[workspaces]]\nname = \"{name}\"\ncreds = \"{creds}\"\n");
        let config = load(&[GOOD, &table("lab", "k.nk"), &table("shop", "a.creds")].concat(), &[]).unwrap();
        let found: Vec<_> = config.workspaces.iter().map(|(id, nats)| (id.as_str(), nats.creds.file_name())).collect();
        let names = [("default", "a.creds"), ("lab", "k.nk"), ("shop", "a.creds")];
        assert_eq!(found, names.map(|(id, creds)| (id, Some(creds.as_ref()))));
        let again = [GOOD, &table("default", "a.creds"), &table("a.b", "no"), &table("x", "k.nk"), &table("x", "k.nk")];
        let told = load(&again.concat(), &[]).unwrap_err().to_string();
        for part in ["default is there twice", "x is there twice", "workspaces.name", "no: "] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn each_sign_in_service_lets_people_into_a_workspace_that_is_there() {
        let good = GOOD.replace("[nats]", "public_url = \"https://mesh.example\"\n[nats]");
        let lab = "[[workspaces]]\nname = \"lab\"\ncreds = \"k.nk\"\n";
        let service = |name: &str, more: &str| {
            format!("[[oidc]]\nname = \"{name}\"\nissuer = \"https://id.example\"\nclient_id = \"mesh\"\n{more}")
        };
        let (one, two) = (service("one", ""), service("two", "workspace = \"lab\"\n"));
        let config = load(&[&good, lab, &one, &two].concat(), &[]).unwrap();
        let found: Vec<_> = config.oidc.iter().map(|s| (s.name.as_str(), s.workspace.as_str())).collect();
        assert_eq!(found, [("one", "default"), ("two", "lab")]);
        let (bad, worse) =
            (service("bad", "workspace = \"lob\"\n"), service("worse", "workspace = \"\"\ndefault_role = \"x\"\n"));
        let told = load(&[&good, lab, &bad, &worse].concat(), &[]).unwrap_err().to_string();
        for part in
            ["oidc \"bad\": workspace \"lob\"", "default, lab", "oidc \"worse\": workspace \"\"", "default_role \"x\""]
        {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn a_word_we_do_not_know_is_named_with_its_line() {
        let error = load(&format!("{GOOD}[store]\nmemtabel = 3\n"), &[]).unwrap_err().to_string();
        assert!(error.contains("memtabel") && error.contains("line 8"), "{error}");
    }
}
