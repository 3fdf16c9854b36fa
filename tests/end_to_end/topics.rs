//! The topics of a dataflow as one who shares nothing with the engine makes and reads them.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::Headers,
};

use crate::{game::wait_for, stack::Stack};

/// Partitions of the topic of events in a game.
pub const EVENT_PARTITIONS: u32 = 6;

/// A record as a reader sees it.
pub struct Seen {
    pub partition: u32,
    pub offset: u64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

/// Makes the topics of a dataflow before it does so itself: those of the events on the first two
/// brokers, all others on one alone.
pub fn place_topics(stack: &Stack, name: &str, broker: i32) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &stack.brokers).create().expect("a client");
    let made = |topic: NewTopic<'_>| {
        // Of brokers that have just begun the client learns who they are while it asks.
        wait_for("a topic to be made", Duration::from_secs(30), || {
            let made = pollster::block_on(admin.create_topics([&topic], &AdminOptions::new()));
            match made.map(|mut topics| topics.remove(0)) {
                Ok(Ok(_) | Err((_, Code::TopicAlreadyExists))) => true,
                Ok(Err(refused)) => panic!("{refused:?}"),
                Err(_) => false,
            }
        });
    };
    let elsewhere: Vec<&[i32]> = vec![&[1], &[2], &[1], &[2], &[1], &[2]];
    let events = format!("{name}_events");
    made(NewTopic::new(&events, EVENT_PARTITIONS as i32, TopicReplication::Variable(&elsewhere)));
    let here = [broker];
    for (topic, partitions, policy) in [
        ("reference", 1, "compact"),
        ("enriched", 6, "compact"),
        ("latest", 6, "compact"),
        ("dead_letters", 6, "delete"),
        ("progress", 1, "compact"),
        ("lead", 1, "compact"),
        ("replayed", 1, "compact"),
    ] {
        let topic = format!("{name}_{topic}");
        let all: Vec<&[i32]> = vec![&here; partitions];
        let topic = NewTopic::new(&topic, partitions as i32, TopicReplication::Variable(&all))
            .set("cleanup.policy", policy)
            .set("message.timestamp.type", "LogAppendTime")
            .set("min.compaction.lag.ms", "604800000")
            .set("delete.retention.ms", "604800000")
            .set("min.insync.replicas", "1")
            .set("max.message.bytes", "16777216");
        made(topic);
    }
}

/// Sets settings of a topic; its others go back to their defaults.
pub fn alter(admin: &AdminClient<DefaultClientContext>, topic: &str, settings: &[(&str, &str)]) {
    let altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let altered = settings.iter().fold(altered, |all, (name, value)| all.set(name, value));
    let done = pollster::block_on(admin.alter_configs([&altered], &AdminOptions::new()));
    assert!(done.expect("the broker answers")[0].is_ok(), "{topic} is altered");
}

fn reader(brokers: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "reader")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a reader")
}

fn partitions(reader: &BaseConsumer, topic: &str) -> Vec<i32> {
    let patience = Duration::from_secs(60);
    let found = reader.fetch_metadata(Some(topic), patience).expect("the broker answers");
    found.topics()[0].partitions().iter().map(|partition| partition.id()).collect()
}

/// Where the partitions of a topic end.
pub fn ends(brokers: &str, topic: &str, isolation: &str) -> Vec<u64> {
    let end = |partition| {
        let (begin, patience) = (Instant::now(), Duration::from_secs(60));
        loop {
            // A client goes on asking the broker that led when it heard of that last.
            let reader = reader(brokers, isolation);
            match reader.fetch_watermarks(topic, partition, Duration::from_secs(5)) {
                Ok((_, end)) => return end as u64,
                // A broker that has just begun leads nothing yet.
                Err(error) => assert!(begin.elapsed() < patience, "{topic}: {error}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    };
    partitions(&reader(brokers, isolation), topic).into_iter().map(end).collect()
}

/// All records of a topic that were committed when this was called, some later ones among them.
pub fn read(brokers: &str, topic: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    read_each(brokers, topic, &mut |record| seen.push(record));
    seen
}

/// The same, one by one.
pub fn read_each(brokers: &str, topic: &str, take: &mut dyn FnMut(Seen)) {
    let reader = reader(brokers, "read_committed");
    let mut wanted = TopicPartitionList::new();
    let partitions = partitions(&reader, topic);
    for partition in &partitions {
        wanted.add_partition_offset(topic, *partition, Offset::Beginning).expect("a partition");
    }
    // Where others go on writing, the end that the library tells of may never come.
    let mut open: BTreeMap<i32, u64> =
        partitions.into_iter().zip(ends(brokers, topic, "read_committed")).collect();
    open.retain(|_, end| *end > 0);
    reader.assign(&wanted).expect("they can be read");
    let mut begin = Instant::now();
    while !open.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing of {topic} came for a minute");
        match reader.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            // The reader overcomes a broker that goes and comes.
            Some(Err(_)) => {}
            Some(Ok(message)) => {
                let next = message.offset() as u64 + 1;
                if open.get(&message.partition()).is_some_and(|end| next >= *end) {
                    open.remove(&message.partition());
                }
                let headers = message.headers().map(|headers| {
                    let text = |value: Option<&[u8]>| {
                        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
                    };
                    headers.iter().map(|h| (h.key.to_owned(), text(h.value))).collect()
                });
                begin = Instant::now();
                take(Seen {
                    partition: message.partition() as u32,
                    offset: message.offset() as u64,
                    key: message.key().unwrap_or_default().to_vec(),
                    value: message.payload().unwrap_or_default().to_vec(),
                    headers: headers.unwrap_or_default(),
                });
            }
        }
    }
}
