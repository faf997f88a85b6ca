//! What each target begins with: golden payloads, recordings of real agents, and examples as they stand in the pages
//! that describe each form. And what was ever found.

use std::path::{Path, PathBuf};

use bus_schema::{JoinToken, LIVE, NodeId, ROOT, Secret, WorkspaceId};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Everything that was found for a target, in the order of its names.
pub(crate) fn findings(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings").join(target);
    files(&dir, "").into_iter().map(|(_, bytes)| bytes).collect()
}

/// The files of a folder whose names end so, by name. None where there is no folder.
fn files(dir: &Path, end: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(String, Vec<u8>)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            name.ends_with(end).then(|| Some((name, std::fs::read(entry.path()).ok()?)))?
        })
        .collect();
    found.sort();
    found
}

fn golden(end: &str) -> Vec<(String, Vec<u8>)> {
    files(&root().join("bus-schema/tests/golden"), end)
}

/// Output and input of recorded agents, in portions, up to `most` bytes of each.
fn captures(most: usize) -> Vec<Vec<(bool, Vec<u8>)>> {
    let recorded = files(&root().join("providers/tests/captures"), ".cast");
    let read = |bytes: &[u8]| {
        let mut left = most;
        let lines = bytes.split(|byte| *byte == b'\n').skip(1);
        let events = lines.filter_map(|line| serde_json::from_slice::<(f64, String, String)>(line).ok());
        let events = events.map(|(_, what, data)| (what == "o", data.into_bytes()));
        events
            .take_while(|(_, data)| {
                left = left.saturating_sub(data.len());
                left > 0
            })
            .collect()
    };
    recorded.iter().map(|(_, bytes)| read(bytes)).collect()
}

fn with(prefix: &[u8], bytes: &[u8]) -> Vec<u8> {
    [prefix, bytes].concat()
}

