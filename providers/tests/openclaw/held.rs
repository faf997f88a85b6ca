//! A gateway that the node starts itself sits in a cgroup, and nothing of it outlives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus_schema::{InjectMode, Status};
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
async fn node(dir: &Path, gateway: &OpenClaw) -> (Arc<PtyProvider>, Arc<OpenClawProvider>) {
    let config = PtyConfig::gateways(dir.join("openclaw/gateways"), [host_program().into()]);
    let holder = PtyProvider::start(config).await.unwrap();
    let claw = connection("claw", &gateway.url(), gateway.token()).into();
    (holder.clone(), open_with(dir.join("openclaw"), vec![claw], Some(holder)).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_gateway_of_the_node_itself_leaves_nothing_behind() {
    let prepared = tokio::task::spawn_blocking(|| OpenClaw::prepare(OPENCLAW_VERSION, &json!({})));
    let gateway = prepared.await.unwrap().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut holder, provider) = node(dir.path(), &gateway).await;
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
    let start = SpawnRequest {
        session_id: new_id(),
        profile,
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    };
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
    (holder, stage.provider) = node(stage.dir.path(), &stage.gateway).await;
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
