//! Codex over ACP, as an operator has it through the real hub: it asks for leave, is answered and goes on, and when it
//! was killed, its conversation goes on in another session.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{FakeModel, Person, Stack, agent_cli, codex_home, wait_until};

const WITHIN: Duration = Duration::from_secs(150);

async fn session_until(person: &Person, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, WITHIN, async || {
        let session = person.session(id).await.map_err(|e| e.to_string())?;
        if is_it(&session) { Ok(session) } else { Err(session.to_string()) }
    })
    .await
    .unwrap()
}

async fn says(person: &Person, id: &str, text: &str) -> Vec<Value> {
    wait_until(text, WITHIN, async || {
        let messages = person.messages(id, 0).await.map_err(|e| e.to_string())?;
        let is_it = |m: &Value| m["role"] == "agent" && m["kind"] == "text" && m["content"] == text;
        if messages.iter().any(is_it) { Ok(messages) } else { Err(format!("{messages:?}")) }
    })
    .await
    .unwrap()
}

async fn say(person: &Person, id: &str, content: &str) {
    let path = format!("/api/mission-control/sessions/{id}/inject");
    let (status, answer) = person.post(&path, json!({"content": content})).await.unwrap();
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test]
async fn cli_codex_acp_asks_an_operator_and_goes_on_even_after_its_death() {
    let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
    let home = tempfile::tempdir().unwrap();
    let set_up = codex_home(home.path(), &model.url(), "on-request", "workspace-write").unwrap();
    let profile = format!(
        "[[profile]]\nname = \"codex-acp\"\nprovider = \"acp\"\nprotocol = \"acp\"\ncwd = {:?}\ncommand = [{:?}]\nenv = {}\n",
        set_up.work,
        agent_cli("codex-acp").unwrap(),
        // It asks people, not a model.
        set_up.env_toml().replacen('{', "{ INITIAL_AGENT_MODE = \"read-only\",", 1),
    );
    let stack = Stack::start(&profile, &[], &[]).unwrap();
    let operator = stack.person("operator").await.unwrap();
    let node = stack.said("/node").unwrap();
    let id = operator.spawn(node, "codex-acp").await.unwrap();
    session_until(&operator, &id, "it waits", |s| s["status"] == "waiting").await;
    let wish = json!({"cmd": "touch made", "sandbox_permissions": "require_escalated", "justification": "to make it"});
    say(&operator, &id, &format!("TOOL: exec_command {wish} ;; SAY: made it")).await;
    let asks = |s: &Value| s["attention"]["request"].is_object();
    let session = session_until(&operator, &id, "it asks for leave", asks).await;
    let request = &session["attention"]["request"];
    let labels: Vec<_> = request["options"].as_array().unwrap().iter().map(|o| o["label"].as_str().unwrap()).collect();
    assert_eq!((labels[0], labels[2]), ("Yes, proceed", "No, and tell Codex what to do differently"));
    let path = format!("/api/mission-control/sessions/{id}/answer");
    let body = json!({"requestId": request["requestId"], "optionId": request["options"][0]["optionId"]});
    let (status, answer) = operator.post(&path, body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    says(&operator, &id, "made it").await;
    assert!(set_up.work.join("made").exists());

    let body = json!({"node": node, "profile": "codex-acp", "resumeSessionId": id});
    let (status, answer) = operator.post("/api/mission-control/sessions", body.clone()).await.unwrap();
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("wrongState")), "it lives: {answer}");
    let (status, answer) = operator.act(&id, "kill").await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let next = operator.spawn_with(body).await.unwrap();
    let session = session_until(&operator, &next, "it waits", |s| s["status"] == "waiting").await;
    assert_eq!(session["metadata"]["resumes"], id.as_str());
    say(&operator, &next, "SAY: and on").await;
    let messages = says(&operator, &next, "and on").await;
    assert!(!messages.iter().any(|m| m["content"] == "made it"), "it was said in the other session: {messages:?}");
    let asked = model.requests().unwrap();
    let is_whole = |asked: &Value| {
        let last = asked["last"].to_string();
        last.contains("made it") && last.contains("SAY: and on")
    };
    assert!(asked.iter().any(is_whole), "the model has all of it: {asked:?}");
    let (status, answer) = operator.act(&next, "terminate").await.unwrap();
    assert_eq!(status, 200, "{answer}");
    session_until(&operator, &next, "it is over", |s| s["status"] == "killed").await;
}
