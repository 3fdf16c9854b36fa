//! The floor: reads each event and writes records of the same sizes, exactly once, and knows
//! nothing of what they say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
    message::{BorrowedMessage, Header, OwnedHeaders},
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
            let producers = ["even", "odd"].map(|which| {
                let mut client = place.client();
                client.set("transactional.id", format!("{name}-{number}-{which}"));
                client.set("compression.type", "snappy").set("batch.size", "1000000");
                client.set("queue.buffering.max.messages", "500000").set("linger.ms", "0");
                client.set("delivery.report.only.error", "true");
                let producer: BaseProducer = client.create().expect("a producer");
                producer.init_transactions(Duration::from_secs(30)).expect("the broker answers");
                producer
            });
            let passing = Passing {
                topics: [enriched.clone(), latest.clone()],
                enriched: sample.enriched.clone(),
                latest: sample.latest.clone(),
                share,
                cut,
                number: 0,
                owed: 0.0,
            };
            let (is_over, passed) = (Arc::clone(&is_over), Arc::clone(passed));
            thread::spawn(move || passing.run(&reader, producers, &is_over, &passed))
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
            assert!(!pass.threads.iter().any(JoinHandle::is_finished), "what ended says why");
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
    topics: [String; 2],
    enriched: Vec<Vec<u8>>,
    latest: Vec<(Vec<u8>, Vec<u8>)>,
    share: f64,
    cut: Cut,
    number: usize,
    owed: f64,
}

impl Passing {
    /// One transaction is filled while the one before it comes to its end, in its order.
    fn run(
        mut self,
        reader: &BaseConsumer,
        producers: [BaseProducer; 2],
        is_over: &AtomicBool,
        passed: &AtomicU64,
    ) {
        let (full, to_end) = mpsc::sync_channel::<(BaseProducer, u64)>(1);
        let (free, to_fill) = mpsc::channel();
        producers.into_iter().for_each(|producer| free.send(producer).expect("it is heard"));
        thread::scope(|scope| {
            scope.spawn(move || {
                for (producer, events) in to_end {
                    end(&producer);
                    passed.fetch_add(events, Ordering::Relaxed);
                    // Nobody waits for it where all is over.
                    let _ = free.send(producer);
                }
            });
            while !is_over.load(Ordering::Relaxed) {
                let Some(first) = poll(reader, Duration::from_millis(20)) else { continue };
                let producer = to_fill.recv().expect("transactions come to their end");
                let events = self.fill(reader, &producer, first, is_over);
                full.send((producer, events)).expect("it waits for them");
            }
            drop(full);
        });
    }

    /// Begins a transaction with an event, and sends what belongs into it; returns of how many.
    fn fill(
        &mut self,
        reader: &BaseConsumer,
        producer: &BaseProducer,
        first: KafkaResult<BorrowedMessage<'_>>,
        is_over: &AtomicBool,
    ) -> u64 {
        producer.begin_transaction().expect("none is open");
        let begun = Instant::now();
        let (mut records, mut events) = (0, 0);
        let mut next = Some(first);
        while let Some(message) = next.take() {
            let message = message.expect("the events can be read");
            let partition = (self.number % PARTITIONS as usize) as i32;
            let value = &self.enriched[self.number % self.enriched.len()];
            send(producer, &self.topics[0], partition, message.key().unwrap_or_default(), value);
            self.owed += self.share;
            if self.owed >= 1.0 {
                self.owed -= 1.0;
                let (key, value) = &self.latest[self.number % self.latest.len()];
                send(producer, &self.topics[1], partition, key, value);
                records += 1;
            }
            self.number += 1;
            records += 1;
            events += 1;
            let left = self.cut.time.saturating_sub(begun.elapsed());
            if records >= self.cut.records || left.is_zero() || is_over.load(Ordering::Relaxed) {
                break;
            }
            next = poll(reader, left);
        }
        events
    }
}

/// Waits for a record. A poll that waits keeps a core busy.
fn poll(reader: &BaseConsumer, patience: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
    let until = Instant::now() + patience;
    loop {
        let polled = reader.poll(Duration::ZERO);
        if polled.is_some() || Instant::now() >= until {
            return polled;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Ends a transaction. The client's own wait for what is in flight takes 100 ms.
fn end(producer: &BaseProducer) {
    while producer.in_flight_count() > 0 {
        thread::sleep(Duration::from_micros(200));
        producer.poll(Duration::ZERO);
    }
    producer.commit_transaction(Duration::from_secs(30)).expect("nothing disturbs it");
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, key: &[u8], value: &[u8]) {
    let headers = OwnedHeaders::new_with_capacity(2)
        .insert(Header { key: "epoch", value: Some(b"1795680549179") })
        .insert(Header { key: "dataflow", value: Some(b"attendance") });
    let mut record =
        BaseRecord::to(topic).partition(partition).key(key).payload(value).headers(headers);
    while let Err((_, again)) = producer.send(record) {
        thread::sleep(Duration::from_micros(200));
        producer.poll(Duration::ZERO);
        record = again;
    }
}
