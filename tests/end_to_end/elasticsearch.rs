//! The feed over Elasticsearch, against a real node.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use ureq::Agent;

use crate::{
    game::wait_for,
    gateway::{Fault, Gateway},
    portals::marked,
    secure::{authority, certificate},
    small::{Engine, PATIENCE, Small},
    stack::{Node, Stack, project},
};

/// An index of the node.
pub struct Index {
    agent: Agent,
    node: &'static Node,
    name: String,
}

impl Index {
    pub fn new(node: &'static Node, name: &str) -> Index {
        let agent = Agent::config_builder().http_status_as_error(false).build().new_agent();
        Index { agent, node, name: name.to_owned() }
    }

    /// Asks the node of the index; returns what it answers, whatever that is.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        self.try_ask(method, path, body).expect("the node answers")
    }

    /// The same of a node that may be gone.
    fn try_ask(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let url = format!("{}/{path}", self.node.url);
        let request = ureq::http::Request::builder().method(method).uri(url);
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let answer = self.agent.run(request.expect("a request")).ok()?;
        let text = answer.into_body().into_with_config().limit(1 << 30).read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }

    pub fn make(&self, shards: u32) {
        let settings = json!({
            "settings": { "number_of_shards": shards, "number_of_replicas": 0 },
            "mappings": { "dynamic": false },
        });
        let made = self.ask("PUT", &self.name, &settings.to_string());
        assert_eq!(made["acknowledged"], true, "{made}");
    }

    /// Has an alias stand for these indices alone.
    fn alias(&self, name: &str, indices: &[&str], more: &Value) {
        let mut actions =
            vec![json!({ "remove": { "index": "*", "alias": name, "must_exist": false } })];
        for index in indices {
            let mut add = json!({ "index": index, "alias": name });
            add.as_object_mut().expect("it is one").extend(more.as_object().expect("so").clone());
            actions.push(json!({ "add": add }));
        }
        let set = self.ask("POST", "_aliases", &json!({ "actions": actions }).to_string());
        assert_eq!(set["acknowledged"], true, "{set}");
    }

    pub fn unmake(&self) {
        let gone = self.ask("DELETE", &self.name, "");
        assert_eq!(gone["acknowledged"], true, "{gone}");
    }

    /// Writes documents, and deletes those that say nothing; they are acknowledged once it is back.
    pub fn write<'d>(&self, documents: impl IntoIterator<Item = (&'d str, Option<Value>)>) {
        assert!(self.try_write(documents), "the node takes them");
    }

    /// The same by a node that may be gone; says whether it took them all.
    pub fn try_write<'d>(
        &self,
        documents: impl IntoIterator<Item = (&'d str, Option<Value>)>,
    ) -> bool {
        let mut lines = String::new();
        for (id, source) in documents {
            match source {
                Some(source) => {
                    lines += &format!("{{\"index\":{{\"_id\":\"{id}\"}}}}\n{source}\n");
                }
                None => lines += &format!("{{\"delete\":{{\"_id\":\"{id}\"}}}}\n"),
            }
        }
        if lines.is_empty() {
            return true;
        }
        let answer = self.try_ask("POST", &format!("{}/_bulk", self.name), &lines);
        let Some(items) = answer.as_ref().and_then(|answer| answer["items"].as_array()) else {
            return false;
        };
        let is_done = |item: &Value| {
            let status = &item.as_object().expect("one").values().next().expect("one")["status"];
            matches!(status.as_u64(), Some(200 | 201 | 404))
        };
        items.iter().all(is_done)
    }
}

/// A dataflow whose people come from an index.
pub fn of_index(name: &str, more: &str) -> (Small, Index) {
    of_index_at(Node::get(), name, 100, more)
}

