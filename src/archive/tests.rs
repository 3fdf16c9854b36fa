//! What is archived is what is read, and what is damaged is found.

use std::{fs, path::Path, sync::Arc};

use proptest::prelude::*;

use super::{segment::Writer, *};
use crate::{
    config::ArchiveConfig,
    source::{Earlier, Handed},
    spec::Spec,
};

/// A record: offset, time, key, value.
type Record = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn spec() -> Arc<Spec> {
    let text = include_str!("../../dataflows/attendance.toml");
    Arc::new(Spec::parse(Path::new("attendance.toml"), text).unwrap())
}

fn event(id: u32) -> Vec<u8> {
    let text = concat!(
        r#"{"JOURNAL_ID":972,"STUDENT_ID":21284,"LESSON_ID":18446744073709551615,"#,
        r#""LESSON_DATE":"2025-08-13","ATTENDANCE_MARK":1,"MARKED_BY":249,"#,
        r#""DATE_CREATE":"2025-08-13 22:55:51.5","ID":"ee76e99f-e8fd-419f-833c-0000"#
    );
    format!("{text}{id:08x}\"}}").into_bytes()
}

fn record() -> impl Strategy<Value = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>)> {
    let value = prop_oneof![
        Just(None),
        any::<u32>().prop_map(|id| Some(event(id))),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        Just(Some(vec![b'x'; 300_000])),
    ];
    let key = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    (1..40u64, -5..5_000_000_000_000i64, key, value)
}

/// Records with gaps between their offsets.
fn records() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec(record(), 0..60).prop_map(|records| {
        let mut offset = 0;
        let place = |(gap, time, key, value)| {
            offset += gap;
            (offset, time, key, value)
        };
        records.into_iter().map(place).collect()
    })
}

fn store(folder: &Path) -> Arc<Store> {
    let config = ArchiveConfig::in_folder(folder.to_str().unwrap());
    Arc::new(Store::open(&config, "attendance").unwrap())
}

/// A partition whose segments have so many records each.
fn archived(store: &Store, records: &[Record], each: usize) -> Partition {
    let spec = spec();
    let mut partition = Partition::empty(0);
    for chunk in records.chunks(each.max(1)) {
        let from = partition.bound().offset;
        let mut writer = Writer::new(from, &spec).unwrap();
        for (offset, time_ms, key, value) in chunk {
            let (key, value) = (key.as_deref(), value.as_deref());
            writer.push(Handed { offset: *offset, time_ms: *time_ms, key, value }).unwrap();
        }
        let made = writer.finish().unwrap();
        let path = format!("events/0/{from}.parquet");
        store.write(&path, made.bytes).unwrap();
        partition.segments.push(Segment { path, ..made.segment });
        partition.bound = (&made.bound).into();
    }
    partition
}

fn read(store: &Arc<Store>, partition: &Partition, from: u64) -> Result<Vec<Record>, ArchiveError> {
    let to = partition.bound().offset;
    let mut archived = Archived::new(Arc::clone(store), partition, from, to);
    assert_eq!(archived.to(), to);
    let mut found = Vec::new();
    while let Some(Handed { offset, time_ms, key, value }) = archived.next_record()? {
        found.push((offset, time_ms, key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec)));
    }
    Ok(found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_was_archived_is_what_is_read(
        records in records(),
        each in 1..30usize,
        from in 0..200u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let partition = archived(&store, &records, each);
        prop_assert!(read(&store, &partition, 0).unwrap() == records);
        let later: Vec<Record> =
            records.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
        prop_assert!(read(&store, &partition, from).unwrap() == later);
        let last = records.last().map_or(0, |(offset, ..)| offset + 1);
        prop_assert_eq!(partition.bound().offset, last);
    }
}

fn some_records() -> Vec<Record> {
    let record =
        |n: u32| (u64::from(n), i64::from(n), Some(n.to_string().into_bytes()), Some(event(n)));
    (0..100).map(record).collect()
}

