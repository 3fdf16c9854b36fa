//! The dataflow, epoch by epoch: scripts of events and documents, and the updates that they cause.
//!
//! Shape: `tests/dataflow/*.txt`, a theme a file, a block an epoch; `REWRITE=1` rewrites what is
//! expected, and the difference is read like code.
//!
//! Lines of a block:
//!
//! ```text
//! event a1 student=5 mark=0 ...        a click; names are hexadecimal and become the ID
//! student s1 number=5 group=A-1 ...    a student's document; s1 is its _id
//! teacher t1 number=9 name=Orlov ...   a teacher's
//! delete s1
//! ```

use std::{collections::BTreeMap, sync::Arc};

use datadriven::{TestCase, TestFile};
use differential_dataflow::consolidation::consolidate;
use serde_json::{Map, Value, json};
use timely::{
    communication::allocator::{Allocator, thread::Thread},
    worker::Worker,
};
use tributary::{
    dataflow::Spread,
    reference::{Documents, Projector, document},
    source::{Decoder, PartitionId, Place},
    spec::{Corrections, Spec},
    time::Epoch,
};

use crate::{
    both::{Side, Update, Which},
    support::project,
};

#[test]
fn scripts_cause_the_updates_that_they_say() {
    datadriven::walk("tests/dataflow", |file| run(file, Which::Fused(Spread::NONE)));
}

#[test]
fn stock_dataflow_causes_the_updates_that_scripts_say() {
    datadriven::walk("tests/dataflow", |file| run(file, Which::Stock));
}

fn run(file: &mut TestFile, which: Which) {
    let text = std::fs::read_to_string(project("dataflows/attendance.toml")).unwrap();
    let mut spec = Spec::parse(&project("dataflows/attendance.toml"), &text).unwrap();
    if file.filename.contains("never") {
        // Counts by looked-up columns are refused with it, so the views that count are left out.
        spec.corrections = Corrections::Never;
        spec.views.truncate(2);
    }
    // `execute_directly` wants a closure that may move between threads, which a script may not.
    let alone = Allocator::Thread(Thread::default());
    let mut worker = Worker::new(timely::WorkerConfig::default(), alone, None);
    let mut flow = Flow::start(&mut worker, Arc::new(spec), which);
    file.run(|case| flow.epoch(&mut worker, case));
}

/// The dataflow of the attendance spec, fed by hand.
struct Flow {
    spec: Arc<Spec>,
    decoder: Decoder,
    projector: Projector,
    documents: Documents,
    side: Side,
    offsets: BTreeMap<PartitionId, u64>,
    names: BTreeMap<Place, String>,
    epoch: Epoch,
}

impl Flow {
    fn start(worker: &mut Worker, spec: Arc<Spec>, which: Which) -> Flow {
        let mut side = Side::start(worker, &spec, which);
        side.advance_to(1);
        Flow {
            decoder: Decoder::new(Arc::clone(&spec)),
            projector: Projector::new(Arc::clone(&spec)),
            spec,
            documents: Documents::default(),
            side,
            offsets: BTreeMap::new(),
            names: BTreeMap::new(),
            epoch: 1,
        }
    }

    /// Feeds a block, seals its epoch, and says what it caused.
    fn epoch(&mut self, worker: &mut Worker, case: &TestCase) -> String {
        assert_eq!(case.directive, "feed", "{}: no such directive", case.directive);
        let mut said = String::new();
        for line in case.input.lines() {
            let mut words = line.split_whitespace();
            let (word, name) = (words.next().unwrap(), words.next().unwrap());
            let fields = words.map(|pair| pair.split_once('=').expect(pair)).collect();
            match word {
                "event" => said += &self.event(name, &fields),
                _ => said += &self.document(word, name, &fields),
            }
        }
        self.seal(worker);
        let shown = case.args.get("show").cloned().unwrap_or_else(|| ALL.map(String::from).into());
        said + &self.updates(&shown)
    }

    fn seal(&mut self, worker: &mut Worker) {
        self.epoch += 1;
        self.side.advance_to(self.epoch);
        while self.side.is_behind(self.epoch) {
            worker.step();
        }
        self.side.collect();
    }

    fn event(&mut self, name: &str, fields: &BTreeMap<&str, &str>) -> String {
        let partition = fields.get("partition").map_or(0, |text| text.parse().unwrap());
        let partition = PartitionId(partition);
        let offset = self.offsets.entry(partition).or_default();
        let place = Place { partition, offset: *offset };
        *offset += 1;
        self.names.insert(place, name.to_owned());
        match self.decoder.decode(click(name, fields).to_string().as_bytes()) {
            Ok(row) => {
                self.side.event(place, row);
                String::new()
            }
            Err(refusal) => {
                let column =
                    refusal.column.map_or("", |c| &self.spec.events.columns[c.0 as usize].name);
                format!("dead {name} {} {column}\n", refusal.reason.name())
            }
        }
    }