/// The same from a node, so many documents a page.
pub fn of_index_at(node: &'static Node, name: &str, page: usize, more: &str) -> (Small, Index) {
    let mut small = Small::with_people(name);
    let config = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[sources.people]\nkind = \"elasticsearch\"\n\
         urls = [\"{}\"]\nindex = \"{name}\"\npage = {page}\n{more}",
        Stack::get().brokers,
        node.url,
    );
    let path = small.folder.path().join("config.toml");
    fs::write(&path, config).expect("a configuration");
    small.at = ["--config".to_owned(), path.display().to_string()];
    (small, Index::new(node, name))
}

pub fn person(number: u32, name: &str) -> Value {
    json!({ "N": number, "NAME": name, "SECRET": "nobody asked" })
}

/// What the log says of documents, by id.
pub fn known(small: &Small) -> BTreeMap<String, String> {
    known_of(small, "people:")
}

/// The same of a source, by what its keys begin with.
pub fn known_of(small: &Small, prefix: &str) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    for record in small.read("reference") {
        let key = String::from_utf8(record.key).expect("keys are text");
        let Some(id) = key.strip_prefix(prefix).filter(|id| !id.is_empty()) else { continue };
        match record.value.is_empty() {
            true => drop(known.remove(id)),
            false => {
                let value: Value = serde_json::from_slice(&record.value).expect("JSON");
                known.insert(id.to_owned(), value["document"].to_string());
            }
        }
    }
    known
}

pub fn says(number: u32, name: &str) -> String {
    json!({ "N": number, "NAME": name }).to_string()
}

fn goes_on(feed: &mut Engine) {
    assert_eq!(feed.code(), None, "{}", feed.said());
}

#[test]
fn log_follows_an_index() {
    let (small, index) =
        of_index("followed", "feed = { look = \"50ms\", delete_after = \"1s\" }\n");
    index.make(3);
    let ids: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let people = || (0..).zip(&ids);
    index.write(people().map(|(n, id)| (&**id, Some(person(n, "A")))));
    let mut feed = small.begin("feed", &[], &[]);
    let mut wanted: BTreeMap<String, String> =
        people().map(|(n, id)| (id.clone(), says(n, "A"))).collect();
    wait_for("the snapshot", PATIENCE, || {
        goes_on(&mut feed);
        known(&small) == wanted
    });
    // Documents that change, go, come, and go and come again.
    index.write([("7", Some(person(7, "B"))), ("8", None), ("new", Some(person(500, "C")))]);
    index.write([("9", None), ("9", Some(person(9, "D")))]);
    index.write([("10", Some(json!({ "N": 10, "NAME": "A", "SECRET": "other" })))]);
    wanted.insert("7".to_owned(), says(7, "B"));
    wanted.insert("new".to_owned(), says(500, "C"));
    wanted.insert("9".to_owned(), says(9, "D"));
    wait_for("what changed", PATIENCE, || {
        goes_on(&mut feed);
        let known = known(&small);
        ["7", "new", "9"].iter().all(|id| known.get(*id) == wanted.get(*id))
    });
    wanted.remove("8");
    wait_for("what is gone", PATIENCE, || known(&small) == wanted);
    // What says nothing that counts, and what came back in time, is written of nothing.
    let records = small.read("reference");
    let of = |key: &str| records.iter().filter(|record| record.key == key.as_bytes()).count();
    assert_eq!((of("people:10"), of("people:7"), of("people:8")), (1, 2, 2));
    assert_eq!(of("people:9"), 2);
    assert!(
        records
            .iter()
            .all(|record| { !String::from_utf8_lossy(&record.value).contains("nobody asked") })
    );
}

