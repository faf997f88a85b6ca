//! Kill everything in the middle of the work: nothing is lost, nothing doubled, and the agent does not notice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testkit::{Person, Stack, proc, wait_until};

const LINES: u64 = 20_000;
const WITHIN: Duration = Duration::from_secs(240);

/// Counts at such a pace that all the kills fall into the middle of it.
const PROFILE: &str = r#"
[[profile]]
name = "counter"
protocol = "lines"
command = ["bash", "-c", "for i in $(seq 1 20000); do echo $i; [ $((i % 100)) = 0 ] && sleep 0.1; done; sleep 1000"]
"#;

/// Reads a stream until all lines were seen, reconnecting with the last id whenever it breaks.
async fn watch(stack_url: String, person: Person, session: String) -> BTreeMap<u64, u32> {
    let person = person.at(stack_url);
    let (mut seen, mut last_id) = (BTreeMap::new(), None::<String>);
    while (seen.len() as u64) < LINES {
        let mut request = person.request(reqwest::Method::GET, "/api/mission-control/stream?sessions=*");
        if let Some(id) = &last_id {
            request = request.header("Last-Event-ID", id);
        }
        let Ok(answer) = request.send().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut events = testkit::Events::of(answer);
        while let Some(event) = events.next().await {
            assert_ne!(event.name, "gap", "{event:?}");
            if event.name == "message" && event.data["sessionId"] == session.as_str() && event.data["role"] == "agent" {
                *seen.entry(event.data["content"].as_str().unwrap().parse().unwrap()).or_default() += 1;
            }
            last_id = event.id.or(last_id);
            if seen.len() as u64 == LINES {
                break;
            }
        }
    }
    seen
}

async fn survive(environment: &[(&str, &str)]) {
    let stack = Stack::start(PROFILE, &[], environment).unwrap();
    let operator = stack.person("operator").await.unwrap();
    let node = stack.said("/node").unwrap();
    // The watcher is there before the first line.
    let session = operator.spawn(node, "counter").await.unwrap();
    let mut watcher = tokio::task::JoinSet::new();
    watcher.spawn(watch(stack.url().unwrap().to_owned(), operator.clone(), session.clone()));
    let pid = wait_until("the agent runs", WITHIN, async || {
        let session = operator.session(&session).await.ok()?;
        session["metadata"]["pid"].as_u64()
    })
    .await
    .unwrap();
    let agent = u32::try_from(pid).unwrap();
    let began = proc::stat(agent).unwrap().start_ticks;

    for (step, part) in ["hub", "node", "hub", "nats", "hub"].into_iter().enumerate() {
        let past = LINES / 6 * (step as u64 + 1);
        wait_until(&format!("line {past} is stored"), WITHIN, async || {
            let page = operator.get(&format!("/api/mission-control/sessions/{session}/messages?limit=1")).await;
            let last = page.ok().and_then(|p| p["messages"][0]["seq"].as_u64()).unwrap_or(0);
            if last >= past { Ok(()) } else { Err(last) }
        })
        .await
        .unwrap();
        stack.kill9(part).unwrap();
    }
    let messages = wait_until("every line is stored", WITHIN, async || {
        let all = operator.messages(&session, 0).await.map_err(|e| e.to_string())?;
        let lines = all.iter().filter(|m| m["role"] == "agent").count() as u64;
        if lines >= LINES { Ok(all) } else { Err(format!("{lines} lines of {} messages", all.len())) }
    })
    .await
    .unwrap();
    for (message, seq) in messages.iter().zip(1..) {
        assert_eq!(message["seq"], json!(seq), "seq has no gap");
    }
    let lines: Vec<u64> = messages
        .iter()
        .filter(|m| m["role"] == "agent")
        .map(|m| m["content"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(lines, (1..=LINES).collect::<Vec<_>>(), "every line once and in order");
    let now = proc::stat(agent).unwrap();
    assert_eq!(now.start_ticks, began, "the agent is the same process");

    let seen = tokio::time::timeout(WITHIN, watcher.join_next()).await.unwrap().unwrap().unwrap();
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).take(10).collect();
    assert!(doubled.is_empty(), "seen twice: {doubled:?}");
    let (status, answer) = operator.act(&session, "kill").await.unwrap();
    assert_eq!((status, &answer["session"]["status"]), (200, &json!("killed")), "{answer}");
    assert!(!proc::is_alive(agent));
}

#[tokio::test]
async fn twenty_thousand_lines_survive_every_kill() {
    survive(&[]).await;
}

/// The store's engine loses its last transaction on a kill once its memtable has rotated: only a small one shows it.
#[tokio::test]
async fn twenty_thousand_lines_survive_every_kill_with_a_small_memtable() {
    survive(&[("MOSAIC_STORE_MEMTABLE_BYTES", "1048576")]).await;
}
