//! Terminal sessions keep the laws that every provider keeps.

use std::sync::Arc;

use providers::conformance::{Bench, Reopen, run};
use providers::pty::PtyProvider;
use providers::{AgentProvider, Profile, Protocol};

use crate::harness::{PATIENCE, Stage, script};

async fn conforms(stage: Stage, talker: Profile, flood: Profile) {
    let config = stage.config.clone();
    let reopen: Reopen = Box::new(move || {
        let config = config.clone();
        Box::pin(async move {
            let provider: Arc<dyn AgentProvider> = PtyProvider::start(config).await.unwrap();
            provider
        })
    });
    let provider: Arc<dyn AgentProvider> = stage.provider.clone();
    let bench = Bench { provider, talker, flood: (flood, 3000), reopen: Some(reopen), deadline: PATIENCE };
    let report = run(&bench).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.not_applicable.is_empty(), "{report}");
}

fn talker(protocol: Protocol) -> Profile {
    script(protocol, "while IFS= read -r line; do echo \"heard $line\"; done")
}

fn flood(protocol: Protocol) -> Profile {
    script(protocol, "seq 1 3000; read x")
}

#[tokio::test]
async fn sessions_of_lines_conform() {
    conforms(Stage::new().await, talker(Protocol::Lines), flood(Protocol::Lines)).await;
}

#[tokio::test]
async fn sessions_of_json_lines_conform_in_a_process_tree() {
    conforms(Stage::tree().await, talker(Protocol::Jsonl), flood(Protocol::Jsonl)).await;
}
