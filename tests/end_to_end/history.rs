//! What stood in the topics at sealed epochs, held against the specification run on the inputs up to
//! the recorded vectors (`tests/oracle/sealed.py`).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Command,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, value::RawValue};
use tributary::{
    row::{self, Key},
    spec::Spec,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    game::{Game, SHARDS, text},
    stack::project,
    topics::Seen,
};

impl Game {
    /// Judges so many sealed epochs, drawn by the game's seed; returns what the judge says.
    pub fn judge_epochs(&self, epochs: u32) -> String {
        self.history();
        self.judge_by(&["--epochs", &epochs.to_string(), "--seed", &self.plan.seed.to_string()])
    }

    /// Judges what tables showed that were loaded up to some epochs: a folder for each.
    pub fn judge_shown(&self, shown: &Path) -> String {
        self.history();
        self.judge_by(&["--shown", text(shown)])
    }

    /// Epochs that a progress record names.
    pub fn epochs(&self) -> BTreeSet<u64> {
        let epoch = |record: Seen| {
            let record: Value = serde_json::from_slice(&record.value).expect("progress is JSON");
            record["epoch"].as_u64().expect("it has one")
        };
        self.read("progress").into_iter().map(epoch).collect()
    }

    /// The epoch up to which every shard is committed: a worker may end with one more than another.
    pub fn sealed(&self) -> u64 {
        let mut newest = [0; SHARDS as usize];
        for record in self.read("progress") {
            let record: Value = serde_json::from_slice(&record.value).expect("progress is JSON");
            let number = |name: &str| record[name].as_u64().expect("it is said");
            let (worker, of, epoch) = (number("worker"), number("of"), number("epoch"));
            for shard in (worker..SHARDS).step_by(of as usize) {
                newest[shard as usize] = epoch.max(newest[shard as usize]);
            }
        }
        newest.into_iter().min().unwrap_or_default()
    }

    /// Writes down what stands in the topics, for the judge.
    fn history(&self) {
        let folder = self.folder.path().join("history");
        fs::create_dir_all(&folder).expect("a folder");
        let file = |name: &str| {
            let file = File::create(folder.join(format!("{name}.ndjson"))).expect("a file");
            BufWriter::new(file)
        };
        let mut events = file("events");
        // Of copies in one partition the first counts, and where they are made on purpose there are
        // more of them than the judge could hold.
        let mut copies = HashSet::new();
        self.each_event(&mut |Seen { partition, offset, value, .. }| {
            if self.plan.repeats > 0 && !copies.insert((*partition, xxh3_128(value))) {
                return;
            }
            let value = BASE64_STANDARD.encode(value);
            writeln!(events, r#"{{"p":{partition},"o":{offset},"v":"{value}"}}"#).expect("a file");
        });
        let mut reference = file("reference");
        for Seen { offset, key, value, .. } in self.read("reference") {
            let key: Value = String::from_utf8(key).expect("keys of the log are text").into();
            let said: Value = serde_json::from_slice(&value).unwrap_or(Value::Null);
            let document = &said["document"];
            writeln!(reference, r#"{{"o":{offset},"k":{key},"v":{document}}}"#).expect("a file");
        }
        let mut progress = file("progress");
        for Seen { value, .. } in self.read("progress") {
            progress.write_all(&[&value[..], b"\n"].concat()).expect("a file");
        }
        let spec = Spec::load(&self.spec).expect("the spec is sound");
        for view in ["enriched", "latest"] {
            let mut records = file(view);
            let mut epochs: HashMap<u16, u64> = HashMap::new();
            for Seen { value, headers, .. } in self.read(view) {
                let record: &RawValue = serde_json::from_slice(&value).expect("records are JSON");
                let columns: Value = serde_json::from_str(record.get()).expect("they are JSON");
                let student = columns["STUDENT_ID"].as_u64().expect("each has a student");
                let shard = spec.shard_of(&Key::of([Some(row::Value::Integer(student.into()))])).0;
                let epoch: u64 = headers["epoch"].parse().expect("an epoch is a number");
                let last = epochs.insert(shard, epoch).unwrap_or(0);
                assert!(last <= epoch, "{view}: shard {shard} goes from epoch {last} to {epoch}");
                writeln!(records, r#"{{"s":{shard},"e":{epoch},"v":{record}}}"#).expect("a file");
            }
        }
        let mut letters = file("dead_letters");
        for Seen { headers, .. } in self.read("dead_letters") {
            let [partition, offset, epoch] = ["partition", "offset", "epoch"].map(|h| &headers[h]);
            writeln!(letters, r#"{{"p":{partition},"o":{offset},"e":{epoch}}}"#).expect("a file");
        }
        for mut file in [events, reference, progress, letters] {
            file.flush().expect("a file");
        }
    }

    fn judge_by(&self, options: &[&str]) -> String {
        let judged = Command::new("python3")
            .arg(project("tests/oracle/sealed.py"))
            .arg(self.folder.path().join("history"))
            .args(options)
            .output()
            .expect("python3");
        let [said, failed] =
            [judged.stdout, judged.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(judged.status.success(), "{said}{failed}");
        said.trim().to_owned()
    }
}
