//! Certificates for the links of a mesh: an authority of its own, and the certificate of its servers.
//!
//! ```text
//! IDENTITY/tls/
//!   ca.pem           what clients trust: goes to hub, nodes and readers
//!   ca.key           signs server certificates. A secret
//!   server.pem       of the servers: NATS, and a hub's HTTPS
//!   server.key       a secret
//!   server.json      for which names, until when
//! ```
//!
//! Laws:
//! 1. The authority is made once and may sign servers only; it is trusted for nothing else than what names it.
//! 2. Keys are ECDSA P-256, which NATS servers, their clients and browsers take. An authority of an older version has an
//!    Ed25519 key, which browsers do not take: it goes on as it is.
//! 3. The servers' certificate is made anew when other names are asked for, or [`RENEW_BEFORE_S`] before its end.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose,
    PublicKeyData, SerialNumber, date_time_ymd,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING as P256, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::now_s;
use crate::error::IdentityError;
use crate::files;

const DAY_S: u64 = 24 * 3600;
/// How long a server's certificate is valid, in seconds.
const VALID_S: u64 = 800 * DAY_S;
/// How long before its end another one is made, in seconds.
pub const RENEW_BEFORE_S: u64 = 200 * DAY_S;
/// Names of this machine, in every certificate.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority's certificate: what clients trust.
    pub ca: PathBuf,
    /// The servers' certificate.
    pub cert: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Where they are in an identity.
    pub(crate) fn of(dir: &Path) -> Self {
        let dir = dir.join("tls");
        Self { ca: dir.join("ca.pem"), cert: dir.join("server.pem"), key: dir.join("server.key") }
    }
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    names: Vec<String>,
    until_s: u64,
}

const PEM_HEAD: &str = "-----BEGIN PRIVATE KEY-----\n";
const PEM_TAIL: &str = "-----END PRIVATE KEY-----\n";
/// Length of a line of PEM (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// A key of a certificate.
struct Key {
    pair: Pair,
    /// As PKCS #8 has it. A secret.
    der: Vec<u8>,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    fn generate() -> Option<Self> {
        let made = EcdsaKeyPair::generate_pkcs8(&P256, &SystemRandom::new()).ok()?;
        Self::of(made.as_ref().to_vec())
    }

    fn of(der: Vec<u8>) -> Option<Self> {
        let pair = match EcdsaKeyPair::from_pkcs8(&P256, &der, &SystemRandom::new()) {
            Ok(pair) => Pair::P256(pair),
            // Older versions wrote the private half alone.
            Err(_) => Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?),
        };
        Some(Self { pair, der })
    }

    fn pem(&self) -> String {
        let text = BASE64.encode(&self.der);
        let lines = text.as_bytes().chunks(PEM_LINE).map(String::from_utf8_lossy);
        lines.fold(PEM_HEAD.to_owned(), |pem, line| pem + &line + "\n") + PEM_TAIL
    }

    fn parse(pem: &str) -> Option<Self> {
        let text: String = pem.strip_prefix(PEM_HEAD)?.strip_suffix(PEM_TAIL)?.lines().collect();
        Self::of(BASE64.decode(text.as_bytes()).ok()?)
    }

    /// Names the key in certificates.
    fn id(&self) -> KeyIdMethod {
        KeyIdMethod::PreSpecified(Sha256::digest(self.der_bytes()).iter().copied().take(20).collect())
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::P256(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match &self.pair {
            Pair::P256(_) => &rcgen::PKCS_ECDSA_P256_SHA256,
            Pair::Ed25519(_) => &rcgen::PKCS_ED25519,
        }
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed = match &self.pair {
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), msg).map_err(|_| rcgen::Error::RingUnspecified)?,
            Pair::Ed25519(pair) => pair.sign(msg),
        };
        Ok(signed.as_ref().to_vec())
    }
}

fn fail(what: &'static str) -> impl FnOnce(rcgen::Error) -> IdentityError {
    move |source| IdentityError::Sign { what, source: source.into() }
}

