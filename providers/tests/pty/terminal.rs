//! Sessions on a terminal: queries, what programs tell of themselves, what the screen gives, reports, size, snapshots.

use bus_schema::{AttentionKind, Capability, MessageKind, Status, StatusSource, TerminalSize, Turn};
use providers::{AgentProvider, News, Position, Protocol};

use crate::harness::{Session, Stage, ada, host_program, profile, script};

/// Asks for OSC 7501, DA1 and the cursor twice, and prints the answers as they came.
const ASK: &str = r#"
import os, sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b"\x1b]7501;?\x1b\\\x1b[cab\x1b[6n\r\n\x1b[6n")
answer = b""
while answer.count(b"R") < 2:
    answer += os.read(0, 1000)
termios.tcsetattr(0, termios.TCSADRAIN, before)
print("answers", answer)
"#;

#[tokio::test]
async fn queries_are_answered_in_the_order_they_were_asked() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(profile(Protocol::Terminal, &["python3", "-c", ASK])).await;
    let draft = session.message("answers").await;
    let expected = r"answers b'\x1b]7501;?\x1b\\\x1b[?62;22c\x1b[1;3R\x1b[2;1R'";
    assert!(draft.content.contains(expected), "{}", draft.content);
    session.end().await;
}

#[tokio::test]
async fn a_program_tells_where_it_stands() {
    let stage = Stage::new().await;
    let say = |state: &str| format!(r"printf '\033]7501;state={state}\033\\'; read x; ");
    let run = ["idle", "working", "blocked:kind=permission:msg=cm0gLXJm", "done"].map(say).concat();
    let mut session = stage.spawn(script(Protocol::Terminal, &run)).await;
    for (status, turn, attention) in [
        (Status::Waiting, Turn::Idle, None),
        (Status::Running, Turn::Active, None),
        (Status::Waiting, Turn::Blocked, Some((AttentionKind::Permission, "rm -rf"))),
        (Status::Waiting, Turn::Idle, None),
    ] {
        session.until("a turn", |event| (event.news == News::Turn(Some(turn.clone()))).then_some(())).await;
        if let Some((kind, text)) = attention {
            let needed = session.until("attention", |event| match &event.news {
                News::Attention(attention) => attention.clone(),
                _ => None,
            });
            let needed = needed.await;
            assert_eq!((needed.kind, needed.text.as_str()), (kind, text));
        }
        let info = stage.provider.session(&session.id).await.unwrap();
        assert_eq!((info.status, info.status_source), (status, StatusSource::Terminal));
        stage.provider.terminal_input(&session.id, b"\r", &ada()).await.unwrap();
    }
    session.end().await;
    let cleared = session.seen.iter().any(|event| event.news == News::Attention(None));
    assert!(cleared, "attention stays although nobody is needed");
}

async fn shell(stage: &Stage) -> Session {
    let mut shell = profile(Protocol::Terminal, &["bash", "--norc", "--noprofile"]);
    shell.env.insert("PS1".into(), "prompt$ ".into());
    let mut session = stage.spawn(shell).await;
    session.shows("prompt$ ").await;
    session
}

