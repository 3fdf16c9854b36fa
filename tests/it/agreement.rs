//! The two implementations agree: the fused operator says at every epoch what stock differential
//! says, on any number of workers, however fast each steps.
//!
//! Shape: a script of epochs is drawn from a seed: events of few keys with duplicates, ties and
//! taken keys, documents that come, change, move, change their kind, contend and go. Both run it;
//! their updates are compared epoch by epoch. `SEED=n` draws the same again.

use std::{collections::BTreeMap, fs, sync::Arc};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};
use tributary::{
    dataflow::{Diff, Spread},
    reference::{Documents, Projector, document},
    source::{Decoder, PartitionId, Place},
    spec::Spec,
    time::Epoch,
};

use crate::{
    both::{Side, Update, Which},
    support::{project, seed},
};

const PARTITIONS: u32 = 5;

/// Enough turns of the least fuel for all that a script can leave waiting.
const TURNS_MAX: Epoch = 100;

/// What happens in an epoch.
#[derive(Clone, Debug, Default)]
struct Happening {
    /// By partition, as JSON.
    events: Vec<(PartitionId, String)>,
    documents: Vec<String>,
}

struct Dice(Xoshiro256PlusPlus);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Draws a script of so many epochs. With `wander`, events come again by other partitions: as they
/// are, or as those of somebody else.
fn script(seed: u64, epochs: usize, wander: bool) -> Vec<Happening> {
    let mut dice = Dice(Xoshiro256PlusPlus::seed_from_u64(seed));
    let (mut sent, mut first, mut next_id) = (Vec::<Value>::new(), Vec::<Value>::new(), 0);
    (0..epochs)
        .map(|_| {
            let mut happening = Happening::default();
            let busy = if dice.one_in(4) { 0 } else { 12 };
            for _ in 0..dice.below(busy + 1) {
                let event = match dice.below(10) {
                    0 if !sent.is_empty() => sent[dice.below(sent.len() as u64) as usize].clone(),
                    1 if !sent.is_empty() => {
                        let mut other = sent[dice.below(sent.len() as u64) as usize].clone();
                        other["AT"] = json!("2025-09-09 09:09:09");
                        other
                    }
                    _ => {
                        next_id += 1;
                        first.push(event(&mut dice, next_id));
                        first[first.len() - 1].clone()
                    }
                };
                let id = event["ID"].as_u64().expect("drawn so");
                let partition = PartitionId((id % u64::from(PARTITIONS)) as u32);
                happening.events.push((partition, event.to_string()));
                sent.push(event);
                if wander && dice.one_in(3) {
                    let mut copy = first[dice.below(first.len() as u64) as usize].clone();
                    if dice.one_in(3) {
                        copy["WHO"] = json!((copy["WHO"].as_u64().expect("drawn so") + 1) % 8);
                    }
                    let partition = PartitionId(dice.below(u64::from(PARTITIONS)) as u32);
                    happening.events.push((partition, copy.to_string()));
                }
            }
            let many = if dice.one_in(3) { 5 } else { 2 };
            for _ in 0..dice.below(many) {
                happening.documents.push(statement(&mut dice).to_string());
            }
            happening
        })
        .collect()
}

fn event(dice: &mut Dice, id: u64) -> Value {
    let mut event = json!({
        "ID": id,
        "WHO": dice.below(8),
        "AT": format!("2025-09-{:02} 10:00:0{}", 1 + dice.below(3), dice.below(3)),
    });
    for (key, choices) in [("CELL", 3), ("BY", 5), ("ROLE", 4), ("ROOM", 3)] {
        if !dice.one_in(5) {
            let value = dice.below(choices);
            let is_text = matches!(key, "CELL" | "ROOM");
            event[key] = if is_text { json!(format!("{key}{value}")) } else { json!(value) };
        }
    }
    event
}

