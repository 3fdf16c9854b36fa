//! Many packed rows, one after the other in one piece of memory.
//!
//! Shape: rows of one layout, in the order in which they were pushed; between processes they travel
//! as the bytes that they are.
//!
//! Not here: rows that are held for long (`dataflow::slab`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Rows on their way from where they were decoded to where they are kept.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<u32>,
}

impl Rows {
    /// Appends a row.
    ///
    /// # Panics
    /// When all rows together have 4 GiB: an epoch is far smaller.
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        let end = u32::try_from(self.bytes.len());
        self.ends.push(end.expect("an epoch's rows are far below 4 GiB"));
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let row = &self.bytes[start..*end as usize];
            start = *end as usize;
            row
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Says how many there are alone: rows hold personal data, which must not reach a log or a panic
/// (P11).
impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_pushed() {
        let mut rows = Rows::default();
        let pushed = [&b"one"[..], b"", b"three"];
        pushed.iter().for_each(|row| rows.push(row));
        assert_eq!(rows.iter().collect::<Vec<_>>(), pushed);
        assert_eq!(rows.len(), 3);
    }
}