#[test]
fn what_is_torn_changed_or_gone_is_named_and_nothing_of_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let partition = archived(&store, &some_records(), 20);
    let path = folder.path().join("attendance").join(&partition.segments[2].path);
    let whole = fs::read(&path).unwrap();
    let mut seen = Vec::new();
    let mut damaged = |damage: &dyn Fn()| {
        damage();
        let to = partition.bound().offset;
        let mut archived = Archived::new(Arc::clone(&store), &partition, 0, to);
        let mut count = 0;
        let fault = loop {
            match archived.next_record() {
                Ok(Some(_)) => count += 1,
                Ok(None) => panic!("the damage was not found"),
                Err(fault) => break fault,
            }
        };
        assert_eq!(count, 40, "all before it is read, and nothing of it");
        assert!(fault.is_for_operator());
        assert!(fault.to_string().contains(&partition.segments[2].path), "{fault}");
        seen.push(fault.to_string());
        fs::write(&path, &whole).unwrap();
    };
    for place in [0, whole.len() / 2, whole.len() - 1] {
        damaged(&|| {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            fs::write(&path, bytes).unwrap();
        });
    }
    damaged(&|| fs::write(&path, &whole[..whole.len() - 1]).unwrap());
    damaged(&|| fs::write(&path, []).unwrap());
    damaged(&|| fs::remove_file(&path).unwrap());
    let words = ["damaged", "damaged", "damaged", "bytes", "bytes", "gone"];
    assert!(seen.iter().zip(words).all(|(said, word)| said.contains(word)), "{seen:#?}");
    assert_eq!(read(&store, &partition, 0).unwrap().len(), 100);
    assert!(partition.segments.iter().all(|segment| reader::verify(&store, segment).is_ok()));
    // A file that is whole, and not of what the manifest says.
    let other = |change: &dyn Fn(&mut Segment)| {
        let mut segment = partition.segments[2].clone();
        change(&mut segment);
        reader::verify(&store, &segment).unwrap_err().to_string()
    };
    assert!(other(&|segment| segment.rows += 1).contains("of 20 records, and had 21"));
    assert!(other(&|segment| segment.to -= 1).contains("other offsets"));
    assert!(other(&|segment| segment.from += 1).contains("other offsets"));
}

#[test]
fn store_that_keeps_its_rule_proves_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.prove().unwrap();
    assert_eq!(store.list("probe").unwrap(), []);
}

fn manifest(number: u64, events: Topic) -> Manifest {
    Manifest {
        form: manifest::FORM,
        number,
        generation: 1,
        start: "a".to_owned(),
        written_ms: 1,
        dataflow: "attendance".to_owned(),
        events,
    }
}

#[test]
fn of_manifests_the_greatest_counts_and_none_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert_eq!(Manifest::newest(&store).unwrap(), None);
    let events = Topic::empty("e", "id", [0, 7].into_iter());
    let ours = |number| manifest(number, events.clone());
    assert!(ours(9).create(&store).unwrap());
    assert!(ours(10).create(&store).unwrap());
    // A zombie's comes too late, whatever it says.
    let other = Manifest { generation: 7, ..ours(10) };
    assert!(!other.create(&store).unwrap());
    assert_eq!(Manifest::newest(&store).unwrap(), Some(ours(10)));
    assert_eq!(Manifest::numbers(&store).unwrap(), [9, 10]);
    // One that is damaged is named; one of a later version too.
    let path = folder.path().join("attendance").join(Manifest::path(10));
    let text = fs::read_to_string(&path).unwrap();
    for damaged in [text.replace("\"from\":7", "\"from\":8"), text[..90].to_owned(), String::new()]
    {
        assert_ne!(damaged, text);
        fs::write(&path, damaged).unwrap();
        let fault = Manifest::newest(&store).unwrap_err();
        assert!(matches!(fault, ArchiveError::Fault { .. }), "{fault}");
        assert!(fault.to_string().contains(&Manifest::path(10)), "{fault}");
    }
    let later = Manifest { form: manifest::FORM + 1, ..ours(11) };
    assert!(later.create(&store).unwrap());
    let said = Manifest::newest(&store).unwrap_err().to_string();
    assert!(said.contains("a later version") && said.contains("run that version"), "{said}");
}

#[test]
fn of_several_who_create_one_name_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let created = std::thread::scope(|scope| {
        let create = || {
            let store = store(folder.path());
            let mine = |n: u64| store.create(&format!("manifests/{n}"), vec![1].into()).unwrap();
            (0..50).filter(|n| mine(*n)).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(created, 50);
}
