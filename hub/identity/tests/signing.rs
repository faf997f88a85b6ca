//! Signing keys that are changed, on a real server: nobody is cut off by the change, and nobody gets in by a key that
//! was withdrawn.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use bus_schema::{BusRole, NodeId, WorkspaceId};
use hub_identity::{ACCOUNT_UPDATE_SUBJECT, AccountUpdate, IdentityError};
use testkit::{Bus, NatsServer, wait_until};

const WAIT: Duration = Duration::from_secs(20);

async fn tell(server: &mut NatsServer, update: &AccountUpdate) {
    let sys = Bus::connect(&server.url(), &server.identity().identity().sys_creds(), "sys").await.unwrap();
    let answer = sys.client.request(ACCOUNT_UPDATE_SUBJECT, update.jwt.clone().into()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["data"]["code"], 200, "{answer}");
}

fn write(server: &mut NatsServer, name: &str, text: &str) -> PathBuf {
    let path = server.identity().dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn workspace() -> WorkspaceId {
    WorkspaceId::new("default").unwrap()
}

/// True if `node` may publish as itself: with the permissions of nodes, whoever signed it.
async fn speaks(server: &NatsServer, node: &Bus, name: &str) -> bool {
    let hub = server.hub().await.unwrap();
    let subject = format!("mosaic.v1.default.{name}.node");
    let mut seen = hub.client.subscribe(subject.clone()).await.unwrap();
    hub.client.flush().await.unwrap();
    let _ = hub.client.request("nobody", "".into()).await;
    node.client.publish(subject, "x".into()).await.unwrap();
    node.client.flush().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), futures::StreamExt::next(&mut seen)).await.is_ok()
}

#[tokio::test]
async fn a_changed_key_cuts_nobody_off_and_a_withdrawn_one_lets_nobody_in() {
    let mut server = NatsServer::start().unwrap();
    let (url, n1) = (server.url(), NodeId::new("n1").unwrap());
    let identity = server.identity().identity();
    // Whoever has the seed of the old key mints users that this folder never hears of.
    let old_key =
        identity.signing_keys(&workspace()).unwrap().into_iter().find(|key| key.role == BusRole::Node).unwrap();
    let stolen = std::fs::read_to_string(identity.dir().join("keys").join(format!("{}.nk", old_key.key))).unwrap();
    let kept = identity.add_node(&workspace(), &n1).unwrap();
    let old_file = std::fs::read_to_string(&kept).unwrap();
    let far = identity.issue(&workspace(), BusRole::Node, "far").unwrap();
    let (old_n1, far) =
        (write(&mut server, "old-n1.creds", &old_file), write(&mut server, "far.creds", far.text.expose()));
    let at_work = Bus::connect(&url, &old_n1, "n1").await.unwrap();

    let made = server.identity().identity().rotate_signing_key(&workspace(), BusRole::Node).unwrap();
    assert_eq!((made.old.as_str(), made.renewed.as_slice()), (old_key.key.as_str(), std::slice::from_ref(&kept)));
    assert!(
        !server.identity().identity().dir().join("keys").join(format!("{}.nk", made.old)).exists(),
        "its seed is gone"
    );
    assert!(Bus::connect(&url, &kept, "n1").await.is_err(), "the server does not know the new key yet");
    tell(&mut server, &made.update).await;

    // Both count: who is there stays, old credentials let in, new ones too, with the same permissions.
    assert!(!at_work.events().iter().any(|event| event.contains("disconnected")), "{:?}", at_work.events());
    for creds in [&old_n1, &kept] {
        let node = Bus::connect(&url, creds, "n1").await.unwrap();
        assert!(speaks(&server, &node, "n1").await, "{}", creds.display());
        assert!(!speaks(&server, &node, "n2").await, "only as itself: {}", creds.display());
    }
    let identity = server.identity().identity();
    let keys = identity.signing_keys(&workspace()).unwrap();
    let before = keys.iter().find(|key| key.key == made.old).unwrap();
    assert!(before.replaced_at_s.is_some());
    assert_eq!(before.holders.iter().map(String::as_str).collect::<Vec<_>>(), ["far"], "n1 has something newer");
    assert!(matches!(
        identity.withdraw_signing_key(&workspace(), &made.new, true),
        Err(IdentityError::NotReplaced { .. })
    ));
    let refused = identity.withdraw_signing_key(&workspace(), &made.old, false);
    assert!(matches!(&refused, Err(IdentityError::StillHeld { names }) if names == "far"), "{refused:?}");

    // The one far away gets new credentials; then the old key goes.
    let renewed = identity.renew(&workspace(), BusRole::Node, "far").unwrap();
    assert!(matches!(identity.renew(&workspace(), BusRole::Node, "nobody"), Err(IdentityError::UnknownUser { .. })));
    let forged_user = forged(&stolen, &made.update.account);
    let renewed = write(&mut server, "far-new.creds", renewed.text.expose());
    let forged_creds = write(&mut server, "forged.creds", &forged_user);
    let evil = Bus::connect(&url, &forged_creds, "evil").await.expect("the old key still counts");
    let update = server.identity().identity().withdraw_signing_key(&workspace(), &made.old, false).unwrap();
    tell(&mut server, &update).await;
    wait_until("who came with the old key is cut off", WAIT, async || {
        // Also whom the folder does not know.
        let events = [at_work.events(), evil.events()];
        let is_cut = |events: &Vec<String>| events.iter().any(|event| event.contains("disconnected"));
        if events.iter().all(is_cut) { Ok(()) } else { Err(events) }
    })
    .await
    .unwrap();
    for creds in [&old_n1, &far, &forged_creds] {
        assert!(Bus::connect(&url, creds, "n1").await.is_err(), "{} still lets in", creds.display());
    }
    for (creds, name) in [(&kept, "n1"), (&renewed, "far")] {
        let node = Bus::connect(&url, creds, name).await.unwrap();
        assert!(speaks(&server, &node, name).await);
    }
    // A server that is started again knows it from the folder.
    server.restart().unwrap();
    assert!(Bus::connect(&url, &forged_creds, "evil").await.is_err());
    assert!(Bus::connect(&url, &kept, "n1").await.is_ok());
    let keys = server.identity().identity().signing_keys(&workspace()).unwrap();
    assert_eq!(keys.len(), BusRole::ALL.len(), "{keys:?}");
}