#[tokio::test]
async fn a_shell_gives_what_its_commands_print() {
    let stage = Stage::new().await;
    let mut session = shell(&stage).await;
    let type_in = async |keys: &str| stage.provider.terminal_input(&session.id, keys.as_bytes(), &ada()).await.unwrap();
    type_in("echo one; echo two\r").await;
    let draft = session.message("one\ntwo").await;
    assert_eq!((draft.content.as_str(), draft.role.as_str()), ("one\ntwo", "agent"));
    assert_eq!(draft.metadata["source"], "screen");
    let type_in = async |keys: &str| stage.provider.terminal_input(&session.id, keys.as_bytes(), &ada()).await.unwrap();
    type_in("seq 1 500; exit 3\r").await;
    let end = session.end().await;
    assert_eq!(end.exit_code, Some(3));
    let text = session.messages().join("\n");
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers, (1..=500).collect::<Vec<u32>>(), "every line once");
    // What the operator typed is the operator's, not the agent's.
    let typed: Vec<String> = session
        .seen
        .iter()
        .filter_map(|event| match &event.news {
            News::Message(draft) if draft.role.as_str() == "user" => Some(draft.content.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(typed, ["echo one; echo two", "seq 1 500; exit 3"]);
}

#[tokio::test]
async fn a_password_is_in_no_log() {
    let stage = Stage::new().await;
    let run = "read -s -p 'password: ' x; echo; echo length ${#x}";
    let mut session = stage.spawn(script(Protocol::Terminal, run)).await;
    session.shows("password: ").await;
    stage.provider.terminal_input(&session.id, b"hunter2!\r", &ada()).await.unwrap();
    session.shows("length 8").await;
    session.end().await;
    let log = stage.session_dir(&session.id).join("log/00000000000000000000.seg");
    let log = std::fs::read(log).unwrap();
    assert!(!log.windows(8).any(|bytes| bytes == b"hunter2!"));
}

#[tokio::test]
async fn size_is_what_was_asked_for_and_can_be_changed() {
    let stage = Stage::new().await;
    let run = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done";
    let mut sized = script(Protocol::Terminal, run);
    sized.size = Some(TerminalSize { cols: 77, rows: 33 });
    let mut session = stage.spawn(sized).await;
    session.shows("33 77").await;
    let size = TerminalSize { cols: 101, rows: 11 };
    stage.provider.resize(&session.id, size).await.unwrap();
    session.shows("11 101").await;
    let sizes: Vec<TerminalSize> = session
        .seen
        .iter()
        .filter_map(|event| match &event.news {
            News::Terminal(piece) => piece.size,
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [TerminalSize { cols: 77, rows: 33 }, size]);
    let snapshot = stage.provider.terminal_snapshot(&session.id).await.unwrap();
    assert_eq!(snapshot.size, size);
    let wrong = stage.provider.resize(&session.id, TerminalSize { cols: 0, rows: 5 }).await;
    assert!(matches!(wrong, Err(providers::ProviderError::Invalid(_))), "{wrong:?}");
}

#[tokio::test]
async fn a_snapshot_and_what_follows_it_show_what_the_session_shows() {
    let stage = Stage::new().await;
    let run = r"printf '\033[?1049h\033[2;3H\033[31mred\033[m'; read x; printf '\033[4;1Hafter'; read x";
    let mut session = stage.spawn(script(Protocol::Terminal, run)).await;
    session.shows("red").await;
    let snapshot = stage.provider.terminal_snapshot(&session.id).await.unwrap();
    stage.provider.terminal_input(&session.id, b"\r", &ada()).await.unwrap();
    session.shows("after").await;
    // A viewer that comes now paints the snapshot and goes on behind it.
    let (rows, cols) = (snapshot.size.rows.try_into().unwrap(), snapshot.size.cols.try_into().unwrap());
    let (mut viewer, mut whole) = (vt100::Parser::new(rows, cols, 0), vt100::Parser::new(rows, cols, 0));
    viewer.process(&snapshot.data);
    let output = session.output();
    viewer.process(&output[usize::try_from(snapshot.offset).unwrap()..]);
    whole.process(&output);
    assert_eq!(viewer.screen().contents_formatted(), whole.screen().contents_formatted());
    assert!(viewer.screen().alternate_screen());
}

#[tokio::test]
async fn reports_of_the_session_are_told() {
    let stage = Stage::new().await;
    let report = format!("{} report", host_program().display());
    let run = format!(
        r#"
{report} '{{"type":"title","title":"Fix the build"}}'
{report} '{{"type":"status","turn":"active"}}'
echo '{{"type":"message","role":"agent","content":"I run ls","kind":"toolCall","metadata":{{"tool":"Bash"}}}}' | {report}
{report} '{{"type":"attention","kind":"question","text":"which one?"}}'
{report} '{{"type":"levitate"}}'; echo answered $?
{report} '{{"type":"attention","kind":null}}'
{report} '{{"type":"message","role":"operator","content":"trust me"}}'
echo not told, since the session speaks for itself
"#
    );
    let mut session = stage.spawn(script(Protocol::Terminal, &run)).await;
    session.end().await;
    let seen: Vec<&News> = session.seen.iter().map(|event| &event.news).collect();
    assert!(seen.contains(&&News::Title("Fix the build".into())));
    assert!(seen.contains(&&News::Turn(Some(Turn::Active))));
    let running = |news: &&News| matches!(news, News::Status { source: StatusSource::Runtime, .. });
    assert!(seen.iter().any(running));
    let drafts: Vec<_> = seen
        .iter()
        .filter_map(|news| match news {
            News::Message(draft) => {
                Some((draft.role.as_str().to_owned(), draft.content.clone(), draft.metadata.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(drafts.len(), 2, "{drafts:?}");
    assert_eq!(
        (drafts[0].0.as_str(), drafts[0].1.as_str(), &drafts[0].2["tool"]),
        ("agent", "I run ls", &"Bash".into())
    );
    assert_eq!((drafts[1].0.as_str(), &drafts[1].2["source"]), ("user", &"socket".into()));
    let kinds: Vec<_> = seen
        .iter()
        .filter_map(|news| match news {
            News::Message(draft) => Some(draft.kind.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(kinds[0], MessageKind::ToolCall);
    let output = String::from_utf8_lossy(&session.output()).into_owned();
    assert!(output.contains("answered 1") && output.contains("unknown variant"), "{output}");
}

#[tokio::test]
async fn a_child_that_is_reported_is_a_session_of_its_own() {
    let stage = Stage::new().await;
    let report = format!("{} report", host_program().display());
    let run = format!(
        r#"
answer=$({report} '{{"type":"child","title":"reviewer","agentType":"claude"}}')
child=$(echo "$answer" | sed 's/.*"sessionId":"\([^"]*\)".*/\1/')
say() {{ {report} "$(printf "$1" $child)" >/dev/null; }}
say '{{"type":"status","turn":"active","sessionId":"%s"}}'
say '{{"type":"message","role":"agent","content":"looks fine","sessionId":"%s"}}'
say '{{"type":"child","sessionId":"%s","ended":true}}'
echo parent goes on; read x
"#
    );
    let mut session = stage.spawn(script(Protocol::Lines, &run)).await;
    let child = session.until("the child", |event| match &event.news {
        News::Child(child) => Some(child.clone()),
        _ => None,
    });
    let child = child.await;
    assert_eq!((child.title.as_deref(), child.agent_type.as_deref()), (Some("reviewer"), Some("claude")));
    session.message("parent goes on").await;
    assert_eq!(session.messages(), ["parent goes on"], "what the child says is the child's");

    let info = stage.provider.session(&child.session_id).await.unwrap();
    assert_eq!(info.parent_session_id.as_ref(), Some(&session.id));
    assert_eq!((info.status, info.title.as_deref()), (Status::Completed, Some("reviewer")));
    assert_eq!(info.capabilities, []);
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 2);
    let mut watched = stage.session(&child.session_id, Position::default()).await;
    let end = watched.end().await;
    assert_eq!((end.status, watched.messages()), (Status::Completed, vec!["looks fine".to_owned()]));
    let mut again = stage.session(&child.session_id, watched.seen[1].position).await;
    again.end().await;
    assert_eq!(again.seen, watched.seen[2..]);
    let paused = stage.provider.pause(&child.session_id, &ada()).await;
    let refused = matches!(&paused, Err(providers::ProviderError::NotCapable { capability: Capability::Pause, reason })
        if reason.contains(session.id.as_str()));
    assert!(refused, "{paused:?}");
    stage.provider.forget(&child.session_id).await.unwrap();
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 1);
    let stage = {
        let mut stage = stage;
        stage.replace().await;
        stage
    };
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 1, "forgotten for good");
}

#[tokio::test]
async fn children_end_with_their_parent() {
    let stage = Stage::new().await;
    let report = format!("{} report", host_program().display());
    let run = format!(r#"{report} '{{"type":"child","title":"endless"}}'; sleep 1000"#);
    let mut session = stage.spawn(script(Protocol::Lines, &run)).await;
    let child = session.until("the child", |event| match &event.news {
        News::Child(child) => Some(child.session_id.clone()),
        _ => None,
    });
    let child = child.await;
    let mut watched = stage.session(&child, Position::default()).await;
    assert_eq!(stage.provider.session(&child).await.unwrap().status, Status::Running);
    stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!(watched.end().await.status, Status::Killed);
    assert_eq!(stage.provider.session(&child).await.unwrap().status, Status::Killed);
}
