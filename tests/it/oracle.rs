//! The engine against the executable specification (`tests/oracle/`), which shares nothing with it.
//!
//! Shape: a university is generated, computed by `oracle.py` and by the engine, and compared by
//! `compare.py`; what is drawn is printed, and `SEED=n` draws it again.
//!
//! The whole acceptance, of half an hour or more, is `tests/oracle/acceptance.py --whole`; its last result stands
//! in docs/correctness.md. Here runs its sample, and what it cannot do from outside.

use std::{fs, path::Path, process::Command, sync::Arc};

use tributary::{
    engine::{self, Connecting, Job, Progress, Work},
    spec::Spec,
};

use crate::support::{path, project, said, seed, tributary};

struct Silent;

impl Progress for Silent {
    fn read(&self, _bytes: u64) {}
    fn writing(&self, _rows: u64) {}
    fn wrote_row(&self) {}
    fn connecting(&self, _how_far: Connecting<'_>) {}
}

fn python(arguments: &[&str]) {
    let output = Command::new("python3").args(arguments).current_dir(project(".")).output();
    let output = output.expect("python3 can be started: install Python 3.11 or newer");
    assert!(output.status.success(), "python3 {arguments:?}\n{}", said(&output));
}

#[test]
fn oracle_sample_of_the_acceptance_holds() {
    let (seed, program) = (seed().to_string(), env!("CARGO_BIN_EXE_tributary"));
    python(&["tests/oracle/acceptance.py", "--sample", "--seed", &seed, "--bin", program]);
}

#[test]
fn oracle_scripts_notice_what_is_wrong() {
    for folder in ["tests/oracle", "tests/stack"] {
        python(&["-m", "unittest", "discover", "-q", "-s", folder, "-p", "test_*.py"]);
    }
}

#[test]
fn oracle_is_the_shared_one_where_that_is() {
    let shared = project("../shared/oracle");
    for name in ["README.md", "generate.py", "oracle.py", "compare.py"] {
        if let Ok(theirs) = fs::read(shared.join(name)) {
            let ours = fs::read(project("tests/oracle").join(name)).unwrap();
            assert!(ours == theirs, "tests/oracle/{name} differs from {}", shared.display());
        }
    }
}

/// One university, cut into epochs of many sizes for several numbers of workers: the same bytes.
#[test]
fn epochs_and_workers_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (input, seed) = (folder.path().join("in"), seed());
    let generated = tributary(&[
        "generate",
        path(&input),
        "--events",
        "2000",
        "--students",
        "100",
        "--teachers",
        "12",
        "--changes",
        "300",
        "--faults",
        "0.1",
        "--seed",
        &seed.to_string(),
    ]);
    assert!(generated.status.success(), "{}", said(&generated));
    let want = run(&input, &folder.path().join("want"), 1, 1_000_000);
    for (workers, epoch_lines) in [(1, 1), (1, 3), (2, 17), (3, 256), (4, 1000), (5, 1_000_000)] {
        let name = format!("{workers}-{epoch_lines}");
        let got = run(&input, &folder.path().join(name), workers, epoch_lines);
        for ((file, want), (_, got)) in want.iter().zip(&got) {
            assert!(want == got, "{file} with {workers} workers, {epoch_lines} lines an epoch");
        }
    }
}

/// Runs the attendance dataflow over a folder and returns its outputs by name.
fn run(input: &Path, out: &Path, workers: usize, epoch_lines: u64) -> Vec<(String, Vec<u8>)> {
    let spec = Arc::new(Spec::load(&project("dataflows/attendance.toml")).unwrap());
    let names: Vec<String> = engine::output_names(&spec).collect();
    let job = Job {
        spec,
        events: vec![input.join("events.ndjson")],
        documents: Some(input.join("people.ndjson")),
        changes: Some(input.join("changes.ndjson")),
        workers,
        epoch_lines,
        cluster: None,
        work: Work::Once { out: out.to_owned(), stock: false },
    };
    engine::run(job, Arc::new(Silent)).unwrap();
    let read = |name: String| (name.clone(), fs::read(out.join(name)).unwrap());
    names.into_iter().map(read).collect()
}
