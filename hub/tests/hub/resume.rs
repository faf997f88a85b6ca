//! A conversation that has ended goes on in another session.

use bus_schema::*;
use serde_json::json;
use testkit::wait_until;

use crate::support::*;

fn of_conversation(node: &Node, id: &str, rev: u64, status: &str) -> Session {
    let mut session = node.session(id, rev, status);
    session.metadata.insert("conversation".into(), "c-1".into());
    session
}

#[tokio::test]
async fn only_what_has_ended_and_named_its_conversation_is_gone_on_with_and_once_at_a_time() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let operator = stack.sign_in("operator").await;
    stack.knows(&operator, &node).await;
    let begun = of_conversation(&node, S2, 1, "running");
    let _obeying = node.obey(move |command| CommandReply { session: Some(begun.clone()), ..done(command) }).await;
    let stands = async |session: Session| {
        node.send_session(&session).await;
        wait_until("the session is known", WAIT, async || {
            operator.session(session.session_id.as_str()).await.is_ok_and(|s| s["rev"] == session.rev)
        })
        .await
        .unwrap();
    };
    let resume = async |node: &str| {
        let body = json!({"node": node, "profile": "codex-acp", "resumeSessionId": S1});
        let (status, answer) = operator.post("/api/mission-control/sessions", body).await.unwrap();
        (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(resume("n1").await, (404, "notFound".into()));
    stands(of_conversation(&node, S1, 1, "waiting")).await;
    assert_eq!(resume("n1").await, (409, "wrongState".into()), "it still goes on by itself");
    stands(node.session(S1, 2, "failed")).await;
    assert_eq!(resume("n1").await, (409, "notCapable".into()), "it names no conversation");
    stands(of_conversation(&node, S1, 3, "failed")).await;
    assert_eq!(resume("n2").await, (422, "invalid".into()), "another node does not have it");
    assert_eq!(resume("n1").await.0, 201);
    let sent = node.commands.lock().unwrap().last().unwrap().clone();
    let resumed = Resumed { session_id: SessionId::new(S1).unwrap(), conversation: "c-1".into() };
    assert_eq!(sent.spawn.unwrap().resumed, Some(resumed));
    let log = operator.get("/api/mission-control/audit?action=spawn").await.unwrap();
    assert_eq!(log["entries"][0]["metadata"]["resumeSessionId"], S1, "{log}");
    stands(of_conversation(&node, S2, 2, "running")).await;
    assert_eq!(resume("n1").await, (409, "wrongState".into()), "another session goes on with it");
}
