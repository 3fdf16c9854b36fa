//! What fuzzing holds any bytes to, over its seeds and over everything that it ever found.
//!
//! Fuzzing itself needs a nightly compiler and time: see fuzz/README.md.

use std::{fs, path::Path};

use crate::support::project;

#[path = "../../fuzz/properties.rs"]
mod properties;

#[test]
fn seeds_and_findings_hold() {
    type Property = fn(&[u8]);
    let targets = [
        ("events", properties::events as Property),
        ("documents", properties::documents),
        ("spec", properties::spec),
        ("hosts", properties::hosts),
    ];
    for (target, property) in targets {
        let seeds = held(&project("fuzz/seeds").join(target));
        assert!(!seeds.is_empty(), "{target} has seeds");
        for bytes in seeds.iter().chain(&held(&project("fuzz/findings").join(target))) {
            property(bytes);
        }
    }
}

fn held(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}
