//! Resends: what an earlier run may owe, because it ended amid a spread correction.
//!
//! Shape: the keys that the reference log touched since an earlier run last owed nothing, in the
//! order of the log, in; the rows that ask for them, one by one, out.
//!
//! A replay applies all corrections at once and emits none of them, so what the earlier run did not
//! come to emit would be lost. After the last epoch of the earlier run (the chain's end) all
//! records of those keys are sent again as they stand, whatever was sent: that is no change of a
//! collection, so nothing consolidates it.
//!
//! Invariants: a key is done when all rows that asked for it when it began are sent; what is owed
//! from (`owed_from`) grows as keys are done, so a loop of crashes still moves. Within an epoch no
//! row is sent twice, be it as a correction or again.
//!
//! Not here: corrections of what this run has seen change (`state`).

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Changed, State, versions_of};
use crate::{
    dataflow::slab::RowId,
    row::{Key, LookupId},
    spec::Corrections,
    time::Epoch,
};

/// A key of a lookup that a record of the reference log gave, took or held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// The lookup.
    pub lookup: LookupId,
    /// The key.
    pub key: Key,
    /// Where the record stands in the log.
    pub offset: u64,
}

/// How an earlier run left off, as far as it concerns a worker's shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The first epoch of which changes are recorded: all shards hold those before it.
    pub record_from: Epoch,
    /// The last epoch that some shard, of any worker, holds; `None` where nothing is held.
    pub chain_end: Option<Epoch>,
    /// The offset of the reference log from which on corrections may be owed.
    pub owed_from: u64,
    /// Whether every record is owed, whatever the log touched.
    pub everything: bool,
}

/// Records that are to be sent again.
#[derive(Default)]
pub(super) struct Resends {
    resume: Resume,
    /// In the order in which they were first touched: one that is touched again keeps its place.
    keys: VecDeque<Touched>,
    queued: HashSet<(LookupId, Key)>,
    /// The last row of the first of them that was handed out; or, where everything is owed, of all.
    last: Option<RowId>,
    is_everything_sent: bool,
    /// How many rows are left, once that was counted.
    left: Option<u64>,
    /// Rows that the open epoch has sent, while some are to be sent again.
    of_epoch: HashSet<RowId>,
}

/// What leads to the next row.
pub(super) enum Step<'k> {
    /// The newest row that asks for a key.
    Begin { lookup: usize, key: &'k Key },
    /// The next older one.
    Older { lookup: usize, row: RowId },
    /// Of all rows, the one after this; the first for `None`.
    Following { row: Option<RowId> },
}

/// What comes next.
pub(super) enum Next {
    Row(RowId),
    /// A key is done.
    KeyEnded,
    /// Everything is done.
    Done,
}

impl Resends {
    pub(super) fn new(resume: Resume) -> Resends {
        Resends { resume, ..Resends::default() }
    }

    pub(super) fn chain_end(&self) -> Option<Epoch> {
        self.resume.chain_end
    }

    pub(super) fn touch(&mut self, touched: Touched) {
        if touched.offset < self.resume.owed_from || self.resume.everything {
            return;
        }
        if self.queued.insert((touched.lookup, touched.key.clone())) {
            self.keys.push_back(touched);
        }
    }

    fn is_everything_owed(&self) -> bool {
        self.resume.everything && !self.is_everything_sent
    }

    /// Whether some rows that are to be sent again were, and others of the same key not yet.
    pub(super) fn is_amid_rows(&self) -> bool {
        self.last.is_some()
    }

    /// From which offset on something is owed; `None` where nothing is.
    pub(super) fn owed_from(&self) -> Option<u64> {
        match self.is_everything_owed() {
            true => Some(0),
            false => self.keys.front().map(|touched| touched.offset),
        }
    }

    /// How many rows are to be sent again; before they were counted, of how many keys.
    pub(super) fn left(&self) -> u64 {
        match self.owed_from() {
            None => 0,
            Some(_) => self.left.unwrap_or_else(|| (self.keys.len() as u64).max(1)),
        }
    }

    /// A row was corrected in the open epoch.
    pub(super) fn corrected(&mut self, row: RowId) {
        if self.owed_from().is_some() {
            self.of_epoch.insert(row);
        }
    }

    /// Whether the open epoch has not sent a row yet; it has from now on.
    pub(super) fn is_first_of_epoch(&mut self, row: RowId) -> bool {
        self.of_epoch.insert(row)
    }

    pub(super) fn end_epoch(&mut self) {
        self.of_epoch.clear();
    }

