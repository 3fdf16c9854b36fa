//! Compaction: of the progress only the last word of each writer stands, and of a document the last
//! that was said more than a week ago; a start goes on from what is left.

use std::collections::BTreeMap;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::{
    game::wait_for,
    small::{PATIENCE, Small},
};

const DAY_MS: i64 = 24 * 3600 * 1000;
const WEEK_MS: &str = "604800000";

/// Settings with which what is old enough is compacted at once, but for what was written last.
const EAGER: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1000"),
    ("min.cleanable.dirty.ratio", "0.001"),
    ("max.compaction.lag.ms", "9223372036854775807"),
];

/// Says of people what they are called, as a feed does, so many days ago.
fn say(small: &Small, producer: &BaseProducer, people: std::ops::Range<u32>, name: &str, ago: i64) {
    let of_log = [("min.compaction.lag.ms", WEEK_MS), ("delete.retention.ms", WEEK_MS)];
    let settings = [&EAGER[..], &of_log, &[("max.message.bytes", "16777216")]].concat();
    let topic = small.topic("reference");
    let of = |times| [&settings[..], &[("message.timestamp.type", times)]].concat();
    small.alter(&topic, &of("CreateTime"));
    small.await_setting(&topic, "message.timestamp.type", "CreateTime");
    let now_ms = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64;
    let write = |key: &str, value: &str| {
        let record = BaseRecord::to(&topic).partition(0).key(key).payload(value);
        assert!(producer.send(record.timestamp(now_ms - ago * DAY_MS)).is_ok(), "there is room");
        producer.flush(PATIENCE).expect("the broker takes it");
    };
    for n in people {
        let document = format!("{{\"document\":{{\"N\":{n},\"NAME\":\"{name} {n}\"}}}}");
        write(&format!("people:{n}"), &document);
    }
    write("people:", "{\"complete\":true,\"feed\":\"1f\"}");
    small.alter(&topic, &of("LogAppendTime"));
}

#[test]
fn start_goes_on_from_what_compaction_has_left() {
    let small = Small::with_people("compacted");
    for topic in ["progress", "lead"] {
        let times = ("message.timestamp.type", "LogAppendTime");
        small.alter(&small.topic(topic), &[&EAGER[..], &[times]].concat());
    }
    let producer = small.producer();
    say(&small, &producer, 0..20, "A", 20);
    // Four starts of two writers, and a commit for each event.
    for start in 0..4 {
        let engine = small.start(&["--workers", "2"]);
        for id in 5 * start..5 * start + 5 {
            small.produce(0, id..id + 1);
            wait_for("its record", PATIENCE, || small.read("all").len() == id as usize + 1);
        }
        drop(engine);
    }
    let called = |end: u64| -> BTreeMap<u64, String> {
        (0..20).map(|n| (n, format!("{} {n}", if n < end { "B" } else { "A" }))).collect()
    };
    assert_eq!(small.names(), called(0));
    // What these said first is gone before anybody reads what they say since.
    say(&small, &producer, 0..10, "B", 10);
    say(&small, &producer, 20..40, "C", 9);
    let firsts = |topic: &str, is_first: &dyn Fn(&str) -> bool| {
        let records = small.read(topic);
        records.iter().filter(|record| is_first(&String::from_utf8_lossy(&record.value))).count()
    };
    wait_for("the log to be compacted", PATIENCE, || {
        firsts("reference", &|value| value.contains("\"A ")) == 10
    });
    wait_for("the lead's topic to be compacted", PATIENCE, || small.read("lead").len() < 4);
    wait_for("the progress to be compacted", PATIENCE, || small.read("progress").len() < 14);
    let slowly = ["--workers", "2", "--fuel", "1"];
    // One that ends amid it does not make the next one take them again.
    if cfg!(feature = "failpoints") {
        let dies = ("FAILPOINTS", "progress-before=3*off->panic");
        let mut first = small.begin("run", &slowly, &[dies]);
        wait_for("it to die", PATIENCE, || first.code().is_some());
        assert!(first.said().contains("takes those that are there"), "{}", first.said());
        assert!(!small.owes_nothing(2), "{}", first.said());
    }
    let before = small.read("all").len();
    let mut engine = small.start(&slowly);
    wait_for("what the log says now", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on: {}", engine.said());
        small.names() == called(10) && small.owes_nothing(2)
    });
    let is_first = !cfg!(feature = "failpoints");
    let takes = engine.said().contains("takes those that are there");
    assert_eq!(takes, is_first, "{}", engine.said());
    let records = small.read("all").len();
    assert!((before + 1..=before + 20).contains(&records), "each is sent once more, at most");
    // Now nothing is owed any more, and the next start sends nothing again.
    drop(engine);
    small.produce(0, 20..21);
    let engine = small.start(&["--workers", "3"]);
    wait_for("one more", PATIENCE, || small.read("all").len() > records);
    assert!(!engine.said().contains("takes those"), "{}", engine.said());
    assert_eq!(small.read("all").len(), records + 1);
}

