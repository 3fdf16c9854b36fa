//! A broker, a university whose documents stand in the reference log, and the engine as a process.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::BorrowedMessage,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{PARTITIONS, stack::Stack, wait_for};

pub const EVENTS: &str = "bench_events";
pub const REFERENCE: &str = "bench_reference";
const STUDENTS: &str = "12000";

pub struct Place {
    pub stack: &'static Stack,
    pub folder: TempDir,
    pub lines: Vec<Vec<u8>>,
    pub keys: Vec<Vec<u8>>,
}

fn tributary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

fn done(command: &mut Command) {
    let output = command.output().expect("the program can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An address on which nobody listens.
pub fn free_address() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    port.expect("a free port").to_string()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}

impl Place {
    /// A university of so many clicks, none of them produced yet.
    pub fn start(events: u64) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let input = folder.path().join("in");
        let size = ["--events", &events.to_string(), "--students", STUDENTS, "--teachers", "434"];
        let more = ["--faults", "0", "--seed", "5", "--changes", "0"];
        done(tributary().arg("generate").arg(&input).args(size).args(more));
        let lines = |name: &str| {
            let text = fs::read(input.join(name)).expect("it was generated");
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let (lines, keys) = (lines("events.ndjson"), lines("keys.txt"));
        let stack = Stack::with(&["--heap", "1g"]);
        let config = format!(
            "[kafka]\nbrokers = [\"{}\"]\nevents = \"{EVENTS}\"\nreference = \"{REFERENCE}\"\n",
            stack.brokers
        );
        fs::write(folder.path().join("place.toml"), config).expect("a file");
        let place = Place { stack, folder, lines, keys };
        place.make_topic(EVENTS);
        place.init("bench");
        done(
            tributary()
                .arg("feed")
                .arg(place.spec("bench"))
                .arg("--config")
                .arg(place.config())
                .args(["--once", "--documents", text(&input.join("people.ndjson"))]),
        );
        place
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("place.toml")
    }

    /// The attendance dataflow under another name.
    pub fn spec(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.toml"));
        if path.exists() {
            return path;
        }
        let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/attendance.toml");
        let plain = fs::read_to_string(plain).expect("a spec");
        let named = plain.replace("name = \"attendance\"", &format!("name = \"{name}\""));
        fs::write(&path, named).expect("a file");
        path
    }

    pub fn init(&self, name: &str) {
        let partitions = PARTITIONS.to_string();
        done(
            tributary().arg("init").arg(self.spec(name)).arg("--config").arg(self.config()).args([
                "--event-partitions",
                &partitions,
                "--output-partitions",
                &partitions,
            ]),
        );
    }

    /// Feeds changes of documents as they are appended to a file, until the feed is ended.
    pub fn feed(&self, changes: &Path) -> Child {
        let people = self.folder.path().join("in/people.ndjson");
        tributary()
            .arg("feed")
            .arg(self.spec("bench"))
            .arg("--config")
            .arg(self.config())
            .args(["--documents", text(&people), "--changes", text(changes), "--quiet"])
            .spawn()
            .expect("the program can be started")
    }

    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.stack.brokers);
        client
    }

    pub fn producer(&self) -> BaseProducer {
        let mut client = self.client();
        client.set("linger.ms", "0").set("queue.buffering.max.messages", "500000");
        client.set("enable.idempotence", "true").create().expect("a producer")
    }

    /// Sends an event as the journal does: keyed by its ID.
    pub fn send(&self, producer: &BaseProducer, place: usize) {
        self.send_at(producer, &self.keys[place], &self.lines[place], None);
    }

    fn send_at(&self, producer: &BaseProducer, key: &[u8], line: &[u8], ms: Option<i64>) {
        let partition = xxhash_rust::xxh3::xxh3_64(key) % u64::from(PARTITIONS);
        let mut record = BaseRecord::to(EVENTS).partition(partition as i32).key(key).payload(line);
        record.timestamp = ms;
        while let Err((_, again)) = producer.send(record) {
            std::thread::sleep(Duration::from_micros(200));
            producer.poll(Duration::ZERO);
            record = again;
        }
    }

    /// Produces events as fast as it goes; returns how many.
    pub fn produce_all(&self, places: std::ops::Range<usize>) -> u64 {
        let producer = self.producer();
        let count = places.len() as u64;
        for place in places {
            self.send(&producer, place);
            if place % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Duration::from_secs(120)).expect("the broker takes them");
        count
    }

    /// Records of events may bear other times than the broker's from now on, whatever the engine
    /// asked for at its start.
    pub fn date_events_by_producers(&self) {
        self.set(EVENTS, "message.timestamp.type=CreateTime");
    }

    /// Produces events, each record with the time at which its event was made; returns the first
    /// and the last of these, in ms.
    pub fn produce_in_their_time(&self, places: std::ops::Range<usize>) -> (i64, i64) {
        let producer = self.producer();
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for place in places {
            let (line, key) = (&self.lines[place], &self.keys[place]);
            let event: Value = serde_json::from_slice(line).expect("events are JSON");
            let at = event["DATE_CREATE"].as_str().expect("it says when it was made");
            let at: jiff::civil::DateTime = at.parse().expect("a wall time");
            let at = at.in_tz("Europe/Moscow").expect("the zone is known").timestamp();
            let ms = at.as_millisecond();
            (first, last) = (first.min(ms), last.max(ms));
            self.send_at(&producer, key, line, Some(ms));
            if place % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Duration::from_secs(120)).expect("the broker takes them");
        (first, last)
    }

    /// Gives the spec of a name a horizon.
    pub fn keep(&self, name: &str, days: Option<u32>) {
        let path = self.spec(name);
        let plain = fs::read_to_string(&path).expect("a spec");
        let more = days.map_or(String::new(), |days| format!("horizon = \"{days}d\"\n"));
        let written = plain.replace("[events]\n", &format!("[events]\n{more}"));
        fs::write(&path, written).expect("a file");
    }

    /// Alters a setting of a topic.
    fn set(&self, topic: &str, setting: &str) {
        self.stack.command(&format!(
            "tool kafka.admin.ConfigCommand --bootstrap-server {} --alter --entity-type topics \
             --entity-name {topic} --add-config {setting}",
            self.stack.brokers
        ));
    }

    pub fn make_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let topic = NewTopic::new(name, PARTITIONS as i32, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime")
            // Records that say that they are old stay too.
            .set("retention.ms", "-1");
        let made = admin.create_topics([&topic], &AdminOptions::new());
        pollster::block_on(made).expect("the broker answers");
    }

    pub fn reader(&self, isolation: &str) -> BaseConsumer {
        let mut client = self.client();
        client.set("group.id", "bench").set("isolation.level", isolation);
        client.set("enable.partition.eof", "true").set("enable.auto.commit", "false");
        client.create().expect("a reader")
    }

    pub fn extent(&self, topic: &str, partition: u32) -> (i64, i64) {
        let reader = self.reader("read_uncommitted");
        let asked = reader.fetch_watermarks(topic, partition as i32, Duration::from_secs(10));
        asked.expect("the broker answers")
    }

    /// Some records of a partition from an offset on, until `take` has enough or the end.
    pub fn some(
        &self,
        topic: &str,
        partition: u32,
        from: i64,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) {
        let reader = self.reader("read_committed");
        let mut wanted = TopicPartitionList::new();
        let from = Offset::Offset(from);
        wanted.add_partition_offset(topic, partition as i32, from).expect("a partition");
        reader.assign(&wanted).expect("it can be read");
        loop {
            match reader.poll(Duration::from_secs(10)) {
                Some(Ok(message)) if take(&message) => {}
                _ => return,
            }
        }
    }

    /// Seconds from the first record that was appended to topics to the last.
    pub fn span(&self, topics: &[&str]) -> f64 {
        let (mut first, mut last) = (i64::MAX, 0);
        for topic in topics {
            for partition in 0..PARTITIONS {
                let (begin, end) = self.extent(topic, partition);
                let time = |message: &BorrowedMessage<'_>| {
                    message.timestamp().to_millis().expect("the broker says it")
                };
                self.some(topic, partition, begin, |message| {
                    first = first.min(time(message));
                    false
                });
                self.some(topic, partition, (end - 50).max(begin), |message| {
                    last = last.max(time(message));
                    true
                });
            }
        }
        (last - first) as f64 / 1e3
    }
}

