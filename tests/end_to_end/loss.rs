//! Loss upstream: each kind stops a start with its name and count, and goes on when told (P8).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use nix::sys::signal::Signal;
use rdkafka::{
    ClientConfig,
    admin::{AdminOptions, NewPartitions},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;

use crate::{
    game::wait_for,
    small::{Engine, PATIENCE, Small, now},
    supervise::children,
};

/// What an end means that waits for the operator.
const FOR_OPERATOR: Option<i32> = Some(5);

#[test]
fn deleted_records_are_named_and_counted() {
    let small = Small::new("truncated");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    small.produce(0, 50..80);
    small.truncate(0, 60);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
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
fn start_that_is_refused_leaves_the_one_in_force_alone() {
    let small = Small::new("alone");
    small.produce(0, 0..50);
    let mut engine = small.start(&[]);
    wait_for("the records", PATIENCE, || small.read("all").len() == 50);
    small.truncate(0, 30);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    assert!(said.contains("has lost 30 offset(s): 0 to 30, of which 0"), "{said}");
    small.produce(0, 50..60);
    wait_for("more records", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on");
        small.read("all").len() == 60
    });
}

#[test]
fn records_that_go_before_they_are_read_stop_the_engine() {
    let small = Small::new("overrun");
    small.produce(0, 0..50);
    let mut engine = small.start(&[]);
    wait_for("the records", PATIENCE, || small.read("all").len() == 50);
    engine.signal(Signal::SIGSTOP);
    // Some may be on their way to it.
    small.produce(0, 50..51);
    for id in 51..200 {
        small.produce(0, id..id + 1);
    }
    small.truncate(0, 200);
    engine.signal(Signal::SIGCONT);
    let said = engine.ended(1);
    assert!(said.contains("overrun_events") && said.contains("start again"), "{said}");
    let held = small.read("all").len();
    assert!((50..200).contains(&held), "{held} records");
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    let lost = format!("has lost 200 offset(s): 0 to 200, of which {}", 200 - held);
    assert!(said.contains(&lost), "{held} are held: {said}");
    small.produce(0, 200..210);
    small.run_until(held + 10, &["--accept-loss"]);
}

#[test]
fn topic_that_was_made_again_is_another_one_though_it_was_filled() {
    let small = Small::new("remade");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    small.remake(2);
    small.produce(0, 100..200);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    let other = "topic \"remade_events\" is another one than the outputs were made from";
    assert!(said.contains(other) && said.contains("50 offset(s)"), "{said}");
    small.run_until(150, &["--accept-loss"]);
}

/// Two workers, of which one commits after the loss was accepted and the other does not.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn loss_that_was_accepted_is_known_to_who_was_not_there() {
    for more in [0, 200] {
        let small = Small::new(&format!("halfway_{more}"));
        small.produce(0, 0..100);
        small.run_until(100, &["--workers", "2"]);
        small.remake(2);
        // Less than was read of the old one, or more.
        small.produce(0, 1_000..1_050 + more);
        // The first worker that has something writes it; from then on nobody comes so far.
        let waits = ("FAILPOINTS", "progress-before=1*off->pause");
        let options = ["--workers", "2", "--accept-loss"];
        let mut engine = small.begin("run", &options, &[waits]);
        wait_for("one of two to commit", PATIENCE, || {
            assert_eq!(engine.code(), None, "it goes on");
            let progress = small.read("progress").into_iter().map(|record| {
                let said: Value = serde_json::from_slice(&record.value).expect("progress is JSON");
                (said["generation"].as_u64(), said["worker"].as_u64())
            });
            progress.filter(|(start, _)| *start == Some(2)).count() == 1
        });
        engine.signal(Signal::SIGKILL);
        drop(engine);
        // No word is needed: it was given, and stands.
        small.run_until(150 + more as usize, &["--workers", "2"]);
        let keys: BTreeSet<Vec<u8>> = small.read("all").into_iter().map(|r| r.key).collect();
        let records = small.read("all").len();
        assert_eq!((keys.len(), records), (150 + more as usize, 150 + more as usize));
    }
}

#[test]
fn log_that_was_cut_and_filled_anew_is_another_one_though_its_topic_is_the_same() {
    let small = Small::new("refilled");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    // As if the record that was read last had been another one.
    let written = small.read("progress").pop().expect("it has committed");
    let mut progress: Value = serde_json::from_slice(&written.value).expect("progress is JSON");
    let last = &mut progress["events"]["bounds"][0][3];
    assert!(last.is_string(), "the hash of the record before the bound");
    *last = "0123456789abcdef".into();
    small.write("progress", &written.key, progress.to_string().as_bytes());
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    assert!(said.contains("cut and filled anew, and 50 offset(s)"), "{said}");
    // All that it holds is new.
    small.run_until(100, &["--accept-loss"]);
    small.produce(0, 50..60);
    small.run_until(110, &[]);
}

