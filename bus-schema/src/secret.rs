//! A text that must not be seen: tokens, seeds, passwords. The one such type of the project.
//!
//! Law: it has no `Display` and no `Serialize`, and `Debug` shows that it is there and no more. A field that has to be
//! written down says so by name, `#[serde(with = "bus_schema::secret::exposed")]`, and only inside of what is sealed.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A text that must not be seen.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into keeping.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Every call is a place to look at when asking where secrets go.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Writes a secret down as text: only for what is sealed before it leaves the program.
pub mod exposed {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    /// The text, readable.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    /// Back again.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Secret::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_not_shown() {
        let secret = Secret::new("SUAXYZ");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("SUA").count(), 0);
        assert_eq!(secret.expose(), "SUAXYZ");
    }
}
