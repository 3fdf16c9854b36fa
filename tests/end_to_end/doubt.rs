//! Transactions in doubt: what happens to the end of one on its way is never a reason for a record
//! to be lost or to stand twice.

use std::time::Duration;

use crate::{
    game::{Game, Plan, seed, wait_for},
    proxy::{Proxy, Trick},
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
                ids.iter().all(|id| resolved(id, &said) > resolved(id, &before))
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