/// Makes what is missing, for servers of these names.
pub(crate) fn ensure(dir: &Path, names: &[String]) -> Result<TlsFiles, IdentityError> {
    let paths = TlsFiles::of(dir);
    let (ca_key, made_path) = (dir.join("tls/ca.key"), dir.join("tls/server.json"));
    let generate = || Key::generate().ok_or_else(|| fail("key of a certificate")(rcgen::Error::RingUnspecified));
    if files::read(&paths.ca)?.is_none() {
        let key = generate()?;
        let made = authority(&key).self_signed(&key).map_err(fail("certificate of the authority"))?;
        files::write_private(&ca_key, key.pem().as_bytes())?;
        files::write_private(&paths.ca, made.pem().as_bytes())?;
    }
    let mut all: Vec<String> = LOCAL.iter().map(ToString::to_string).chain(names.iter().cloned()).collect();
    all.sort();
    all.dedup();
    let made: Option<Made> = files::read(&made_path)?.and_then(|text| serde_json::from_str(&text).ok());
    let is_good = |made: &Made| made.names == all && made.until_s > now_s() + RENEW_BEFORE_S;
    if made.as_ref().is_some_and(is_good) && paths.cert.exists() && paths.key.exists() {
        return Ok(paths);
    }
    let seed = files::read(&ca_key)?.ok_or_else(|| IdentityError::Missing { path: ca_key.clone() })?;
    let damaged = || IdentityError::Damaged { path: ca_key.clone(), problem: "no key of an authority".into() };
    let ca = Key::parse(&seed).ok_or_else(damaged)?;
    let issuer = Issuer::new(authority(&ca), ca);
    let key = generate()?;
    let until_s = now_s() + VALID_S;
    let params = server(&key, &all, until_s).map_err(fail("certificate of the servers"))?;
    let cert = params.signed_by(&key, &issuer).map_err(fail("certificate of the servers"))?;
    files::write_private(&paths.key, key.pem().as_bytes())?;
    files::write_private(&paths.cert, cert.pem().as_bytes())?;
    let text = serde_json::to_vec_pretty(&Made { names: all, until_s });
    let text = text.map_err(|e| IdentityError::Damaged { path: made_path.clone(), problem: e.to_string() })?;
    files::write_private(&made_path, &text)?;
    Ok(paths)
}

fn authority(key: &Key) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial());
    params.key_identifier_method = key.id();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Mosaic Mesh authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params
}

fn server(key: &Key, names: &[String], until_s: u64) -> Result<CertificateParams, rcgen::Error> {
    let (addresses, hosts): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| name.parse::<IpAddr>().is_ok());
    let mut params = CertificateParams::new([hosts, addresses].concat())?;
    params.serial_number = Some(serial());
    params.key_identifier_method = key.id();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Mosaic Mesh server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    // Clocks that are late take it too. Apple's programs take none that is valid for more than 825 days in all
    // (support.apple.com/103769).
    params.not_before = at(until_s - VALID_S - DAY_S).into();
    params.not_after = at(until_s).into();
    Ok(params)
}

/// 127 random bits, so that it is a positive number.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stood before the 32 bytes of an Ed25519 key in the files of older versions (RFC 8410, section 7).
    const OLD_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

    #[test]
    fn an_authority_of_an_older_version_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tls")).unwrap();
        let key = Key::of([&OLD_HEAD[..], &[7; 32]].concat()).unwrap();
        let ca = authority(&key).self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("tls/ca.pem"), &ca).unwrap();
        std::fs::write(folder.path().join("tls/ca.key"), key.pem()).unwrap();
        let made = ensure(folder.path(), &["bus.example.org".into()]).unwrap();
        assert_eq!(std::fs::read_to_string(&made.ca).unwrap(), ca);
        assert!(made.cert.is_file());
    }

    #[test]
    fn certificates_are_made_once_and_again_for_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let made = ensure(folder.path(), &[]).unwrap();
        let (ca, cert) = (read(&made.ca), read(&made.cert));
        assert!(ca.contains("BEGIN CERTIFICATE") && read(&made.key).contains("PRIVATE KEY"));
        ensure(folder.path(), &[]).unwrap();
        assert_eq!((read(&made.ca), read(&made.cert)), (ca.clone(), cert.clone()));
        ensure(folder.path(), &["bus.example.org".into()]).unwrap();
        assert_eq!(read(&made.ca), ca);
        assert_ne!(read(&made.cert), cert);
        for name in ["ca.key", "server.key"] {
            let meta = std::fs::metadata(folder.path().join("tls").join(name)).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o600);
        }
        assert!(ensure(folder.path(), &["not a name\u{1F6D1}".into()]).is_err());
    }
}