/// The engine as a process.
pub struct Engine<'p> {
    place: &'p Place,
    name: String,
    process: Child,
    said: PathBuf,
}

impl<'p> Engine<'p> {
    /// Starts it over topics of its own.
    pub fn start(place: &'p Place, name: &str, workers: u32, options: &[&str]) -> Engine<'p> {
        place.init(name);
        let said = place.folder.path().join(format!("{name}.log"));
        let log = fs::File::create(&said).expect("a file");
        let process = tributary()
            .arg("run")
            .arg(place.spec(name))
            .arg("--config")
            .arg(place.config())
            .args(["--workers", &workers.to_string()])
            .args(options)
            .stderr(log)
            .spawn()
            .expect("the program can be started");
        Engine { place, name: name.to_owned(), process, said }
    }

    /// Makes a dataflow anew from history, under another name, beside the one of a name.
    #[allow(dead_code, reason = "asked for by over_clickhouse alone")]
    pub fn backfill(
        place: &'p Place,
        (of, name): (&str, &str),
        workers: u32,
        options: &[&str],
    ) -> Engine<'p> {
        let said = place.folder.path().join(format!("{name}.log"));
        let log = fs::File::create(&said).expect("a file");
        let process = tributary()
            .arg("backfill")
            .arg(place.spec(of))
            .arg("--config")
            .arg(place.config())
            .args(["--as", name, "--workers", &workers.to_string()])
            .args(options)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program can be started");
        Engine { place, name: name.to_owned(), process, said }
    }

