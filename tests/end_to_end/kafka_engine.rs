//! ClickHouse's own road: its Kafka engine reads the view `enriched`. Played with an elder engine, whose
//! Kafka engine works within another process.

use std::{collections::BTreeMap, fs};

use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;

use crate::{
    clickhouse::{Shown, sample},
    game::wait_for,
    small::PATIENCE,
    stack::{ClickHouse, project},
};

const VIEW: &str = "attendance_enriched_kafka";
const KEY: [&str; 1] = ["ID"];

/// Writes records with an epoch as the engine does, whatever they are.
fn write(shown: &Shown, producer: &BaseProducer, key: &str, value: &[u8], epoch: Option<&str>) {
    let topic = shown.small.topic("enriched");
    let headers = epoch.into_iter().fold(OwnedHeaders::new(), |headers, epoch| {
        headers.insert(Header { key: "epoch", value: Some(epoch) })
    });
    let record = BaseRecord::to(&topic).partition(0).key(key).payload(value).headers(headers);
    assert!(producer.send(record).is_ok(), "the queue is empty");
    producer.flush(PATIENCE).expect("the broker takes it");
}

#[test]
fn kafka_engine_shows_each_click_once_whatever_is_delivered_again() {
    let server = ClickHouse::with(&["--engine", "26.1"]);
    let shown = Shown::at("by_engine", server);
    let init = || {
        let (code, said) = shown.small.tributary(&["init", "--kafka-engine"]);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    // One that dies on the way is gone on with.
    if cfg!(feature = "failpoints") {
        let dies = ("FAILPOINTS", "migration-applied=11*off->panic");
        let mut first = shown.small.begin("init", &["--kafka-engine"], &[dies]);
        wait_for("it to die", PATIENCE, || first.code().is_some());
        assert!(first.said().contains("failpoint migration-applied"), "{}", first.said());
    }
    let applied = "kafka_engine/008_attendance_kafka_to_records.sql: ";
    let (first, second) = (init(), init());
    assert!(first.contains(&format!("{applied}applied")), "{first}");
    assert!(second.contains(&format!("{applied}was applied")), "{second}");
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let feed = |changes: &[&str]| {
        let arguments = [&["feed", "--once", "--documents", &documents], changes].concat();
        let (code, said) = shown.small.tributary(&arguments);
        assert_eq!(code, Some(0), "{said}");
    };
    feed(&[]);
    shown.small.send(0, &sample("events"));
    let mut engine = shown.small.start(&["--no-feeds", "--no-load"]);
    let shows = || shown.rows(VIEW, &KEY);
    let says = || shown.said("enriched", &KEY, &[]);
    wait_for("the rows", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        let rows = shows();
        rows.len() > 100 && rows == says()
    });
    let before = shows();
    let changes = project("data/attendance/changes.ndjson").display().to_string();
    feed(&["--changes", &changes]);
    // Each look sees each key once: `rows` holds it against that.
    wait_for("what changed", PATIENCE, || {
        let rows = shows();
        rows != before && rows == says()
    });
    // What is no record of the view stands elsewhere, and what comes behind it is shown.
    drop(engine);
    let after = shows();
    let (key, row) = after.iter().next().expect("there are rows");
    let key: Vec<Value> = serde_json::from_str(key).expect("a list");
    let id = key[0].as_str().expect("a text");
    let newer = |group: &str| {
        let mut row = row.clone();
        row["GROUP_SHORT_TITLE"] = group.into();
        row.to_string()
    };
    let absent = row.as_object().expect("a row").iter().filter(|(name, _)| *name != "STUDENT_ID");
    let absent: BTreeMap<_, _> = absent.collect();
    let absent = serde_json::to_string(&absent).expect("JSON");
    let late = (i64::MAX / 2).to_string();
    let producer = shown.small.producer();
    for (value, epoch) in [
        ("{\"ID\":", Some(&*late)),
        (&*newer("A"), None),
        (&*newer("A"), Some("soon")),
        (&*absent, Some(&*late)),
    ] {
        write(&shown, &producer, id, value.as_bytes(), epoch);
    }
    write(&shown, &producer, "another", newer("A").as_bytes(), Some(&late));
    write(&shown, &producer, id, newer("B").as_bytes(), Some(&late));
    // One that comes later and is older, and one that is gone: this road does not see that.
    write(&shown, &producer, id, newer("C").as_bytes(), Some("1"));
    let topic = shown.small.topic("enriched");
    let gone: BaseRecord<'_, str, [u8]> = BaseRecord::to(&topic).partition(0).key(id);
    assert!(producer.send(gone).is_ok(), "the queue is empty");
    producer.flush(PATIENCE).expect("the broker takes it");
    let is_as_it_was = || {
        let mut rows = shows();
        let changed = rows.get_mut(&serde_json::json!([id]).to_string()).expect("it is there");
        let is_newest = changed["GROUP_SHORT_TITLE"] == "B";
        changed["GROUP_SHORT_TITLE"] = row["GROUP_SHORT_TITLE"].clone();
        is_newest && rows == after
    };
    let errors = || shown.ask("SELECT reason FROM attendance_kafka_errors FINAL ORDER BY offset");
    wait_for("what is behind the bad ones", PATIENCE, || is_as_it_was() && errors().len() == 5);
    let reasons: Vec<String> = errors().iter().map(|row| row["reason"].to_string()).collect();
    for (reason, part) in reasons.iter().zip(["parse", "no header", "no header", "absent", "key"]) {
        assert!(reason.contains(part), "{reasons:?}");
    }
    // All comes again, for another group.
    let config = fs::read_to_string(&shown.small.at[1]).expect("the configuration");
    let config = config.replacen("[clickhouse]\n", "[clickhouse]\nconsumer_group = \"again\"\n", 1);
    fs::write(&shown.small.at[1], config).expect("a configuration");
    for statement in ["DROP VIEW attendance_kafka_to_records", "DROP TABLE attendance_kafka"] {
        shown.ask(statement);
    }
    let count = || shown.ask("SELECT count() AS n FROM attendance_kafka_rows")[0]["n"].as_u64();
    shown.ask("SYSTEM STOP MERGES attendance_kafka_rows");
    let once = count().expect("a number");
    init();
    let all = after.len() as u64;
    wait_for("all to come again", PATIENCE, || {
        assert!(is_as_it_was(), "it shows what it showed");
        count() >= Some(once + all)
    });
    assert!(is_as_it_was());
    assert_eq!(errors().len(), 5);
}

/// Statements that only a server with users carries out are at least such.
#[test]
fn rights_are_statements() {
    let folder = fs::read_dir(project("sql/rights")).expect("the folder");
    let mut count = 0;
    for file in folder {
        let path = file.expect("a file").path();
        let text = fs::read_to_string(&path).expect("it is text");
        assert!(text.contains("Not exercised"), "{}", path.display());
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
        for statement in lines.join("\n").split(';').filter(|part| !part.trim().is_empty()) {
            ClickHouse::get().ask("default", &format!("EXPLAIN AST {statement}"));
            count += 1;
        }
    }
    assert!(count > 20, "{count} statements");
}