#[test]
fn feed_of_another_index_waits_for_the_operators_word() {
    let (small, index) = of_index("remade", "feed = { look = \"50ms\", delete_after = \"1s\" }\n");
    index.make(1);
    let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let write = |range: std::ops::Range<u32>, name: &str| {
        index.write(range.map(|n| (&*ids[n as usize], Some(person(n, name)))));
    };
    write(0..100, "A");
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the snapshot", PATIENCE, || known(&small).len() == 100);
    let before = known(&small);
    index.unmake();
    wait_for("the feed to say that it is gone", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("404 index_not_found_exception")
    });
    index.make(1);
    write(0..40, "B");
    wait_for("the feed to be held", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("is held")
    });
    assert_eq!(known(&small), before);
    let (code, said) = small.tributary(&["accept", "people", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("another collection stands"), "{said}");
    let (_, status) = small.tributary(&["status"]);
    assert!(status.contains("waits for `tributary accept`: another collection"), "{status}");
    // One that comes new is held too, and so is one that is to end.
    drop(feed);
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("40 documents are new or other, 60 of 100 are gone"), "{said}");
    assert_eq!(known(&small), before);
    assert!(marked(&small, "people").1, "who waits for it to end does not wait for long");
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the heir to be held", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("60 of 100 are gone")
    });
    let (code, said) = small.tributary(&["accept", "people"]);
    assert_eq!(code, Some(0), "{said}");
    let wanted: BTreeMap<_, _> = (0..40).map(|n| (n.to_string(), says(n, "B"))).collect();
    wait_for("the difference", PATIENCE, || {
        goes_on(&mut feed);
        known(&small) == wanted
    });
    // The word was for that alone: what goes now is more than may. It goes while no feed is there, so
    // that the next one finds all of it at once.
    drop(feed);
    index.write(ids[..30].iter().map(|id| (&**id, None)));
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the feed to be held again", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("more documents are gone than may be deleted without a word")
    });
    assert_eq!(known(&small), wanted);
    // The word is heard by one that comes later, too.
    drop(feed);
    let (code, said) = small.tributary(&["accept", "people"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(known(&small).len(), 10);
}

/// Nor where the word was given, or the feed is to end: a record would lose its person for a moment.
#[test]
fn nobody_goes_who_is_written_anew_within_the_grace() {
    let feed = "feed = { look = \"50ms\", delete_after = \"4s\", max_deletes = 0 }\n";
    let (small, index) = of_index("anew", feed);
    index.make(1);
    let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let write = |range: std::ops::Range<u32>, name: &str| {
        index.write(range.map(|n| (&*ids[n as usize], Some(person(n, name)))));
    };
    write(0..100, "A");
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(0), "{said}");
    let is_tombstone = |n: u32| {
        let key = format!("people:{n}");
        small.read("reference").iter().any(|r| r.key == key.as_bytes() && r.value.is_empty())
    };
    // By then it has compared so few, and all that keeps it from deleting is the grace.
    let compares = || thread::sleep(Duration::from_secs(1));
    // The word is for the thirty-one that are missing when it is given, of whom one comes back.
    index.write(ids[..31].iter().map(|id| (&**id, None)));
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the feed to be held", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("31 of 100 are gone")
    });
    let (code, said) = small.tributary(&["accept", "people"]);
    assert_eq!(code, Some(0), "{said}");
    wait_for("the word to be heard", PATIENCE, || feed.said().contains("the word was given"));
    compares();
    write(30..31, "B");
    wait_for("the others to go", PATIENCE, || {
        goes_on(&mut feed);
        known(&small).len() == 70
    });
    assert!(!is_tombstone(30), "it was never gone for so long");
    assert!((0..30).all(is_tombstone));
    feed.signal(Signal::SIGTERM);
    wait_for("it to end", PATIENCE, || feed.code().is_some());
    // One that is to end looks that long, too.
    index.write([(&*ids[31], None)]);
    let mut feed = small.begin("feed", &["--once"], &[]);
    wait_for("it to begin", PATIENCE, || !marked(&small, "people").1);
    compares();
    write(31..32, "B");
    wait_for("the feed to end", PATIENCE, || feed.code().is_some());
    assert_eq!(feed.code(), Some(0), "{}", feed.said());
    assert!(!is_tombstone(31), "it was never gone for so long");
    // A word is used up, also where all come back for whom it was given, and another one goes.
    index.write(ids[31..61].iter().map(|id| (&**id, None)));
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the feed to be held again", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("30 of 70 are gone")
    });
    let (code, said) = small.tributary(&["accept", "people"]);
    assert_eq!(code, Some(0), "{said}");
    wait_for("the word to be heard", PATIENCE, || feed.said().contains("the word was given"));
    compares();
    // At once: a look between the two would find that nobody is missed.
    let back = ids[31..61].iter().zip(31..).map(|(id, n)| (&**id, Some(person(n, "C"))));
    index.write(back.chain([(&*ids[99], None)]));
    wait_for("nothing to be held", PATIENCE, || {
        goes_on(&mut feed);
        small.tributary(&["accept", "people", "--dry-run"]).1.contains("is not held")
    });
    wait_for("the one to go", PATIENCE, || is_tombstone(99));
    assert!(!(31..61).any(is_tombstone), "they were never gone for so long");
}

