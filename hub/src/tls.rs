//! HTTPS: connections that have shaken hands, for the server of [`run`](crate::run).
//!
//! Laws:
//! 1. A handshake that is slow or wrong keeps nobody else waiting, and ends within [`SHAKE_WITHIN`].
//! 2. At most [`MAX_SHAKING`] are under way; further ones wait in the system's queue.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const SHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Handshakes under way at once.
const MAX_SHAKING: usize = 256;
/// Pause when the system gives no connection, such as for want of files.
const PAUSE: Duration = Duration::from_millis(500);

/// A certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of the certificate or of the key.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it. Nothing of its content.
        problem: String,
    },
    /// They do not fit each other.
    #[error("certificate and key cannot be used together")]
    Pair(#[from] rustls::Error),
}

/// Reads a certificate (with those between it and its authority) and its key, both PEM.
///
/// # Errors
/// [`TlsError`].
pub fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let wrong = |path: &Path, problem: String| TlsError::File { path: path.display().to_string(), problem };
    let certs = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certs = certs.map_err(|error| wrong(cert, error.to_string()))?;
    if certs.is_empty() {
        return Err(wrong(cert, "there is no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Takes connections and gives those that have shaken hands.
pub struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    shaking: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    /// On a socket that listens.
    pub fn new(tcp: TcpListener, acceptor: TlsAcceptor) -> Self {
        Self { tcp, acceptor, shaking: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// # Cancel safety
    /// Nothing is lost: what is under way is kept here.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                taken = self.tcp.accept(), if self.shaking.len() < MAX_SHAKING => match taken {
                    Ok((stream, from)) => {
                        let shaking = self.acceptor.accept(stream);
                        self.shaking.spawn(async move {
                            match tokio::time::timeout(SHAKE_WITHIN, shaking).await {
                                Ok(Ok(stream)) => Some((stream, from)),
                                Ok(Err(error)) => {
                                    tracing::debug!(%from, %error, "a connection did not shake hands");
                                    None
                                }
                                Err(_) => None,
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be taken");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(done) = self.shaking.join_next() => if let Ok(Some(ready)) = done {
                    return ready;
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