    /// Waits until all events are held by what is committed, and nothing is owed.
    pub fn wait_until_held(&self, patience: Duration) {
        let ends: i64 = (0..PARTITIONS).map(|p| self.place.extent(EVENTS, p).1).sum();
        wait_for("all events to be held", patience, || {
            let (mut held, mut owes) = (0, true);
            self.progress(0, &mut |_, _, record| {
                let bounds = record["events"]["bounds"].as_array().expect("it has bounds");
                held = bounds.iter().map(|bound| bound[0].as_i64().unwrap_or(0)).sum();
                owes = does_owe(record);
            });
            held >= ends && !owes
        });
    }

    /// From when to when corrections were owed, by what it says from an offset of its progress on:
    /// until the first word that none is owed any more. It is read as it comes until that is over:
    /// compaction keeps the last word alone.
    pub fn owed(&self, from: i64, is_over: &AtomicBool) -> Option<Range<Instant>> {
        let (mut first, mut last, mut was_owed) = (None, None, false);
        let mut heard = from;
        loop {
            let is_last = is_over.load(Ordering::Relaxed);
            self.progress(heard, &mut |offset, ms, record| {
                heard = offset + 1;
                let owes = does_owe(record);
                if owes || was_owed {
                    first = first.or(Some(ms));
                    last = Some(ms);
                }
                was_owed = owes;
            });
            if is_last {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
        let (now, since) = (Instant::now(), UNIX_EPOCH.elapsed().expect("after 1970"));
        let moment = |ms: i64| now - since.saturating_sub(Duration::from_millis(ms as u64));
        Some(moment(first?)..moment(last?))
    }

    /// Its progress records from an offset on, each with its own and the time at which it was
    /// written.
    fn progress(&self, from: i64, take: &mut dyn FnMut(i64, i64, &Value)) {
        self.place.some(&format!("{}_progress", self.name), 0, from, |message| {
            // A start says of what nobody needs any more that it is gone.
            let Some(value) = message.payload() else { return true };
            let record: Value = serde_json::from_slice(value).expect("progress is JSON");
            let ms = message.timestamp().to_millis().expect("the broker says it");
            take(message.offset(), ms, &record);
            true
        });
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// CPU time of the process so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        let words: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: u64 = words[11..13].iter().map(|w| w.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Does something while it is stopped.
    pub fn rest(&self, what: impl FnOnce()) {
        let signal = |signal| kill(Pid::from_raw(self.id() as i32), signal).expect("it runs");
        signal(Signal::SIGSTOP);
        what();
        signal(Signal::SIGCONT);
    }

    pub fn peak_mib(&self) -> u64 {
        self.memory_mib("VmHWM")
    }

    pub fn rss_mib(&self) -> u64 {
        self.memory_mib("VmRSS")
    }

    fn memory_mib(&self, kind: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(kind)).expect("it is said");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// Ends it; returns how many records it wrote, and its CPU time.
    pub fn end(mut self) -> (u64, Duration) {
        let cpu = self.cpu();
        kill(Pid::from_raw(self.id() as i32), Signal::SIGTERM).expect("it runs");
        assert!(self.process.wait().expect("it was started").success(), "{:?}", self.said());
        let said = self.said();
        let before = said.split(" updates to Kafka").next().unwrap_or_default();
        let number = before.rsplit(' ').next().unwrap_or_default().replace(',', "");
        (number.parse().expect("it says how many"), cpu)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether corrections were owed when a progress record was written.
fn does_owe(record: &Value) -> bool {
    record["settled"].as_u64() < record["reference"]["bounds"][0][0].as_u64()
}

/// CPU time of this process.
pub fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("usage can be asked");
    let time = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec() as u64) + Duration::from_micros(t.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// CPU time of everything that runs on this machine.
pub fn cpu_of_all() -> Duration {
    let stat = fs::read_to_string("/proc/stat").expect("the system says it");
    let ticks = |word: &str| word.parse::<u64>().unwrap_or(0);
    let times: Vec<u64> = stat.lines().next().unwrap_or("").split(' ').skip(2).map(ticks).collect();
    // The fourth and fifth are of doing nothing.
    let busy = times.iter().take(3).chain(times.iter().skip(5).take(3)).sum::<u64>();
    Duration::from_millis(busy * 10)
}

/// Sleeps until a moment.
pub fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}
