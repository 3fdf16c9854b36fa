//! What can happen to an index while a feed follows it: put back, made anew, changed, and slow.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    elasticsearch::{Index, known, known_of, of_index, person, says},
    game::wait_for,
    gateway::{Fault, Gateway},
    secure::{authority, certificate},
    small::{Engine, PATIENCE, Small},
    stack::{Node, Stack},
};

const QUICK: &str = "feed = { look = \"50ms\", delete_after = \"1s\", compare = \"1h\" }\n";

fn goes_on(feed: &mut Engine) {
    assert_eq!(feed.code(), None, "{}", feed.said());
}

/// Writes people of these numbers.
fn write(index: &Index, numbers: std::ops::Range<u32>, name: &str) {
    let people: Vec<_> = numbers.map(|n| (n.to_string(), person(n, name))).collect();
    index.write(people.iter().map(|(id, person)| (&**id, Some(person.clone()))));
}

/// A dataflow over an index of people, and a feed that knows them.
fn fed(name: &str, people: u32) -> (Small, Index, Engine) {
    let (small, index) = of_index(name, QUICK);
    index.make(2);
    write(&index, 0..people, "A");
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the snapshot", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("snapshot complete")
    });
    assert_eq!(known(&small).len(), people as usize);
    (small, index, feed)
}

/// Waits until the feed is held, and says so in these words; nothing is written until the word.
fn await_hold(small: &Small, feed: &mut Engine, words: &str) {
    let before = known(small);
    wait_for("the feed to be held", PATIENCE, || {
        goes_on(feed);
        feed.said().contains(words)
    });
    assert_eq!(known(small), before);
    let (code, said) = small.tributary(&["accept", "people"]);
    assert_eq!(code, Some(0), "{said}");
}

/// It is under its own name again and the same to whoever looks at names, but goes back in time.
#[test]
fn index_that_is_restored_from_a_snapshot_is_held() {
    let (small, index, mut feed) = fed("restored", 50);
    let snapshot = |path: &str, body: &Value| {
        let path = format!("_snapshot/{path}");
        let method =
            if path.ends_with("restore?wait_for_completion=true") { "POST" } else { "PUT" };
        let said = index.ask(method, &path, &body.to_string());
        assert!(said["error"].is_null(), "{said}");
    };
    snapshot("kept", &json!({ "type": "fs", "settings": { "location": "kept" } }));
    let of_it = json!({ "indices": "restored", "include_global_state": false });
    snapshot("kept/one?wait_for_completion=true", &of_it);
    write(&index, 0..10, "B");
    index.write([("49", None)]);
    wait_for("what changed since", PATIENCE, || {
        goes_on(&mut feed);
        known(&small).len() == 49 && known(&small)["9"] == says(9, "B")
    });
    let uuid = || {
        let settings = index.ask("GET", "restored/_settings", "");
        settings["restored"]["settings"]["index"]["uuid"].clone()
    };
    let before = uuid();
    index.ask("POST", "restored/_close", "");
    wait_for("the feed to say that it is closed", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("index_closed_exception")
    });
    snapshot("kept/one/_restore?wait_for_completion=true", &of_it);
    assert_eq!(uuid(), before, "that alone tells nothing");
    await_hold(&small, &mut feed, "11 documents are new or other");
    wait_for("what the snapshot says", PATIENCE, || {
        goes_on(&mut feed);
        let known = known(&small);
        (0..50).all(|n| known.get(&n.to_string()) == Some(&says(n, "A")))
    });
    write(&index, 0..1, "C");
    wait_for("what changes after that", PATIENCE, || {
        goes_on(&mut feed);
        known(&small)["0"] == says(0, "C")
    });
}