fn statement(dice: &mut Dice) -> Value {
    let id = format!("d{}", dice.below(14));
    if dice.one_in(5) {
        return json!({"_id": id, "op": "delete"});
    }
    let kind = ["who", "who", "by", "nobody"][dice.below(4) as usize];
    let mut source = json!({"kind": kind, "number": dice.below(9), "team": dice.below(3)});
    if !dice.one_in(4) {
        source["name"] = json!(format!("Имя {}", dice.below(3)));
    }
    if dice.one_in(2) {
        source["born"] = json!(format!("200{}-09-02T00:00:00Z", 3 + dice.below(3)));
    }
    if dice.one_in(3) {
        source["room"] = json!(format!("ROOM{}", dice.below(3)));
    }
    if kind == "who" {
        source["team"] = json!(["A", "B", ""][dice.below(3) as usize]);
    }
    json!({"_id": id, "_source": source})
}

/// All that a run said.
#[derive(Debug, Default, PartialEq)]
struct Said {
    /// By epoch, view and row.
    updates: BTreeMap<(Epoch, String, String), Diff>,
    taken: Vec<(Epoch, Place)>,
}

/// Runs a script with so many workers, which step as `seed` lets them.
fn run(
    spec: &Arc<Spec>,
    script: &Arc<Vec<Happening>>,
    which: Which,
    workers: usize,
    seed: u64,
) -> Said {
    let (spec, script) = (Arc::clone(spec), Arc::clone(script));
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let mut dice = Dice(Xoshiro256PlusPlus::seed_from_u64(seed ^ index as u64));
        let mut side = Side::start(worker, &spec, which);
        let mut decoder = Decoder::new(Arc::clone(&spec));
        let projector = Projector::new(Arc::clone(&spec));
        let mut documents = Documents::default();
        let mut offsets = [0; PARTITIONS as usize];
        for (epoch, happening) in script.iter().enumerate() {
            for (partition, event) in &happening.events {
                let offset = &mut offsets[partition.0 as usize];
                let place = Place { partition: *partition, offset: *offset };
                *offset += 1;
                if partition.0 as usize % peers == index {
                    let row = decoder.decode(event.as_bytes()).expect("only good events are drawn");
                    side.event(place, row);
                }
            }
            for line in happening.documents.iter().filter(|_| index == peers - 1) {
                let line = document::read(line.as_bytes(), &projector).expect("they are drawn so");
                documents.apply(line.statement, &mut |claim, diff| side.claim(claim, diff));
            }
            side.advance_to(epoch as Epoch + 1);
            for _ in 0..dice.below(4) {
                worker.step();
            }
            side.collect();
        }
        // What waits at the end is corrected in epochs that bring nothing else.
        for turn in 0..TURNS_MAX {
            side.call();
            side.advance_to(script.len() as Epoch + 1 + turn);
        }
        side.close();
        while !side.is_done() {
            worker.step();
            side.collect();
        }
        side.collect();
        assert_eq!(side.waiting_rows(), 0, "at the end no row waits for its correction");
        (side.updates, side.taken)
    });
    let mut said = Said::default();
    for end in guards.expect("threads start").join() {
        let (updates, taken): (Vec<Update>, _) = end.expect("no worker panics");
        for (epoch, view, row, diff) in updates {
            *said.updates.entry((epoch, view, row)).or_default() += diff;
        }
        said.taken.extend(taken);
    }
    said.updates.retain(|_, diff| *diff != 0);
    said.taken.sort();
    said
}

fn spec() -> Arc<Spec> {
    let path = project("tests/it/agreement.toml");
    Arc::new(Spec::load(&path).expect("the spec is sound"))
}

