//! Versions: values that many rows share, each held once, as long as a row shows it.
//!
//! Shape: values in, small numbers out.
//!
//! Invariants: equal values have one number; a number means one value as long as it is held; a
//! value that is let go as often as it was held is forgotten.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Which value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionId(u32);

impl VersionId {
    /// Its place in a list as long as `Versions::places` says.
    pub fn place(self) -> usize {
        self.0 as usize
    }
}

/// Values that are shared.
pub struct Versions<T> {
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    /// By number: the value, and how many show it.
    held: Vec<Option<(T, u32)>>,
    free: Vec<u32>,
}

impl<T> Default for Versions<T> {
    fn default() -> Versions<T> {
        let hasher = DefaultHashBuilder::default();
        Versions { hasher, numbers: HashTable::new(), held: Vec::new(), free: Vec::new() }
    }
}

impl<T: Hash + Eq> Versions<T> {
    /// Holds a value once more.
    pub fn hold(&mut self, value: T) -> VersionId {
        let Versions { hasher, numbers, held, free } = self;
        let hash = hasher.hash_one(&value);
        let is_same = |number: &u32| value_at(held, *number).is_some_and(|held| *held == value);
        if let Some(number) = numbers.find(hash, is_same).copied() {
            if let Some((_, times)) = &mut held[number as usize] {
                *times += 1;
            }
            return VersionId(number);
        }
        let number = free.pop().unwrap_or(held.len() as u32);
        if number as usize == held.len() {
            held.push(None);
        }
        held[number as usize] = Some((value, 1));
        numbers.insert_unique(hash, number, |number| {
            hasher.hash_one(value_at(held, *number).expect("what has a number is held"))
        });
        VersionId(number)
    }

    /// Lets go of a value once.
    pub fn let_go(&mut self, version: VersionId) {
        let Versions { hasher, numbers, held, free } = self;
        let place = &mut held[version.place()];
        let (value, times) = place.as_mut().expect("only what is held is let go");
        *times -= 1;
        if *times == 0 {
            let hash = hasher.hash_one(&*value);
            if let Ok(entry) = numbers.find_entry(hash, |number| *number == version.0) {
                entry.remove();
            }
            *place = None;
            free.push(version.0);
        }
    }

    /// The value of a number that is held.
    pub fn get(&self, version: VersionId) -> &T {
        value_at(&self.held, version.0).expect("a row shows only what is held")
    }

    /// All numbers are below this.
    pub fn places(&self) -> usize {
        self.held.len()
    }

    /// The values that are held, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (VersionId, &T)> {
        let held = (0..).map(VersionId).zip(&self.held);
        held.filter_map(|(version, held)| Some((version, &held.as_ref()?.0)))
    }
}

fn value_at<T>(held: &[Option<(T, u32)>], number: u32) -> Option<&T> {
    held[number as usize].as_ref().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_held_once_and_forgotten_with_their_last_row() {
        let mut versions = Versions::default();
        let a = versions.hold("a");
        assert_eq!(versions.hold("a"), a);
        let b = versions.hold("b");
        assert_ne!(a, b);
        versions.let_go(a);
        assert_eq!(*versions.get(a), "a");
        versions.let_go(a);
        assert_eq!(versions.iter().map(|(_, value)| *value).collect::<Vec<_>>(), ["b"]);
        // The place is taken again, under the value that has it now.
        assert_eq!(versions.hold("c"), a);
        assert_eq!(*versions.get(a), "c");
        assert_eq!(versions.places(), 2);
    }
}
