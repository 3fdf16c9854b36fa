//! Loss upstream: each kind stops a start with its name and count, and goes on when told (P8).

use std::{
    fs,
    process::{Child, Command},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::{
    game::{Seen, read, wait_for},
    stack::{Stack, project},
};

/// A small dataflow with topics of its own, and no lookups.
pub struct Small {
    pub name: String,
    pub folder: tempfile::TempDir,
    admin: AdminClient<DefaultClientContext>,
}

pub const PATIENCE: Duration = Duration::from_secs(60);

fn now<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

impl Small {
    pub fn new(name: &str) -> Small {
        Small::with(name, "")
    }

    /// With this more said of its events.
    pub fn with(name: &str, more: &str) -> Small {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = format!(
            "name = \"{name}\"\nshards = 4\n\n[events]\nkey = \"ID\"\nshard_key = \"ID\"\n\
             time = \"AT\"\nzone = \"UTC\"\n{more}\n[events.columns]\n\
             ID = {{ type = \"integer\", range = \"0..1000000\" }}\n\
             AT = {{ type = \"datetime\", range = \"2015-01-01..2149-12-31\" }}\n\n\
             [views.all]\nkind = \"enriched\"\n"
        );
        fs::write(folder.path().join("spec.toml"), spec).expect("a spec");
        let brokers = &Stack::get().brokers;
        let admin = ClientConfig::new().set("bootstrap.servers", brokers).create();
        let small = Small { name: name.to_owned(), folder, admin: admin.expect("a client") };
        let (code, said) = small.tributary(&["init", "--event-partitions", "2"]);
        assert_eq!(code, Some(0), "{said}");
        small
    }

    fn events(&self) -> String {
        format!("{}_events", self.name)
    }

    /// Runs a command to its end; returns what it says on both its outputs.
    pub fn tributary(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let spec = self.folder.path().join("spec.toml");
        let done = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(arguments[0].split(' '))
            .arg(spec)
            .args(["--kafka", &Stack::get().brokers])
            .args(&arguments[1..])
            .current_dir(project("."))
            .output()
            .expect("it can be started");
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Starts the engine.
    pub fn start(&self, options: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tributary"))
            .arg("run")
            .arg(self.folder.path().join("spec.toml"))
            .args(["--kafka", &Stack::get().brokers])
            .args(options)
            .current_dir(project("."))
            .spawn()
            .expect("it can be started")
    }

    /// All committed records of one of its topics.
    pub fn read(&self, topic: &str) -> Vec<Seen> {
        read(&Stack::get().brokers, &format!("{}_{topic}", self.name))
    }

    /// Runs the engine until so many records stand in the view, then kills it.
    pub fn run_until(&self, records: usize, options: &[&str]) {
        let mut engine = self.start(options);
        wait_for("the records", PATIENCE, || {
            assert!(engine.try_wait().expect("it was started").is_none(), "it ended");
            self.read("all").len() >= records
        });
        engine.kill().expect("it runs");
        engine.wait().expect("it was started");
    }

    /// Writes events with these IDs to a partition.
    pub fn produce(&self, partition: i32, ids: std::ops::Range<u32>) {
        let event =
            |id| (id, format!("{{\"ID\":{id},\"AT\":\"2025-06-01 10:00:00\"}}").into_bytes());
        self.send(partition, &ids.map(event).collect::<Vec<_>>());
    }

    /// Writes records, each with the number of its key, to a partition.
    pub fn send(&self, partition: i32, records: &[(u32, Vec<u8>)]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &Stack::get().brokers)
            .create()
            .expect("a producer");
        for (id, event) in records {
            let (key, topic) = (id.to_string(), self.events());
            let record = BaseRecord::to(&topic).partition(partition).key(&key).payload(event);
            assert!(producer.send(record).is_ok(), "the queue is empty");
        }
        producer.flush(PATIENCE).expect("the broker takes them");
    }

    fn make(&self, partitions: i32) {
        let topic = self.events();
        let topic = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
        let topic = topic.set("message.timestamp.type", "LogAppendTime");
        wait_for("the topic to be made", PATIENCE, || {
            let made = now(self.admin.create_topics([&topic], &AdminOptions::new()));
            made.expect("the broker answers")[0].is_ok()
        });
    }
}

#[test]
fn deleted_records_are_named_and_counted() {
    let small = Small::new("truncated");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    small.produce(0, 50..80);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&small.events(), 0, Offset::Offset(60)).expect("a partition");
    let deleted = now(small.admin.delete_records(&before, &AdminOptions::new()));
    deleted.expect("the broker deletes them");
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, Some(1), "{said}");
    let lost =
        "partition 0 of topic \"truncated_events\" has lost 60 offset(s): 0 to 60, of which 10";
    assert!(said.contains(lost) && said.contains("--accept-loss"), "{said}");
    // Of 80 the 10 that were never read are lost.
    small.run_until(70, &["--accept-loss"]);
    small.produce(0, 80..90);
    // What was accepted once is not asked again.
    small.run_until(80, &[]);
}

#[test]
fn topic_that_was_made_again_is_another_one_though_it_was_filled() {
    let small = Small::new("remade");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let deleted = now(small.admin.delete_topics(&[&small.events()], &AdminOptions::new()));
    assert!(deleted.expect("the broker answers")[0].is_ok());
    small.make(2);
    small.produce(0, 100..200);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, Some(1), "{said}");
    let other = "topic \"remade_events\" is another one than the outputs were made from";
    assert!(said.contains(other) && said.contains("50 offset(s)"), "{said}");
    small.run_until(150, &["--accept-loss"]);
}

#[test]
fn new_partitions_of_the_events_wait_for_the_operators_word() {
    let small = Small::new("widened");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let topic = small.events();
    let more = NewPartitions::new(&topic, 3);
    let made = now(small.admin.create_partitions([&more], &AdminOptions::new()));
    assert!(made.expect("the broker answers")[0].is_ok());
    small.produce(2, 50..60);
    let (code, said) = small.tributary(&["run"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has 3 partitions and had 2") && said.contains("--accept-"), "{said}");
    small.run_until(60, &["--accept-partitions"]);
    small.run_until(60, &[]);
}

#[test]
fn topic_that_goes_while_it_is_read_stops_the_engine() {
    let small = Small::new("gone");
    small.produce(0, 0..50);
    small.run_until(50, &[]);
    let log = small.folder.path().join("log");
    let mut engine = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .arg("run")
        .arg(small.folder.path().join("spec.toml"))
        .args(["--kafka", &Stack::get().brokers])
        .current_dir(project("."))
        .stderr(fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("it can be started");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    wait_for("the engine to go on", PATIENCE, || said().contains("replayed"));
    let deleted = now(small.admin.delete_topics(&[&small.events()], &AdminOptions::new()));
    assert!(deleted.expect("the broker answers")[0].is_ok());
    wait_for("the engine to end", PATIENCE, || {
        engine.try_wait().expect("it was started").is_some()
    });
    let (code, said) = (engine.wait().expect("it was started").code(), said());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("gone_events"), "{said}");
}
