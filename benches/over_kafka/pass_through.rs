//! The floor: reads each event and writes records of the same sizes, exactly once, and knows
//! nothing of what they say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::{
    PARTITIONS,
    place::{EVENTS, Place},
};

/// Records as the engine wrote them.
pub struct Sample {
    enriched: Vec<Vec<u8>>,
    latest: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Sample {
    pub fn read(place: &Place, name: &str) -> Sample {
        let mut sample = Sample { enriched: Vec::new(), latest: Vec::new() };
        place.some(&format!("{name}_enriched"), 0, 0, |message| {
            sample.enriched.push(message.payload().unwrap_or_default().to_vec());
            sample.enriched.len() < 10_000
        });
        place.some(&format!("{name}_latest"), 0, 0, |message| {
            let of = |part: Option<&[u8]>| part.unwrap_or_default().to_vec();
            sample.latest.push((of(message.key()), of(message.payload())));
            sample.latest.len() < 10_000
        });
        sample
    }
}

/// When a transaction ends.
#[derive(Clone, Copy)]
pub struct Cut {
    pub records: u64,
    pub time: Duration,
}

/// A pass-through that runs.
pub struct PassThrough {
    pub enriched: String,
    pub latest: String,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl PassThrough {
    /// Starts from the begin of the events, or from their end.
    pub fn start(
        place: &Place,
        name: &str,
        threads: u32,
        sample: &Sample,
        share: f64,
        (cut, from, passed): (Cut, Offset, &Arc<AtomicU64>),
    ) -> PassThrough {
        let [enriched, latest] = ["enriched", "latest"].map(|view| format!("{name}_{view}"));
        place.make_topic(&enriched);
        place.make_topic(&latest);
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = |number: u32| {
            let mut client = place.client();
            client.set("group.id", name).set("isolation.level", "read_committed");
            client.set("enable.auto.commit", "false").set("fetch.queue.backoff.ms", "5");
            client.set("queued.min.messages", "1000000").set("check.crcs", "false");
            let reader: BaseConsumer = client.create().expect("a reader");
            let mut wanted = TopicPartitionList::new();
            for partition in (0..PARTITIONS).filter(|partition| partition % threads == number) {
                wanted.add_partition_offset(EVENTS, partition as i32, from).expect("a partition");
            }
            reader.assign(&wanted).expect("it can be read");
            let mut client = place.client();
            client.set("transactional.id", format!("{name}-{number}")).set("linger.ms", "0");
            client.set("compression.type", "snappy").set("batch.size", "1000000");
            client.set("queue.buffering.max.messages", "500000");
            client.set("delivery.report.only.error", "true");
            let producer: BaseProducer = client.create().expect("a producer");
            producer.init_transactions(Duration::from_secs(30)).expect("the broker answers");
            let mut passing = Passing {
                reader,
                producer,
                topics: [enriched.clone(), latest.clone()],
                enriched: sample.enriched.clone(),
                latest: sample.latest.clone(),
                share,
                cut,
                passed: Arc::clone(passed),
                is_over: Arc::clone(&is_over),
            };
            thread::spawn(move || passing.run())
        };
        let threads = (0..threads).map(thread).collect();
        PassThrough { enriched: enriched.clone(), latest: latest.clone(), is_over, threads }
    }

    /// Passes all events and ends.
    pub fn drain(
        place: &Place,
        name: &str,
        threads: u32,
        sample: &Sample,
        share: f64,
        events: u64,
    ) -> PassThrough {
        // Larger transactions were not faster.
        let cut = Cut { records: 20_000, time: Duration::from_millis(500) };
        let passed = Arc::new(AtomicU64::new(0));
        let begun = (cut, Offset::Beginning, &passed);
        let mut pass = PassThrough::start(place, name, threads, sample, share, begun);
        while passed.load(Ordering::Relaxed) < events {
            thread::sleep(Duration::from_millis(20));
        }
        pass.end();
        pass
    }

    pub fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("it passes on"));
    }
}

struct Passing {
    reader: BaseConsumer,
    producer: BaseProducer,
    topics: [String; 2],
    enriched: Vec<Vec<u8>>,
    latest: Vec<(Vec<u8>, Vec<u8>)>,
    share: f64,
    cut: Cut,
    passed: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Passing {
    fn run(&mut self) {
        let (mut number, mut owed) = (0usize, 0.0);
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(first) = self.reader.poll(Duration::from_millis(20)) else { continue };
            self.producer.begin_transaction().expect("none is open");
            let begun = Instant::now();
            let (mut records, mut events) = (0, 0);
            let mut next = Some(first);
            while let Some(message) = next.take() {
                let message = message.expect("the events can be read");
                let partition = number as i32 % PARTITIONS as i32;
                let value = &self.enriched[number % self.enriched.len()];
                self.send(0, partition, message.key().unwrap_or_default(), value);
                owed += self.share;
                if owed >= 1.0 {
                    owed -= 1.0;
                    let (key, value) = &self.latest[number % self.latest.len()];
                    self.send(1, partition, key, value);
                    records += 1;
                }
                number += 1;
                records += 1;
                events += 1;
                if records >= self.cut.records || self.is_over.load(Ordering::Relaxed) {
                    break;
                }
                let left = self.cut.time.saturating_sub(begun.elapsed());
                // What waits is sent in time, as it would be by a poll of the producer.
                next = self.reader.poll(left);
            }
            while self.producer.in_flight_count() > 0 {
                // A poll that waits keeps a core busy.
                thread::sleep(Duration::from_micros(200));
                self.producer.poll(Duration::ZERO);
            }
            self.producer.commit_transaction(Duration::from_secs(30)).expect("nothing disturbs it");
            self.passed.fetch_add(events, Ordering::Relaxed);
        }
    }

    fn send(&self, topic: usize, partition: i32, key: &[u8], value: &[u8]) {
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "epoch", value: Some(b"1795680549179") })
            .insert(Header { key: "dataflow", value: Some(b"attendance") });
        let mut record = BaseRecord::to(&self.topics[topic])
            .partition(partition)
            .key(key)
            .payload(value)
            .headers(headers);
        while let Err((_, again)) = self.producer.send(record) {
            thread::sleep(Duration::from_micros(200));
            self.producer.poll(Duration::ZERO);
            record = again;
        }
    }
}
