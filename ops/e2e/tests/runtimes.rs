//! Every runtime at once, as an operator has them: a container, a session of a gateway, Codex over ACP, Claude Code in
//! a terminal, all through the real hub.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    Dockerd, FakeModel, OPENCLAW_VERSION, OpenClaw, Person, Stack, agent_cli, claude_home, codex_home, wait_until,
};

const WITHIN: Duration = Duration::from_secs(150);
const PROVIDERS: &str = "/api/agent-providers";

/// Codex over ACP, which asks nothing.
fn codex(home: &Path, model: &str) -> String {
    let program = agent_cli("codex-acp").unwrap();
    let set_up = codex_home(home, model, "never", "danger-full-access").unwrap();
    format!(
        "[[profile]]\nname = \"codex-acp\"\nprovider = \"acp\"\nprotocol = \"acp\"\ncwd = {:?}\n\
         command = [{program:?}]\nenv = {}\n",
        set_up.work,
        set_up.env_toml()
    )
}

/// Codex over ACP, which asks before what its sandbox does not allow.
fn careful_codex(home: &Path, model: &str) -> String {
    let mut set_up = codex_home(home, model, "on-request", "workspace-write").unwrap();
    // In its own mode, `agent`, a model reviews what needs leave, and nobody is asked (seen with 2.6).
    set_up.env.push(("INITIAL_AGENT_MODE".into(), "read-only".into()));
    format!(
        "[[profile]]\nname = \"careful-codex\"\nprovider = \"acp\"\nprotocol = \"acp\"\ncwd = {:?}\n\
         command = [{:?}]\nenv = {}\n",
        set_up.work,
        agent_cli("codex-acp").unwrap(),
        set_up.env_toml()
    )
}

/// Claude Code in a terminal, which asks before each command.
fn claude(home: &Path, model: &str) -> String {
    let program = agent_cli("claude").unwrap();
    let set_up = claude_home(home, model, None).unwrap();
    format!(
        "[[profile]]\nname = \"claude\"\nagent_type = \"claude\"\ncwd = {:?}\n\
         command = [{program:?}, \"--permission-mode\", \"default\"]\nenv = {}\n",
        set_up.work,
        set_up.env_toml()
    )
}

struct Fleet {
    person: Person,
    node: String,
}

impl Fleet {
    async fn session_until(&self, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, WITHIN, async || {
            let session = self.person.session(id).await.map_err(|e| e.to_string())?;
            if is_it(&session) { Ok(session) } else { Err(session.to_string()) }
        })
        .await
        .unwrap()
    }

    async fn message_until(&self, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, WITHIN, async || {
            let messages = self.person.messages(id, 0).await.map_err(|e| e.to_string())?;
            let found = messages.iter().find(|m| is_it(m)).cloned();
            found.ok_or_else(|| messages.iter().map(|m| format!("\n  {m}")).collect::<String>())
        })
        .await
        .unwrap()
    }

    /// The session of a provider, once there is one that is as wanted.
    async fn found(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, WITHIN, async || {
            let all = self.person.get("/api/mission-control/sessions?all=true").await.map_err(|e| e.to_string())?;
            let found = all["sessions"].as_array().and_then(|all| all.iter().find(|s| is_it(s)).cloned());
            found.ok_or_else(|| all.to_string())
        })
        .await
        .unwrap()
    }

    async fn say(&self, id: &str, content: &str) -> String {
        let path = format!("/api/mission-control/sessions/{id}/inject");
        let (status, answer) = self.person.post(&path, json!({"content": content})).await.unwrap();
        assert_eq!(status, 202, "{answer}");
        answer["messageId"].as_str().unwrap().to_owned()
    }

    /// Waits until a session asks for leave to do this, gives it once, and says which request it was.
    async fn give_leave(&self, id: &str, what: &str) -> Value {
        let asks = |s: &Value| s["attention"]["kind"] == "permission" && s["attention"]["request"].is_object();
        let session = self.session_until(id, "it asks for leave", asks).await;
        let attention = &session["attention"];
        assert!(attention["text"].as_str().unwrap().contains(what), "{attention}");
        let request = &attention["request"]["requestId"];
        let options = attention["request"]["options"].as_array().unwrap();
        let allow = options.iter().find(|o| o["kind"] == "allowOnce").unwrap();
        let path = format!("/api/mission-control/sessions/{id}/answer");
        let (status, answer) =
            self.person.post(&path, json!({"requestId": request, "optionId": allow["optionId"]})).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        request.clone()
    }

    async fn delivered(&self, id: &str, message: &str, state: &str) {
        self.message_until(id, &format!("the message is {state}"), |m| {
            m["messageId"] == message && m["metadata"]["delivery"] == state
        })
        .await;
    }
}

fn said(text: &'static str) -> impl Fn(&Value) -> bool {
    move |m| m["role"] == "agent" && m["content"].as_str().is_some_and(|c| c.contains(text))
}