/// A broker that was behind came to lead: the log ends before what was read of it.
#[test]
fn log_whose_end_is_gone_is_noticed() {
    let small = Small::new("shortened");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let written = small.read("progress").pop().expect("it has committed");
    let mut progress: Value = serde_json::from_slice(&written.value).expect("progress is JSON");
    let bound = &mut progress["events"]["bounds"][0];
    assert_eq!((&bound[0], &bound[1]), (&50.into(), &49.into()));
    (bound[0], bound[1]) = (80.into(), 79.into());
    small.write("progress", &written.key, progress.to_string().as_bytes());
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    let loss = "has lost 30 offset(s): 50 to 80, which were read: it ends before them";
    assert!(said.contains(loss), "{said}");
    // All that it holds counts as new, what it is given next too.
    small.produce(0, 50..60);
    small.run_until(110, &["--accept-loss"]);
    small.produce(0, 60..70);
    small.run_until(120, &[]);
    assert_eq!(small.read("all").len(), 120);
}

/// What each record says last, by ID.
fn names(small: &Small) -> BTreeMap<u64, Option<String>> {
    let mut newest = BTreeMap::new();
    for record in small.read("all") {
        let columns: Value = serde_json::from_slice(&record.value).expect("it is JSON");
        let id = columns["ID"].as_u64().expect("every record has one");
        newest.insert(id, columns["NAME"].as_str().map(str::to_owned));
    }
    newest
}

fn remake_reference(small: &Small) {
    small.delete(&small.topic("reference"));
    wait_for("the topic to be made", PATIENCE, || {
        small.tributary(&["init", "--event-partitions", "2"]).0 == Some(0)
    });
}

/// A mark says that all documents stand before it.
#[test]
fn feed_that_outlives_its_log_says_nothing_in_another_one() {
    let small = Small::with_people("outlived");
    let path = small.folder.path().join("documents").display().to_string();
    fs::write(&path, "{\"_id\":\"1\",\"_source\":{\"N\":1,\"NAME\":\"A\"}}\n").expect("a file");
    let mut feed = small.begin("feed", &["--documents", &path], &[]);
    wait_for("the snapshot", PATIENCE, || {
        let whole = |value: &[u8]| String::from_utf8_lossy(value).contains("\"complete\":true");
        small.read("reference").iter().any(|record| whole(&record.value))
    });
    remake_reference(&small);
    feed.signal(Signal::SIGTERM);
    wait_for("it to end", PATIENCE, || feed.code().is_some());
    let left = small.read("reference");
    assert!(left.is_empty(), "{} records: {}", left.len(), feed.said());
}

#[test]
fn reference_log_that_was_made_again_is_another_one() {
    let small = Small::with_people("forgot");
    small.feed(0..20, "A");
    small.produce(0, 0..20);
    small.run_until(20, &[]);
    remake_reference(&small);
    // While it is not filled, the documents that there were stand.
    let (code, said) = small.tributary(&["run", "--accept-loss"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    assert!(said.contains("topic \"forgot_reference\" holds no whole snapshot"), "{said}");
    small.feed(0..10, "B");
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    let other = "topic \"forgot_reference\" is another one than the outputs were made from";
    assert!(said.contains(other), "{said}");
    // What is not committed yet is waited for: it is to be among the documents that are taken.
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &small.at[1])
        .set("transactional.id", "a-feed")
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("the broker answers");
    producer.begin_transaction().expect("none is open");
    let (topic, late) = (small.topic("reference"), r#"{"document":{"N":12,"NAME":"late"}}"#);
    let record = BaseRecord::to(&topic).partition(0).key("people:12").payload(late);
    assert!(producer.send(record).is_ok(), "the queue is empty");
    producer.flush(PATIENCE).expect("the broker takes it");
    let written = small.read("all").len();
    // As many records as some epochs take: the last of them brings nothing but that all is sent.
    let mut engine = small.start(&["--accept-loss", "--fuel", "1"]);
    wait_for("the documents to be asked for", PATIENCE, || {
        engine.said().contains("looks whether those that are there can be taken")
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(small.read("all").len(), written, "{}", engine.said());
    producer.commit_transaction(PATIENCE).expect("nothing disturbs it");
    let of = |n: u64| match n {
        ..10 => Some(format!("B {n}")),
        12 => Some("late".to_owned()),
        _ => None,
    };
    let wanted: BTreeMap<u64, Option<String>> = (0..20).map(|n| (n, of(n))).collect();
    wait_for("what the new log says", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on");
        names(&small) == wanted && small.owes_nothing(1)
    });
    let written = small.read("all").len();
    drop(engine);
    let engine = small.start(&[]);
    wait_for("the next start", PATIENCE, || engine.said().contains("replayed"));
    small.produce(0, 20..21);
    wait_for("one more", PATIENCE, || small.read("all").len() > written);
    assert_eq!(small.read("all").len(), written + 1, "nothing else is sent again");
}

#[test]
fn records_that_are_never_corrected_keep_their_documents_through_any_start() {
    let small = Small::with_people_and("never", "corrections = \"never\"\n");
    small.feed(0..20, "A");
    small.produce(0, 0..10);
    small.run_until(10, &[]);
    small.feed(0..20, "B");
    small.produce(0, 10..15);
    small.run_until(15, &["--workers", "2"]);
    remake_reference(&small);
    small.feed(0..20, "C");
    small.produce(0, 15..20);
    let mut engine = small.start(&["--accept-loss"]);
    let ready = |engine: &Engine| engine.said().contains("replayed");
    wait_for("the start", PATIENCE, || ready(&engine) && names(&small).len() == 20);
    // A document that comes later is in records that come later.
    small.feed(0..20, "D");
    small.produce(0, 20..21);
    wait_for("one more", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on");
        names(&small).len() == 21
    });
    for (id, name) in names(&small) {
        let by = ["A", "A", "B", "C", "D"][id as usize / 5];
        assert_eq!(name.is_some_and(|name| name.starts_with(by)), id < 20, "{id}");
    }
    assert_eq!(small.read("all").len(), 21, "each stands as it was written");
}

/// A start that is refused has taken the lead's id, and says nothing of who leads.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn start_whose_id_was_taken_by_one_that_is_refused_goes_on() {
    let small = Small::new("taken");
    small.produce(0, 0..5);
    small.run_until(5, &[]);
    let options = ["--http", "127.0.0.1:0"];
    let waits = [("FAILPOINTS", "lead-before=1*sleep(8000)")];
    let mut engine = small.begin("run", &options, &waits);
    wait_for("the first to have read its spec", PATIENCE, || engine.said().contains("serves HTTP"));
    let path = small.folder.path().join("spec.toml");
    let spec = std::fs::read_to_string(&path).expect("a spec");
    std::fs::write(&path, spec.replace("shards = 4", "shards = 8")).expect("a file");
    // The first of the others may come too early, before the id was taken from which it takes it.
    wait_for("the first to notice", PATIENCE, || {
        let (code, said) = small.tributary(&["run"]);
        assert_eq!(code, FOR_OPERATOR, "{said}");
        engine.said().contains("begins again")
    });
    small.produce(0, 5..6);
    wait_for("the first to go on", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on");
        small.read("all").len() == 6
    });
}

