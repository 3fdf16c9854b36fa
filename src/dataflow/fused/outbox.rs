//! The outbox: what a worker has read of the open epoch, by the worker that needs it.
//!
//! Shape: events that stand and claims in; bundles with their receivers out.
//!
//! Invariants: an event goes to the worker of its shard; a claim goes to every worker whose events
//! may ask for it: to one, where its lookup goes by the shard key, else to all.

use std::sync::Arc;

use super::{Addressed, Bundle, Touched};
use crate::{
    dataflow::Diff,
    reference::Claim,
    source::{Bound, Input, PartitionId},
    spec::{ShardId, Spec},
};

/// Most events of a bundle, and most claims.
const EVENTS_OF_BUNDLE: usize = 1000;
const CLAIMS_OF_BUNDLE: usize = 1000;

/// The bundles of one worker's open epoch.
pub struct Outbox {
    spec: Arc<Spec>,
    /// By receiver.
    bundles: Vec<Bundle>,
    key_bytes: Vec<u8>,
    /// Whether bundles go out that hold nothing.
    is_call: bool,
}

/// The worker that owns a shard.
pub fn worker_of(shard: ShardId, workers: usize) -> usize {
    usize::from(shard.0) % workers
}

impl Outbox {
    /// An empty one, to so many workers.
    pub fn new(spec: &Arc<Spec>, workers: usize) -> Outbox {
        let bundles = vec![Bundle::default(); workers];
        Outbox { spec: Arc::clone(spec), bundles, key_bytes: Vec::new(), is_call: false }
    }

    /// Takes an event that stands; hands out the bundle that it filled.
    pub fn event(&mut self, row: &[u8]) -> Option<Addressed> {
        let Outbox { spec, bundles, key_bytes, .. } = self;
        let worker = match bundles.len() {
            1 => 0,
            workers => worker_of(spec.shard_of_event(row, key_bytes), workers),
        };
        let bundle = &mut bundles[worker];
        bundle.events.push(row);
        let is_full = bundle.events.len() == EVENTS_OF_BUNDLE;
        is_full.then(|| (worker as u64, std::mem::take(bundle)))
    }

    /// Takes a claim that begins (+1) or ends (-1); hands out the bundles that it filled.
    pub fn claim(&mut self, claim: Claim, diff: Diff) -> impl Iterator<Item = Addressed> {
        let mut to = 0..self.bundles.len();
        if self.spec.lookup(claim.lookup).matches == self.spec.events.shard_key {
            let worker = worker_of(self.spec.shard_of(&claim.key), self.bundles.len());
            to = worker..worker + 1;
        }
        self.bundles.iter_mut().enumerate().take(to.end).skip(to.start).filter_map(
            move |(worker, bundle)| {
                bundle.claims.push((claim.clone(), diff));
                let is_full = bundle.claims.len() == CLAIMS_OF_BUNDLE;
                is_full.then(|| (worker as u64, std::mem::take(bundle)))
            },
        )
    }

    /// Says that a replayed part of the reference log touched a key.
    pub fn touch(&mut self, touched: Touched) {
        if self.spec.lookup(touched.lookup).matches == self.spec.events.shard_key {
            let worker = worker_of(self.spec.shard_of(&touched.key), self.bundles.len());
            self.bundles[worker].touched.push(touched);
        } else {
            let bundles = self.bundles.iter_mut();
            bundles.for_each(|bundle| bundle.touched.push(touched.clone()));
        }
    }

    /// Says to all up to where the epoch holds an input.
    pub fn bound(&mut self, input: Input, bound: Bound) {
        self.bundles.iter_mut().for_each(|bundle| bundle.bounds.push((input, bound)));
    }

    /// Says to all that everything in a partition was read.
    pub fn at_end(&mut self, partition: PartitionId) {
        self.bundles.iter_mut().for_each(|bundle| bundle.at_end.push(partition));
    }

    /// Makes all hear of the open epoch even if it holds nothing: rows that wait have a turn in it.
    pub fn call(&mut self) {
        self.is_call = true;
    }

    /// Asks all to end.
    pub fn end(&mut self) {
        self.bundles.iter_mut().for_each(|bundle| bundle.end = true);
    }

    /// Hands out what is left.
    pub fn drain(&mut self) -> impl Iterator<Item = Addressed> {
        let is_call = std::mem::take(&mut self.is_call);
        let is_empty = |bundle: &Bundle| {
            let Bundle { events, claims, bounds, at_end, touched, end } = bundle;
            let is_empty = events.is_empty() && claims.is_empty() && touched.is_empty();
            is_empty && bounds.is_empty() && at_end.is_empty() && !end
        };
        let bundles = self.bundles.iter_mut().map(std::mem::take).enumerate();
        bundles
            .filter(move |(_, bundle)| is_call || !is_empty(bundle))
            .map(|(worker, bundle)| (worker as u64, bundle))
    }
}
