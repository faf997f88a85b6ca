//! The HTTP server: connections, how many there may be, and how long they may take for what they say.
//!
//! Laws:
//! 1. A connection that says nothing, or says it too slowly, is closed; it holds nothing but its own place. The same
//!    for one that does not shake hands, where it has to.
//! 2. There is a place before a connection is accepted: what comes beyond waits in the kernel's queue. Who has too
//!    many of them is cut off at once.
//! 3. At the end no request is cut off that is under way; streams end by themselves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::limits::{Limits, network};
use crate::metrics::Metrics;

/// How long a handshake may take.
const SHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Headers of a request.
const HEADERS_MAX: usize = 100;
/// Pause after the operating system gave no connection: it has no more files, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Address of whoever is at the other end of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// What the server needs.
pub struct Server {
    /// What answers.
    pub router: Router,
    /// What shakes hands, if this is HTTPS.
    pub tls: Option<TlsAcceptor>,
    /// How much there may be.
    pub limits: Arc<Limits>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Proxies: many may come through one.
    pub trusted_proxies: Vec<IpAddr>,
}

/// Connections by network.
#[derive(Default)]
struct Open(Mutex<HashMap<String, u32>>);

/// A connection's place; given back when it is dropped.
struct Place {
    open: Arc<Open>,
    network: String,
    metrics: Arc<Metrics>,
}

impl Place {
    fn take(open: &Arc<Open>, network: String, most: u32, metrics: &Arc<Metrics>) -> Option<Self> {
        let mut count = open.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = count.entry(network.clone()).or_default();
        if *here >= most {
            return None;
        }
        *here += 1;
        metrics.connections.inc();
        Some(Self { open: Arc::clone(open), network, metrics: Arc::clone(metrics) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
        let mut count = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = count.get_mut(&self.network) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                count.remove(&self.network);
            }
        }
    }
}

impl Server {
    /// Serves until `stop`, then waits for the requests that are under way.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let config = self.limits.config();
        let places = Arc::new(Semaphore::new(config.connections as usize));
        let open = Arc::new(Open::default());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(config.header_timeout_s))
            .max_buf_size(config.header_bytes)
            .max_headers(HEADERS_MAX);
        let connections = TaskTracker::new();
        loop {
            let place = tokio::select! {
                () = stop.cancelled() => break,
                Ok(place) = Arc::clone(&places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "no connection could be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let peer = peer.ip().to_canonical();
            let most = if self.trusted_proxies.contains(&peer) { u32::MAX } else { config.connections_per_address };
            let Some(counted) = Place::take(&open, network(peer), most, &self.metrics) else {
                self.limits.count("connections");
                continue;
            };
            let (http, router, tls, stop) = (http.clone(), self.router.clone(), self.tls.clone(), stop.clone());
            connections.spawn(async move {
                // Small events must not wait for each other.
                drop(stream.set_nodelay(true));
                match tls {
                    None => connection(&http, router, stream, peer, &stop).await,
                    Some(tls) => {
                        if let Some(stream) = shaken(&tls, stream, peer, &stop).await {
                            connection(&http, router, stream, peer, &stop).await;
                        }
                    }
                }
                drop((place, counted));
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

async fn shaken(
    tls: &TlsAcceptor,
    stream: TcpStream,
    peer: IpAddr,
    stop: &CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    let shaking = tokio::time::timeout(SHAKE_WITHIN, tls.accept(stream));
    match stop.run_until_cancelled(shaking).await {
        Some(Ok(Ok(stream))) => Some(stream),
        Some(Ok(Err(error))) => {
            tracing::debug!(%peer, %error, "a connection did not shake hands");
            None
        }
        Some(Err(_)) | None => None,
    }
}

async fn connection(
    http: &http1::Builder,
    router: Router,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    stop: &CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