#[test]
fn index_that_is_made_again_and_is_empty_deletes_nobody_without_the_word() {
    let (small, index, mut feed) = fed("emptied", 60);
    index.unmake();
    index.make(2);
    await_hold(&small, &mut feed, "0 documents are new or other, 60 of 60 are gone");
    wait_for("what was accepted", PATIENCE, || {
        goes_on(&mut feed);
        known(&small).is_empty()
    });
    write(&index, 3..4, "B");
    wait_for("what comes then", PATIENCE, || known(&small)["3"] == says(3, "B"));
}

/// A mapping says how an index is searched, not what its documents say; what says something else is
/// taken as it is.
#[test]
fn mapping_that_changes_changes_no_document() {
    let (small, index, mut feed) = fed("mapped", 5);
    let of_people = || {
        let records = small.read("reference").into_iter();
        records.filter(|record| record.key != b"people:").count()
    };
    let records = of_people();
    let mapping = json!({ "properties": {
        "N": { "type": "keyword" },
        "NAME": { "type": "object", "enabled": false },
    } });
    let said = index.ask("PUT", "mapped/_mapping", &mapping.to_string());
    assert_eq!(said["acknowledged"], true, "{said}");
    index.write([("1", Some(json!({ "N": 1, "NAME": ["B"], "MORE": { "deep": [1] } })))]);
    write(&index, 7..8, "C");
    wait_for("what comes after that", PATIENCE, || {
        goes_on(&mut feed);
        known(&small).contains_key("7")
    });
    // No column takes a list, so the document says as much as one without it.
    assert_eq!(known(&small)["1"], json!({ "N": 1 }).to_string());
    assert_eq!(known(&small)["2"], says(2, "A"));
    assert_eq!(of_people(), records + 2, "but for the two that were written");
}

/// A dataflow over an index behind a gateway, so many documents a page.
fn guarded(name: &str, page: usize) -> (Small, Index, Gateway) {
    let ours = authority(name);
    let (certificate, private) = certificate(&ours, "localhost", 2100);
    let gateway = Gateway::start(Node::get(), &certificate, &private);
    let (small, index) = of_index(name, "");
    let path = |name: &str| small.folder.path().join(name).display().to_string();
    fs::write(path("ca.pem"), ours.pem()).expect("a file");
    fs::write(path("password"), "first\n").expect("a file");
    let config = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[sources.people]\nkind = \"elasticsearch\"\nurls = [\"{}\"]\n\
         index = \"{name}\"\npage = {page}\nca = \"{}\"\nusername = \"feed\"\n\
         password = {{ file = \"{}\" }}\n{QUICK}",
        Stack::get().brokers,
        gateway.url,
        path("ca.pem"),
        path("password"),
    );
    fs::write(&small.at[1], config).expect("a configuration");
    // "feed:first", as HTTP wants it.
    gateway.let_in("Basic ZmVlZDpmaXJzdA==");
    (small, index, gateway)
}

/// One by a name and a password, who is refused at first; then one that answers late, and too late.
#[test]
fn node_that_asks_for_a_password_and_answers_late_is_borne() {
    let (small, index, gateway) = guarded("slow", 100);
    index.make(1);
    write(&index, 0..3, "A");
    // "feed:second", as HTTP wants it.
    gateway.let_in("Basic ZmVlZDpzZWNvbmQ=");
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the password to be refused", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("or the password changed?")
    });
    fs::write(small.folder.path().join("password"), "second\n").expect("a file");
    wait_for("the new one to be taken", PATIENCE, || {
        goes_on(&mut feed);
        known(&small).len() == 3
    });
    gateway.set(Some(("/_stats", Fault::Late(Duration::from_secs(2)))));
    write(&index, 0..1, "B");
    wait_for("what comes late", PATIENCE, || {
        goes_on(&mut feed);
        known(&small)["0"] == says(0, "B")
    });
    assert!(gateway.met() > 0 && !feed.said().contains("no answer in time"), "{}", feed.said());
    gateway.set(Some(("/_stats", Fault::Late(Duration::from_secs(40)))));
    write(&index, 1..2, "B");
    wait_for("it to be too late", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("no answer in time")
    });
    gateway.set(None);
    wait_for("what is behind it", PATIENCE, || {
        goes_on(&mut feed);
        known(&small)["1"] == says(1, "B")
    });
    let said = feed.said();
    assert!(!said.contains("first") && !said.contains("second"), "{said}");
}

