//! The feeds over Bitrix24 and 1C, against stand-ins that keep their rules and count who breaks them.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

use crate::{
    game::{number, seed, wait_for},
    small::{Engine, PATIENCE, Small},
    stack::{Stack, StandIn},
};

/// What the log says of the documents of a source, by id.
fn known(small: &Small, source: &str) -> BTreeMap<String, Value> {
    let mut known = BTreeMap::new();
    let prefix = format!("{source}:");
    for record in small.read("reference") {
        let key = String::from_utf8(record.key).expect("keys are text");
        let Some(id) = key.strip_prefix(&prefix).filter(|id| !id.is_empty()) else { continue };
        match record.value.is_empty() {
            true => drop(known.remove(id)),
            false => {
                let value: Value = serde_json::from_slice(&record.value).expect("JSON");
                known.insert(id.to_owned(), value["document"].clone());
            }
        }
    }
    known
}

/// A dataflow over a source of this configuration.
fn over(name: &str, lookup: &str, source: &str) -> Small {
    let mut small = Small::with_lookups(name, lookup);
    let config = format!("[kafka]\nbrokers = [\"{}\"]\n{source}", Stack::get().brokers);
    let path = small.folder.path().join("config.toml");
    fs::write(&path, config).expect("a configuration");
    small.at = ["--config".to_owned(), path.display().to_string()];
    small
}

fn follow(small: &Small, variables: &[(&str, &str)]) -> Engine {
    let feed = small.begin("feed", &["--follow"], variables);
    wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
    feed
}

/// Most memory that a process ever had, in MiB.
fn most_mib(engine: &Engine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", engine.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it is said");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib / 1024
}

// ------------------------------------------------------------------------------------ Bitrix24 --

const CONTACT: u32 = 3;

/// A portal, and a dataflow over its contacts.
struct Portal {
    system: StandIn,
    small: Small,
    /// What the portal holds.
    items: BTreeMap<u32, String>,
    /// Where the application's tokens are kept.
    tokens: PathBuf,
}

