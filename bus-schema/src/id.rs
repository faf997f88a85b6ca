//! Identifiers. Each is checked once, when it is made, and is then safe as a token of a subject, as a file name
//! and in a URL.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::MAX_TOKEN_LEN;

/// A text cannot serve as an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, too long, or with a character that a subject token must not have.
    #[error("{what} {text:?} must be 1 to {MAX_TOKEN_LEN} characters out of A-Z a-z 0-9 _ -")]
    NotAToken {
        /// Which identifier it was to be.
        what: &'static str,
        /// The text, cut to 80 characters.
        text: String,
    },
    /// Session ids are ULIDs: 26 characters of Crockford's base 32, upper case.
    #[error("session id {text:?} is not a ULID (26 characters out of 0-9 A-Z without I L O U, the first 0-7)")]
    NotAUlid {
        /// The text, cut to 80 characters.
        text: String,
    },
    /// A word that the protocol keeps for itself.
    #[error("{what} {text:?} is reserved")]
    Reserved {
        /// Which identifier it was to be.
        what: &'static str,
        /// The text.
        text: String,
    },
}

/// True for texts that may stand as one token of a subject: `[A-Za-z0-9_-]{1,64}`.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN_LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn token(what: &'static str, text: &str) -> Result<(), IdError> {
    if is_token(text) { Ok(()) } else { Err(IdError::NotAToken { what, text: text.chars().take(80).collect() }) }
}

fn ulid(text: &str) -> Result<(), IdError> {
    let crockford = |b: u8| b.is_ascii_digit() || (b.is_ascii_uppercase() && !matches!(b, b'I' | b'L' | b'O' | b'U'));
    let ok = text.len() == 26 && text.bytes().all(crockford) && matches!(text.as_bytes().first(), Some(b'0'..=b'7'));
    if ok { Ok(()) } else { Err(IdError::NotAUlid { text: text.chars().take(80).collect() }) }
}

/// The hub speaks on `mosaic.v1.{workspace}.hub.…`; no node may carry that name.
fn node_id(text: &str) -> Result<(), IdError> {
    token("node id", text)?;
    if text == "hub" { Err(IdError::Reserved { what: "node id", text: text.into() }) } else { Ok(()) }
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as an identifier.
            ///
            /// # Errors
            /// [`IdError`] if the text does not have the form of this identifier.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                let check: fn(&str) -> Result<(), IdError> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&*text).map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new().schema_type(utoipa::openapi::schema::Type::String).into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    };
}

id!(
    /// A tenant: one NATS account, one set of users and roles.
    WorkspaceId,
    |text| token("workspace id", text)
);
id!(
    /// A node agent. Never `hub`, which is the hub's own place in the subjects.
    NodeId,
    node_id
);
id!(
    /// One session of one agent: a ULID, unique for ever and over all nodes.
    SessionId,
    ulid
);
id!(
    /// One message. Operator messages get theirs from the hub, all others from the node.
    MessageId,
    |text| token("message id", text)
);
id!(
    /// One command. The same id is carried out once, however often it arrives.
    CommandId,
    |text| token("command id", text)
);
id!(
    /// A person, or a token acting for one.
    UserId,
    |text| token("user id", text)
);
id!(
    /// A runtime: `pty`, `docker`, `acp`, `openclaw`, or a third party's.
    ProviderName,
    |text| token("provider name", text)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked() {
        for good in ["a", "A-b_9", &"x".repeat(64)] {
            assert!(WorkspaceId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "*", ">", "ä", "a/b", &"x".repeat(65)] {
            assert!(WorkspaceId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_may_not_be_the_hub() {
        assert!(matches!(NodeId::new("hub"), Err(IdError::Reserved { .. })));
        assert!(NodeId::new("hub1").is_ok());
    }

    #[test]
    fn session_ids_are_ulids() {
        assert!(SessionId::new("01JD8Z2V9Q0000000000000000").is_ok());
        for bad in
            ["", "01jd8z2v9q0000000000000000", "81JD8Z2V9Q0000000000000000", "01JD8Z2V9QI000000000000000", "01JD"]
        {
            assert!(SessionId::new(bad).is_err(), "{bad}");
        }
    }
}
