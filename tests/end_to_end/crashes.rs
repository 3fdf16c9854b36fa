//! Crashes: whatever is killed, stopped or started at whatever moment, the outputs are those of the
//! specification at the end, and on the way no key stood twice in an epoch.

use std::{collections::BTreeMap, time::Duration};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    game::{Game, wait_for},
    stack::Stack,
};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// kill -9 of a process.
    Kill,
    /// A process is stopped beyond the timeout of transactions, another start takes over, and the
    /// stopped one goes on: a zombie.
    Zombie,
    /// The broker is killed and starts again.
    Broker,
    /// SIGTERM.
    End,
}

const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Zombie, Fault::Broker, Fault::End];

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn crashes_change_nothing() {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    let seed = number("SEED", now % 1_000_000);
    println!("SEED={seed}");
    let (events, crashes) = (number("EVENTS", 10_000), number("CRASHES", 4));
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |end: u64| dice.next_u64() % end;
    // The clicks are to flow through all of it.
    let stack = Stack::own();
    let mut game = Game::begin(stack, seed, events, Duration::from_secs(6 * crashes));
    let mut happened: BTreeMap<Fault, u64> = BTreeMap::new();
    let shapes = [(1, 1), (1, 2), (2, 1), (1, 4), (2, 2)];
    for crash in 0..crashes {
        let (processes, workers) = shapes[below(shapes.len() as u64) as usize];
        let spread = [["--atomic-max", "0"], ["--atomic-max", "20000"]][below(2) as usize];
        let fuel = ["1", "20", "250"][below(3) as usize];
        let options = [&spread[..], &["--fuel", fuel]].concat();
        let mut run = game.start(processes, workers, &options);
        let committed = game.read("progress").len();
        // Each kind once, then as it comes.
        let fault = match FAULTS.get(crash as usize) {
            Some(fault) => *fault,
            None => FAULTS[below(FAULTS.len() as u64) as usize],
        };
        // One that has written is a zombie; of the others some crash wherever they are with their
        // start.
        if fault == Fault::Zombie || below(3) > 0 {
            wait_for("something to be committed", Duration::from_secs(60), || {
                assert!(!run.has_ended(), "{}", run.said());
                game.read("progress").len() > committed || game.is_produced()
            });
        }
        std::thread::sleep(Duration::from_millis(below(2_000)));
        assert!(!run.has_ended(), "{}", run.said());
        let victim = below(processes as u64) as usize;
        println!("{crash}: {fault:?} of {processes} processes of {workers} workers, {options:?}");
        *happened.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => run.crash(victim),
            Fault::End => run.end(),
            Fault::Broker => {
                stack.command("kill 1");
                stack.command("start 1");
                std::thread::sleep(Duration::from_millis(below(3_000)));
                run.crash(victim);
            }
            Fault::Zombie => {
                (0..processes).for_each(|process| run.signal(process, Signal::SIGSTOP));
                std::thread::sleep(Duration::from_secs(11));
                let rival = game.start(1, 1, &options);
                let committed = game.read("progress").len();
                wait_for("the rival to commit", Duration::from_secs(60), || {
                    game.read("progress").len() > committed || game.is_produced()
                });
                (0..processes).for_each(|process| run.signal(process, Signal::SIGCONT));
                let ended = run.wait();
                assert!(ended.iter().all(|(_, code)| *code != Some(0)), "{ended:?}");
                let said = run.said();
                assert!(said.contains("has taken over from this one"), "{said}");
                rival.crash(0);
            }
        }
    }
    assert!(FAULTS.iter().all(|fault| happened.contains_key(fault)), "{happened:?}");
    let last = game.start(1, 2, &["--atomic-max", "0", "--fuel", "50"]);
    game.settle();
    last.end();
    let records = game.judge();
    println!("{happened:?}; {records} records stand in the topics");
}
