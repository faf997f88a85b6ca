//! Where ingestion begins after a start. Pure.

use std::ops::RangeInclusive;

use hub_store::Cursor;

use crate::bus::StreamBounds;

/// How far back an unclean end is repaired: more than one memtable of 16 MiB can hold of even the smallest messages.
pub const REPLAY: u64 = 50_000;

/// The part of a stream that the store may not have although the durable consumer will not deliver it again, or only
/// after its ack wait.
///
/// `delivered` is the last sequence the consumer has handed out, `unclean` tells that the store's last end was not
/// awaited: its last transaction may be lost, with the position in it.
pub fn replay(
    cursor: Option<&Cursor>,
    bounds: &StreamBounds,
    delivered: u64,
    unclean: bool,
) -> Option<RangeInclusive<u64>> {
    let position = position(cursor, bounds);
    let behind = if unclean { position.saturating_sub(REPLAY) } else { position };
    let from = (behind + 1).max(bounds.first);
    let to = delivered.max(if unclean { position } else { 0 }).min(bounds.last);
    (from <= to).then_some(from..=to)
}

/// How far the store has this stream: nothing of it if it was made anew.
pub fn position(cursor: Option<&Cursor>, bounds: &StreamBounds) -> u64 {
    cursor.filter(|c| c.created == bounds.created).map_or(0, |c| c.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(first: u64, last: u64) -> StreamBounds {
        StreamBounds { created: "now".into(), first, last }
    }

    fn at(seq: u64, created: &str) -> Cursor {
        Cursor { workspace: None, stream: "S".into(), created: created.into(), seq }
    }

    #[test]
    fn a_clean_start_replays_only_what_was_handed_out_and_not_written() {
        let bounds = bounds(1, 900);
        assert_eq!(replay(Some(&at(500, "now")), &bounds, 500, false), None);
        assert_eq!(replay(Some(&at(500, "now")), &bounds, 620, false), Some(501..=620));
        assert_eq!(replay(None, &bounds, 0, false), None, "a new consumer delivers it all");
    }

    #[test]
    fn an_unclean_start_goes_back() {
        assert_eq!(replay(Some(&at(500, "now")), &bounds(1, 900), 500, true), Some(1..=500));
        let far = bounds(1, 900_000);
        assert_eq!(replay(Some(&at(200_000, "now")), &far, 200_100, true), Some(150_001..=200_100));
        assert_eq!(replay(Some(&at(200_000, "now")), &bounds(180_000, 900_000), 1, true), Some(180_000..=200_000));
    }

    #[test]
    fn a_lost_store_or_a_new_stream_is_read_from_its_beginning() {
        let bounds = bounds(10, 900);
        assert_eq!(replay(None, &bounds, 700, false), Some(10..=700));
        assert_eq!(replay(Some(&at(500, "before")), &bounds, 700, false), Some(10..=700));
    }

    #[test]
    fn a_position_beyond_the_stream_is_no_harm() {
        assert_eq!(replay(Some(&at(5_000, "now")), &bounds(1, 900), 900, false), None);
        assert_eq!(replay(Some(&at(5_000, "now")), &bounds(1, 900), 900, true), Some(1..=900));
    }
}
