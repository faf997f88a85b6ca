//! Making, reading and changing an identity.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bus_schema::{BusRole, JoinToken, KeySuccession, NodeId, Secret, Timestamp, WorkspaceId};
use nkeys::{KeyPair, KeyPairType};

use crate::clock::now_s;
use crate::command_key::CommandKey;
use crate::error::IdentityError;
use crate::jwt::Claims;
use crate::server::ServerConfig;
use crate::state::{State, User, Workspace};
use crate::tls::{self, TlsFiles};
use crate::{claims, command_key, files};

/// Subject in the system account to which the JWT of a changed account is sent as a request; every server with the
/// resolver of [`Identity::server_config`] takes it over at once and passes it on.
pub const ACCOUNT_UPDATE_SUBJECT: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Name of the hub's user in a workspace.
pub const HUB_NAME: &str = "hub";
/// Name of the first reader of a workspace.
pub const READER_NAME: &str = "reader";

/// The identity of one mesh: a folder (see the crate's documentation).
#[derive(Clone, Debug)]
pub struct Identity {
    dir: PathBuf,
    state: State,
}

/// Credentials for one client of the bus.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The client's name; its inbox is [`bus_schema::inbox_prefix`] of it.
    pub name: String,
    /// Its public key.
    pub public_key: String,
    /// The whole credentials file.
    pub text: Secret,
}

/// An account as it has to be known to the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountUpdate {
    /// Public key of the account.
    pub account: String,
    /// The payload for [`ACCOUNT_UPDATE_SUBJECT`].
    pub jwt: String,
}

