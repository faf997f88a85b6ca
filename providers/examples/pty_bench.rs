//! Figures of terminal sessions on this machine: what a holder costs, how many lines a second go through, how long a
//! line takes from the agent to the event. `cargo run --release -p providers --example pty_bench`

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use providers::pty::{PtyConfig, PtyProvider, dispatch};
use providers::{AgentProvider, News, Position, Profile, Protocol, SpawnRequest};

type Failure = Box<dyn std::error::Error>;

/// Prints the time, two thousand times, a line every two milliseconds.
const CLOCK: &str = "import time\nfor _ in range(2000): print(time.time_ns(), flush=True); time.sleep(0.002)";

fn main() -> ExitCode {
    if let Some(code) = dispatch(std::env::args_os()) {
        return code;
    }
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    match runtime.block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started us reads it.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("pty-bench-{}", std::process::id()));
    let program: OsString = std::env::current_exe()?.into();
    let mut config = PtyConfig::new(&dir, [program.clone()]);
    let provider = PtyProvider::start(config.clone()).await?;
    idle(&provider, &dir).await?;
    latency(&provider).await?;
    lines(&provider, "at the usual rate").await?;
    config.dir = dir.join("fast");
    config.limits.bytes_per_second = 1 << 30;
    let fast = PtyProvider::start(config).await?;
    lines(&fast, "without a rate").await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn say(text: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

async fn spawn(provider: &PtyProvider, protocol: Protocol, command: &[&str]) -> Result<bus_schema::SessionId, Failure> {
    let profile = Profile { protocol, ..Profile::new("bench", command.iter().copied()) };
    let session_id =
        ulid::Ulid::from_parts(0, u128::from(std::process::id()) << 32 | u128::from(next())).to_string().parse()?;
    let request = SpawnRequest {
        session_id,
        profile,
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    };
    Ok(provider.spawn(request).await?.session_id)
}

fn next() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Kilobytes and clock ticks of a process.
fn cost(pid: i64) -> Result<(String, u64), Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let memory =
        format!("{} resident ({} of it anonymous), {} at most", memory("VmRSS:"), memory("RssAnon:"), memory("VmHWM:"));
    Ok((memory, ticks(11) + ticks(12)))
}

async fn idle(provider: &PtyProvider, dir: &std::path::Path) -> Result<(), Failure> {
    for protocol in [Protocol::Lines, Protocol::Terminal] {
        let id = spawn(provider, protocol, &["bash", "-c", "seq 1 5000; read x"]).await?;
        let mut events = provider.subscribe(&id, Position::default()).await?;
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(3), events.recv()).await {
            provider.acknowledge(&id, event.position).await;
        }
        let state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join(id.as_str()).join("state.json"))?)?;
        let holder = state["holder"]["pid"].as_i64().unwrap_or(0);
        let (_, before) = cost(holder)?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (memory, after) = cost(holder)?;
        say(&format!(
            "holder of a {} session, idle: {memory}; {} clock ticks in 10 s",
            protocol.as_str(),
            after - before
        ))?;
        provider.kill(&id, &operator()?).await?;
    }
    Ok(())
}

fn operator() -> Result<bus_schema::Operator, Failure> {
    Ok(bus_schema::Operator { id: bus_schema::UserId::new("bench")?, name: "bench".into() })
}

async fn lines(provider: &PtyProvider, how: &str) -> Result<(), Failure> {
    const COUNT: u32 = 2_000_000;
    let began = Instant::now();
    let id = spawn(provider, Protocol::Lines, &["seq", "1", &COUNT.to_string()]).await?;
    let mut events = provider.subscribe(&id, Position::default()).await?;
    let mut count = 0;
    while let Some(event) = events.recv().await {
        count += u32::from(matches!(event.news, News::Message(_)));
        provider.acknowledge(&id, event.position).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("{count} of {COUNT} lines in {seconds:.2} s {how}: {:.0} lines/s", f64::from(count) / seconds))
}

async fn latency(provider: &PtyProvider) -> Result<(), Failure> {
    let id = spawn(provider, Protocol::Lines, &["python3", "-c", CLOCK]).await?;
    let mut events = provider.subscribe(&id, Position::default()).await?;
    let mut micros = vec![];
    while let Some(event) = events.recv().await {
        if let News::Message(draft) = event.news {
            let written: i64 = draft.content.parse()?;
            micros.push(providers::clock::now_micros() - written / 1000);
        }
        provider.acknowledge(&id, event.position).await;
    }
    micros.sort_unstable();
    let at = |part: usize| micros.get((micros.len() - 1) * part / 100).copied().unwrap_or(0);
    say(&format!(
        "a line from agent to event: p50 {} µs, p99 {} µs, most {} µs, of {}",
        at(50),
        at(99),
        at(100),
        micros.len()
    ))
}
