//! A gateway that the node starts itself sits in a cgroup, and nothing of it outlives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus_schema::{InjectMode, SessionId, Status};
use providers::{AgentProvider, News, OpenClawProvider, Profile, Protocol, PtyConfig, PtyProvider, SpawnRequest};
use serde_json::json;
use testkit::{OPENCLAW_VERSION, OpenClaw, wait_until};

use crate::harness::{PATIENCE, Stage, ada, connection, new_id, open_with, script};

/// The binary with the helper modes, built with the tests.
fn host_program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("examples/pty_host");
    assert!(path.exists(), "{} is missing; build it: cargo build -p providers --examples", path.display());
    path
}

/// A node agent: what holds gateways, and what is connected to them.
async fn node(dir: &Path, url: &str, token: &str) -> (Arc<PtyProvider>, Arc<OpenClawProvider>) {
    let config = PtyConfig::gateways(dir.join("openclaw/gateways"), [host_program().into()]);
    let holder = PtyProvider::start(config).await.unwrap();
    let claw = connection("claw", url, token).into();
    (holder.clone(), open_with(dir.join("openclaw"), vec![claw], Some(holder)).await)
}

fn start_of(profile: Profile) -> SpawnRequest {
    SpawnRequest {
        session_id: new_id(),
        profile,
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    }
}

async fn status_of(provider: &OpenClawProvider, id: &SessionId) -> Status {
    provider.session(id).await.unwrap().status
}

