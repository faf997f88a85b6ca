//! A TCP proxy that fails on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How the proxy treats what passes through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mode {
    /// Refuses connections, and has cut those that were there.
    cut: bool,
    /// Accepts, and passes nothing on: a peer that has gone silent.
    silent: bool,
    /// Holds back each piece for so long.
    delay: Duration,
    /// Passes half of the next piece on, in either direction, and cuts the connection there.
    halve: bool,
    /// Grows with each cut, so that a cut followed at once by its mending still cuts.
    cuts: u64,
}

/// Stands between a client and a server on the loopback interface, and cuts, delays, halves or goes silent when told
/// to. Ends with its connections when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    bytes: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    /// Aborts everything when dropped.
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// Listens on a free port and passes everything on to `target`, such as `127.0.0.1:4222`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(target: impl Into<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("bind the proxy")?;
        let address = listener.local_addr()?;
        let mode = Arc::new(watch::Sender::new(Mode::default()));
        let (bytes, connections) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            Lane { target: target.into(), mode: Arc::clone(&mode), bytes: Arc::clone(&bytes) },
            Arc::clone(&connections),
        ));
        Ok(Self { address, mode, bytes, connections, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts every connection and refuses new ones, until [`heal`](Self::heal).
    pub fn cut(&self) {
        self.mode.send_modify(|mode| (mode.cut, mode.cuts) = (true, mode.cuts + 1));
    }

    /// Cuts every connection that is there; new ones pass.
    pub fn cut_once(&self) {
        self.mode.send_modify(|mode| mode.cuts += 1);
    }

    /// Holds back each piece, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.mode.send_modify(|mode| mode.delay = delay);
    }

    /// Passes nothing on and cuts nothing: a peer that has gone silent.
    pub fn silence(&self) {
        self.mode.send_modify(|mode| mode.silent = true);
    }

    /// Passes half of the next piece on, in either direction, and cuts there.
    pub fn halve(&self) {
        self.mode.send_modify(|mode| mode.halve = true);
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.mode.send_modify(|mode| *mode = Mode { cuts: mode.cuts, ..Mode::default() });
    }

    /// Bytes passed on so far, both directions.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Connections passed on so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Lane {
    target: String,
    mode: Arc<watch::Sender<Mode>>,
    bytes: Arc<AtomicU64>,
}

async fn accept(listener: TcpListener, lane: Lane, connections: Arc<AtomicU64>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if lane.mode.borrow().cut {
                    continue; // dropped: refused
                }
                connections.fetch_add(1, Ordering::Relaxed);
                open.spawn(connection(client, lane.clone()));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

/// One connection, until either side ends or it is cut.
async fn connection(client: TcpStream, lane: Lane) {
    let mut changes = lane.mode.subscribe();
    let cuts = changes.borrow_and_update().cuts;
    let Ok(server) = TcpStream::connect(&lane.target).await else { return };
    // Latency is what some tests measure.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = pass(client_read, server_write, &lane) => {}
        () = pass(server_read, client_write, &lane) => {}
        _ = changes.wait_for(|mode| mode.cuts != cuts) => {}
    }
}

/// One direction. Returns when the connection is to be ended.
async fn pass(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, lane: &Lane) {
    let mut changes = lane.mode.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let mode = *changes.borrow_and_update();
        if mode.silent && changes.wait_for(|mode| !mode.silent).await.is_err() {
            return;
        }
        if !mode.delay.is_zero() {
            tokio::time::sleep(mode.delay).await;
        }
        let passed = if mode.halve { read / 2 } else { read };
        let Some(piece) = buffer.get(..passed) else { return };
        if to.write_all(piece).await.is_err() {
            return;
        }
        lane.bytes.fetch_add(u64::try_from(passed).unwrap_or(0), Ordering::Relaxed);
        if mode.halve {
            lane.mode.send_modify(|mode| mode.halve = false);
            return;
        }
    }
}
