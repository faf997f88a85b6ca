//! When the parts are ready, and what is told then.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::files::{Account, Accounts, Agents, Files, NODE_ID};
use super::hub::Hub;
use super::options::Options;
use super::workspace;
use crate::{project, say};

/// What there is to tell.
pub(super) struct Ready<'a> {
    pub url: &'a str,
    pub nats_port: u16,
    pub accounts: &'a Accounts,
    pub agents: &'a Agents,
    pub pids: BTreeMap<&'static str, u32>,
    /// The operators' command line.
    pub mosaic: &'a Path,
}

/// The port of the bus, once it tells it.
pub(super) fn nats_port(files: &Files, pid: u32) -> Option<u16> {
    let text = std::fs::read(files.run_dir().join(format!("nats-server_{pid}.ports"))).ok()?;
    let value: Value = serde_json::from_slice(&text).ok()?;
    port_of(value.pointer("/nats/0")?.as_str()?).ok()
}

/// The address of the hub, once it tells it; a fixed port need not be told.
pub(super) fn hub_url(files: &Files, port: u16) -> Option<String> {
    if port != 0 {
        return Some(files.hub_url(port));
    }
    let value: Value = serde_json::from_slice(&std::fs::read(files.hub_listen()).ok()?).ok()?;
    Some(value.get("url")?.as_str()?.trim_end_matches('/').to_owned())
}

/// The port in an address.
pub(super) fn port_of(url: &str) -> anyhow::Result<u16> {
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("no port in {url}"))
}

/// Tells that all is ready: to a script on stdout, or to a person on stderr.
pub(super) fn tell(options: &Options, files: &Files, ready: &Ready<'_>, hub: &Hub) -> anyhow::Result<()> {
    let nats_url = files.nats_url(ready.nats_port);
    if options.json {
        let account = |account: &Account| json!({"email": account.email, "password": account.password});
        let mut line = json!({
            "url": ready.url,
            "natsUrl": nats_url,
            "admin": account(&ready.accounts.admin),
            "operator": account(&ready.accounts.operator),
            "observer": account(&ready.accounts.observer),
            "creds": {"reader": files.creds("reader"), "node": files.node_creds(), "hub": files.creds("hub")},
            "node": NODE_ID,
            "workspace": workspace(),
            "pid": ready.pids,
        });
        if let (Some(ca), Some(line)) = (files.ca(), line.as_object_mut()) {
            line.insert("ca".into(), json!(ca));
        }
        return say::result(&line.to_string()).context("write to stdout");
    }
    let shown = |path: &Path| {
        let here = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(&here).unwrap_or(path).display().to_string()
    };
    let admin = &ready.accounts.admin;
    say::text(&format!(
        "\n  Mosaic Mesh is running. Ctrl-C ends it.\n\n\
         \x20 page      {}/mission-control\n{}\
         \x20 sign in   {}   {}\n\
         \x20           (operator and observer: {})\n\
         \x20 more      start agents from the page: {}\n\
         \x20           your own: a file with [[profile]] entries and --node-config FILE\n\
         \x20 watch     {} tail --url {nats_url} --creds {}{}\n\
         \x20 logs      {}\n",
        ready.url,
        files.ca().map_or_else(String::new, |ca| format!(
            "  trust     {}   (in the browser, or curl --cacert)\n",
            shown(&ca)
        )),
        admin.email,
        admin.password,
        shown(&files.users()),
        std::iter::once("shell").chain(ready.agents.found.iter().map(String::as_str)).collect::<Vec<_>>().join(", "),
        shown(ready.mosaic),
        shown(&files.creds("reader")),
        files.ca().map_or_else(String::new, |ca| format!(" --ca {}", shown(&ca))),
        shown(&files.data().join("logs")),
    ));
    for (what, why) in not_enabled(ready.agents, &hub.nodes().unwrap_or_default()) {
        say::line(&format!("  not here  {what}: {why}"));
    }
    say::line("");
    Ok(())
}

/// What could not be enabled, and why.
fn not_enabled(agents: &Agents, nodes: &[Value]) -> Vec<(String, String)> {
    let mut found = vec![];
    let node = nodes.iter().find(|node| node.get("node") == Some(&json!(NODE_ID)));
    let providers = node.and_then(|node| node.get("providers")).and_then(Value::as_array);
    for provider in providers.into_iter().flatten() {
        let text = |key: &str| provider.get(key).and_then(Value::as_str);
        if provider.get("healthy") == Some(&json!(false)) {
            let name = text("name").unwrap_or("a provider");
            found.push((name.to_owned(), text("error").unwrap_or("it does not say why").to_owned()));
        }
    }
    if let Err(reason) = &agents.demo {
        found.push(("demo".into(), reason.clone()));
    }
    if !agents.missing.is_empty() {
        found.push((agents.missing.join(", "), "no such programs on PATH".into()));
    }
    if project::dashboard().is_none() {
        found.push(("the page".into(), "there is no dashboard/ in this tree".into()));
    }
    found
}
