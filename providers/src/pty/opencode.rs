//! How OpenCode is started so that it serves its API: on a free port of loopback, with a password that only its session
//! and its holder have. The password is in its environment, never among its arguments.
//!
//! Its tools have the same environment: they are the agent. Another user of the machine has neither.

use std::net::{Ipv4Addr, TcpListener};

use serde_bytes::ByteBuf;

use super::holder::{Address, Environment};
use super::kind;

/// Its kind.
const KIND: &str = "opencode";
/// What it does besides its terminal: then it serves no API beside that.
const COMMANDS: [&str; 24] = [
    "acp",
    "agent",
    "attach",
    "auth",
    "completion",
    "console",
    "db",
    "debug",
    "export",
    "generate",
    "github",
    "import",
    "mcp",
    "models",
    "plug",
    "plugin",
    "pr",
    "providers",
    "run",
    "serve",
    "session",
    "stats",
    "uninstall",
    "upgrade",
];
/// Names of variables that it reads (1.18.33).
const PASSWORD: &[u8] = b"OPENCODE_SERVER_PASSWORD";
const USER: &[u8] = b"OPENCODE_SERVER_USERNAME";

/// True if this is OpenCode at a terminal, without a port of somebody's own choice.
pub(crate) fn is_ours(command: &[String]) -> bool {
    let words = command.iter().skip(1);
    let is_taken = |word: &String| {
        let option = word.split('=').next().unwrap_or_default();
        COMMANDS.contains(&word.as_str())
            || word == "web"
            || ["--port", "--hostname", "-h", "--help", "-v", "--version"].contains(&option)
    };
    kind::by_name(command) == Some(KIND) && !words.into_iter().any(is_taken)
}

/// The command with a port for its API.
pub(crate) fn with_api(command: &[String], port: u16) -> Vec<String> {
    let ours = ["--hostname", "127.0.0.1", "--port", &port.to_string()].map(str::to_owned);
    // What follows `--` is no option.
    let at = command.iter().position(|word| word == "--").unwrap_or(command.len());
    let (before, after) = command.split_at(at);
    [before, &ours, after].concat()
}

/// A port that is free now.
pub(crate) fn free_port() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    listener.local_addr().ok().map(|address| address.port())
}

/// Sees to it that there is a password.
pub(crate) fn guard(environment: &mut Environment) -> std::io::Result<()> {
    if variable(environment, PASSWORD).is_some() {
        return Ok(());
    }
    let mut random = [0; 24];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let password = data_encoding::HEXLOWER.encode(&random);
    environment.retain(|(name, _)| name != PASSWORD);
    environment.push((ByteBuf::from(PASSWORD), ByteBuf::from(password.into_bytes())));
    Ok(())
}

/// Where it serves its API, with what its environment says.
pub(crate) fn address(port: u16, environment: &Environment) -> Address {
    let user = variable(environment, USER).unwrap_or_else(|| KIND.into());
    Address { port, user, password: variable(environment, PASSWORD).unwrap_or_default() }
}

fn variable(environment: &Environment, wanted: &[u8]) -> Option<String> {
    let found = environment.iter().find(|(name, value)| name == wanted && !value.is_empty())?;
    String::from_utf8(found.1.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn only_its_terminal_is_given_a_port() {
        for line in ["opencode", "/usr/bin/opencode -m a/b", "opencode --continue src", "opencode -s ses_1"] {
            assert!(is_ours(&words(line)), "{line}");
        }
        for line in
            ["opencode run hi", "opencode acp", "opencode --port 4096", "opencode --port=1", "claude", "opencode web"]
        {
            assert!(!is_ours(&words(line)), "{line}");
        }
        assert_eq!(with_api(&words("opencode -- x"), 7), words("opencode --hostname 127.0.0.1 --port 7 -- x"));
    }

    #[test]
    fn a_password_is_made_where_there_is_none_and_is_another_one_each_time() {
        let (mut one, mut other) = (Environment::new(), Environment::new());
        guard(&mut one).unwrap();
        guard(&mut other).unwrap();
        let (one, other) = (address(1, &one), address(1, &other));
        assert_eq!((one.user.as_str(), one.password.len()), ("opencode", 48));
        assert_ne!(one.password, other.password);
        let bytes = |text: &str| ByteBuf::from(text.as_bytes());
        let mut own =
            vec![(bytes("OPENCODE_SERVER_PASSWORD"), bytes("mine")), (bytes("OPENCODE_SERVER_USERNAME"), bytes("me"))];
        guard(&mut own).unwrap();
        let own = address(1, &own);
        assert_eq!((own.user.as_str(), own.password.as_str()), ("me", "mine"));
    }
}
