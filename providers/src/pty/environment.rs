//! The environment of a session.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde_bytes::ByteBuf;

use super::files::Spec;
use super::holder::Environment;

/// Variables of ours that would tell a program something wrong: that it runs inside of another terminal.
const FOREIGN_TERMINAL: [&str; 6] =
    ["TMUX", "TMUX_PANE", "STY", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TERM_SESSION_ID"];

/// What the session's program finds: `own` (the node agent's) without its secrets and its terminal, then the profile's,
/// then the node's for this session, and at last what the session is.
pub(crate) fn environment(
    own: impl IntoIterator<Item = (OsString, OsString)>,
    profile: &BTreeMap<String, String>,
    node: &BTreeMap<String, String>,
    spec: &Spec,
) -> Environment {
    let is_ours = |key: &OsStr| {
        key.as_bytes().starts_with(b"MOSAIC_") || FOREIGN_TERMINAL.iter().any(|name| key == OsStr::new(name))
    };
    let mut all: BTreeMap<OsString, OsString> = own.into_iter().filter(|(key, _)| !is_ours(key)).collect();
    let mut set = |key: &str, value: &OsStr| all.insert(key.into(), value.into());
    set("TERM", OsStr::new("xterm-256color"));
    set("COLORTERM", OsStr::new("truecolor"));
    for (key, value) in profile.iter().chain(node) {
        set(key, OsStr::new(value));
    }
    set("MOSAIC_SESSION_ID", OsStr::new(spec.session_id.as_str()));
    if let Some(parent) = &spec.parent_session_id {
        set("MOSAIC_PARENT_SESSION_ID", OsStr::new(parent.as_str()));
    }
    set("MOSAIC_SOCKET", spec.agent_socket.as_os_str());
    // Ours says where we are.
    all.remove(OsStr::new("OLDPWD"));
    if let Some(cwd) = &spec.cwd {
        all.insert("PWD".into(), cwd.into());
    }
    if !["LC_ALL", "LC_CTYPE", "LANG"].iter().any(|name| all.contains_key(OsStr::new(name))) {
        all.insert("LANG".into(), "C.UTF-8".into());
    }
    let bytes = |text: OsString| ByteBuf::from(text.into_vec());
    all.into_iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
}

#[cfg(test)]
mod tests {
    use bus_schema::SessionId;

    use super::*;
    use crate::profile::{Protocol, StopRule};
    use crate::pty::files::{DEFAULT_SIZE, SCHEMA};

    fn spec() -> Spec {
        Spec {
            conversation: None,
            schema: SCHEMA,
            session_id: SessionId::new("01JD8Z2V9Q0000000000000000").unwrap(),
            parent_session_id: Some(SessionId::new("01JD8Z2V9Q0000000000000001").unwrap()),
            profile: "p".into(),
            command: vec!["true".into()],
            cwd: Some("/srv/project".into()),
            protocol: Protocol::Lines,
            size: DEFAULT_SIZE,
            stop: StopRule::default(),
            title: None,
            agent_type: None,
            spawned_at: 0,
            containment: Default::default(),
            limits: Default::default(),
            agent_socket: "/s/agent.sock".into(),
            api_port: None,
        }
    }

    fn text(own: &[(&str, &str)], profile: &[(&str, &str)], node: &[(&str, &str)]) -> Vec<String> {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let own = own.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        let text = |bytes: &ByteBuf| String::from_utf8_lossy(bytes).into_owned();
        let all = environment(own, &map(profile), &map(node), &spec());
        all.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect()
    }

    #[test]
    fn the_nodes_secrets_and_its_terminal_stay_with_the_node() {
        let own = [
            ("MOSAIC_TOKEN", "s3"),
            ("PWD", "/opt/node"),
            ("OLDPWD", "/opt"),
            ("TMUX", "x"),
            ("TERM", "dumb"),
            ("HOME", "/root"),
            ("LANG", "de_DE.UTF-8"),
        ];
        assert_eq!(
            text(&own, &[("KEY", "v"), ("HOME", "/h")], &[("MOSAIC_NODE", "n1")]),
            [
                "COLORTERM=truecolor",
                "HOME=/h",
                "KEY=v",
                "LANG=de_DE.UTF-8",
                "MOSAIC_NODE=n1",
                "MOSAIC_PARENT_SESSION_ID=01JD8Z2V9Q0000000000000001",
                "MOSAIC_SESSION_ID=01JD8Z2V9Q0000000000000000",
                "MOSAIC_SOCKET=/s/agent.sock",
                "PWD=/srv/project",
                "TERM=xterm-256color",
            ]
        );
    }

    #[test]
    fn a_program_without_a_language_gets_one_that_knows_all_characters() {
        assert!(text(&[], &[], &[]).contains(&"LANG=C.UTF-8".to_owned()));
        assert!(!text(&[("LC_ALL", "C")], &[], &[]).iter().any(|entry| entry.starts_with("LANG=")));
    }
}