/// `op length bytes`, as some targets take them again and again.
fn part(op: u8, bytes: &[u8]) -> Vec<u8> {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    let [low, high] = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes();
    with(&[op, low, high], bytes)
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "payload" => {
            let kinds = [
                "node", "session", "message", "delta", "terminal", "command", "reply", "receipt", "refusal", "audit",
            ];
            let number = |name: &str| kinds.iter().position(|kind| name.starts_with(&format!("{kind}.")));
            let seed = |(name, bytes): (String, Vec<u8>)| with(&[u8::try_from(number(&name).unwrap_or(10)).unwrap_or(0)], &bytes);
            golden(".msgpack").into_iter().map(seed).chain([b"\x0b1\n\x80".to_vec()]).collect()
        }
        "subject" => {
            let ids = ["default.n1.message.01JD8Z2V9Q0000000000000000", "default.hub.audit", "w.n.terminal.x", "*.>"];
            let subjects = ids.iter().map(|ids| format!("{ROOT}.{ids}"));
            subjects.chain([format!("{LIVE}.{ROOT}.default.n1.node")]).map(String::into_bytes).collect()
        }
        "command" => {
            let commands = golden("command.v1.msgpack");
            let seeds = commands.iter().flat_map(|(_, bytes)| (0..4).map(|mode| with(&[mode, 9, 0, 1], bytes)));
            seeds.chain([b"\x03\0\0\0VKEY\nc2ln\n1\n\x80".to_vec()]).collect()
        }
        "succession" => {
            texts(&["v1.VOLD.VNEW.1800000000000.1800000600000.c2lnbmF0dXJl", "v1.A.B.1.2.x,v1.B.C.3.4.y", "v1.....", ""])
        }
        "audit" => {
            let row = golden("audit.v1.json").into_iter().map(|(_, bytes)| {
                let value = serde_json::from_slice::<serde_json::Value>(&bytes).unwrap_or_default();
                value.to_string().into_bytes()
            });
            let checkpoint = r#"{"checkpoint":1,"workspace":"default","hash":"00","timestamp":"2026-11-22T20:05:00.123Z","key":"V","signature":"x"}"#;
            let mut seeds: Vec<Vec<u8>> = row.collect();
            let both = seeds.iter().flat_map(|row| [row.as_slice(), b"\n", row, b"\n", checkpoint.as_bytes()].concat());
            let both = both.collect();
            seeds.push(both);
            seeds.extend(golden("audit.v1.msgpack").into_iter().map(|(_, bytes)| bytes));
            seeds
        }
        "canonical" => {
            let mut seeds: Vec<Vec<u8>> = golden(".json").into_iter().map(|(_, bytes)| bytes).collect();
            seeds.extend(texts(&[
                r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001,-0.0,9007199254740993]}"#,
                r#"{"\u20ac":"Euro Sign","\r":"CR","\ufb33":"Hebrew","1":"One","\ud83d\ude00":"Smiley","\u0080":"C","ö":"o"}"#,
                "[true,false,null,\"\\u000f\\n\\\"\\\\\"]",
            ]));
            seeds
        }
        "join" => {
            let (Ok(workspace), Ok(node)) = (WorkspaceId::new("default"), NodeId::new("n1")) else { return vec![] };
            let token = JoinToken {
                nats: vec!["nats://127.0.0.1:4222".into()],
                workspace,
                node,
                creds: Secret::new("-----BEGIN NATS USER JWT-----".to_owned()),
                command_keys: vec!["VKEY".into()],
                ca: Some("-----BEGIN CERTIFICATE-----".into()),
            };
            let text = token.to_text().map(|text| text.expose().as_bytes().to_vec());
            text.into_iter().chain(bus_schema::encode(&token)).collect()
        }
        "outbox" => {
            let mut segment = vec![];
            let position = providers::Position { offset: 7, index: 3 };
            let kinds = node_agent::outbox::record::RecordKind::Message;
            node_agent::outbox::record::write(&mut segment, 1, kinds, position, b"body");
            node_agent::outbox::record::write(&mut segment, 2, kinds, position, b"");
            vec![segment, b"plain".to_vec()]
        }
        "sealed" => golden("settings.v1.msgpack").iter().flat_map(|(_, b)| [with(&[0], b), with(&[1], b)]).collect(),
        "node-config" => texts(&[
            "[node]\nid = \"n1\"\nworkspace = \"default\"\ndata_dir = \"/x\"\n[nats]\nurls = [\"nats://127.0.0.1:4222\"]\ncreds = \"/c\"\n[trust]\ncommand_keys = [\"V\"]\n",
            "[[profile]]\nname = \"claude\"\ntitle = \"Claude Code\"\nagent_type = \"claude\"\ncommand = [\"claude\"]\ncwd = \"/p\"\nprotocol = \"lines\"\n",
            "[[profile]]\nname = \"c\"\nprovider = \"docker\"\nimage = \"i\"\n[openclaw]\nurl = \"ws://x\"\n",
        ]),
        "terminal" => {
            let screens = captures(3_000).into_iter().map(|events| {
                let output: Vec<u8> = events.into_iter().filter(|(out, _)| *out).flat_map(|(_, data)| data).collect();
                with(&[98, 28, 6], &output)
            });
            let odd = texts(&[
                "\u{10}\u{3}\u{1}\x1b]7501;?\x1b\\\x1b[cab\x1b[6n\r\n\x1b[6n\x1b[?2026$p\x1b]11;?\x07",
                "\u{10}\u{3}\u{1}\x1b[31mred\x1b[m  \r\n1234567890123456789012\r\nc\r\nd\r\ne\r\n\u{4e2d}\u{e9}",
                "\u{10}\u{3}\u{1}\x1b[?1049h\x1b[2J\x1b[3;4Hx\x1b[?1049l\x1b[2;3r\x1b7\x1b8\x1bM\x1b[L\x1b[2P\x1b[@",
                "\u{10}\u{3}\u{1}\x1b]7501;state=blocked:app=claude-code:kind=permission:msg=YXBwcm92ZQ==\x1b\\",
            ]);
            screens.chain(odd).collect()
        }
        "interpreter" => {
            let screens = captures(4_000).into_iter().map(|events| {
                let parts = events.into_iter().flat_map(|(out, data)| if out { part(b'o', &data) } else { vec![] });
                let mut seed = vec![0];
                seed.extend(parts);
                seed.extend(part(b'q' | 0x80, &400_u32.to_le_bytes()));
                seed.extend(part(b'q', &2000_u32.to_le_bytes()));
                seed
            });
            let report = br#"{"source":"socket","report":{"type":"message","role":"operator","content":"hello"}}"#;
            let blocks = |protocol: u8| {
                let lines = b"one\r\n{\"role\":\"agent\",\"content\":\"x\",\"metadata\":{\"operator\":1}}\ntwo";
                let parts = [part(b'o', lines), part(b's', report), part(b'o' | 0x80, b"three\n"), part(b'r', b"\x28\0\x06\0"), part(b'e', b"err\n")];
                with(&[protocol], &parts.concat())
            };
            screens.chain((0..4).map(blocks)).chain(acp_lines().into_iter().map(|l| with(&[3], &part(b'o', &l)))).collect()
        }
        "lines" => {
            let plain = with(&[0, 2], b"one\r\n\x1b[31mtwo\x1b[m\r\nth\xffree\n");
            let json = with(&[1, 2], b"{\"role\":\"agent\",\"content\":\"x\",\"kind\":\"toolCall\",\"metadata\":{\"a\":1}}\nplain\n{}\n");
            [plain, json].into_iter().chain(acp_lines().into_iter().map(|lines| with(&[2, 7], &lines))).collect()
        }
        "report" => texts(&[
            r#"{"type":"message","role":"agent","content":"hello","kind":"toolCall","metadata":{"a":1}}"#,
            r#"{"type":"status","turn":"blocked","reason":"x"}"#,
            r#"{"type":"attention","kind":"question","text":"what?"}"#,
            r#"{"type":"child","title":"sub","agentType":"codex","sessionId":"01JD8Z2V9Q0000000000000000"}"#,
            r#"{"type":"ask","text":"may I?","options":[{"optionId":"y","label":"Yes","kind":"allowOnce"}],"takesText":true}"#,
            r#"{"type":"prompt","content":"go","source":"hook"}"#,
            r#"{"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"ls"},"permission_suggestions":[{"rules":[{"toolName":"Bash","ruleContent":"ls"}],"directories":["/x"],"mode":"plan"}]}"#,
            r#"{"hook_event_name":"SubagentStart","session_id":"01935b2c-1111-2222-3333-444455556666","agent_id":"a0123456789abcdef"}"#,
            r#"{"hook_event_name":"Stop","background_tasks":[{"status":"running"}]}"#,
            r#"{"hook_event_name":"SessionEnd","reason":"exit"}"#,
        ]),
        "transcript" => {
            let codex = [
                r#"{"timestamp":"2026-11-22T20:05:00.123Z","type":"session_meta","payload":{"id":"01935b2c-1111-2222-3333-444455556666","parent_thread_id":"x","agent_nickname":"sub"}}"#,
                r#"{"type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{\"cmd\":[\"ls\",\"-l\"]}","call_id":"c1"}}"#,
                r#"{"type":"response_item","payload":{"type":"function_call_output","call_id":"c1","output":[{"text":"out"}]}}"#,
                r#"{"type":"event_msg","payload":{"type":"item_completed","item":{"type":"AgentMessage","content":[{"text":"hi"}]}}}"#,
                r#"{"type":"event_msg","payload":{"type":"item_completed","item":{"type":"CommandExecution","id":"c1","exit_code":1,"aggregated_output":"x"}}}"#,
                r#"{"type":"event_msg","payload":{"type":"turn_aborted","reason":"interrupted"}}"#,
                r#"{"type":"response_item","payload":{"type":"reasoning","summary":[{"text":"hm"}]}}"#,
            ];
            let claude = [
                r#"{"type":"user","message":{"content":"go"},"origin":{"kind":"human"},"timestamp":"2026-11-22T20:05:00.123Z"}"#,
                r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":[{"text":"x"}],"is_error":true}]}}"#,
                r#"{"type":"assistant","message":{"content":[{"type":"text","text":"hi"},{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls"}}]}}"#,
                r#"{"type":"attachment","attachment":{"type":"queued_command","prompt":"and now"}}"#,
            ];
            vec![with(&[0], codex.join("\n").as_bytes()), with(&[1], claude.join("\n").as_bytes())]
        }
        "holder" => {
            let call = serde_json::json!({"call": {"id": 1, "call": "status"}});
            let hello = serde_json::json!({"hello": {"oldest": 1, "newest": 1}});
            let frame = |value: &serde_json::Value| {
                let body = rmp_serde::to_vec_named(value).unwrap_or_default();
                let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
                with(&length, &body)
            };
            vec![with(&[3], &[frame(&hello), frame(&call)].concat()), with(&[3], b"\x04\0\0\0\xa2\x1c\x8f\x01o\0\0\0\0\0\0\0\0abcd")]
        }
        "acp" => {
            let opened = |lines: &[u8]| {
                let begin = "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":1,\"agentCapabilities\":{},\"_meta\":{\"steering\":{\"supported\":true}}}}\n{\"id\":1,\"result\":{\"sessionId\":\"s\"}}\n";
                let parts = [
                    part(0, begin.as_bytes()),
                    part(2, b"do it"),
                    part(0, lines),
                    part(7, b"and this"),
                    part(3, br#"{"request":"01JD8Z2V9Q0000000000000000-a0","optionId":"y"}"#),
                    part(12, b"stop"),
                    part(4, &[0; 40]),
                ];
                parts.concat()
            };
            acp_lines().iter().map(|lines| opened(lines)).collect()
        }
        "docker-log" => {
            let stamp = b"2026-11-26T18:51:41.596473528Z ";
            let piece = |stream: u8, text: &[u8]| {
                let body = with(stamp, text);
                let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
                with(&[&[stream, 0, 0, 0], &length[..]].concat(), &body)
            };
            let frames = with(&[0, 2], &[piece(1, b"one\n"), piece(2, b"two\n"), piece(0, b"")].concat());
            let lines = with(&[1, 2], &[&stamp[..], b"one\r\n", stamp, b"two"].concat());
            vec![frames, lines]
        }
        "docker-labels" => vec![with(
            &[3],
            br#"{"dev.mosaic.agent":"true","dev.mosaic.name":"builder","dev.mosaic.inject":"stdin","dev.mosaic.protocol":"jsonl","dev.mosaic.stop-timeout":"30","dev.mosaic.parent":"01JD8Z2V9Q0000000000000000","dev.mosaic.exec-inject":"[\"sh\"]"}"#,
        )],
        "openclaw" => {
            let lines = [
                r#"{"type":"res","id":"1","ok":true,"payload":{}}"#,
                r#"{"protocol":4,"server":{"version":"2026.9.6"},"policy":{"tickIntervalMs":30000},"auth":{"scopes":["operator.read"]},"snapshot":{"uptimeMs":5000}}"#,
                r#"{"type":"event","seq":1,"event":"sessions.changed","payload":{"sessionKey":"agent:main:x","reason":"new","session":{"key":"agent:main:x","sessionId":"u1","hasActiveRun":true,"displayName":"t","updatedAt":1800000000000}}}"#,
                r#"{"type":"event","seq":2,"event":"agent","payload":{"sessionKey":"agent:main:x","runId":"r1","stream":"lifecycle","data":{"phase":"start"}}}"#,
                r#"{"type":"event","seq":3,"event":"chat","payload":{"sessionKey":"agent:main:x","runId":"r1","state":"delta","message":{"role":"assistant","content":[{"type":"text","text":"hi"}]}}}"#,
                r#"{"type":"event","seq":4,"event":"session.tool","payload":{"sessionKey":"agent:main:x","runId":"r1","data":{"phase":"start","name":"exec","toolCallId":"c1","args":{"command":"ls"}}}}"#,
                r#"{"type":"event","seq":5,"event":"exec.approval.requested","payload":{"id":"a1","createdAtMs":1800000000000,"request":{"sessionKey":"agent:main:x","command":"ls","cwd":"/","allowedDecisions":["allow-once","deny"]}}}"#,
                r#"{"type":"event","seq":6,"event":"question.requested","payload":{"id":"q1","sessionKey":"agent:main:x","questions":[{"questionId":"1","question":"which?","options":[{"label":"a","description":"b"}],"isOther":true}]}}"#,
                r#"{"type":"event","seq":7,"event":"question.resolved","payload":{"id":"q1","answers":{"answers":{"1":["a"]}}}}"#,
                r#"{"role":"assistant","id":"m1","timestamp":1800000000000,"runId":"r1","content":[{"type":"text","text":"hi"},{"type":"toolCall","id":"c1","name":"exec","arguments":{"command":"ls"}}]}"#,
                r#"{"role":"toolResult","toolCallId":"c1","toolName":"exec","content":[{"type":"text","text":"out"}],"timestamp":1800000000001}"#,
                r#"{"role":"user","content":"go","timestamp":1800000000000,"idempotencyKey":"k"}"#,
            ];
            let mut seeds = texts(&["ws://127.0.0.1:18789/", "https://gate.example/claw/"]);
            seeds.push(lines.join("\n").into_bytes());
            seeds.extend(texts(&lines));
            seeds
        }
        "decode" => golden(".msgpack").into_iter().map(|(_, bytes)| bytes).collect(),
        "tail" => {
            let kinds = ["node", "session", "message", "delta", "terminal", "command", "receipt", "refusal", "audit"];
            let number = |name: &str| kinds.iter().position(|kind| name.starts_with(&format!("{kind}.")));
            let seed = |(name, bytes): (String, Vec<u8>)| Some(with(&[u8::try_from(number(&name)?).ok()?], &bytes));
            golden(".msgpack").into_iter().filter_map(seed).collect()
        }
        "cursor" => texts(&["1f-17-18446744073709551615", "0-0-0", "1024", "1-2-x"]),
        "identity" => vec![
            with(&[0], br#"{"schema":1,"operator":"O","system":{},"hub":{},"workspaces":{},"command_key":"V"}"#),
            with(&[1], b"SVAAAA"),
            with(&[2], b"v1.A.B.1.2.x\n"),
            with(&[3], b"-----BEGIN NATS USER JWT-----\na.e30.c\n------END NATS USER JWT------\n"),
        ],
        _ => vec![],
    }
}

