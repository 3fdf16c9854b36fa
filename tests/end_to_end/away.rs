//! ClickHouse is away for long: the engine does not notice, and what compaction leaves of the topics
//! meanwhile is all that the tables need.
//!
//! The whole game: `EVENTS=40000 STORMS=12 CORRECTIONS=1000000 cargo test --release --features
//! failpoints --test end_to_end away`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};
use serde_json::Value;

use crate::{
    game::{Game, Plan, number, seed, wait_for},
    halts::{Tables, Watcher},
    small::PATIENCE,
    stack::{ClickHouse, Stack},
    topics::{Seen, alter},
};

#[test]
fn tables_are_whole_after_clickhouse_was_away_and_topics_were_compacted() {
    let seed = seed();
    let stack = Stack::with(&["--set", "log.cleaner.backoff.ms=500"]);
    let events = number("EVENTS", 3_000);
    let storms = number("STORMS", 3) as u32;
    let plan = Plan {
        seed,
        events,
        lasts: Duration::from_secs(3 * u64::from(storms) + events / 1_000),
        storms,
        ..Plan::default()
    };
    // Before clicks flow: where it is brought first, that takes long.
    let server = ClickHouse::alone();
    let mut game = Game::begin(stack, plan);
    let tables = Tables::of(&game, server);
    let admin = ClientConfig::new().set("bootstrap.servers", &stack.brokers).create();
    let admin: AdminClient<DefaultClientContext> = admin.expect("a client");
    let outputs = ["enriched", "latest"].map(|view| format!("{}_{view}", game.name()));
    for topic in &outputs {
        let settings = [
            ("cleanup.policy", "compact"),
            ("min.compaction.lag.ms", "20000"),
            ("segment.ms", "1000"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("message.timestamp.type", "LogAppendTime"),
            ("max.message.bytes", "16777216"),
        ];
        alter(&admin, topic, &settings);
    }
    let watcher = Watcher::begin(server, &tables.database);
    // The loader is inside.
    game.engine_at(["--config", &tables.config]);
    let mut engine = game.start(1, 2, &[]);
    let count = |view: &str| {
        let question = format!("SELECT count() AS n FROM {view}");
        server.ask(&tables.database, &question)[0]["n"].as_u64().expect("a number")
    };
    wait_for("the first rows", PATIENCE, || {
        assert!(!engine.has_ended(), "{}", engine.said());
        count("attendance_enriched") > 0
    });
    server.command("kill");
    // In their time, so that they lie in many segments.
    wait_for("all clicks", 4 * PATIENCE + game.plan.lasts, || game.is_produced());
    game.settle(&mut engine);
    assert!(engine.said().contains("what is not loaded waits in Kafka"), "{}", engine.said());
    // Each key once, but for what lies in the last segment: all that was corrected before is gone.
    let left = || game.read("enriched").len() + game.read("latest").len();
    let keys = |topic: &str, columns: &[&str]| {
        let of = |record: Seen| {
            let row: Value = serde_json::from_slice(&record.value).expect("records are JSON");
            columns.iter().map(|column| row[*column].to_string()).collect::<Vec<_>>()
        };
        game.read(topic).into_iter().map(of).collect::<BTreeSet<_>>().len()
    };
    let latest = ["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "LESSON_DATE"];
    let keys = keys("enriched", &["ID"]) + keys("latest", &latest);
    wait_for("the topics to be compacted", 4 * PATIENCE, || left() * 10 < keys * 11);
    let left = left();
    server.command("start");
    let (began, last) = (Instant::now(), game.sealed());
    wait_for("all to be loaded", 4 * PATIENCE, || {
        assert!(!engine.has_ended(), "{}", engine.said());
        tables.frontier() >= Some(last)
    });
    println!("loaded {:.1} s after it was back", began.elapsed().as_secs_f64());
    // One worker may have ended with an epoch more than the other.
    wait_for("every record to be loaded", PATIENCE, || {
        let question = "SELECT topic, partition, max(next) AS next FROM tributary_loaded GROUP BY \
                        topic, partition";
        let place = |row: Value| {
            let topic = row["topic"].as_str().expect("a name").to_owned();
            let [partition, next] = ["partition", "next"].map(|name| row[name].as_u64());
            ((topic, partition.expect("a number")), next.expect("a number"))
        };
        let loaded = server.ask(&tables.database, question).into_iter().map(place);
        let loaded: BTreeMap<(String, u64), u64> = loaded.collect();
        ["enriched", "latest"].into_iter().all(|view| {
            game.read(view).iter().all(|Seen { partition, offset, .. }| {
                let place = (format!("{}_{view}", game.name()), u64::from(*partition));
                loaded.get(&place) > Some(offset)
            })
        })
    });
    tables.note(*game.epochs().last().expect("there are epochs"));
    assert!(!watcher.end().is_empty(), "nobody looked");
    engine.end();
    // What the engine says it wrote, less each key's first record.
    let said = game.said();
    let wrote = said.rsplit(" updates to Kafka").nth(1).and_then(|said| said.rsplit(' ').next());
    let wrote = wrote.expect("it says so").replace(',', "").parse::<usize>().expect("a number");
    let corrections = wrote - keys;
    println!("{corrections} corrections of {keys} keys; {left} records were left");
    assert!(left < wrote, "{left} of {wrote} are left");
    assert!(corrections >= number("CORRECTIONS", events) as usize, "{corrections} corrections");
    tables.judge(&game);
}
