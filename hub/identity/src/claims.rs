//! What operator, accounts and users say of themselves.
//!
//! The only place that translates the permission table into the server's words.

use std::collections::BTreeMap;

use bus_schema::{BusRole, Permissions, REPLY_WITHIN_S, WorkspaceId};
use serde_json::{Map, Value, json};

use crate::jwt::Claims;
use crate::state::Workspace;

/// In a scoped signing key the server puts the user's own name here.
const NAME: &str = "{{name()}}";

pub(crate) fn operator(public: &str, system: &str) -> Claims {
    Claims {
        what: "operator",
        subject: public.into(),
        name: "mosaic-mesh".into(),
        nats: json!({"type": "operator", "version": 2, "system_account": system}),
    }
}

/// An account without users' limits. `-1` is "no bound" to the server and `0` "none at all".
fn account(public: &str, name: &str, jetstream: bool, signing_keys: Vec<Value>, revoked: Map<String, Value>) -> Claims {
    let mut limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    });
    if jetstream && let Some(limits) = limits.as_object_mut() {
        // Bounded by the server's own store and by the settings of each stream.
        for what in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits.insert(what.into(), (-1).into());
        }
    }
    let mut nats = json!({"type": "account", "version": 2, "limits": limits});
    if let Some(nats) = nats.as_object_mut() {
        if !signing_keys.is_empty() {
            nats.insert("signing_keys".into(), signing_keys.into());
        }
        if !revoked.is_empty() {
            nats.insert("revocations".into(), revoked.into());
        }
    }
    Claims { what: "account", subject: public.into(), name: name.into(), nats }
}

/// The system account, through which changed accounts are pushed to running servers. It cannot have JetStream.
pub(crate) fn system_account(public: &str) -> Claims {
    account(public, "SYSTEM", false, vec![], Map::new())
}

/// The hub's own account: a journal stream that no workspace sees.
pub(crate) fn hub_account(public: &str) -> Claims {
    account(public, "HUB", true, vec![], Map::new())
}

pub(crate) fn workspace_account(id: &WorkspaceId, workspace: &Workspace) -> Claims {
    let keys = workspace.signing_keys().map(|(role, key)| scope(role, id, key));
    let revoked: BTreeMap<_, _> = workspace.revoked().collect();
    let revoked = revoked.into_iter().map(|(key, at)| (key.to_owned(), at.into())).collect();
    account(&workspace.account, id.as_str(), true, keys.collect(), revoked)
}

/// One scoped signing key: whoever it signs may do what the table says for the role, under their own name.
fn scope(role: BusRole, workspace: &WorkspaceId, key: &str) -> Value {
    let row = Permissions::of(role, workspace, NAME);
    let mut template = json!({
        "pub": lists(&row.publish_allow, &row.publish_deny),
        "sub": lists(&row.subscribe_allow, &[]),
        "subs": -1, "data": -1, "payload": -1,
    });
    if row.may_reply
        && let Some(template) = template.as_object_mut()
    {
        let ttl_ns = REPLY_WITHIN_S.saturating_mul(1_000_000_000);
        template.insert("resp".into(), json!({"max": 1, "ttl": ttl_ns}));
    }
    json!({"kind": "user_scope", "key": key, "role": role.as_str(), "template": template})
}

fn lists(allow: &[String], deny: &[String]) -> Value {
    let mut lists = Map::new();
    for (name, subjects) in [("allow", allow), ("deny", deny)] {
        if !subjects.is_empty() {
            lists.insert(name.into(), subjects.into());
        }
    }
    lists.into()
}

/// A user whose permissions are those of the scoped key that signs it: the server refuses one that brings its own.
pub(crate) fn scoped_user(public: &str, name: &str, account: &str) -> Claims {
    let nats = json!({"type": "user", "version": 2, "issuer_account": account});
    Claims { what: "user", subject: public.into(), name: name.into(), nats }
}

/// A user of an account that only the hub uses, signed by the account itself: it may do everything there.
pub(crate) fn free_user(public: &str, name: &str) -> Claims {
    let nats = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    Claims { what: "user", subject: public.into(), name: name.into(), nats }
}
