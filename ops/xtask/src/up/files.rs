//! The folder of a stack: configurations, accounts, where things are.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::options::Options;
use super::{read, workspace};
use crate::{project, run};

/// The workspace of the stack.
pub(super) const WORKSPACE: &str = "default";
/// The name of its node.
pub(super) const NODE_ID: &str = "local";
/// Agent programs that get a profile if they are here: (program, title).
const KNOWN_AGENTS: [(&str, &str); 5] = [
    ("claude", "Claude Code"),
    ("codex", "Codex"),
    ("gemini", "Gemini CLI"),
    ("opencode", "opencode"),
    ("goose", "Goose"),
];
/// A log that is longer when its part starts is put aside first.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The folder.
pub(super) struct Files {
    data: PathBuf,
    tls: bool,
}

/// The programs that run.
pub(super) struct Programs {
    nats: PathBuf,
    hub: PathBuf,
    node: PathBuf,
    pub mosaic: PathBuf,
}

/// A user of the hub.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub email: String,
    pub password: String,
}

/// The users that are always there.
pub(super) struct Accounts {
    pub admin: Account,
    pub operator: Account,
    pub observer: Account,
}

/// What the node may start.
pub(super) struct Agents {
    /// Profiles, as TOML.
    profiles: String,
    /// Names of profiles.
    pub found: Vec<String>,
    /// Programs that are not here.
    pub missing: Vec<String>,
    /// Why there is no demo.
    pub demo: Result<(), String>,
}

impl Programs {
    pub fn in_dir(dir: &Path, nats: PathBuf) -> Self {
        Self { nats, hub: dir.join("mosaic-hub"), node: dir.join("mosaic-node"), mosaic: dir.join("mosaic") }
    }

    /// How a part is started.
    pub fn command(&self, part: &str, files: &Files, further: &[PathBuf]) -> Command {
        match part {
            "nats" => start(&self.nats, &["-c"], &[files.nats_config()]),
            "hub" => start(&self.hub, &["--config"], &[files.hub_config()]),
            _ => self.node(&["run"], files, further),
        }
    }

    /// A command of the node agent, with its configuration and what is merged over it.
    pub fn node(&self, arguments: &[&str], files: &Files, further: &[PathBuf]) -> Command {
        let mut command = start(&self.node, arguments, &[]);
        for file in std::iter::once(&files.node_config()).chain(further) {
            command.arg("--config").arg(file);
        }
        command
    }
}

/// Of the variables for our own programs, those that whoever runs `up` may set: logs, and the store's memory.
const KEPT: [&str; 2] = ["MOSAIC_LOG", "MOSAIC_STORE_"];

/// A program of the stack with its arguments and the files behind them.
fn start(program: &Path, arguments: &[&str], files: &[PathBuf]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(project::root()).args(arguments).args(files);
    // Their environment stands over their files: what is meant for others, such as an agent in whose session we were
    // started, must not reach them.
    let is_kept = |name: &[u8]| KEPT.iter().any(|kept| name.starts_with(kept.as_bytes()));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"MOSAIC_") && !is_kept(name.as_encoded_bytes()) {
            command.env_remove(name);
        }
    }
    command
}

