//! How fast and how light it is: each figure beside its baseline from the same run. Run by `cargo xtask bench`.
//!
//! Figures are of the machine as it is now: on a busy one only the ratios tell something.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints figures")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use bus_schema::*;
use serde_json::{Value, json};
use testkit::{NatsServer, Person, Process, Stack, proc, wait_until};

const WITHIN: Duration = Duration::from_secs(120);
/// Messages of the ingestion figure.
const INGESTED: u64 = 60_000;
/// Messages in one transaction, as the hub makes them.
const BATCH: u64 = 500;
/// Lines of the latency figure, at 100 a second.
const TICKS: usize = 3_000;

const PROFILES: &str = r#"
[[profile]]
name = "idle"
command = ["sleep", "100000"]
[[profile]]
name = "ticker"
protocol = "lines"
command = ["python3", "-u", "-c", """
import time
began = time.monotonic()
for tick in range(100000):
    time.sleep(max(0, began + tick * 0.01 - time.monotonic()))
    print(time.time_ns())
"""]
"#;

fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().skip(1).map(|d| d.join(name)).find(|p| p.is_file());
    found.or_else(|| Some(own.parent()?.join(name))).unwrap()
}

fn row(what: &str, ours: String, baseline: String, ratio: f64, wanted: &str) {
    println!("{what:<44} {ours:>16} {baseline:>28} {ratio:>8.2}   {wanted}");
}

#[tokio::main]
async fn main() {
    println!("{:<44} {:>16} {:>28} {:>8}   wanted", "figure", "ours", "baseline of the same run", "ratio");
    weight_and_latency().await;
    ingestion().await;
}

async fn weight_and_latency() {
    let stack = Stack::start(PROFILES, &[], &[]).unwrap();
    let operator = stack.person("operator").await.unwrap();
    let node = stack.said("/node").unwrap();
    let idle = operator.spawn(node, "idle").await.unwrap();
    wait_until("it runs", WITHIN, async || operator.session(&idle).await.is_ok_and(|s| s["status"] == "running"))
        .await
        .unwrap();
    let mut bare = Process::spawn(
        "bare client",
        Command::new(program("bare_client")).args([
            stack.said("/natsUrl").unwrap(),
            stack.said("/creds/reader").unwrap(),
            "reader",
        ]),
        &stack.dir().join("bare.log"),
    )
    .unwrap();
    let pid = stack.pid("node").unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let ticks = |pid| proc::stat(pid).unwrap().cpu_ticks;
    let before = ticks(pid);
    let seconds = 30;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let cpu = (ticks(pid) - before) as f64 / seconds as f64;
    let (ours, base) = (proc::rss_kib(pid), proc::rss_kib(bare.pid()));
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let ratio = ours as f64 / base as f64;
    row("node agent idle with one PTY session: memory", mib(ours), format!("bare client {}", mib(base)), ratio, "<= 3");
    row(
        "node agent idle with one PTY session: CPU",
        format!("{cpu:.2} %"),
        "one core 100 %".into(),
        cpu / 100.0,
        "< 0.005",
    );
    let holder = proc::all().into_iter().find(|p| {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
        line.contains("holder") && line.contains(&idle)
    });
    if let Some(holder) = holder {
        let kib = proc::rss_kib(holder.pid);
        let ratio = kib as f64 / base as f64;
        row("its holder: memory", mib(kib), format!("bare client {}", mib(base)), ratio, "-");
    }
    bare.kill9();
    latency(&stack, &operator, node).await;
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about time")]
fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

fn percentile(sorted: &[f64], p: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * p) as usize]
}

async fn latency(stack: &Stack, operator: &Person, node: &str) {
    let mut events = operator.events("/api/mission-control/stream?sessions=*").await.unwrap();
    events.expect("ready").await.unwrap();
    let session = operator.spawn(node, "ticker").await.unwrap();
    let mut ours = vec![];
    while ours.len() < TICKS {
        let event = events.next().await.unwrap();
        let now = now_ns();
        if event.name == "message" && event.data["sessionId"] == session.as_str() && event.data["role"] == "agent" {
            let sent: u128 = event.data["content"].as_str().unwrap().parse().unwrap();
            ours.push((now.saturating_sub(sent)) as f64 / 1e6);
        }
    }
    let (status, _) = operator.act(&session, "kill").await.unwrap();
    assert_eq!(status, 200);
    let mut base = bare_latency(stack).await;
    let ours = &mut ours[TICKS / 10..];
    ours.sort_by(f64::total_cmp);
    base.sort_by(f64::total_cmp);
    let ms = |v: f64| format!("{v:.2} ms");
    let (p50, base50) = (percentile(ours, 0.5), percentile(&base, 0.5));
    row(
        "line written -> SSE client, 100/s: p50",
        ms(p50),
        format!("publish -> subscribe {}", ms(base50)),
        p50 / base50,
        "<= 10",
    );
    let (p99, base99) = (percentile(ours, 0.99), percentile(&base, 0.99));
    row(
        "line written -> SSE client, 100/s: p99",
        ms(p99),
        format!("publish -> subscribe {}", ms(base99)),
        p99 / base99,
        "< 50 ms",
    );
}

