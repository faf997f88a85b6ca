//! A viewer's place in the live stream, as it stands in the `id:` of an event. Pure.

use std::fmt;
use std::str::FromStr;

/// A place: everything up to these two sequences has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Tells these streams from others of the same names.
    pub epoch: u64,
    /// Last sequence of the messages' stream.
    pub messages: u64,
    /// Last sequence of the state's stream.
    pub state: u64,
}

/// The text is no place of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cursor of this stream; connect without one, and read the messages by seq")]
pub struct PlaceError(String);

impl Place {
    /// The epoch of two streams, from the times they were made.
    pub fn epoch_of(messages_created: &str, state_created: &str) -> u64 {
        // FNV-1a: only has to differ, and to be the same in every version of this program.
        let bytes = messages_created.bytes().chain([0]).chain(state_created.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) >> 24
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}-{}", self.epoch, self.messages, self.state)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let wrong = || PlaceError(text.chars().take(80).collect());
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or_else(wrong);
        let place = Place {
            epoch: u64::from_str_radix(next()?, 16).map_err(|_| wrong())?,
            messages: next()?.parse().map_err(|_| wrong())?,
            state: next()?.parse().map_err(|_| wrong())?,
        };
        if parts.next().is_some() { Err(wrong()) } else { Ok(place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_there_and_back() {
        let place = Place { epoch: Place::epoch_of("1", "2"), messages: 17, state: u64::MAX };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "1", "1-2", "1-2-3-4", "g-2-3", "1--3", "1-2-x", "null"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_streams_have_another_epoch() {
        assert_ne!(Place::epoch_of("1", "2"), Place::epoch_of("2", "1"));
        assert_ne!(Place::epoch_of("12", ""), Place::epoch_of("1", "2"));
    }
}