    /// Moves on; `find` follows a step.
    pub(super) fn next(&mut self, find: impl FnOnce(Step<'_>) -> Option<RowId>) -> Next {
        if self.is_everything_owed() {
            self.last = find(Step::Following { row: self.last });
            self.is_everything_sent = self.last.is_none();
            return self.last.map_or(Next::Done, Next::Row);
        }
        let Some(Touched { lookup, key, .. }) = self.keys.front() else { return Next::Done };
        let lookup = usize::from(lookup.0);
        self.last = find(match self.last {
            None => Step::Begin { lookup, key },
            Some(row) => Step::Older { lookup, row },
        });
        match self.last {
            Some(row) => Next::Row(row),
            None => {
                let sent = self.keys.pop_front().expect("its rows were just walked");
                self.queued.remove(&(sent.lookup, sent.key));
                Next::KeyEnded
            }
        }
    }
}

impl State {
    /// Begins as an earlier run left off. Where records show the documents as they were, nothing is
    /// owed.
    pub fn resume(&mut self, resume: Resume) {
        let everything = resume.everything && self.spec.corrections == Corrections::Always;
        let resume = Resume { everything, ..resume };
        self.record_from = self.record_from.map(|_| resume.record_from);
        self.resends = Resends::new(resume);
    }

    /// Whether an earlier run held an epoch already, in some shard.
    pub(in crate::dataflow::fused) fn is_replay(&self, epoch: Epoch) -> bool {
        self.resends.chain_end().is_some_and(|end| epoch <= end)
    }

    /// A record of the reference log gave, took or held a key.
    pub(in crate::dataflow::fused) fn touch(&mut self, touched: Touched) {
        if self.spec.corrections == Corrections::Always {
            self.resends.touch(touched);
        }
    }

    /// Whether records of an earlier run are still to be sent again.
    pub fn owes(&self) -> bool {
        self.resends.owed_from().is_some()
    }

    /// Counts the rows that are to be sent again, once all are there.
    fn count_resends(&mut self) {
        let State { resends, lookups, events, .. } = self;
        if resends.left.is_some() {
            return;
        }
        let of_key = |Touched { lookup, key, .. }: &Touched| {
            lookups[usize::from(lookup.0)].find(key).map_or(0, |entry| u64::from(entry.rows))
        };
        resends.left = Some(match resends.is_everything_owed() {
            true => *events,
            false => resends.keys.iter().map(of_key).sum::<u64>().max(1),
        });
    }

    /// Sends again records that an earlier run may owe, at most so many.
    pub(in crate::dataflow::fused) fn resend(&mut self, most: u64) {
        let (mut left, owed_from) = (most, self.resends.owed_from());
        self.count_resends();
        while left > 0 {
            let State { resends, lookups, slab, header, spec, .. } = self;
            let next = resends.next(|step| match step {
                Step::Begin { lookup, key } => lookups[lookup].find(key)?.newest,
                Step::Older { lookup, row } => {
                    let older = RowId::from_word(slab.word(row, header.older(lookup)));
                    older.filter(|older| slab.has(*older))
                }
                Step::Following { row } => {
                    slab.following(row, |bytes| spec.events.layout.row_bytes(bytes))
                }
            });
            match next {
                Next::Row(row) => {
                    self.send_again(row);
                    left -= 1;
                    let of_all = &mut self.resends.left;
                    *of_all = of_all.map(|rows| rows.saturating_sub(1).max(1));
                }
                Next::KeyEnded => {}
                Next::Done => break,
            }
        }
        // That nothing is owed any more is news too, where no row was left to say it with.
        self.has_news |= left < most || self.resends.owed_from() != owed_from;
    }