/// Else a word that is given for it later would let through what nobody has looked at.
#[test]
fn hold_that_is_over_by_itself_waits_for_no_word() {
    let feed = "feed = { look = \"50ms\", delete_after = \"1s\", compare = \"1s\" }\n";
    for (name, back) in [("recovered", 20), ("restored_all", 30)] {
        let (small, index) = of_index(name, feed);
        index.make(1);
        let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let write = |range: std::ops::Range<u32>| {
            index.write(range.map(|n| (&*ids[n as usize], Some(person(n, "A")))));
        };
        write(0..100);
        let feed = small.begin("feed", &[], &[]);
        wait_for("the snapshot", PATIENCE, || known(&small).len() == 100);
        // While it is away, so that it finds all of them at once.
        drop(feed);
        index.write(ids[..30].iter().map(|id| (&**id, None)));
        let mut feed = small.begin("feed", &[], &[]);
        wait_for("the feed to be held", PATIENCE, || {
            goes_on(&mut feed);
            feed.said().contains("is held")
        });
        assert_eq!(known(&small).len(), 100);
        // The feed ends while it is held; meanwhile most of them come back, or all.
        feed.signal(Signal::SIGTERM);
        wait_for("it to end", PATIENCE, || feed.code().is_some());
        write(0..back);
        let mut feed = small.begin("feed", &[], &[]);
        wait_for("the rest to be deleted, and the hold to be over", PATIENCE, || {
            goes_on(&mut feed);
            let (_, said) = small.tributary(&["accept", "people", "--dry-run"]);
            known(&small).len() as u32 == 70 + back && said.contains("is not held")
        });
    }
}

