//! What is around the engine: the inputs, and brokers as far as transactions go.

/// Number of shards; each holds one event, whose number is the shard's own.
pub const SHARDS: usize = 4;
/// Most workers; each has two writers, which take turns.
pub const WORKERS: usize = 2;
pub const WRITERS: usize = 2 * WORKERS;
/// Number of items of the input.
pub const ITEMS: u8 = 3;

/// What the inputs say.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// By vector, which document each number has; 0 for none.
    pub documents: [[u8; SHARDS]; ITEMS as usize + 1],
    /// By item, the numbers that it gives or takes; and those that it gives alone.
    pub touched: [[bool; SHARDS]; ITEMS as usize + 1],
    pub given: [[bool; SHARDS]; ITEMS as usize + 1],
}

const NONE: [bool; SHARDS] = [false; SHARDS];

impl Script {
    /// The documents of three numbers become others, and then what they were.
    pub const BACK_AND_FORTH: Script = {
        let moved = [true, true, true, false];
        let touched = [NONE, NONE, moved, moved];
        let documents = [[0; SHARDS], [1, 1, 1, 1], [2, 2, 2, 1], [1, 1, 1, 1]];
        Script { documents, touched, given: touched }
    };

    /// A document goes from one number to another.
    pub const PASSED_ON: Script = Script {
        documents: [[0; SHARDS], [1, 0, 2, 3], [0, 1, 2, 3], [0, 1, 2, 4]],
        touched: [NONE, NONE, [true, true, false, false], [false, false, false, true]],
        given: [NONE, NONE, [false, true, false, false], [false, false, false, true]],
    };
}

/// Up to where a shard is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    pub epoch: u8,
    pub vector: u8,
    pub settled: u8,
}

/// A progress record, as it stands in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub writer: u8,
    /// Of how many workers its own was one.
    pub of: u8,
    pub progress: Progress,
    pub is_committed: bool,
}

/// What a writer has sent of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    pub epoch: u8,
    /// By shard, the document that its record shows; `None` where it is not written.
    pub records: [Option<u8>; SHARDS],
}

/// What a reader of committed records sees of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shown {
    pub epoch: u8,
    pub document: Option<u8>,
}

/// The brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Brokers {
    /// The lead record: which start, and how many workers there ever were.
    pub generation: u8,
    pub workers: u8,
    pub open: [Option<Open>; WRITERS],
    /// Writers whose last transaction is committed, and its records not marked yet: until then
    /// readers wait for them, and brokers take no next one.
    pub unmarked: [bool; WRITERS],
    /// Writers that have committed something.
    pub have_committed: [bool; WRITERS],
    /// Up to where each shard is written, by records that no open transaction stands before.
    pub progress: [Progress; SHARDS],
    /// The records from the first on whose transaction is open.
    pub hidden: Vec<Entry>,
    pub shown: [Shown; SHARDS],
    /// A request to commit that is late: whose. Once its id is taken anew it does nothing.
    pub late: Option<u8>,
    /// Whether a key was written twice in an epoch, or in an earlier one than before.
    pub is_backward: bool,
}

/// The writer of a worker whose turn it is.
pub fn writer_of(worker: usize, turn: u8) -> u8 {
    2 * worker as u8 + turn
}

pub fn owns(worker: u8, of: u8, shard: usize) -> bool {
    shard as u8 % of == worker
}

fn apply(progress: &mut [Progress; SHARDS], entry: &Entry) {
    for (shard, held) in progress.iter_mut().enumerate() {
        if owns(entry.writer / 2, entry.of, shard) && held.epoch <= entry.progress.epoch {
            *held = entry.progress;
        }
    }
}

impl Brokers {
    /// Somebody takes the id of a writer, and waits until what it had committed is marked: what it
    /// had open is aborted.
    pub fn take(&mut self, writer: u8) {
        self.mark(writer);
        self.late = self.late.filter(|late| *late != writer);
        self.open[usize::from(writer)] = None;
        self.hidden.retain(|entry| entry.writer != writer || entry.is_committed);
        self.settle();
    }

    /// A request to commit comes.
    pub fn commit(&mut self, writer: u8) {
        let Some(open) = self.open[usize::from(writer)].take() else { return };
        self.have_committed[usize::from(writer)] = true;
        for (shard, record) in open.records.iter().enumerate() {
            if record.is_some() {
                self.is_backward |= self.shown[shard].epoch >= open.epoch;
                self.shown[shard] = Shown { epoch: open.epoch, document: *record };
            }
        }
        self.unmarked[usize::from(writer)] = true;
    }

    /// The records of what a writer committed are marked.
    pub fn mark(&mut self, writer: u8) {
        if std::mem::take(&mut self.unmarked[usize::from(writer)]) {
            for entry in &mut self.hidden {
                entry.is_committed |= entry.writer == writer;
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        while self.hidden.first().is_some_and(|entry| entry.is_committed) {
            let entry = self.hidden.remove(0);
            apply(&mut self.progress, &entry);
        }
    }

    /// All that is committed, whoever can see it.
    pub fn all_progress(&self) -> [Progress; SHARDS] {
        let mut progress = self.progress;
        let is_committed =
            |entry: &&Entry| entry.is_committed || self.unmarked[usize::from(entry.writer)];
        let committed = self.hidden.iter().filter(is_committed);
        committed.for_each(|entry| apply(&mut progress, entry));
        progress
    }

    /// Whether what a reader sees is what the inputs say.
    pub fn are_as_they_must_be(&self, script: &Script) -> bool {
        let progress = self.all_progress();
        let is_right = |shard: usize| {
            let (Progress { epoch, vector, settled }, shown) = (progress[shard], self.shown[shard]);
            let mut may_show = (settled.max(1)..=vector)
                .map(|cut| Some(script.documents[usize::from(cut)][shard]));
            let is_there = if vector == 0 {
                shown.document.is_none()
            } else {
                may_show.any(|document| document == shown.document)
            };
            is_there && shown.epoch <= epoch && settled <= vector
        };
        let one_vector = |a: &Progress, b: &Progress| a.epoch != b.epoch || a.vector == b.vector;
        let in_order = |a: &Progress, b: &Progress| a.epoch >= b.epoch || a.vector <= b.vector;
        let agree =
            progress.iter().all(|a| progress.iter().all(|b| one_vector(a, b) && in_order(a, b)));
        !self.is_backward && agree && (0..SHARDS).all(is_right)
    }

    /// Whether all shards hold all inputs and owe nothing.
    pub fn are_done(&self) -> bool {
        let is_done = |progress: &Progress| progress.vector == ITEMS && progress.settled == ITEMS;
        self.progress.iter().all(is_done)
    }
}
