//! Loss upstream: each kind stops a start with its name and count, and goes on when told (P8).

use std::collections::BTreeSet;

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, NewPartitions},
};

use crate::{
    game::wait_for,
    small::{PATIENCE, Small, now},
};

#[test]
fn deleted_records_are_named_and_counted() {
    let small = Small::new("truncated");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    small.produce(0, 50..80);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&small.events(), 0, Offset::Offset(60)).expect("a partition");
    let deleted = now(small.admin.delete_records(&before, &AdminOptions::new()));
    deleted.expect("the broker deletes them");
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, Some(1), "{said}");
    let lost =
        "partition 0 of topic \"truncated_events\" has lost 60 offset(s): 0 to 60, of which 10";
    assert!(said.contains(lost) && said.contains("--accept-loss"), "{said}");
    // Of 80 the 10 that were never read are lost.
    small.run_until(70, &["--accept-loss"]);
    small.produce(0, 80..90);
    // What was accepted once is not asked again.
    small.run_until(80, &[]);
}

#[test]
fn topic_that_was_made_again_is_another_one_though_it_was_filled() {
    let small = Small::new("remade");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let deleted = now(small.admin.delete_topics(&[&small.events()], &AdminOptions::new()));
    assert!(deleted.expect("the broker answers")[0].is_ok());
    small.make(2);
    small.produce(0, 100..200);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, Some(1), "{said}");
    let other = "topic \"remade_events\" is another one than the outputs were made from";
    assert!(said.contains(other) && said.contains("50 offset(s)"), "{said}");
    small.run_until(150, &["--accept-loss"]);
}

#[test]
fn new_partitions_of_the_events_wait_for_the_operators_word() {
    let small = Small::new("widened");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let topic = small.events();
    let more = NewPartitions::new(&topic, 3);
    let made = now(small.admin.create_partitions([&more], &AdminOptions::new()));
    assert!(made.expect("the broker answers")[0].is_ok());
    small.produce(2, 50..60);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has 3 partitions and had 2") && said.contains("--accept-"), "{said}");
    small.run_until(60, &["--accept-partitions"]);
    // Now keys move: equal ones may come by two partitions.
    small.produce(2, 0..50);
    small.produce(0, 60..61);
    small.run_until(61, &[]);
    small.produce(1, 55..62);
    small.run_until(62, &[]);
    let keys: BTreeSet<Vec<u8>> = small.read("all").into_iter().map(|record| record.key).collect();
    assert_eq!((keys.len(), small.read("all").len()), (62, 62), "an ID stands twice");
    let (code, said) = small.tributary(&["status", "--json"]);
    assert!(code == Some(0) && said.contains("\"dedupe\":\"shard\""), "{said}");
}

#[test]
fn topic_that_goes_while_it_is_read_stops_the_engine() {
    let small = Small::new("gone");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let mut engine = small.start(&[]);
    wait_for("the engine to go on", PATIENCE, || engine.said().contains("replayed"));
    let deleted = now(small.admin.delete_topics(&[&small.events()], &AdminOptions::new()));
    assert!(deleted.expect("the broker answers")[0].is_ok());
    wait_for("the engine to end", PATIENCE, || engine.code().is_some());
    let (code, said) = (engine.code(), engine.said());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("gone_events"), "{said}");
}
