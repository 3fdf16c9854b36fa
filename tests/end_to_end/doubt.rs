//! Transactions in doubt: what happens to the end of one on its way is never a reason for a record
//! to be lost or to stand twice.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::RDKafkaErrorCode as Code,
    producer::{BaseProducer, BaseRecord, Producer},
};
use tributary::progress::Store;

use crate::{
    game::{Game, Plan, seed, wait_for},
    proxy::{Proxy, Trick},
    small::Small,
    stack::Stack,
};

/// What a broker says to who was fenced: INVALID_PRODUCER_EPOCH or PRODUCER_FENCED.
const FENCED: [i16; 2] = [47, 90];

const PATIENCE: Duration = Duration::from_secs(60);

/// How often a writer was made anew and has found out, by what was logged.
fn resolved(id: &str, said: &str) -> usize {
    said.matches(&format!("resolved a transaction in doubt writer=\"{id}\"")).count()
}

#[test]
fn ends_of_transactions_that_are_late_lost_or_cut_change_nothing() {
    let proxy = Proxy::start();
    let told = format!("PROXIED:PLAINTEXT:{}", proxy.port);
    let stack = Stack::with(&["--listener", &told, "--set", "log.cleaner.enable=false"]);
    proxy.stands_for(stack.listener("PROXIED"));
    let plan = Plan {
        seed: seed(),
        events: 10_000,
        lasts: Duration::from_secs(120),
        storms: 1,
        ..Plan::default()
    };
    let mut game = Game::begin(stack, plan);
    game.engine_at(["--kafka", &format!("127.0.0.1:{}", proxy.port)]);
    let options = ["--atomic-max", "0", "--fuel", "20"];
    // The lead record is a transaction too.
    proxy.play(Some(Trick::CutAfter));
    let mut run = game.start(1, 2, &options);
    wait_for("the end of the lead's transaction to be cut", PATIENCE, || {
        assert!(!run.has_ended(), "{}", run.said());
        !proxy.played(Trick::CutAfter).is_empty()
    });
    proxy.play(None);
    wait_for("the start to be led", PATIENCE, || {
        assert!(!run.has_ended(), "{}", run.said());
        !game.read("progress").is_empty()
    });
    for trick in [
        Trick::Delay,
        Trick::Repeat,
        Trick::CutBefore,
        Trick::CutAfter,
        Trick::Late,
        Trick::Swallow,
        Trick::Late,
    ] {
        let played = proxy.played(trick).len();
        let before = run.said();
        proxy.play(Some(trick));
        wait_for(&format!("{trick:?} to be played"), PATIENCE, || {
            assert!(!run.has_ended() && !game.is_produced(), "{}", run.said());
            proxy.played(trick).len() > played
        });
        proxy.play(None);
        let ids = proxy.played(trick).split_off(played);
        if !matches!(trick, Trick::Delay | Trick::Repeat) {
            wait_for(&format!("{ids:?} to be made anew after {trick:?}"), PATIENCE, || {
                assert!(!run.has_ended(), "{}", run.said());
                let said = run.said();
                // What is resolved only now may be of the trick before.
                proxy.are_made_anew(trick, played)
                    && ids.iter().all(|id| resolved(id, &said) > resolved(id, &before))
            });
        }
        if trick == Trick::Late {
            ids.iter().for_each(|_| proxy.release());
        }
        let progress = game.read("progress").len();
        wait_for("something to be committed", PATIENCE, || {
            assert!(!run.has_ended(), "{}", run.said());
            game.read("progress").len() > progress || game.is_produced()
        });
    }
    // The broker heard of each that came late, when another writer had the id.
    let played = proxy.played(Trick::Late).len();
    wait_for("what comes late to come", PATIENCE, || proxy.late().len() == played);
    assert!(proxy.late().iter().all(|code| FENCED.contains(code)), "{:?}", proxy.late());
    game.settle(&mut run);
    run.end();
    let records = game.judge();
    println!("{records} records");
}

/// A writer of an earlier start that comes back with a transaction open writes nothing more, whose
/// turn it ever was, also of a worker that there is no more.
#[test]
fn a_start_fences_both_writers_of_each_worker_that_there_ever_was() {
    let small = Small::new("fenced");
    small.produce(0, 0..100);
    small.run_until(100, &["--workers", "2"]);
    let brokers = &Stack::get().brokers;
    let ids = (0..2).flat_map(|worker| Store::writer_ids(&small.name, worker));
    let zombie = |id: String| {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers).set("transactional.id", &id);
        let zombie: BaseProducer = client.create().expect("a producer");
        zombie.init_transactions(PATIENCE).expect("nobody else has it");
        zombie.begin_transaction().expect("none is open");
        let topic = small.topic("all");
        let record = BaseRecord::to(&topic).partition(0).key("zombie").payload("{}");
        assert!(zombie.send(record).is_ok(), "the queue is empty");
        wait_for("the record to be taken", PATIENCE, || {
            zombie.poll(Duration::from_millis(10));
            zombie.in_flight_count() == 0
        });
        (id, zombie)
    };
    let zombies: Vec<_> = ids.map(zombie).collect();
    let mut engine = small.start(&["--workers", "1"]);
    small.produce(0, 100..200);
    wait_for("the engine to go on", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        small.read("all").len() >= 200
    });
    assert_eq!(zombies.len(), 4);
    for (id, zombie) in zombies {
        let refused = zombie.commit_transaction(PATIENCE).expect_err(&id);
        assert_eq!(refused.rdkafka_error_code(), Some(Code::Fenced), "{id}: {refused}");
    }
    assert_eq!(small.read("all").len(), 200, "nothing of them is there");
}
