//! The scripted model server, for agent CLIs that are to run without a network.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::http::{http_get, http_post};
use crate::process::{KeptOnFailure, Process};
use crate::wait::wait_until_blocking;

/// `fake_model.py` in a process of its own, on a free port. What it understands stands at the head of that file.
/// Killed when dropped.
#[derive(Debug)]
pub struct FakeModel {
    process: Process,
    port: u16,
    _dir: KeptOnFailure,
}

impl FakeModel {
    /// Starts it with its built-in directives and no pauses between the pieces of a stream.
    ///
    /// # Errors
    /// There is no `python3`, or it does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&["--delay", "0"])
    }

    /// Starts it with further arguments.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fake_model.py");
        let dir = KeptOnFailure::new()?;
        let port_file = dir.path().join("port");
        let mut command = Command::new("python3");
        command.arg(script).args(["--port", "0", "--port-file"]).arg(&port_file).args(arguments);
        let mut process = Process::spawn("fake model", &mut command, &dir.path().join("log"))
            .context("Python 3 is needed: apt-get install python3")?;
        let port = wait_until_blocking("the fake model tells its port", Duration::from_secs(30), || {
            if let Some(status) = process.exited() {
                return Ok(Err(anyhow::anyhow!("the fake model ended: {status}\n{}", process.log())));
            }
            let port = std::fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse().ok());
            port.map(Ok).ok_or(())
        })??;
        Ok(Self { process, port, _dir: dir })
    }

    /// `http://127.0.0.1:PORT`; the APIs answer below it with any prefix, such as `/v1`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it was asked so far, oldest first.
    ///
    /// # Errors
    /// It does not answer.
    pub fn requests(&self) -> anyhow::Result<Vec<Value>> {
        let reply = http_get(&format!("{}/_fake/requests", self.url()))?;
        Ok(serde_json::from_str(&reply.body)?)
    }

    /// Replaces its script.
    ///
    /// # Errors
    /// It does not answer, or does not take the script.
    pub fn script(&self, script: &Value) -> anyhow::Result<()> {
        let reply = http_post(&format!("{}/_fake/script", self.url()), script)?;
        ensure!(reply.status == 200, "the script was refused: {}", reply.body);
        Ok(())
    }
}