#[test]
fn configuration_and_commands_of_the_page_on_feeds_work() {
    let page = fs::read_to_string(project("docs/feeds.md")).expect("the page");
    let blocks = |kind: &str| {
        let begin = format!("```{kind}\n");
        let block = |rest: &str| rest.split("```").next().expect("its end").to_owned();
        page.split(&begin).skip(1).map(block).collect::<Vec<_>>()
    };
    let (small, index) = of_index("paged", "");
    index.make(1);
    index.write([("1", Some(person(1, "A")))]);
    // Each table is one that can be read: it is the secret that is missing here.
    for source in &blocks("toml")[1..] {
        let config = format!("[kafka]\nbrokers = [\"{}\"]\n{source}", Stack::get().brokers);
        fs::write(&small.at[1], config).expect("a configuration");
        let (code, said) = small.tributary(&["feed"]);
        assert!(code == Some(2) && said.contains("/run/secrets/"), "{source}: {said}");
    }
    // The node of the tests lets in everybody, and has no certificate.
    let source = blocks("toml").remove(0).lines().fold(String::new(), |kept, line| match line {
        line if line.starts_with("urls") => kept + &format!("urls = [\"{}\"]\n", Node::get().url),
        line if line.starts_with("index") => kept + "index = \"paged\"\n",
        line if line.starts_with("api_key") || line.starts_with("ca ") => kept,
        line => kept + line + "\n",
    });
    let config = format!("[kafka]\nbrokers = [\"{}\"]\n{source}", Stack::get().brokers);
    fs::write(&small.at[1], config).expect("a configuration");
    let mut ran = Vec::new();
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[0], words[2]), ("tributary", "dataflows/attendance.toml"), "{line}");
        // Spec and configuration are those of the test.
        let rest: Vec<&str> = words[3..]
            .iter()
            .copied()
            .filter(|word| !["--config", "place.toml"].contains(word))
            .collect();
        if words[1] == "feed" {
            let mut feed = small.begin("feed", &rest, &[]);
            wait_for("the snapshot", PATIENCE, || feed.said().contains("snapshot complete"));
            feed.signal(Signal::SIGTERM);
            wait_for("its end", PATIENCE, || feed.code().is_some());
            assert_eq!(feed.code(), Some(0), "{}", feed.said());
        } else {
            let (code, said) = small.tributary(&[&[words[1]], &rest[..]].concat());
            assert_eq!(code, Some(0), "{line}: {said}");
            assert!(said.contains("is not held"), "{said}");
        }
        ran.push(words[1].to_owned());
    }
    assert_eq!(ran, ["feed", "accept", "accept"]);
}

#[test]
fn records_keep_their_people_while_the_node_is_gone() {
    let node = Node::alone();
    let (small, index) = of_index_at(node, "inside", 100, "feed = { look = \"50ms\" }\n");
    index.make(1);
    index.write([("1", Some(person(1, "A"))), ("2", Some(person(2, "A")))]);
    let file = small.folder.path().join("metrics").display().to_string();
    let mut engine = small.start(&["--metrics", &file]);
    let metric = |name: &str| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    let newest = |id: &str| {
        let records = small.read("all").into_iter().rev();
        let mut of_id = records.filter(|record| record.key == id.as_bytes());
        of_id.next().map_or(Value::Null, |record| {
            let value: Value = serde_json::from_slice(&record.value).expect("JSON");
            value["NAME"].clone()
        })
    };
    small.produce(0, 1..2);
    wait_for("the first record", PATIENCE, || {
        goes_on(&mut engine);
        newest("1") == "A"
    });
    assert_eq!(metric("tributary_feed_fails"), Some(0.0));
    node.command("kill");
    wait_for("the feed to fail", PATIENCE, || metric("tributary_feed_fails") == Some(1.0));
    // What was known stands, also for what comes now.
    small.produce(0, 2..3);
    wait_for("the second record", PATIENCE, || {
        goes_on(&mut engine);
        newest("2") == "A"
    });
    node.command("start");
    index.write([("1", Some(person(1, "B")))]);
    wait_for("the correction", PATIENCE, || {
        goes_on(&mut engine);
        newest("1") == "B"
    });
    wait_for("the feed to go on", PATIENCE, || metric("tributary_feed_fails") == Some(0.0));
    assert_eq!(metric("tributary_feed_documents"), Some(2.0));
    // What the log says of the feed is on its way; were it not to come, the next word of the feed
    // would be a minute later.
    let again = Duration::from_secs(30);
    wait_for("the status to say that all is well", again, || {
        let (code, said) = small.tributary(&["status"]);
        assert_eq!(code, Some(0), "{said}");
        let mut lines = said.lines();
        let line = lines.find(|line| line.trim_start().starts_with("people")).expect("its feed");
        line.contains("first snapshot complete")
    });
    // Another feed of the source takes over; the engine goes on.
    let (code, fed) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(0), "{fed}");
    index.write([("1", Some(person(1, "C")))]);
    wait_for("the feed inside to know", PATIENCE, || {
        goes_on(&mut engine);
        engine.said().contains("another feed of it has begun")
    });
    // That one has ended, and says so.
    wait_for("the feed inside to come back", PATIENCE, || {
        goes_on(&mut engine);
        newest("1") == "C"
    });
}

