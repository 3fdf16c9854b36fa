//! Sizes: the largest event fits, and what is larger is a dead letter that fits.

use std::fs;

use rdkafka::ClientConfig;

use crate::{
    game::wait_for,
    small::{PATIENCE, Small},
    stack::Stack,
};

#[test]
fn largest_event_and_its_dead_letter_fit() {
    let small = Small::new("large");
    // What is not a column is passed over, and padding is that.
    let of = |id: u32, bytes: usize| {
        let frame = |padding: &str| {
            format!("{{\"ID\":{id},\"AT\":\"2025-06-01 10:00:00\",\"PAD\":\"{padding}\"}}")
        };
        let event = frame(&"x".repeat(bytes - frame("").len()));
        assert_eq!(event.len(), bytes);
        (id, event.into_bytes())
    };
    let largest = 1 << 20;
    // As `init` made it, the topic takes events of this size and what stands around them.
    let (allowed, framing) = (largest + (64 << 10), 128);
    let events = [of(1, largest), of(2, largest + 1), of(3, allowed - framing)];
    small.send(0, &events);
    small.run_until(1, &[]);
    let mut engine = small.start(&[]);
    wait_for("the dead letters", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on");
        small.read("dead_letters").len() == 2
    });
    let letters = small.read("dead_letters");
    for (letter, (_, event)) in letters.iter().zip(&events[1..]) {
        assert_eq!(letter.headers["reason"], "too_long");
        assert!(letter.value == *event, "byte for byte");
    }
    assert_eq!(small.read("all").len(), 1);
}

#[test]
fn event_that_comes_packed_beyond_what_its_letter_can_hold_is_cut_there() {
    let mut small = Small::new("packed");
    let config = small.folder.path().join("kafka.toml");
    // Snappy would pack the letter too.
    let place = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[kafka.client]\n\"compression.type\" = \"none\"\n",
        Stack::get().brokers
    );
    fs::write(&config, place).expect("a file");
    small.at = ["--config".to_owned(), config.display().to_string()];
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &Stack::get().brokers).set("compression.type", "gzip");
    client.set("message.max.bytes", "67108864");
    let bytes = 20 << 20;
    small.send_by(&client.create().expect("a producer"), 0, &[(1, vec![b'x'; bytes])]);
    small.produce(0, 2..3);
    let mut engine = small.start(&[]);
    wait_for("the event behind it", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on");
        small.read("all").len() == 1
    });
    let letters = small.read("dead_letters");
    let [letter] = &letters[..] else { panic!("{} letters", letters.len()) };
    let all = bytes + letter.key.len();
    assert_eq!(letter.headers["cut"], all.to_string());
    assert!(letter.value.len() > 8_000_000 && letter.value.iter().all(|byte| *byte == b'x'));
    // What is only a part of an event is not brought back as one.
    let (code, said) = small.tributary(&["dead-letters replay", "--all"]);
    assert!(code == Some(0) && said.contains("1 letter(s) were too large"), "{said}");
    assert_eq!(small.read("events").len(), 2);
}

/// A transaction that takes longer than one may is tried again with more time, until it fits.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn transaction_that_takes_long_is_given_the_time_it_takes() {
    let small = Small::new("slow");
    small.produce(0, 0..5);
    // The two of the lead record are in time.
    let slow = ("FAILPOINTS", "commit-before=2*off->sleep(9000)");
    let mut engine = small.begin("run", &[], &[slow]);
    wait_for("the records", PATIENCE, || {
        assert_eq!(engine.code(), None, "it goes on");
        small.read("all").len() == 5
    });
    let tried = engine.said().matches("resolved a transaction in doubt").count();
    assert_eq!(tried, 1, "{}", engine.said());
}
