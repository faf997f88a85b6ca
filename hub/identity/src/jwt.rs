//! JWTs as NATS has them: algorithm `ed25519-nkey`, claims version 2.
//!
//! Source of the form: nats-io/jwt v2 and the server's own validation, checked against nats-server 2.15.1 by the tests
//! of this crate.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha512_256};

use crate::error::IdentityError;

/// What a token says, before it has an id and a signature.
pub(crate) struct Claims {
    /// What it is, for error texts.
    pub what: &'static str,
    /// Whom it is about: a public key.
    pub subject: String,
    /// Their name.
    pub name: String,
    /// The part that is NATS's own.
    pub nats: Value,
}

impl Claims {
    /// Writes and signs the token.
    pub fn sign(&self, issuer: &KeyPair, issued_at_s: u64) -> Result<String, IdentityError> {
        let fail = |source| IdentityError::Sign { what: self.what, source };
        let mut body = json!({
            "iat": issued_at_s,
            "iss": issuer.public_key(),
            "jti": "",
            "name": self.name,
            "nats": self.nats,
            "sub": self.subject,
        });
        // The id is the hash of the claims without an id.
        let hash = Sha512_256::digest(serde_json::to_vec(&body).map_err(|e| fail(e.into()))?);
        if let Some(id) = body.get_mut("jti") {
            *id = BASE32_NOPAD.encode(&hash).into();
        }
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let body = BASE64URL_NOPAD.encode(&serde_json::to_vec(&body).map_err(|e| fail(e.into()))?);
        let signed = format!("{header}.{body}");
        let signature = issuer.sign(signed.as_bytes()).map_err(|e| fail(e.into()))?;
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }

    /// True if `token` says the same, whenever it was issued. Its signature is not checked: it is our own file.
    pub fn are_in(&self, token: &str) -> bool {
        let says = || {
            let body = token.split('.').nth(1)?;
            let body: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(body.as_bytes()).ok()?).ok()?;
            Some(body.get("sub")? == &self.subject && body.get("nats")? == &self.nats)
        };
        says().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_by_its_issuer() {
        let (issuer, user) = (KeyPair::new_account(), KeyPair::new_user());
        let claims =
            Claims { what: "user", subject: user.public_key(), name: "n1".into(), nats: json!({"type": "user"}) };
        let token = claims.sign(&issuer, 7).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        issuer.verify(signed.as_bytes(), &BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
        assert!(claims.are_in(&token));
        assert!(!Claims { nats: json!({"type": "account"}), ..claims }.are_in(&token));
    }

    #[test]
    fn what_is_no_token_says_nothing() {
        let claims = Claims { what: "user", subject: "U".into(), name: "n".into(), nats: json!({}) };
        for text in ["", ".", "a.b.c", "a.e30.c"] {
            assert!(!claims.are_in(text), "{text}");
        }
    }
}