/// What stands in each view at the end; fails where something stood less than no time on the way.
fn standing(said: &Said) -> BTreeMap<(&str, &str), Diff> {
    let mut standing = BTreeMap::<_, Diff>::new();
    let (mut epoch, mut open) = (0, Vec::new());
    let check = |standing: &BTreeMap<_, Diff>, touched: &mut Vec<(&str, &str)>, epoch| {
        for row in touched.drain(..) {
            assert!(standing[&row] >= 0, "{row:?} stands {} times after {epoch}", standing[&row]);
        }
    };
    for ((at, view, row), diff) in &said.updates {
        if *at != epoch {
            check(&standing, &mut open, epoch);
            epoch = *at;
        }
        *standing.entry((view.as_str(), row.as_str())).or_default() += diff;
        open.push((view.as_str(), row.as_str()));
    }
    check(&standing, &mut open, epoch);
    standing.retain(|_, times| *times != 0);
    standing
}

/// The first difference, for a message that one can read.
fn assert_same(fused: &Said, stock: &Said, which: &str) {
    let all: std::collections::BTreeSet<_> =
        fused.updates.keys().chain(stock.updates.keys()).collect();
    for key in all {
        let (fused, stock) = (fused.updates.get(key), stock.updates.get(key));
        assert_eq!(fused, stock, "fused and stock, {which}: {key:?}");
    }
    assert_eq!(fused.taken, stock.taken, "taken, {which}");
}

#[test]
fn fused_operator_agrees_with_stock_at_every_epoch() {
    let (first, spec) = (seed(), spec());
    for seed in first..first + 12 {
        let script = Arc::new(script(seed, 60, false));
        let stock = run(&spec, &script, Which::Stock, 1 + seed as usize % 2, seed);
        assert!(stock.updates.len() > 300 && !stock.taken.is_empty(), "the script is not idle");
        assert!(stock.updates.values().any(|diff| *diff < 0), "something is corrected");
        for workers in [1, 2, 3] {
            let fused = run(&spec, &script, Which::Fused(Spread::NONE), workers, seed);
            assert_same(&fused, &stock, &format!("SEED={seed}, {workers} workers"));
        }
    }
}

#[test]
fn copies_that_came_by_several_partitions_are_one_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spec.toml");
    let text = fs::read_to_string(project("tests/it/agreement.toml")).expect("a spec");
    let zone = "zone = \"UTC\"\n";
    let by_shard = text.replace(zone, &format!("{zone}dedupe = \"shard\"\n"));
    fs::write(&path, by_shard).expect("a file");
    let (by_shard, by_partition) = (Arc::new(Spec::load(&path).expect("it is sound")), spec());
    let first = seed();
    for seed in first..first + 6 {
        let script = Arc::new(script(seed, 60, true));
        let stock = run(&by_shard, &script, Which::Stock, 1, seed);
        for workers in [1, 2, 3] {
            let fused = run(&by_shard, &script, Which::Fused(Spread::NONE), workers, seed);
            assert_same(&fused, &stock, &format!("SEED={seed}, {workers} workers"));
        }
        let rows = |said: &Said| standing(said).values().sum::<Diff>();
        let twice = rows(&run(&by_partition, &script, Which::Fused(Spread::NONE), 1, seed));
        assert!(twice > rows(&stock), "SEED={seed}: {twice} rows with copies");
    }
}

#[test]
fn spread_corrections_come_to_the_same_end() {
    let (first, spec) = (seed(), spec());
    let mut spread_something = false;
    for seed in first..first + 12 {
        let script = Arc::new(script(seed, 60, false));
        let at_once = run(&spec, &script, Which::Fused(Spread::NONE), 1, seed);
        for workers in [1, 2, 3] {
            for atomic_max in [0, 5] {
                let spread = Which::Fused(Spread { atomic_max, fuel: 7 });
                let spread = run(&spec, &script, spread, workers, seed);
                let (got, want) = (standing(&spread), standing(&at_once));
                assert_eq!(got, want, "SEED={seed}, {workers} workers, atomic_max {atomic_max}");
                spread_something |= spread.updates != at_once.updates;
            }
        }
    }
    assert!(spread_something, "some correction came later than its cause");
}
