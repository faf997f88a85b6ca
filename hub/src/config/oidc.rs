//! `[[oidc]]`: services that people sign in with, and the address under which they send them back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bus_schema::{Secret, WorkspaceId};
use serde::Deserialize;

use crate::authn::OidcConfig;
use crate::policy::Role;

/// A service, as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OidcTable {
    /// In the addresses and on the page: letters, digits, `-`, `_`.
    name: String,
    /// The workspace that it lets people into; the first one of the hub if absent.
    workspace: Option<String>,
    /// Its issuer, exactly as it says itself.
    issuer: String,
    /// What it knows this hub as.
    client_id: String,
    /// File with the client's secret; a public client if absent.
    client_secret_file: Option<PathBuf>,
    /// Role of somebody who is not known yet; absent: nobody new is let in.
    default_role: Option<String>,
    /// Claim (a text or a list of texts) that says what somebody is there.
    role_claim: Option<String>,
    /// What it says there, and the role that is here.
    #[serde(default)]
    roles: BTreeMap<String, String>,
    /// Domains of emails that are let in; all if empty.
    #[serde(default)]
    domains: Vec<String>,
}

/// The address of the hub as browsers see it: scheme and host, no path.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let wrong = || format!("hub.public_url {text:?} must be https://HOST or http://HOST, without a path");
    let url: http::Uri = text.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let scheme = url.scheme_str().filter(|s| matches!(*s, "https" | "http")).ok_or_else(wrong)?;
    match url.authority() {
        Some(host) if matches!(url.path(), "" | "/") && url.query().is_none() && !host.as_str().contains('@') => {
            Ok(format!("{scheme}://{host}"))
        }
        Some(_) | None => Err(wrong()),
    }
}

fn is_safe(issuer: &str) -> bool {
    let Ok(url) = issuer.parse::<http::Uri>() else { return false };
    let here = matches!(url.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    url.query().is_none() && (url.scheme_str() == Some("https") || (url.scheme_str() == Some("http") && here))
}

pub(super) fn check(
    tables: Vec<OidcTable>,
    public_url: Option<&str>,
    base: &Path,
    served: &[WorkspaceId],
    problems: &mut Vec<String>,
) -> Vec<OidcConfig> {
    if !tables.is_empty() && public_url.is_none() {
        problems.push("hub.public_url is needed with [[oidc]]: the address that people are sent back to".into());
    }
    let mut checked: Vec<OidcConfig> = vec![];
    for table in tables {
        let mut problem = |text: String| problems.push(format!("oidc {:?}: {text}", table.name));
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if table.name.is_empty() || table.name.len() > 32 || !table.name.chars().all(named) {
            problem("name must be 1 to 32 letters, digits, - and _".into());
        }
        if checked.iter().any(|other| other.name == table.name) {
            problem("the name is there twice".into());
        }
        if !is_safe(&table.issuer) {
            problem(format!("issuer {:?} must be an https:// address (http:// on this machine only)", table.issuer));
        }
        let secret = table.client_secret_file.as_ref().map(|path| {
            let path = base.join(path);
            std::fs::read_to_string(&path)
                .map(|text| Secret::new(text.trim()))
                .map_err(|e| format!("client_secret_file {}: {e}", path.display()))
        });
        let client_secret = secret.transpose().unwrap_or_else(|text| {
            problem(text);
            None
        });
        let mut role = |key: &str, word: &str| {
            let role = Role::parse(word);
            if role.is_none() {
                problem(format!("{key} {word:?} must be admin, operator or observer"));
            }
            role
        };
        let default_role = table.default_role.as_deref().and_then(|word| role("default_role", word));
        let mut roles = BTreeMap::new();
        for (there, word) in &table.roles {
            if let Some(here) = role(&format!("roles.{there:?}"), word) {
                roles.insert(there.clone(), here);
            }
        }
        if table.role_claim.is_none() && !roles.is_empty() {
            problem("role_claim is needed with roles".into());
        }
        let workspace = match &table.workspace {
            None => served.first(),
            Some(name) => served.iter().find(|id| id.as_str() == name).or_else(|| {
                let names: Vec<_> = served.iter().map(WorkspaceId::as_str).collect();
                problem(format!("workspace {name:?} is none of this hub's: {}", names.join(", ")));
                None
            }),
        };
        // Without one there is a problem already.
        let Some(workspace) = workspace.cloned() else { continue };
        checked.push(OidcConfig {
            name: table.name,
            workspace,
            issuer: table.issuer,
            client_id: table.client_id,
            client_secret,
            default_role,
            role_claim: table.role_claim,
            roles,
            domains: table.domains.iter().map(|d| d.trim_start_matches('@').to_lowercase()).collect(),
        });
    }
    checked
}
