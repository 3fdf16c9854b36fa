//! A small dataflow over the brokers that tests share, without a judge.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{
    game::wait_for,
    stack::{Stack, project},
    topics::{Seen, alter, ends, read},
};

/// A small dataflow with topics of its own.
pub struct Small {
    pub name: String,
    pub folder: tempfile::TempDir,
    pub admin: AdminClient<DefaultClientContext>,
    /// How the program reaches the brokers.
    pub at: [String; 2],
}

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn now<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

impl Small {
    pub fn new(name: &str) -> Small {
        Small::with(name, "")
    }

    /// With this more said of its events.
    pub fn with(name: &str, more: &str) -> Small {
        Small::made_of(name, "", more, "")
    }

    /// In which an event's ID is that of a person, who has a name.
    pub fn with_people(name: &str) -> Small {
        Small::with_people_and(name, "")
    }

    /// With this more said of the dataflow.
    pub fn with_people_and(name: &str, more: &str) -> Small {
        Small::made_of(name, more, "", &Small::people(""))
    }

    /// Whose people are those of these sources.
    pub fn with_people_from(name: &str, sources: &str) -> Small {
        Small::made_of(name, "", "", &Small::people(&format!("from = {sources}\n")))
    }

    /// Whose events look up what these lookups say.
    pub fn with_lookups(name: &str, lookups: &str) -> Small {
        Small::made_of(name, "", "", lookups)
    }

    fn people(more: &str) -> String {
        format!(
            "[lookups.person]\n{more}key = {{ path = \"N\" }}\nmatches = \"ID\"\n\
             [lookups.person.columns]\nNAME = {{ type = \"text\", path = \"NAME\" }}\n"
        )
    }

    fn made_of(name: &str, first: &str, more: &str, lookup: &str) -> Small {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = format!(
            "name = \"{name}\"\nshards = 4\n{first}\n[events]\nkey = \"ID\"\nshard_key = \"ID\"\n\
             time = \"AT\"\nzone = \"UTC\"\n{more}\n[events.columns]\n\
             ID = {{ type = \"integer\", range = \"0..1000000\" }}\n\
             AT = {{ type = \"datetime\", range = \"2015-01-01..2149-12-31\" }}\n\n\
             {lookup}\n[views.all]\nkind = \"enriched\"\n"
        );
        Small::in_folder(name, folder, &spec)
    }

    /// Of a whole spec of this name.
    pub fn of(name: &str, spec: &str) -> Small {
        Small::in_folder(name, tempfile::tempdir().expect("a folder"), spec)
    }