#[tokio::test]
async fn openclaw_containers_acp_and_terminals_are_steered_from_one_place() {
    let asks = json!({"tools": {"exec": {"host": "gateway", "security": "allowlist", "ask": "on-miss"}}});
    let gateway = OpenClaw::start_with(OPENCLAW_VERSION, &asks).unwrap();
    let engine = Dockerd::start(false).unwrap();
    let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
    let [codex_home, careful_home, claude_home] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let config = format!(
        "[docker]\nsocket = {:?}\n[[profile]]\nname = \"gateway\"\nprovider = \"openclaw\"\n{}{}{}",
        engine.socket(),
        codex(codex_home.path(), &model.url()),
        careful_codex(careful_home.path(), &model.url()),
        claude(claude_home.path(), &model.url()),
    );
    let stack = Stack::start(&config, &[], &[]).unwrap();
    let fleet = Fleet { person: stack.person("admin").await.unwrap(), node: stack.said("/node").unwrap().to_owned() };

    let boxed = a_container_and_its_child_are_found(&fleet, &engine).await;
    all_of_it_in_one_page(&stack, &fleet, &gateway).await;
    the_gateway_was_set_up_from_the_page(&fleet, &gateway).await;
    containers_are_spoken_to(&fleet, &boxed).await;
    a_gateways_session_has_a_child_and_takes_a_word_as_text(&fleet, &gateway).await;
    codex_is_steered_within_its_turn(&fleet, &model).await;
    a_request_for_leave_is_answered(&fleet, claude_home.path()).await;

    // Kill-all reaches every runtime, and says of each what became of it.
    let (status, answer) =
        fleet.person.post("/api/mission-control/kill-all", json!({"confirm": "KILL ALL"})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let outcomes: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| &r["outcome"]).collect();
    assert!(outcomes.len() >= 5 && outcomes.iter().all(|o| **o == "killed"), "{answer}");
}

/// What a person sees and does: `dashboard/e2e/runtimes`.
async fn all_of_it_in_one_page(stack: &Stack, fleet: &Fleet, gateway: &OpenClaw) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboard");
    assert!(page.join("node_modules").is_dir(), "the page's packages are missing: cargo xtask test installs them");
    let runtimes = json!({"node": fleet.node, "gatewayUrl": gateway.url(), "gatewayToken": gateway.token()});
    let mut browser = tokio::process::Command::new("npx");
    browser.args(["vitest", "run", "--config", "e2e/vitest.config.ts", "--mode", "runtimes"]).current_dir(page);
    // A second try would meet what the first one left.
    browser.env("MOSAIC_BROWSER_RETRIES", "0");
    browser.env("MOSAIC_RUNTIMES", runtimes.to_string()).env("MOSAIC_URL", stack.url().unwrap()).kill_on_drop(true);
    for role in ["admin", "operator", "observer"] {
        for part in ["email", "password"] {
            let said = stack.said(&format!("/{role}/{part}")).unwrap();
            browser.env(format!("MOSAIC_{role}_{part}").to_uppercase(), said);
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(600), browser.output()).await.unwrap().unwrap();
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ended.status.success(), "{said}");
}

async fn the_gateway_was_set_up_from_the_page(fleet: &Fleet, gateway: &OpenClaw) {
    let body = |token: &str| {
        json!({"name": "office", "provider": "openclaw", "node": fleet.node, "gatewayUrl": gateway.url(),
               "credentials": token})
    };
    let path = format!("{PROVIDERS}/test");
    for (token, verdict) in [("wrong", "unauthorized"), (gateway.token(), "ok")] {
        let (status, answer) = fleet.person.post(&path, body(token)).await.unwrap();
        assert_eq!((status, &answer["verdict"]), (200, &json!(verdict)), "{answer}");
        assert!(!answer.to_string().contains(token) || token == "wrong", "{answer}");
    }
    wait_until("the node reaches the gateway", WITHIN, async || {
        let all = fleet.person.get(PROVIDERS).await.map_err(|e| e.to_string())?;
        let one = &all["agentProviders"][0];
        if one["delivery"] == "applied" && one["health"]["healthy"] == true { Ok(()) } else { Err(all.to_string()) }
    })
    .await
    .unwrap();
}

