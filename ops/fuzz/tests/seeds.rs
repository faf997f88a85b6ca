//! Every seed and every finding of every target, without the fuzzer.

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
fn targets_have_names_of_their_own() {
    for target in TARGETS {
        assert!(std::ptr::eq(Target::named(target.name).unwrap(), target), "{}", target.name);
    }
}