/// Somebody put it back to an earlier time, and nothing says so but that it has fewer operations than
/// were taken of it.
#[test]
fn index_that_has_gone_back_is_compared_anew() {
    let (small, index, gateway) = guarded("backwards", 100);
    index.make(1);
    write(&index, 0..20, "A");
    let mut feed = small.begin("feed", &[], &[]);
    let complete = |feed: &Engine| feed.said().matches("snapshot complete").count();
    wait_for("the snapshot", PATIENCE, || complete(&feed) == 1);
    write(&index, 0..1, "B");
    wait_for("what changed", PATIENCE, || known(&small)["0"] == says(0, "B"));
    let highest = "/indices/backwards/shards/0/0/seq_no/max_seq_no";
    gateway.set(Some(("/_stats", Fault::Says(highest, json!(3)))));
    wait_for("it to be compared anew", PATIENCE, || {
        goes_on(&mut feed);
        complete(&feed) > 1
    });
    assert!(gateway.met() > 0);
    gateway.set(None);
    write(&index, 1..2, "B");
    wait_for("what changes then", PATIENCE, || {
        goes_on(&mut feed);
        known(&small)["1"] == says(1, "B")
    });
    assert_eq!(known(&small).len(), 20);
}

/// Where nobody says which history an index has, it may be another one than the positions in the log
/// are of: what has numbers below them is seen all the same.
#[test]
fn feed_that_may_not_ask_for_histories_goes_on_from_no_position() {
    let (small, index, gateway) = guarded("blinded", 100);
    let snapshot = |path: &str, body: &Value| {
        let said = index.ask("PUT", &format!("_snapshot/{path}"), &body.to_string());
        assert!(said["error"].is_null(), "{said}");
    };
    index.make(1);
    write(&index, 0..20, "A");
    snapshot("blind", &json!({ "type": "fs", "settings": { "location": "blind" } }));
    let of_it = json!({ "indices": "blinded", "include_global_state": false });
    snapshot("blind/one?wait_for_completion=true", &of_it);
    for name in ["B", "C", "D", "E", "F"] {
        write(&index, 0..20, name);
    }
    let feed = small.begin("feed", &[], &[]);
    wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
    drop(feed);
    index.ask("POST", "blinded/_close", "");
    let path = "_snapshot/blind/one/_restore?wait_for_completion=true";
    let said = index.ask("POST", path, &of_it.to_string());
    assert!(said["error"].is_null(), "{said}");
    gateway.set(Some(("/_stats", Fault::Refused(403, "security_exception"))));
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("all to be compared", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("snapshot complete")
    });
    assert!(gateway.met() > 0 && feed.said().contains("`monitor`"), "{}", feed.said());
    assert_eq!(known(&small)["5"], says(5, "A"), "as it was restored");
    write(&index, 5..6, "G");
    wait_for("what changes then", PATIENCE, || {
        goes_on(&mut feed);
        known(&small)["5"] == says(5, "G")
    });
}

