//! Finding messages by their words: all of them, each once, in one order, in pages, and in time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bus_schema::*;
use hub_store::*;

fn id(n: u64) -> SessionId {
    SessionId::new(format!("01JD8Z2V9Q{n:016}")).unwrap()
}

fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_795_380_000_000 + i64::try_from(seq).unwrap())
}

fn row(workspace: &str, session: u64, seq: u64, content: &str) -> MessageRow {
    let message = Message {
        message_id: MessageId::new(format!("m{session}-{seq}")).unwrap(),
        session_id: id(session),
        seq,
        role: Role::Agent,
        content: content.to_owned(),
        timestamp: at(seq),
        kind: MessageKind::Text,
        metadata: Metadata::new(),
    };
    let (workspace, node) = (WorkspaceId::new(workspace).unwrap(), NodeId::new("n1").unwrap());
    MessageRow { workspace, node, stream_seq: seq, message }
}

async fn put(store: &Store, rows: Vec<MessageRow>) {
    for messages in rows.chunks(500) {
        store.apply_messages(&MessageBatch { messages: messages.to_vec(), ..MessageBatch::default() }).await.unwrap();
    }
}

async fn session(store: &Store, n: u64, rev: u64, status: &str) {
    let session: Session = serde_json::from_value(serde_json::json!({
        "sessionId": id(n), "workspace": "default", "node": "n1", "provider": "pty", "status": status,
        "statusSource": "process", "statusSince": at(0), "spawnedAt": at(0), "rev": rev,
    }))
    .unwrap();
    store.apply_state(&StateBatch { sessions: vec![SessionRow { session }], ..StateBatch::default() }).await.unwrap();
}

fn words(of: &[&str]) -> SearchFor {
    SearchFor { words: of.iter().map(|w| (*w).to_owned()).collect(), session: None }
}

/// Every page until there is no more; each hit as session and seq.
async fn pages(store: &Store, what: &SearchFor, limit: usize, patience: Duration) -> Vec<Vec<(u64, u64)>> {
    let workspace = WorkspaceId::new("default").unwrap();
    let (mut pages, mut place) = (vec![], None);
    loop {
        let page = store.search(&workspace, what, place.as_ref(), limit, Instant::now() + patience).await.unwrap();
        let of = |id: &SessionId| id.as_str()[10..].parse::<u64>().unwrap();
        pages.push(page.hits.iter().map(|hit| (of(&hit.session_id), hit.seq)).collect());
        let Some(next) = page.next else { return pages };
        assert!(pages.len() < 1_000, "a search that does not end");
        // What a caller is given and brings back is the same place.
        place = Some(next.to_string().parse().unwrap());
        assert_eq!(place, Some(next));
    }
}

#[tokio::test]
async fn what_runs_comes_first_then_the_newest_and_other_workspaces_never() {
    let store = Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store;
    for n in 1..=3 {
        put(
            &store,
            vec![row("default", n, 1, "The Sweep waits"), row("default", n, 2, "no"), row("default", n, 3, "SWEEP it")],
        )
        .await;
    }
    put(&store, vec![row("other", 9, 1, "sweep")]).await;
    session(&store, 1, 1, "running").await;
    session(&store, 2, 1, "completed").await;
    let patience = Duration::from_secs(30);
    let found = pages(&store, &words(&["sweep"]), 100, patience).await;
    assert_eq!(found, [[(1, 3), (1, 1), (3, 3), (3, 1), (2, 3), (2, 1)]]);
    let both = pages(&store, &words(&["sweep", "waits"]), 100, patience).await;
    assert_eq!(both, [[(1, 1), (3, 1), (2, 1)]]);
    assert_eq!(pages(&store, &words(&["nowhere"]), 100, patience).await, [[]]);
    let one = SearchFor { session: Some(id(2)), ..words(&["sweep"]) };
    assert_eq!(pages(&store, &one, 100, patience).await, [[(2, 3), (2, 1)]]);
}

#[tokio::test]
async fn pages_join_without_a_gap_or_a_double_whether_full_or_out_of_time() {
    let store = Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store;
    // Long sessions, short ones, and one whose beginning was forgotten.
    let content = |seq: u64| if seq.is_multiple_of(7) { "a needle in it" } else { "hay" };
    for (session, count) in [(1, 1_300), (2, 3), (3, 0), (4, 900), (5, 8)] {
        put(&store, (1..=count).map(|seq| row("default", session, seq, content(seq))).collect()).await;
    }
    session(&store, 4, 1, "running").await;
    while store.forget_messages(&id(1), at(101)).await.unwrap() > 0 {}
    let whole = pages(&store, &words(&["needle"]), usize::MAX, Duration::from_secs(30)).await;
    let [whole] = whole.as_slice() else { panic!("{} pages", whole.len()) };
    let sevens = |session: u64, from: u64, to: u64| (from..=to).rev().filter(|n| n % 7 == 0).map(move |n| (session, n));
    let expected: Vec<_> = sevens(4, 1, 900).chain(sevens(5, 1, 8)).chain(sevens(1, 101, 1_300)).collect();
    assert_eq!(*whole, expected);
    // Seven to a page; and pages for which there is no time at all, each of which still gets on.
    let by_seven = pages(&store, &words(&["needle"]), 7, Duration::from_secs(30)).await;
    assert!(by_seven.iter().all(|page| page.len() <= 7));
    assert_eq!(by_seven.concat(), *whole);
    let hurried = pages(&store, &words(&["needle"]), usize::MAX, Duration::ZERO).await;
    assert!(hurried.len() > 3, "{} pages", hurried.len());
    assert_eq!(hurried.concat(), *whole);
}

#[tokio::test]
async fn nothing_is_left_out_when_sessions_begin_and_end_between_two_pages() {
    let store = Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store;
    let workspace = WorkspaceId::new("default").unwrap();
    for n in [2, 4, 6] {
        put(&store, (1..=4).map(|seq| row("default", n, seq, "needle")).collect()).await;
        session(&store, n, 1, "running").await;
    }
    let what = words(&["needle"]);
    let late = Instant::now() + Duration::from_secs(30);
    let first = store.search(&workspace, &what, None, 6, late).await.unwrap();
    // Session 6 is done, half of 4; now 4 and 2 end, 7 begins, and 6 says more.
    session(&store, 4, 2, "completed").await;
    session(&store, 2, 2, "completed").await;
    put(&store, vec![row("default", 7, 1, "needle"), row("default", 6, 5, "needle")]).await;
    let mut seen: Vec<_> = first.hits.iter().map(|hit| (hit.session_id.clone(), hit.seq)).collect();
    let mut place = first.next;
    while let Some(from) = place {
        let page = store.search(&workspace, &what, Some(&from), 6, late).await.unwrap();
        seen.extend(page.hits.iter().map(|hit| (hit.session_id.clone(), hit.seq)));
        place = page.next;
    }
    for n in [2, 4, 6] {
        for seq in 1..=4 {
            assert!(seen.contains(&(id(n), seq)), "message {seq} of session {n} was left out");
        }
    }
}

#[test]
fn a_place_is_read_back_and_nothing_else_is_one() {
    for text in ["active.01JD8Z2V9Q0000000000000001.7", "ended.01JD8Z2V9Q0000000000000001.18446744073709551615"] {
        assert_eq!(text.parse::<SearchPlace>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "active",
        "gone.01JD8Z2V9Q0000000000000001.7",
        "active.x.7",
        "active.01JD8Z2V9Q0000000000000001.x",
        "active.01JD8Z2V9Q0000000000000001.7.8",
    ] {
        assert!(text.parse::<SearchPlace>().is_err(), "{text}");
    }
}
