//! The file feed: one of a source at a time, and what it leaves in the log.

use std::{collections::BTreeMap, fs, io::Write};

use crate::{
    game::wait_for,
    small::{Engine, PATIENCE, Small},
};

fn line(n: u32, name: &str) -> String {
    format!("{{\"_id\":\"{n}\",\"_source\":{{\"N\":{n},\"NAME\":\"{name}\"}}}}\n")
}

fn change(n: u32, name: &str) -> String {
    format!("{{\"op\":\"index\",\"_id\":\"{n}\",\"_source\":{{\"N\":{n},\"NAME\":\"{name}\"}}}}\n")
}

#[test]
fn feed_ends_when_its_heir_has_begun() {
    let small = Small::with_people("heirs");
    let path = |name: &str| small.folder.path().join(name).display().to_string();
    let (people, changes) = (path("people"), path("changes"));
    fs::write(&people, line(1, "A") + &line(2, "B")).expect("a file");
    fs::write(&changes, "").expect("a file");
    let options = ["--documents", &people, "--changes", &changes];
    let begin = || {
        let feed = small.begin("feed", &options, &[]);
        wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
        feed
    };
    let mut elder = begin();
    let mut heir = begin();
    assert_eq!(elder.code(), None, "it has nothing to write, and does not know yet");
    let mut file = fs::File::options().append(true).open(&changes).expect("a file");
    file.write_all(change(1, "C").as_bytes()).expect("a file");
    wait_for("the elder to end", PATIENCE, || elder.code().is_some());
    let said = elder.said();
    assert_eq!(elder.code(), Some(4), "{said}");
    assert!(said.contains("another feed of source \"people\" has begun"), "{said}");
    // What it may have been about to write is written by the heir, once.
    file.write_all(change(2, "D").as_bytes()).expect("a file");
    wait_for("the changes", PATIENCE, || {
        let goes_on = |heir: &mut Engine| assert_eq!(heir.code(), None, "{}", heir.said());
        goes_on(&mut heir);
        let mut newest = BTreeMap::new();
        for record in small.read("reference") {
            newest.insert(record.key, String::from_utf8(record.value).expect("it is text"));
        }
        let says = |id: &str, name: &str| newest[id.as_bytes()].contains(name);
        says("people:1", "C") && says("people:2", "D")
    });
    let records = small.read("reference");
    assert_eq!(records.iter().filter(|record| record.key == b"people:1").count(), 2);
    assert_eq!(records.iter().filter(|record| record.key == b"people:2").count(), 2);
}
