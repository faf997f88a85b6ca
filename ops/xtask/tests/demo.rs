//! The demo agent, which every newcomer sees first: it speaks the protocol, answers, stays in its folder, and ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{proc, wait_until_blocking};

const WITHIN: Duration = Duration::from_secs(30);

struct Demo {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    _dir: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("project");
        fs::create_dir(&project).unwrap();
        fs::write(project.join("hello.txt"), "one\ntwo needles\n").unwrap();
        fs::create_dir(project.join(".mosaic")).unwrap();
        fs::write(project.join(".mosaic/users.json"), "needle secret").unwrap();
        fs::write(dir.path().join("outside.txt"), "needle outside").unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/agent.py");
        let mut command = Command::new("python3");
        command.arg(script).args(["--pace", "0"]).current_dir(project).env_remove("MOSAIC_SOCKET");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, messages) = sync_channel(1_000);
        // Ends with the agent's output.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, messages, _dir: dir }
    }

    /// Everything said until a text that contains `part`.
    fn until(&self, part: &str) -> Vec<Value> {
        let mut said = vec![];
        loop {
            let message = self.messages.recv_timeout(WITHIN).unwrap();
            let found = message["kind"] == "text" && message["content"].as_str().unwrap().contains(part);
            said.push(message);
            if found {
                return said;
            }
        }
    }

    fn tell(&mut self, content: &str) {
        let line = json!({"role": "operator", "content": content, "operator": {"id": "u", "name": "Ada"}});
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn ends_well(&mut self) {
        let status = wait_until_blocking("it ends", WITHIN, || self.child.try_wait().unwrap()).unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_looks_around_and_answers() {
    let mut demo = Demo::start();
    let said = demo.until("wait for you");
    assert!(said.iter().all(|message| message["role"] == "agent"));
    for kind in ["text", "reasoning", "toolCall", "toolResult"] {
        assert!(said.iter().any(|message| message["kind"] == kind), "{kind}");
    }
    assert!(said.iter().any(|message| message["content"] == "I count 1 files, 2 lines."));
    demo.tell("show hello.txt");
    demo.until("two needles");
    demo.tell("search needle");
    demo.until("1 lines have");
    demo.tell("make me a sandwich");
    let answer = demo.until("only a demo").pop().unwrap();
    assert!(answer["content"].as_str().unwrap().starts_with("Ada, I read “make me a sandwich”"));
    // Somebody types by hand.
    writeln!(demo.stdin.as_mut().unwrap(), "hello").unwrap();
    demo.until("Hello operator!");
    demo.tell("bye");
    demo.until("Goodbye");
    demo.ends_well();
}

#[test]
fn it_stays_where_it_may_be() {
    let mut demo = Demo::start();
    demo.until("wait for you");
    for (path, answer) in
        [("../outside.txt", "outside of"), ("/etc/passwd", "outside of"), (".mosaic/users.json", "leave alone")]
    {
        demo.tell(&format!("show {path}"));
        demo.until(answer);
    }
}

#[test]
fn it_ends_in_order_when_it_is_told_to() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start();
        demo.until("wait for you");
        proc::signal(demo.child.id(), signal);
        demo.until("Goodbye");
        demo.ends_well();
    }
    let mut demo = Demo::start();
    demo.stdin = None;
    demo.until("Goodbye");
    demo.ends_well();
}
