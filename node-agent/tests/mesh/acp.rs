//! An agent that speaks ACP, on the bus: its turn and its requests, over the death of the node agent.

use std::path::Path;

use bus_schema::{Action, Answer, Command, Delivery, MessageKind, Outcome, RefusalCode, Resumed, Role, Status, Turn};

use crate::harness::{Mesh, echo};

fn profile() -> String {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers/tests/fixtures/acp_agent.py");
    format!(
        "[[profile]]\nname = \"asks\"\nprovider = \"acp\"\nprotocol = \"acp\"\ncommand = [\"python3\", {agent:?}, \"--load\"]\n"
    )
}

#[tokio::test]
async fn a_request_for_leave_outlives_the_node_agent_and_is_answered_once() {
    let mut mesh = Mesh::start(&profile()).await;
    let id = mesh.spawn("asks").await;
    mesh.wait_for_session(&id, "it waits for a prompt", |session| session.status == Status::Waiting).await;
    mesh.must(mesh.inject_of(&id, "before ;; ASK ;; after")).await;
    let asking = |session: &bus_schema::Session| session.attention.as_ref().is_some_and(|a| a.request.is_some());
    let session = mesh.wait_for_session(&id, "it asks", asking).await;
    assert_eq!((session.status, session.turn), (Status::Waiting, Some(Turn::Blocked)));
    let request = session.attention.unwrap().request.unwrap();

    mesh.kill_node();
    mesh.start_node();
    mesh.wait_for_node().await;
    let answer = |option: &str| Command {
        message_id: Some(request.request_id.clone()),
        answer: Some(Answer { option_id: Some(option.into()), text: None }),
        ..mesh.command(Action::Answer, Some(id.clone()))
    };
    let odd = mesh.ask(answer("maybe")).await.unwrap();
    assert_eq!((odd.outcome, odd.refusal.unwrap().code), (Outcome::Refused, RefusalCode::Invalid));
    mesh.must(answer("yes")).await;
    mesh.must(answer("yes")).await;
    let idle = |session: &bus_schema::Session| session.turn == Some(Turn::Idle) && session.attention.is_none();
    mesh.wait_for_session(&id, "the turn is over", idle).await;

    let messages = &mesh.stored().await[&id];
    let seqs: Vec<_> = messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=messages.len() as u64).collect::<Vec<_>>(), "no gap and none twice");
    let said = messages.iter().filter(|message| message.role == Role::Agent && message.kind == MessageKind::Text);
    let said: Vec<_> = said.map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["before", "decided yes", "after"]);
    let asked: Vec<_> = messages.iter().filter(|message| message.kind == MessageKind::Permission).collect();
    assert_eq!(asked.len(), 2, "the request and the answer: {asked:?}");
    assert_eq!(asked[0].message_id, request.request_id);
    assert_eq!(asked[1].metadata["answers"], request.request_id.as_str());
    assert_eq!(
        (&asked[1].metadata["optionId"], &asked[1].metadata["operator"]["name"]),
        (&"yes".into(), &"Ada".into())
    );
    let receipts = mesh.receipts(&id).await;
    assert_eq!(receipts.last().map(|receipt| receipt.state.clone()), Some(Delivery::Taken), "{receipts:?}");

    let killed = mesh.must(mesh.command(Action::Kill, Some(id.clone()))).await;
    assert_eq!(killed.session.unwrap().status, Status::Killed);
}

#[tokio::test]
async fn a_conversation_goes_on_in_another_session_and_is_not_told_twice() {
    let mesh = Mesh::start(&format!("{}{}", profile(), echo("talk", &[]))).await;
    let first = mesh.spawn("asks").await;
    let named = |session: &bus_schema::Session| session.metadata.contains_key("conversation");
    let session = mesh.wait_for_session(&first, "it names its conversation", named).await;
    let conversation = session.metadata["conversation"].as_str().unwrap().to_owned();
    mesh.must(mesh.command(Action::Kill, Some(first.clone()))).await;

    let resume = |profile: &str| {
        let mut command = mesh.spawn_of(profile);
        let resumed = Resumed { session_id: first.clone(), conversation: conversation.clone() };
        command.spawn.as_mut().unwrap().resumed = Some(resumed);
        command
    };
    let refusal = mesh.ask(resume("talk")).await.unwrap().refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::Invalid, "only agents of ACP can: {refusal}");
    let command = resume("asks");
    let id = command.spawn.clone().unwrap().session_id;
    mesh.must(command).await;
    let session = mesh.wait_for_session(&id, "it waits for a prompt", |s| s.status == Status::Waiting).await;
    assert_eq!(session.metadata["resumes"], first.as_str());
    mesh.must(mesh.inject_of(&id, "said now")).await;
    mesh.wait_for_session(&id, "the turn is over", |s| s.turn == Some(Turn::Idle) && s.last_seq > 3).await;
    let messages = &mesh.stored().await[&id];
    let said: Vec<_> = messages.iter().filter(|m| m.role == Role::Agent).map(|m| m.content.as_str()).collect();
    assert_eq!(said, ["said now"], "{messages:?}");
    mesh.must(mesh.command(Action::Kill, Some(id))).await;
}
