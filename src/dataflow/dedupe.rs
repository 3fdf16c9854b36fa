//! Dedupe: of the events of one partition with one key the first stands.
//!
//! Shape: packed rows in the partition's order in, each with the time at which its record was
//! written; for each whether it stands, repeats what stands, says something else under a key that
//! is taken, or comes too late.
//!
//! Invariants: equal keys share a partition, so the first that is seen is the first there is, and
//! no verdict is ever taken back. Keys are compared whole, the rest of a row by 64 bits of its
//! hash. With a horizon a verdict is a matter of the partition's records alone: a first event that
//! was made longer than it before the record at hand counts as absent, held or not.
//!
//! Not here: what becomes of an event that does not stand (`engine`).

use xxhash_rust::xxh3::xxh3_64;

use super::{
    index::{Index, Place},
    slab::{RowId, Slab},
};
use crate::{
    row::{ColumnId, Columns, Layout, Value},
    spec::{Spec, plan::Horizon},
    time::Moment,
};

/// The keys of one partition.
pub struct Dedupe {
    key: Columns,
    made: Made,
    horizon: Option<Horizon>,
    /// The first events: in the header what `Known` says, then the key.
    first: Slab,
    index: Index,
    key_bytes: Vec<u8>,
}

/// When an event was made.
struct Made {
    layout: Layout,
    time: ColumnId,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the first with its key.
    Stands,
    /// It says what the first with its key says.
    Repeats,
    /// It says something else than the first with its key.
    Taken,
    /// It was made longer before its record was written than the horizon allows.
    Behind,
}

/// The words of a header: of the row its hash, and with a horizon when the event was made and how
/// long the key is.
const HASH: usize = 0;
const MADE: usize = 2;
const KEY_BYTES: usize = 4;

impl Dedupe {
    /// Knows no key yet.
    pub fn new(spec: &Spec) -> Dedupe {
        let horizon = spec.events.horizon;
        Dedupe {
            key: spec.event_columns(&[spec.events.key]),
            made: Made { layout: spec.events.layout.clone(), time: spec.events.time },
            horizon,
            first: Slab::new(if horizon.is_some() { KEY_BYTES + 1 } else { MADE }),
            index: Index::default(),
            key_bytes: Vec::new(),
        }
    }

    /// Judges the next event of the partition; its record was written at `written_ms`, in ms since
    /// 1970, where the partition says so.
    pub fn judge(&mut self, row: &[u8], written_ms: Option<i64>) -> Verdict {
        let Dedupe { key, made, horizon, first, index, key_bytes } = self;
        let least = horizon.zip(written_ms).map(|(horizon, ms)| horizon.before(ms));
        if least.is_some_and(|least| made.of(row) < least) {
            return Verdict::Behind;
        }
        key_bytes.clear();
        key.append(row, key_bytes);
        let is_it = |number| first.row(row_id(number)).starts_with(key_bytes);
        let content = xxh3_64(row);
        let keep = |first: &mut Slab| {
            let id = first.push(key_bytes);
            set_pair(first, id, HASH, content);
            if horizon.is_some() {
                set_pair(first, id, MADE, made.of(row).packed());
                first.set_word(id, KEY_BYTES, key_bytes.len() as u32);
            }
            id.number()
        };
        match index.place(xxh3_64(key_bytes), is_it) {
            Place::Taken(number) => {
                let known = row_id(*number);
                if least.is_some_and(|least| made_of(first, known) < least) {
                    *number = keep(first);
                    return Verdict::Stands;
                }
                let same = pair(first, known, HASH) == content;
                if same { Verdict::Repeats } else { Verdict::Taken }
            }
            Place::Free(free) => {
                free.insert(keep(first));
                Verdict::Stands
            }
        }
    }

    /// Lets go of keys whose events were made before a moment, oldest first, while half of those
    /// that came together were. Only with a horizon, and where no record comes any more for which
    /// they would count.
    pub fn let_go(&mut self, before: Moment) {
        let Dedupe { first, index, key_bytes, .. } = self;
        loop {
            let oldest = first.oldest(|id| first.word(id, KEY_BYTES) as usize);
            let is_past = |id: &&RowId| made_of(first, **id) < before;
            if oldest.is_empty() || 2 * oldest.iter().filter(is_past).count() < oldest.len() {
                return;
            }
            for id in oldest {
                key_bytes.clear();
                key_bytes.extend_from_slice(&first.row(id)[..first.word(id, KEY_BYTES) as usize]);
                let (hash, is_it) = (xxh3_64(key_bytes), |number| number == id.number());
                if made_of(first, id) < before {
                    index.remove(hash, is_it);
                } else if let Place::Taken(number) = index.place(hash, is_it) {
                    let again = first.push(key_bytes);
                    let words = 0..=KEY_BYTES;
                    words.for_each(|word| first.set_word(again, word, first.word(id, word)));
                    *number = again.number();
                }
            }
            first.let_go_oldest();
        }
    }

    /// How many keys are known.
    pub fn keys(&self) -> usize {
        self.index.len()
    }
}

impl Made {
    fn of(&self, row: &[u8]) -> Moment {
        match self.layout.get(row, self.time) {
            Some(Value::Moment(moment)) => moment,
            _ => unreachable!("every event says when it was made"),
        }
    }
}

fn row_id(number: u32) -> RowId {
    RowId::from_word(number).expect("rows are never number 0")
}

fn made_of(first: &Slab, id: RowId) -> Moment {
    Moment::from_packed(pair(first, id, MADE))
}

fn pair(first: &Slab, id: RowId, word: usize) -> u64 {
    u64::from(first.word(id, word)) << 32 | u64::from(first.word(id, word + 1))
}

fn set_pair(first: &mut Slab, id: RowId, word: usize, value: u64) {
    first.set_word(id, word, (value >> 32) as u32);
    first.set_word(id, word + 1, value as u32);
}