#[test]
fn what_the_system_does_wrong_changes_nothing_and_is_said() {
    let ours = authority("tests");
    let (certificate, private) = certificate(&ours, "localhost", 2100);
    let gateway = Gateway::start(Node::get(), &certificate, &private);
    let (small, index) = of_index("faulty", "");
    let path = |name: &str| small.folder.path().join(name).display().to_string();
    fs::write(path("ca.pem"), ours.pem()).expect("a file");
    fs::write(path("other.pem"), authority("others").pem()).expect("a file");
    fs::write(path("key"), "first key\n").expect("a file");
    let configure = |ca: &str| {
        let config = format!(
            "[kafka]\nbrokers = [\"{}\"]\n[sources.people]\nkind = \"elasticsearch\"\n\
             urls = [\"{}\"]\nindex = \"faulty\"\npage = 3\nca = \"{}\"\n\
             api_key = {{ file = \"{}\" }}\n\
             feed = {{ look = \"50ms\", delete_after = \"1ms\", compare = \"1h\" }}\n",
            Stack::get().brokers,
            gateway.url,
            path(ca),
            path("key"),
        );
        fs::write(&small.at[1], config).expect("a configuration");
    };
    index.make(2);
    index.write([("1", Some(person(1, "A")))]);
    // An authority that it does not know.
    configure("other.pem");
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does `ca` name the authority"), "{said}");
    configure("ca.pem");
    let mut feed = small.begin("feed", &[], &[]);
    let mut wanted = BTreeMap::from([("1".to_owned(), says(1, "A"))]);
    wait_for("the snapshot", PATIENCE, || {
        goes_on(&mut feed);
        known(&small) == wanted
    });
    let failed = json!(1);
    let faults = [
        ("/_search", Fault::Refused(429, "circuit_breaking_exception"), "429 circuit_breaking"),
        ("/_stats", Fault::Refused(503, "cluster_block_exception"), "503 cluster_block"),
        ("/_search", Fault::Refused(404, "search_context_missing_exception"), "404 search_context"),
        (
            "/_search",
            Fault::Says("/timed_out", json!(true)),
            "shards are missing, or took too long",
        ),
        ("/_search", Fault::Says("/_shards/failed", failed.clone()), "shards are missing"),
        ("/_pit", Fault::Says("/_shards/failed", failed.clone()), "shards are missing"),
        ("/_refresh", Fault::Says("/_shards/failed", failed.clone()), "shards are missing"),
        ("/_stats", Fault::Says("/_shards/failed", failed), "shards are missing"),
        ("/_search", Fault::Refused(403, "security_exception"), "privilege `read`"),
        ("/_search", Fault::Cut, "the answer breaks off"),
    ];
    for (number, (place, fault, word)) in (2..).zip(faults) {
        let before = feed.said().len();
        gateway.set(Some((place, fault.clone())));
        let id = number.to_string();
        index.write([(&*id, Some(person(number, "A")))]);
        if number > 3 {
            let gone = (number - 2).to_string();
            index.write([(&*gone, None)]);
        }
        wait_for(word, PATIENCE, || {
            goes_on(&mut feed);
            gateway.met() > 1 && feed.said()[before..].contains(word)
        });
        assert_eq!(known(&small), wanted, "{fault:?}");
        gateway.set(None);
        wanted.insert(id, says(number, "A"));
        if number > 3 {
            wanted.remove(&(number - 2).to_string());
        }
        wait_for("what is behind the fault", PATIENCE, || {
            goes_on(&mut feed);
            known(&small) == wanted
        });
    }
    // A key that is revoked, and a new one.
    gateway.let_in("ApiKey second key");
    wait_for("the key to be refused", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("was the key revoked")
    });
    index.write([("20", Some(person(20, "A")))]);
    assert_eq!(known(&small), wanted);
    fs::write(path("key"), "second key\n").expect("a file");
    wanted.insert("20".to_owned(), says(20, "A"));
    wait_for("the new key to be taken", PATIENCE, || {
        goes_on(&mut feed);
        known(&small) == wanted
    });
    // Where it may not be asked how far an index is, changes are seen all the same, and what is gone.
    gateway.set(Some(("/_stats", Fault::Refused(403, "security_exception"))));
    for number in 30..33 {
        let id = number.to_string();
        index.write([(&*id, Some(person(number, "A")))]);
        wanted.insert(id, says(number, "A"));
        wait_for("what nobody probed", PATIENCE, || {
            goes_on(&mut feed);
            known(&small) == wanted
        });
    }
    index.write([("30", None)]);
    wanted.remove("30");
    wait_for("what is gone", PATIENCE, || {
        goes_on(&mut feed);
        known(&small) == wanted
    });
    assert!(gateway.met() > 1 && feed.said().contains("privilege `monitor`"), "{}", feed.said());
    // One that begins so is of the same collection.
    drop(feed);
    let mut feed = small.begin("feed", &[], &[]);
    index.write([("33", Some(person(33, "A")))]);
    wanted.insert("33".to_owned(), says(33, "A"));
    wait_for("a feed that begins so", PATIENCE, || {
        goes_on(&mut feed);
        known(&small) == wanted
    });
    gateway.set(None);
    // An index that may not be refreshed is seen some time later.
    gateway.set(Some(("/_refresh", Fault::Refused(403, "security_exception"))));
    index.write([("21", Some(person(21, "A")))]);
    wanted.insert("21".to_owned(), says(21, "A"));
    wait_for("what nobody refreshed", PATIENCE, || {
        goes_on(&mut feed);
        known(&small) == wanted
    });
    // A refresh that was on its way before may have shown that one.
    let mut times = 0;
    wait_for("the privilege to be named", PATIENCE, || {
        times += 1;
        index.write([("22", Some(person(22, &format!("{times}"))))]);
        goes_on(&mut feed);
        feed.said().contains("privilege `maintenance`")
    });
    let said = feed.said();
    assert!(!said.contains("first key") && !said.contains("second key"), "{said}");
}

