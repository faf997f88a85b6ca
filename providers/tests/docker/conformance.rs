//! Sessions in containers keep the laws that every provider keeps.

use std::sync::Arc;

use providers::conformance::{Bench, Reopen, run};
use providers::{AgentProvider, DockerProvider, Protocol};
use tokio::sync::Mutex;

use crate::harness::{PATIENCE, Stage, profile};

async fn conforms(protocol: Protocol) {
    let stage = Stage::new().await;
    let current = Arc::new(Mutex::new(Arc::clone(&stage.provider)));
    let config = stage.config.clone();
    let reopen: Reopen = Box::new(move || {
        let (config, current) = (config.clone(), Arc::clone(&current));
        Box::pin(async move {
            let mut current = current.lock().await;
            current.shutdown().await;
            *current = DockerProvider::start(config).await.unwrap();
            let provider: Arc<dyn AgentProvider> = Arc::clone(&*current) as _;
            provider
        })
    });
    let provider: Arc<dyn AgentProvider> = stage.provider.clone();
    let bench = Bench {
        provider,
        talker: profile(protocol, "while IFS= read -r line; do echo \"heard $line\"; done"),
        flood: (profile(protocol, "seq 1 3000; read x"), 3000),
        reopen: Some(reopen),
        deadline: PATIENCE,
    };
    let report = run(&bench).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.not_applicable.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_passes_the_conformance_suite() {
    conforms(Protocol::Lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_passes_the_conformance_suite_with_json_lines() {
    conforms(Protocol::Jsonl).await;
}