    /// Records that a row stands as it does, unless the open epoch says so anyway.
    fn send_again(&mut self, row: RowId) {
        let is_fresh = self.first_of_epoch.is_some_and(|first| !self.slab.is_older(row, first));
        if is_fresh || self.is_past(row) || !self.resends.is_first_of_epoch(row) {
            return;
        }
        let versions = versions_of(&self.slab, self.header, row);
        self.changes.push(Changed::Enriched, None, (row, &versions));
        for view in 0..self.latest.len() {
            let (word, bit) = self.header.is_latest(view);
            if self.slab.word(row, word) & bit != 0 {
                self.changes.push(Changed::Latest(view), None, (row, &versions));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, sync::Arc};

    use super::*;
    use crate::{
        reference::{Documents, Projector, document},
        source::Decoder,
        spec::Spec,
    };

    const SPEC: &str = r#"
name = "resends"
[events]
key = "ID"
shard_key = "WHO"
time = "AT"
zone = "UTC"
[events.columns]
ID  = { type = "integer", range = "0..9" }
WHO = { type = "integer", range = "0..9" }
AT  = { type = "datetime" }
[lookups.who]
key = { path = "number" }
matches = "WHO"
columns.NAME = { type = "text", path = "name" }
[views.all]
kind = "enriched"
"#;

    /// A run: its state, and what was written last of each row.
    struct Run {
        state: State,
        projector: Projector,
        documents: Documents,
        /// By the event's ID.
        written: BTreeMap<String, String>,
        offset: u64,
    }

    impl Run {
        /// In an epoch documents 1 and 2 change their names, rows come, and so many are corrected
        /// and sent again.
        fn epoch(&mut self, epoch: Epoch, name: Option<&str>, rows: &[Vec<u8>], most: u64) {
            let Run { state, projector, documents, written, offset } = self;
            state.begin_epoch(epoch);
            for number in name.into_iter().flat_map(|_| [1, 2]) {
                let line = serde_json::json!({
                    "_id": format!("d{number}"), "_source": { "number": number, "name": name },
                });
                let line = line.to_string();
                let line = document::read(line.as_bytes(), projector).expect("a document");
                if state.is_replay(epoch) {
                    let touched: Vec<_> = documents.touched(&line.statement).collect();
                    for (lookup, key) in touched {
                        let (key, offset) = (key.clone(), *offset);
                        state.touch(Touched { lookup, key, offset });
                    }
                }
                *offset += 1;
                documents.apply(line.statement, &mut |claim, diff| state.claim(claim, diff));
            }
            state.settle_documents();
            rows.iter().for_each(|row| state.admit(row));
            match state.is_replay(epoch) {
                true => state.correct_unseen(),
                false => {
                    state.correct(most);
                    state.resend(most);
                }
            }
            state.end_epoch(epoch).for_each(drop);
            let mut said = BTreeMap::new();
            for change in state.changes(epoch) {
                let mut json = Vec::new();
                change.after.json(&mut json);
                let json: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
                let (id, name) = (json["ID"].to_string(), json["NAME"].to_string());
                assert!(said.insert(id, name).is_none(), "a row goes out once an epoch");
            }
            written.extend(said);
            state.release(epoch);
        }
    }

    /// A run that resumes, and rows of three events.
    fn resumed(record_from: Epoch, owed_from: u64) -> (Run, [Vec<u8>; 3]) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spec.toml");
        fs::write(&path, SPEC).expect("a spec");
        let spec = Arc::new(Spec::load(&path).expect("it is sound"));
        let mut decoder = Decoder::new(Arc::clone(&spec));
        let rows = [1, 2, 3].map(|id| {
            let who = id.min(2);
            let event = format!(r#"{{"ID":{id},"WHO":{who},"AT":"2025-01-01 10:00:00"}}"#);
            decoder.decode(event.as_bytes()).expect("an event").to_vec()
        });
        let mut state = State::new(&spec, true);
        let chain_end = Some(10);
        state.resume(Resume { record_from, chain_end, owed_from, everything: false });
        let run = Run {
            state,
            projector: Projector::new(spec),
            documents: Documents::default(),
            written: BTreeMap::new(),
            offset: 0,
        };
        (run, rows)
    }

    fn named(id: &str, name: &str) -> (String, String) {
        (id.to_owned(), format!("\"{name}\""))
    }

    #[test]
    fn shard_that_is_behind_gets_its_events_and_is_sent_its_corrections_again_later() {
        // It wrote epoch 9, and others wrote 10.
        let (mut run, rows) = resumed(10, 2);
        run.epoch(9, Some("A"), &rows[..2], u64::MAX);
        run.epoch(10, Some("B"), &rows[2..], u64::MAX);
        assert_eq!(run.written, BTreeMap::from([named("3", "B")]), "and no correction");
        assert!(run.state.owes());
        assert_eq!((run.state.waiting_rows(), run.state.waiting()), (0, 2), "two keys");
        run.epoch(11, None, &[], 1);
        assert_eq!(run.state.waiting(), 2, "two rows");
        (12..15).for_each(|epoch| run.epoch(epoch, None, &[], 1));
        assert!(!run.state.owes() && run.state.waiting() == 0);
        assert_eq!(run.written, ["1", "2", "3"].map(|id| named(id, "B")).into());
    }

    #[test]
    fn a_row_that_changed_back_unseen_is_still_owed() {
        // The earlier run has sent both rows with "A", and has read that it is "B" now.
        let (mut run, rows) = resumed(11, 2);
        let rows = &rows[..2];
        run.epoch(9, Some("A"), rows, u64::MAX);
        run.epoch(10, Some("B"), &[], u64::MAX);
        assert!(run.state.owes() && run.written.is_empty(), "nothing goes out of a replay");
        // It goes on, and comes back to "B" while one of the rows was neither corrected nor sent.
        run.epoch(11, Some("C"), &[], 1);
        run.epoch(12, Some("B"), &[], 1);
        for epoch in 13..20 {
            run.epoch(epoch, None, &[], 1);
        }
        assert!(!run.state.owes() && run.state.waiting_rows() == 0);
        assert_eq!(run.written, ["1", "2"].map(|id| named(id, "B")).into());
    }
}
