//! Whether what is given of an agent provider is valid. Pure.
//!
//! Law: no refusal repeats a URL or a token, since the one may hold the other.

use axum::http::Uri;
use bus_schema::{NodeId, ProviderName};
use hub_store::AgentProvider;

use super::{AgentProviderError, Changes};
use crate::live::fleet::Fleet;

/// Longest name, in characters.
const NAME_MAX: usize = 80;
/// Longest URL, in bytes.
const URL_MAX: usize = 2_048;
/// Longest token, in bytes: with the most there may be they fit into one message of the bus.
const CREDENTIALS_MAX: usize = 4_096;
/// What a gateway may speak.
const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];
/// Parts of the name of a parameter whose value is a secret.
const SECRET_WORDS: [&str; 8] = ["token", "secret", "pass", "pwd", "auth", "key", "credential", "sig"];

/// All of it, valid.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) provider: ProviderName,
    pub(super) node: NodeId,
    pub(super) gateway_url: String,
}

fn invalid(text: impl Into<String>) -> AgentProviderError {
    AgentProviderError::Invalid(text.into())
}

/// A new one, whole.
pub(super) fn complete(fleet: &Fleet, new: &Changes) -> Result<Draft, AgentProviderError> {
    let name = new.name.as_deref().ok_or_else(|| invalid("name is missing"))?;
    Ok(Draft { name: valid_name(name)?, ..complete_but_for_the_name(fleet, new)? })
}

/// One that is only tried, and may have no name yet.
pub(super) fn complete_but_for_the_name(fleet: &Fleet, new: &Changes) -> Result<Draft, AgentProviderError> {
    let missing = |what| move || invalid(format!("{what} is missing"));
    let node = known_node(fleet, new.node.as_deref().ok_or_else(missing("node"))?)?;
    let provider = known_provider(fleet, &node, new.provider.as_deref().ok_or_else(missing("provider"))?)?;
    let gateway_url = valid_url(new.gateway_url.as_deref().ok_or_else(missing("gatewayUrl"))?)?;
    valid_credentials(new)?;
    let name = new.name.as_deref().map(valid_name).transpose()?.unwrap_or_else(|| "new".into());
    Ok(Draft { name, provider, node, gateway_url })
}

/// One that is kept, with changes: only those are checked.
pub(super) fn merged(fleet: &Fleet, changes: &Changes, kept: &AgentProvider) -> Result<Draft, AgentProviderError> {
    let node = match changes.node.as_deref().filter(|node| *node != kept.node.as_str()) {
        Some(node) => known_node(fleet, node)?,
        None => kept.node.clone(),
    };
    let moved = node != kept.node;
    let provider = match changes.provider.as_deref() {
        Some(provider) => known_provider(fleet, &node, provider)?,
        None if moved => known_provider(fleet, &node, kept.provider.as_str())?,
        None => kept.provider.clone(),
    };
    let url = changes.gateway_url.as_deref().map(valid_url).transpose()?;
    valid_credentials(changes)?;
    Ok(Draft {
        name: changes.name.as_deref().map(valid_name).transpose()?.unwrap_or_else(|| kept.name.clone()),
        provider,
        node,
        gateway_url: url.unwrap_or_else(|| kept.gateway_url.clone()),
    })
}

/// Puts checked changes into a record: only what was given, since the rest may have changed meanwhile.
pub(super) fn apply(draft: &Draft, changes: &Changes, body: &mut AgentProvider) {
    if changes.name.is_some() {
        body.name.clone_from(&draft.name);
    }
    if changes.provider.is_some() {
        body.provider = draft.provider.clone();
    }
    if changes.gateway_url.is_some() {
        body.gateway_url.clone_from(&draft.gateway_url);
    }
    if changes.node.is_some() {
        body.node = draft.node.clone();
        if !body.nodes.contains(&draft.node) {
            body.nodes.push(draft.node.clone());
        }
    }
    body.is_active = changes.is_active.unwrap_or(body.is_active);
}

