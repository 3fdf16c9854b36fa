//! At the tip of a partition: where records come one by one and the client is there each time, the
//! ends that it came to stand among them, and one read takes all.

use std::{thread, time::Duration};

use tributary::{
    config::Properties,
    kafka::Kafka,
    source::{Limit, PartitionId, Source, kafka::KafkaSource},
};

use crate::{
    game::wait_for,
    small::{PATIENCE, Small},
    stack::Stack,
};

/// How many records come one by one.
const COUNT: u32 = 50;

#[test]
fn ends_among_records_do_not_end_a_read() {
    let small = Small::new("tip");
    let brokers = Stack::get().brokers.clone();
    let properties = Properties(vec![("bootstrap.servers".to_owned(), brokers)]);
    let kafka = Kafka::new(properties, "tip");
    let (_readers, mut queues) =
        kafka.read(&[(small.events(), 0, 0)], || {}).expect("it can be read");
    let mut source = KafkaSource::new(PartitionId(0), None, Some(queues.remove(0)), 0);
    let mut read = || {
        let most = Limit { records: u64::MAX, bytes: u64::MAX };
        source.read(most, &mut |_| {}).expect("it is read on").records
    };
    small.produce(0, 0..1);
    wait_for("the client to be at the end", PATIENCE, || read() == 1);
    let producer = small.producer();
    for id in 1..=COUNT {
        small.send_by(&producer, 0, &[Small::event(id)]);
        // The client waits at the end, so it has each before the next one comes.
        thread::sleep(Duration::from_millis(10));
    }
    let mut first = 0;
    wait_for("something to be read", PATIENCE, || {
        first = read();
        first > 0
    });
    assert!(first > u64::from(COUNT / 2), "one read took {first} of {COUNT} that were there");
}
