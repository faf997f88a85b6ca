//! `mosaic-node join TOKEN`: a new node's configuration and credentials, made of the token that its enrolment gave.
//!
//! Laws:
//! 1. Nothing that is there is written over: a node that has joined stays what it is.
//! 2. All files are readable by their owner only, and what was made is taken away again if not all of it can be.
//! 3. The token is in no error and in no log.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bus_schema::{JoinToken, JoinTokenError};

/// Where a node's things go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Configuration, credentials, certificate.
    pub config: PathBuf,
    /// What must not be lost.
    pub data: PathBuf,
}

/// A node has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is none.
    #[error(transparent)]
    Token(#[from] JoinTokenError),
    /// Something is there already.
    #[error(
        "{0:?} is there already: this host has joined. To join anew move it away, or give another folder with --dir"
    )]
    Exists(PathBuf),
    /// No folder is known.
    #[error("HOME is not set: say with --dir and --data where the node's files go")]
    NoHome,
    /// The disk.
    #[error("{doing} {path:?}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Places {
    /// Where this user's programs keep such things (XDG base directory specification), unless it is said.
    ///
    /// # Errors
    /// [`JoinError::NoHome`].
    pub fn of(
        config: Option<PathBuf>,
        data: Option<PathBuf>,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, JoinError> {
        let folder = |variable: &str, below_home: &str| {
            let set = env.get(variable).filter(|path| path.starts_with('/')).map(PathBuf::from);
            let home = env.get("HOME").filter(|home| !home.is_empty());
            let found = set.or_else(|| home.map(|home| Path::new(home).join(below_home)));
            found.map(|folder| folder.join("mosaic-node")).ok_or(JoinError::NoHome)
        };
        Ok(Self {
            config: config.map_or_else(|| folder("XDG_CONFIG_HOME", ".config"), Ok)?,
            data: data.map_or_else(|| folder("XDG_STATE_HOME", ".local/state"), Ok)?,
        })
    }
}

/// Makes a node's files; tells in words what to do next.
///
/// # Errors
/// [`JoinError`]: then nothing was made.
pub fn join(token: &str, places: &Places) -> Result<String, JoinError> {
    let token = JoinToken::parse(token)?;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (dir, data) = (absolute(&places.config), absolute(&places.data));
    let (config, creds, ca) = (dir.join("node.toml"), dir.join("node.creds"), dir.join("ca.pem"));
    if let Some(there) = [&config, &creds, &ca].into_iter().find(|path| path.exists()) {
        return Err(JoinError::Exists(there.clone()));
    }
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| JoinError::Io { doing, path, source }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io("making", &dir))?;
    // The configuration last: with it the node is there.
    let text = config_text(&token, &creds, token.ca.as_ref().map(|_| ca.as_path()), &data);
    let mut files = vec![(&creds, token.creds.expose())];
    files.extend(token.ca.as_deref().map(|pem| (&ca, pem)));
    files.push((&config, &text));
    let mut made: Vec<&PathBuf> = vec![];
    for (path, content) in files {
        if let Err(source) = write_new(path, content) {
            for path in made {
                // What cannot be removed is named by the next attempt.
                let _ = std::fs::remove_file(path);
            }
            return Err(io("writing", path)(source));
        }
        made.push(path);
    }
    let JoinToken { node, workspace, .. } = &token;
    Ok(format!(
        "node {node} of workspace {workspace} has joined.\n\
         Its configuration is {}; what it may start is listed there.\n\
         Start it with: mosaic-node --config {}\n\
         Its credentials are in {}: whoever has that file is this node.",
        config.display(),
        shell_word(&config),
        creds.display()
    ))
}

fn write_new(path: &Path, content: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all())
}

fn config_text(token: &JoinToken, creds: &Path, ca: Option<&Path>, data: &Path) -> String {
    let text = |value: &str| toml::Value::from(value).to_string();
    let path = |path: &Path| text(&path.to_string_lossy());
    let list = |values: &[String]| format!("[{}]", values.iter().map(|v| text(v)).collect::<Vec<_>>().join(", "));
    let ca = ca.map_or_else(String::new, |ca| format!("ca = {}\n", path(ca)));
    format!(
        "# Made by `mosaic-node join`. Add what this node may start, as [[profile]].\n\
         [node]\nid = {}\nworkspace = {}\ndata_dir = {}\n\n\
         [nats]\nurl = {}\ncreds = {}\n{ca}\n\
         [trust]\ncommand_keys = {}\n",
        text(token.node.as_str()),
        text(token.workspace.as_str()),
        path(data),
        list(&token.nats),
        path(creds),
        list(&token.command_keys),
    )
}

/// A path as a shell reads it.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
    if is_plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bus_schema::{NodeId, Secret, WorkspaceId};

    use super::*;
    use crate::config::Config;

    fn token(ca: Option<&str>) -> Secret {
        let seed = nkeys::KeyPair::new_user().seed().unwrap();
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\nx\n---\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let token = JoinToken {
            nats: vec!["tls://a:4222".into(), "tls://b:4222".into()],
            workspace: WorkspaceId::new("acme").unwrap(),
            node: NodeId::new("n1").unwrap(),
            creds: Secret::new(creds),
            command_keys: vec![nkeys::KeyPair::new_service().public_key()],
            ca: ca.map(str::to_owned),
        };
        token.to_text().unwrap()
    }

    fn places(folder: &Path) -> Places {
        Places { config: folder.join("it's a folder"), data: folder.join("data") }
    }

    #[test]
    fn what_is_made_is_a_configuration_that_works_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let told = join(token(Some("PEM")).expose(), &places).unwrap();
        assert!(told.contains(r"it'\''s a folder/node.toml"), "{told}");
        let config = Config::load(&[places.config.join("node.toml")], &BTreeMap::new()).unwrap();
        assert_eq!((config.node.as_str(), config.workspace.as_str()), ("n1", "acme"));
        assert_eq!((config.nats_urls.len(), config.command_keys.len()), (2, 1));
        assert_eq!(std::fs::read_to_string(config.ca.unwrap()).unwrap(), "PEM");
        for name in ["node.toml", "node.creds", "ca.pem"] {
            let mode = std::fs::metadata(places.config.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        join(token(None).expose(), &places).unwrap();
        let before = std::fs::read_to_string(places.config.join("node.creds")).unwrap();
        assert!(matches!(join(token(None).expose(), &places), Err(JoinError::Exists(_))));
        assert_eq!(std::fs::read_to_string(places.config.join("node.creds")).unwrap(), before);
        // One of the files alone is somebody's too.
        std::fs::remove_file(places.config.join("node.toml")).unwrap();
        assert!(matches!(join(token(None).expose(), &places), Err(JoinError::Exists(_))));
    }

    #[test]
    fn a_bad_token_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        assert!(matches!(join("hello", &places), Err(JoinError::Token(_))));
        assert!(!places.config.exists());
    }

    #[test]
    fn folders_are_the_users_own_unless_said() {
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let found = Places::of(None, None, &env(&[("HOME", "/home/ada")])).unwrap();
        assert_eq!(found.config, Path::new("/home/ada/.config/mosaic-node"));
        assert_eq!(found.data, Path::new("/home/ada/.local/state/mosaic-node"));
        let found = Places::of(Some("/c".into()), None, &env(&[("XDG_STATE_HOME", "/s")])).unwrap();
        assert_eq!((found.config, found.data), ("/c".into(), "/s/mosaic-node".into()));
        assert!(Places::of(None, None, &env(&[])).is_err());
    }
}
