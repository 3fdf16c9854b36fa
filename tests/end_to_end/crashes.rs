//! Crashes: whatever is killed, stopped or started at whatever moment, the outputs are those of the
//! specification at the end and at epochs on the way, and no key stood twice in an epoch.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    game::{Game, Plan, Run, number, seed, wait_for},
    secure::Secured,
    stack::Stack,
};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// kill -9 of a process.
    Kill,
    /// kill -9 of the feed, which starts again, and of a process.
    Feed,
    /// A process is stopped beyond the timeout of transactions, another start takes over, and the
    /// stopped one goes on: a zombie.
    Zombie,
    /// The broker is killed and starts again.
    Broker,
    /// SIGTERM.
    End,
    /// SIGTERM while one worker reads what an earlier run held, and the others have done so.
    EndOfStart,
    /// A process dies at a named step, on one of the first so many times that it comes there.
    Step(&'static str, u64),
}

const FAULTS: [Fault; 5] = [Fault::Kill, Fault::Feed, Fault::Zombie, Fault::Broker, Fault::End];

/// Processes, and workers of each: first so, 1 to 4 to 2 workers, 1 to 2 to 1 processes, and then
/// as it comes.
const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 4), (1, 2), (2, 1), (1, 1), (2, 2)];

/// The steps at which a process can be made to die, where it is built so. The first six belong to a
/// start, and process 0 alone does all of them.
const STEPS: [Fault; 12] = [
    Fault::Step("lead-before", 1),
    Fault::Step("lead-after", 1),
    Fault::Step("fence-before", 2),
    Fault::Step("fence-after", 2),
    Fault::Step("read-back-before", 4),
    Fault::Step("read-back-after", 4),
    Fault::Step("produce-before", 300),
    Fault::Step("produce-after", 300),
    Fault::Step("progress-before", 6),
    Fault::Step("progress-after", 6),
    Fault::Step("commit-before", 6),
    Fault::Step("commit-after", 6),
];
const OF_A_START: [&str; 6] = [
    "lead-before",
    "lead-after",
    "fence-before",
    "fence-after",
    "read-back-before",
    "read-back-after",
];

