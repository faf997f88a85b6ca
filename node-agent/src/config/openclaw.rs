//! The gateways that a node's own configuration names.

use std::path::PathBuf;

use bus_schema::{Connection, NodeId, ProviderName, Secret};
use providers::OpenClawGateway;
use serde::Deserialize;

/// One `[[openclaw]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub name: String,
    url: String,
    token_file: Option<PathBuf>,
    #[serde(default)]
    soft_pause: bool,
    ca: Option<PathBuf>,
}

/// Reads the tokens, and tells what is wrong. No value that may be a secret is told.
pub(super) fn check(gateways: Vec<Raw>, wrong: &mut impl FnMut(&str, String)) -> Vec<OpenClawGateway> {
    let mut found: Vec<OpenClawGateway> = vec![];
    for Raw { name, url, token_file, soft_pause, ca } in gateways {
        let key = format!("openclaw {name:?}");
        // An id is what a node's name is: one token.
        if NodeId::new(&name).is_err() {
            wrong(&key, "a name is 1 to 64 characters out of A-Z a-z 0-9 _ -".into());
        }
        if found.iter().any(|other| other.connection.name == name) {
            wrong(&key, "there are two of that name; rename one".into());
        }
        if !["ws://", "wss://", "http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            wrong(&key, "url is the address of a gateway, such as \"ws://127.0.0.1:18789/\"".into());
        }
        if let Some(path) = ca.as_ref().filter(|path| !path.is_file()) {
            wrong(&key, format!("ca {path:?} is not a file"));
        }
        let token = match token_file.as_ref().map(|path| (path, std::fs::read_to_string(path))) {
            None => Secret::default(),
            Some((_, Ok(token))) => Secret::new(token.trim()),
            Some((path, Err(error))) => {
                wrong(&key, format!("token_file {path:?} cannot be read: {error}"));
                Secret::default()
            }
        };
        match ProviderName::new("openclaw") {
            Ok(provider) => {
                let id = format!("node-{name}");
                let connection = Connection { id, name, provider, url, token, is_active: true };
                found.push(OpenClawGateway { connection, soft_pause, ca });
            }
            Err(error) => wrong(&key, error.to_string()),
        }
    }
    found
}
