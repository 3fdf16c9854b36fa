//! A game: a university whose clicks and changes flow into Kafka while an engine runs over it, and
//! what must stand in the outputs at the end.
//!
//! The outputs are read by a reader of committed records that shares nothing with the engine, and
//! held against the executable specification (`tests/oracle`).

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::{Value, value::RawValue};
use tempfile::TempDir;
use tributary::{reference::Projector, spec::Spec};

use crate::{
    elasticsearch::Index,
    stack::{Node, Stack, project},
    topics::{EVENT_PARTITIONS, Seen, ends, place_topics, read, read_each},
};

/// Of the dataflow that is played.
pub const SHARDS: u64 = 64;

/// A game that is on.
pub struct Game {
    pub stack: &'static Stack,
    pub folder: TempDir,
    pub spec: PathBuf,
    pub plan: Plan,
    /// The spec that engines run, where that is another one.
    pub runs: PathBuf,
    name: String,
    /// The dataflow whose outputs are looked at.
    outputs: String,
    /// How the engine reaches the brokers.
    engine_at: [String; 2],
    /// Of people in files.
    feed: Option<Child>,
    producer: Option<JoinHandle<()>>,
    pace: Arc<Pace>,
    /// What was deleted from the topic of events.
    cut: Mutex<Vec<Seen>>,
}

/// How the clicks flow.
#[derive(Default)]
struct Pace {
    /// Beyond so many of them they come one by one.
    most: AtomicU64,
    /// Whether the rest comes at once.
    is_hurry: AtomicBool,
    is_done: AtomicBool,
}

/// What a game is played with.
#[derive(Default)]
pub struct Plan {
    pub seed: u64,
    pub events: u64,
    /// How long clicks and changes flow, unless the game is settled before.
    pub lasts: Duration,
    /// How often all students change, back and forth.
    pub storms: u32,
    /// The broker that alone has all topics but those of the events, which it has none of.
    pub outputs_on: Option<i32>,
    /// How often each click is sent again; then none of them is faulty.
    pub repeats: u64,
    /// The node that has the people; else they are in files. The engine feeds itself from it.
    pub people_in: Option<&'static Node>,
}

/// A run of the engine: one process, or several.
pub struct Run {
    pub processes: Vec<Child>,
    log: PathBuf,
}

fn command(arguments: &[&str], log: &Path) -> Command {
    let open = || File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    command.args(arguments).current_dir(project(".")).stdin(Stdio::null());
    command.stdout(open()).stderr(open());
    command
}

fn tributary(arguments: &[&str], log: &Path) -> Child {
    command(arguments, log).spawn().expect("the program can be started")
}

fn done(mut child: Child, what: &str, log: &Path) {
    let status = child.wait().expect("it was started");
    let said = || fs::read_to_string(log).unwrap_or_default();
    assert!(status.success(), "{what}: {status}\n{}", said());
}

/// Waits until something is so.
pub fn wait_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    wait_and_tell(what, patience, |_| is_so());
}

