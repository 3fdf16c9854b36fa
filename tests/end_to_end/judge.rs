//! The judge of a game: what its topics hold, against the executable specification and the promises.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::Write,
    process::Command,
};

use serde_json::Value;

use crate::{
    game::{Game, text, wait_for},
    small::PATIENCE,
    stack::project,
    topics::{Seen, ends},
};

impl Game {
    /// Holds the outputs against the specification; returns how many records were read.
    pub fn judge(&mut self) -> usize {
        self.judge_ends();
        self.judge_words();
        let records = self.judge_views();
        println!("{}", self.judge_epochs(10));
        records
    }

    /// Where in the topic of the progress a transaction begins that is open, if one is.
    pub fn open_since(&self) -> Option<u64> {
        let topic = self.topic("progress");
        let end = |isolation| ends(&self.stack.brokers, &topic, isolation)[0];
        let (stable, written) = (end("read_committed"), end("read_uncommitted"));
        (stable < written).then_some(stable)
    }

    /// No transaction stays open.
    fn judge_ends(&self) {
        for topic in ["enriched", "latest", "dead_letters", "progress", "lead", "reference"] {
            let end = |isolation| ends(&self.stack.brokers, &self.topic(topic), isolation);
            // One who still says that it lives may be amid one just now.
            wait_for(&format!("no transaction to be open in {topic}"), PATIENCE, || {
                end("read_committed") == end("read_uncommitted")
            });
        }
    }

    /// No surname and no day of birth in what is said or in headers (P11).
    fn judge_words(&self) {
        let mut words = BTreeSet::new();
        let read = |name: &str| {
            let text = fs::read_to_string(self.folder.path().join("in").join(name));
            text.unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        // What they were called first, and later.
        for line in (read("people.ndjson") + &read("changes.ndjson")).lines() {
            let person: Value = serde_json::from_str(line).expect("people are JSON");
            let word = |name: &str| person["_source"]["PERSONAL"][name].as_str().map(str::to_owned);
            words.extend(word("lastname").filter(|name| name.chars().count() > 3));
            let days = word("birthdate").map(|date| date.chars().take(10).collect::<String>());
            words.extend(days.filter(|day| day.len() == 10));
        }
        assert!(words.len() > 100, "{} words to look for", words.len());
        let mut said = self.said();
        let metrics = fs::read_dir(self.folder.path().join("metrics")).expect("each run has some");
        for path in metrics {
            said += &fs::read_to_string(path.expect("a file").path()).expect("metrics are text");
        }
        assert!(said.contains("tributary_event_lines_total"), "there were metrics to look at");
        for topic in ["enriched", "latest", "dead_letters", "progress", "lead", "reference"] {
            let mut headers = BTreeSet::new();
            for record in self.read(topic) {
                headers.extend(record.headers.into_iter().filter(|(name, _)| name != "epoch"));
            }
            said.extend(headers.into_iter().map(|(name, value)| format!("{name}={value}\n")));
        }
        let told = words.iter().find(|word| said.contains(*word));
        assert!(told.is_none(), "{told:?} stands in a log, a metric or a header");
    }

    /// Holds the views and the dead letters as they stand at the end against the specification.
    fn judge_views(&mut self) -> usize {
        let input = self.folder.path().join("in");
        let (want, got) = (self.folder.path().join("want"), self.folder.path().join("got"));
        fs::create_dir_all(&got).expect("a folder");
        let oracle = [text(&project("tests/oracle/oracle.py")).to_owned(), text(&input).to_owned()];
        let oracle = Command::new("python3").args(oracle).arg(&want).output().expect("python3");
        assert!(oracle.status.success(), "{}", String::from_utf8_lossy(&oracle.stderr));
        let mut records = 0;
        for (view, key) in
            [("enriched", "ID"), ("latest", "JOURNAL_ID,STUDENT_ID,LESSON_ID,LESSON_DATE")]
        {
            let seen = self.read(view);
            records += seen.len();
            let mut newest: BTreeMap<&[u8], &Seen> = BTreeMap::new();
            let mut epochs: HashMap<(&[u8], &str), usize> = HashMap::new();
            for record in &seen {
                *epochs.entry((&record.key, &record.headers["epoch"])).or_default() += 1;
                newest.insert(&record.key, record);
            }
            let twice = epochs.iter().find(|(_, times)| **times > 1);
            assert!(twice.is_none(), "{view}: a key stands twice in an epoch: {twice:?}");
            let path = got.join(format!("{view}.ndjson"));
            let mut file = File::create(&path).expect("a file");
            for record in newest.values() {
                file.write_all(&[&record.value[..], b"\n"].concat()).expect("it can be written");
            }
            let compared = Command::new("python3")
                .arg(project("tests/oracle/compare.py"))
                .args([&want.join(format!("{view}.ndjson")), &path])
                .args(["--key", key])
                .output()
                .expect("python3");
            let said = String::from_utf8_lossy(&compared.stdout);
            assert!(compared.status.success(), "{view}: {said}");
            assert!(!newest.is_empty(), "{view}: an empty view shows nothing");
        }
        let letters = self.read("dead_letters");
        let place =
            |letter: &Seen| (letter.headers["partition"].clone(), letter.headers["offset"].clone());
        let places: BTreeSet<_> = letters.iter().map(place).collect();
        assert_eq!(places.len(), letters.len(), "a dead letter stands twice");
        let wanted = fs::read_to_string(want.join("dead_letters.txt")).expect("the oracle says it");
        let lines = fs::read(input.join("events.ndjson")).expect("the clicks");
        let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').collect();
        let mut wanted: Vec<&[u8]> = wanted
            .split_whitespace()
            .map(|number| lines[number.parse::<usize>().expect("a number")])
            .collect();
        let mut found: Vec<&[u8]> = letters.iter().map(|letter| &letter.value[..]).collect();
        wanted.sort();
        found.sort();
        assert!(wanted == found, "{} dead letters, {} wanted", found.len(), wanted.len());
        records
    }
}
