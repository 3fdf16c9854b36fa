//! Leaders change: of three brokers with three copies of everything, the one that leads the progress
//! dies amid starts and amid commits. Who leads next may know of an earlier end for a while; the
//! outputs are those of the specification all the same.

use std::{thread, time::Duration};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use crate::{
    game::{Game, Plan, number, seed, wait_for},
    stack::Stack,
};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn leaders_that_die_change_nothing() {
    let seed = seed();
    let rounds = number("ROUNDS", 2);
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |end: u64| dice.next_u64() % end;
    let stack = Stack::with(&["--brokers", "3", "--set", "log.cleaner.enable=false"]);
    let plan = Plan {
        seed,
        events: number("EVENTS", 5_000),
        // Far longer than it takes, unless the machine is busy with other things.
        lasts: Duration::from_secs(90 * rounds),
        storms: 2 * rounds as u32,
        ..Plan::default()
    };
    let mut game = Game::begin(stack, plan);
    let mut amid_starts = 0;
    let progress = format!("{}_progress", game.name());
    let mut run = game.start(1, 2, &[]);
    game.await_commit(&mut run);
    for round in 0..rounds {
        game.flow_up_to((round + 1) as f64 / (rounds + 1) as f64);
        let (leader, _) = lead(stack, &progress);
        if round % 2 == 1 {
            run.signal(0, Signal::SIGKILL);
            run.wait();
            run = game.start(1, 2, &["--atomic-max", "0", "--fuel", "20"]);
            wait_for("a start to begin", PATIENCE, || run.said().contains("leads generation"));
            thread::sleep(Duration::from_millis(below(300)));
        }
        let has_begun = run.said().matches("replayed what").count() == 2;
        amid_starts += u64::from(round % 2 == 1 && !has_begun);
        stack.command(&format!("kill {leader}"));
        wait_for("another broker to lead", PATIENCE, || {
            let (now, _) = lead(stack, &progress);
            now > 0 && now != leader
        });
        game.await_commit(&mut run);
        stack.command(&format!("start {leader}"));
        wait_for("all copies to be there", PATIENCE, || lead(stack, &progress).1 == 3);
    }
    game.settle(&mut run);
    run.end();
    let in_doubt = game.said().matches("resolved a transaction in doubt").count();
    assert!(amid_starts > 0, "no leader died amid a start");
    assert!(in_doubt > 0, "no leader died amid a commit");
    let records = game.judge();
    println!(
        "{rounds} leaders died, {amid_starts} of them amid a start; {in_doubt} transactions were in \
         doubt; {records} records"
    );
}

/// Which broker leads the one partition of a topic, none being -1, and how many have all of it.
fn lead(stack: &Stack, topic: &str) -> (i32, usize) {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &stack.brokers).create().expect("a client");
    let mut found = None;
    wait_for("some broker to answer", PATIENCE, || {
        found = client.fetch_metadata(Some(topic), Duration::from_secs(1)).ok();
        found.is_some()
    });
    let found = found.expect("it was waited for");
    let partition = &found.topics()[0].partitions()[0];
    (partition.leader(), partition.isr().len())
}
