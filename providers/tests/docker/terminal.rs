//! Terminals of containers: what is shown, typed and resized, beside the lines.

use bus_schema::{Capability, Status, TerminalSize};
use providers::{AgentProvider, News, Protocol, ProviderError, TerminalPiece};
use serde_json::json;

use crate::harness::{Session, Stage, ada, profile, wait_until, with_input};

/// Asks without a newline, then says how large its terminal is for every line, and paints a screen at `q`.
const ASKS: &str = "printf 'name? '; read -r name; echo \"hello $name\"; \
                    while read -r line && [ \"$line\" != q ]; do busybox stty size; done; \
                    printf '\\033[2J\\033[1;1Hpainted'; read -r line";

fn shown(session: &Session) -> Vec<TerminalPiece> {
    let piece = |event: &providers::AgentEvent| match &event.news {
        News::Terminal(piece) => Some(piece.clone()),
        _ => None,
    };
    session.seen.iter().filter_map(piece).collect()
}

fn output(session: &Session) -> String {
    shown(session).iter().map(|piece| String::from_utf8_lossy(&piece.data).into_owned()).collect()
}

async fn shows(session: &mut Session, text: &str) {
    while !output(session).contains(text) {
        assert!(session.next().await.is_some(), "ended before it showed {text:?}: {:?}", output(session));
    }
}

async fn keys(session: &Session, keys: &str) {
    session.provider.terminal_input(&session.id, keys.as_bytes(), &ada()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_terminal_is_watched_typed_into_and_resized() {
    let mut stage = Stage::new().await;
    let size = TerminalSize { cols: 60, rows: 20 };
    let profile = providers::Profile { size: Some(size), ..profile(Protocol::Terminal, ASKS) };
    let mut session = stage.spawn(profile).await;
    let info = stage.provider.session(&session.id).await.unwrap();
    for capability in [Capability::Terminal, Capability::Input, Capability::Resize] {
        assert!(info.capabilities.contains(&capability), "{:?}", info.capabilities);
    }
    // What has no newline is not in the engine's log, and is seen all the same.
    shows(&mut session, "name? ").await;
    assert_eq!(shown(&session)[0].size, Some(size));
    keys(&session, "ada\r").await;
    session.message("hello ada").await;
    shows(&mut session, "hello ada\r\n").await;
    keys(&session, "\r").await;
    session.message("20 60").await;
    stage.provider.resize(&session.id, TerminalSize { cols: 100, rows: 40 }).await.unwrap();
    keys(&session, "\r").await;
    session.message("40 100").await;
    shows(&mut session, "40 100").await;
    let nothing = stage.provider.resize(&session.id, TerminalSize { cols: 0, rows: 40 }).await;
    assert!(matches!(nothing, Err(ProviderError::Invalid(_))), "{nothing:?}");

    // Another node agent goes on, and says what it has not seen.
    let before = shown(&session);
    let from = session.seen.last().unwrap().position;
    stage.replace().await;
    let mut session = stage.session(&session.id, from).await;
    session.message("while nobody watched").await;
    keys(&session, "q\r").await;
    shows(&mut session, "painted").await;
    wait_until("the snapshot shows the screen", async || {
        let snapshot = session.provider.terminal_snapshot(&session.id).await.unwrap();
        let text = String::from_utf8_lossy(&snapshot.data).into_owned();
        let is_it = text.contains("painted") && !text.contains("hello") && snapshot.size.cols == 100;
        if is_it { Ok(()) } else { Err(text) }
    })
    .await;
    keys(&session, "\r").await;
    assert_eq!(session.end().await.status, Status::Completed);
    let mut place = 0;
    for piece in before.into_iter().chain(shown(&session)) {
        assert_eq!(piece.offset, place, "every byte once and in order");
        place += piece.data.len() as u64;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_terminal_without_input_can_be_watched_only() {
    let stage = Stage::new().await;
    let script = "printf 'waiting…'; while true; do sleep 1; done";
    let (_, mut session) = stage.launch(script, json!({}), json!({"Tty": true, "HostConfig": {"Init": true}})).await;
    let typed = stage.provider.terminal_input(&session.id, b"x", &ada()).await;
    assert!(matches!(typed, Err(ProviderError::NotCapable { capability: Capability::Input, .. })), "{typed:?}");
    stage.provider.resize(&session.id, TerminalSize { cols: 90, rows: 30 }).await.unwrap();
    stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!(session.end().await.status, Status::Killed);
    let (_, mut session) = stage.launch("echo one; sleep 600", json!({}), with_input()).await;
    session.message("one").await;
    let refused = stage.provider.terminal_snapshot(&session.id).await;
    assert!(matches!(refused, Err(ProviderError::NotCapable { capability: Capability::Terminal, .. })), "{refused:?}");
    assert!(shown(&session).is_empty());
}
