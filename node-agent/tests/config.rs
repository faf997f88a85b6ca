//! A wrong configuration is told all at once, with file, line and key, and without secrets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node_agent::config::{Config, LogFormat};

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn creds(folder: &Path) -> PathBuf {
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let text = format!("-----BEGIN NATS USER JWT-----\nx\n---\n-----BEGIN USER NKEY SEED-----\n{seed}\n---\n");
    write(folder, "node.creds", &text)
}

fn good(folder: &Path) -> String {
    let key = nkeys::KeyPair::new_service().public_key();
    let creds = creds(folder);
    format!(
        "[node]\nid = \"n1\"\ndata_dir = \"/tmp/n1\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\ncreds = {creds:?}\n\
         [trust]\ncommand_keys = [{key:?}]\n"
    )
}

fn problems(folder: &Path, text: &str, vars: &[(&str, &str)]) -> String {
    let path = write(folder, "node.toml", text);
    let error = Config::load(std::slice::from_ref(&path), &env(vars)).map(|_| ()).unwrap_err();
    error.to_string().replace(&path.display().to_string(), "node.toml")
}

#[test]
fn little_is_needed_and_the_rest_has_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "node.toml", &good(folder.path()));
    let config = Config::load(&[path], &env(&[("SHELL", "/bin/zsh"), ("HOME", "/home/ada")])).unwrap();
    assert_eq!((config.node.as_str(), config.workspace.as_str()), ("n1", "default"));
    assert_eq!(config.profiles["shell"].command, ["/bin/zsh", "-l"]);
    assert_eq!(config.nats_urls, ["nats://127.0.0.1:4222"]);
    assert_eq!(config.command_keys.len(), 1);
}

#[test]
fn agents_on_the_path_are_offered_unless_that_is_switched_off() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = write(folder.path(), "codex-acp", "#!/bin/sh\n");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("/nowhere:{}", folder.path().display());
    for (line, offered) in [("", true), ("detect = false\n", false)] {
        let text = good(folder.path()).replace("[nats]", &format!("{line}[nats]"));
        let file = write(folder.path(), "node.toml", &text);
        let config = Config::load(&[file], &env(&[("PATH", &path)])).unwrap();
        assert_eq!(config.profiles.contains_key("codex-acp"), offered);
        assert!(config.profiles.contains_key("shell"));
    }
}

#[test]
fn containers_are_looked_for_unless_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let load = |more: &str| {
        let path = write(folder.path(), "node.toml", &format!("{}{more}", good(folder.path())));
        Config::load(&[path], &env(&[])).map(|config| config.docker).map_err(|error| error.to_string())
    };
    let docker = load("").unwrap();
    assert_eq!((docker.is_enabled, docker.socket), (true, None));
    let docker = load("[docker]\nsocket = \"/run/d.sock\"\n").unwrap();
    assert_eq!(docker.socket.as_deref(), Some(Path::new("/run/d.sock")));
    let profile = "[[profile]]\nname = \"c\"\nprovider = \"docker\"\nimage = \"debian:12\"\n";
    assert!(load(profile).is_ok());
    let error = load(&format!("[docker]\nenabled = false\n{profile}")).unwrap_err();
    assert!(error.contains("needs enabled = true in [docker]"), "{error}");
}

#[test]
fn all_problems_are_told_at_once_with_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"[node]
id = "a b"
data_dir = 7
shells = true
max_sessions = 0

[nats]
url = ["nats://127.0.0.1:4222", "not an address at all"]

[trust]
command_keys = ["SVABCDEFGHIJKLMNOP"]

[outbox]
max_bytes_per_session = 10
max_bytes = "much"

[[profile]]
name = "good"
command = ["true"]

[[profile]]
command = ["nameless"]

[[profile]]
name = "bad"
comand = ["typo"]
provider = "horse"
env = { TOKEN = 1234567890, MOSAIC_X = "secret-value" }
[profile.stop]
grace = 5

