//! Starts beside a start that is in force, and two at one time: one that is refused takes nothing from
//! the one that goes on, and somebody always leads.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    game::wait_for,
    small::{PATIENCE, Small},
};

const DAY_MS: i64 = 24 * 3600 * 1000;

#[test]
fn start_that_waits_for_a_snapshot_leaves_the_one_in_force_alone() {
    let small = Small::with_people("unfinished");
    small.feed(0..10, "A");
    small.produce(0, 0..5);
    let mut engine = small.start(&[]);
    wait_for("its records", PATIENCE, || small.read("all").len() == 5);
    wait_for("nothing to be owed", PATIENCE, || small.owes_nothing(1));
    let leads = small.read("lead").len();
    // By what its progress says the log may be compacted beyond what was read, and the log is
    // being filled anew: while the engine stands still, as it would overtake both.
    engine.signal(Signal::SIGSTOP);
    let written = small.read("progress").pop().expect("it has committed");
    let mut progress: Value = serde_json::from_slice(&written.value).expect("progress is JSON");
    let settled_ms = progress["settled_ms"].as_i64().expect("it says when");
    progress["settled_ms"] = (settled_ms - 10 * DAY_MS).into();
    small.write("progress", &written.key, progress.to_string().as_bytes());
    small.write("reference", b"people:3", br#"{"document":{"N":3,"NAME":"B 3"}}"#);
    small.write("reference", b"people:", br#"{"feed":"1f"}"#);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("holds no whole snapshot of each source"), "{said}");
    assert_eq!(small.read("lead").len(), leads, "it has fenced nobody");
    engine.signal(Signal::SIGCONT);
    small.produce(0, 5..6);
    wait_for("it to go on", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        small.names().contains_key(&5) && small.names()[&3] == "B 3"
    });
}

#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn start_whose_rival_dies_leads_in_its_stead() {
    let small = Small::new("rivals");
    small.produce(0, 0..5);
    // One has taken the lead's id when another takes it, writes that it leads, and dies.
    let waits = ("FAILPOINTS", "lead-before=1*sleep(4000)");
    let mut first = small.begin("run", &[], &[waits]);
    wait_for("it to have the id", PATIENCE, || small.has_taken("rivals-lead"));
    let dies = ("FAILPOINTS", "lead-after=panic");
    let mut rival = small.begin("run", &[], &[dies]);
    wait_for("the rival to die", PATIENCE, || rival.code().is_some());
    assert!(!first.said().contains("begins again"), "it took longer to die: {}", first.said());
    wait_for("the first to lead", PATIENCE, || {
        assert_eq!(first.code(), None, "{}", first.said());
        small.read("all").len() == 5
    });
    assert!(first.said().contains("begins again"), "{}", first.said());
    let lead = small.read("lead").pop().expect("one of each");
    let lead: Value = serde_json::from_slice(&lead.value).expect("it is JSON");
    assert_eq!(lead["generation"], 2, "it follows the rival's");
}

#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn engine_that_was_cut_off_from_the_log_for_too_long_writes_nothing_of_what_follows() {
    let small = Small::with_people("cut_off");
    small.feed(0..10, "A");
    small.produce(0, 0..5);
    let jumps = ("FAILPOINTS", "clock-jumps=1*off->return");
    let mut engine = small.begin("run", &[], &[jumps]);
    wait_for("its records", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        small.read("all").len() == 5
    });
    let written = |small: &Small| (small.read("all").len(), small.read("progress").len());
    wait_for("nothing to be owed", PATIENCE, || small.owes_nothing(1));
    let before = written(&small);
    small.feed(0..9, "B");
    wait_for("it to end", PATIENCE, || engine.code().is_some());
    // Whoever supervises it starts it again.
    assert_eq!(engine.code(), Some(1), "{}", engine.said());
    let said = engine.said();
    assert!(said.contains("was not read to its end for nearly as long as"), "{said}");
    assert_eq!(written(&small), before, "{said}");
    let mut engine = small.start(&[]);
    wait_for("what is now", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        small.names().values().all(|name| name.starts_with("B "))
    });
}

#[test]
fn progress_that_later_starts_have_passed_is_gone() {
    let small = Small::new("passed");
    for start in 0..4 {
        small.produce(0, 5 * start..5 * start + 5);
        small.run_until(5 * start as usize + 5, &["--workers", "2"]);
    }
    let mut stands = std::collections::BTreeMap::new();
    let topic = small.topic("progress");
    for record in crate::topics::read(&crate::stack::Stack::get().brokers, &topic) {
        stands.insert(record.key, record.value.is_empty());
    }
    let left: Vec<_> = stands.iter().filter(|(_, is_gone)| !**is_gone).collect();
    // Of each start that was killed one of its two writers may have been behind.
    let starts: std::collections::BTreeSet<u8> = stands.keys().map(|key| key[0]).collect();
    assert_eq!(starts, (b'1'..=b'4').collect(), "each start has written: {stands:?}");
    assert!(left.len() < stands.len() && left.len() <= 5, "{left:?} of {stands:?}");
}
