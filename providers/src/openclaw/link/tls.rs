//! TLS for gateways: rustls with the machine's own certificates.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// The settings of every encrypted connection.
///
/// # Errors
/// In words, if the machine trusts nobody.
pub(super) fn config() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        return Err("this machine has no trusted certificates; install ca-certificates or set SSL_CERT_FILE".into());
    }
    // Named: with two providers in one program rustls does not choose by itself.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
