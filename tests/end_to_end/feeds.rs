//! The file feed: one of a source at a time, and what it leaves in the log.

use std::{collections::BTreeMap, fs, io::Write};

use crate::{
    game::wait_for,
    small::{Engine, PATIENCE, Small},
    stack::Stack,
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

#[test]
fn snapshot_deletes_what_it_does_not_name_unless_a_line_was_refused() {
    let small = Small::with_people("snapshots");
    let path = small.folder.path().join("people").display().to_string();
    let feed = |text: String| {
        fs::write(&path, text).expect("a file");
        let (code, said) = small.tributary(&["feed", "--once", "--documents", &path]);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let known = || {
        let mut known = BTreeMap::new();
        for record in small.read("reference") {
            match record.value.is_empty() {
                true => drop(known.remove(&record.key)),
                false => drop(known.insert(record.key, record.value)),
            }
        }
        let documents = known.into_keys().map(|key| String::from_utf8(key).expect("it is text"));
        documents.filter(|key| key != "people:").collect::<Vec<_>>().join(" ")
    };
    feed((1..=4).map(|n| line(n, "A")).collect());
    assert_eq!(known(), "people:1 people:2 people:3 people:4");
    // Half a line, one that is too long, and a last one without an end.
    let long = line(2, &"A".repeat(2 << 20));
    let said = feed(line(1, "B") + &long + "{\"_id\":\"3\",\"_sou\n" + line(5, "A").trim_end());
    assert!(
        said.contains("(2 refused)") && said.contains("2 documents that are not named"),
        "{said}"
    );
    assert_eq!(known(), "people:1 people:2 people:3 people:4 people:5");
    let said = feed(line(1, "B") + &line(5, "A"));
    assert!(said.contains("3 deleted"), "{said}");
    assert_eq!(known(), "people:1 people:5");
    // A line that has no end yet may be the one that names a document.
    fs::write(&path, line(1, "B") + line(5, "A").trim_end()).expect("a file");
    let follows = small.begin("feed", &["--documents", &path], &[]);
    wait_for("the snapshot", PATIENCE, || {
        follows.said().contains("1 documents that are not named")
    });
    assert_eq!(known(), "people:1 people:5");
}

#[test]
fn snapshot_that_would_delete_much_waits_for_the_operators_word() {
    let small = Small::with_people("halved");
    small.feed(0..100, "A");
    let path = small.folder.path().join("people").display().to_string();
    fs::write(&path, (0..79).map(|n| line(n, "A")).collect::<String>()).expect("a file");
    let feed = ["feed", "--once", "--documents", &path];
    let (code, said) = small.tributary(&feed);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("21 of 100 are gone") && said.contains("--accept-diff"), "{said}");
    let gone = || small.read("reference").iter().filter(|record| record.value.is_empty()).count();
    assert_eq!(gone(), 0);
    let (code, said) = small.tributary(&[&feed[..], &["--accept-difference"]].concat());
    assert!(code == Some(0) && said.contains("21 deleted"), "{said}");
    assert_eq!(gone(), 21);
}

#[test]
fn what_no_column_can_take_comes_into_no_log() {
    let small = Small::with_people("unasked");
    let path = small.folder.path().join("people").display().to_string();
    let secret = "{\"_id\":\"1\",\"_source\":{\"N\":1,\"NAME\":{\"mother\":\"Secret\"}}}\n";
    fs::write(&path, secret).expect("a file");
    let (code, said) = small.tributary(&["feed", "--once", "--documents", &path]);
    assert_eq!(code, Some(0), "{said}");
    let records = small.read("reference");
    let document = records.iter().find(|record| record.key == b"people:1").expect("it is written");
    assert_eq!(document.value, b"{\"document\":{\"N\":1}}");
}

#[test]
fn sources_that_a_lookup_names_are_waited_for_and_the_first_of_them_counts_most() {
    let small = Small::with_people_from("ranked", "[\"second\", \"first\"]");
    small.produce(0, 0..10);
    small.feed_from("first", 0..8, "F");
    small.write("reference", b"other:9", br#"{"document":{"N":9,"NAME":"O"}}"#);
    small.write("reference", b"other:", br#"{"complete":true}"#);
    let mut engine = small.start(&[]);
    wait_for("it to say what it waits for", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        engine.said().contains("waits for the first snapshot; a feed (`tributary feed`) makes it")
    });
    assert!(engine.said().contains("sources=\"second\""), "{}", engine.said());
    assert!(small.read("all").is_empty(), "nothing goes out before that");
    small.feed_from("second", 5..10, "S");
    let of = |ids: [std::ops::Range<u64>; 2]| -> BTreeMap<u64, String> {
        let [first, second] = ids.map(|ids| move |id: &u64| ids.contains(id));
        let name = |id: u64| match id {
            id if second(&id) => format!("S {id}"),
            id if first(&id) => format!("F {id}"),
            _ => String::new(),
        };
        (0..10).map(|id| (id, name(id))).collect()
    };
    wait_for("the records", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        small.names().len() == 10
    });
    assert_eq!(small.names(), of([0..8, 5..10]));
    assert_eq!(small.read("all").len(), 10, "each at once as it is");
    // Where the one that counts most knows a document no more, the next has it.
    small.feed_from("second", 7..10, "S");
    wait_for("the corrections", PATIENCE, || small.names() == of([0..8, 7..10]));
    assert_eq!(small.read("all").len(), 12);
}

#[test]
fn log_that_does_not_keep_what_a_spec_takes_is_not_read_and_not_cut_down() {
    let narrow = Small::with_people("narrow");
    narrow.feed(0..500, "A");
    // Another dataflow over the same log, which takes one column more.
    let mut wide = Small::with_people("wide");
    let spec = wide.folder.path().join("spec.toml");
    let text = fs::read_to_string(&spec).expect("a spec");
    let more = "[lookups.person.columns]\nMORE = { type = \"text\", path = \"MORE[0].is\" }\n";
    fs::write(&spec, text.replace("[lookups.person.columns]\n", more)).expect("a spec");
    let config = wide.folder.path().join("kafka.toml");
    let place = format!(
        "[kafka]\nbrokers = [\"{}\"]\nreference = \"narrow_reference\"\n",
        Stack::get().brokers
    );
    fs::write(&config, place).expect("a file");
    wide.at = ["--config".to_owned(), config.display().to_string()];
    wide.produce(0, 0..500);
    let (code, said) = wide.tributary(&["run"]);
    assert_eq!(code, Some(5), "{said}");
    let lacking = "does not hold MORE[0].is of the documents of source \"people\"";
    assert!(said.contains(lacking), "{said}");
    assert!(wide.read("all").is_empty());
    // Fed with its spec the log holds enough for both,
    wide.feed(0..500, "B");
    wide.run_until(500, &[]);
    // and is not cut down to what the other takes, unless somebody says so.
    let path = narrow.folder.path().join("people.ndjson").display().to_string();
    let feed = ["feed", "--once", "--documents", &path];
    let (code, said) = narrow.tributary(&feed);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("keeps MORE[0].is of the documents"), "{said}");
    // It changes each document, so that all are written as they are then.
    fs::write(&path, fs::read_to_string(&path).expect("a file").replace("A ", "C ")).expect("it");
    let (code, said) = narrow.tributary(&[&feed[..], &["--accept-difference"]].concat());
    assert_eq!(code, Some(0), "{said}");
    // Of what was cut down nothing goes out,
    let (code, said) = wide.tributary(&["run", "--epoch-lines", "10"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(lacking), "{said}");
    assert_eq!(wide.read("all").len(), 500);
    // and once it is whole again it is read on, past what was cut down in between.
    wide.feed(0..500, "D");
    let mut engine = wide.start(&[]);
    let all_of = |name: &str| -> BTreeMap<u64, String> {
        (0..500).map(|id| (id, format!("{name} {id}"))).collect()
    };
    wait_for("what they are called now", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        wide.names() == all_of("D")
    });
    let unnamed = Small::with_people_from("unnamed", "[\"nobody\"]");
    let (code, said) = unnamed.tributary(&feed);
    assert!(code == Some(1) && said.contains("no lookup of the dataflow takes"), "{said}");
}