/// Core publish to subscribe over two connections, at the same pace.
async fn bare_latency(stack: &Stack) -> Vec<f64> {
    use futures::StreamExt;
    let (url, creds) = (stack.said("/natsUrl").unwrap(), PathBuf::from(stack.said("/creds/hub").unwrap()));
    let (from, to) = (
        testkit::Bus::connect(url, &creds, "hub").await.unwrap(),
        testkit::Bus::connect(url, &creds, "hub").await.unwrap(),
    );
    let mut arrived = to.client.subscribe("bench.latency").await.unwrap();
    to.client.flush().await.unwrap();
    let mut times = vec![];
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..TICKS / 3 {
        pace.tick().await;
        from.client.publish("bench.latency", now_ns().to_string().into()).await.unwrap();
        let message = arrived.next().await.unwrap();
        let sent: u128 = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
        times.push((now_ns() - sent) as f64 / 1e6);
    }
    times.split_off(TICKS / 30)
}

async fn ingestion() {
    let folder = tempfile::tempdir().unwrap();
    let mut nats = NatsServer::start().unwrap();
    let identity = nats.identity();
    let creds = (identity.hub_creds(), identity.identity().journal_creds(), identity.identity().command_key_path());
    let config = format!(
        "[hub]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"hub\"\n[nats]\nurl = \"{}\"\ncreds = {:?}\njournal_creds = {:?}\n\
         command_key = {:?}\nmessages_max_bytes = 1073741824\n",
        nats.url(),
        creds.0,
        creds.1,
        creds.2,
    );
    std::fs::write(folder.path().join("hub.toml"), config).unwrap();
    let start = || {
        drop(std::fs::remove_file(folder.path().join("hub/listen.json")));
        let mut command = Command::new(program("mosaic-hub"));
        command.arg("--config").arg(folder.path().join("hub.toml"));
        Process::spawn("hub", &mut command, &folder.path().join("hub.log")).unwrap()
    };
    let url = async || {
        wait_until("the hub listens", WITHIN, async || {
            let text = std::fs::read(folder.path().join("hub/listen.json")).ok()?;
            let url = serde_json::from_slice::<Value>(&text).ok()?["url"].as_str()?.to_owned();
            let ready = Person::nobody(&url).send(reqwest::Method::GET, "/readyz", None).await.ok()?;
            ready.status().is_success().then_some(url)
        })
        .await
        .unwrap()
    };
    let mut hub = start();
    url().await;
    hub.terminate(WITHIN).unwrap();
    publish(&mut nats).await;

    let mut hub = start();
    let begun = std::time::Instant::now();
    let hub_url = url().await;
    let nobody = Person::nobody(&hub_url);
    let ingested = async || {
        let text = nobody.send(reqwest::Method::GET, "/metrics", None).await.ok()?.text().await.ok()?;
        let line = text.lines().find(|l| l.starts_with("mosaic_hub_ingested_messages_total{of=\"hub-messages\"}"))?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let first = wait_until("ingestion began", WITHIN, async || ingested().await.filter(|n| *n > 0)).await.unwrap();
    let from = std::time::Instant::now();
    let mut last = first;
    while last < INGESTED {
        tokio::time::sleep(Duration::from_millis(20)).await;
        last = ingested().await.unwrap();
        assert!(begun.elapsed() < WITHIN, "{last} of {INGESTED}");
    }
    let ours = (last - first) as f64 / from.elapsed().as_secs_f64();
    hub.terminate(WITHIN).unwrap();
    let alone = Command::new(program("alone"))
        .args([INGESTED.to_string(), BATCH.to_string()])
        .arg(folder.path().join("alone"))
        .output()
        .unwrap();
    let base: f64 = String::from_utf8(alone.stdout).unwrap().trim().parse().unwrap();
    let per_s = |v: f64| format!("{v:.0}/s");
    row(
        "messages persisted (committed and acked)",
        per_s(ours),
        format!("SurrealDB alone {}", per_s(base)),
        ours / base,
        ">= 0.5",
    );
}

/// Fills the stream while no hub runs.
async fn publish(nats: &mut NatsServer) {
    let node = nats.node("bench").await.unwrap();
    let jetstream = async_nats::jetstream::new(node.client.clone());
    let session = "01JD8Z2V9Q0000000000000001";
    let id = SessionId::new(session).unwrap();
    let workspace = WorkspaceId::new("default").unwrap();
    let subject = Subject::Message(workspace, NodeId::new("bench").unwrap(), id.clone()).to_string();
    let mut acks = std::collections::VecDeque::new();
    for seq in 1..=INGESTED {
        let message = Message {
            message_id: MessageId::new(format!("{session}-{seq}")).unwrap(),
            session_id: id.clone(),
            seq,
            role: Role::Agent,
            content: format!("{seq:>200}"),
            timestamp: Timestamp::from_millis(1_795_380_000_000),
            kind: MessageKind::Text,
            metadata: serde_json::from_value(json!({})).unwrap(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("bench-{seq}").as_str());
        let sent = jetstream.publish_with_headers(subject.clone(), headers, encode(&message).unwrap().into());
        acks.push_back(sent.await.unwrap());
        if acks.len() >= 256 {
            acks.pop_front().unwrap().await.unwrap();
        }
    }
    for ack in acks {
        ack.await.unwrap();
    }
}
