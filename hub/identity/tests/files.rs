//! What an identity is on disk: made once, private, and never half there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bus_schema::{BusRole, NodeId, WorkspaceId};
use hub_identity::{CommandKey, Identity, IdentityError, command_chain};

fn workspace(text: &str) -> WorkspaceId {
    WorkspaceId::new(text).unwrap()
}

fn node(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

fn made() -> (tempfile::TempDir, Identity) {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::init(&dir.path().join("identity"), &workspace("default")).unwrap();
    (dir, identity)
}

#[test]
fn asked_again_it_gives_the_same() {
    let (dir, mut identity) = made();
    identity.add_node(&workspace("default"), &node("n1")).unwrap();
    let before = files(dir.path());
    let mut again = Identity::init(identity.dir(), &workspace("default")).unwrap();
    again.add_node(&workspace("default"), &node("n1")).unwrap();
    again.add_workspace(&workspace("default")).unwrap();
    assert_eq!(before, files(dir.path()));
}

#[test]
fn only_the_owner_may_read_it() {
    let (dir, mut identity) = made();
    identity.add_workspace(&workspace("second")).unwrap();
    identity.add_node(&workspace("second"), &node("n1")).unwrap();
    for path in files(dir.path()).keys() {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        let parent = path.parent().unwrap();
        assert_eq!(fs::metadata(parent).unwrap().permissions().mode() & 0o077, 0, "{}", parent.display());
        assert!(path.extension().is_none_or(|e| e != "new"), "left behind: {}", path.display());
    }
}

#[test]
fn what_is_missing_is_made_again() {
    let (_dir, identity) = made();
    let operator = fs::read(identity.dir().join("operator.jwt")).unwrap();
    fs::remove_file(identity.reader_creds(&workspace("default"))).unwrap();
    fs::remove_dir_all(identity.dir().join("accounts")).unwrap();
    let again = Identity::init(identity.dir(), &workspace("default")).unwrap();
    assert!(again.reader_creds(&workspace("default")).exists());
    assert_eq!(again.account_updates().unwrap().len(), 3);
    assert_eq!(fs::read(identity.dir().join("operator.jwt")).unwrap(), operator);
}

#[test]
fn an_interrupted_start_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    // Killed after the first seeds, before the file that names them.
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/OLD.nk"), "SOxyz").unwrap();
    fs::write(dir.path().join("identity.json.new"), "{").unwrap();
    Identity::init(dir.path(), &workspace("default")).unwrap();
    Identity::open(dir.path()).unwrap();
}

#[test]
fn credentials_without_their_identity_are_not_replaced() {
    let (_dir, identity) = made();
    fs::remove_file(identity.dir().join("identity.json")).unwrap();
    let error = Identity::init(identity.dir(), &workspace("default")).unwrap_err();
    assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
}

