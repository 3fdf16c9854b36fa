//! Memory under a horizon: what is held, while ten times the horizon and more flows through.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{
    place::{Engine, Place, free_address},
    wait_for,
};

const HORIZON_DAYS: u32 = 10;

/// How often it is looked what is held.
const LOOKS: usize = 12;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Events come with the times at which they were made as those of their records; two engines read
/// them, and are looked at once they have.
pub fn run(events: u64) {
    let place = Place::start(events);
    let engine = |horizon: Option<u32>| {
        let name = horizon.map_or("kept", |_| "let_go");
        place.keep(name, horizon);
        let address = free_address();
        (Engine::start(&place, name, 1, &["--http", &address]), address)
    };
    let engines = [None, Some(HORIZON_DAYS)].map(engine);
    engines.iter().for_each(|(engine, address)| {
        let what = "the start";
        wait_for(what, Duration::from_secs(60), || ask(address, "tributary_generation").is_some());
        assert!(engine.rss_mib() > 0, "it runs");
    });
    place.date_events_by_producers();
    println!("one worker, a horizon of {HORIZON_DAYS} days beside none, at rest");
    let columns = ["read", "days", "held", "RSS MiB", "held, horizon", "RSS, horizon"];
    println!("{}", columns.map(|column| format!("{column:>13}")).concat());
    let step = place.lines.len().div_ceil(LOOKS);
    let (mut made, mut begun) = (0, i64::MAX);
    for begin in (0..place.lines.len()).step_by(step) {
        let end = (begin + step).min(place.lines.len());
        let (first, last) = place.produce_in_their_time(begin..end);
        (begun, made) = (begun.min(first), made.max(last));
        let mut row = vec![end as u64, ((made - begun) / DAY_MS) as u64];
        for (engine, address) in &engines {
            engine.wait_until_held(Duration::from_secs(120));
            row.extend([ask(address, "tributary_records{").unwrap_or(0), engine.rss_mib()]);
        }
        println!("{}", row.iter().map(|value| format!("{value:>13}")).collect::<String>());
    }
    for (engine, _) in engines {
        engine.end();
    }
}

/// The value of a metric.
pub fn ask(address: &str, metric: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = answer.lines().find(|line| line.starts_with(metric))?;
    line.rsplit(' ').next()?.parse().ok()
}