async fn a_container_and_its_child_are_found(fleet: &Fleet, engine: &Dockerd) -> String {
    let echo = "while read -r line; do echo \"heard $line\"; done";
    let labels = json!({"dev.mosaic.agent": "true", "dev.mosaic.name": "boxed", "dev.mosaic.protocol": "lines",
                        "dev.mosaic.inject": "stdin"});
    let open = json!({"OpenStdin": true, "HostConfig": {"Init": true}});
    engine.launch(echo, labels, open).unwrap();
    let parent = fleet.found("the container is a session", |s| s["title"] == "boxed").await;
    let id = parent["sessionId"].as_str().unwrap();
    assert_eq!(parent["provider"], "docker");
    let labels = json!({"dev.mosaic.agent": "true", "dev.mosaic.name": "boxed child", "dev.mosaic.protocol": "lines",
                        "dev.mosaic.parent-id": id});
    engine.launch("echo at work; sleep 1000", labels, json!({"HostConfig": {"Init": true}})).unwrap();
    let child = fleet.found("its child is one", |s| s["title"] == "boxed child").await;
    assert_eq!(child["parentSessionId"], id);
    let tree = fleet.person.get("/api/mission-control/tree").await.unwrap();
    let root = tree["roots"].as_array().unwrap().iter().find(|r| r["session"]["sessionId"] == id).unwrap();
    assert_eq!(root["children"][0]["session"]["sessionId"], child["sessionId"]);
    id.to_owned()
}

async fn containers_are_spoken_to(fleet: &Fleet, id: &str) {
    let message = fleet.say(id, "hello again").await;
    fleet.message_until(id, "it answers", said("heard hello again")).await;
    fleet.delivered(id, &message, "written").await;
    let (status, answer) = fleet.person.act(id, "pause").await.unwrap();
    assert_eq!((status, &answer["session"]["status"]), (200, &json!("paused")), "{answer}");
    let (status, answer) = fleet.person.act(id, "resume").await.unwrap();
    assert_eq!(status, 200, "{answer}");
}

async fn a_gateways_session_has_a_child_and_takes_a_word_as_text(fleet: &Fleet, gateway: &OpenClaw) {
    let id = fleet.person.spawn(&fleet.node, "gateway").await.unwrap();
    let task = format!("FAKE:{}", json!({"steps": [{"text": "child", "chunks": 100, "delay_ms": 250}]}));
    let steps = json!([
        {"spawn": task, "label": "kid"},
        {"tool": "exec", "args": {"command": "sleep 5; echo tool-done"}},
        {"text": "parent done"},
    ]);
    fleet.say(&id, &format!("FAKE:{}", json!({"steps": steps}))).await;
    let child = fleet.found("the sub-agent hangs under it", |s| s["parentSessionId"] == id.as_str()).await;
    assert_eq!((&child["provider"], &child["title"]), (&json!("openclaw"), &json!("kid")));
    fleet
        .message_until(&id, "the tool is called", |m| m["content"].as_str().is_some_and(|c| c.contains("sleep 5")))
        .await;
    fleet.give_leave(&id, "sleep 5").await;
    let message = fleet.say(&id, "stop").await;
    fleet.delivered(&id, &message, "taken").await;
    // The word was no command: the tool came to its end.
    fleet
        .message_until(&id, "the tool ends", |m| {
            m["kind"] == "toolResult" && m["content"].as_str().is_some_and(|c| c.contains("tool-done"))
        })
        .await;
    wait_until("the word reached the model", WITHIN, async || {
        let calls = gateway.model_calls().map_err(|e| e.to_string())?;
        let is_it = |call: &Value| call["lastUser"].as_str().is_some_and(|text| text.trim().ends_with("] stop"));
        if calls.iter().any(is_it) { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await
    .unwrap();
    let (status, answer) = fleet.person.act(&id, "pause").await.unwrap();
    assert_eq!(status, 409, "a gateway cannot pause, and says so: {answer}");
}

async fn codex_is_steered_within_its_turn(fleet: &Fleet, model: &FakeModel) {
    let id = fleet.person.spawn(&fleet.node, "codex-acp").await.unwrap();
    fleet.session_until(&id, "codex waits", |s| s["status"] == "waiting").await;
    fleet.say(&id, "SAY: looking ;; RUN: sleep 5 ;; SAY: that was it").await;
    fleet.message_until(&id, "its tool is called", |m| m["kind"] == "toolCall").await;
    let message = fleet.say(&id, "SAY: operator heard").await;
    fleet.delivered(&id, &message, "taken").await;
    fleet.message_until(&id, "it answers", said("operator heard")).await;
    let asked = serde_json::to_string(&model.requests().unwrap()).unwrap();
    assert!(asked.contains("SAY: operator heard"), "it reached the model");
}

async fn a_request_for_leave_is_answered(fleet: &Fleet, home: &Path) {
    let id = fleet.person.spawn(&fleet.node, "claude").await.unwrap();
    fleet.session_until(&id, "claude waits", |s| s["status"] == "waiting").await;
    fleet.say(&id, "SAY: I will ;; RUN: touch granted ;; SAY: thank you").await;
    let request = fleet.give_leave(&id, "touch granted").await;
    fleet.message_until(&id, "it goes on", said("thank you")).await;
    assert!(home.join("work/granted").exists());
    let told = fleet.message_until(&id, "who answered is told", |m| m["metadata"]["answers"] == request).await;
    assert!(told["metadata"]["operator"]["name"].is_string(), "{told}");
}
