//! State that an elder build has left is read by this one: the archive, and the records of the
//! topics that starts rest on (`tests/data/state-v1`). What a later build has left is refused.
//!
//! `WRITE_STATE=tests/data/state-v2 cargo test --release --test end_to_end state -- --nocapture`
//! writes that of another version; what stands is never written again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tributary::{
    archive::{ArchiveError, Archived, Manifest, Store, reader::verify},
    config::ArchiveConfig,
    progress::{Accepted, Lead, Pointer, Progress, Recovery},
    reference::{Projector, log},
    spec::Spec,
};

use crate::{
    game::{text, wait_for},
    small::{PATIENCE, Small},
    stack::{Stack, project},
    topics::{Seen, read},
};

const NAME: &str = "state_v1";
const EVENTS: u32 = 40;

/// The topics whose records are kept.
const TOPICS: [&str; 4] = ["lead", "progress", "reference", "all"];

fn folder() -> PathBuf {
    project("tests/data/state-v1")
}

fn store(place: &Path) -> Arc<Store> {
    Arc::new(Store::open(&ArchiveConfig::in_folder(text(place)), NAME).expect("a folder"))
}

fn records(topic: &str) -> Vec<(String, Vec<u8>)> {
    let lines = fs::read_to_string(folder().join(format!("{topic}.ndjson"))).expect("it is kept");
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).expect("records are JSON");
        let part = |name: &str| record[name].as_str().expect("it has both").to_owned();
        (part("key"), part("value").into_bytes())
    };
    lines.lines().map(record).collect()
}

