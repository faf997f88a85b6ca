//! Trust in what is said of a message: while hub, node and bus are killed at random, the agents' own logs are compared
//! with what the mesh says became of every message.
//!
//! `MOSAIC_SOAK=2000` makes it the long version, `MOSAIC_SOAK_SEED=N` repeats one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use testkit::{Mesh, Person, proc, wait_until};

/// Messages of the short version.
const SHORT: usize = 300;
const SESSIONS: usize = 10;
/// Messages for one session that are under way at the same time.
const AT_ONCE: usize = 4;
/// Kills for so many messages: they fall between the messages whatever the machine's speed.
const MESSAGES_PER_KILL: usize = 20;
/// How long one message may take until the hub has said something certain of it.
const SEND_WITHIN: Duration = Duration::from_secs(600);
/// How long the next kill waits for a message to arrive.
const PROGRESS_WITHIN: Duration = Duration::from_secs(20);
/// How long the last messages may take to settle. What nobody knows is asked again every 30 s.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// Every run can be had again from its seed.
struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// What the sender of a message was told.
#[derive(Clone, Debug)]
enum Told {
    /// 202, with this id.
    Accepted(String),
    /// 202, and that nobody knows yet whether it is there. Not sent again.
    Unknown(String),
    /// That nothing was done, by this error code.
    Nothing(#[expect(dead_code, reason = "shown when it is wrong")] String),
    /// What must not be told, or nothing certain for too long.
    Odd(#[expect(dead_code, reason = "shown when it is wrong")] String),
    /// No answer, or one that leaves it open. Not sent again.
    Open(#[expect(dead_code, reason = "shown when it is wrong")] String),
}

/// Sends one message. With a key it is sent until something certain is said of it, without one only once.
async fn send(person: &Person, session: &str, text: &str, key: Option<&str>) -> Told {
    let path = format!("/api/mission-control/sessions/{session}/inject");
    let body = match key {
        Some(key) => json!({"content": text, "idempotencyKey": key}),
        None => json!({"content": text}),
    };
    let begun = Instant::now();
    loop {
        let told = match person.post(&path, body.clone()).await {
            Ok((202, answer)) => {
                let id = answer["messageId"].as_str().unwrap().to_owned();
                if answer["delivery"] == "unknown" { Told::Unknown(id) } else { return Told::Accepted(id) }
            }
            Ok((503 | 429, answer)) => {
                let code = answer["error"]["code"].as_str().unwrap_or_default().to_owned();
                let nothing = ["nodeAway", "busAway", "auditAway", "busy", "storeAway", "tooMany"];
                if nothing.contains(&code.as_str()) { Told::Nothing(code) } else { Told::Open(code) }
            }
            Ok((status, answer)) => return Told::Odd(format!("{status}: {answer}")),
            // The hub was killed, or is not there yet.
            Err(error) => Told::Open(format!("{error:#}")),
        };
        if key.is_none() {
            return told;
        }
        if begun.elapsed() > SEND_WITHIN {
            return Told::Odd(format!("nothing certain in {SEND_WITHIN:?}: {told:?}"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Kills one part after another and starts it again, until it is told to stop. Gives how often each was killed.
fn disturb(
    mesh: &Mutex<Mesh>,
    mut random: Random,
    count: &AtomicUsize,
    answered: &AtomicUsize,
    stop: &AtomicBool,
) -> BTreeMap<&'static str, u32> {
    let mut kills = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let part = ["hub", "node", "nats"][usize::try_from(random.below(3)).unwrap()];
        let mut mesh = mesh.lock().unwrap();
        mesh.kill9(part);
        *kills.entry(part).or_default() += 1;
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(random.millis(0, 1_500));
        mesh.start_part(part).unwrap();
        drop(mesh);
        // On a slow machine nothing would ever arrive between two kills.
        let (begun, some) = (Instant::now(), answered.load(Ordering::Relaxed) + 1);
        while answered.load(Ordering::Relaxed) < some && begun.elapsed() < PROGRESS_WITHIN {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(random.millis(0, 2_000));
    }
    kills
}

/// What the agents wrote down: how often each text came, and in which session.
fn logged(dir: &Path) -> BTreeMap<(String, String), u32> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let session = entry.file_name().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(entry.path()).unwrap().lines() {
            let said: Value = serde_json::from_str(line).unwrap();
            *found.entry((session.clone(), said["content"].as_str().unwrap().to_owned())).or_default() += 1;
        }
    }
    found
}

/// Ends the disturbance also when the test fails.
struct StopAtEnd(Arc<AtomicBool>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Sent {
    session: String,
    text: String,
    keyed: bool,
    told: Told,
}

/// One sender: its share of the messages, as many between two kills as make the kills spread over all of them.
async fn sender(
    person: Person,
    session: String,
    number: usize,
    messages: usize,
    (kills, answered): (Arc<AtomicUsize>, Arc<AtomicUsize>),
    seed: u64,
) -> Vec<Sent> {
    let one = |n: usize| {
        let (person, session, kills, answered) = (&person, &session, &kills, &answered);
        let mut random = Random(seed ^ ((n as u64) << 32));
        async move {
            while kills.load(Ordering::Relaxed) * MESSAGES_PER_KILL < n * SESSIONS {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(random.millis(0, 2_000)).await;
            let text = format!("message {n} for session {number}: \"{}\"", random.next());
            let keyed = random.below(10) > 0;
            let key = keyed.then(|| format!("key-{n}"));
            let told = send(person, session, &text, key.as_deref()).await;
            // Somebody presses the button twice.
            if let (Some(key), 0) = (&key, random.below(20)) {
                let again = send(person, session, &text, Some(key)).await;
                let is_same = matches!((&told, &again), (Told::Accepted(one), Told::Accepted(two)) if one == two);
                if !is_same {
                    let told = Told::Odd(format!("{told:?}, and the second time {again:?}"));
                    return Sent { session: session.clone(), text, keyed, told };
                }
            }
            answered.fetch_add(1, Ordering::Relaxed);
            Sent { session: session.clone(), text, keyed, told }
        }
    };
    futures::stream::iter((0..messages).map(one)).buffer_unordered(AT_ONCE).collect().await
}

/// What each operator message of a session has come to: state and text, by id.
async fn states(person: &Person, session: &str) -> BTreeMap<String, (String, String)> {
    let all = person.messages(session, 0).await.unwrap();
    let text = |m: &Value| m.as_str().unwrap_or_default().to_owned();
    let mut found = BTreeMap::new();
    for m in all.iter().filter(|m| m["role"] == "operator") {
        let state = (text(&m["metadata"]["delivery"]), text(&m["content"]));
        assert!(found.insert(text(&m["messageId"]), state).is_none(), "shown twice: {m}");
    }
    found
}

#[tokio::test]
async fn what_is_said_of_a_message_is_so_while_everything_is_killed() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let total = number("MOSAIC_SOAK").map_or(SHORT, |n| usize::try_from(n).unwrap());
    let seed = number("MOSAIC_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20);
    println!("MOSAIC_SOAK={total} MOSAIC_SOAK_SEED={seed}");
    let begun = Instant::now();
    let logs = tempfile::tempdir().unwrap();
    let mut mesh = Mesh::start("127.0.0.1", "", "[limits]\ninject_per_minute = 1000000\n").unwrap();
    let script = format!(
        r#"while IFS= read -r line; do printf '%s\n' "$line" >> {}/$MOSAIC_SESSION_ID; done"#,
        logs.path().display()
    );
    let profile =
        format!("[[profile]]\nname = \"scribe\"\nprotocol = \"jsonl\"\ncommand = [\"bash\", \"-c\", {script:?}]\n");
    mesh.add_node("node", &profile, &[]).unwrap();
    let operator = mesh.person("operator").await.unwrap();
    mesh.knows(&operator, "node").await.unwrap();
    let mut sessions = vec![];
    for _ in 0..SESSIONS {
        sessions.push(operator.spawn("node", "scribe").await.unwrap());
    }

    let mesh = Arc::new(Mutex::new(mesh));
    let stop = Arc::new(AtomicBool::new(false));
    let (count, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stopped = StopAtEnd(Arc::clone(&stop));
    let disturbing = {
        let (mesh, stop) = (Arc::clone(&mesh), Arc::clone(&stop));
        let (count, answered) = (Arc::clone(&count), Arc::clone(&answered));
        tokio::task::spawn_blocking(move || disturb(&mesh, Random(seed), &count, &answered, &stop))
    };
    let senders = sessions.iter().enumerate().map(|(n, session)| {
        let share = total / SESSIONS + usize::from(n < total % SESSIONS);
        sender(
            operator.clone(),
            session.clone(),
            n,
            share,
            (Arc::clone(&count), Arc::clone(&answered)),
            seed ^ (n as u64 + 1),
        )
    });
    let sent: Vec<Sent> = futures::future::join_all(senders).await.into_iter().flatten().collect();
    drop(stopped);
    let kills = disturbing.await.unwrap();
    let sending = begun.elapsed();
    assert_eq!(sent.len(), total);

    // What was accepted comes to an end. What nobody knows may stay so, but nothing may stay on its way.
    let found = wait_until("every message has settled", SETTLE_WITHIN, async || {
        let mut found = BTreeMap::new();
        for session in &sessions {
            found.extend(states(&operator, session).await.into_iter().map(|(id, s)| ((session.clone(), id), s)));
        }
        let is_open = |state: &str| matches!(state, "" | "accepted" | "delivered" | "unknown");
        let missing = sent.iter().filter(|sent| match &sent.told {
            Told::Accepted(id) => !found.contains_key(&(sent.session.clone(), id.clone())),
            Told::Unknown(_) | Told::Nothing(_) | Told::Open(_) | Told::Odd(_) => false,
        });
        let open = found.values().filter(|(state, _)| is_open(state)).count() + missing.count();
        if open == 0 { Ok(found) } else { Err(format!("{open} are open")) }
    })
    .await
    .unwrap();

    let log = logged(logs.path());
    let times = |session: &str, text: &str| log.get(&(session.to_owned(), text.to_owned())).copied().unwrap_or(0);
    let (mut wrong, mut counts) = (vec![], BTreeMap::<String, u32>::new());
    for ((session, id), (state, text)) in &found {
        *counts.entry(state.clone()).or_default() += 1;
        let is_so = match (state.as_str(), times(session, text)) {
            ("written" | "taken", n) => n == 1,
            ("refused" | "expired", n) => n == 0,
            ("unknown", n) => n <= 1,
            (_, _) => false,
        };
        if !is_so {
            wrong.push(format!("{id} is {state} and {} times in the log: {text}", times(session, text)));
        }
    }
    let mut told = BTreeMap::<&str, u32>::new();
    for sent in &sent {
        let (times, shown) =
            (times(&sent.session, &sent.text), |id: &String| found.get(&(sent.session.clone(), id.clone())));
        let (word, is_so) = match &sent.told {
            Told::Accepted(id) => ("accepted", shown(id).is_some_and(|(_, text)| *text == sent.text)),
            // It is there or it is not; never twice, and never without being shown.
            Told::Unknown(id) => ("unknown", times == u32::from(shown(id).is_some())),
            Told::Nothing(_) => ("nothing was done", times == 0 && !found.values().any(|(_, text)| *text == sent.text)),
            Told::Open(_) => ("no answer", times <= 1),
            Told::Odd(_) => ("odd", false),
        };
        *told.entry(word).or_default() += 1;
        if !is_so || sent.keyed && times != 1 {
            wrong.push(format!("told {:?}, and {times} times in the log: {}", sent.told, sent.text));
        }
    }
    let texts: std::collections::BTreeSet<_> = sent.iter().map(|s| (s.session.clone(), s.text.clone())).collect();
    wrong.extend(log.keys().filter(|key| !texts.contains(*key)).map(|key| format!("nobody sent this: {key:?}")));
    wrong.extend(log.iter().filter(|(_, n)| **n > 1).map(|(key, n)| format!("{n} times in the log: {key:?}")));
    println!(
        "{total} messages in {sending:.0?} ({:.0?} in all); killed: {kills:?}; senders were told: {told:?}; states: \
         {counts:?}; in the agents' logs: {}",
        begun.elapsed(),
        log.values().sum::<u32>()
    );
    assert!(wrong.is_empty(), "seed {seed}: {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(kills.len() == 3, "each part is killed: {kills:?}");
    drop(mesh);
    for session in &sessions {
        assert_eq!(proc::with_env(&format!("MOSAIC_SESSION_ID={session}")), []);
    }
}