    fn document(&mut self, word: &str, id: &str, fields: &BTreeMap<&str, &str>) -> String {
        let line = match word {
            "delete" => json!({"_id": id, "op": "delete"}),
            _ => json!({"_id": id, "_source": person(word, fields)}),
        };
        match document::read(line.to_string().as_bytes(), &self.projector) {
            Ok(line) => {
                let side = &mut self.side;
                self.documents.apply(line.statement, &mut |claim, diff| side.claim(claim, diff));
                String::new()
            }
            Err(refused) => format!("refused {id} {refused:?}\n"),
        }
    }

    fn updates(&mut self, shown: &[String]) -> String {
        let updates = std::mem::take(&mut self.side.updates);
        let rows = updates.into_iter().map(|(_, view, json, diff): Update| ((view, json), diff));
        let mut rows: Vec<_> = rows.filter(|((view, _), _)| shown.contains(view)).collect();
        consolidate(&mut rows);
        let place = |view: &str| self.spec.views.iter().position(|v| v.name == view).unwrap();
        let mut lines: Vec<_> = rows
            .into_iter()
            .map(|((view, json), diff)| {
                let row: Map<String, Value> = serde_json::from_str(&json).unwrap();
                (place(&view), diff, text(&row))
            })
            .collect();
        lines.sort();
        let mut said = format!("epoch {}\n", self.epoch - 1);
        for (place, diff, row) in lines {
            said += &format!("{diff:+} {} {row}\n", self.spec.views[place].name);
        }
        let mut taken = std::mem::take(&mut self.side.taken);
        taken.sort();
        for (_, place) in taken {
            said += &format!("taken {}\n", self.names[&place]);
        }
        said
    }
}

const ALL: [&str; 2] = ["enriched", "latest"];

/// A click with few words: what a script does not say has a value that does not matter.
fn click(name: &str, fields: &BTreeMap<&str, &str>) -> Value {
    let field = |key: &str, other: &str| (*fields.get(key).unwrap_or(&other)).to_owned();
    let mut event = json!({
        "ID": format!("00000000-0000-4000-8000-{:0>12}", name),
        "JOURNAL_ID": field("journal", "1"),
        "STUDENT_ID": field("student", "5"),
        "LESSON_ID": field("lesson", "1"),
        "LESSON_DATE": field("date", "2025-09-01"),
        "ATTENDANCE_MARK": field("mark", "1"),
        "MARKED_BY": field("by", "9"),
        "DATE_CREATE": format!("{} {}", field("day", "2025-09-01"), field("at", "10:00:00")),
        "MARKED_BY_ROLE": field("role", "2"),
    });
    if fields.get("role") == Some(&"none") {
        event.as_object_mut().unwrap().remove("MARKED_BY_ROLE");
    }
    event
}

fn person(word: &str, fields: &BTreeMap<&str, &str>) -> Value {
    let field = |key: &str| fields.get(key).map_or(Value::Null, |text| Value::from(*text));
    let kind = if word == "teacher" { "employee" } else { word };
    json!({
        "PERSONAL": {
            "type": kind,
            "BITRIX_USER_ID": field("number"),
            "ID_DECANAT": if word == "teacher" { field("number") } else { field("decanat") },
            "fullname": field("name"),
            "birthdate": field("birth"),
        },
        "EDUCATION": [{ "department": { "short_title": field("group") } }],
        "WORK": [{ "department": { "title": field("kafedra") } }],
    })
}

/// The columns of a row that scripts are about, under short names; `?` for an absent one.
fn text(row: &Map<String, Value>) -> String {
    let value = |column: &str| match row.get(column) {
        None => "?".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    if row.contains_key("MARKS") {
        let columns = row.iter().map(|(column, _)| format!("{column}={}", value(column)));
        return columns.collect::<Vec<_>>().join(" ");
    }
    let id = value("ID");
    let name = id[24..].trim_start_matches('0');
    let mut shown = format!("{name} mark={}", value("ATTENDANCE_MARK"));
    for (short, column) in [
        ("student", "STUDENT_FIO"),
        ("group", "GROUP_SHORT_TITLE"),
        ("age", "STUDENT_AGE"),
        ("teacher", "TEACHER_FIO"),
        ("kafedra", "KAFEDRA"),
    ] {
        if row.contains_key(column) || matches!(short, "group" | "teacher") {
            shown += &format!(" {short}={}", value(column));
        }
    }
    shown
}