/// Writes the state that this build leaves.
fn write(to: &Path) {
    let mut small = Small::with_people(NAME);
    let place = to.join("archive");
    fs::create_dir_all(&place).expect("a folder");
    let config = small.folder.path().join("place.toml");
    let lines = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[archive]\nplace = \"{}\"\nevery = \"100ms\"\n",
        Stack::get().brokers,
        text(&place)
    );
    fs::write(&config, lines).expect("a file");
    small.at = ["--config".to_owned(), text(&config).to_owned()];
    small.feed(0..EVENTS, "Person");
    for half in 0..2 {
        small.produce(0, half * EVENTS / 2..(half + 1) * EVENTS / 2);
        let mut engine = small.start(&[]);
        wait_for("all to be archived and written", PATIENCE, || {
            let bound = |m: Manifest| m.events.partitions[0].bound().offset;
            let archived = Manifest::newest(&store(&place)).expect("it can be read").map(bound);
            let all = u64::from((half + 1) * EVENTS / 2);
            archived == Some(all) && small.read("all").len() as u64 >= all
        });
        engine.signal(Signal::SIGTERM);
        engine.ended(0);
    }
    let (code, said) =
        small.tributary(&["backfill", "--as", "state_v1_2", "--until", "2100-01-01"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = small.tributary(&["promote", "--as", "state_v1_2"]);
    assert_eq!(code, Some(0), "{said}");
    fs::copy(small.folder.path().join("spec.toml"), to.join("spec.toml")).expect("a file");
    for topic in TOPICS {
        let record = |record: Seen| {
            let part = |bytes| String::from_utf8(bytes).expect("it is text");
            json!({ "key": part(record.key), "value": part(record.value) })
        };
        let lines: String =
            small.read(topic).into_iter().map(|seen| format!("{}\n", record(seen))).collect();
        fs::write(to.join(format!("{topic}.ndjson")), lines).expect("a file");
    }
}

#[test]
fn state_of_an_elder_build_is_read_and_that_of_a_later_one_refused() {
    if let Ok(to) = std::env::var("WRITE_STATE") {
        return write(&project(&to));
    }
    let spec = Arc::new(Spec::load(&folder().join("spec.toml")).expect("it is sound"));
    // What starts rest on.
    let newest = |key: &str| records("lead").into_iter().rfind(|(of, _)| of == key);
    let (_, lead) = newest("lead").expect("there was a start");
    let known = Lead::parse("lead", 0, &lead).expect("it is read");
    assert_eq!((known.generation, known.shards, &*known.dataflow), (2, spec.shards, NAME));
    assert_eq!(known.events_from, [0, 0]);
    let (_, pointer) = newest("readers").expect("readers were switched");
    let pointer = Pointer::parse("lead", 0, &pointer).expect("it is read");
    assert_eq!((&*pointer.dataflow, &*pointer.before), ("state_v1_2", NAME));
    let progress = records("progress").into_iter().map(|(_, value)| value);
    let progress: Vec<Progress> =
        progress.map(|value| Progress::parse("progress", 0, &value).expect("it is read")).collect();
    let recovery = Recovery::of(&progress, spec.shards, &Accepted::default()).expect("it is sound");
    assert!(!recovery.is_empty() && !recovery.epochs.contains(&0));
    let projector = Projector::new(Arc::clone(&spec));
    let documents = records("reference").into_iter().filter(|(key, value)| {
        let said = log::read(key.as_bytes(), Some(value), &projector).expect("it is read");
        matches!(said, log::Said::Document(_))
    });
    assert_eq!(documents.count(), EVENTS as usize);
    // The archive holds each event.
    let place = tempfile::tempdir().expect("a folder");
    copy(&folder().join("archive"), place.path());
    let held = store(place.path());
    let manifest = Manifest::newest(&held).expect("it is read").expect("there is one");
    manifest.segments().for_each(|segment| verify(&held, segment).expect("it is whole"));
    let partition = &manifest.events.partitions[0];
    let mut archived = Archived::new(Arc::clone(&held), partition, 0, partition.bound().offset);
    for id in 0..EVENTS {
        let record = archived.next_record().expect("it is read").expect("it is there");
        assert_eq!((record.offset, record.value), (u64::from(id), Some(&Small::event(id).1[..])));
    }
    assert!(archived.next_record().expect("it is read").is_none());
    // A start reads it, where the topic has nothing of it any more.
    starts_from(place.path(), &manifest);
    // What a later build writes is none of this one's.
    let later = Lead { form: known.form + 1, ..known };
    let said = Lead::parse("lead", 0, &later.to_json()).expect_err("it is of another").to_string();
    assert!(said.contains("a later version of tributary") && said.contains("run that version"));
    let number = Manifest::numbers(&held).expect("they can be listed").len() as u64 + 7;
    let later = Manifest { form: manifest.form + 1, number, ..manifest };
    assert!(later.create(&held).expect("it can be written"));
    let error = Manifest::newest(&held).expect_err("it is of another");
    assert!(matches!(error, ArchiveError::Later { .. }), "{error}");
    assert!(error.to_string().contains("run that version"), "{error}");
}

/// Starts an engine over an archive that an elder build has written, of a topic that is emptied.
fn starts_from(place: &Path, manifest: &Manifest) {
    let small = Small::of(NAME, &fs::read_to_string(folder().join("spec.toml")).expect("kept"));
    small.produce(0, 0..EVENTS);
    small.truncate(0, i64::from(EVENTS));
    // The topic is another one than that build had, and known by its identity.
    let topics = tributary_ids(&small);
    let store = store(place);
    let mut manifest = manifest.clone();
    manifest.number += 1;
    manifest.events.id = topics;
    assert!(manifest.create(&store).expect("it can be written"));
    for (key, value) in records("reference") {
        small.write("reference", key.as_bytes(), &value);
    }
    let archive = text(place).to_owned();
    let mut engine = small.start(&["--archive", &archive]);
    wait_for("what the elder build wrote", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        small.read("all").len() >= EVENTS as usize
    });
    let newest = |records: Vec<(String, Vec<u8>)>| {
        records.into_iter().collect::<std::collections::BTreeMap<_, _>>()
    };
    let found = read(&Stack::get().brokers, &small.topic("all")).into_iter();
    let found = found.map(|seen| (String::from_utf8(seen.key).expect("text"), seen.value));
    assert_eq!(newest(found.collect()), newest(records("all")));
    small.produce(0, EVENTS..EVENTS + 1);
    wait_for("what comes", PATIENCE, || small.read("all").len() > EVENTS as usize);
}

/// The identity of the topic of events.
fn tributary_ids(small: &Small) -> String {
    let properties = tributary::config::KafkaConfig {
        brokers: vec![Stack::get().brokers.clone()],
        ..Default::default()
    };
    let properties = properties.properties().expect("it is sound");
    let kafka = tributary::kafka::Kafka::new(properties, "state");
    let found = kafka.asker().expect("a client").identities(&[small.events()]);
    found.expect("the broker answers").remove(0).1
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("it has one"));
        if path.is_dir() {
            fs::create_dir_all(&to).expect("a folder");
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("a file");
        }
    }
}