impl Portal {
    /// As an application where `is_app`, else by a webhook.
    fn new(name: &str, is_app: bool, feed: &str) -> Portal {
        let system = StandIn::start("bitrix24.py");
        let folder = tempfile::tempdir().expect("a folder").keep();
        fs::create_dir(folder.join("kept")).expect("a folder");
        let secret = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let access = match is_app {
            true => format!(
                "[sources.bitrix24.app]\nclient_id = \"local.app\"\nserver = \"{}\"\n\
                 client_secret = {{ file = \"{}\" }}\ntokens = \"{}\"\n",
                system.url,
                secret("secret", "client5ecret"),
                secret("kept/tokens", r#"{"access_token":"access-0","refresh_token":"refresh-0"}"#),
            ),
            false => {
                format!("webhook = {{ file = \"{}\" }}\n", secret("webhook", "1/webhook5ecret\n"))
            }
        };
        let source = format!(
            "[sources.bitrix24]\nkind = \"bitrix24\"\nurl = \"{}\"\nentity = \"contact\"\n\
             feed = {{ look = \"200ms\", delete_after = \"1s\", max_deletes = 1.0{feed} }}\n{access}",
            system.url
        );
        let lookup = "[lookups.contact]\nfrom = [\"bitrix24\"]\nkey = { path = \"ufCrmNumber\" }\n\
                      matches = \"ID\"\n[lookups.contact.columns]\n\
                      NAME = { type = \"text\", path = \"name\" }\n";
        let tokens = folder.join("kept/tokens");
        Portal { system, small: over(name, lookup, &source), items: BTreeMap::new(), tokens }
    }

    fn put(&mut self, ids: impl IntoIterator<Item = u32>, name: &str) {
        let ids: Vec<u32> = ids.into_iter().collect();
        let item = |id: &u32| {
            let name = format!("{name} {id}");
            json!({ "id": id, "ufCrmNumber": id.to_string(), "name": name, "phone": "+7 nobody asked" })
        };
        let items: Vec<Value> = ids.iter().map(item).collect();
        self.system.ask("put", &json!({ "entity": CONTACT, "items": items }));
        self.items.extend(ids.into_iter().map(|id| (id, format!("{name} {id}"))));
    }

    fn delete(&mut self, ids: impl IntoIterator<Item = u32>) {
        let ids: Vec<u32> = ids.into_iter().collect();
        self.system.ask("delete", &json!({ "entity": CONTACT, "ids": ids }));
        ids.iter().for_each(|id| drop(self.items.remove(id)));
    }

    /// Whether the log says what the portal does.
    fn is_equal(&self) -> bool {
        let wanted: BTreeMap<String, Value> = self
            .items
            .iter()
            .map(|(id, name)| {
                (id.to_string(), json!({ "ufCrmNumber": id.to_string(), "name": name }))
            })
            .collect();
        known(&self.small, "bitrix24") == wanted
    }

    fn await_equal(&self, feed: &mut Engine) {
        wait_for("the log to say what the portal does", PATIENCE, || {
            assert_eq!(feed.code(), None, "{}", feed.said());
            self.is_equal()
        });
    }

    /// That no rule of the portal was broken.
    fn judge(&self) {
        for what in ["over_the_limit", "counted", "lost", "too_early"] {
            assert_eq!(self.system.counts(what), 0, "{what}");
        }
    }
}

#[test]
fn contacts_of_a_portal_are_kept_as_they_are() {
    let mut portal = Portal::new("contacts", true, "");
    portal.put(1..=2_620, "A");
    let mut feed = follow(&portal.small, &[]);
    portal.await_equal(&mut feed);
    let read = portal.system.counts("requests");
    assert!(read < 20, "{read} questions for 53 pages, and to be told what happens");
    portal.put([1, 50, 51, 2_700], "B");
    portal.delete([2, 100]);
    portal.await_equal(&mut feed);
    wait_for("the queue to be cleared", PATIENCE, || portal.system.counts("queue") == 0);
    // Tokens expire, and the portal has its moods.
    portal.system.ask("expire", &json!({}));
    let fault = |method: &str, status: u32, error: &str, seconds: u32| {
        let fault = json!({ "method": method, "status": status, "error": error, "for": seconds });
        portal.system.ask("fault", &fault);
    };
    fault("event.offline.get", 503, "QUERY_LIMIT_EXCEEDED", 0);
    fault("crm.item.list", 429, "OPERATION_TIME_LIMIT", 4);
    fault("event.offline.clear", 500, "INTERNAL_SERVER_ERROR", 0);
    portal.put([3, 4], "C");
    portal.await_equal(&mut feed);
    wait_for("the queue to be cleared", PATIENCE, || portal.system.counts("queue") == 0);
    assert_eq!(portal.system.counts("refreshed"), 1);
    // What the portal puts aside under an answer that is lost is found.
    let lost = json!({ "method": "event.offline.get", "status": 502, "error": "", "for": 0, "is_done": true });
    portal.system.ask("fault", &lost);
    portal.put([5], "lost");
    portal.await_equal(&mut feed);
    wait_for("the queue to be cleared", PATIENCE, || portal.system.counts("queue") == 0);
    assert_eq!(portal.system.counts("unheard"), 1);
    portal.judge();
    // Those that cannot be kept serve all the same, and the next ones are kept where they can be.
    let kept = portal.tokens.parent().expect("a folder").to_owned();
    let away = kept.with_file_name("away");
    fs::rename(&kept, &away).expect("it can be moved");
    for (times, name) in [(2, "C2"), (3, "C3")] {
        portal.system.ask("expire", &json!({}));
        portal.put([6], name);
        portal.await_equal(&mut feed);
        assert_eq!(portal.system.counts("refreshed"), times);
    }
    assert!(feed.said().contains("cannot keep the application's new tokens in"), "{}", feed.said());
    fs::rename(&away, &kept).expect("it can be moved back");
    portal.system.ask("expire", &json!({}));
    portal.put([6], "C4");
    portal.await_equal(&mut feed);
    drop(feed);
    // The tokens that it was given are kept for the next one.
    portal.put([5], "D");
    let mut feed = follow(&portal.small, &[]);
    portal.await_equal(&mut feed);
    assert_eq!(portal.system.counts("refreshed"), 4);
    let said = feed.said();
    assert!(!said.contains("nobody asked") && !said.contains("5ecret"), "{said}");
}

#[test]
fn contacts_by_a_webhook_are_looked_for_by_the_moment_of_their_change() {
    let mut portal = Portal::new("hooked", false, ", compare = \"1h\"");
    portal.put(1..=120, "A");
    let mut feed = follow(&portal.small, &[]);
    assert!(feed.said().contains("what is gone is found by comparison"), "{}", feed.said());
    portal.put([7, 121], "B");
    portal.await_equal(&mut feed);
    portal.put([120], "C");
    portal.await_equal(&mut feed);
    // The next one compares at its start.
    portal.delete([8]);
    drop(feed);
    let mut feed = follow(&portal.small, &[]);
    portal.await_equal(&mut feed);
    portal.judge();
    assert!(!feed.said().contains("5ecret"), "{}", feed.said());
}

/// Changes of a portal that are to come through whatever kills the feed.
fn some_changes(portal: &mut Portal, dice: &mut Xoshiro256PlusPlus, round: u64) {
    let mut below = |end: u64| dice.next_u64() % end;
    let ids: Vec<u32> = (0..1 + below(70)).map(|_| 1 + below(300) as u32).collect();
    portal.put(ids, &format!("R{round}"));
    let gone: Vec<u32> = portal.items.keys().copied().filter(|_| below(40) == 0).collect();
    portal.delete(gone);
}

/// Whether the last mark of the source says that a snapshot is complete, and that the feed has ended.
pub fn marked(small: &Small, source: &str) -> (bool, bool) {
    let key = format!("{source}:").into_bytes();
    let mark = small.read("reference").into_iter().rfind(|record| record.key == key);
    let mark = mark.expect("there is a mark").value;
    let mark: Value = serde_json::from_slice(&mark).expect("it is JSON");
    (mark["complete"] == true, mark["has_ended"] == true)
}

#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn what_changes_while_all_is_compared_is_seen_and_half_a_snapshot_is_none() {
    let mut portal = Portal::new("halved", true, ", compare = \"1h\"");
    portal.put(1..=6_000, "A");
    let slowly = ("FAILPOINTS", "comparison-step=sleep(3000)");
    let mut feed = portal.small.begin("feed", &["--follow"], &[slowly]);
    wait_for("the first pages", PATIENCE, || known(&portal.small, "bitrix24").len() >= 2_500);
    assert_eq!(marked(&portal.small, "bitrix24"), (false, false));
    // It is asked to end amid it: nobody is to take that for all.
    feed.signal(Signal::SIGTERM);
    wait_for("it to end", PATIENCE, || feed.code().is_some());
    assert_eq!(feed.code(), Some(0), "{}", feed.said());
    assert!(known(&portal.small, "bitrix24").len() < 6_000, "it was amid its comparison");
    assert_eq!(marked(&portal.small, "bitrix24"), (false, true));
    let mut feed = portal.small.begin("feed", &["--follow"], &[slowly]);
    wait_for("another comparison", PATIENCE, || !marked(&portal.small, "bitrix24").1);
    portal.put([1], "B");
    wait_for("what changed meanwhile", PATIENCE, || {
        assert!(!feed.said().contains("snapshot complete"), "it came too late");
        known(&portal.small, "bitrix24").get("1").is_some_and(|item| item["name"] == "B 1")
    });
    portal.await_equal(&mut feed);
    wait_for("it to be complete", PATIENCE, || marked(&portal.small, "bitrix24") == (true, false));
    portal.judge();
}

