//! The echo provider keeps every law of the trait, and does what its lines say.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Operator, ProviderName, SessionId, Status, UserId};
use providers::conformance::{Bench, Law, run};
use providers::echo::Echo;
use providers::{
    AgentEvent, AgentProvider, EventStream, News, OperatorMessage, Position, Profile, ProviderError, SpawnRequest,
};

const DEADLINE: Duration = Duration::from_secs(20);

fn name() -> ProviderName {
    ProviderName::new("echo").unwrap()
}

fn profile(words: &[&str]) -> Profile {
    let command: Vec<&str> = ["echo"].iter().chain(words).copied().collect();
    serde_json::from_value(serde_json::json!({"name": "echo", "provider": "echo", "command": command})).unwrap()
}

fn bench(provider: Echo, talker: &[&str]) -> Bench {
    let provider: Arc<dyn AgentProvider> = Arc::new(provider);
    Bench {
        provider,
        talker: profile(talker),
        flood: (profile(&["flood 3000"]), 3000),
        reopen: None,
        deadline: DEADLINE,
    }
}

async fn start(echo: &Echo, words: &[&str]) -> SessionId {
    let session_id = SessionId::new(ulid::Ulid::new().to_string()).unwrap();
    let request = SpawnRequest {
        session_id: session_id.clone(),
        profile: profile(words),
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    };
    echo.spawn(request).await.unwrap();
    session_id
}

async fn next(events: &mut EventStream) -> AgentEvent {
    tokio::time::timeout(DEADLINE, events.recv()).await.expect("an event in time").expect("an event")
}

#[tokio::test]
async fn echo_conforms() {
    let report = run(&bench(Echo::new(name()), &[])).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert_eq!(report.not_applicable.len(), 1, "{report}");
}

#[tokio::test]
async fn echo_in_a_folder_conforms_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let first = Echo::open(name(), &path).unwrap();
    let old = first.clone();
    let reopen = Box::new(move || {
        let (old, path) = (old.clone(), path.clone());
        let open = async move {
            old.shutdown().await;
            Arc::new(Echo::open(name(), &path).unwrap()) as Arc<dyn AgentProvider>
        };
        Box::pin(open) as futures::future::BoxFuture<'static, _>
    });
    let report = run(&Bench { reopen: Some(reopen), ..bench(first, &[]) }).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.not_applicable.is_empty(), "{report}");
}

#[tokio::test]
async fn what_a_profile_takes_away_is_refused() {
    let report = run(&bench(Echo::new(name()), &["cannot=pause,resume,inject,terminal,input,resize"])).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.passed.contains(&"what_cannot_be_done_is_refused"), "{report}");
}

/// The suite finds what it is there to find: a provider that answers too late, and one that pretends.
#[tokio::test]
async fn the_suite_finds_a_slow_provider() {
    let slow = Bench { deadline: Duration::from_millis(50), ..bench(Echo::new(name()), &["delay-ms=200"]) };
    let report = run(&slow).await;
    assert!(report.breaches.iter().any(|breach| breach.law == Law::Deadlines), "{report}");
}

#[tokio::test]
async fn an_agent_nobody_listens_to_waits() {
    let echo = Echo::new(name());
    let id = start(&echo, &["flood 50000"]).await;
    let mut events = echo.subscribe(&id, Position::default()).await.unwrap();
    // It fills its own store and stops there, far from the end; what is acknowledged makes room.
    let mut last = Position::default();
    let mut said = 0;
    while said < 50_000 {
        let event = next(&mut events).await;
        last = event.position.max(last);
        said += u64::from(matches!(event.news, News::Message(_)));
        if said.is_multiple_of(1_000) {
            let stored = echo.recent_messages(&id, usize::MAX).await.unwrap().len();
            assert!(stored <= 8_192, "{stored}");
            echo.acknowledge(&id, last).await;
        }
    }
}

