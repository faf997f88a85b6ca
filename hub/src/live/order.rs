//! Puts what a stream republished back into the order of its sequence, and tells what is missing. Pure.
//!
//! Republished messages come by core subscriptions: two of them may overtake each other, and a slow one loses
//! messages. The sequence tells both apart from nothing: what comes soon was overtaken, what does not was lost.

use std::collections::BTreeMap;

/// Items of one stream, on their way into order.
#[derive(Debug)]
pub struct Order<T> {
    next: u64,
    waiting: BTreeMap<u64, T>,
}

/// Most items held back while one before them is missing. Beyond it the rest is read from the stream again.
const WAITING_MAX: usize = 8 * 1024;

impl<T> Order<T> {
    /// Begins behind the sequence `last`.
    pub fn behind(last: u64) -> Self {
        Self { next: last + 1, waiting: BTreeMap::new() }
    }

    /// The last sequence that was handed out.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// Takes an item and hands out what is in order now.
    pub fn offer(&mut self, seq: u64, item: T) -> Vec<(u64, T)> {
        if seq < self.next {
            return vec![];
        }
        self.waiting.insert(seq, item);
        if self.waiting.len() > WAITING_MAX {
            // The last ones are the ones that will be read again.
            self.waiting.pop_last();
        }
        self.ready()
    }

    fn ready(&mut self) -> Vec<(u64, T)> {
        let mut ready = vec![];
        while let Some(item) = self.waiting.remove(&self.next) {
            ready.push((self.next, item));
            self.next += 1;
        }
        ready
    }

    /// The part that is missing before what is held back; none if nothing is.
    pub fn missing(&self) -> Option<std::ops::RangeInclusive<u64>> {
        let (first, _) = self.waiting.first_key_value()?;
        Some(self.next..=first - 1)
    }

    /// Everything up to `seq` has been read from the stream: what is not there does not exist any more. Hands out
    /// what is in order now.
    pub fn filled_to(&mut self, seq: u64) -> Vec<(u64, T)> {
        if seq >= self.next {
            self.next = seq + 1;
            self.waiting = self.waiting.split_off(&self.next);
        }
        self.ready()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn overtaken_items_wait_for_those_before_them() {
        let mut order = Order::behind(4);
        assert_eq!(order.offer(6, 'b'), []);
        assert_eq!(order.missing(), Some(5..=5));
        assert_eq!(order.offer(5, 'a'), [(5, 'a'), (6, 'b')]);
        assert_eq!(order.offer(5, 'x'), [], "what was handed out does not come again");
        assert_eq!((order.missing(), order.last()), (None, 6));
    }

    #[test]
    fn what_does_not_exist_any_more_is_passed_over() {
        let mut order = Order::behind(0);
        assert_eq!(order.offer(9, 'z'), []);
        assert_eq!(order.filled_to(8), [(9, 'z')]);
        assert_eq!(order.filled_to(3), []);
        assert_eq!(order.last(), 9);
    }

    proptest! {
        #[test]
        fn any_order_with_doubles_comes_out_once_and_in_order(
            seqs in prop::collection::vec(1..40_u64, 0..200),
        ) {
            let mut order = Order::behind(0);
            let mut out = vec![];
            for seq in &seqs {
                out.extend(order.offer(*seq, *seq));
            }
            out.extend(order.filled_to(40));
            let unique: std::collections::BTreeSet<_> = seqs.iter().copied().collect();
            let contiguous = (1..).take_while(|n| unique.contains(n)).collect::<Vec<_>>();
            prop_assert_eq!(out.iter().map(|(s, _)| *s).collect::<Vec<_>>(), contiguous);
        }
    }
}
