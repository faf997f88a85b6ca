//! What a search reaches: messages looked at in a second, on disk, for a word that is nowhere.
//!
//! usage: `scan MESSAGES SESSIONS FOLDER`; prints messages per second for pages of 2 s, how long the whole took, and
//! the processor's time for a message (on Linux), which a busy machine does not change much.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for some numbers")]

use std::time::{Duration, Instant};

use bus_schema::*;
use hub_store::*;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(10 << 20).build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let arguments: Vec<String> = std::env::args().collect();
    let (messages, sessions): (u64, u64) = (arguments[1].parse().unwrap(), arguments[2].parse().unwrap());
    let location = StoreLocation::Embedded(arguments[3].clone().into());
    let store = Store::open(&StoreConfig::new(location)).await.unwrap().store;
    let workspace = WorkspaceId::new("default").unwrap();
    let begun = Instant::now();
    let rows = (0..messages).map(|n| row(&workspace, n % sessions, n / sessions + 1, n + 1));
    let rows: Vec<_> = rows.collect();
    for rows in rows.chunks(500) {
        store.apply_messages(&MessageBatch { messages: rows.to_vec(), ..MessageBatch::default() }).await.unwrap();
    }
    println!("written: {:.0}/s", messages as f64 / begun.elapsed().as_secs_f64());
    let written = cpu();
    let what = SearchFor { words: vec!["needle".into()], session: None };
    let (begun, mut place, mut looked_at) = (Instant::now(), None, 0);
    loop {
        let page = Instant::now();
        let found = store.search(&workspace, &what, place.as_ref(), 50, page + Duration::from_secs(2)).await.unwrap();
        looked_at += found.looked_at;
        let took = page.elapsed().as_secs_f64();
        println!("page: {} in {took:.2} s, {:.0}/s", found.looked_at, found.looked_at as f64 / took);
        place = found.next;
        if place.is_none() {
            break;
        }
    }
    println!("all {looked_at} in {:.2} s", begun.elapsed().as_secs_f64());
    let micros = |from: u64, to: u64, count: u64| (to - from) as f64 * 10_000.0 / count as f64;
    println!(
        "written: {:.0} us/message, searched: {:.0} us/message",
        micros(0, written, messages),
        micros(written, cpu(), looked_at)
    );
    store.close().await.unwrap();
}

/// Processor time of this process, in hundredths of a second; 0 where `/proc` does not tell.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// A message of about 300 bytes.
fn row(workspace: &WorkspaceId, session: u64, seq: u64, stream_seq: u64) -> MessageRow {
    let message = Message {
        message_id: MessageId::new(format!("m{session}-{seq}")).unwrap(),
        session_id: SessionId::new(format!("01JD8Z2V9Q{session:016}")).unwrap(),
        seq,
        role: Role::Agent,
        content: format!("The test of module {seq} was run again; {:>160}", seq * 7919),
        timestamp: Timestamp::from_millis(1_795_380_000_000 + i64::try_from(stream_seq).unwrap()),
        kind: MessageKind::Text,
        metadata: Metadata::new(),
    };
    MessageRow { workspace: workspace.clone(), node: NodeId::new("n1").unwrap(), stream_seq, message }
}
