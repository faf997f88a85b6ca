//! The audit log of a hub that has lived long: a start does not wait for all of it, and nothing is left out.
//! With MOSAIC_AUDIT_ROWS=100000 the figures are of interest, too.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use testkit::{Bus, Person};

use super::*;

const SUBJECT: &str = "mosaic.v1.default.hub.audit";
/// Enough for many rows on a busy machine.
const LONG: Duration = Duration::from_secs(500);
/// Messages that wait for their ack at the same time.
const ACKS: u64 = 500;

fn rows() -> u64 {
    std::env::var("MOSAIC_AUDIT_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_500)
}

/// Writes so many rows as a hub does, each behind the one before it, and a signed checkpoint behind the last. The one
/// `altered` says something else than what was hashed. Its number, and that of the last row.
async fn write_rows(stack: &mut Stack, count: u64, altered: Option<u64>) -> (u64, u64) {
    let (url, creds) = (stack.nats.url(), stack.nats.identity().hub_creds());
    let bus = Bus::connect(&url, &creds, "hub").await.unwrap();
    let context = async_nats::jetstream::new(bus.client.clone());
    let stream = context.get_stream("MOSAIC_AUDIT").await.unwrap();
    let mut seq = stream.cached_info().state.last_sequence;
    let last = loop {
        let stored = stream.get_raw_message(seq).await.unwrap();
        match AuditEntry::from_payload(&stored.payload, None).unwrap() {
            AuditEntry::Row(line) => break *line,
            AuditEntry::Checkpoint(_) => seq -= 1,
        }
    };
    let (first, mut prev, mut acks) = (last.row.n + 1, last.hash, vec![]);
    for n in first..first + count {
        let row = json!({
            "n": n, "workspace": "default", "timestamp": "2025-11-22T20:00:00Z", "actionId": format!("old-{n}"),
            "phase": "outcome", "action": "pause", "user": {"id": "u_ada", "name": "Ada"}, "sessionId": S1,
            "node": "n1", "result": "ok", "metadata": {"of": "long ago"},
        });
        let mut line = AuditLine::behind(prev, serde_json::from_value(row).unwrap());
        prev = line.hash;
        if altered == Some(n - first) {
            line.row.user.name = "Eve".into();
        }
        acks.push(context.publish(SUBJECT, encode(&line.row).unwrap().into()).await.unwrap());
        if n % ACKS == 0 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    for ack in acks {
        ack.await.unwrap();
    }
    let seed = std::fs::read_to_string(stack.nats.identity().identity().command_key_path()).unwrap();
    let key = nkeys::KeyPair::from_seed(seed.trim()).unwrap();
    let checkpoint = Checkpoint {
        checkpoint: first + count - 1,
        workspace: WorkspaceId::new("default").unwrap(),
        hash: prev.to_string(),
        timestamp: hub::clock::now(),
        key: key.public_key(),
        signature: String::new(),
    };
    let signed =
        CheckpointLine::signed(checkpoint, |bytes| key.sign(bytes).map(|s| URL_SAFE_NO_PAD.encode(s))).unwrap();
    context.publish(SUBJECT, encode(&signed.checkpoint).unwrap().into()).await.unwrap().await.unwrap();
    (first + altered.unwrap_or(0), first + count - 1)
}

/// A hub that does not run any more; somebody signed in there.
async fn begun() -> Stack {
    let mut stack = Stack::start().await;
    stack.sign_in("admin").await;
    stack.stop_hub();
    stack
}

async fn page(person: &Person) -> Value {
    person.get("/api/mission-control/audit?limit=1").await.unwrap()
}

/// Waits until all of the log was gone through.
async fn verified(person: &Person) {
    wait_until("all of it is verified", LONG, async || {
        let page = page(person).await;
        if page["verifiedTo"] == page["entries"][0]["n"] { Ok(()) } else { Err(page["verifiedTo"].clone()) }
    })
    .await
    .unwrap();
}

/// The rows of faults that were told, the newest first.
async fn faults(person: &Person) -> Vec<u64> {
    let log = person.get("/api/mission-control/audit?action=auditFault").await.unwrap();
    log["entries"].as_array().unwrap().iter().map(|row| row["metadata"]["row"].as_u64().unwrap()).collect()
}

/// A line of the log of the hub that runs, once it is there.
async fn said(stack: &Stack, what: &str) -> String {
    wait_until(what, LONG, async || {
        let log = std::fs::read_to_string(stack.dir.path().join("hub.log")).unwrap_or_default();
        log.lines().find(|line| line.contains(what)).map(str::to_owned)
    })
    .await
    .unwrap()
}

fn forget_log(stack: &Stack) {
    std::fs::remove_file(stack.dir.path().join("hub.log")).unwrap();
}

#[tokio::test]
async fn a_start_goes_through_the_newest_rows_first_and_then_through_all_of_it() {
    let mut stack = begun().await;
    let (_, last) = write_rows(&mut stack, rows(), None).await;
    // The store has none of them: all is gone through, and copied.
    stack.start_hub().await;
    verified(&stack.sign_in("admin").await).await;
    stack.stop_hub();

    forget_log(&stack);
    let begun = Instant::now();
    stack.start_hub().await;
    let ready = begun.elapsed();
    said(&stack, "the audit log was gone through").await;
    let newest = begun.elapsed();
    let admin = stack.sign_in("admin").await;
    verified(&admin).await;
    println!(
        "{} rows: ready after {ready:.2?}, the newest gone through after {newest:.2?}, all after {:.2?}",
        rows(),
        begun.elapsed()
    );
    let line = said(&stack, "from its last checkpoint").await;
    let from: u64 = line.rsplit("row=").next().unwrap().trim().parse().unwrap();
    assert!(from >= last, "{line}");
    let log = std::fs::read_to_string(stack.dir.path().join("hub.log")).unwrap();
    let parts: Vec<_> = log.lines().filter(|line| line.contains("the audit log was gone through")).collect();
    assert!(parts[0].ends_with("past=false") && parts[1].ends_with("past=true"), "{parts:?}");
    assert_eq!(faults(&admin).await, Vec::<u64>::new());
}

#[tokio::test]
async fn what_was_altered_long_before_the_last_checkpoint_is_found_at_every_start() {
    let mut stack = begun().await;
    let (altered, _) = write_rows(&mut stack, 1_500, Some(100)).await;
    for starts in 1..=2 {
        stack.start_hub().await;
        let admin = stack.sign_in("admin").await;
        wait_until("it is told", LONG, async || {
            let told = faults(&admin).await;
            if told == vec![altered; starts] { Ok(()) } else { Err(told) }
        })
        .await
        .unwrap();
        // However far the rest was gone through.
        wait_until("what is verified ends before it", LONG, async || {
            let verified = page(&admin).await["verifiedTo"].clone();
            if verified == json!(altered - 1) { Ok(()) } else { Err(verified) }
        })
        .await
        .unwrap();
        let metrics = admin.send(Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("mosaic_hub_audit_faults_total{of=\"altered\"} 1"), "{metrics}");
        if starts == 2 {
            said(&stack, "from its last checkpoint").await;
        }
        stack.stop_hub();
        forget_log(&stack);
    }
}