/// How long a step may be waited for.
const STEP_PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn crashes_change_nothing() {
    let seed = seed();
    let mut faults = FAULTS.to_vec();
    if cfg!(feature = "failpoints") {
        faults.extend(STEPS);
        faults.push(Fault::EndOfStart);
    }
    if let Ok(names) = std::env::var("FAULTS") {
        let is_named = |fault: &Fault| names.split(',').any(|n| format!("{fault:?}").contains(n));
        faults.retain(is_named);
    }
    let crashes = number("CRASHES", faults.len() as u64);
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |end: u64| dice.next_u64() % end;
    // What is compacted cannot be judged. Over SASL_SSL, where nobody says otherwise: all other
    // games here are played without.
    let plainly = || Stack::with(&["--set", "log.cleaner.enable=false"]);
    let secured = (number("SECURED", 1) > 0).then(Secured::start);
    let stack = secured.as_ref().map_or_else(plainly, |secured| secured.stack);
    let plan = Plan {
        seed,
        events: number("EVENTS", 10_000),
        // The clicks are to flow through all of it.
        lasts: Duration::from_secs(5 * crashes),
        // Of a sample some crashes are to come amid corrections by all means: so some change comes
        // while each run goes on.
        storms: if crashes < 40 { 2 * crashes } else { crashes / 4 } as u32,
        ..Plan::default()
    };
    let mut game = Game::begin(stack, plan);
    if let Some(secured) = &secured {
        secured.grant(game.name());
        game.engine_at(["--config", &secured.config()]);
    }
    let mut happened: BTreeMap<Fault, u64> = BTreeMap::new();
    let mut amid_corrections = 0;
    let mut waited_most = 0;
    for crash in 0..crashes {
        let (processes, workers) = match SHAPES.get(crash as usize) {
            Some(shape) => *shape,
            None => SHAPES[below(SHAPES.len() as u64) as usize],
        };
        let spread = [["--atomic-max", "0"], ["--atomic-max", "20000"]][below(2) as usize];
        let fuel = ["1", "20", "250"][below(3) as usize];
        let drawn = [&spread[..], &["--fuel", fuel]].concat();
        // Every other one spreads as slowly as it may, so that crashes come amid it.
        let slowest = vec!["--atomic-max", "0", "--fuel", "1"];
        let options = if crash % 2 == 1 { slowest } else { drawn };
        // Each kind once, then as it comes.
        let fault = match faults.get(crash as usize) {
            Some(fault) => *fault,
            None if below(2) == 0 && faults.contains(&Fault::Kill) => Fault::Kill,
            None => faults[below(faults.len() as u64) as usize],
        };
        let victim = match fault {
            Fault::Step(name, _) if OF_A_START.contains(&name) => 0,
            _ => below(processes as u64) as usize,
        };
        game.flow_up_to((crash + 1) as f64 / (crashes + 1) as f64);
        println!("{crash}: {fault:?} of {processes} processes of {workers} workers, {options:?}");
        if let Fault::Step(name, times) = fault {
            let failpoint = format!("{name}={}*off->panic", below(times));
            let mut run =
                game.start_to_die(processes, workers, &options, Some((victim, &failpoint)));
            let begin = Instant::now();
            let died = loop {
                if let Some(status) = run.processes[victim].try_wait().expect("it was started") {
                    break status;
                }
                assert!(begin.elapsed() < STEP_PATIENCE, "{failpoint} was not reached");
                std::thread::sleep(Duration::from_millis(10));
            };
            let said = run.said();
            assert_eq!(died.signal(), Some(Signal::SIGABRT as i32), "{failpoint}: {said}");
            assert!(said.contains(&format!("failpoint {name} panic")), "{failpoint}: {said}");
            for (process, code) in run.wait() {
                assert!(process == victim || code == Some(1), "{process}: {code:?}");
            }
            *happened.entry(fault).or_default() += 1;
            let owed = game.owed();
            amid_corrections += u64::from(owed.is_some());
            waited_most = waited_most.max(owed.unwrap_or(0));
            continue;
        }
        if fault == Fault::EndOfStart {
            let slow = "replay=1*sleep(1500)";
            let run = game.start_to_die(processes, workers, &options, Some((victim, slow)));
            let said = |words: &str| run.said().matches(words).count();
            wait_for("a start to read the progress", STEP_PATIENCE, || {
                said("read the progress") > 0
            });
            std::thread::sleep(Duration::from_millis(below(1_500)));
            let is_amid = said("replayed what") < processes * workers;
            run.end();
            if is_amid {
                *happened.entry(fault).or_default() += 1;
            }
            continue;
        }
        // A zombie is stopped with a transaction open: where it can be, it is made to wait there.
        let waits = fault == Fault::Zombie && cfg!(feature = "failpoints");
        let failpoint = waits.then_some((victim, "commit-before=sleep(1500)"));
        let mut run = game.start_to_die(processes, workers, &options, failpoint);
        // One that has written is a zombie, and ends without a fault when it is asked; of the others
        // some crash wherever they are with their start.
        if matches!(fault, Fault::Zombie | Fault::End) || below(3) > 0 {
            game.await_commit(&mut run);
        }
        std::thread::sleep(Duration::from_millis(below(2_000)));
        // Most of them amid corrections, where some come soon.
        let patience_s = if crash % 2 == 1 { 20 } else { 5 * below(4).min(1) };
        let until = Instant::now() + Duration::from_secs(patience_s);
        while game.owed().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!run.has_ended(), "{}", run.said());
        *happened.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => run.crash(victim),
            Fault::Feed => {
                game.crash_feed();
                std::thread::sleep(Duration::from_millis(below(1_000)));
                run.crash(victim);
            }
            Fault::End => run.end(),
            Fault::Broker => {
                stack.command("kill 1");
                stack.command("start 1");
                std::thread::sleep(Duration::from_millis(below(3_000)));
                // Half of them have got over it, the others are amid it.
                if below(2) == 0 {
                    game.await_commit(&mut run);
                }
                run.crash(victim);
            }
            Fault::Zombie => {
                if waits {
                    await_open(&game, &mut run);
                }
                // It is its writer that goes on, and comes to nothing: by the broker's word, or since
                // it has taken too long.
                let comes_to_nothing = |said: &str| {
                    let words = [
                        "another writer has taken the transactional",
                        "the outcome of a transaction",
                    ];
                    words.map(|words| said.matches(words).count()).iter().sum::<usize>()
                };
                (0..processes).for_each(|process| run.signal(process, Signal::SIGSTOP));
                let before = comes_to_nothing(&run.said());
                std::thread::sleep(Duration::from_millis(500));
                assert!(!waits || game.open_since().is_some(), "no transaction is open");
                std::thread::sleep(Duration::from_secs(11));
                let mut rival = game.start(1, 1, &options);
                game.await_commit(&mut rival);
                (0..processes).for_each(|process| run.signal(process, Signal::SIGCONT));
                let ended = run.wait();
                // Of a cluster one may notice first that another is gone, and then asks why.
                let is_right = ended.iter().all(|(_, code)| *code == Some(4));
                let said = run.said();
                assert!(
                    is_right && said.contains("has taken over from this one"),
                    "{ended:?}: {said}"
                );
                assert!(!waits || comes_to_nothing(&said) > before, "{said}");
                game.await_commit(&mut rival);
                rival.crash(0);
            }
            Fault::Step(..) | Fault::EndOfStart => unreachable!("it was played above"),
        }
        let owed = game.owed();
        amid_corrections += u64::from(owed.is_some());
        waited_most = waited_most.max(owed.unwrap_or(0));
    }
    let is_whole = std::env::var("FAULTS").is_err() && crashes >= faults.len() as u64;
    assert!(!is_whole || faults.iter().all(|fault| happened.contains_key(fault)), "{happened:?}");
    assert!(amid_corrections > 0 || !is_whole, "no crash came while corrections were owed");
    let events = game.plan.events;
    assert!(
        !is_whole || events < 200_000 || waited_most >= 100_000,
        "{waited_most} waited at most"
    );
    let mut last = game.start(1, 2, &["--atomic-max", "0", "--fuel", "50"]);
    game.settle(&mut last);
    last.end();
    let records = game.judge();
    println!(
        "{happened:?}; {amid_corrections} while corrections were owed, {waited_most} of them at most; \
         {records} records"
    );
}

/// Waits until a transaction is open that stays so for a moment.
fn await_open(game: &Game, run: &mut Run) {
    wait_for("a transaction to be open", Duration::from_secs(60), || {
        assert!(!run.has_ended(), "{}", run.said());
        let since = game.open_since();
        std::thread::sleep(Duration::from_millis(50));
        since.is_some() && game.open_since() == since
    });
}