/// Credentials that somebody makes with a signing key's seed alone.
fn forged(seed: &str, account: &str) -> String {
    use data_encoding::BASE64URL_NOPAD;
    let (issuer, user) = (nkeys::KeyPair::from_seed(seed.trim()).unwrap(), nkeys::KeyPair::new_user());
    let body = serde_json::json!({
        "iat": 1_700_000_000, "iss": issuer.public_key(), "jti": "x", "name": "evil", "sub": user.public_key(),
        "nats": {"type": "user", "version": 2, "issuer_account": account},
    });
    let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(body.to_string().as_bytes()));
    let jwt = format!("{signed}.{}", BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap()));
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

#[tokio::test]
async fn a_hub_and_a_reader_go_on_over_a_change_of_their_keys() {
    let mut server = NatsServer::start().unwrap();
    let before = server.hub().await.unwrap();
    for role in [BusRole::Hub, BusRole::Reader] {
        let made = server.identity().identity().rotate_signing_key(&workspace(), role).unwrap();
        assert_eq!(made.renewed.len(), 1);
        tell(&mut server, &made.update).await;
        let update = server.identity().identity().withdraw_signing_key(&workspace(), &made.old, false).unwrap();
        tell(&mut server, &update).await;
    }
    // Its file was made anew: started again, a hub is there.
    let hub = server.hub().await.unwrap();
    let reader = server.reader().await.unwrap();
    hub.client.flush().await.unwrap();
    reader.client.flush().await.unwrap();
    wait_until("what came with the old key is cut off", WAIT, async || {
        let events = before.events();
        if events.iter().any(|event| event.contains("disconnected")) { Ok(()) } else { Err(events) }
    })
    .await
    .unwrap();
}

#[test]
fn an_identity_of_before_is_read_and_its_users_are_those_of_the_old_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut identity = hub_identity::Identity::init(dir.path(), &workspace()).unwrap();
    identity.issue(&workspace(), BusRole::Node, "n1").unwrap();
    // As it was written before keys were changed: without the signer.
    let path = dir.path().join("identity.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for user in state["workspaces"]["default"]["users"].as_array_mut().unwrap() {
        user.as_object_mut().unwrap().remove("signedBy").unwrap();
    }
    std::fs::write(&path, state.to_string()).unwrap();
    let mut identity = hub_identity::Identity::open(dir.path()).unwrap();
    let made = identity.rotate_signing_key(&workspace(), BusRole::Node).unwrap();
    let keys = identity.signing_keys(&workspace()).unwrap();
    let old = keys.iter().find(|key| key.key == made.old).unwrap();
    assert!(old.holders.contains("n1"), "{keys:?}");
    let update = identity.withdraw_signing_key(&workspace(), &made.old, true).unwrap();
    assert!(!update.jwt.is_empty() && !identity.users(&workspace()).contains_key("n1"), "cut off, and forgotten");
}
