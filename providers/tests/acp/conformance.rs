//! Sessions that speak ACP keep the laws that every provider keeps.

use std::sync::Arc;

use providers::AgentProvider;
use providers::conformance::{Bench, Reopen, run};
use providers::pty::{ContainmentChoice, PtyProvider};

use crate::harness::{PATIENCE, Stage};
use crate::stage::{acp_stage, scripted};

async fn conforms(stage: Stage) {
    let config = stage.config.clone();
    let reopen: Reopen = Box::new(move || {
        let config = config.clone();
        Box::pin(async move {
            let provider: Arc<dyn AgentProvider> = PtyProvider::start(config).await.unwrap();
            provider
        })
    });
    let provider: Arc<dyn AgentProvider> = stage.provider.clone();
    let flood = (scripted(&["--flood", "3000"]), 3000);
    let bench = Bench { provider, talker: scripted(&[]), flood, reopen: Some(reopen), deadline: PATIENCE };
    let report = run(&bench).await;
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.not_applicable.is_empty(), "{report}");
}

#[tokio::test]
async fn agents_that_speak_acp_conform() {
    conforms(acp_stage().await).await;
}

#[tokio::test]
async fn agents_that_speak_acp_conform_in_a_process_tree() {
    let mut stage = acp_stage().await;
    stage.config.containment = ContainmentChoice::ProcessTree;
    stage.replace().await;
    conforms(stage).await;
}