/// Of a document that was deleted long ago nothing is left, not even that it was: what comes after it
/// in the log is young, and would say that nothing is missed.
#[test]
fn deletion_that_compaction_has_swept_away_is_noticed() {
    let small = Small::with_people("swept");
    let times = ("message.timestamp.type", "LogAppendTime");
    small.alter(&small.topic("progress"), &[&EAGER[..], &[times]].concat());
    let producer = small.producer();
    say(&small, &producer, 0..20, "A", 20);
    // As behind every feed, a marker is the last that stands there.
    small.feed(0..20, "A");
    small.produce(0, 0..20);
    small.run_until(20, &[]);
    wait_for("nothing to be owed", PATIENCE, || small.owes_nothing(1));
    // The engine stands still for ten days, by what its progress says.
    let written = small.read("progress").pop().expect("it has committed");
    let mut progress: Value = serde_json::from_slice(&written.value).expect("progress is JSON");
    let settled_ms = progress["settled_ms"].as_i64().expect("it says when");
    assert!(settled_ms > 0);
    let stands_still = |days: i64, progress: &mut Value| {
        progress["settled_ms"] = (settled_ms - days * DAY_MS).into();
        small.write("progress", &written.key, progress.to_string().as_bytes());
    };
    stands_still(10, &mut progress);
    // While nothing is said meanwhile, nothing is missed.
    small.produce(0, 20..21);
    let engine = small.start(&[]);
    wait_for("one more", PATIENCE, || small.read("all").len() == 21);
    assert!(!engine.said().contains("takes those that are there"), "{}", engine.said());
    drop(engine);
    sweep(&small, &producer, 0..10);
    let newest = small.read("progress").pop().expect("it has committed");
    progress = serde_json::from_slice(&newest.value).expect("progress is JSON");
    stands_still(10, &mut progress);
    small.write("reference", b"people:15", br#"{"document":{"N":15,"NAME":"B 15"}}"#);
    let mut engine = small.start(&[]);
    wait_for("what the log says now", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on: {}", engine.said());
        let names = small.names();
        let of = |id: u64| names.get(&id).map(String::as_str);
        small.owes_nothing(1) && of(3) == Some("") && of(15) == Some("B 15")
    });
    assert!(engine.said().contains("takes those that are there"), "{}", engine.said());
    for (id, name) in small.names() {
        assert_eq!(name.is_empty(), id < 10 || id == 20, "{id}: {name}");
    }
}

/// Deletes people, and waits until compaction has left no trace of them.
fn sweep(small: &Small, producer: &BaseProducer, people: std::ops::Range<u32>) {
    let topic = small.topic("reference");
    let settings = |lag, retention| {
        let of_log = [
            ("min.compaction.lag.ms", lag),
            ("delete.retention.ms", retention),
            ("max.message.bytes", "16777216"),
            ("message.timestamp.type", "LogAppendTime"),
        ];
        [&EAGER[..], &of_log].concat()
    };
    small.alter(&topic, &settings("0", "1"));
    for n in people {
        let key = format!("people:{n}");
        let gone = BaseRecord::<str, [u8]>::to(&topic).partition(0).key(&key);
        assert!(producer.send(gone).is_ok(), "there is room");
        producer.flush(PATIENCE).expect("the broker takes it");
    }
    // What was written last is never swept.
    for n in 100..130 {
        let (key, value) = (format!("people:{n}"), r#"{"document":{"N":999,"NAME":"nobody"}}"#);
        let record = BaseRecord::to(&topic).partition(0).key(&key).payload(value);
        assert!(producer.send(record).is_ok(), "there is room");
        producer.flush(PATIENCE).expect("the broker takes it");
    }
    let is_of = |key: &[u8]| (0..10).any(|n| key == format!("people:{n}").as_bytes());
    wait_for("nothing to be left of them", PATIENCE, || {
        !small.read("reference").iter().any(|record| is_of(&record.key))
    });
    small.alter(&topic, &settings(WEEK_MS, WEEK_MS));
}