impl Identity {
    /// Makes the identity in `dir` with its first workspace, or whatever of it is missing. Asked again, it changes
    /// nothing. Accounts that an older program wrote with another permission table are written anew; a running server
    /// learns of that by [`account_updates`](Self::account_updates) or when it starts again.
    ///
    /// # Errors
    /// [`IdentityError`]: the disk, or files there that are not ours.
    pub fn init(dir: &Path, workspace: &WorkspaceId) -> Result<Self, IdentityError> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let _lock = files::lock(&dir)?;
        let state = match State::load(&dir.join("identity.json"))? {
            Some(state) => state,
            None => make(&dir, workspace)?,
        };
        let mut identity = Self { dir, state };
        identity.complete()?;
        identity.ensure_workspace(workspace)?;
        Ok(identity)
    }

    /// Opens the identity in `dir`.
    ///
    /// # Errors
    /// [`IdentityError::Missing`] if there is none; otherwise as [`init`](Self::init).
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let state = State::load(&dir.join("identity.json"))?;
        let state = state.ok_or_else(|| IdentityError::Missing { path: dir.clone() })?;
        Ok(Self { dir, state })
    }

    /// Adds a workspace with the credentials of its hub and its reader. Asked again, it changes nothing. Running
    /// servers have to be told: [`account_updates`](Self::account_updates).
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn add_workspace(&mut self, workspace: &WorkspaceId) -> Result<(), IdentityError> {
        let _lock = self.locked()?;
        self.ensure_workspace(workspace)
    }

    /// Adds a node and gives the path of its credentials file. Asked again, it gives the same file. Servers need not
    /// be told.
    ///
    /// # Errors
    /// [`IdentityError::UnknownWorkspace`], [`IdentityError::NameTaken`], the disk.
    pub fn add_node(&mut self, workspace: &WorkspaceId, node: &NodeId) -> Result<PathBuf, IdentityError> {
        let _lock = self.locked()?;
        let path = self.node_creds(workspace, node);
        self.ensure_creds(workspace, BusRole::Node, node.as_str(), &path)?;
        Ok(path)
    }

    /// Makes credentials that are kept nowhere here: for a node on another host, or one more reader. Every call makes
    /// new ones; older ones of the same name stay valid until [`revoke`](Self::revoke).
    ///
    /// # Errors
    /// [`IdentityError::UnknownWorkspace`]; [`IdentityError::NameTaken`] if somebody of another role has the name;
    /// [`IdentityError::BadName`]; the disk.
    pub fn issue(&mut self, workspace: &WorkspaceId, role: BusRole, name: &str) -> Result<Credentials, IdentityError> {
        let _lock = self.locked()?;
        self.issue_locked(workspace, role, name)
    }

    /// Makes all credentials issued to `name` so far void, and gives what running servers have to be told. They end
    /// the user's connections then.
    ///
    /// # Errors
    /// [`IdentityError::UnknownWorkspace`], [`IdentityError::UnknownUser`], the disk.
    pub fn revoke(&mut self, workspace: &WorkspaceId, name: &str) -> Result<AccountUpdate, IdentityError> {
        let _lock = self.locked()?;
        let now = now_s();
        let found = self.state.workspaces.get_mut(workspace);
        let found = found.ok_or_else(|| IdentityError::UnknownWorkspace(workspace.clone()))?;
        let role = found.role_of(name);
        let role =
            role.ok_or_else(|| IdentityError::UnknownUser { workspace: workspace.clone(), name: name.into() })?;
        let living = found.users.iter_mut().filter(|user| user.name == name && user.revoked_at_s.is_none());
        living.for_each(|user| user.revoked_at_s = Some(now));
        let account = found.account.clone();
        self.save()?;
        let jwt = self.write_workspace_account(workspace)?;
        if let Some(path) = self.creds_path(workspace, role, name) {
            // Void from now on; whoever asks for this file again gets new credentials.
            files::remove(&path)?;
        }
        Ok(AccountUpdate { account, jwt })
    }

    /// Puts a new command key in the place of the one there is, which signs the statement of that. The old key counts
    /// for `overlap_s` seconds more, for hubs that have not been started again; its seed is gone at once.
    ///
    /// # Errors
    /// The disk; [`IdentityError::Damaged`] if the key there is cannot be read.
    pub fn rotate_command_key(&mut self, overlap_s: u64) -> Result<KeySuccession, IdentityError> {
        let _lock = self.locked()?;
        let path = self.command_key_path();
        let (old, new) = (CommandKey::load(&path)?, CommandKey::generate());
        let at = Timestamp::from_millis(i64::try_from(now_s().saturating_mul(1_000)).unwrap_or(i64::MAX));
        let until = at.plus_millis(i64::try_from(overlap_s.saturating_mul(1_000)).unwrap_or(i64::MAX));
        let statement = old.succession(&new.public_key(), at, until)?;
        // In this order: a statement about a key that then was not kept is told to nobody, since no key follows from it.
        command_key::append_chain(&path, &statement)?;
        write_seed(&path, new.pair())?;
        self.state.command_key = new.public_key();
        self.save()?;
        Ok(statement)
    }

    /// Makes certificates for servers of these names, beside those of this machine, or what of them is missing.
    ///
    /// # Errors
    /// The disk; [`IdentityError::Sign`] for what cannot be the name of a server.
    pub fn tls(&mut self, names: &[String]) -> Result<TlsFiles, IdentityError> {
        let _lock = self.locked()?;
        tls::ensure(&self.dir, names)
    }

    /// Where the certificates are, if they were made.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        Some(TlsFiles::of(&self.dir)).filter(|paths| paths.ca.exists())
    }

    /// All that a new node needs, as one text: credentials that are kept nowhere here, made by this call.
    ///
    /// # Errors
    /// [`IdentityError::Enrolled`] if the node has credentials; otherwise as [`issue`](Self::issue).
    pub fn enrol(
        &mut self,
        workspace: &WorkspaceId,
        node: &NodeId,
        nats: Vec<String>,
        ca: Option<String>,
    ) -> Result<JoinToken, IdentityError> {
        let _lock = self.locked()?;
        if self.workspace(workspace)?.role_of(node.as_str()) == Some(BusRole::Node) {
            return Err(IdentityError::Enrolled(node.clone()));
        }
        let creds = self.issue_locked(workspace, BusRole::Node, node.as_str())?.text;
        let command_keys = vec![self.state.command_key.clone()];
        Ok(JoinToken { nats, workspace: workspace.clone(), node: node.clone(), creds, command_keys, ca })
    }

    /// Every account as servers have to know it. A hub that starts pushes them all; servers ignore what they know.
    ///
    /// # Errors
    /// [`IdentityError::Damaged`] if an account's file is gone; the disk.
    pub fn account_updates(&self) -> Result<Vec<AccountUpdate>, IdentityError> {
        let state = &self.state;
        let accounts = [&state.system_account, &state.hub_account];
        let accounts = accounts.into_iter().chain(state.workspaces.values().map(|w| &w.account));
        accounts
            .map(|account| {
                let path = self.account_path(account);
                let jwt = files::read(&path)?.ok_or(IdentityError::Missing { path })?;
                Ok(AccountUpdate { account: account.clone(), jwt: jwt.trim().to_owned() })
            })
            .collect()
    }

    /// The configuration of a NATS server of this mesh.
    ///
    /// # Errors
    /// The disk.
    pub fn server_config(&self, server: &ServerConfig<'_>) -> Result<String, IdentityError> {
        let path = self.dir.join("operator.jwt");
        let operator = files::read(&path)?.ok_or(IdentityError::Missing { path })?;
        Ok(server.text(operator.trim(), &self.state.system_account, &self.dir.join("accounts")))
    }

    /// The workspaces.
    pub fn workspaces(&self) -> impl Iterator<Item = &WorkspaceId> {
        self.state.workspaces.keys()
    }

    /// Names and roles of all users of a workspace that are not revoked, each once.
    pub fn users(&self, workspace: &WorkspaceId) -> BTreeMap<String, BusRole> {
        let users = self.state.workspaces.get(workspace).map_or(&[][..], |w| &w.users);
        let workspace = self.state.workspaces.get(workspace);
        users.iter().filter_map(|user| Some((user.name.clone(), workspace?.role_of(&user.name)?))).collect()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the hub's credentials for a workspace are.
    pub fn hub_creds(&self, workspace: &WorkspaceId) -> PathBuf {
        self.creds_dir(workspace).join("hub.creds")
    }

    /// Where the reader's credentials for a workspace are.
    pub fn reader_creds(&self, workspace: &WorkspaceId) -> PathBuf {
        self.creds_dir(workspace).join("reader.creds")
    }

    /// Where a node's credentials are, if they are kept here.
    pub fn node_creds(&self, workspace: &WorkspaceId, node: &NodeId) -> PathBuf {
        self.creds_dir(workspace).join(format!("node-{node}.creds"))
    }

    /// Where the credentials for the hub's own account are.
    pub fn journal_creds(&self) -> PathBuf {
        self.dir.join("creds/journal.creds")
    }

    /// Where the credentials for the system account are: for [`ACCOUNT_UPDATE_SUBJECT`] and nothing else.
    pub fn sys_creds(&self) -> PathBuf {
        self.dir.join("creds/sys.creds")
    }

    /// Where the command key is.
    pub fn command_key_path(&self) -> PathBuf {
        self.dir.join("command.nk")
    }

    /// The public half of the command key: what nodes trust.
    pub fn command_public_key(&self) -> &str {
        &self.state.command_key
    }

    /// Takes the lock and the state as it is on disk now: hub and command line may both be at work.
    pub(crate) fn locked(&mut self) -> Result<files::Lock, IdentityError> {
        let lock = files::lock(&self.dir)?;
        let state = State::load(&self.dir.join("identity.json"))?;
        self.state = state.ok_or_else(|| IdentityError::Missing { path: self.dir.clone() })?;
        Ok(lock)
    }

    pub(crate) fn save(&self) -> Result<(), IdentityError> {
        self.state.save(&self.dir.join("identity.json"))
    }

    fn creds_dir(&self, workspace: &WorkspaceId) -> PathBuf {
        let dir = self.dir.join("creds");
        if *workspace == self.state.first_workspace { dir } else { dir.join(workspace.as_str()) }
    }

    /// Where the credentials of a user are, if they are kept here.
    fn creds_path(&self, workspace: &WorkspaceId, role: BusRole, name: &str) -> Option<PathBuf> {
        match role {
            BusRole::Hub => (name == HUB_NAME).then(|| self.hub_creds(workspace)),
            BusRole::Reader => (name == READER_NAME).then(|| self.reader_creds(workspace)),
            BusRole::Node => Some(self.node_creds(workspace, &NodeId::new(name).ok()?)),
        }
    }

    fn account_path(&self, public: &str) -> PathBuf {
        self.dir.join("accounts").join(format!("{public}.jwt"))
    }

    /// Writes whatever follows from the state and is missing or outdated.
    fn complete(&mut self) -> Result<(), IdentityError> {
        // A change of the command key that was broken off before its end.
        let command_key = CommandKey::load(&self.command_key_path())?.public_key();
        if command_key != self.state.command_key {
            self.state.command_key = command_key;
            self.save()?;
        }
        let state = &self.state;
        let operator = claims::operator(&state.operator, &state.system_account);
        self.refresh(&self.dir.join("operator.jwt"), &operator)?;
        for claims in [claims::system_account(&state.system_account), claims::hub_account(&state.hub_account)] {
            self.refresh(&self.account_path(&claims.subject), &claims)?;
        }
        let (system, hub) = (state.system_account.clone(), state.hub_account.clone());
        for (account, name, path) in [(system, "sys", self.sys_creds()), (hub, "journal", self.journal_creds())] {
            if !path.exists() {
                let user = KeyPair::new_user();
                let jwt = claims::free_user(&user.public_key(), name).sign(&self.pair(&account)?, now_s())?;
                files::write_private(&path, creds_text(&jwt, &user)?.expose().as_bytes())?;
            }
        }
        for workspace in self.state.workspaces.keys().cloned().collect::<Vec<_>>() {
            self.complete_workspace(&workspace)?;
        }
        Ok(())
    }

    fn ensure_workspace(&mut self, id: &WorkspaceId) -> Result<(), IdentityError> {
        if !self.state.workspaces.contains_key(id) {
            let workspace = make_workspace(&self.dir)?;
            self.state.workspaces.insert(id.clone(), workspace);
            self.save()?;
        }
        self.complete_workspace(id)
    }

    fn complete_workspace(&mut self, id: &WorkspaceId) -> Result<(), IdentityError> {
        self.write_workspace_account(id)?;
        self.ensure_creds(id, BusRole::Hub, HUB_NAME, &self.hub_creds(id))?;
        self.ensure_creds(id, BusRole::Reader, READER_NAME, &self.reader_creds(id))
    }

    pub(crate) fn write_workspace_account(&self, id: &WorkspaceId) -> Result<String, IdentityError> {
        let claims = claims::workspace_account(id, self.workspace(id)?);
        self.refresh(&self.account_path(&claims.subject), &claims)
    }

    /// Signs `claims` by the operator into the file, unless it says the same already.
    fn refresh(&self, path: &Path, claims: &Claims) -> Result<String, IdentityError> {
        if let Some(jwt) = files::read(path)?
            && claims.are_in(jwt.trim())
        {
            return Ok(jwt.trim().to_owned());
        }
        let jwt = claims.sign(&self.pair(&self.state.operator)?, now_s())?;
        files::write_private(path, jwt.as_bytes())?;
        Ok(jwt)
    }

    fn ensure_creds(
        &mut self,
        workspace: &WorkspaceId,
        role: BusRole,
        name: &str,
        path: &Path,
    ) -> Result<(), IdentityError> {
        if path.exists() {
            return Ok(());
        }
        let credentials = self.issue_locked(workspace, role, name)?;
        files::write_private(path, credentials.text.expose().as_bytes())
    }

    pub(crate) fn issue_locked(
        &mut self,
        workspace: &WorkspaceId,
        role: BusRole,
        name: &str,
    ) -> Result<Credentials, IdentityError> {
        // A name becomes a token of subjects and inboxes; the template of the server does not check it.
        match role {
            BusRole::Node => drop(NodeId::new(name)?),
            BusRole::Hub | BusRole::Reader => drop(WorkspaceId::new(name)?),
        }
        let found = self.workspace(workspace)?;
        if let Some(owner) = found.role_of(name)
            && owner != role
        {
            return Err(IdentityError::NameTaken { name: name.into(), role: owner });
        }
        let (user, now) = (KeyPair::new_user(), now_s());
        let issuer = self.pair(found.signing_key(role))?;
        let jwt = claims::scoped_user(&user.public_key(), name, &found.account).sign(&issuer, now)?;
        let text = creds_text(&jwt, &user)?;
        if let Some(found) = self.state.workspaces.get_mut(workspace) {
            found.users.push(User {
                name: name.into(),
                role: role.as_str().into(),
                public_key: user.public_key(),
                issued_at_s: now,
                revoked_at_s: None,
                signed_by: Some(issuer.public_key()),
            });
        }
        self.save()?;
        Ok(Credentials { name: name.into(), public_key: user.public_key(), text })
    }

    pub(crate) fn workspace(&self, id: &WorkspaceId) -> Result<&Workspace, IdentityError> {
        self.state.workspaces.get(id).ok_or_else(|| IdentityError::UnknownWorkspace(id.clone()))
    }

    pub(crate) fn workspace_mut(&mut self, id: &WorkspaceId) -> Result<&mut Workspace, IdentityError> {
        self.state.workspaces.get_mut(id).ok_or_else(|| IdentityError::UnknownWorkspace(id.clone()))
    }

    /// The key pair of one of our public keys.
    fn pair(&self, public: &str) -> Result<KeyPair, IdentityError> {
        let path = seed_path(&self.dir, public);
        let text = files::read(&path)?.ok_or_else(|| IdentityError::Missing { path: path.clone() })?;
        let pair = pair_from_seed(text.trim(), &path)?;
        if pair.public_key() != public {
            return Err(IdentityError::Damaged { path, problem: "the seed of another key".into() });
        }
        Ok(pair)
    }
}

