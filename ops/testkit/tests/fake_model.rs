//! The scripted model server says what the test told it to say, in every API.

use serde_json::json;
use testkit::{FakeModel, http_get, http_post};

#[test]
fn every_api_streams_what_the_directives_say() {
    let model = FakeModel::start().unwrap();
    let text = "THINK: so ;; SAY: all is well";
    let cases = [
        ("/v1/responses", json!({"input": text, "stream": true, "tools": []}), "response.completed"),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": text}], "stream": true}), "[DONE]"),
        ("/v1/messages", json!({"messages": [{"role": "user", "content": text}], "stream": true}), "message_stop"),
        ("/v1beta/models/m:streamGenerateContent", json!({"contents": [{"parts": [{"text": text}]}]}), "STOP"),
    ];
    for (path, body, end) in cases {
        let reply = http_post(&format!("{}{path}", model.url()), &body).unwrap();
        assert_eq!(reply.status, 200, "{path}");
        for part in ["all is well", "so", end] {
            assert!(reply.body.contains(part), "{path}: {part} in {}", reply.body);
        }
    }
    assert_eq!(model.requests().unwrap().len(), 4);
    let models = http_get(&format!("{}/v1/models", model.url())).unwrap().json();
    assert_eq!(models["data"][0]["id"], "fake-model");
}

#[test]
fn a_tool_is_called_and_its_result_taken_up() {
    let model = FakeModel::start().unwrap();
    let ask = |messages| {
        let shell = json!({"name": "Bash", "input_schema": {"properties": {"command": {"type": "string"}}}});
        let body = json!({"messages": messages, "tools": [shell]});
        http_post(&format!("{}/v1/messages", model.url()), &body).unwrap().json()
    };
    let user = json!({"role": "user", "content": "RUN: ls -1 ;; SAY: saw {out}"});
    let first = ask(json!([user]));
    assert_eq!(
        (first["stop_reason"].as_str(), first["content"][0]["input"]["command"].as_str()),
        (Some("tool_use"), Some("ls -1"))
    );
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "name": "Bash"}]});
    let result = json!({"role": "user", "content": [{"type": "tool_result", "content": "a.txt"}]});
    assert_eq!(ask(json!([user, call, result]))["content"][0]["text"], "saw a.txt");
}

#[test]
fn a_script_goes_before_directives_and_failures_are_scripted_too() {
    let model = FakeModel::start().unwrap();
    model.script(&json!({"rules": [{"if": "deploy", "steps": [{"fail": [429, "later"]}]}]})).unwrap();
    let ask = |text: &str| {
        let body = json!({"messages": [{"role": "user", "content": text}], "tools": [{"name": "x"}]});
        http_post(&format!("{}/v1/messages", model.url()), &body).unwrap()
    };
    assert_eq!(ask("please deploy").status, 429);
    assert!(ask("hello").body.contains("ECHO: hello"));
}
