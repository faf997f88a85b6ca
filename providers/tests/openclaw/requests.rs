//! What an agent asks is put to an operator, with its options, and the answer reaches the agent.

use bus_schema::{Answer, Attention, AttentionKind, InjectMode};
use providers::{AgentProvider, News, ProviderError};
use serde_json::json;

use crate::harness::{Stage, Watched, ada, script};

async fn asked(session: &mut Watched, kind: AttentionKind, text: &str) -> Attention {
    let find = |attention: &Attention| attention.kind == kind && attention.text.contains(text);
    session
        .until(&format!("{text:?} is asked"), |event| match &event.news {
            News::Attention(Some(attention)) if find(attention) => Some(attention.clone()),
            _ => None,
        })
        .await
}

/// Two questions of one request: one answered by an option, one in words.
pub async fn questions_are_answered_by_an_option_and_in_words(stage: &Stage) {
    let mut session = stage.spawn().await;
    let questions = json!([
        {"id": "colour", "header": "Colour", "question": "Which colour?",
            "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]},
        {"id": "size", "header": "Size", "question": "Which size?", "options": [{"label": "S"}, {"label": "L"}]},
    ]);
    let steps = json!([{"tool": "ask_user", "args": {"questions": questions}}, {"text": "thank you"}]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    let provider = &stage.provider;
    let mut first = None;
    for _ in 0..2 {
        let attention = asked(&mut session, AttentionKind::Question, "Which").await;
        let request = attention.request.unwrap();
        assert!(request.takes_text);
        let answer = if attention.text.contains("colour") {
            assert!(attention.text.contains("Blue: cold"), "{}", attention.text);
            let labels: Vec<_> = request.options.iter().map(|option| option.label.as_str()).collect();
            assert_eq!(labels, ["Red", "Blue"]);
            Answer { option_id: Some("Blue".into()), text: None }
        } else {
            Answer { option_id: None, text: Some("as large as the sea".into()) }
        };
        let wrong = Answer { option_id: Some("Green".into()), text: None };
        let wrong = provider.answer(&session.id, &request.request_id, &wrong, &ada()).await.unwrap_err();
        assert!(matches!(wrong, ProviderError::Invalid(_)), "{wrong:?}");
        provider.answer(&session.id, &request.request_id, &answer, &ada()).await.unwrap();
        first = first.or(Some((request.request_id, answer)));
    }
    let (request, answer) = first.unwrap();
    provider.answer(&session.id, &request, &answer, &ada()).await.unwrap();
    session.said("thank you").await;
    let told = session.messages();
    let result = told.iter().find(|(_, kind, _)| kind.as_str() == "toolResult").unwrap();
    assert!(result.2.contains("Blue") && result.2.contains("as large as the sea"), "{result:?}");
}

/// As a plugin asks: through the gateway, in the name of a session at work.
pub async fn a_plugin_asks_for_leave(stage: &Stage) {
    let mut session = stage.spawn().await;
    session.inject(&script(&json!([{"text": "w", "chunks": 240, "delay_ms": 250}])), InjectMode::Steer).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;
    let key = stage.provider.session(&session.id).await.unwrap().metadata["gatewayKey"].clone();
    let ask = json!({"title": "Deploy", "description": "to production?", "sessionKey": key, "twoPhase": true});
    let accepted = stage.other_client(vec![("plugin.approval.request", ask)]).await;
    assert_eq!(accepted[0]["status"], "accepted", "{accepted:?}");
    let attention = asked(&mut session, AttentionKind::Permission, "Deploy: to production?").await;
    let request = attention.request.unwrap().request_id;
    let answer = Answer { option_id: Some("deny".into()), text: None };
    stage.provider.answer(&session.id, &request, &answer, &ada()).await.unwrap();
    session.until("nobody is needed", |e| matches!(e.news, News::Attention(None)).then_some(())).await;
    let open = stage.other_client(vec![("plugin.approval.list", json!({}))]).await;
    assert_eq!(open[0], json!([]));
    stage.provider.kill(&session.id, &ada()).await.unwrap();
}