#[test]
fn alias_over_two_indices_is_followed_until_it_is_another_one() {
    let feed = "feed = { look = \"50ms\", delete_after = \"2s\", compare = \"1h\" }\n";
    let (small, first) = of_index("pair", feed);
    let second = Index::new(Node::get(), "pair_2");
    let first = Index { name: "pair_1".to_owned(), ..first };
    first.make(1);
    second.make(2);
    first.alias("pair", &["pair_1", "pair_2"], &json!({}));
    let ids: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let write = |index: &Index, numbers: std::ops::Range<u32>, name: &str| {
        index.write(numbers.map(|n| (&*ids[n as usize], Some(person(n, name)))));
    };
    write(&first, 0..30, "A");
    write(&second, 30..60, "A");
    let mut feed = small.begin("feed", &[], &[]);
    let mut wanted: BTreeMap<_, _> = (0..60).map(|n| (n.to_string(), says(n, "A"))).collect();
    let is_known = |feed: &mut Engine, wanted: &BTreeMap<String, String>| {
        goes_on(feed);
        known(&small) == *wanted
    };
    wait_for("both", PATIENCE, || is_known(&mut feed, &wanted));
    // One goes from an index to the other, and back; one changes in each, and one goes for good.
    let records = || {
        let records = small.read("reference").into_iter();
        records.filter(|record| record.key == b"people:5").count()
    };
    second.write([("5", Some(person(5, "A")))]);
    first.write([("5", None)]);
    write(&first, 6..7, "B");
    write(&second, 36..37, "B");
    second.write([("59", None)]);
    wanted.insert("6".to_owned(), says(6, "B"));
    wanted.insert("36".to_owned(), says(36, "B"));
    wanted.remove("59");
    wait_for("what changed", PATIENCE, || is_known(&mut feed, &wanted));
    second.write([("5", Some(person(5, "C")))]);
    wanted.insert("5".to_owned(), says(5, "C"));
    wait_for("what went over", PATIENCE, || is_known(&mut feed, &wanted));
    assert_eq!(records(), 2, "it was never gone");
    // One is copied, and stands in both while all is compared, before it is gone from the one.
    second.write([("10", Some(person(10, "E")))]);
    wanted.insert("10".to_owned(), says(10, "E"));
    wait_for("the copy", PATIENCE, || is_known(&mut feed, &wanted));
    drop(feed);
    let mut feed = small.begin("feed", &[], &[]);
    wait_for("the comparison", PATIENCE, || feed.said().contains("snapshot complete"));
    first.write([("10", None)]);
    first.write([("11", None)]);
    wanted.remove("11");
    wait_for("what is left", PATIENCE, || is_known(&mut feed, &wanted));
    // The alias is switched.
    first.alias("pair", &["pair_1"], &json!({}));
    wait_for("the feed to be held", PATIENCE, || {
        goes_on(&mut feed);
        feed.said().contains("an alias was switched")
    });
    assert_eq!(known(&small), wanted);
    first.alias("pair", &["pair_1", "pair_2"], &json!({}));
    write(&first, 7..8, "D");
    wanted.insert("7".to_owned(), says(7, "D"));
    wait_for("the feed to go on by itself", PATIENCE, || is_known(&mut feed, &wanted));
    // One that shows a part is none that can be followed.
    let filter = json!({ "filter": { "term": { "N": 1 } } });
    first.alias("pair", &["pair_1", "pair_2"], &filter);
    drop(feed);
    let (code, said) = small.tributary(&["feed", "--once"]);
    assert!(code == Some(1) && said.contains("shows a part of its index alone"), "{said}");
    assert_eq!(known(&small), wanted);
}