/// Waits until something is so; where it never is, what was noted last is told.
fn wait_and_tell(what: &str, patience: Duration, mut is_so: impl FnMut(&mut String) -> bool) {
    let begin = Instant::now();
    let mut noted = String::new();
    while !is_so(&mut noted) {
        assert!(begin.elapsed() < patience, "waited {patience:?} for {what}; {noted}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A number that the environment may name.
pub fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

/// The seed of a game: that of the environment, or a new one; it is said.
pub fn seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    let seed = number("SEED", now % 1_000_000);
    println!("SEED={seed}");
    seed
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}

/// Starts the feed of a game.
fn feed(spec: &Path, folder: &Path, brokers: &str) -> Child {
    let [documents, changes] = ["in/people.ndjson", "changes.ndjson"].map(|file| folder.join(file));
    // Of few people many go.
    let files =
        ["--documents", text(&documents), "--changes", text(&changes), "--max-deletes", "1"];
    let feed = ["feed", text(spec), "--kafka", brokers];
    tributary(&[&feed[..], &files].concat(), &folder.join("log"))
}

impl Game {
    /// Makes a university and its topics, and lets its clicks and changes flow.
    pub fn begin(stack: &'static Stack, plan: Plan) -> Game {
        let Plan { seed, events, .. } = plan;
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("game_{seed}");
        let spec = folder.path().join("spec.toml");
        let plain = fs::read_to_string(project("dataflows/attendance.toml")).expect("a spec");
        let named = plain.replace("name = \"attendance\"", &format!("name = \"{name}\""));
        fs::write(&spec, named).expect("a spec can be written");
        let log = folder.path().join("log");
        let input = folder.path().join("in");
        let sizes = [events.to_string(), seed.to_string()];
        let people = ["--students", "300", "--teachers", "20", "--changes", "300"];
        let arguments = ["generate", text(&input), "--events", &sizes[0], "--seed", &sizes[1]];
        let faults = ["--faults", if plan.repeats > 0 { "0" } else { "0.01" }];
        done(tributary(&[&arguments[..], &people, &faults].concat(), &log), "generate", &log);
        let changes_due = changes_due(&input, &plan);
        if let Some(broker) = plan.outputs_on {
            place_topics(stack, &name, broker);
        }
        let at = ["--kafka", &stack.brokers];
        let partitions = EVENT_PARTITIONS.to_string();
        let init = ["init", text(&spec), "--event-partitions", &partitions];
        done(tributary(&[&init[..], &at].concat(), &log), "init", &log);
        let changes = folder.path().join("changes.ndjson");
        fs::write(&changes, "").expect("a file");
        let mut engine_at = ["--kafka".to_owned(), stack.brokers.clone()];
        let (feed, changes) = match plan.people_in {
            None => {
                let feed = feed(&spec, folder.path(), &stack.brokers);
                (Some(feed), Changes::File(File::create(changes).expect("a file")))
            }
            Some(node) => {
                let index = Index::new(node, &name);
                index.make(2);
                let people = fs::read_to_string(input.join("people.ndjson")).expect("people");
                write_changes(&index, &people.lines().map(str::to_owned).collect::<Vec<_>>());
                let config = folder.path().join("place.toml");
                let place = format!(
                    "[kafka]\nbrokers = [\"{}\"]\n[sources.people]\nkind = \"elasticsearch\"\n\
                     urls = [\"{}\"]\nindex = \"{name}\"\nfeed = {{ look = \"100ms\", \
                     delete_after = \"500ms\", max_deletes = 1.0 }}\n",
                    stack.brokers, node.url
                );
                fs::write(&config, place).expect("a configuration");
                engine_at = ["--config".to_owned(), text(&config).to_owned()];
                (None, Changes::Index(index))
            }
        };
        let pace = Arc::new(Pace { most: AtomicU64::new(u64::MAX), ..Pace::default() });
        let flow =
            Flow { lasts: plan.lasts, repeats: plan.repeats, changes_due, pace: Arc::clone(&pace) };
        let producer = Some(produce(stack, &name, &input, changes, flow));
        let cut = Mutex::default();
        let (runs, outputs) = (spec.clone(), name.clone());
        Game {
            stack,
            folder,
            spec,
            plan,
            runs,
            name,
            outputs,
            engine_at,
            feed,
            producer,
            pace,
            cut,
        }
    }

    /// What its dataflow is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The engine is to reach the brokers so from now on.
    pub fn engine_at(&mut self, place: [&str; 2]) {
        self.engine_at = place.map(str::to_owned);
    }

    /// From now on the outputs of another dataflow over its inputs are looked at.
    pub fn look_at(&mut self, dataflow: &str) {
        dataflow.clone_into(&mut self.outputs);
    }

    /// What a topic is called.
    pub fn topic(&self, topic: &str) -> String {
        let of = match topic {
            "events" | "reference" => &self.name,
            _ => &self.outputs,
        };
        format!("{of}_{topic}")
    }

    /// Whether all clicks and changes have been made.
    pub fn is_produced(&self) -> bool {
        self.pace.is_done.load(Ordering::Relaxed)
    }

    /// Beyond this share of the clicks they come one by one, so that some are left for later.
    pub fn flow_up_to(&self, share: f64) {
        self.pace.most.store((self.plan.events as f64 * share) as u64, Ordering::Relaxed);
    }

    /// Starts the engine: so many processes of so many workers.
    pub fn start(&self, processes: usize, workers: usize, options: &[&str]) -> Run {
        self.start_to_die(processes, workers, options, None)
    }

    /// Starts the engine, with a process that is to die at a failpoint.
    pub fn start_to_die(
        &self,
        processes: usize,
        workers: usize,
        options: &[&str],
        failpoint: Option<(usize, &str)>,
    ) -> Run {
        let workers = workers.to_string();
        let (log, metrics) = self.files_of_start();
        let at = [
            "run",
            text(&self.runs),
            &self.engine_at[0],
            &self.engine_at[1],
            "--workers",
            &workers,
            "--metrics",
            text(&metrics),
        ];
        let hosts = self.folder.path().join("hosts");
        let held: Vec<_> = (0..processes)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let address =
            |held: &std::net::TcpListener| format!("{}\n", held.local_addr().expect("it is bound"));
        fs::write(&hosts, held.iter().map(address).collect::<String>()).expect("a file");
        drop(held);
        let of = processes.to_string();
        let process = |process: usize| {
            let number = process.to_string();
            let place = ["--processes", &of, "--process", &number, "--hosts", text(&hosts)];
            let place: &[&str] = if processes > 1 { &place } else { &[] };
            let mut command = command(&[&at[..], options, place].concat(), &log);
            if let Some((_, failpoint)) = failpoint.filter(|(victim, _)| *victim == process) {
                command.env("FAILPOINTS", failpoint);
            }
            command.env("RUST_LOG", "info,tributary::engine::follow=debug");
            command.spawn().expect("the program can be started")
        };
        Run { processes: (0..processes).map(process).collect(), log }
    }

    /// Starts another command over the game's spec, which may be to die at a failpoint.
    pub fn begin_command(&self, command: &str, options: &[&str], failpoint: Option<&str>) -> Run {
        let (log, _) = self.files_of_start();
        let at = [command, text(&self.spec), &self.engine_at[0], &self.engine_at[1]];
        let mut command = self::command(&[&at[..], options].concat(), &log);
        failpoint.into_iter().for_each(|failpoint| {
            command.env("FAILPOINTS", failpoint);
        });
        Run { processes: vec![command.spawn().expect("the program can be started")], log }
    }

    /// Runs another command over the game's spec to its end; returns its code, and what it said.
    pub fn command(&self, command: &str, options: &[&str]) -> (Option<i32>, String) {
        let mut run = self.begin_command(command, options, None);
        let code = run.wait_for(Duration::from_secs(300)).pop().and_then(|(_, code)| code);
        (code, run.said())
    }

    /// A log and metrics for a start: each has its own.
    fn files_of_start(&self) -> (PathBuf, PathBuf) {
        let [logs, metrics] = ["logs", "metrics"].map(|name| self.folder.path().join(name));
        [&logs, &metrics].iter().for_each(|at| fs::create_dir_all(at).expect("a folder"));
        let number = fs::read_dir(&logs).expect("it was made").count();
        let [log, metrics] = [logs, metrics].map(|at| at.join(format!("{number:04}")));
        File::create(&log).expect("a log");
        (log, metrics)
    }

    /// What all that belongs to the game said, the newest start last.
    pub fn said(&self) -> String {
        let mut logs = vec![self.folder.path().join("log")];
        let of_starts = fs::read_dir(self.folder.path().join("logs")).into_iter().flatten();
        logs.extend(of_starts.map(|entry| entry.expect("a file").path()));
        logs[1..].sort();
        logs.iter().map(|log| fs::read_to_string(log).unwrap_or_default()).collect()
    }

    /// All committed records of a topic, by partition in order.
    pub fn read(&self, topic: &str) -> Vec<Seen> {
        let mut records = read(&self.stack.brokers, &self.topic(topic));
        // A start says of progress that nobody needs any more that it is gone.
        records.retain(|record| topic != "progress" || !record.value.is_empty());
        records
    }

    /// Hands out the clicks as they were written, those that were deleted since too.
    pub fn each_event(&self, take: &mut dyn FnMut(&Seen)) {
        self.cut.lock().expect("nobody panics").iter().for_each(&mut *take);
        let topic = format!("{}_events", self.name);
        read_each(&self.stack.brokers, &topic, &mut |record| take(&record));
    }

    /// Deletes what each partition of the clicks holds below an offset; returns how many records
    /// are gone by that.
    pub fn cut_events(&self, below: &[u64]) -> usize {
        let mut cut = self.cut.lock().expect("nobody panics");
        let topic = format!("{}_events", self.name);
        let mut gone = read(&self.stack.brokers, &topic);
        gone.retain(|record| record.offset < below[record.partition as usize]);
        let mut before = TopicPartitionList::new();
        for (partition, offset) in below.iter().enumerate() {
            let offset = Offset::Offset(*offset as i64);
            before.add_partition_offset(&topic, partition as i32, offset).expect("a place");
        }
        let mut client = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> =
            client.set("bootstrap.servers", &self.stack.brokers).create().expect("a client");
        let deleted = pollster::block_on(admin.delete_records(&before, &AdminOptions::new()));
        deleted.expect("the broker deletes them");
        let count = gone.len();
        cut.extend(gone);
        count
    }

    /// Waits until a run has committed something.
    pub fn await_commit(&self, run: &mut Run) {
        let committed = self.read("progress").len();
        wait_for("something to be committed", Duration::from_secs(60), || {
            assert!(!run.has_ended(), "{}", run.said());
            assert!(!self.is_produced(), "clicks flow through all of it");
            self.read("progress").len() > committed
        });
    }

    /// Waits until the outputs are those of all that was produced, and nothing more comes.
    pub fn settle(&mut self, run: &mut Run) {
        self.pace.is_hurry.store(true, Ordering::Relaxed);
        self.producer.take().expect("a game is settled once").join().expect("it produces");
        if self.plan.people_in.is_some() {
            let people = people_at_the_end(&self.spec, &self.folder.path().join("in"));
            wait_for("the log to say what the index does", Duration::from_secs(120), || {
                assert!(!run.has_ended(), "{}", run.said());
                self.people_in_the_log() == people
            });
        }
        // Behind the last event the end of a transaction may stand, which no reader comes to hold.
        let mut wanted = vec![0; EVENT_PARTITIONS as usize];
        self.each_event(&mut |event| wanted[event.partition as usize] = event.offset + 1);
        let reference = format!("{}_reference", self.name);
        wanted.extend(ends(&self.stack.brokers, &reference, "read_committed"));
        let patience = Duration::from_secs(120) + self.plan.lasts;
        wait_and_tell("all to be held and nothing to be owed", patience, |noted| {
            assert!(!run.has_ended(), "the engine goes on");
            let mut latest = HashMap::new();
            for record in self.read("progress") {
                latest.insert(record.key, record.value);
            }
            let records: Vec<Value> = latest
                .values()
                .map(|value| serde_json::from_slice(value).expect("progress is JSON"))
                .collect();
            // A worker that found everything written writes no progress of its own.
            let newest_of = |shard: u64| {
                let has = |record: &&Value| {
                    record["of"].as_u64().map(|of| shard % of) == record["worker"].as_u64()
                };
                let place =
                    |record: &&Value| (record["epoch"].as_u64(), record["generation"].as_u64());
                records.iter().filter(has).max_by_key(place)
            };
            let is_whole = |record: &Value| {
                let bounds = |part: &str| {
                    let bounds = record[part]["bounds"].as_array().cloned().unwrap_or_default();
                    bounds.iter().map(|bound| bound[0].as_u64().unwrap_or(0)).collect::<Vec<_>>()
                };
                let held = [bounds("events"), bounds("reference")].concat();
                assert_eq!(held.len(), wanted.len(), "each input has a bound");
                // The last offset of the reference log may be that of a marker, which no reader
                // comes to hold.
                let mut least = wanted.clone();
                least.iter_mut().last().into_iter().for_each(|end| *end = end.saturating_sub(1));
                let is_held = held.iter().zip(&least).all(|(held, end)| held >= end);
                let settled = record["settled"].as_u64().unwrap_or(0);
                is_held && settled >= *held.last().unwrap_or(&0)
            };
            *noted = format!("of {wanted:?} it is said: {records:#?}");
            // All may have been written before this run began.
            let has_begun = run.said().contains("leads generation");
            has_begun && (0..SHARDS).all(|shard| newest_of(shard).is_some_and(is_whole))
        });
    }

    /// What the log says of people, by id.
    fn people_in_the_log(&self) -> BTreeMap<String, Value> {
        let mut people = BTreeMap::new();
        for record in self.read("reference") {
            let key = String::from_utf8(record.key).expect("keys are text");
            let Some(id) = key.strip_prefix("people:").filter(|id| !id.is_empty()) else {
                continue;
            };
            match record.value.is_empty() {
                true => drop(people.remove(id)),
                false => {
                    let value: Value = serde_json::from_slice(&record.value).expect("JSON");
                    people.insert(id.to_owned(), value["document"].clone());
                }
            }
        }
        people
    }

    /// How many records waited for corrections when the last progress of each writer was written;
    /// `None` where nothing was owed.
    pub fn owed(&self) -> Option<u64> {
        let mut newest = BTreeMap::new();
        for record in self.read("progress") {
            let record: Value = serde_json::from_slice(&record.value).expect("progress is JSON");
            let writer = (record["generation"].as_u64(), record["worker"].as_u64());
            newest.insert(writer, record);
        }
        let last_start = newest.keys().next_back().and_then(|(start, _)| *start);
        let of_last = newest.iter().filter(|((start, _), _)| *start == last_start);
        let of_last: Vec<&Value> = of_last.map(|(_, record)| record).collect();
        let is_owed = |record: &&Value| {
            record["settled"].as_u64() < record["reference"]["bounds"][0][0].as_u64()
        };
        let waiting = |record: &&Value| record["says"]["waiting"].as_u64().expect("it is said");
        of_last.iter().any(is_owed).then(|| of_last.iter().map(waiting).sum())
    }

    /// Kills the feed, and starts it again.
    pub fn crash_feed(&mut self) {
        let elder = self.feed.as_mut().expect("people are in files");
        elder.kill().expect("it runs");
        elder.wait().expect("it was started");
        self.feed = Some(feed(&self.spec, self.folder.path(), &self.stack.brokers));
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        if let Some(feed) = &mut self.feed {
            let _ = feed.kill();
            let _ = feed.wait();
        }
        if thread::panicking() {
            println!("what was said last:");
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let from = lines.len().saturating_sub(100);
            lines[from..].iter().for_each(|line| println!("{line}"));
        }
    }
}

impl Run {
    /// Whether some process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.processes.iter_mut().any(|p| p.try_wait().expect("it was started").is_some())
    }

    /// Sends a signal to one process.
    pub fn signal(&self, process: usize, signal: Signal) {
        let id = Pid::from_raw(self.processes[process].id() as i32);
        kill(id, signal).expect("it runs");
    }

    /// Kills one process; the others must end by themselves, with exit code 1.
    pub fn crash(mut self, process: usize) {
        self.signal(process, Signal::SIGKILL);
        for (number, code) in self.wait() {
            let is_right = number == process || code == Some(1);
            assert!(is_right, "process {number} ended with {code:?}: {}", self.said());
        }
    }

    /// Asks it to end; it must do so without a fault.
    pub fn end(mut self) {
        self.signal(self.processes.len() - 1, Signal::SIGTERM);
        for (_, code) in self.wait() {
            assert_eq!(code, Some(0), "{}", self.said());
        }
    }

    /// Waits for all processes; returns their exit codes.
    pub fn wait(&mut self) -> Vec<(usize, Option<i32>)> {
        self.wait_for(Duration::from_secs(40))
    }

    /// The same, with another patience.
    pub fn wait_for(&mut self, patience: Duration) -> Vec<(usize, Option<i32>)> {
        let mut codes = Vec::new();
        for (number, process) in self.processes.iter_mut().enumerate() {
            let begin = Instant::now();
            let status = loop {
                if let Some(status) = process.try_wait().expect("it was started") {
                    break status;
                }
                if begin.elapsed() > patience {
                    let said = fs::read_to_string(&self.log).unwrap_or_default();
                    panic!("process {number} has not ended in time; what was said:\n{said}");
                }
                thread::sleep(Duration::from_millis(20));
            };
            codes.push((number, status.code()));
        }
        codes
    }

    /// What all its processes said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What flows besides the clicks, and for how long.
struct Flow {
    lasts: Duration,
    repeats: u64,
    changes_due: Vec<(u64, String)>,
    pace: Arc<Pace>,
}

/// The changes, each with the number of the click before which it happens; the file of changes
/// then holds them all, in their order.
fn changes_due(input: &Path, plan: &Plan) -> Vec<(u64, String)> {
    let path = input.join("changes.ndjson");
    let made = fs::read_to_string(&path).expect("the changes");
    let count = made.lines().count() as u64;
    let place =
        |(place, line): (usize, &str)| (place as u64 * plan.events / count.max(1), line.to_owned());
    let mut due: Vec<(u64, String)> = made.lines().enumerate().map(place).collect();
    let people = fs::read_to_string(input.join("people.ndjson")).expect("the people");
    let people: Vec<Value> =
        people.lines().map(|line| serde_json::from_str(line).expect("people are JSON")).collect();
    // All students change, change back, and change again, so fast that the first is not written
    // when the next comes.
    let clicks_a_second = plan.events as f64 / plan.lasts.as_secs_f64();
    for storm in 0..plan.storms {
        let begin = plan.events * u64::from(storm + 1) / u64::from(plan.storms + 1);
        for wave in 0..3 {
            let at = begin + (f64::from(wave) * 0.7 * clicks_a_second) as u64;
            for person in &people {
                let mut source = person["_source"].clone();
                if source["PERSONAL"]["type"] != "student" {
                    continue;
                }
                if wave != 1 {
                    source["PERSONAL"]["name"] = format!("S-{storm}").into();
                }
                let (op, id) = ("index", &person["_id"]);
                let line = serde_json::json!({ "op": op, "_id": id, "_source": source });
                due.push((at, line.to_string()));
            }
        }
    }
    due.sort_by_key(|(at, _)| *at);
    let lines: String = due.iter().map(|(_, line)| format!("{line}\n")).collect();
    fs::write(&path, lines).expect("the changes can be written");
    due
}

/// Where changes of people go.
enum Changes {
    File(File),
    Index(Index),
}

impl Changes {
    fn write(&mut self, lines: &[String]) {
        match self {
            Changes::File(file) => {
                for line in lines {
                    writeln!(file, "{line}").expect("it can be written");
                }
            }
            Changes::Index(index) => write_changes(index, lines),
        }
    }
}

/// Brings changes to an index, in their order; a node that is gone is waited for.
fn write_changes(index: &Index, lines: &[String]) {
    let change = |line: &String| {
        let change: Value = serde_json::from_str(line).expect("changes are JSON");
        let id = change["_id"].as_str().expect("each is of somebody").to_owned();
        let is_gone = change["op"] == "delete";
        (id, (!is_gone).then(|| change["_source"].clone()))
    };
    let changes: Vec<(String, Option<Value>)> = lines.iter().map(change).collect();
    let all = || changes.iter().map(|(id, source)| (&**id, source.clone()));
    wait_for("the node to take changes", Duration::from_secs(120), || index.try_write(all()));
}

/// What each person is at the end, by id, as the dataflow takes it.
fn people_at_the_end(spec: &Path, input: &Path) -> BTreeMap<String, Value> {
    let spec = Spec::load(spec).expect("it is sound");
    let projector = Projector::of_source(Arc::new(spec), "people");
    let mut people = BTreeMap::new();
    for file in ["people.ndjson", "changes.ndjson"] {
        for line in fs::read_to_string(input.join(file)).expect("people").lines() {
            let change: Value = serde_json::from_str(line).expect("people are JSON");
            let id = change["_id"].as_str().expect("each is somebody").to_owned();
            if change["op"] == "delete" {
                people.remove(&id);
                continue;
            }
            let source = RawValue::from_string(change["_source"].to_string()).expect("JSON");
            let taken = serde_json::from_slice(&projector.pruned(&source)).expect("JSON");
            people.insert(id, taken);
        }
    }
    people
}

/// Makes the clicks and the changes, each in its place among the clicks; clicks go on while changes
/// wait for a system that is down.
fn produce(
    stack: &Stack,
    name: &str,
    input: &Path,
    mut changes: Changes,
    flow: Flow,
) -> JoinHandle<()> {
    let Flow { lasts, repeats, changes_due, pace } = flow;
    let topic = format!("{name}_events");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stack.brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()
        .expect("a producer");
    let events = fs::read(input.join("events.ndjson")).expect("the clicks");
    let keys = fs::read(input.join("keys.txt")).expect("their keys");
    thread::spawn(move || {
        let (due, dues) = mpsc::channel::<Vec<String>>();
        let changing = thread::spawn(move || dues.iter().for_each(|due| changes.write(&due)));
        let mut waiting = changes_due.into_iter().peekable();
        let events: Vec<&[u8]> = events.split(|byte| *byte == b'\n').collect();
        let events = &events[..events.len() - 1];
        let begin = Instant::now();
        for (number, (event, key)) in events.iter().zip(keys.split(|b| *b == b'\n')).enumerate() {
            let partition = xxhash_rust::xxh3::xxh3_64(key) % u64::from(EVENT_PARTITIONS);
            for _ in 0..=repeats {
                let mut record =
                    BaseRecord::to(&topic).partition(partition as i32).key(key).payload(*event);
                while let Err((_, again)) = producer.send(record) {
                    producer.poll(Duration::from_millis(5));
                    record = again;
                }
            }
            let is_hurry = pace.is_hurry.load(Ordering::Relaxed);
            if number as u64 >= pace.most.load(Ordering::Relaxed) && !is_hurry {
                producer.poll(Duration::from_millis(200));
            }
            if number % 20 == 0 {
                producer.poll(Duration::ZERO);
                let mut now = Vec::new();
                while let Some((_, change)) = waiting.next_if(|(due, _)| *due <= number as u64) {
                    now.push(change);
                }
                due.send(now).expect("they are written");
                let at = lasts.mul_f64(number as f64 / events.len() as f64);
                if !is_hurry {
                    thread::sleep(at.saturating_sub(begin.elapsed()));
                }
            }
        }
        producer.flush(Duration::from_secs(60)).expect("the broker takes them");
        due.send(waiting.map(|(_, change)| change).collect()).expect("they are written");
        drop(due);
        changing.join().expect("they are written");
        pace.is_done.store(true, Ordering::Relaxed);
    })
}
