//! Tables: some rows of a view, as people read them.
//!
//! Shape: a published file in; a table out, lying on its side where a view has too many columns to
//! stand.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal},
    path::Path,
};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use crate::spec::plain;

/// Most columns of a table that stands upright.
const UPRIGHT_COLUMNS_MAX: usize = 8;
/// Most records side by side of a table that lies on its side.
const RECORDS_MAX: usize = 3;
/// Rows among which those to show are chosen.
const LOOKED_AT: usize = 1000;
/// Width where the output is no terminal.
const WIDTH: u16 = 110;

/// Some rows of a file of JSON objects: of the first ones those that say most. `None` where it has
/// none.
pub(super) fn table(path: &Path, rows: usize) -> io::Result<Option<String>> {
    let lines = BufReader::new(File::open(path)?).lines().take(LOOKED_AT.max(rows));
    let mut records: Vec<Map<String, Value>> =
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<io::Result<_>>()?;
    // Sorted by key, rows whose key says nothing come first, and would be all that one sees.
    records.sort_by_key(|record| std::cmp::Reverse(record.len()));
    records.truncate(rows);
    let names = names(&records);
    if records.is_empty() {
        return Ok(None);
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !io::stdout().is_terminal() {
        table.set_width(WIDTH);
    }
    if names.len() <= UPRIGHT_COLUMNS_MAX {
        table.set_header(&names);
        for record in &records {
            table.add_row(names.iter().map(|name| cell(record, name)));
        }
    } else {
        let shown = &records[..records.len().min(RECORDS_MAX)];
        for name in &names {
            let values = shown.iter().map(|record| cell(record, name));
            table.add_row(std::iter::once(name.clone()).chain(values));
        }
    }
    Ok(Some(table.to_string()))
}

/// The columns of all records, in the order in which they show up.
fn names(records: &[Map<String, Value>]) -> Vec<String> {
    let longest = records.iter().max_by_key(|record| record.len());
    let mut names: Vec<String> = longest.into_iter().flat_map(Map::keys).cloned().collect();
    for name in records.iter().flat_map(Map::keys) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn cell(record: &Map<String, Value>, name: &str) -> String {
    match record.get(name) {
        None => "·".to_owned(),
        Some(Value::String(text)) => plain(text),
        Some(value) => value.to_string(),
    }
}
