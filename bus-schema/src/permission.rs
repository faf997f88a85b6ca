//! Who may publish and subscribe what: the whole permission table of the bus, as data.
//!
//! | client | publishes | subscribes |
//! |---|---|---|
//! | hub of workspace `W` | everything in the account of `W` | everything in the account of `W` |
//! | node `N` of `W` | `mosaic.v1.W.N.>` without its `command`; one reply to each request it was sent | its `command`, its inbox, the discovery of the services API |
//! | reader of `W` | nothing at all | `live.mosaic.v1.W.>`, `mosaic.v1.W.*.delta.*`, its inbox |
//!
//! Laws:
//! 1. Only what stands here is allowed. Nobody but the hub may speak to `$JS.API`: a client that can create a
//!    consumer can have stored payloads delivered to any subject, and change the hub's own consumers.
//! 2. Every client has an inbox of its own ([`inbox_prefix`]): whoever may subscribe `_INBOX.>` reads every reply.
//! 3. The server itself publishes to any reply subject it is given, without asking this table. Hence the signature
//!    on commands.

use crate::id::WorkspaceId;
use crate::subject::{Kind, LIVE, ROOT};

/// Name of the service (NATS services API) as which a node answers commands, so that `nats micro ls` lists the nodes.
pub const NODE_SERVICE: &str = "mosaic-node";

/// How long a node may answer a request after it came, in seconds. Longer than the longest deadline of a command.
pub const REPLY_WITHIN_S: u64 = 120;

/// What a client of the bus is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BusRole {
    /// A hub: makes streams and consumers, sends commands.
    Hub,
    /// A node agent.
    Node,
    /// Somebody who watches.
    Reader,
}

impl BusRole {
    /// Every role.
    pub const ALL: &'static [BusRole] = &[BusRole::Hub, BusRole::Node, BusRole::Reader];

    /// The word for it in file names and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            BusRole::Hub => "hub",
            BusRole::Node => "node",
            BusRole::Reader => "reader",
        }
    }
}

/// What one client may do. An empty `…_allow` together with an empty `…_deny` would mean everything to the server,
/// so neither list of allowed subjects is ever empty unless all is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// May be published.
    pub publish_allow: Vec<String>,
    /// Must not be published, whatever is allowed.
    pub publish_deny: Vec<String>,
    /// May be subscribed.
    pub subscribe_allow: Vec<String>,
    /// May publish one reply to each request that reached it.
    pub may_reply: bool,
}

impl Permissions {
    /// The row of the table for `role`. `name` is the client's own name, or the template of it that the server fills
    /// in (`{{name()}}` in a scoped signing key).
    pub fn of(role: BusRole, workspace: &WorkspaceId, name: &str) -> Self {
        let inbox = format!("{}.>", inbox_prefix(name));
        match role {
            BusRole::Hub => Self {
                publish_allow: vec![">".into()],
                publish_deny: vec![],
                subscribe_allow: vec![">".into()],
                may_reply: false,
            },
            BusRole::Node => {
                let own = format!("{ROOT}.{workspace}.{name}");
                let command = format!("{own}.{}", Kind::Command.as_str());
                Self {
                    publish_allow: vec![format!("{own}.>")],
                    publish_deny: vec![command.clone(), format!("{command}.>")],
                    subscribe_allow: vec![
                        command,
                        inbox,
                        "$SRV.*".into(),
                        format!("$SRV.*.{NODE_SERVICE}"),
                        // The last token is the service's id, which is random.
                        format!("$SRV.*.{NODE_SERVICE}.*"),
                    ],
                    may_reply: true,
                }
            }
            BusRole::Reader => Self {
                publish_allow: vec![],
                publish_deny: vec![">".into()],
                subscribe_allow: vec![live_filter(Some(workspace)), Kind::Delta.filter(Some(workspace), None), inbox],
                may_reply: false,
            },
        }
    }
}

/// Prefix of the inbox of the client called `name`: to be set as its custom inbox prefix.
pub fn inbox_prefix(name: &str) -> String {
    format!("_INBOX_{name}")
}

/// What a viewer subscribes to see everything that a workspace (or, with `None`, every workspace its account holds)
/// has stored.
pub fn live_filter(workspace: Option<&WorkspaceId>) -> String {
    match workspace {
        Some(workspace) => format!("{LIVE}.{ROOT}.{workspace}.>"),
        None => format!("{LIVE}.{ROOT}.>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_the_contract_says() {
        let w = WorkspaceId::new("acme").unwrap();
        let node = Permissions::of(BusRole::Node, &w, "n1");
        assert_eq!(node.publish_allow, ["mosaic.v1.acme.n1.>"]);
        assert_eq!(node.publish_deny, ["mosaic.v1.acme.n1.command", "mosaic.v1.acme.n1.command.>"]);
        assert!(node.subscribe_allow.contains(&"mosaic.v1.acme.n1.command".to_owned()));
        assert!(node.subscribe_allow.contains(&"_INBOX_n1.>".to_owned()));
        let reader = Permissions::of(BusRole::Reader, &w, "reader");
        assert_eq!(reader.publish_deny, [">"]);
        assert_eq!(reader.subscribe_allow, ["live.mosaic.v1.acme.>", "mosaic.v1.acme.*.delta.*", "_INBOX_reader.>"]);
    }

    #[test]
    fn only_the_hub_reaches_jetstream() {
        let w = WorkspaceId::new("acme").unwrap();
        for role in BusRole::ALL {
            let row = Permissions::of(*role, &w, "x");
            let reaches = row.publish_allow.iter().any(|s| s == ">" || s.starts_with("$JS"));
            assert_eq!(reaches, *role == BusRole::Hub, "{role:?}");
        }
    }

    #[test]
    fn nobody_is_allowed_everything_by_an_empty_list() {
        let w = WorkspaceId::new("acme").unwrap();
        for role in BusRole::ALL {
            let row = Permissions::of(*role, &w, "x");
            assert!(!row.publish_allow.is_empty() || row.publish_deny == [">"], "{role:?}");
            assert!(!row.subscribe_allow.is_empty(), "{role:?}");
        }
    }
}
