//! Chance: every draw of the generator, repeatable on every machine and for ever.
//!
//! Shape: a seed, a stream and a place in, draws out. Each part of the generator rolls its own
//! dice, so that a draw more in one part leaves the others as they were.
//!
//! Invariants: the same draws give the same values whatever the versions of the dependencies. The
//! generator is xoshiro256++ seeded by SplitMix64, both fixed algorithms; ranges, choices and
//! shuffles are written here, because `rand` may change how it samples them between versions.
//!
//! Not here: secrets. The numbers are predictable by design.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

/// Which part of the generator rolls. The numbers are part of the output of a seed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    /// Which student is in which group.
    Groups = 1,
    /// The name of a group, by its place.
    GroupName = 2,
    /// The document of a student, by the student's place.
    Student = 3,
    /// The document of a teacher, by the teacher's place.
    Teacher = 4,
    /// Which group has which lesson.
    Timetable = 5,
    /// Which marks are set in a lesson.
    Clicks = 6,
    /// What becomes of the clicks on their way.
    Delivery = 7,
    /// What happens to the documents later.
    Changes = 8,
}

/// A source of draws.
#[derive(Debug, Clone)]
pub(super) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Dice of a stream at a place; dice of other places or streams share nothing with these.
    pub(super) fn new(seed: u64, stream: Stream, place: u64) -> Self {
        let mixed = mix(mix(mix(seed) ^ stream as u64) ^ place);
        Self(Xoshiro256PlusPlus::seed_from_u64(mixed))
    }

    /// A number from 0 to `bound - 1`; 0 where `bound` is 0.
    ///
    /// The high half of a product instead of a remainder with rejection: one draw a number, and a
    /// bias of less than `bound / 2^64`, which no test of ours could see.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A place in something of `length`.
    pub(super) fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        // Fits: what is added is at most `high - low`.
        low + self.below(u64::from(high - low) + 1) as u32
    }

    /// A number from 0 to just below 1: 53 random bits, each step exact in every `f64`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in this share of the draws.
    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// One of `choices`, which must not be empty.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.place(choices.len())]
    }

    /// Puts `items` in random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.place(last + 1));
        }
    }

    /// A random UUID, version 4.
    pub(super) fn uuid(&mut self) -> Uuid {
        let bits = (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

/// Spreads neighbouring numbers over all 64 bits: the finalizer of SplitMix64, after its first
/// step so that 0 is no fixed point.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_same_for_ever() {
        let mut dice = Dice::new(1, Stream::Clicks, 0);
        let drawn: Vec<u64> = (0..5).map(|_| dice.below(1_000_000)).collect();
        // From the published algorithms, written anew in another language.
        assert_eq!(drawn, [668_311, 684_204, 96_474, 747_419, 260_849]);
        assert_eq!(dice.uuid().get_version_num(), 4);
    }

    #[test]
    fn places_and_streams_share_nothing() {
        let first = |seed, stream, place| Dice::new(seed, stream, place).below(u64::MAX);
        let all = [
            first(1, Stream::Student, 0),
            first(2, Stream::Student, 0),
            first(1, Stream::Student, 1),
            first(1, Stream::Teacher, 0),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one));
        }
    }

    #[test]
    fn ranges_reach_both_ends_and_no_further() {
        let mut dice = Dice::new(1, Stream::Clicks, 0);
        let drawn: Vec<u32> = (0..1_000).map(|_| dice.between(3, 5)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&5)));
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.between(7, 7), 7);
    }

    #[test]
    fn shares_are_kept() {
        let mut dice = Dice::new(1, Stream::Clicks, 0);
        let hits = (0..100_000).filter(|_| dice.chance(0.2)).count();
        assert!((19_500..20_500).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !dice.chance(0.0) && dice.chance(1.0)));
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Dice::new(1, Stream::Groups, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
