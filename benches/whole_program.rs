//! The whole program over a generated university: events a second, CPU an event, peak memory.
//!
//! ```text
//! cargo bench --bench whole_program [-- --events 1000000 --changes 500 --stock 1]
//! cargo bench --bench whole_program -- --events 1000000 --more 5000000
//! ```
//!
//! Shape: one table on standard output: one worker, two workers, two processes of one worker, over
//! six files. Beside each run stands a floor measured in the same minute on the same events:
//! decoding alone, in this process on one thread, so that figures of a noisy machine can be compared
//! as ratios. With `--more` the same with more events, on one worker, and what each of those takes
//! in memory; with `--stock 1` the stock dataflow too.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use tributary::{source::Decoder, spec::Spec};

struct Options {
    events: u64,
    changes: u64,
    more: u64,
    stock: u64,
}

/// Input partitions.
const FILES: usize = 6;

fn main() -> ExitCode {
    let options = match read_options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}; options: --events N --changes N --more N --stock 1");
            return ExitCode::from(2);
        }
    };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let count = generate(options.events, options.changes, folder.path());
    println!("{count} event lines in {FILES} files, {} changes of documents", options.changes);
    println!(
        "{:<30} {:>8} {:>10} {:>13} {:>9} {:>8} {:>7} {:>7}",
        "what", "wall s", "events/s", "CPU us/event", "peak MiB", "x floor", "CPU x", "wall x"
    );
    let floor = decode_alone(folder.path());
    let one = run(folder.path(), "run --workers 1", &[&["--workers", "1"]]);
    let mut rows = vec![(count, floor, None), (count, one.clone(), None)];
    let two = run(folder.path(), "run --workers 2", &[&["--workers", "2"]]);
    let hosts = hosts(folder.path());
    let cluster = ["--workers", "1", "--processes", "2", "--hosts", text(&hosts), "--process"];
    let processes: Vec<Vec<&str>> =
        ["0", "1"].map(|process| [&cluster[..], &[process]].concat()).to_vec();
    let processes: Vec<&[&str]> = processes.iter().map(Vec::as_slice).collect();
    let processes = run(folder.path(), "2 processes of 1 worker", &processes);
    rows.extend([(count, two, Some(&one)), (count, processes, Some(&one))]);
    if options.stock > 0 {
        let stock =
            run(folder.path(), "run --workers 1 --stock", &[&["--workers", "1", "--stock"]]);
        rows.push((count, stock, Some(&one)));
    }
    let floor = rows[0].1.cpu;
    for (events, run, beside) in &rows {
        print(*events, run, *beside, floor);
    }
    if options.more > 0 {
        let more = tempfile::tempdir().expect("a temporary folder can be made");
        let many = generate(options.more, options.changes, more.path());
        let large = run(more.path(), &format!("{many} events"), &[&["--workers", "1"]]);
        print(many, &large, None, floor);
        let bytes = (large.peak - one.peak) as f64 / (many - count) as f64;
        println!("{bytes:.0} bytes an event: the peak grew by so much for each of the others");
    }
    ExitCode::SUCCESS
}

fn read_options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { events: 1_000_000, changes: 500, more: 0, stock: 0 };
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
            "--more" => options.more = number(&value)?,
            "--stock" => options.stock = number(&value)?,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(options)
}

/// Generates a university and deals its events to files by key; returns how many lines there are.
fn generate(events: u64, changes: u64, folder: &Path) -> u64 {
    let (events, changes) = (events.to_string(), changes.to_string());
    let arguments =
        ["generate", text(folder), "--events", &events, "--changes", &changes, "--seed", "5"];
    let status = program(&arguments).status().expect("the program can be started");
    assert!(status.success());
    let read = |name| BufReader::new(File::open(folder.join(name)).expect("it was generated"));
    let (mut lines, mut keys) = (read("events.ndjson"), read("keys.txt"));
    let mut files: Vec<BufWriter<File>> = (0..FILES)
        .map(|file| BufWriter::new(File::create(events_file(folder, file)).expect("a file")))
        .collect();
    let (mut line, mut key, mut count) = (Vec::new(), Vec::new(), 0);
    while lines.read_until(b'\n', &mut line).expect("it can be read") > 0 {
        keys.read_until(b'\n', &mut key).expect("it can be read");
        let file = xxhash_rust::xxh3::xxh3_64(&key) as usize % FILES;
        files[file].write_all(&line).expect("it can be written");
        line.clear();
        key.clear();
        count += 1;
    }
    files.iter_mut().for_each(|file| file.flush().expect("it can be written"));
    count
}