#[test]
fn topic_with_fewer_partitions_than_it_had_is_refused() {
    let small = Small::new("narrowed");
    small.produce(1, 0..50);
    small.run_until(50, &[]);
    small.remake(1);
    let (code, said) = small.tributary(&["run", "--accept-loss", "--accept-partitions"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
    assert!(said.contains("has 1 partitions and had 2"), "{said}");
}

#[test]
fn new_partitions_of_the_events_wait_for_the_operators_word() {
    let small = Small::new("widened");
    small.produce(0, 0..50);
    let mut engine = small.start(&[]);
    wait_for("its records", PATIENCE, || small.read("all").len() == 50);
    let topic = small.events();
    let more = NewPartitions::new(&topic, 3);
    let made = now(small.admin.create_partitions([&more], &AdminOptions::new()));
    assert!(made.expect("the broker answers")[0].is_ok());
    small.produce(2, 50..60);
    // Who runs meanwhile does not read what it knows nothing of, and ends; a start says what it is.
    let said = engine.ended(1);
    assert!(said.contains("given other partitions while it was in use"), "{said}");
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, FOR_OPERATOR, "{said}");
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
    let (code, said) = small.tributary(&["status", "--json", "--seconds", "0"]);
    assert!(code == Some(0) && said.contains("\"dedupe\":\"shard\""), "{said}");
}

#[test]
fn topic_that_goes_while_it_is_read_stops_the_engine() {
    let small = Small::new("gone");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let mut engine = small.start(&[]);
    wait_for("the engine to go on", PATIENCE, || engine.said().contains("replayed"));
    small.delete(&small.events());
    let said = engine.ended(1);
    assert!(said.contains("gone_events"), "{said}");
}

#[test]
fn supervisor_accepts_a_loss_once() {
    let small = Small::new("once");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    small.truncate(0, 10);
    let mut supervisor = small.start(&["--supervise", "--accept-loss"]);
    let commits = small.read("progress").len();
    small.produce(0, 50..60);
    wait_for("the child to commit", PATIENCE, || small.read("progress").len() > commits);
    small.truncate(0, 20);
    nix::sys::signal::kill(children(&supervisor)[0], Signal::SIGKILL).expect("it runs");
    // The next one has no such word, and waits for another.
    let said = supervisor.ended(5);
    assert_eq!(children(&supervisor).len(), 2, "{said}");
    assert!(said.contains("has lost 10 offset(s): 10 to 20, of which 0"), "{said}");
}

/// Waits for an end with this exit code; returns what was said.
#[test]
fn what_is_fetched_before_it_is_asked_for_is_read() {
    let small = Small::new("early");
    small.produce(0, 0..10);
    small.produce(1, 10..20);
    // Whoever is slow between these steps finds that records and ends have come meanwhile.
    let slow = ("FAILPOINTS", "read-assign=sleep(1000);read-assigned=sleep(1000)");
    let mut engine = small.begin("run", &[], &[slow]);
    wait_for("the records", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        small.read("all").len() == 20
    });
}
