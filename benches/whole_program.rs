//! The whole program over a generated university: events a second, CPU an event, peak memory.
//!
//! ```text
//! cargo bench --bench whole_program [-- --events 1000000 --changes 500 --workers 1,2]
//! ```
//!
//! Shape: one table on standard output. Beside each run stands a floor measured in the same minute
//! on the same file: decoding alone, in this process on one thread, so that figures of a noisy
//! machine can be compared as ratios.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use tributary::{source::Decoder, spec::Spec};

struct Options {
    events: u64,
    changes: u64,
    workers: Vec<usize>,
}

fn main() -> ExitCode {
    let options = match read_options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}; options: --events N --changes N --workers N,N");
            return ExitCode::from(2);
        }
    };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    generate(&options, folder.path());
    let lines = fs::read(folder.path().join("events.ndjson")).expect("it was generated");
    let count = lines.split(|byte| *byte == b'\n').count() as u64 - 1;
    println!("{count} event lines, {} changes of documents", options.changes);
    println!(
        "{:<24} {:>9} {:>12} {:>14} {:>12} {:>9}",
        "what", "wall s", "events/s", "CPU us/event", "peak MiB", "x floor"
    );
    let floor = decode_alone(&lines);
    row("floor: decode alone", count, floor, floor, None, floor);
    drop(lines);
    for workers in options.workers {
        let (wall, cpu) = run(folder.path(), workers);
        let peak = usage().max_rss() / 1024;
        row(&format!("run --workers {workers}"), count, wall, cpu, Some(peak), floor);
    }
    println!("peak: the greatest of the runs so far");
    ExitCode::SUCCESS
}

fn read_options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { events: 1_000_000, changes: 500, workers: vec![1, 2] };
    while let Some(name) = arguments.next() {
        // Cargo tells every bench so.
        if name == "--bench" {
            continue;
        }
        let value = arguments.next().ok_or(format!("{name} lacks a value"))?;
        let number = |text: &str| text.parse().map_err(|_| format!("{name}: {text} is no number"));
        match name.as_str() {
            "--events" => options.events = number(&value)?,
            "--changes" => options.changes = number(&value)?,
            "--workers" => {
                let counts = value.split(',').map(|text| number(text).map(|n| n as usize));
                options.workers = counts.collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(options)
}

fn generate(options: &Options, folder: &Path) {
    let (events, changes) = (options.events.to_string(), options.changes.to_string());
    program(&["generate", text(folder), "--events", &events, "--changes", &changes, "--seed", "5"]);
}

/// Decodes every line, as a run does on one worker before anything else.
fn decode_alone(lines: &[u8]) -> Duration {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/attendance.toml");
    let mut decoder = Decoder::new(Arc::new(Spec::load(&path).expect("the spec is sound")));
    let begin = Instant::now();
    let decoded = lines.split(|byte| *byte == b'\n').filter(|line| decoder.decode(line).is_ok());
    let decoded = decoded.count();
    let took = begin.elapsed();
    assert!(decoded > 0, "something was decoded");
    took
}

/// Wall time and CPU time of one run of the program.
fn run(folder: &Path, workers: usize) -> (Duration, Duration) {
    let file = |name: &str| text(&folder.join(name)).to_owned();
    let (begin, before) = (Instant::now(), cpu());
    program(&[
        "run",
        "dataflows/attendance.toml",
        "--once",
        "--quiet",
        "--events",
        &file("events.ndjson"),
        "--documents",
        &file("people.ndjson"),
        "--changes",
        &file("changes.ndjson"),
        "--out",
        &file("out"),
        "--workers",
        &workers.to_string(),
    ]);
    (begin.elapsed(), cpu() - before)
}

fn program(arguments: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::null())
        .status()
        .expect("the program can be started");
    assert!(status.success(), "tributary {arguments:?}");
}

fn row(what: &str, events: u64, wall: Duration, cpu: Duration, peak: Option<i64>, floor: Duration) {
    let rate = events as f64 / wall.as_secs_f64();
    let each = cpu.as_secs_f64() * 1e6 / events as f64;
    let peak = peak.map_or("-".to_owned(), |mib| mib.to_string());
    let ratio = cpu.as_secs_f64() / floor.as_secs_f64();
    let wall = wall.as_secs_f64();
    println!("{what:<24} {wall:>9.2} {rate:>12.0} {each:>14.2} {peak:>12} {ratio:>9.1}");
}

/// CPU time of all programs that ended so far.
fn cpu() -> Duration {
    let usage = usage();
    let time = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec() as u64) + Duration::from_micros(t.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

fn usage() -> Usage {
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage of children can be asked")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}