/// Makes all seeds and, last, the file that names them.
fn make(dir: &Path, workspace: &WorkspaceId) -> Result<State, IdentityError> {
    if dir.join("creds").exists() {
        let problem = "is gone while credentials are there; restore it, or move the whole folder away".into();
        return Err(IdentityError::Damaged { path: dir.join("identity.json"), problem });
    }
    let operator = make_pair(dir, KeyPairType::Operator)?;
    let system_account = make_pair(dir, KeyPairType::Account)?;
    let hub_account = make_pair(dir, KeyPairType::Account)?;
    let command_path = dir.join("command.nk");
    let command = if command_path.exists() {
        CommandKey::load(&command_path)?
    } else {
        let key = CommandKey::generate();
        write_seed(&command_path, key.pair())?;
        key
    };
    let state = State {
        schema: State::SCHEMA,
        operator,
        system_account,
        hub_account,
        command_key: command.public_key(),
        first_workspace: workspace.clone(),
        workspaces: BTreeMap::from([(workspace.clone(), make_workspace(dir)?)]),
    };
    state.save(&dir.join("identity.json"))?;
    Ok(state)
}

fn make_workspace(dir: &Path) -> Result<Workspace, IdentityError> {
    let key = || make_pair(dir, KeyPairType::Account);
    let (account, hub_key, node_key, reader_key) = (key()?, key()?, key()?, key()?);
    Ok(Workspace { account, hub_key, node_key, reader_key, old_keys: vec![], users: vec![] })
}

