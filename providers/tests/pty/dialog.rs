//! A request for leave that stands on the screen, and is answered with a key.

use std::time::Duration;

use bus_schema::{Answer, AttentionKind};
use providers::{AgentEvent, AgentProvider, News, Protocol};

use crate::harness::{Stage, ada, script, wait_until};

/// Asks as Codex does; begins to draw the same again when there is a file `begin`, is done with it when there is a file
/// `end`, and writes the key that it gets into a file.
const ASKS: &str = r"
    stty raw -echo
    printf '\033]7501;state=blocked\007Would you like to run the following command?\r\n\r\n$ ls\r\n\r\n'
    printf '1. Yes, proceed (y)\r\n2. No (esc)\r\n\r\nPress enter to confirm or esc to cancel'
    until [ -e begin ]; do sleep 0.05; done
    printf '\033[?2026h\033[H\033[2KWould'
    until [ -e end ]; do sleep 0.05; done
    printf ' you like to run the following command?\033[?2026l'
    dd bs=1 count=1 of=key 2>&-
    printf '\033]7501;state=working\007'
    sleep 1000";

#[tokio::test]
async fn an_answer_that_comes_while_the_dialog_is_drawn_again_waits_for_the_whole_screen() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let mut asks = script(Protocol::Terminal, ASKS);
    (asks.cwd, asks.agent_type) = (Some(folder.path().into()), Some("codex".into()));
    let mut session = stage.spawn(asks).await;
    let wanted = |event: &AgentEvent| match &event.news {
        News::Attention(Some(needed)) if needed.kind == AttentionKind::Permission => needed.request.clone(),
        _ => None,
    };
    let request = session.until("it asks", wanted).await;

    std::fs::write(file("begin"), "").unwrap();
    session.shows("\x1b[?2026h").await;
    let answer: Answer = serde_json::from_value(serde_json::json!({"optionId": "y"})).unwrap();
    let by = ada();
    let answered = session.provider.answer(&session.id, &request.request_id, &answer, &by);
    let drawn = async {
        // Long enough for the answer to arrive within the frame; where it does not, nothing is shown either way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!file("key").exists());
        std::fs::write(file("end"), "").unwrap();
    };
    let (answered, ()) = tokio::join!(answered, drawn);
    answered.unwrap();
    wait_until("the key is there", async || {
        let key = std::fs::read_to_string(file("key")).map_err(|error| error.to_string())?;
        if key == "y" { Ok(()) } else { Err(key) }
    })
    .await;
}
