//! The runtimes of this program keep the laws of the trait, with this program as the holder of their sessions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use providers::conformance::{Bench, run};
use providers::pty::{PtyConfig, PtyProvider};
use providers::{AgentProvider, Profile, Protocol};

fn profile(name: &str, command: &[&str]) -> Profile {
    let profile = serde_json::json!({"name": name, "command": command, "protocol": "lines"});
    serde_json::from_value(profile).unwrap()
}

async fn open(config: PtyConfig) -> Arc<PtyProvider> {
    PtyProvider::start(config).await.unwrap()
}

fn program() -> std::ffi::OsString {
    env!("CARGO_BIN_EXE_mosaic-node").into()
}

async fn conforms(config: PtyConfig, talker: Profile, flood: (Profile, usize)) {
    let first = open(config.clone()).await;
    let old = first.clone();
    let reopen = Box::new(move || {
        let (old, config) = (old.clone(), config.clone());
        let again = async move {
            old.shutdown().await;
            open(config).await as Arc<dyn AgentProvider>
        };
        Box::pin(again) as futures::future::BoxFuture<'static, _>
    });
    let bench = Bench { provider: first, talker, flood, reopen: Some(reopen), deadline: Duration::from_secs(30) };
    let report = run(&bench).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.not_applicable.is_empty(), "{report}");
}

#[tokio::test]
async fn terminal_sessions_conform() {
    let folder = tempfile::tempdir().unwrap();
    let talker = profile("talker", &["bash", "-c", "stty -echo; while read -r line; do echo \"$line\"; done"]);
    let flood = profile("flood", &["bash", "-c", "seq 1 5000; exec cat"]);
    conforms(PtyConfig::new(folder.path(), [program()]), talker, (flood, 5_000)).await;
}

#[tokio::test]
async fn sessions_that_speak_acp_conform() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers/tests/fixtures/acp_agent.py");
    let acp = |flags: &[&str]| {
        let command = ["python3", agent.to_str().unwrap()].into_iter().chain(flags.iter().copied());
        Profile { provider: "acp".into(), protocol: Protocol::Acp, ..Profile::new("acp", command) }
    };
    let flood = (acp(&["--flood", "5000"]), 5_000);
    conforms(PtyConfig::acp(folder.path(), [program()]), acp(&[]), flood).await;
}