/// What holds a gateway asks nothing of it, so this one is none: it leaves a process behind that has fled.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_started_as_a_gateway_is_held_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("ws://127.0.0.1:{}/", testkit::free_port().unwrap());
    let (holder, provider) = node(dir.path(), &url, "").await;
    let mark = format!("HELD_TEST_MARK={}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let profile = Profile {
        provider: "openclaw".into(),
        protocol: Protocol::Lines,
        gateway: Some("claw".into()),
        env: [(name.to_owned(), value.to_owned())].into(),
        ..Profile::new("office", ["bash", "-c", "setsid -f sleep 1234; echo $OPENCLAW_NO_RESPAWN there; sleep 1234"])
    };
    let unknown = Profile { gateway: Some("nowhere".into()), ..profile.clone() };
    let refused = provider.spawn(start_of(unknown)).await.unwrap_err();
    assert!(refused.to_string().contains("no gateway \"nowhere\" is set up"), "{refused}");

    let start = start_of(profile.clone());
    let id = start.session_id.clone();
    let host = provider.spawn(start.clone()).await.unwrap();
    assert_eq!((host.agent_type.as_deref(), &host.metadata["gatewayOf"]), (Some("openclaw-gateway"), &json!("claw")));
    assert_eq!(provider.spawn(start).await.unwrap().session_id, id, "a repeated start is the same session");
    let again = provider.spawn(start_of(profile.clone())).await.unwrap_err();
    assert!(again.to_string().contains("runs already"), "{again}");
    let said = async || {
        let all = provider.recent_messages(&id, 10).await.unwrap();
        if all.iter().any(|message| message.content == "1 there") { Ok(()) } else { Err(all) }
    };
    wait_until("its log is told", PATIENCE, said).await.unwrap();
    let all = testkit::proc::with_env(&mark);
    assert!(all.iter().filter(|process| process.comm == "sleep").count() == 2, "{all:?}");

    // Another node agent: it is still there, and known for what it is.
    provider.shutdown().await;
    holder.shutdown().await;
    let (holder, provider) = node(dir.path(), &url, "").await;
    let found = provider.sessions().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0].status, &found[0].metadata["gatewayOf"]), (&Status::Running, &json!("claw")));
    assert_eq!(found[0].metadata["containment"], json!("cgroup"));
    assert_eq!(testkit::proc::with_env(&mark).len(), all.len());

    let report = provider.kill(&id, &ada()).await.unwrap();
    assert_eq!((report.containment.as_str(), report.survivors.len()), ("cgroup", 0), "{report:?}");
    assert_eq!(testkit::proc::with_env(&mark), [], "something outlived its gateway");
    assert_eq!(status_of(&provider, &id).await, Status::Killed);
    provider.forget(&id).await.unwrap();
    assert!(provider.session(&id).await.is_err());

    // Asked to end, it ends whole as well; the one before is no hindrance.
    let start = start_of(profile);
    let id = start.session_id.clone();
    provider.spawn(start).await.unwrap();
    provider.terminate(&id, &ada()).await.unwrap();
    let gone = async || match status_of(&provider, &id).await {
        Status::Killed => Ok(()),
        status => Err(status),
    };
    wait_until("it has ended", PATIENCE, gone).await.unwrap();
    assert_eq!(testkit::proc::with_env(&mark), [], "something outlived its gateway");
    provider.forget(&id).await.unwrap();
    provider.shutdown().await;
    holder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_gateway_of_the_node_itself_leaves_nothing_behind() {
    let prepared = tokio::task::spawn_blocking(|| OpenClaw::prepare(OPENCLAW_VERSION, &json!({})));
    let gateway = prepared.await.unwrap().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut holder, provider) = node(dir.path(), &gateway.url(), gateway.token()).await;
    let mut stage = Stage { gateway, dir, provider, soft_pause: false };

    let (command, env) = stage.gateway.recipe().unwrap();
    let profile = Profile {
        provider: "openclaw".into(),
        protocol: Protocol::Lines,
        gateway: Some("claw".into()),
        cwd: Some(stage.gateway.workspace()),
        env,
        ..Profile::new("office", command)
    };
    let start = start_of(profile);
    let host = stage.provider.spawn(start.clone()).await.unwrap();
    assert_eq!((host.agent_type.as_deref(), &host.metadata["gatewayOf"]), (Some("openclaw-gateway"), &json!("claw")));
    let again = SpawnRequest { session_id: new_id(), ..start.clone() };
    assert!(stage.provider.spawn(again).await.unwrap_err().to_string().contains("runs already"));
    stage.healthy().await;
    let metadata = stage.provider.session(&host.session_id).await.unwrap().metadata;
    assert_eq!(metadata["containment"], json!("cgroup"), "{metadata:?}");

    // A session at it does a turn, and leaves something in the background that has fled from its group.
    let mut session = stage.spawn().await;
    let fled = "setsid -f sleep 1234";
    let steps = json!([
        {"tool": "exec", "args": {"command": fled}},
        {"text": "w", "chunks": 400, "delay_ms": 250},
    ]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;
    let sleeping = |gateway: &OpenClaw| {
        let all = gateway.processes();
        all.into_iter().filter(|process| process.comm == "sleep").map(|process| process.pid).collect::<Vec<_>>()
    };
    let left = wait_until("the agent left a process", PATIENCE, async || match sleeping(&stage.gateway)[..] {
        [pid] => Ok(pid),
        _ => Err(stage.gateway.processes().len()),
    });
    let left = left.await.unwrap();

    // The node agent is replaced: the gateway goes on, and so does the turn.
    stage.provider.shutdown().await;
    holder.shutdown().await;
    (holder, stage.provider) = node(stage.dir.path(), &stage.gateway.url(), stage.gateway.token()).await;
    stage.healthy().await;
    assert_eq!(stage.provider.session(&host.session_id).await.unwrap().status, Status::Running);
    assert_eq!(stage.provider.session(&session.id).await.unwrap().status, Status::Running);
    assert_eq!(sleeping(&stage.gateway), [left]);

    let report = stage.provider.kill(&host.session_id, &ada()).await.unwrap();
    assert_eq!((report.containment.as_str(), report.survivors.len()), ("cgroup", 0), "{report:?}");
    assert_eq!(stage.gateway.processes().len(), 0, "something outlived its gateway");
    assert_eq!(stage.provider.session(&host.session_id).await.unwrap().status, Status::Killed);
    // What ran at it runs no more, and that is told: of this gateway we know that it has ended.
    let settled = wait_until("its session is idle", PATIENCE, async || {
        let info = stage.provider.session(&session.id).await.unwrap();
        if info.status == Status::Waiting { Ok(info) } else { Err(info.status) }
    });
    let settled = settled.await.unwrap();
    assert!(settled.status_reason.unwrap().contains("its gateway was ended on this node"));

    // Started anew over the same state, it takes the turn up by itself. Asked to end, it ends whole as well.
    let host = stage.provider.spawn(SpawnRequest { session_id: new_id(), ..start }).await.unwrap();
    stage.healthy().await;
    let mut session = stage.watch(&session.id, Default::default()).await;
    session.inject("last words", InjectMode::Interrupt).await;
    session.said("last words").await;
    stage.provider.terminate(&host.session_id, &ada()).await.unwrap();
    let gone = async || {
        let status = stage.provider.session(&host.session_id).await.unwrap().status;
        if status == Status::Killed { Ok(()) } else { Err(status) }
    };
    wait_until("the gateway has ended", PATIENCE, gone).await.unwrap();
    assert_eq!(stage.gateway.processes().len(), 0, "something outlived its gateway");
    stage.provider.forget(&host.session_id).await.unwrap();
    stage.provider.shutdown().await;
    holder.shutdown().await;
}