/// A comparison has read what there was when it began, and finds there what a look has missed since:
/// that is no reason to take it as there.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn document_that_goes_amid_a_comparison_is_gone_soon_after() {
    const PEOPLE: u32 = 600;
    const BETWEEN: Duration = Duration::from_secs(20);
    let feed = "feed = { look = \"50ms\", delete_after = \"5s\", compare = \"20s\" }\n";
    let (small, index) = of_index("amid", feed);
    index.make(1);
    write(&index, 0..PEOPLE, "A");
    let slowly = ("FAILPOINTS", "comparison-step=sleep(700)");
    let mut feed = small.begin("feed", &[], &[slowly]);
    let is_open = || {
        let stats = index.ask("GET", "amid/_stats/search", "");
        stats["_all"]["total"]["search"]["open_contexts"].as_u64() > Some(0)
    };
    wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
    wait_for("the snapshot to be let go", PATIENCE, || !is_open());
    // In its pages it is the last one.
    let last = (PEOPLE - 1).to_string();
    // A look opens one too, but not for long.
    wait_for("a comparison", PATIENCE, || {
        goes_on(&mut feed);
        is_open() && {
            thread::sleep(Duration::from_millis(500));
            is_open()
        }
    });
    index.write([(&*last, None)]);
    wait_for("it to end", PATIENCE, || !is_open());
    assert!(known(&small).contains_key(&last), "it has its grace");
    let ended = Instant::now();
    wait_for("it to be gone", PATIENCE, || {
        goes_on(&mut feed);
        !known(&small).contains_key(&last)
    });
    let took = ended.elapsed();
    assert!(took < BETWEEN, "no later comparison had to find it: {took:?}");
}

/// A start takes what is new since the feed before it, and compares beside that: what a look has said
/// is not taken back by a page that was opened before.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn what_changed_while_no_feed_was_there_is_taken_before_all_is_compared() {
    let (small, index, feed) = fed("resumed", 600);
    drop(feed);
    write(&index, 0..1, "B");
    index.write([("300", None)]);
    let slowly = ("FAILPOINTS", "comparison-step=sleep(2000)");
    let mut feed = small.begin("feed", &[], &[slowly]);
    let await_name = |feed: &mut Engine, number: u32, name: &str| {
        wait_for("what changed", PATIENCE, || {
            goes_on(feed);
            known(&small)[&number.to_string()] == says(number, name)
        });
        assert!(!feed.said().contains("snapshot complete"), "it came too late");
    };
    await_name(&mut feed, 0, "B");
    write(&index, 599..600, "B");
    write(&index, 601..602, "B");
    await_name(&mut feed, 599, "B");
    // A comparison that is broken off as well.
    drop(feed);
    let mut feed = small.begin("feed", &[], &[slowly]);
    write(&index, 598..599, "C");
    await_name(&mut feed, 598, "C");
    wait_for("all to be compared", PATIENCE, || feed.said().contains("snapshot complete"));
    wait_for("who is gone to be deleted", PATIENCE, || {
        goes_on(&mut feed);
        !known(&small).contains_key("300")
    });
    let known = known(&small);
    assert_eq!(known.len(), 600);
    assert_eq!((&*known["599"], &*known["601"]), (&*says(599, "B"), &*says(601, "B")));
    let records = small.read("reference");
    let of = |key: &str| records.iter().filter(|record| record.key == key.as_bytes()).count();
    for (key, times) in [("people:0", 2), ("people:599", 2), ("people:598", 2), ("people:300", 2)] {
        assert_eq!(of(key), times, "{key}");
    }
    assert_eq!((of("people:601"), of("people:5")), (1, 1));
}

/// What the log says of versions is of the index in which each document was last written anew.
#[test]
fn feed_that_comes_back_knows_nothing_of_an_earlier_index() {
    let (small, index) = of_index("reborn", QUICK);
    index.make(1);
    for name in ["A", "B", "C", "D", "E"] {
        write(&index, 0..15, name);
    }
    let mut engine = small.start(&[]);
    wait_for("the snapshot", PATIENCE, || {
        goes_on(&mut engine);
        known(&small).len() == 15
    });
    index.unmake();
    index.make(1);
    write(&index, 0..15, "E");
    let complete = engine.said().matches("snapshot complete").count();
    await_hold(&small, &mut engine, "another collection stands");
    wait_for("what was accepted", PATIENCE, || {
        goes_on(&mut engine);
        engine.said().matches("snapshot complete").count() > complete
    });
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(0), "{said}");
    write(&index, 0..1, "F");
    wait_for("the feed inside to come back", PATIENCE, || {
        goes_on(&mut engine);
        engine.said().contains("another feed of it has begun") && known(&small)["0"] == says(0, "F")
    });
    index.write([("3", None)]);
    wait_for("who is gone to be deleted", PATIENCE, || {
        goes_on(&mut engine);
        !known(&small).contains_key("3")
    });
    assert_eq!(known(&small).len(), 14, "and nobody else");
}