fn valid_name(name: &str) -> Result<String, AgentProviderError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX {
        return Err(invalid(format!("name must be 1 to {NAME_MAX} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid("name has control characters"));
    }
    Ok(name.to_owned())
}

fn known_node(fleet: &Fleet, node: &str) -> Result<NodeId, AgentProviderError> {
    let found = NodeId::new(node).ok().filter(|id| fleet.node(id).is_some());
    found.ok_or_else(|| {
        let names = fleet.nodes().map(|n| n.state.node.to_string()).collect::<Vec<_>>();
        let known = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
        invalid(format!("there is no node {:?}; known are: {known}", node.chars().take(80).collect::<String>()))
    })
}

/// A node that is there says which runtimes it has; of one that is away it is not known.
fn known_provider(fleet: &Fleet, node: &NodeId, provider: &str) -> Result<ProviderName, AgentProviderError> {
    let name = ProviderName::new(provider).map_err(|e| invalid(format!("provider: {e}")))?;
    let view = fleet.node(node).filter(|view| view.online);
    let unknown = view.filter(|view| !view.state.providers.iter().any(|p| p.name == name));
    let Some(view) = unknown else { return Ok(name) };
    let names = view.state.providers.iter().map(|p| p.name.as_str()).collect::<Vec<_>>();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(invalid(format!("node {node} has no provider {name}; it has: {known}")))
}

fn valid_url(url: &str) -> Result<String, AgentProviderError> {
    let url = url.trim();
    if url.is_empty() || url.len() > URL_MAX {
        return Err(invalid(format!("gatewayUrl must be 1 to {URL_MAX} bytes")));
    }
    let form = "gatewayUrl must be a URL such as ws://127.0.0.1:18789/ (http, https, ws or wss)";
    let uri: Uri = url.parse().map_err(|_| invalid(form))?;
    let scheme = uri.scheme_str().map(str::to_ascii_lowercase);
    let authority = uri.authority().ok_or_else(|| invalid(form))?;
    if !scheme.is_some_and(|s| SCHEMES.contains(&s.as_str())) || authority.host().is_empty() {
        return Err(invalid(form));
    }
    if authority.as_str().contains('@') {
        return Err(invalid("gatewayUrl must not hold a user or password; they belong into credentials"));
    }
    let after_host = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
    if after_host.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(invalid("gatewayUrl has a port that is none"));
    }
    if url.contains('#') {
        return Err(invalid("gatewayUrl must not have a part behind #"));
    }
    let names = uri.query().unwrap_or_default().split('&').filter_map(|p| p.split('=').next());
    for name in names.map(str::to_ascii_lowercase) {
        if SECRET_WORDS.iter().any(|word| name.contains(word)) {
            return Err(invalid("gatewayUrl must not hold a secret in its query; it belongs into credentials"));
        }
    }
    Ok(url.to_owned())
}

fn valid_credentials(changes: &Changes) -> Result<(), AgentProviderError> {
    let Some(secret) = &changes.credentials else { return Ok(()) };
    if secret.expose().len() > CREDENTIALS_MAX {
        return Err(invalid(format!("credentials must be at most {CREDENTIALS_MAX} bytes")));
    }
    if secret.expose().chars().any(char::is_control) || secret.expose().trim() != secret.expose() {
        return Err(invalid("credentials begin or end with a space, or have control characters or line ends in them"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bus_schema::{Secret, Timestamp};

    use super::*;

    fn fleet(providers: &[&str]) -> Fleet {
        let (mut fleet, now) = (Fleet::default(), Timestamp::from_millis(1_000));
        let providers: Vec<_> =
            providers.iter().map(|name| serde_json::json!({"name": name, "healthy": true})).collect();
        for (name, seen) in [("n1", now), ("gone", Timestamp::from_millis(-100_000))] {
            let state = serde_json::json!({
                "workspace": "default", "node": name, "version": "1", "status": "up", "bootId": "b", "incarnation": "i",
                "host": {"hostname": "h", "os": "linux", "arch": "x"}, "startedAt": now, "timestamp": now,
                "providers": providers,
            });
            fleet.take_node(serde_json::from_value(state).unwrap(), seen, now);
        }
        fleet
    }

    fn given() -> Changes {
        Changes {
            name: Some(" office ".into()),
            provider: Some("openclaw".into()),
            node: Some("n1".into()),
            gateway_url: Some("ws://127.0.0.1:18789/".into()),
            credentials: Some(Secret::new("t")),
            is_active: None,
        }
    }

    #[test]
    fn a_url_has_a_host_and_no_secret() {
        for good in [
            "ws://127.0.0.1:18789/",
            "wss://gateway.example.org/path?room=3",
            "http://[::1]:8080",
            "https://x",
            "HTTP://x/",
        ] {
            assert_eq!(valid_url(good).unwrap(), good);
        }
        let long = format!("ws://x/{}", "a".repeat(URL_MAX));
        for bad in [
            "",
            "gateway",
            "/path",
            "ftp://x/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "ws://",
            "ws://x:99999/",
            "ws://x:/",
            "ws://u:s3cr3t@x/",
            "ws://u@x/",
            "ws://x/?a=1&Access_Token=s3cr3t",
            "ws://x/?apikey=s3cr3t",
            "ws://x/#token=s3cr3t",
            "ws://x/ y",
            &long,
        ] {
            let error = valid_url(bad).unwrap_err().to_string();
            assert!(error.starts_with("gatewayUrl") && !error.contains("s3cr3t"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let fleet = fleet(&["pty", "openclaw"]);
        let draft = complete(&fleet, &given()).unwrap();
        assert_eq!((draft.name.as_str(), draft.node.as_str()), ("office", "n1"));
        let without = |change: &dyn Fn(&mut Changes)| {
            let mut changes = given();
            change(&mut changes);
            complete(&fleet, &changes).unwrap_err().to_string()
        };
        for (told, change) in [
            ("name is missing", Box::new(|c: &mut Changes| c.name = None) as Box<dyn Fn(&mut Changes)>),
            ("1 to 80", Box::new(|c| c.name = Some("  ".into()))),
            ("1 to 80", Box::new(|c| c.name = Some("x".repeat(81)))),
            ("control", Box::new(|c| c.name = Some("a\u{7}".into()))),
            ("node is missing", Box::new(|c| c.node = None)),
            ("known are: gone, n1", Box::new(|c| c.node = Some("n2".into()))),
            ("provider is missing", Box::new(|c| c.provider = None)),
            ("it has: pty, openclaw", Box::new(|c| c.provider = Some("acp".into()))),
            ("gatewayUrl is missing", Box::new(|c| c.gateway_url = None)),
            ("4096 bytes", Box::new(|c| c.credentials = Some(Secret::new("x".repeat(4097))))),
            ("line ends", Box::new(|c| c.credentials = Some(Secret::new("x\n")))),
        ] {
            assert!(without(&*change).contains(told), "{told}: {}", without(&*change));
        }
        let mut changes = given();
        (changes.node, changes.provider) = (Some("gone".into()), Some("acp".into()));
        assert!(complete(&fleet, &changes).is_ok(), "what a node has that is away is not known");
        changes.name = None;
        assert!(complete_but_for_the_name(&fleet, &changes).is_ok());
    }

    #[test]
    fn only_what_is_given_changes() {
        let fleet = fleet(&["pty", "openclaw"]);
        let node = |name| NodeId::new(name).unwrap();
        let kept = AgentProvider {
            id: "a".into(),
            workspace: bus_schema::WorkspaceId::new("default").unwrap(),
            name: "office".into(),
            provider: ProviderName::new("acp").unwrap(),
            node: node("vanished"),
            gateway_url: "ws://x/".into(),
            is_active: false,
            sealed: None,
            nodes: vec![node("vanished")],
            created_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(0),
        };
        let changes = Changes { is_active: Some(true), node: Some("vanished".into()), ..Changes::default() };
        let draft = merged(&fleet, &changes, &kept).unwrap();
        let mut body = AgentProvider { name: "renamed meanwhile".into(), ..kept.clone() };
        apply(&draft, &changes, &mut body);
        assert_eq!((body.name.as_str(), body.is_active, body.nodes.len()), ("renamed meanwhile", true, 1));
        let moved = Changes { node: Some("n1".into()), ..Changes::default() };
        let error = merged(&fleet, &moved, &kept).unwrap_err().to_string();
        assert!(error.contains("has no provider acp"), "{error}");
        let moved = Changes { provider: Some("pty".into()), ..moved };
        apply(&merged(&fleet, &moved, &kept).unwrap(), &moved, &mut body);
        assert_eq!((body.node, body.nodes), (node("n1"), vec![node("vanished"), node("n1")]));
    }
}