impl Files {
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let files = Self { data: options.data.clone(), tls: options.tls };
        for dir in [files.data.clone(), files.data.join("run"), files.data.join("logs")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("make {}", dir.display()))?;
        }
        Ok(files)
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn run_dir(&self) -> PathBuf {
        self.data.join("run")
    }

    pub fn pid_file(&self, part: &str) -> PathBuf {
        self.run_dir().join(format!("{part}.pid"))
    }

    pub fn log(&self, part: &str) -> PathBuf {
        self.data.join("logs").join(format!("{part}.log"))
    }

    pub fn users(&self) -> PathBuf {
        self.data.join("users.json")
    }

    pub fn nats_config(&self) -> PathBuf {
        self.data.join("nats.conf")
    }

    pub fn hub_config(&self) -> PathBuf {
        self.data.join("hub.toml")
    }

    pub fn node_config(&self) -> PathBuf {
        self.data.join("node.toml")
    }

    /// Removes what killed servers told of their ports, lest a new one with the same id be mistaken for them.
    pub fn clear_ports(&self) {
        for entry in fs::read_dir(self.run_dir()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "ports") {
                // Left there it is only clutter, in all likelihood.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Where the hub tells the address it got.
    pub fn hub_listen(&self) -> PathBuf {
        self.data.join("hub/listen.json")
    }

    fn identity(&self) -> PathBuf {
        self.data.join("identity")
    }

    /// Credentials of `hub`, `reader` or `journal`; that of the node by its name.
    pub fn creds(&self, name: &str) -> PathBuf {
        self.identity().join("creds").join(format!("{name}.creds"))
    }

    /// Address of the bus.
    pub fn nats_url(&self, port: u16) -> String {
        format!("{}://127.0.0.1:{port}", if self.tls { "tls" } else { "nats" })
    }

    /// Address of the hub.
    pub fn hub_url(&self, port: u16) -> String {
        format!("{}://127.0.0.1:{port}", if self.tls { "https" } else { "http" })
    }

    /// The certificate that all trust, if bus and hub have TLS.
    pub fn ca(&self) -> Option<PathBuf> {
        self.tls.then(|| self.identity().join("tls/ca.pem"))
    }

    fn ca_line(&self) -> String {
        self.ca().map_or_else(String::new, |ca| format!("ca = {}\n", quoted(ca)))
    }

    fn tls_line(&self) -> String {
        if !self.tls {
            return String::new();
        }
        let (cert, key) = (self.identity().join("tls/server.pem"), self.identity().join("tls/server.key"));
        format!("tls = {{ cert = {}, key = {} }}\n", quoted(cert), quoted(key))
    }

    pub fn node_creds(&self) -> PathBuf {
        self.creds(&format!("node-{NODE_ID}"))
    }

    /// Makes the identity of the mesh and of the node, once.
    pub fn write_identity(&self, programs: &Programs) -> anyhow::Result<()> {
        self.mosaic(programs, &["init"])?;
        self.mosaic(programs, &["add-node", NODE_ID])?;
        if self.tls {
            self.mosaic(programs, &["tls"])?;
        }
        Ok(())
    }

    /// Runs `mosaic identity …` and gives what it prints.
    fn mosaic(&self, programs: &Programs, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&programs.mosaic);
        command.arg("identity").args(arguments).args(["--workspace", workspace(), "--dir"]).arg(self.identity());
        run::output(&mut command)
    }

    pub fn write_nats_config(&self, programs: &Programs, port: u16) -> anyhow::Result<()> {
        let listen = if port == 0 { "127.0.0.1:-1".into() } else { format!("127.0.0.1:{port}") };
        let (store, ports) = (self.data.join("nats"), self.run_dir());
        let (store, ports) = (store.to_string_lossy(), ports.to_string_lossy());
        let mut arguments = vec!["server-config", "--listen", &listen, "--store", &*store, "--ports-dir", &*ports];
        arguments.extend(self.tls.then_some("--tls"));
        self.write(&self.nats_config(), &format!("{}\n", self.mosaic(programs, &arguments)?))
    }

    pub fn write_hub_config(&self, port: u16, nats_port: u16) -> anyhow::Result<()> {
        let text = format!(
            "# Made by `cargo xtask up`; changes here do not last.\n\
             [hub]\nlisten = {}\ndata_dir = {}\nworkspace = {}\nbootstrap_users = {}\n{}\n\
             [nats]\nurl = {}\ncreds = {}\njournal_creds = {}\ncommand_key = {}\nidentity = {}\n{}",
            quoted(format!("127.0.0.1:{port}")),
            quoted(self.data.join("hub")),
            quoted(workspace()),
            quoted(self.users()),
            self.tls_line(),
            quoted(self.nats_url(nats_port)),
            quoted(self.creds("hub")),
            quoted(self.creds("journal")),
            quoted(self.identity().join("command.nk")),
            quoted(self.identity()),
            self.ca_line(),
        );
        self.write(&self.hub_config(), &text)
    }

    pub fn write_node_config(&self, programs: &Programs, nats_port: u16, agents: &Agents) -> anyhow::Result<()> {
        let summary: Value = serde_json::from_str(&self.mosaic(programs, &["init", "--json"])?)?;
        let key = summary.get("commandKey").and_then(Value::as_str).context("`mosaic identity init` tells no key")?;
        let text = format!(
            "# Made by `cargo xtask up`; changes here do not last. Add to it with --node-config FILE.\n\
             [node]\nid = {}\nworkspace = {}\ndata_dir = {}\nshell = true\n\n\
             [nats]\nurl = {}\ncreds = {}\n{}\n[trust]\ncommand_keys = [{}]\n{}",
            quoted(NODE_ID),
            quoted(workspace()),
            quoted(self.data.join("node")),
            quoted(self.nats_url(nats_port)),
            quoted(self.node_creds()),
            self.ca_line(),
            quoted(key),
            agents.profiles,
        );
        self.write(&self.node_config(), &text)
    }

    /// Users with random passwords; those that are there stay as they are.
    pub fn write_accounts(&self) -> anyhow::Result<Accounts> {
        let path = self.users();
        let mut users: Vec<Value> = match path.is_file() {
            true => serde_json::from_str(&read(&path)?).with_context(|| format!("{} is damaged", path.display()))?,
            false => vec![],
        };
        let mut account = |role: &str, name: &str| -> anyhow::Result<Account> {
            let text = |user: &Value, key: &str| user.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(user) = users.iter().find(|user| text(user, "role") == role) {
                return Ok(Account { email: text(user, "email"), password: text(user, "password") });
            }
            let made = Account { email: format!("{role}@mosaic.local"), password: password()? };
            users.push(json!({"email": made.email, "name": name, "password": made.password, "role": role}));
            Ok(made)
        };
        let accounts = Accounts {
            admin: account("admin", "Admin")?,
            operator: account("operator", "Operator")?,
            observer: account("observer", "Observer")?,
        };
        self.write(&path, &format!("{}\n", serde_json::to_string_pretty(&users)?))?;
        Ok(accounts)
    }

    /// Writes a file that only its owner may read; it is there whole or as it was.
    pub fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let temporary = path.with_extension("new");
        let written = (|| {
            if temporary.exists() {
                fs::remove_file(&temporary)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&temporary, path)
        })();
        written.with_context(|| format!("write {}", path.display()))
    }

    /// Puts a log that has grown long aside.
    pub fn turn_log(&self, part: &str) {
        let log = self.log(part);
        if fs::metadata(&log).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
            // It only grows on if this fails.
            let _ = fs::rename(&log, log.with_extension("log.1"));
        }
    }
}