    fn in_folder(name: &str, folder: tempfile::TempDir, spec: &str) -> Small {
        fs::write(folder.path().join("spec.toml"), spec).expect("a spec");
        let brokers = &Stack::get().brokers;
        let admin = ClientConfig::new().set("bootstrap.servers", brokers).create();
        let at = ["--kafka".to_owned(), brokers.clone()];
        let admin = admin.expect("a client");
        let small = Small { name: name.to_owned(), folder, admin, at };
        let (code, said) = small.tributary(&["init", "--event-partitions", "2"]);
        assert_eq!(code, Some(0), "{said}");
        small
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    pub fn events(&self) -> String {
        self.topic("events")
    }

    /// Runs a command to its end; returns what it says on both its outputs.
    pub fn tributary(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let spec = self.folder.path().join("spec.toml");
        let done = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(arguments[0].split(' '))
            .arg(spec)
            .args(&self.at)
            .args(&arguments[1..])
            .current_dir(project("."))
            .output()
            .expect("it can be started");
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Starts the engine.
    pub fn start(&self, options: &[&str]) -> Engine {
        self.begin("run", options, &[])
    }

    /// Starts a command that goes on, with these variables of its environment.
    pub fn begin(&self, command: &str, options: &[&str], variables: &[(&str, &str)]) -> Engine {
        let spec = self.folder.path().join("spec.toml");
        let spec = spec.to_str().expect("temporary folders are UTF-8");
        let words = command.split(' ').chain([spec, &self.at[0], &self.at[1]]);
        let words: Vec<&str> = words.chain(options.iter().copied()).collect();
        Engine::begin(&words, variables)
    }

    /// Gives documents of these people, by number, to the reference log; `name` says how each is
    /// called.
    pub fn feed(&self, people: std::ops::Range<u32>, name: &str) {
        self.feed_from("people", people, name);
    }

    /// The same from a source of that name.
    pub fn feed_from(&self, source: &str, people: std::ops::Range<u32>, name: &str) {
        let path = self.folder.path().join("people.ndjson");
        let line =
            |n| format!("{{\"_id\":\"{n}\",\"_source\":{{\"N\":{n},\"NAME\":\"{name} {n}\"}}}}\n");
        fs::write(&path, people.map(line).collect::<String>()).expect("a file");
        let path = path.to_str().expect("temporary folders are UTF-8");
        let feed = ["feed", "--once", "--documents", path, "--source", source];
        let (code, said) = self.tributary(&feed);
        assert_eq!(code, Some(0), "{said}");
    }

    /// All committed records of one of its topics.
    pub fn read(&self, topic: &str) -> Vec<Seen> {
        let mut records = read(&Stack::get().brokers, &format!("{}_{topic}", self.name));
        // A start says of progress that nobody needs any more that it is gone.
        records.retain(|record| topic != "progress" || !record.value.is_empty());
        records
    }

    /// Whether some process of its cluster has taken a transactional id.
    pub fn has_taken(&self, id: &str) -> bool {
        let taken = read(&Stack::get().brokers, "__transaction_state");
        taken.iter().any(|record| record.key.ends_with(id.as_bytes()))
    }

    /// What each record says last, by ID; nothing where it has no name.
    pub fn names(&self) -> BTreeMap<u64, String> {
        let mut newest = BTreeMap::new();
        for record in self.read("all") {
            let columns: Value = serde_json::from_slice(&record.value).expect("it is JSON");
            let id = columns["ID"].as_u64().expect("every record has one");
            newest.insert(id, columns["NAME"].as_str().unwrap_or_default().to_owned());
        }
        newest
    }

    /// Runs the engine until so many records stand in the view, then kills it.
    pub fn run_until(&self, records: usize, options: &[&str]) {
        let mut engine = self.start(options);
        wait_for("the records", PATIENCE, || {
            assert_eq!(engine.code(), None, "it goes on");
            self.read("all").len() >= records
        });
    }

    /// Writes events with these IDs to a partition.
    pub fn produce(&self, partition: i32, ids: std::ops::Range<u32>) {
        self.send(partition, &ids.map(Small::event).collect::<Vec<_>>());
    }

    /// An event with this ID, and the ID.
    pub fn event(id: u32) -> (u32, Vec<u8>) {
        (id, format!("{{\"ID\":{id},\"AT\":\"2025-06-01 10:00:00\"}}").into_bytes())
    }

    pub fn producer(&self) -> BaseProducer {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &Stack::get().brokers).set("linger.ms", "0");
        client.set("message.max.bytes", "16777216");
        client.create().expect("a producer")
    }

    /// Writes records, each with the number of its key, to a partition.
    pub fn send(&self, partition: i32, records: &[(u32, Vec<u8>)]) {
        self.send_by(&self.producer(), partition, records);
    }

    /// The same by a producer that is there already.
    pub fn send_by(&self, producer: &BaseProducer, partition: i32, records: &[(u32, Vec<u8>)]) {
        for (id, event) in records {
            let (key, topic) = (id.to_string(), self.events());
            let record = BaseRecord::to(&topic).partition(partition).key(&key).payload(event);
            assert!(producer.send(record).is_ok(), "the queue is empty");
        }
        producer.flush(PATIENCE).expect("the broker takes them");
    }

    /// Gives a topic a partition more.
    pub fn grow(&self, topic: &str) {
        let topic = self.topic(topic);
        let partitions = ends(&Stack::get().brokers, &topic, "read_committed").len() + 1;
        let more = NewPartitions::new(&topic, partitions);
        let grown = now(self.admin.create_partitions([&more], &AdminOptions::new()));
        assert!(grown.expect("the broker answers")[0].is_ok(), "{topic} grows");
    }

    /// Writes a record to a topic of one partition, or to the first of it.
    pub fn write(&self, topic: &str, key: &[u8], value: &[u8]) {
        let (producer, topic) = (self.producer(), self.topic(topic));
        let record = BaseRecord::to(&topic).partition(0).key(key).payload(value);
        assert!(producer.send(record).is_ok(), "the queue is empty");
        producer.flush(PATIENCE).expect("the broker takes it");
    }

    pub fn delete(&self, topic: &str) {
        let deleted = now(self.admin.delete_topics(&[topic], &AdminOptions::new()));
        assert!(deleted.expect("the broker answers")[0].is_ok(), "{topic} is deleted");
    }

    /// Deletes what a partition of the events holds below an offset.
    pub fn truncate(&self, partition: i32, offset: i64) {
        let mut before = TopicPartitionList::new();
        let topic = self.events();
        before.add_partition_offset(&topic, partition, Offset::Offset(offset)).expect("a place");
        let deleted = now(self.admin.delete_records(&before, &AdminOptions::new()));
        deleted.expect("the broker deletes them");
    }

    /// Sets one setting of a topic; its others go back to their defaults.
    pub fn alter(&self, topic: &str, settings: &[(&str, &str)]) {
        alter(&self.admin, topic, settings);
    }

    /// Waits until the broker says that a topic has a setting.
    pub fn await_setting(&self, topic: &str, setting: &str, value: &str) {
        let of_topic = ResourceSpecifier::Topic(topic);
        wait_for(setting, PATIENCE, || {
            let asked = now(self.admin.describe_configs([&of_topic], &AdminOptions::new()));
            let found = asked.expect("the broker answers").remove(0).expect("it is there");
            found.get(setting).is_some_and(|entry| entry.value.as_deref() == Some(value))
        });
    }

    /// Whether the last start's writers, so many, owe nothing.
    pub fn owes_nothing(&self, writers: usize) -> bool {
        let mut newest = BTreeMap::new();
        for record in self.read("progress") {
            let record: Value = serde_json::from_slice(&record.value).expect("progress is JSON");
            let start: &mut BTreeMap<_, _> =
                newest.entry(record["generation"].as_u64()).or_default();
            let settled = record["settled"].as_u64().expect("it is said");
            let read = record["reference"]["bounds"][0][0].as_u64().expect("the log was read");
            start.insert(record["worker"].as_u64(), settled > 0 && settled >= read);
        }
        let of_last = newest.into_values().next_back().unwrap_or_default();
        of_last.len() == writers && of_last.values().all(|owes_nothing| *owes_nothing)
    }

    /// Deletes the topic of the events, and makes it again.
    pub fn remake(&self, partitions: i32) {
        self.delete(&self.events());
        let topic = self.events();
        let topic = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
        let topic = topic.set("message.timestamp.type", "LogAppendTime");
        wait_for("the topic to be made", PATIENCE, || {
            let made = now(self.admin.create_topics([&topic], &AdminOptions::new()));
            made.expect("the broker answers")[0].is_ok()
        });
    }
}

/// A command that runs, and is killed when nobody watches it any more.
pub struct Engine {
    process: Child,
    log: NamedTempFile,
}

impl Engine {
    /// Starts a command with these words, and these variables of its environment.
    pub fn begin(words: &[&str], variables: &[(&str, &str)]) -> Engine {
        let log = tempfile::NamedTempFile::new().expect("a log");
        let process = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(words)
            .envs(variables.iter().copied())
            .current_dir(project("."))
            .stderr(log.reopen().expect("it can be written"))
            .spawn()
            .expect("it can be started");
        Engine { process, log }
    }

    /// The exit code, once it has ended.
    pub fn code(&mut self) -> Option<i32> {
        let ended = self.process.try_wait().expect("it was started");
        ended.map(|status| status.code().unwrap_or(-1))
    }

    /// Waits until it has ended with this exit code; returns what it has said.
    pub fn ended(&mut self, code: i32) -> String {
        wait_for("the engine to end", PATIENCE, || self.code().is_some());
        let said = self.said();
        assert_eq!(self.code(), Some(code), "{said}");
        said
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("it runs");
    }

    /// What it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            println!("what was said:\n{}", self.said());
        }
    }
}
