//! All that a node needs to join a mesh, as one text without spaces: `mosaic-node join TOKEN`.
//!
//! Form: base64url without padding of one byte, the version, and a MessagePack map. It holds the node's credentials:
//! whoever has it is that node.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::envelope::{EncodeError, decode, encode};
use crate::id::{NodeId, WorkspaceId};
use crate::secret::Secret;

/// Version of the form. Another one is refused by name.
const VERSION: u8 = 1;
/// Longest token, in bytes: credentials and a certificate are some kilobytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// All that a node needs to join a mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// Addresses of NATS servers.
    pub nats: Vec<String>,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The node's name.
    pub node: NodeId,
    /// The whole credentials file.
    #[serde(with = "crate::secret::exposed")]
    pub creds: Secret,
    /// Public keys whose commands the node obeys.
    pub command_keys: Vec<String>,
    /// Certificates (PEM) of the authority that the servers' certificates come from, if they use TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It is cut or changed, or something else altogether.
    #[error(
        "this is not a whole join token: copy all of it, on one line, as it was printed when the node was enrolled"
    )]
    Damaged,
    /// It comes from another version.
    #[error("the join token has version {0}, this program reads {VERSION}: use a mosaic-node of the hub's version")]
    Version(u8),
}

impl JoinToken {
    /// The token as text.
    ///
    /// # Errors
    /// [`EncodeError`], where there is a megabyte of it.
    pub fn to_text(&self) -> Result<Secret, EncodeError> {
        let mut bytes = vec![VERSION];
        bytes.extend(encode(self)?);
        Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Reads a token; spaces and line ends around it do not matter.
    ///
    /// # Errors
    /// [`JoinTokenError`], which shows nothing of it.
    pub fn parse(text: &str) -> Result<Self, JoinTokenError> {
        let text = text.trim();
        if text.len() > MAX_TOKEN_BYTES {
            return Err(JoinTokenError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| JoinTokenError::Damaged)?;
        match bytes.split_first() {
            Some((&VERSION, rest)) => decode(rest, None).map_err(|_| JoinTokenError::Damaged),
            Some((&version, rest)) if !rest.is_empty() && version < 32 => Err(JoinTokenError::Version(version)),
            Some(_) | None => Err(JoinTokenError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            nats: vec!["tls://bus.example.org:4222".into()],
            workspace: WorkspaceId::new("default").unwrap(),
            node: NodeId::new("n1").unwrap(),
            creds: Secret::new("-----BEGIN …"),
            command_keys: vec!["VABC".into()],
            ca: None,
        }
    }

    #[test]
    fn a_token_is_read_back_and_shows_nothing() {
        let text = token().to_text().unwrap();
        assert!(text.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(JoinToken::parse(&format!("  {}\n", text.expose())).unwrap(), token());
        assert!(!format!("{:?}", token()).contains("BEGIN"));
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let text = token().to_text().unwrap();
        let text = text.expose();
        for wrong in ["", "hello", &text[1..], &text[..text.len() - 4], &format!("{text}AAAA"), &text.replace('A', " ")]
        {
            assert_eq!(JoinToken::parse(wrong), Err(JoinTokenError::Damaged), "{wrong}");
        }
        let newer = URL_SAFE_NO_PAD.encode([2, 0x80]);
        assert_eq!(JoinToken::parse(&newer), Err(JoinTokenError::Version(2)));
    }
}
