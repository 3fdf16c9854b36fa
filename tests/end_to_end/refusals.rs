//! Starts that are refused, since what is there does not fit what was written: each says what it is
//! and what to do, ends with exit code 5, and writes nothing.

use std::fs;

use crate::{
    game::wait_for,
    small::{PATIENCE, Small},
};

/// A start is refused with these words; nothing that is written moves.
fn refused(small: &Small, options: &[&str], words: &[&str]) {
    let before = (small.read("all").len(), small.read("lead").len());
    let (code, said) = small.tributary(&[&["run"], options].concat());
    assert_eq!(code, Some(5), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    let now = (small.read("all").len(), small.read("lead").len());
    assert_eq!(before.0, now.0, "{said}");
    assert!(now.1 <= before.1 + 1, "{said}");
}

#[test]
fn outputs_that_somebody_else_filled_are_left_alone() {
    let small = Small::new("filled");
    small.produce(0, 0..5);
    small.write("all", b"7", b"{\"ID\":7}");
    refused(&small, &[], &["topic \"filled_all\" holds records, and no progress says", "name"]);
    // It is no word of an operator that makes them this dataflow's own.
    refused(&small, &["--accept-loss"], &["topic \"filled_all\" holds records"]);
}

#[test]
fn setting_on_which_a_promise_rests_is_named_with_the_command_that_mends_it() {
    let small = Small::new("unfit");
    small.alter(&small.topic("progress"), &[("cleanup.policy", "delete")]);
    let words = [
        "topic \"unfit_progress\" has cleanup.policy = delete and needs compact",
        "kafka-configs --alter --entity-type topics --entity-name unfit_progress --add-config \
         cleanup.policy=compact",
        "message.timestamp.type=LogAppendTime",
    ];
    refused(&small, &[], &words);
    let (code, said) = small.tributary(&["init", "--event-partitions", "2"]);
    assert!(code == Some(1) && said.contains(words[0]), "{said}");
}

#[test]
fn events_are_neither_compacted_nor_under_a_horizon_dated_by_who_makes_them() {
    let small = Small::with("dated", "horizon = \"36500d\"\n");
    // What is not given stands as the broker has it: CreateTime.
    small.alter(&small.events(), &[("cleanup.policy", "compact")]);
    let words = [
        "topic \"dated_events\" has cleanup.policy = compact and needs delete",
        "topic \"dated_events\" has message.timestamp.type = CreateTime and needs LogAppendTime",
    ];
    refused(&small, &[], &words);
    small.alter(&small.events(), &[("message.timestamp.type", "LogAppendTime")]);
    small.produce(0, 0..5);
    small.run_until(5, &[]);
}

#[test]
fn dead_letters_must_be_able_to_hold_what_the_events_can() {
    let small = Small::new("narrow");
    let events = small.events();
    small.alter(&events, &[("max.message.bytes", "10000000")]);
    let words = [
        "topic \"narrow_dead_letters\" has max.message.bytes",
        "a record that is too long for an event must fit",
    ];
    refused(&small, &[], &words);
}

#[test]
fn events_that_go_in_time_are_told() {
    let small = Small::new("fading");
    let warning = "topic \"fading_events\" deletes its records in time (retention.ms = 604800000)";
    let (code, said) = small.tributary(&["init", "--event-partitions", "2"]);
    assert!(code == Some(0) && !said.contains("deletes its records"), "{said}");
    small.alter(&small.events(), &[("retention.ms", "604800000")]);
    let (code, said) = small.tributary(&["init", "--event-partitions", "2"]);
    assert!(code == Some(0) && said.contains(warning), "{said}");
    small.produce(0, 0..5);
    let engine = small.start(&[]);
    wait_for("its records", PATIENCE, || small.read("all").len() == 5);
    let said = engine.said();
    assert!(said.contains(warning) && !said.contains("fading_dead_letters"), "{said}");
}

#[test]
fn changed_spec_needs_new_outputs() {
    let small = Small::new("changed");
    small.produce(0, 0..5);
    small.run_until(5, &[]);
    let path = small.folder.path().join("spec.toml");
    let spec = fs::read_to_string(&path).expect("a spec");
    fs::write(&path, spec.replace("shards = 4", "shards = 8")).expect("a file");
    refused(&small, &[], &["shards was 4, and is 8", "`tributary backfill SPEC --as NAME`"]);
    let other = spec.replace("0..1000000", "0..2000000");
    fs::write(&path, &other).expect("a file");
    let told = "events, column \"ID\": range was \"0..1000000\", and is \"0..2000000\"";
    refused(&small, &[], &[told, "needs a whole backfill"]);
    // One that says the same in other words goes on.
    fs::write(&path, format!("# The same.\n{}", spec.replace("shards = 4", "shards =   4")))
        .expect("a file");
    small.produce(0, 5..6);
    small.run_until(6, &[]);
    // And so does the first again.
    fs::write(&path, spec).expect("a file");
    small.produce(0, 6..7);
    small.run_until(7, &[]);
}

#[test]
fn lead_record_that_is_gone_is_missed() {
    let small = Small::new("leaderless");
    small.produce(0, 0..5);
    small.run_until(5, &[]);
    small.delete(&small.topic("lead"));
    crate::game::wait_for("the topic to be made", crate::small::PATIENCE, || {
        small.tributary(&["init", "--event-partitions", "2"]).0 == Some(0)
    });
    refused(&small, &[], &["topic \"leaderless_lead\" holds nothing, and progress says"]);
}

#[test]
fn progress_that_another_program_wrote_is_none() {
    let small = Small::new("scribbled");
    small.produce(0, 0..5);
    small.run_until(5, &[]);
    small.write("progress", b"note", b"all is well");
    refused(&small, &[], &["topic \"scribbled_progress\"", "none that tributary writes"]);
}