#[test]
fn feed_of_a_portal_that_is_killed_anywhere_loses_nothing() {
    let seed = seed();
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut portal = Portal::new("killed", true, "");
    portal.put(1..=200, "A");
    // What happened is cleared once the log says it, and not before.
    let steps: &[(&str, bool)] = match cfg!(feature = "failpoints") {
        true => &[("bitrix24-written=panic", true), ("bitrix24-cleared=panic", false)],
        false => &[],
    };
    for &(step, is_kept) in steps {
        // Nothing is left for the one that is to die but what happens then.
        let mut quiet = follow(&portal.small, &[]);
        portal.await_equal(&mut quiet);
        wait_for("the queue to be cleared", PATIENCE, || portal.system.counts("queue") == 0);
        drop(quiet);
        let mut feed = follow(&portal.small, &[("FAILPOINTS", step)]);
        portal.put(1..=40, step);
        wait_for(step, PATIENCE, || feed.code().is_some());
        assert!(feed.said().contains("failpoint"), "{step}: {}", feed.said());
        assert!(portal.is_equal(), "{step}: the log says it");
        assert_eq!(portal.system.counts("queue") > 0, is_kept, "{step}");
    }
    if cfg!(feature = "failpoints") {
        let step = ("FAILPOINTS", "commit-before=4*off->panic");
        let mut feed = portal.small.begin("feed", &["--follow"], &[step]);
        wait_for(step.1, PATIENCE, || {
            some_changes(&mut portal, &mut dice, 0);
            std::thread::sleep(Duration::from_millis(300));
            feed.code().is_some()
        });
        assert!(feed.said().contains("failpoint"), "{}", feed.said());
    }
    for round in 10..10 + number("KILLS", 6) {
        let feed = portal.small.begin("feed", &["--follow"], &[]);
        std::thread::sleep(Duration::from_millis(dice.next_u64() % 6_000));
        some_changes(&mut portal, &mut dice, round);
        std::thread::sleep(Duration::from_millis(dice.next_u64() % 1_500));
        feed.signal(Signal::SIGKILL);
    }
    let mut feed = follow(&portal.small, &[]);
    portal.await_equal(&mut feed);
    wait_for("what was put aside to be cleared", PATIENCE, || portal.system.counts("queue") == 0);
    portal.judge();
}

// ------------------------------------------------------------------------------------------ 1C --

/// A base, and a dataflow over its students.
struct Base {
    system: StandIn,
    small: Small,
    /// What the base holds, and the log is to say.
    entries: BTreeMap<u32, String>,
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
             feed = {{ look = \"200ms\", delete_after = \"1s\", max_deletes = 1.0{feed} }}\n",
            system.url,
            password.display(),
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
                "Description": format!("{name} {number}"),
                "DeletionMark": is_marked,
                "Passport": "nobody asked",
                "Contacts": [{ "LineNumber": "1", "Phone": format!("{name}-{number}") }],
            })
        };
        let entries: Vec<Value> = numbers.iter().map(entry).collect();
        self.system.ask("put", &json!({ "entity": STUDENTS, "entries": entries }));
        for number in numbers {
            match is_marked {
                true => drop(self.entries.remove(&number)),
                false => drop(self.entries.insert(number, format!("{name} {number}"))),
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
    }
    let mut feed = follow(&base.small, &[]);
    base.await_equal(&mut feed);
    base.await_confirmed();
    base.judge();
}
