//! The runtimes of this program keep the laws of the trait, with this program as the holder of terminal sessions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use providers::conformance::{Bench, run};
use providers::pty::{PtyConfig, PtyProvider};
use providers::{AgentProvider, Profile};

fn profile(name: &str, command: &[&str]) -> Profile {
    let profile = serde_json::json!({"name": name, "command": command, "protocol": "lines"});
    serde_json::from_value(profile).unwrap()
}

async fn open(dir: &Path) -> Arc<PtyProvider> {
    PtyProvider::start(PtyConfig::new(dir, [env!("CARGO_BIN_EXE_mosaic-node").into()])).await.unwrap()
}

#[tokio::test]
async fn terminal_sessions_conform() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_owned();
    let first = open(&dir).await;
    let old = first.clone();
    let reopen = Box::new(move || {
        let (old, dir) = (old.clone(), dir.clone());
        let again = async move {
            old.shutdown().await;
            open(&dir).await as Arc<dyn AgentProvider>
        };
        Box::pin(again) as futures::future::BoxFuture<'static, _>
    });
    let bench = Bench {
        provider: first,
        talker: profile("talker", &["bash", "-c", "stty -echo; while read -r line; do echo \"$line\"; done"]),
        flood: (profile("flood", &["bash", "-c", "seq 1 5000; exec cat"]), 5_000),
        reopen: Some(reopen),
        deadline: Duration::from_secs(30),
    };
    let report = run(&bench).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.not_applicable.is_empty(), "{report}");
}
