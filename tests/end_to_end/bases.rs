//! The feed over 1C, against a stand-in that keeps its rules and counts who breaks them.

use std::{collections::BTreeMap, fs, time::Duration};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

use crate::{
    game::{number, seed, wait_for},
    portals::{follow, known, marked, over, unguarded},
    small::{Engine, PATIENCE, Small},
    stack::StandIn,
    topics::Seen,
};

/// Most memory that a process ever had, in MiB.
fn most_mib(engine: &Engine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", engine.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it is said");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib / 1024
}

/// A base, and a dataflow over its students.
struct Base {
    system: StandIn,
    small: Small,
    /// What the base holds, and the log is to say.
    entries: BTreeMap<u32, String>,
}

/// What one is called; by that the base sorts.
fn called(name: &str, number: u32) -> String {
    format!("{name} {number:06}")
}

fn key_of(number: u32) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

const STUDENTS: &str = "Catalog_Студенты";

impl Base {
    fn new(name: &str, feed: &str) -> Base {
        let system = StandIn::start("onec.py");
        let folder = tempfile::tempdir().expect("a folder").keep();
        let password = folder.join("password");
        fs::write(&password, "pa55word").expect("a file");
        let source = format!(
            "[sources.onec]\nkind = \"1c\"\nurl = \"{}/base/odata/standard.odata\"\n\
             entity = \"{STUDENTS}\"\nusername = \"feed\"\npassword = {{ file = \"{}\" }}\n\
             exchange = \"ExchangePlan_Tributary\"\nnode = \"TRIBUTARY\"\n\
             feed = {{ look = \"200ms\", delete_after = \"1s\"{}{feed} }}\n",
            system.url,
            password.display(),
            unguarded(feed),
        );
        // An object may have parts that are tables.
        let lookup = "[lookups.contract]\nfrom = [\"onec\"]\nkey = { path = \"Code\" }\n\
                      matches = \"ID\"\n[lookups.contract.columns]\n\
                      NAME = { type = \"text\", path = \"Description\" }\n\
                      PHONE = { type = \"text\", path = \"Contacts[0].Phone\" }\n";
        Base { system, small: over(name, lookup, &source), entries: BTreeMap::new() }
    }

    fn put(&mut self, numbers: impl IntoIterator<Item = u32>, name: &str, is_marked: bool) {
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let entry = |number: &u32| {
            json!({
                "Ref_Key": key_of(*number),
                "Code": number.to_string(),
                "Description": called(name, *number),
                "DeletionMark": is_marked,
                "Passport": "nobody asked",
                "Contacts": [{ "LineNumber": "1", "Phone": called(name, *number).replace(' ', "-") }],
            })
        };
        let entries: Vec<Value> = numbers.iter().map(entry).collect();
        self.system.ask("put", &json!({ "entity": STUDENTS, "entries": entries }));
        for number in numbers {
            match is_marked {
                true => drop(self.entries.remove(&number)),
                false => drop(self.entries.insert(number, called(name, number))),
            }
        }
    }

    fn delete(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let keys: Vec<String> = numbers.iter().map(|number| key_of(*number)).collect();
        self.system.ask("delete", &json!({ "entity": STUDENTS, "keys": keys }));
        numbers.iter().for_each(|number| drop(self.entries.remove(number)));
    }

    /// Whether the log says what the base does.
    fn is_equal(&self) -> bool {
        let document = |number: u32, name: &str| {
            json!({
                "Code": number.to_string(),
                "Description": name,
                "Contacts": [{ "Phone": name.replace(' ', "-") }],
            })
        };
        let wanted: BTreeMap<String, Value> = self
            .entries
            .iter()
            .map(|(number, name)| (key_of(*number), document(*number, name)))
            .collect();
        known(&self.small, "onec") == wanted
    }

    fn await_equal(&self, feed: &mut Engine) {
        wait_for("the log to say what the base does", PATIENCE, || {
            assert_eq!(feed.code(), None, "{}", feed.said());
            self.is_equal()
        });
    }

    fn await_confirmed(&self) {
        wait_for("all to be confirmed", PATIENCE, || self.system.counts("registered") == 0);
    }

