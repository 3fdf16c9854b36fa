//! The feed over a real node of Elasticsearch: what it costs, and how soon a change is to be seen.
//!
//! ```text
//! cargo bench --bench over_elasticsearch [-- --documents 200000 --updates 600 --looks 1000]
//! ```
//!
//! Shape: an index of so many documents of a few hundred bytes, of which two columns are taken. Told
//! are how long the first snapshot and a comparison take; how much memory the feed has more than
//! one of an empty index; how much CPU of the node a look costs at which nothing is new, with all that the
//! node does meanwhile; how long after a deletion was acknowledged its tombstone can
//! be read, of 1, 100 and 1,000 documents, without a grace; and how long after a change was
//! acknowledged its enriched record can be read, at the settings that a feed has by itself. Node,
//! broker, feed, engine and reader share the machine.

#[allow(dead_code)]
#[path = "../tests/end_to_end/stack.rs"]
mod stack;

use std::{
    collections::HashMap,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

use stack::{Node, Stack};

const INDEX: &str = "bench";

/// Events, one for each of so many documents that change.
const EVENTS: u32 = 200;

/// Changes a second.
const RATE: f64 = 20.0;

/// Documents of a request to the node.
const BULK: usize = 5_000;

struct Bench {
    stack: &'static Stack,
    node: &'static Node,
    agent: Agent,
    folder: TempDir,
}

/// A process that is killed when nobody watches it any more.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is said");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(300), "waited for {what}");
        thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}

fn document(number: u64, name: &str) -> Value {
    json!({ "N": number, "NAME": name, "PADDING": "what nobody asked for, ".repeat(10) })
}