/// Makes a key, keeps its seed and gives its public half.
pub(crate) fn make_pair(dir: &Path, kind: KeyPairType) -> Result<String, IdentityError> {
    let pair = KeyPair::new(kind);
    write_seed(&seed_path(dir, &pair.public_key()), &pair)?;
    Ok(pair.public_key())
}

pub(crate) fn seed_path(dir: &Path, public: &str) -> PathBuf {
    dir.join("keys").join(format!("{public}.nk"))
}

fn write_seed(path: &Path, pair: &KeyPair) -> Result<(), IdentityError> {
    files::write_private(path, seed(pair)?.expose().as_bytes())
}

fn seed(pair: &KeyPair) -> Result<Secret, IdentityError> {
    pair.seed().map(Secret::new).map_err(|e| IdentityError::Sign { what: "seed", source: e.into() })
}

/// Reads a seed. Its text is never part of the error.
pub(crate) fn pair_from_seed(text: &str, path: &Path) -> Result<KeyPair, IdentityError> {
    KeyPair::from_seed(text)
        .map_err(|_| IdentityError::Damaged { path: path.to_owned(), problem: "not the seed of an nkey".into() })
}

/// A credentials file in the form that all NATS clients read.
fn creds_text(jwt: &str, user: &KeyPair) -> Result<Secret, IdentityError> {
    let seed = seed(user)?;
    Ok(Secret::new(format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         The seed below is a secret: whoever has it is this user.\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        seed.expose()
    )))
}