/// A dataflow over two indices, each on its node.
fn of_two(name: &str, nodes: [&str; 2]) -> Small {
    let mut small = Small::with_people_from(name, "[\"first\", \"second\"]");
    let source = |of: &str, node: &str| {
        format!(
            "[sources.{of}]\nkind = \"elasticsearch\"\nurls = [\"{node}\"]\n\
             index = \"{name}_{of}\"\n{QUICK}"
        )
    };
    let [first, second] = [source("first", nodes[0]), source("second", nodes[1])];
    let config = format!("[kafka]\nbrokers = [\"{}\"]\n{first}{second}", Stack::get().brokers);
    let path = small.folder.path().join("config.toml");
    fs::write(&path, config).expect("a configuration");
    small.at = ["--config".to_owned(), path.display().to_string()];
    small
}

#[test]
fn feed_that_is_to_end_writes_what_other_sources_say_where_one_is_held() {
    let node = &Node::get().url;
    let small = of_two("oneheld", [node, node]);
    let [first, second] =
        ["oneheld_first", "oneheld_second"].map(|name| Index::new(Node::get(), name));
    for index in [&first, &second] {
        index.make(1);
        write(index, 0..3, "A");
    }
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(0), "{said}");
    first.unmake();
    first.make(1);
    write(&first, 0..3, "B");
    let many: Vec<u32> = (0..40_000).collect();
    many.chunks(5_000).for_each(|some| write(&second, some[0]..some[0] + 5_000, "B"));
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(5), "{said}");
    let (held, ended) = (said.find("source \"first\" is fed no more"), said.find("second: ended"));
    assert!(held.is_some() && held < ended, "while the other goes on: {said}");
    assert!(said.contains("another collection stands"), "{said}");
    assert_eq!(known_of(&small, "second:").len(), 40_000);
    assert_eq!(known_of(&small, "first:")["1"], says(1, "A"));
}

#[test]
fn feed_of_several_sources_goes_on_with_those_that_nobody_has_taken() {
    let node = &Node::get().url;
    let small = of_two("several", [node, node]);
    let [first, second] =
        ["several_first", "several_second"].map(|name| Index::new(Node::get(), name));
    for index in [&first, &second] {
        index.make(1);
        write(index, 0..3, "A");
    }
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("both snapshots", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().matches("snapshot complete").count() == 2
    });
    let await_name = |feed: &mut Engine, source: &str, name: &str| {
        wait_for("what changed", PATIENCE, || {
            goes_on(feed);
            known_of(&small, source)["1"] == says(1, name)
        });
    };
    let heir = small.begin("feed", &["--source", "first"], &[]);
    wait_for("the heir", PATIENCE, || heir.said().contains("snapshot complete"));
    write(&first, 1..2, "B");
    wait_for("the elder to notice", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("another feed of it has begun")
    });
    write(&second, 1..2, "B");
    await_name(&mut feed, "first:", "B");
    await_name(&mut feed, "second:", "B");
    // It comes back once the heir has ended.
    heir.signal(nix::sys::signal::Signal::SIGTERM);
    write(&first, 1..2, "C");
    await_name(&mut feed, "first:", "C");
    // Where all are taken, it has nothing to do here any more.
    let heir = small.begin("feed", &[], &[]);
    wait_for("the heir of both", PATIENCE, || {
        heir.said().matches("snapshot complete").count() == 2
    });
    write(&first, 2..3, "D");
    write(&second, 2..3, "D");
    wait_for("the elder to end", PATIENCE, || feed.code().is_some());
    assert_eq!(feed.code(), Some(4), "{}", feed.said());
}