/// Looks for what this machine can start.
pub(super) fn agents() -> Agents {
    let mut agents = Agents { profiles: String::new(), found: vec![], missing: vec![], demo: Ok(()) };
    let script = project::root().join("ops/demo/agent.py");
    match project::on_path("python3") {
        Some(python) if script.is_file() => {
            agents.profiles.push_str(&format!(
                "\n[[profile]]\nname = \"demo\"\ntitle = \"Demo agent\"\nagent_type = \"demo\"\nprovider = \"pty\"\n\
                 protocol = \"jsonl\"\ncommand = [{}, \"-u\", {}]\ncwd = {}\n",
                quoted(&python),
                quoted(&script),
                quoted(project::root()),
            ));
            agents.found.push("demo".into());
        }
        Some(_) => agents.demo = Err(format!("{} is missing", script.display())),
        None => agents.demo = Err("there is no python3 on PATH".into()),
    }
    for (program, title) in KNOWN_AGENTS {
        let Some(path) = project::on_path(program) else {
            agents.missing.push(program.into());
            continue;
        };
        agents.profiles.push_str(&format!(
            "\n[[profile]]\nname = \"{program}\"\ntitle = \"{title}\"\nagent_type = \"{program}\"\nprovider = \"pty\"\n\
             command = [{}]\n",
            quoted(&path)
        ));
        agents.found.push(program.into());
    }
    agents
}

/// A TOML string. JSON's escapes are among TOML's.
fn quoted(text: impl AsRef<std::ffi::OsStr>) -> String {
    Value::from(text.as_ref().to_string_lossy().into_owned()).to_string()
}

/// A hundred random bits, easy to type.
fn password() -> anyhow::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").context("open /dev/urandom")?, &mut bytes)?;
    let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32)));
    let password: String = letters.map(|letter| char::from(*letter)).collect();
    if password.len() != bytes.len() {
        bail!("no password could be made");
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(data: &Path) -> Files {
        let options = Options::parse(&["--data".into(), data.to_string_lossy().into_owned()]).unwrap();
        Files::new(&options).unwrap()
    }

    #[test]
    fn accounts_are_made_once_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let first = files.write_accounts().unwrap();
        let again = files.write_accounts().unwrap();
        assert_eq!(first.admin.password, again.admin.password);
        assert_ne!(first.admin.password, first.observer.password);
        assert_eq!(fs::metadata(files.users()).unwrap().permissions().mode() & 0o777, 0o600);
        // Somebody's own users stay, and one that went is made again.
        let mut users: Vec<Value> = serde_json::from_str(&read(&files.users()).unwrap()).unwrap();
        users.retain(|user| user["role"] != "observer");
        users.push(json!({"email": "ada@example.org", "name": "Ada", "password": "p", "role": "operator"}));
        fs::write(files.users(), serde_json::to_string(&users).unwrap()).unwrap();
        let third = files.write_accounts().unwrap();
        assert_eq!(third.operator.password, first.operator.password);
        assert_ne!(third.observer.password, first.observer.password);
        assert!(read(&files.users()).unwrap().contains("ada@example.org"));
    }

    #[test]
    fn damaged_accounts_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        fs::write(files.users(), "[{").unwrap();
        assert!(files.write_accounts().is_err());
        assert_eq!(read(&files.users()).unwrap(), "[{");
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quoted("/a \"b\"\\c"), r#""/a \"b\"\\c""#);
    }

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (one, two) = (password().unwrap(), password().unwrap());
        assert_eq!(one.len(), 20);
        assert_ne!(one, two);
    }
}
