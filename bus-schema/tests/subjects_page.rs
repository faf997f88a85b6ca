//! `ops/docs/subjects.md` says what this crate says: its tables are made from it.
//!
//! After a change run with `MOSAIC_SUBJECTS=write`, and read what became of the page.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::Path;

use bus_schema::jetstream::{MESSAGES_CONSUMER, STATE_CONSUMER, STREAMS, StreamSpec};
use bus_schema::{
    BusRole, Kind, NODE_SERVICE, NodeId, Permissions, SessionId, Subject, WorkspaceId, inbox_prefix, live_filter,
};

const SESSION: &str = "01JD8Z2V9Q0000000000000000";

fn workspace() -> WorkspaceId {
    WorkspaceId::new("default").unwrap()
}

/// The subject of a kind, as an example.
fn example(kind: Kind) -> Subject {
    Subject::of(kind, workspace(), NodeId::new("n1").unwrap(), SessionId::new(SESSION).unwrap())
}

/// What it carries, and the type in this crate.
fn carries(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Node => ("state of a node, every 10 s and on change", "NodeState"),
        Kind::Session => ("whole snapshot of a session, on every change", "Session"),
        Kind::Message => ("one complete message", "Message"),
        Kind::Delta => ("the text so far of a message being written", "Delta"),
        Kind::Terminal => ("terminal bytes with offset and time", "Terminal"),
        Kind::Command => ("a signed command; the reply is its outcome", "Command, CommandReply"),
        Kind::Receipt => ("how far an operator message has come", "Receipt"),
        Kind::Refusal => ("a command that the node did not obey", "RefusedCommand"),
        Kind::Audit => ("a row of the audit log", "AuditRow"),
    }
}

fn stream_of(kind: Kind) -> Option<&'static StreamSpec> {
    STREAMS.iter().copied().find(|stream| stream.kinds.contains(&kind))
}

fn list(subjects: &[String]) -> String {
    if subjects.is_empty() {
        return "—".into();
    }
    subjects.iter().map(|subject| format!("`{subject}`")).collect::<Vec<_>>().join(", ")
}

