//! Forgetting old messages: exactly those, in small steps, and the disk gets its space back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use bus_schema::*;
use hub_store::*;

const S1: &str = "01JD8Z2V9Q0000000000000001";

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_795_380_000_000 + i64::try_from(ms).unwrap())
}

/// A message whose text does not compress.
fn message(seq: u64) -> MessageRow {
    let mut state = seq;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x}")
    };
    let message = Message {
        message_id: MessageId::new(format!("m{seq}")).unwrap(),
        session_id: SessionId::new(S1).unwrap(),
        seq,
        role: if seq.is_multiple_of(100) { Role::Operator } else { Role::Agent },
        content: (0..60).map(|_| word()).collect(),
        timestamp: at(seq),
        kind: MessageKind::Text,
        metadata: Metadata::new(),
    };
    let (workspace, node) = (WorkspaceId::new("default").unwrap(), NodeId::new("n1").unwrap());
    MessageRow { workspace, node, stream_seq: seq, message }
}

async fn fill(store: &Store, seqs: std::ops::RangeInclusive<u64>) {
    let all: Vec<_> = seqs.map(message).collect();
    for messages in all.chunks(250) {
        store.apply_messages(&MessageBatch { messages: messages.to_vec(), ..MessageBatch::default() }).await.unwrap();
    }
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(of) if of.is_dir() => bytes(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[tokio::test]
async fn forgetting_takes_the_oldest_only_and_twice_is_once() {
    let store = Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store;
    let id = SessionId::new(S1).unwrap();
    fill(&store, 1..=2_500).await;
    let mut steps = vec![];
    loop {
        match store.forget_messages(&id, at(2_201)).await.unwrap() {
            0 => break,
            gone => steps.push(gone),
        }
    }
    assert_eq!(steps, [1_000, 1_000, 200], "in small steps");
    let page = store.messages(&id, PageOf::Newest, 500).await.unwrap();
    assert_eq!((page.messages.len(), page.first_seq, page.has_more), (300, 2_201, false));
    assert_eq!(store.count_messages(&id).await.unwrap(), 300);
    assert!(store.messages(&id, PageOf::Before(2_201), 10).await.unwrap().messages.is_empty());
    let page = store.messages(&id, PageOf::After(0), 10).await.unwrap();
    assert_eq!(page.messages[0].seq, 2_201);
    // What comes again from the bus is forgotten again.
    fill(&store, 2_100..=2_110).await;
    assert_eq!(store.forget_messages(&id, at(2_201)).await.unwrap(), 101);
    assert_eq!(store.count_messages(&id).await.unwrap(), 300);
    while store.forget_messages(&id, at(9_999)).await.unwrap() > 0 {}
    let (head, left) = (store.head(&id).await.unwrap().unwrap(), store.count_messages(&id).await.unwrap());
    assert_eq!((head.first_seq, head.last_seq, left), (2_501, 2_500, 0), "numbers are never given twice");
}

#[tokio::test]
async fn the_disk_gets_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let config = StoreConfig { memtable_bytes: 1024 * 1024, ..StoreConfig::new(StoreLocation::Embedded(path.clone())) };
    let store = Store::open(&config).await.unwrap().store;
    let id = SessionId::new(S1).unwrap();
    fill(&store, 1..=10_000).await;
    let full = bytes(&path);
    while store.forget_messages(&id, at(9_001)).await.unwrap() > 0 {}
    // As long as something is written, what is gone is compacted away.
    let (mut next, mut least) = (10_001, u64::MAX);
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while least > full / 2 && tokio::time::Instant::now() < until {
        fill(&store, next..=next + 249).await;
        next += 250;
        least = least.min(bytes(&path));
    }
    let written = next - 10_001;
    println!("{full} bytes with 10,000 messages, {least} after 9,000 were forgotten and {written} more came");
    assert!(least <= full / 2, "{full} bytes before, {least} after");
    store.close().await.unwrap();
}