/// What agents of ACP say, in one turn each.
fn acp_lines() -> Vec<Vec<u8>> {
    let update = |update: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{{\"sessionId\":\"s\",\"update\":{update}}}}}\n"
        )
    };
    let chunk = r#"{"sessionUpdate":"agent_message_chunk","messageId":"m","content":{"type":"text","text":"hi"}}"#;
    let thought = r#"{"sessionUpdate":"agent_thought_chunk","content":{"type":"text","text":"hm"}}"#;
    let tool = r#"{"sessionUpdate":"tool_call","toolCallId":"t1","title":"ls","kind":"execute","status":"pending","rawInput":{"command":"ls"}}"#;
    let done = r#"{"sessionUpdate":"tool_call_update","toolCallId":"t1","status":"completed","content":[{"type":"content","content":{"type":"text","text":"out"}}]}"#;
    let plan = r#"{"sessionUpdate":"plan","entries":[{"content":"one","priority":"high","status":"pending"}]}"#;
    let asked = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"session/request_permission\",\"params\":{\"sessionId\":\"s\",\"toolCall\":{\"toolCallId\":\"t1\",\"title\":\"ls\"},\"options\":[{\"optionId\":\"y\",\"name\":\"Yes\",\"kind\":\"allow_once\"}]}}\n";
    let end = "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"stopReason\":\"end_turn\"}}\n";
    vec![
        [update(chunk), update(thought), end.to_owned()].concat().into_bytes(),
        [update(tool), asked.to_owned(), update(done), update(plan), end.to_owned()].concat().into_bytes(),
        b"{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32000,\"message\":\"no\"}}\nnot json\n".to_vec(),
    ]
}