#[tokio::test]
async fn lines_do_what_they_say() {
    let echo = Echo::new(name());
    let id = start(&echo, &["spell a b", "wait well?", "child kid", "print hi", "fact n 3", "exit 3"]).await;
    let mut events = echo.subscribe(&id, Position::default()).await.unwrap();
    let mut all = vec![];
    while let Ok(Some(event)) = tokio::time::timeout(DEADLINE, events.recv()).await {
        all.push(event.news);
    }
    let count = |what: fn(&News) -> bool| all.iter().filter(|news| what(news)).count();
    assert_eq!(count(|n| matches!(n, News::Delta(delta) if delta.content == "a")), 1);
    assert_eq!(count(|n| matches!(n, News::Attention(Some(a)) if a.text == "well?")), 1);
    assert_eq!(count(|n| matches!(n, News::Terminal(piece) if piece.data == "hi" && piece.size.is_some())), 1);
    assert_eq!(count(|n| matches!(n, News::Facts(facts) if facts["n"] == 3)), 1);
    let Some(News::Ended(end)) = all.last() else { panic!("{all:?}") };
    assert_eq!((&end.status, end.exit_code), (&Status::Failed, Some(3)));
    let Some(News::Child(child)) = all.iter().find(|n| matches!(n, News::Child(_))) else { panic!("{all:?}") };
    let info = echo.session(&child.session_id).await.unwrap();
    assert_eq!((info.parent_session_id, info.title.as_deref()), (Some(id), Some("kid")));
}

#[tokio::test]
async fn a_session_that_appears_is_told() {
    let echo = Echo::new(name());
    let mut watch = echo.watch();
    let id = echo.appear(&profile(&[])).await.unwrap();
    assert_eq!(watch.recv().await.unwrap().session_id, id);
}

#[tokio::test]
async fn a_flood_goes_on_where_it_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let echo = Echo::open(name(), folder.path()).unwrap();
    let id = start(&echo, &["flood 2000"]).await;
    let mut events = echo.subscribe(&id, Position::default()).await.unwrap();
    for _ in 0..100 {
        next(&mut events).await;
    }
    echo.shutdown().await;
    // A line that was cut in the middle never happened.
    let journal = folder.path().join(format!("{id}.jsonl"));
    let length = std::fs::metadata(&journal).unwrap().len();
    std::fs::File::options().write(true).open(&journal).unwrap().set_len(length - 7).unwrap();
    let echo = Echo::open(name(), folder.path()).unwrap();
    let mut events = echo.subscribe(&id, Position::default()).await.unwrap();
    let mut said = vec![];
    while said.len() < 2000 {
        if let News::Message(draft) = next(&mut events).await.news {
            said.push(draft.content.parse::<u32>().unwrap());
        }
    }
    assert_eq!(said, (1..=2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_profile_that_is_not_ours_is_refused() {
    let echo = Echo::new(name());
    for words in [vec!["delay-ms=soon"], vec!["pace-ms=-1"]] {
        assert!(matches!(echo.appear(&profile(&words)).await, Err(ProviderError::Invalid(_))), "{words:?}");
    }
    let other = Profile { command: vec!["bash".into()], ..profile(&[]) };
    assert!(matches!(echo.appear(&other).await, Err(ProviderError::Invalid(_))));
}

#[tokio::test]
async fn a_line_for_an_agent_that_ended_is_refused() {
    let echo = Echo::new(name());
    let id = start(&echo, &["exit 0"]).await;
    let mut events = echo.subscribe(&id, Position::default()).await.unwrap();
    while events.recv().await.is_some() {}
    let message = OperatorMessage {
        message_id: bus_schema::MessageId::new("m1").unwrap(),
        operator: Operator { id: UserId::new("u1").unwrap(), name: "Ada".into() },
        content: "hello?".into(),
        mode: Default::default(),
    };
    assert!(matches!(echo.inject(&id, message).await, Err(ProviderError::WrongState { .. })));
}
