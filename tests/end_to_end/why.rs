//! Why a record has its values is told from what stands, and agrees with it.

use std::{collections::BTreeMap, fs};

use serde_json::{Map, Value};

use crate::{
    clickhouse::{Shown, sample},
    game::wait_for,
    small::PATIENCE,
    stack::project,
};

const KEY: [&str; 4] = ["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "LESSON_DATE"];

#[test]
fn a_record_is_told_by_who_said_what_and_when() {
    let shown = Shown::new("whys");
    shown.init();
    let path = |name: &str| project("data/attendance").join(name).display().to_string();
    let people = path("people.ndjson");
    let feed = |more: &[&str]| {
        let arguments = [&["feed", "--once", "--documents", &people], more].concat();
        let (code, said) = shown.small.tributary(&arguments);
        assert_eq!(code, Some(0), "{said}");
    };
    feed(&[]);
    let events = sample("events");
    shown.small.send(0, &events);
    let mut engine = shown.small.start(&["--no-feeds"]);
    wait_for("the rows", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        shown.frontier() > 0 && shown.is_equal()
    });
    // A student is called otherwise from now on.
    let enriched = shown.said("enriched", &["ID"], &[]);
    let of_key = |row: &Value| KEY.map(|column| row[column].to_string()).concat();
    let mut by_key = BTreeMap::<String, Vec<&Value>>::new();
    for row in enriched.values().filter(|row| row["STUDENT_LAST_NAME"].is_string()) {
        by_key.entry(of_key(row)).or_default().push(row);
    }
    let several = by_key.values().find(|rows| rows.len() > 1).expect("a mark was corrected");
    let student = several[0]["STUDENT_ID"].clone();
    let wanted = student.to_string();
    let lines = fs::read_to_string(&people).expect("the sample");
    let mut person: Value = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|person| {
            let is_his = &person["_source"]["PERSONAL"]["BITRIX_USER_ID"];
            let number = is_his.as_str().map_or_else(|| is_his.to_string(), str::to_owned);
            number == wanted && person["_source"]["PERSONAL"]["type"] == "student"
        })
        .expect("somebody has the number");
    person["_source"]["PERSONAL"]["lastname"] = "Переименован".into();
    person["op"] = "index".into();
    let changes = shown.small.folder.path().join("changes.ndjson");
    fs::write(&changes, format!("{person}\n")).expect("a file");
    feed(&["--changes", changes.to_str().expect("text")]);
    let is_renamed = || {
        let rows = shown.said("enriched", &["ID"], &[]);
        let mut of = rows.values().filter(|row| row["STUDENT_ID"] == student);
        of.all(|row| row["STUDENT_LAST_NAME"] == "Переименован")
    };
    wait_for("history to follow", PATIENCE, || is_renamed() && shown.is_equal());
    let why = |id: &Value| -> Value {
        let id = id.as_str().expect("IDs are text").to_uppercase();
        let (code, said) = shown.small.tributary(&["why", &id, "--json"]);
        assert_eq!(code, Some(0), "{said}");
        let json = said.lines().find(|line| line.starts_with('{')).expect("it says it");
        serde_json::from_str(json).expect("it is JSON")
    };
    let latest = shown.said("latest", &KEY, &[]);
    let counts = latest.values().find(|row| of_key(row) == of_key(several[0])).expect("one counts");
    let enriched = shown.said("enriched", &["ID"], &[]);
    for row in several {
        let found = why(&row["ID"]);
        let said = found["said"].as_array().expect("where it was said");
        let stands = said.iter().find(|said| said["became"] == "stands").expect("it stands");
        let offset = stands["offset"].as_u64().expect("an offset") as usize;
        let line: Value = serde_json::from_slice(&events[offset].1).expect("an event");
        assert!(
            line["ID"]
                .as_str()
                .expect("text")
                .eq_ignore_ascii_case(row["ID"].as_str().expect("text"))
        );
        let lookup = &found["lookups"]["student"];
        assert_eq!(lookup["key"].as_str(), Some(&*student.to_string()));
        let has_it = lookup["has_it"].as_str().expect("somebody");
        assert!(has_it.ends_with(person["_id"].as_str().expect("text")), "{has_it}");
        assert_eq!(lookup["documents"].as_array().expect("what was said").len(), 2, "{lookup}");
        // What its record said first, and what it came to say, is what it says.
        let versions = found["enriched"].as_array().expect("versions");
        assert_eq!(versions.len(), 2, "{versions:?}");
        assert_eq!(versions[1]["columns"]["STUDENT_LAST_NAME"], "\"Переименован\"");
        let mut now = Map::new();
        for (name, value) in
            versions.iter().flat_map(|of| of["columns"].as_object().expect("columns"))
        {
            match value.as_str() {
                Some(value) => {
                    drop(now.insert(name.clone(), serde_json::from_str(value).expect("JSON")))
                }
                None => drop(now.remove(name)),
            }
        }
        let id = serde_json::json!([row["ID"]]).to_string();
        assert_eq!(Value::Object(now), enriched[&id]);
        let latest = &found["latest"]["latest"];
        assert_eq!(latest["id"].as_str(), Some(&*counts["ID"].to_string()));
        assert_eq!(latest["of_key"].as_array().expect("all of them").len(), several.len());
        assert_eq!(latest["of_key"][0]["id"], latest["id"], "the one that counts is the first");
        assert_eq!(found["held"]["clickhouse"], versions[1]["epoch"]);
    }
    let (code, said) = shown.small.tributary(&["why", several[0]["ID"].as_str().expect("text")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("has the number") && said.contains("ClickHouse: as of"), "{said}");
    let (code, said) = shown.small.tributary(&["why", "00000000-0000-4000-8000-000000000000"]);
    assert!(code == Some(0) && said.contains("it was never said"), "{said}");
    let (code, said) = shown.small.tributary(&["why", "nobody"]);
    assert!(code == Some(2) && said.contains("is no value of column ID"), "{code:?}: {said}");
}