#[test]
fn document_that_is_refused_hides_no_deletion() {
    let feed = "feed = { look = \"50ms\", delete_after = \"100ms\", compare = \"1h\" }\n";
    let (small, index) = of_index("refusing", feed);
    index.make(1);
    index.write([
        ("1", Some(person(1, "A"))),
        ("2", Some(person(2, "A"))),
        ("3", Some(person(3, "A"))),
    ]);
    let mut feed = small.begin("feed", &[], &[]);
    let mut wanted: BTreeMap<_, _> = (1..4).map(|n| (n.to_string(), says(n, "A"))).collect();
    let is_known = |feed: &mut Engine, wanted: &BTreeMap<String, String>| {
        goes_on(feed);
        known(&small) == *wanted
    };
    wait_for("the snapshot", PATIENCE, || is_known(&mut feed, &wanted));
    let long = "x".repeat(2 << 20);
    index.write([("4", Some(person(4, &long))), ("2", Some(person(2, &long)))]);
    index.write([("5", Some(person(5, "A")))]);
    wanted.insert("5".to_owned(), says(5, "A"));
    wait_for("what comes after", PATIENCE, || is_known(&mut feed, &wanted));
    index.write([("1", None)]);
    wanted.remove("1");
    wait_for("what is gone", PATIENCE, || is_known(&mut feed, &wanted));
    index.write([("4", None), ("2", Some(person(2, "B")))]);
    wanted.insert("2".to_owned(), says(2, "B"));
    wait_for("what is short again", PATIENCE, || is_known(&mut feed, &wanted));
    index.write([("3", None)]);
    wanted.remove("3");
    wait_for("what is gone", PATIENCE, || is_known(&mut feed, &wanted));
}