impl Bench {
    fn start() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = "name = \"bench\"\nshards = 4\n[events]\nkey = \"ID\"\nshard_key = \"ID\"\n\
                    time = \"AT\"\nzone = \"UTC\"\n[events.columns]\n\
                    ID = { type = \"integer\", range = \"0..100000000\" }\n\
                    AT = { type = \"datetime\", range = \"2015-01-01..2149-12-31\" }\n\
                    [lookups.person]\nkey = { path = \"N\" }\nmatches = \"ID\"\n\
                    [lookups.person.columns]\nNAME = { type = \"text\", path = \"NAME\" }\n\
                    [views.all]\nkind = \"enriched\"\n";
        fs::write(folder.path().join("spec.toml"), spec).expect("a spec");
        let bench = Bench {
            stack: Stack::get(),
            node: Node::get(),
            agent: Agent::config_builder().http_status_as_error(false).build().new_agent(),
            folder,
        };
        bench.configure("");
        let init = bench.command(&["init"]).output().expect("the program can be started");
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let settings = json!({
            "settings": { "number_of_shards": 1, "number_of_replicas": 0 },
            "mappings": { "dynamic": false },
        });
        bench.ask("PUT", INDEX, &settings.to_string());
        bench
    }

    /// Says how the feed goes about it.
    fn configure(&self, feed: &str) {
        let config = format!(
            "[kafka]\nbrokers = [\"{}\"]\n[sources.people]\nkind = \"elasticsearch\"\n\
             urls = [\"{}\"]\nindex = \"{INDEX}\"\nfeed = {{ max_deletes = 1.0{feed} }}\n",
            self.stack.brokers, self.node.url
        );
        fs::write(self.folder.path().join("place.toml"), config).expect("a file");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command.arg(words[0]).arg(self.folder.path().join("spec.toml"));
        command.arg("--config").arg(self.folder.path().join("place.toml")).args(&words[1..]);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        command
    }

    fn begin(&self, words: &[&str]) -> Process {
        let log = self.folder.path().join(format!("{}.log", words[0]));
        let mut command = self.command(words);
        command.stderr(File::create(&log).expect("a log")).stdout(Stdio::null());
        Process { child: command.spawn().expect("the program can be started"), log }
    }

    /// A feed that has compared all, and how long that took.
    fn feed(&self) -> (Process, Duration) {
        let feed = self.begin(&["feed"]);
        let took = wait_for("the snapshot", || feed.said().contains("snapshot complete"));
        (feed, took)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let request = ureq::http::Request::builder().method(method);
        let request = request.uri(format!("{}/{path}", self.node.url));
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let answer = self.agent.run(request.expect("a request")).expect("the node answers");
        let text = answer.into_body().into_with_config().limit(1 << 30).read_to_string();
        serde_json::from_str(&text.expect("it is text")).expect("it is JSON")
    }

    /// Writes documents, or deletes those that say nothing.
    fn write(&self, documents: &[(u64, Option<&str>)]) {
        for documents in documents.chunks(BULK) {
            let line = |(number, name): &(u64, Option<&str>)| match name {
                Some(name) => {
                    let document = document(*number, name);
                    format!("{{\"index\":{{\"_id\":\"person-{number}\"}}}}\n{document}\n")
                }
                None => format!("{{\"delete\":{{\"_id\":\"person-{number}\"}}}}\n"),
            };
            let lines: String = documents.iter().map(line).collect();
            let answer = self.ask("POST", &format!("{INDEX}/_bulk"), &lines);
            assert_eq!(answer["errors"], false, "the node takes them");
        }
    }

    /// A reader of a topic from its end on.
    fn reader(&self, topic: &str) -> BaseConsumer {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.stack.brokers).set("group.id", "bench");
        client.set("isolation.level", "read_committed").set("enable.auto.commit", "false");
        let reader: BaseConsumer = client.create().expect("a reader");
        let meta =
            reader.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("it is there");
        let mut wanted = TopicPartitionList::new();
        for partition in meta.topics()[0].partitions() {
            wanted.add_partition_offset(topic, partition.id(), Offset::End).expect("a partition");
        }
        reader.assign(&wanted).expect("it can be read");
        reader.poll(Duration::from_secs(2));
        reader
    }

    /// The CPU that the node has taken, in seconds.
    fn node_cpu(&self) -> f64 {
        let stats = self.ask("GET", "_nodes/stats/process", "");
        let nodes = stats["nodes"].as_object().expect("there is one");
        let ms =
            nodes.values().next().map(|node| node["process"]["cpu"]["total_in_millis"].clone());
        ms.and_then(|ms| ms.as_f64()).expect("it is said") / 1e3
    }

    /// How often the node was asked how far the index is.
    fn looks(&self) -> u64 {
        let stats = self.ask("GET", "_nodes/stats/http", "");
        let nodes = stats["nodes"].as_object().expect("there is one");
        let routes = &nodes.values().next().expect("there is one")["http"]["routes"];
        let routes = routes.as_object().expect("they are counted");
        let of_stats = routes.iter().filter(|(route, _)| route.contains("/_stats"));
        of_stats.filter_map(|(_, route)| route["requests"]["count"].as_u64()).sum()
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, usual: u64| {
        let place = words.iter().position(|word| word == name);
        let word = place.and_then(|place| words.get(place + 1));
        word.map_or(usual, |word| word.parse().expect("a number"))
    };
    let documents = number("--documents", 200_000);
    let (updates, looks) = (number("--updates", 600), number("--looks", 1_000));
    let bench = Bench::start();
    let (empty, _) = bench.feed();
    thread::sleep(Duration::from_secs(2));
    let without = empty.rss_kib();
    drop(empty);
    let all: Vec<(u64, Option<&str>)> = (0..documents).map(|n| (n, Some("first"))).collect();
    bench.write(&all);
    let (first, took) = bench.feed();
    let rate = documents as f64 / took.as_secs_f64();
    println!("{documents} documents; first snapshot in {:.1} s, {rate:.0}/s", took.as_secs_f64());
    drop(first);
    bench.configure(", look = \"10ms\", delete_after = \"1ms\"");
    let (feed, took) = bench.feed();
    println!("a comparison, by a feed that begins anew, in {:.1} s", took.as_secs_f64());
    thread::sleep(Duration::from_secs(2));
    let bytes = (feed.rss_kib() - without) as f64 * 1024.0 / documents as f64;
    println!("{bytes:.0} bytes of memory a document, all that the feed has beyond one of nothing");
    idle(&bench, looks);
    drop(feed);
    let (feed, _) = bench.feed();
    deletions(&bench, documents);
    drop(feed);
    bench.configure("");
    changes(&bench, updates);
}

