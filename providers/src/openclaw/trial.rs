//! Trying a connection, and saying in one sentence what was found. The token is in no sentence.

use std::time::Duration;

use bus_schema::{Connection, ConnectionTest, ConnectionVerdict as Verdict};

use super::core::Core;
use super::link::{self, Endpoint, LinkError, SCOPES};
use super::rest;

/// Shorter than what the node waits.
const WITHIN: Duration = Duration::from_secs(8);

pub(super) async fn test(core: &Core, connection: &Connection) -> ConnectionTest {
    let say = |verdict, message: String| ConnectionTest { verdict, message };
    // One of the node's own may name its authority; those from afar are trusted as the machine says.
    let ours = core.gateway(&connection.id).filter(|gateway| gateway.connection.url == connection.url);
    let endpoint = match ours.map_or_else(|| Endpoint::parse(&connection.url), |gateway| gateway.endpoint()) {
        Ok(endpoint) => endpoint,
        Err(error) => return say(Verdict::Failed, error.to_string()),
    };
    match link::open(&endpoint, &connection.token, &core.key, WITHIN).await {
        Ok(opened) => {
            let hello = opened.link.hello;
            let missing: Vec<_> = SCOPES.iter().filter(|scope| !hello.may(scope)).copied().collect();
            let without = if missing.is_empty() { String::new() } else { format!(", without {}", missing.join(", ")) };
            let (version, protocol) = (&hello.version, hello.protocol);
            say(Verdict::Ok, format!("OpenClaw {version} answers, protocol {protocol}{without}"))
        }
        Err(error) => {
            let verdict = match &error {
                LinkError::Unreachable { .. } => Verdict::Unreachable,
                LinkError::Tls { .. } => Verdict::Tls,
                LinkError::NotAGateway { .. } => {
                    if rest::Client::probe(&endpoint, &connection.token).await.is_some() {
                        let message = "an older REST interface answers: it can be read and written to, not killed";
                        return say(Verdict::Ok, message.into());
                    }
                    Verdict::NotARuntime
                }
                LinkError::Unauthorized(_) => Verdict::Unauthorized,
                LinkError::Forbidden(_) => Verdict::Forbidden,
                LinkError::Version(_) => Verdict::Version,
                LinkError::NotReady => Verdict::Unreachable,
                LinkError::Address(_) | LinkError::Refused { .. } | LinkError::Gone | LinkError::Deadline(_) => {
                    Verdict::Failed
                }
            };
            let found = super::gateway::chain(&error);
            let message = if matches!(error, LinkError::NotReady) {
                format!("{found}; it starts for half a minute, so try again then")
            } else {
                advise(&verdict, found)
            };
            say(verdict, message)
        }
    }
}

fn advise(verdict: &Verdict, found: String) -> String {
    let advice = match verdict {
        Verdict::Unreachable => "is the gateway running, and is it this address? (openclaw gateway status)",
        Verdict::Tls => "use wss:// exactly where the gateway is behind TLS, with a certificate this machine trusts",
        Verdict::NotARuntime => "give the address of the gateway itself, by default port 18789",
        Verdict::Unauthorized => "give the gateway's token (gateway.auth.token in its configuration)",
        _ => return found,
    };
    format!("{found}; {advice}")
}
