//! Memory under a horizon: what is held, while ten times the horizon and more flows through.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use crate::place::{Engine, Place};

const HORIZON_DAYS: u32 = 10;

/// Events are drained, each with the time at which it was made as that of its record.
pub fn run(events: u64) {
    let place = Place::start(events);
    let days = place.produce_in_their_time();
    println!("{events} events made within {days} days, a horizon of {HORIZON_DAYS}, one worker");
    println!("{:<10} {:>10} {:>10} {:>9}", "horizon", "read", "held", "RSS MiB");
    for horizon in [None, Some(HORIZON_DAYS)] {
        let name = horizon.map_or("kept", |_| "let_go");
        place.keep(name, horizon);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
        let address = port.expect("a free port").to_string();
        let engine = Engine::start(&place, name, 1, &["--http", &address]);
        let mut next = 0;
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let [read, held] = ["tributary_event_lines_total", "tributary_records{"]
                .map(|metric| ask(&address, metric).unwrap_or(0));
            if read >= next || read >= events {
                let horizon = horizon.map_or("none".to_owned(), |days| format!("{days} days"));
                println!("{horizon:<10} {read:>10} {held:>10} {:>9}", engine.rss_mib());
                next = read + events / 12;
            }
            if read >= events {
                break;
            }
        }
        engine.end();
    }
}

/// The value of a metric.
fn ask(address: &str, metric: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = answer.lines().find(|line| line.starts_with(metric))?;
    line.rsplit(' ').next()?.parse().ok()
}
