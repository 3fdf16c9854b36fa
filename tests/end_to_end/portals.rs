//! The feed over Bitrix24, against a stand-in that keeps its rules and counts who breaks them.

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
pub fn known(small: &Small, source: &str) -> BTreeMap<String, Value> {
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
pub fn over(name: &str, lookup: &str, source: &str) -> Small {
    let mut small = Small::with_lookups(name, lookup);
    let config = format!("[kafka]\nbrokers = [\"{}\"]\n{source}", Stack::get().brokers);
    let path = small.folder.path().join("config.toml");
    fs::write(&path, config).expect("a configuration");
    small.at = ["--config".to_owned(), path.display().to_string()];
    small
}

/// What takes the guard away, where nothing is said of it.
pub fn unguarded(feed: &str) -> &'static str {
    if feed.contains("max_deletes") { "" } else { ", max_deletes = 1.0" }
}

pub fn follow(small: &Small, variables: &[(&str, &str)]) -> Engine {
    let feed = small.begin("feed", &["--follow"], variables);
    wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
    feed
}

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
             feed = {{ look = \"200ms\", delete_after = \"1s\"{}{feed} }}\n{access}",
            system.url,
            unguarded(feed),
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

    /// That nobody is forgotten by the portal before the log knows it; there is no feed now.
    fn judge_queue(&self) {
        let queued = self.system.ask("queued", &json!({}));
        let queued: Vec<u64> = serde_json::from_value(queued).expect("numbers");
        let known = known(&self.small, "bitrix24");
        for (id, name) in self.items.iter().filter(|(id, _)| !queued.contains(&(**id).into())) {
            assert_eq!(known.get(&id.to_string()).map(|item| &item["name"]), Some(&json!(name)));
        }
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

/// What the portal does not keep any more, since the application was installed anew, is found by
/// comparison; while it lets nobody have it kept, that is said, and it is kept from then on.
#[test]
fn portal_that_forgets_to_whom_it_speaks_is_told_again() {
    let mut portal = Portal::new("forgetful", true, ", compare = \"4s\"");
    portal.put(1..=100, "A");
    let mut feed = follow(&portal.small, &[]);
    portal.await_equal(&mut feed);
    assert_eq!(portal.system.counts("bound"), 3);
    portal.system.ask("unbind", &json!({}));
    let refused = json!({ "method": "event.bind", "status": 403, "error": "insufficient_scope",
        "for": 0, "times": 1_000 });
    portal.system.ask("fault", &refused);
    portal.put([1, 101], "B");
    portal.delete([2]);
    portal.await_equal(&mut feed);
    wait_for("it to be said", PATIENCE, || {
        let (_, said) = portal.small.tributary(&["status"]);
        said.contains("have what happens kept: the answer is 403 insufficient_scope")
    });
    portal.system.ask("mend", &json!({}));
    wait_for("it to listen again", PATIENCE, || portal.system.counts("bound") == 3);
    let handed_out = portal.system.counts("handed_out");
    portal.put([3], "C");
    portal.await_equal(&mut feed);
    assert!(portal.system.counts("handed_out") > handed_out, "by the queue");
    portal.judge();
}

/// Who goes while the first snapshot is taken is few of all, though many of those that are known by
/// then.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn first_snapshot_is_held_for_nothing() {
    let mut portal = Portal::new("first", true, ", max_deletes = 0.05, compare = \"1h\"");
    portal.put(1..=6_000, "A");
    let slowly = ("FAILPOINTS", "comparison-step=sleep(5000)");
    let mut feed = portal.small.begin("feed", &["--follow"], &[slowly]);
    wait_for("the first pages", PATIENCE, || known(&portal.small, "bitrix24").len() >= 2_500);
    portal.delete(1..=200);
    wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
    portal.await_equal(&mut feed);
    assert!(!feed.said().contains("is held"), "{}", feed.said());
    portal.judge();
}

/// Under another address it is another portal, as far as a feed can tell. What would be written is
/// counted, and goes on from its place where questions fail; nobody need wait for its end.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn comparison_and_count_go_on_from_their_place() {
    let mut portal = Portal::new("placed", true, ", compare = \"1h\"");
    portal.put(1..=6_000, "A");
    let fails = || {
        let fault = json!({ "method": "batch", "status": 503, "error": "", "for": 0, "times": 2 });
        portal.system.ask("fault", &fault);
    };
    let (begun, failed) = (|| portal.system.counts("begun"), || portal.system.counts("failed"));
    let begin = |step| portal.small.begin("feed", &["--follow"], &[("FAILPOINTS", step)]);
    let feed = begin("comparison-step=sleep(2500)");
    wait_for("the first pages", PATIENCE, || known(&portal.small, "bitrix24").len() >= 2_500);
    fails();
    wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
    assert_eq!((begun(), failed()), (1, 2), "nothing was read twice");
    drop(feed);
    let config = fs::read_to_string(&portal.small.at[1]).expect("a configuration");
    let url = format!("url = \"{}\"", portal.system.url);
    let other = url.replace("127.0.0.1", "localhost");
    fs::write(&portal.small.at[1], config.replacen(&url, &other, 1)).expect("it can be written");
    let feed = begin("count-step=sleep(2500)");
    wait_for("the count to begin", PATIENCE, || begun() == 2);
    // It has asked for the first pages now, or soon.
    std::thread::sleep(Duration::from_millis(1_000));
    fails();
    wait_for("it to be held", PATIENCE, || feed.said().contains("is held"));
    assert_eq!((begun(), failed()), (2, 4), "nothing was counted twice");
    assert!(feed.said().contains("0 of 6000 are gone"), "{}", feed.said());
    drop(feed);
    let mut feed = begin("count-step=sleep(4000)");
    wait_for("another count", PATIENCE, || begun() == 3);
    feed.signal(Signal::SIGTERM);
    wait_for("it to end", PATIENCE, || feed.code().is_some());
    assert_eq!(feed.code(), Some(0), "{}", feed.said());
    assert!(!feed.said().contains("is held"), "before it had counted all: {}", feed.said());
    portal.judge();
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
    portal.put(1..=9_000, "A");
    let slowly = ("FAILPOINTS", "comparison-step=sleep(2000)");
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
    // Who goes meanwhile does so too, once all was known before.
    drop(feed);
    let begun = portal.system.counts("begun");
    let feed = portal.small.begin("feed", &["--follow"], &[slowly]);
    wait_for("another comparison", PATIENCE, || portal.system.counts("begun") > begun);
    portal.delete([2]);
    wait_for("who is gone", PATIENCE, || !known(&portal.small, "bitrix24").contains_key("2"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!feed.said().contains("snapshot complete"), "it was not amid its comparison");
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
        drop(feed);
        portal.judge_queue();
    }
    let mut feed = follow(&portal.small, &[]);
    portal.await_equal(&mut feed);
    wait_for("what was put aside to be cleared", PATIENCE, || portal.system.counts("queue") == 0);
    portal.judge();
}