/// What a look costs the node at which nothing is new.
fn idle(bench: &Bench, looks: u64) {
    let (cpu, asked, begun) = (bench.node_cpu(), bench.looks(), Instant::now());
    wait_for("so many looks", || {
        thread::sleep(Duration::from_millis(500));
        bench.looks() - asked >= looks
    });
    let (cpu, asked) = (bench.node_cpu() - cpu, bench.looks() - asked);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{asked} looks at which nothing was new in {seconds:.0} s: {:.2} ms of the node's CPU each, \
         all that it did meanwhile",
        cpu * 1e3 / asked as f64
    );
}

/// How long it takes until what was deleted is deleted in the log.
fn deletions(bench: &Bench, documents: u64) {
    for count in [1, 100, 1_000] {
        let reader = bench.reader("bench_reference");
        // Far from each other, so that no range holds them all.
        let step = (documents / 2 / count).max(1);
        let gone: Vec<(u64, Option<&str>)> =
            (0..count).map(|n| (u64::from(EVENTS) + n * step + count % 7, None)).collect();
        bench.write(&gone);
        let begun = Instant::now();
        let mut left = count;
        while left > 0 {
            let Some(Ok(message)) = reader.poll(Duration::from_millis(10)) else {
                assert!(begun.elapsed() < Duration::from_secs(60), "{left} are not deleted");
                continue;
            };
            left -= u64::from(message.payload().is_none());
        }
        println!("{count} deleted: all tombstones after {:.2} s", begun.elapsed().as_secs_f64());
    }
}

/// How long it takes until a change is in its record.
fn changes(bench: &Bench, updates: u64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bench.stack.brokers)
        .create()
        .expect("a producer");
    for id in 0..EVENTS {
        let event = format!("{{\"ID\":{id},\"AT\":\"2025-06-01 10:00:00\"}}");
        let key = id.to_string();
        let record = BaseRecord::to("bench_events").key(&key).payload(&event);
        assert!(producer.send(record).is_ok(), "the queue is empty");
    }
    producer.flush(Duration::from_secs(30)).expect("the broker takes them");
    let engine = bench.begin(&["run"]);
    let count = bench.reader("bench_all");
    wait_for("the records", || {
        assert!(!engine.said().contains("error"), "{}", engine.said());
        engine.said().contains("snapshot complete")
    });
    thread::sleep(Duration::from_secs(3));
    drop(count);
    let reader = bench.reader("bench_all");
    let (mut due, mut took) = (HashMap::new(), Vec::new());
    let (begun, mut sent) = (Instant::now(), 0);
    while (took.len() as u64) < updates {
        assert!(begun.elapsed() < Duration::from_secs(300), "{} changes are not seen", due.len());
        if sent < updates && begun.elapsed().as_secs_f64() * RATE >= sent as f64 {
            let name = format!("change {sent}");
            bench.write(&[(sent % u64::from(EVENTS), Some(&name))]);
            due.insert(name, Instant::now());
            sent += 1;
        }
        let Some(Ok(message)) = reader.poll(Duration::from_millis(1)) else { continue };
        let record: Value =
            serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON");
        let name = record["NAME"].as_str().unwrap_or_default();
        took.extend(due.remove(name).map(|due| due.elapsed().as_secs_f64()));
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{updates} changes at {RATE}/s, to the record: p50 {:.2} s, p99 {:.2} s, max {:.2} s",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