    /// That nobody is forgotten by the base before the log knows it; there is no feed now.
    fn judge_registered(&self) {
        let registered = self.system.ask("registered", &json!({}));
        let registered: Vec<String> = serde_json::from_value(registered).expect("keys");
        let known = known(&self.small, "onec");
        let is_known = |(number, _): &(&u32, &String)| !registered.contains(&key_of(**number));
        for (number, name) in self.entries.iter().filter(is_known) {
            let said = known.get(&key_of(*number)).map(|entry| &entry["Description"]);
            assert_eq!(said, Some(&json!(name)));
        }
    }

    fn judge(&self) {
        for what in ["broken", "not_understood"] {
            assert_eq!(self.system.counts(what), 0, "{what}");
        }
    }
}

#[test]
fn entries_of_a_base_are_kept_as_they_are() {
    let mut base = Base::new("contracts", ", compare = \"1h\"");
    base.put(1..=500, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    base.put([1, 2, 501], "B", false);
    base.put([3, 4], "marked", true);
    base.delete([5, 6]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    // The mark is taken back.
    base.put([3], "C", false);
    base.await_equal(&mut feed);
    // A message that breaks off, by the connection or by an error amid it, is asked for again; and
    // one whose confirmation is not answered is confirmed.
    for (round, what) in (0..).zip(["cut", "half", "lost"]) {
        base.system.ask("fault", &json!({ "what": what }));
        base.put(10 + 10 * round..20 + 10 * round, what, false);
        base.await_equal(&mut feed);
        base.await_confirmed();
    }
    // A comparison finds nothing else, also where pages break off amid their bodies.
    drop(feed);
    base.system.ask("tight", &json!({ "is": true }));
    let mut feed = follow(&base.small, &[]);
    assert!(base.system.counts("no_disk") > 0, "some page broke off");
    assert!(feed.said().contains("0 written, 0 deleted"), "{}", feed.said());
    base.await_equal(&mut feed);
    base.judge();
    let said = feed.said();
    assert!(!said.contains("nobody asked") && !said.contains("pa55word"), "{said}");
}

/// What is deleted moves what stands behind it past where the next page begins.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn entries_that_move_between_pages_are_in_the_first_snapshot() {
    for gone in [1..=3, 1..=20] {
        let mut base = Base::new(&format!("moved{}", gone.end()), "");
        base.put(1..=500, "A", false);
        base.system.ask("unregister", &json!({}));
        let slowly = ("FAILPOINTS", "comparison-step=1*sleep(6000)->off");
        let mut feed = base.small.begin("feed", &["--follow"], &[slowly]);
        wait_for("the first page", PATIENCE, || base.system.counts("pages") > 0);
        assert!(known(&base.small, "onec").len() < 100, "it is amid its comparison");
        base.delete(gone);
        base.await_equal(&mut feed);
        assert!(base.system.counts("pages") > 3, "most pages were read after that");
        base.judge();
    }
}

#[test]
fn message_of_any_length_is_read_as_it_comes() {
    let mut base = Base::new("lengthy", "");
    base.put(1..=100, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_confirmed();
    let before = most_mib(&feed);
    let bytes = number("MESSAGE_BYTES", 200 << 20);
    base.system.ask("fault", &json!({ "what": "large", "bytes": bytes }));
    base.put(50..=150, "B", false);
    base.await_equal(&mut feed);
    base.await_confirmed();
    let grown = most_mib(&feed) - before;
    println!("a message of {bytes} bytes took {grown} MiB");
    assert!(grown < 30, "{grown} MiB more for a message of {bytes} bytes");
    assert!(feed.said().contains("StandardODATA.Catalog_Files"), "{}", feed.said());
    base.judge();
}

/// What is new cannot be asked for, for good: all is compared when that is due, and whoever watches
/// is told all the while that something is wrong.
#[test]
fn look_that_fails_for_good_keeps_no_comparison_away() {
    let mut base = Base::new("deaf", ", compare = \"2s\"");
    base.put(1..=300, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    base.system.ask("refuse", &json!({ "messages": true }));
    wait_for("the first that is refused", PATIENCE, || base.system.counts("refused") > 0);
    let status = |base: &Base| base.small.tributary(&["status"]).1;
    let trouble = "ask what has changed: the answer is 503";
    wait_for("it to be said", PATIENCE, || status(&base).contains(trouble));
    for (round, gone) in [("B", 2), ("C", 3)] {
        base.put([1, 301], round, false);
        base.delete([gone]);
        let begun = base.system.counts("begun");
        wait_for("a comparison, and another one", PATIENCE, || {
            let said = status(&base);
            assert!(said.contains(trouble), "{said}");
            base.system.counts("begun") >= begun + 2
        });
        base.await_equal(&mut feed);
    }
    assert!(base.system.counts("registered") > 0, "nothing was confirmed");
    base.system.ask("refuse", &json!({}));
    base.await_confirmed();
    base.await_equal(&mut feed);
    wait_for("it to be well", PATIENCE, || !status(&base).contains(trouble));
    base.judge();
}

/// Nor need who is gone wait for a comparison that is due much later.
#[test]
fn who_is_gone_while_looks_fail_is_compared_once_more_and_deleted() {
    let mut base = Base::new("deafer", ", compare = \"1h\"");
    base.put(1..=300, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    drop(feed);
    base.system.ask("refuse", &json!({ "messages": true }));
    base.put([1, 301], "B", false);
    base.delete([2]);
    let begun = base.system.counts("begun");
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    assert_eq!(base.system.counts("begun"), begun + 2);
    base.judge();
}

/// It makes the base break down, however it is asked for.
#[test]
fn entry_that_nobody_can_be_given_stops_no_other() {
    let mut base = Base::new("cursed", ", compare = \"2s\"");
    base.put(1..=400, "A", false);
    // The first and the last of all, and some amid the others.
    let are_bad = [1, 250, 251, 252, 253, 399, 400];
    let bad = are_bad.map(key_of);
    base.system.ask("refuse", &json!({ "bad": bad, "messages": true }));
    let mut feed = base.small.begin("feed", &["--follow"], &[]);
    base.entries.retain(|number, _| !are_bad.contains(number));
    base.await_equal(&mut feed);
    assert!(feed.said().contains("is passed over"), "{}", feed.said());
    // One that was known stands, and who is gone meanwhile goes.
    base.system.ask("refuse", &json!({ "messages": true }));
    base.entries.extend(are_bad.map(|number| (number, called("A", number))));
    base.await_equal(&mut feed);
    base.system.ask("refuse", &json!({ "bad": bad, "messages": true }));
    base.put([300], "B", false);
    base.delete([2]);
    base.await_equal(&mut feed);
    assert!(feed.said().contains("is left as it was known"), "{}", feed.said());
    base.judge();
}

/// A few are passed over before it shows that the base has broken down; all is read once more then.
#[test]
fn pages_that_break_down_are_waited_for() {
    let mut base = Base::new("broken", ", compare = \"1h\"");
    base.put(1..=300, "A", false);
    let all: Vec<String> = (40..=300).map(key_of).collect();
    base.system.ask("refuse", &json!({ "bad": all, "messages": true }));
    let mut feed = base.small.begin("feed", &["--follow"], &[]);
    wait_for("it to be said", PATIENCE, || feed.said().contains("it gives many others, but not"));
    assert_eq!(feed.said().matches("is passed over").count(), 20);
    assert_eq!(marked(&base.small, "onec"), (false, false), "it is not complete");
    base.system.ask("refuse", &json!({ "messages": true }));
    base.await_equal(&mut feed);
    let records = base.small.read("reference");
    let complete = records.iter().position(|record| {
        let mark: Value = serde_json::from_slice(&record.value).unwrap_or_default();
        mark["complete"] == true
    });
    let later = complete
        .map_or(0, |place| records[place..].iter().filter(|record| record.key != b"onec:").count());
    assert_eq!(later, 0, "it was complete once it said so");
    base.judge();
}

/// It waits for the word through restarts, though its looks fail, and then does what was accepted.
#[test]
fn feed_of_a_base_that_is_held_waits_for_the_word_and_takes_it() {
    let mut base = Base::new("guarded", ", max_deletes = 0.05, compare = \"1h\"");
    base.put(1..=400, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    drop(feed);
    base.system.ask("refuse", &json!({ "messages": true }));
    base.delete(1..=100);
    let held = || base.small.tributary(&["accept", "onec", "--dry-run"]).1;
    let await_hold = |feed: &Engine| {
        wait_for("it to be held", PATIENCE, || feed.said().contains("is held"));
        let said = held();
        assert!(said.contains("100 of 400 are gone"), "{said}");
    };
    let feed = base.small.begin("feed", &["--follow"], &[]);
    await_hold(&feed);
    drop(feed);
    let begun = base.system.counts("begun");
    let mut feed = base.small.begin("feed", &["--follow"], &[]);
    wait_for("all to be counted again", PATIENCE, || {
        let said = held();
        assert!(said.contains("100 of 400 are gone"), "it is held all the while: {said}");
        base.system.counts("begun") >= begun + 2
    });
    assert_eq!(known(&base.small, "onec").len(), 400);
    let (code, said) = base.small.tributary(&["accept", "onec"]);
    assert_eq!(code, Some(0), "{said}");
    base.await_equal(&mut feed);
    base.judge();
}

/// While a page cannot be had, half of all entries go, and those behind them move past where the
/// comparison is: nobody who is there is taken as gone.
#[test]
fn entries_that_move_while_a_page_fails_are_not_gone() {
    const ALL: u32 = 14_000;
    let mut base = Base::new("shifted", ", compare = \"1h\"");
    base.put(1..=ALL, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    drop(feed);
    base.system.ask("refuse", &json!({ "beyond": 3_000 }));
    let begun = base.system.counts("begun");
    let mut feed = base.small.begin("feed", &["--follow"], &[]);
    wait_for("a page to be refused", PATIENCE, || base.system.counts("refused") > 0);
    let keys: Vec<String> = (1..=7_000).map(key_of).collect();
    base.system.ask("forget", &json!({ "entity": STUDENTS, "keys": keys }));
    base.entries.retain(|number, _| *number > 7_000);
    base.system.ask("refuse", &json!({}));
    wait_for("all to be compared", PATIENCE, || {
        assert_eq!(feed.code(), None, "{}", feed.said());
        feed.said().contains("snapshot complete")
    });
    assert_eq!(base.system.counts("begun"), begun + 2, "all of it was read twice, and no more");
    wait_for("who was not met to be deleted", PATIENCE, || {
        !known(&base.small, "onec").contains_key(&key_of(7_000))
    });
    let is_lost = |record: &Seen| {
        let key = String::from_utf8_lossy(&record.key);
        let number = key.rsplit('-').next().and_then(|digits| digits.parse::<u32>().ok());
        record.value.is_empty() && number.is_some_and(|number| number > 7_000)
    };
    assert!(!base.small.read("reference").iter().any(is_lost), "who is there was deleted");
    // Who was met before they went is missed by the next one.
    drop(feed);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.judge();
}

/// A base that denies an entry may deny all of them, or for a moment.
#[test]
fn entries_that_are_denied_for_a_while_are_not_gone() {
    let mut base = Base::new("withheld", ", compare = \"2s\"");
    base.put(1..=200, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    base.system.ask("refuse", &json!({ "all": true }));
    base.system.ask("forget", &json!({ "entity": STUDENTS, "keys": [key_of(3)] }));
    base.entries.remove(&3);
    wait_for("it to be refused again and again", PATIENCE, || base.system.counts("refused") > 6);
    assert_eq!(feed.code(), None, "{}", feed.said());
    assert!(feed.said().contains("is it published for OData"), "{}", feed.said());
    assert_eq!(known(&base.small, "onec").len(), 200);
    let hidden: Vec<String> = (10..30).map(key_of).collect();
    let refused = base.system.counts("refused");
    base.system.ask("refuse", &json!({ "hidden": hidden }));
    base.await_equal(&mut feed);
    wait_for("each to be denied once", PATIENCE, || base.system.counts("refused") >= refused + 20);
    let begun = base.system.counts("begun");
    wait_for("a comparison after that", PATIENCE, || base.system.counts("begun") >= begun + 2);
    let gone = |record: &Seen| record.value.is_empty() && !record.key.ends_with(b"000000000003");
    assert!(!base.small.read("reference").iter().any(gone), "who is there was deleted");
    base.judge();
}

/// What bears no key can be nobody's document: it is counted, and while it stands only that is gone
/// which the base denies by its key.
#[test]
fn entry_without_a_key_is_refused_and_stops_nothing() {
    let mut base = Base::new("keyless", ", compare = \"1s\"");
    base.put(1..=50, "A", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    base.system.ask("keyless", &json!({ "is": true }));
    base.put([1], "B", false);
    base.delete([2]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    // It is gone without a word: only a comparison can tell.
    base.system.ask("forget", &json!({ "entity": STUDENTS, "keys": [key_of(3)] }));
    base.entries.remove(&3);
    base.await_equal(&mut feed);
    drop(feed);
    let feed = follow(&base.small, &[]);
    assert!(feed.said().contains("(1 refused)"), "{}", feed.said());
    base.judge();
}

/// One that is amid a message when another feed takes its place confirms nothing.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn feed_that_is_superseded_amid_a_message_leaves_it_to_its_heir() {
    let mut base = Base::new("amidst", "");
    base.put(1..=10, "A", false);
    drop(follow(&base.small, &[]));
    let slowly = ("FAILPOINTS", "commit-before=sleep(1500)");
    let mut elder = follow(&base.small, &[slowly]);
    base.await_confirmed();
    base.put(1..=4_500, "B", false);
    wait_for("a part of the message", PATIENCE, || known(&base.small, "onec").len() >= 1_000);
    let notified = base.system.counts("notifies");
    let mut heir = base.small.begin("feed", &["--follow"], &[]);
    wait_for("the elder to end", PATIENCE, || elder.code().is_some());
    assert_eq!(elder.code(), Some(4), "{}", elder.said());
    assert!(elder.said().contains("another feed of source \"onec\" has begun"), "{}", elder.said());
    base.await_equal(&mut heir);
    base.await_confirmed();
    assert_eq!(base.system.counts("notifies"), notified + 1, "by the heir");
    base.judge();
}

#[test]
fn pages_are_as_large_as_a_base_can_bear() {
    let mut base = Base::new("heavy", "");
    // 20 of them are more than the base can bear at once.
    let large = "x".repeat(300_000);
    base.put(1..=30, &large, false);
    base.put(31..=60, "light", false);
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    assert!(base.system.counts("no_disk") > 0, "some page was too large");
    base.judge();
}

#[test]
fn feed_of_a_base_that_is_killed_anywhere_loses_nothing() {
    let seed = seed();
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut base = Base::new("bereft", "");
    base.put(1..=200, "A", false);
    let mut change = |base: &mut Base, round: u64| {
        let mut below = |end: u64| dice.next_u64() % end;
        let numbers: Vec<u32> = (0..1 + below(70)).map(|_| 1 + below(300) as u32).collect();
        base.put(numbers, &format!("R{round}"), false);
        let gone: Vec<u32> = base.entries.keys().copied().filter(|_| below(40) == 0).collect();
        match below(2) {
            0 => base.delete(gone),
            _ => base.put(gone, "marked", true),
        }
        Duration::from_millis(below(2_500))
    };
    // What changed is confirmed once the log says it, and not before.
    let steps: &[(&str, bool)] = match cfg!(feature = "failpoints") {
        true => &[("onec-written=panic", true), ("onec-confirmed=panic", false)],
        false => &[],
    };
    for &(step, is_kept) in steps {
        // Nothing is left for the one that is to die but what changes then.
        let mut quiet = follow(&base.small, &[]);
        base.await_equal(&mut quiet);
        base.await_confirmed();
        drop(quiet);
        let mut feed = follow(&base.small, &[("FAILPOINTS", step)]);
        base.put(1..=40, step, false);
        wait_for(step, PATIENCE, || feed.code().is_some());
        assert!(feed.said().contains("failpoint"), "{step}: {}", feed.said());
        assert!(base.is_equal(), "{step}: the log says it");
        assert_eq!(base.system.counts("registered") > 0, is_kept, "{step}");
    }
    if cfg!(feature = "failpoints") {
        let step = ("FAILPOINTS", "commit-before=6*off->panic");
        let mut feed = base.small.begin("feed", &["--follow"], &[step]);
        wait_for(step.1, PATIENCE, || {
            change(&mut base, 0);
            std::thread::sleep(Duration::from_millis(300));
            feed.code().is_some()
        });
        assert!(feed.said().contains("failpoint"), "{}", feed.said());
    }
    for round in 10..10 + number("KILLS", 6) {
        let feed = base.small.begin("feed", &["--follow"], &[]);
        std::thread::sleep(change(&mut base, round));
        std::thread::sleep(change(&mut base, round));
        feed.signal(Signal::SIGKILL);
        drop(feed);
        base.judge_registered();
    }
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    base.judge();
}