[mystery]
x = 1
"#;
    let told = problems(folder.path(), text, &[("MOSAIC_LOG_FORMAT", "xml")]);
    for (place, part) in [
        ("node.toml:3: node.data_dir: ", "invalid type: integer `7`"),
        ("node.toml:4: node.shells: ", "unknown field `shells`"),
        ("node.toml:15: outbox.max_bytes: ", "expected u64"),
        ("node.toml:21: profile: ", "missing field `name`"),
        ("node.toml:26: profile.comand: ", "unknown field `comand`"),
        ("node.toml:28: profile.env.TOKEN: ", "must be a text in quotes"),
        ("node.toml:30: profile.stop.grace: ", "unknown field `grace`"),
        ("node.toml:32: mystery: ", "unknown field `mystery`"),
        ("node.id: ", "\"a b\""),
        ("node.data_dir: ", "is missing"),
        ("node.max_sessions: ", "0 must be 1 to 2000"),
        ("nats.url: ", "not an address at all"),
        ("nats.creds: ", "enrol the node"),
        ("trust.command_keys: ", "begins with V"),
        ("outbox.max_bytes_per_session: ", "10 is too small"),
        ("node.toml: profile \"bad\": ", "command is empty"),
        ("node.toml: profile \"bad\": ", "\"horse\" is not known; one of pty"),
        ("node.toml: profile \"bad\": ", "begin with MOSAIC_"),
        ("MOSAIC_LOG_FORMAT: ", "neither text nor json"),
    ] {
        assert!(told.lines().any(|line| line.starts_with(place) && line.contains(part)), "{place}{part} in:\n{told}");
    }
    for secret in ["1234567890", "secret-value", "SVABCDEF"] {
        assert!(!told.contains(secret), "{secret} in:\n{told}");
    }
    assert_eq!(told.lines().count(), 19, "{told}");
}

#[test]
fn what_is_no_toml_is_told_with_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let text = good(folder.path()) + "[[profile]\nname = \"x\"\n";
    let told = problems(folder.path(), &text, &[]);
    assert!(told.starts_with("node.toml:9: "), "{told}");
}

#[test]
fn a_later_file_goes_over_an_earlier_one_and_the_environment_over_both() {
    let folder = tempfile::tempdir().unwrap();
    let profiles = "[[profile]]\nname = \"a\"\ncommand = [\"one\"]\n[[profile]]\nname = \"b\"\ncommand = [\"two\"]\n";
    let first = write(folder.path(), "a.toml", &(good(folder.path()) + profiles));
    let second =
        "[node]\nid = \"n2\"\nworkspace = \"w2\"\nshell = false\n[[profile]]\nname = \"b\"\ncommand = [\"three\"]\n";
    let second = write(folder.path(), "b.toml", second);
    let vars = [("MOSAIC_NODE_ID", "n3"), ("MOSAIC_NATS_URL", "nats://a:1, nats://b:2"), ("MOSAIC_LOG_FORMAT", "json")];
    let config = Config::load(&[first, second], &env(&vars)).unwrap();
    assert_eq!((config.node.as_str(), config.workspace.as_str()), ("n3", "w2"));
    assert_eq!(config.nats_urls, ["nats://a:1", "nats://b:2"]);
    let commands: Vec<_> = config.profiles.values().map(|p| (p.name.as_str(), p.command[0].as_str())).collect();
    assert_eq!(commands, [("a", "one"), ("b", "three")]);
    assert_eq!(config.log_format, LogFormat::Json);
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let error = Config::load(&[folder.path().join("nothing.toml")], &env(&[])).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("nothing.toml: cannot be read"), "{error}");
    let text =
        good(folder.path()).replace("node.creds", "gone.creds").replace("[trust]", "ca = \"/gone.pem\"\n[trust]");
    let told = problems(folder.path(), &text, &[]);
    assert!(told.contains("gone.creds") && told.contains("nats.ca: \"/gone.pem\" is not a file"), "{told}");
}

#[test]
fn gateways_are_read_with_their_tokens_and_no_token_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let token = write(folder.path(), "token", "s3cret\n");
    let gateway = |name: &str, url: &str, token: &Path| {
        format!("[[openclaw]]\nname = {name:?}\nurl = {url:?}\ntoken_file = {token:?}\n")
    };
    let more = format!("soft_pause = true\nca = {token:?}\n");
    let text = good(folder.path()) + &gateway("home", "ws://127.0.0.1:18789/", &token) + &more;
    let path = write(folder.path(), "node.toml", &text);
    let config = Config::load(&[path], &env(&[])).unwrap();
    let home = config.openclaw.first().unwrap();
    assert_eq!((home.soft_pause, home.ca.as_ref()), (true, Some(&token)));
    let home = &home.connection;
    assert_eq!((home.id.as_str(), home.token.expose(), home.is_active), ("node-home", "s3cret", true));
    assert!(!format!("{config:?}").contains("s3cret"));

    let two = gateway("a b", "127.0.0.1", &token)
        + &gateway("a b", "ws://x/", Path::new("/nowhere"))
        + "ca = \"/gone.pem\"\n";
    let told = problems(folder.path(), &(good(folder.path()) + &two), &[]);
    for part in ["a name is 1 to 64", "two of that name", "the address of a gateway", "cannot be read", "/gone.pem"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}
