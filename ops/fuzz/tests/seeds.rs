//! Every seed and every finding of every target, without the fuzzer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use fuzz::{TARGETS, Target};

#[test]
fn every_seed_and_every_finding_holds() {
    for target in TARGETS {
        let seeds = target.seeds();
        assert!(!seeds.is_empty(), "{} has nothing to begin with", target.name);
        for (n, seed) in seeds.iter().enumerate() {
            (target.check)(seed);
            // And cut anywhere near its end, and with one bit another.
            for cut in 1..seed.len().min(24) {
                (target.check)(&seed[..seed.len() - cut]);
            }
            for at in (0..seed.len()).step_by((seed.len() / 24).max(1)) {
                let mut other = seed.clone();
                other[at] ^= 1 << (n % 8);
                (target.check)(&other);
            }
        }
    }
}

#[test]
fn seeds_that_are_changed_at_random_hold() {
    for target in TARGETS {
        let seeds = target.seeds();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for _ in 0..(target.runs / 100).max(30) {
            let mut bytes = seeds[dice.below(seeds.len())].clone();
            for _ in 0..=dice.below(4) {
                change(&mut bytes, &seeds[dice.below(seeds.len())], &mut dice);
            }
            bytes.truncate(target.max_bytes as usize);
            (target.check)(&bytes);
        }
    }
}

/// Changes one place: a byte, what stands between two places, or something of another seed put in.
fn change(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let end = at + dice.below((bytes.len() - at).min(16) + 1);
    let from = dice.below(other.len() + 1);
    let to = from + dice.below(other.len() - from + 1);
    match dice.below(5) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..end, other[from..to].iter().copied())),
        2 => bytes.extend_from_within(at..end),
        3 => bytes.insert(at, b"\0\"\\\n{}[]09-.\x1b\x7f\xff"[dice.below(15)]),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
    }
}

/// Always the same dice.
struct Dice(u64);

impl Dice {
    /// At most `end - 1`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % end
    }
}

#[test]
fn targets_have_names_of_their_own() {
    for target in TARGETS {
        assert!(std::ptr::eq(Target::named(target.name).unwrap(), target), "{}", target.name);
    }
}
