//! An outage: the broker of all outputs is gone while events go on coming in on others (P9). What
//! cannot be written is not read, so memory stays what it was; afterwards all is caught up.
//!
//! The whole of it, with epochs as large as they are where nobody says otherwise: `OUTAGE=600
//! RATE=20000 REPEATS=29 EPOCH_LINES=20000 cargo test --release --features failpoints --test
//! end_to_end outage -- --nocapture`.

use std::{
    fs,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use crate::{
    game::{Game, Plan, number, seed, wait_for},
    letters::get,
    stack::Stack,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// What the process may grow by in an outage, in MiB: what is fetched ahead of six partitions, what
/// waits for two writers, and the epochs that are read before one is known to wait, of so many lines.
fn limit(epoch_lines: u64) -> u64 {
    192 + epoch_lines / 64
}

/// What it may grow by once that is full, in the second half of an outage: answers to who asks how
/// it is.
const GROWTH_MAX: u64 = 16;

#[test]
fn memory_is_bounded_while_outputs_are_gone() {
    let (outage, rate, repeats) =
        (number("OUTAGE", 12), number("RATE", 1_000), number("REPEATS", 0));
    let stack = Stack::with(&["--brokers", "3", "--set", "log.cleaner.enable=false"]);
    let lasts = Duration::from_secs(outage) + PATIENCE;
    let plan = Plan {
        seed: seed(),
        events: rate * lasts.as_secs() / (repeats + 1),
        lasts,
        storms: 1,
        outputs_on: Some(3),
        repeats,
        people_in: None,
    };
    let mut game = Game::begin(stack, plan);
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = held.local_addr().expect("it is bound").port();
    drop(held);
    let http = format!("127.0.0.1:{port}");
    let epoch_lines = number("EPOCH_LINES", 500);
    let limit = limit(epoch_lines);
    let epoch_lines_said = epoch_lines.to_string();
    let mut run = game.start(1, 2, &["--http", &http, "--epoch-lines", &epoch_lines_said]);
    wait_for("something to be committed", PATIENCE, || {
        assert!(!run.has_ended(), "{}", run.said());
        game.read("enriched").len() > 1_000
    });
    let lines = || {
        let (_, said) = get(port, "/metrics", "").expect("it answers");
        let line = said.lines().find(|line| line.starts_with("tributary_event_lines_total "));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        value.expect("it says how many it has read")
    };
    let small = memory_mib(&run);
    stack.command("kill 3");
    let (begin, before) = (Instant::now(), lines());
    assert!(!game.is_produced());
    let outage_half = Duration::from_secs(outage) / 2;
    let mut peak_until = |end: Duration| {
        let mut peak = 0;
        while begin.elapsed() < end {
            thread::sleep(Duration::from_millis(200));
            assert!(!run.has_ended(), "{}", run.said());
            peak = peak.max(memory_mib(&run));
        }
        peak
    };
    let (first, second) = (peak_until(outage_half), peak_until(2 * outage_half));
    let rested = lines();
    // For 2 s what waits may wait; and four epochs of each worker may be in flight.
    let most = 3 * rate + 2 * 5 * epoch_lines;
    let came = outage * rate;
    assert!(most < came, "an outage of {outage} s shows nothing");
    assert!(rested - before <= most, "{rested} lines are read, and {before} were");
    assert!(!game.is_produced(), "events came in through all of it");
    assert!(first.max(second) <= small + limit, "{small} MiB grew to {first}, then {second}");
    assert!(second <= first + GROWTH_MAX, "{first} MiB of the first half grew to {second}");
    let committed = || {
        let (_, said) = get(port, "/metrics", "").expect("it answers");
        let of_workers = said.lines().filter(|line| line.starts_with("tributary_committed_epoch{"));
        of_workers.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = committed();
    assert_eq!(before.len(), 2);
    stack.command("start 3");
    let back = Instant::now();
    wait_for("both writers to write again", 2 * PATIENCE, || {
        assert!(!run.has_ended(), "{}", run.said());
        let now = committed();
        now.len() == 2 && now.iter().zip(&before).all(|(now, before)| now != before)
    });
    println!("written again {} s after the broker came back", back.elapsed().as_secs());
    game.settle(&mut run);
    let all = lines();
    assert!(all > rested, "what came in meanwhile was read");
    let caught_up = memory_mib(&run);
    assert!(caught_up <= small + limit, "{small} MiB grew to {caught_up} once all was caught up");
    run.end();
    let records = game.judge();
    println!(
        "{outage} s at {rate} a second: {rested} of {all} lines read before, {small} MiB then, at \
         most {first} in its first half, {second} in its second, {caught_up} once caught up; \
         {records} records"
    );
}

/// What the engine's process has of memory.
fn memory_mib(run: &crate::game::Run) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", run.processes[0].id()));
    let status = status.expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("it is said");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}