fn events_file(folder: &Path, file: usize) -> PathBuf {
    folder.join(format!("events-{file}.ndjson"))
}

fn hosts(folder: &Path) -> PathBuf {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let address = |listener: &TcpListener| listener.local_addr().expect("it listens").to_string();
    let file = folder.join("hosts");
    fs::write(&file, listeners.each_ref().map(address).join("\n")).expect("it can be written");
    file
}

/// What a run took.
#[derive(Clone)]
struct Took {
    what: String,
    wall: Duration,
    cpu: Duration,
    /// Bytes of memory, of the largest process.
    peak: u64,
}

/// Decodes every line, as a run does on one worker before anything else.
fn decode_alone(folder: &Path) -> Took {
    let lines = fs::read(folder.join("events.ndjson")).expect("it was generated");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/attendance.toml");
    let mut decoder = Decoder::new(Arc::new(Spec::load(&path).expect("the spec is sound")));
    let begin = Instant::now();
    let decoded = lines.split(|byte| *byte == b'\n').filter(|line| decoder.decode(line).is_ok());
    let decoded = decoded.count();
    let wall = begin.elapsed();
    assert!(decoded > 0, "something was decoded");
    Took { what: "floor: decode alone".to_owned(), wall, cpu: wall, peak: 0 }
}

/// Runs the program, or several processes of it at a time, to the end.
fn run(folder: &Path, what: &str, processes: &[&[&str]]) -> Took {
    let file = |name: &str| text(&folder.join(name)).to_owned();
    let events: Vec<String> =
        (0..FILES).map(|file| text(&events_file(folder, file)).to_owned()).collect();
    let (begin, before) = (Instant::now(), cpu_of_children());
    let start = |more: &&[&str]| {
        program(&["run", "dataflows/attendance.toml", "--once", "--quiet", "--events"])
            .args(&events)
            .args(["--documents", &file("people.ndjson"), "--changes", &file("changes.ndjson")])
            .args(["--out", &file("out")])
            .args(*more)
            .stderr(Stdio::null())
            .spawn()
            .expect("the program can be started")
    };
    let mut running: Vec<Child> = processes.iter().map(start).collect();
    let mut peak = 0;
    while !running.is_empty() {
        running.iter().for_each(|child| peak = peak.max(peak_of(child.id())));
        running.retain_mut(|child| {
            let status = child.try_wait().expect("it can be waited for");
            assert!(status.is_none_or(|status| status.success()), "{what}");
            status.is_none()
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    let (wall, cpu) = (begin.elapsed(), cpu_of_children() - before);
    Took { what: what.to_owned(), wall, cpu, peak }
}

fn program(arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tributary"));
    program.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null());
    program
}

fn print(events: u64, took: &Took, beside: Option<&Took>, floor: Duration) {
    let Took { what, wall, cpu, peak } = took;
    let (wall, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
    let (rate, each) = (events as f64 / wall, cpu * 1e6 / events as f64);
    let (peak, floor) = (peak >> 20, cpu / floor.as_secs_f64());
    let times = |of: fn(&Took) -> Duration, own: f64| {
        beside.map_or("-".to_owned(), |one| format!("{:.2}", own / of(one).as_secs_f64()))
    };
    let (cpu, walls) = (times(|one| one.cpu, cpu), times(|one| one.wall, wall));
    println!(
        "{what:<30} {wall:>8.2} {rate:>10.0} {each:>13.2} {peak:>9} {floor:>8.1} {cpu:>7} {walls:>7}"
    );
}

/// CPU time of all programs that ended so far.
fn cpu_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage of children can be asked");
    let time = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec() as u64) + Duration::from_micros(t.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// The most memory, in bytes, that a process has held; 0 once it has ended.
fn peak_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}