fn page() -> String {
    let mut page = String::from(
        "# Subjects\n\n\
         Everything that goes over the bus (NATS), and how to watch it with the plain `nats` command. The tables are made\n\
         from `bus-schema` by its test `subjects_page`; `bus-schema/src/lib.rs` has the laws.\n\n\
         Form: `mosaic.v1.{workspace}.{node}.{kind}[.{session}]`. Workspace and node are `[A-Za-z0-9_-]{1,64}`, session\n\
         ids are ULIDs. Payload: one MessagePack map with named camelCase fields, the same names as in the HTTP JSON;\n\
         header `Content-Type: application/msgpack`, and `Nats-Msg-Id` on everything that is kept.\n\n\
         ## Kinds\n\
         | example | what it carries | type in `bus-schema` | kept in |\n|---|---|---|---|\n",
    );
    for kind in Kind::ALL.iter().copied() {
        let (what, payload) = carries(kind);
        let kept = stream_of(kind).map_or("not kept".into(), |stream| format!("`{}`", stream.name));
        writeln!(page, "| `{}` | {what} | {payload} | {kept} |", example(kind)).unwrap();
    }
    page.push_str(
        "\nWhat a stream has stored it republishes under `live.`, each message once, with its stream sequence in the header\n\
         `Nats-Sequence`. **That is what one watches**; a publisher that repeats itself after a failure is seen once. Only\n\
         `delta` is not kept, and is watched on its own subject.\n\n\
         ## Streams\n\
         | stream | kinds | kept for | at most | ids remembered for |\n|---|---|---|---|---|\n",
    );
    for stream in STREAMS {
        let kinds: Vec<_> = stream.kinds.iter().map(|kind| kind.as_str()).collect();
        let age = if stream.max_age_s == 0 { "ever".into() } else { format!("{} d", stream.max_age_s / 86_400) };
        let mut most = if stream.max_bytes < 0 { "no bound".into() } else { format!("{} MiB", stream.max_bytes >> 20) };
        if stream.max_messages_per_subject > 0 {
            write!(most, ", {} per subject", stream.max_messages_per_subject).unwrap();
        }
        let ids = stream.duplicate_window_s;
        writeln!(page, "| `{}` | {} | {age} | {most} | {} min |", stream.name, kinds.join(", "), ids / 60).unwrap();
    }
    let durable = [&STATE_CONSUMER, &MESSAGES_CONSUMER].map(|c| format!("`{}` on `{}`", c.durable, c.stream.name));
    writeln!(page, "\nThe hub's durable consumers: {}. The audit stream is append-only.", durable.join(", ")).unwrap();

    page.push_str(
        "\n## Who may do what\n\
         Bound to signing keys in the workspace's NATS account; a reader's credentials cannot publish at all.\n\n\
         | client | publishes | not | subscribes |\n|---|---|---|---|\n",
    );
    for (role, name) in [(BusRole::Hub, "hub"), (BusRole::Node, "n1"), (BusRole::Reader, "reader")] {
        let row = Permissions::of(role, &workspace(), name);
        let who = if role == BusRole::Node { format!("node `{name}`") } else { format!("`{name}`") };
        let (allow, deny) = (list(&row.publish_allow), list(&row.publish_deny));
        writeln!(page, "| {who} | {allow} | {deny} | {} |", list(&row.subscribe_allow)).unwrap();
    }
    writeln!(
        page,
        "\nEvery client sets its own inbox prefix, `{}` for the reader: `--inbox-prefix {}` with the `nats` command.",
        inbox_prefix("reader"),
        inbox_prefix("reader"),
    )
    .unwrap();

    let w = workspace();
    let node = NodeId::new("n1").unwrap();
    let watch = |filter: String| format!("nats sub '{filter}' --translate 'mosaic decode'\n");
    writeln!(
        page,
        "\n## Watching\n\
         `mosaic decode` turns one payload into one line of JSON. A context saves the flags:\n\n\
         ```sh\n\
         nats context save mosaic --server nats://127.0.0.1:4222 \\\n    \
             --creds .mosaic/identity/creds/reader.creds --inbox-prefix {inbox}\n\
         nats context select mosaic\n\n\
         # everything that happens in the workspace\n{everything}\
         # what is said\n{messages}\
         # what one node says of its sessions\n{sessions}\
         # text while it is being written\n{deltas}\
         # who did what\n{audit}```\n\n\
         Without the `nats` command: `mosaic tail`, or `mosaic tail --json` for scripts.\n\n\
         With an operator's credentials (`hub.creds`) also:\n\n\
         ```sh\n\
         nats micro ls                      # the nodes: service `{NODE_SERVICE}`\n\
         nats stream ls\n\
         nats stream view MOSAIC_MESSAGES --translate 'mosaic decode'\n\
         ```\n\n\
         A command cannot be sent by hand: nodes obey the hub's signature (`Mosaic-Key`, `Mosaic-Signature`) and nothing\n\
         else.",
        inbox = inbox_prefix("reader"),
        everything = watch(live_filter(Some(&w))),
        messages = watch(Kind::Message.live_filter(Some(&w), None)),
        sessions = watch(Kind::Session.live_filter(Some(&w), Some(&node))),
        deltas = watch(Kind::Delta.filter(Some(&w), None)),
        audit = watch(Kind::Audit.live_filter(Some(&w), None)),
    )
    .unwrap();
    page
}

#[test]
fn the_page_says_what_the_crate_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/docs/subjects.md");
    if std::env::var_os("MOSAIC_SUBJECTS").is_some_and(|word| word == "write") {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "ops/docs/subjects.md is not up to date: run this test with MOSAIC_SUBJECTS=write");
}

#[test]
fn every_filter_on_the_page_is_allowed_to_a_reader() {
    let row = Permissions::of(BusRole::Reader, &workspace(), "reader");
    let filters: Vec<_> =
        page().lines().filter_map(|l| l.strip_prefix("nats sub '")?.split('\'').next().map(str::to_owned)).collect();
    assert_eq!(filters.len(), 5);
    for filter in filters {
        let within = |allowed: &String| allowed.strip_suffix('>').map_or(*allowed == filter, |p| filter.starts_with(p));
        assert!(row.subscribe_allow.iter().any(within), "{filter}");
    }
}