#[test]
fn a_newer_identity_is_refused_and_left_alone() {
    let (_dir, identity) = made();
    let path = identity.dir().join("identity.json");
    let newer = fs::read_to_string(&path).unwrap().replace("\"schema\": 1", "\"schema\": 99");
    fs::write(&path, &newer).unwrap();
    let error = Identity::init(identity.dir(), &workspace("default")).unwrap_err();
    assert!(error.to_string().contains("99") && error.to_string().contains("up to 1"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn names_are_unique_over_all_roles() {
    let (_dir, mut identity) = made();
    let default = workspace("default");
    assert!(matches!(
        identity.add_node(&default, &node("reader")),
        Err(IdentityError::NameTaken { role: BusRole::Reader, .. })
    ));
    identity.add_node(&default, &node("n1")).unwrap();
    assert!(matches!(identity.issue(&default, BusRole::Reader, "n1"), Err(IdentityError::NameTaken { .. })));
    assert!(matches!(identity.issue(&default, BusRole::Node, "a.>"), Err(IdentityError::BadName(_))));
    assert!(matches!(identity.issue(&default, BusRole::Reader, "*"), Err(IdentityError::BadName(_))));
    assert_eq!(
        identity.users(&default),
        BTreeMap::from([
            ("hub".to_owned(), BusRole::Hub),
            ("n1".to_owned(), BusRole::Node),
            ("reader".to_owned(), BusRole::Reader)
        ])
    );
}

#[test]
fn the_revoked_are_named_in_the_account_and_their_file_goes() {
    let (_dir, mut identity) = made();
    let default = workspace("default");
    let path = identity.add_node(&default, &node("n1")).unwrap();
    let first = fs::read(&path).unwrap();
    let update = identity.revoke(&default, "n1").unwrap();
    assert!(!path.exists());
    assert!(identity.account_updates().unwrap().contains(&update));
    assert!(matches!(identity.revoke(&default, "n1"), Err(IdentityError::UnknownUser { .. })));
    identity.add_node(&default, &node("n1")).unwrap();
    assert_ne!(fs::read(&path).unwrap(), first);
}

#[test]
fn two_at_work_do_not_lose_each_others_changes() {
    let (_dir, mut one) = made();
    let default = workspace("default");
    let mut two = Identity::open(one.dir()).unwrap();
    one.add_node(&default, &node("n1")).unwrap();
    two.add_node(&default, &node("n2")).unwrap();
    let users = Identity::open(one.dir()).unwrap().users(&default);
    assert!(users.contains_key("n1") && users.contains_key("n2"), "{users:?}");
}

#[test]
fn no_secret_is_shown() {
    let (_dir, mut identity) = made();
    let credentials = identity.issue(&workspace("default"), BusRole::Node, "n1").unwrap();
    let key = CommandKey::load(&identity.command_key_path()).unwrap();
    assert_eq!(key.public_key(), identity.command_public_key());
    let seed = fs::read_to_string(identity.command_key_path()).unwrap();
    let shown = format!("{identity:?} {credentials:?} {key:?}");
    assert!(!shown.contains(seed.trim()) && !shown.contains("BEGIN"), "{shown}");
    // A seed of another kind is refused without being repeated.
    let other = identity.dir().join("other.nk");
    fs::write(&other, "SUAJ4 not a seed").unwrap();
    assert!(!format!("{:?}", CommandKey::load(&other).unwrap_err()).contains("SUAJ4"));
}

#[test]
fn a_new_command_key_is_appointed_by_the_old_one_whose_seed_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("identity");
    let mut identity = Identity::init(&dir, &WorkspaceId::new("default").unwrap()).unwrap();
    let first = identity.command_public_key().to_owned();
    let path = identity.command_key_path();
    let seed = std::fs::read_to_string(&path).unwrap();
    let made = identity.rotate_command_key(3_600).unwrap();
    let second = identity.command_public_key().to_owned();
    assert_eq!((made.old.as_str(), made.new.as_str()), (first.as_str(), second.as_str()));
    assert_eq!(made.until.millis_since(made.at), 3_600_000);
    assert_eq!(CommandKey::load(&path).unwrap().public_key(), second);
    identity.rotate_command_key(3_600).unwrap();
    let chain = command_chain(&path).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0], made);
    assert_eq!(chain[1].old, second);
    for entry in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        assert!(!std::fs::read_to_string(&entry).unwrap().contains(seed.trim()), "{entry:?}");
    }
    // Broken off after the key was written: the file is right.
    let key = std::fs::read_to_string(dir.join("identity.json")).unwrap();
    std::fs::write(dir.join("identity.json"), key.replace(identity.command_public_key(), &second)).unwrap();
    let again = Identity::init(&dir, &WorkspaceId::new("default").unwrap()).unwrap();
    assert_eq!(again.command_public_key(), identity.command_public_key());
}

#[test]
fn a_node_is_enrolled_once_and_again_when_it_was_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let workspace = WorkspaceId::new("default").unwrap();
    let mut identity = Identity::init(&folder.path().join("identity"), &workspace).unwrap();
    let n1 = NodeId::new("n1").unwrap();
    let url = vec!["nats://bus:4222".to_owned()];
    let token = identity.enrol(&workspace, &n1, url.clone(), None).unwrap();
    assert_eq!(token.command_keys, [identity.command_public_key()]);
    assert!(token.creds.expose().contains("USER NKEY SEED"));
    assert!(!identity.node_creds(&workspace, &n1).exists(), "they are kept nowhere");
    let again = identity.enrol(&workspace, &n1, url.clone(), None);
    assert!(matches!(again, Err(IdentityError::Enrolled(_))), "{again:?}");
    identity.revoke(&workspace, "n1").unwrap();
    let second = identity.enrol(&workspace, &n1, url.clone(), None).unwrap();
    assert_ne!(second.creds, token.creds);
    let reader = NodeId::new("reader").unwrap();
    assert!(matches!(identity.enrol(&workspace, &reader, url, None), Err(IdentityError::NameTaken { .. })));
}
