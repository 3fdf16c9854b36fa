//! `tributary explain`: the plan that a spec becomes.

use std::{fmt::Write, path::PathBuf};

use clap::Args;

use super::{Failure, print};
use crate::{
    row::{ColumnId, Kind},
    spec::{
        Corrections, OutputId, Spec, ViewKind, describe,
        plan::{Condition, Lookup, Origin},
    },
};

/// Print the plan of a spec: columns, lookups, views, shards, and what memory each holds.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The dataflow's TOML file.
    spec: PathBuf,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = Spec::load(&self.spec)?;
        print(&plan(&spec))
    }
}

/// Bytes that sharing a row costs beside its content: two counters.
const SHARED_BYTES: usize = 16;

fn plan(spec: &Spec) -> String {
    let mut out = String::new();
    let corrections = match spec.corrections {
        Corrections::Always => "always: when a document changes, its records are corrected",
        Corrections::Never => "never: a record keeps the documents known at its event's arrival",
    };
    line(&mut out, &format!("dataflow {}", spec.name));
    line(&mut out, &format!("  corrections  {corrections}"));
    line(&mut out, &shards(spec));
    events(&mut out, spec);
    for lookup in &spec.lookups {
        describe_lookup(&mut out, spec, lookup);
    }
    views(&mut out, spec);
    memory(&mut out, spec);
    out
}

fn shards(spec: &Spec) -> String {
    let key = event_column(spec, spec.events.shard_key);
    format!(
        "  shards       {} by {key}: a row belongs to the worker (shard mod workers)",
        spec.shards
    )
}

fn events(out: &mut String, spec: &Spec) {
    let events = &spec.events;
    line(out, "\nevents");
    line(
        out,
        &format!(
            "  key    {}: the first event of a key stands, by input partition",
            event_column(spec, events.key)
        ),
    );
    line(out, &format!("  time   {} in {}", event_column(spec, events.time), events.zone));
    if let Some(horizon) = events.horizon {
        line(out, &format!("  kept   {} days back, over Kafka", horizon.days));
    }
    line(
        out,
        &format!(
            "  limits {} bytes, {} levels; beyond them an event is a dead letter",
            events.bytes_max, events.depth_max
        ),
    );
    for (place, column) in events.columns.iter().enumerate() {
        let kind = events.layout.kind(ColumnId(place as u16));
        let optional = if column.optional { ", optional" } else { "" };
        line(
            out,
            &format!("  {:<22} {:>2} B  {}{optional}", column.name, kind.width(), describe(kind)),
        );
    }
}

fn describe_lookup(out: &mut String, spec: &Spec, lookup: &Lookup) {
    line(out, &format!("\nlookup {}", lookup.name));
    if !lookup.from.is_empty() {
        line(out, &format!("  of {}", lookup.from.join(", else ")));
    }
    if let Some(filter) = &lookup.filter {
        line(out, &format!("  documents whose {} is \"{}\"", filter.path, filter.equals));
    }
    let matches = event_column(spec, lookup.matches);
    line(out, &format!("  {matches} = {} ({})", lookup.key_path, describe(&lookup.key_kind)));
    if let Some(when) = &lookup.when {
        line(out, &format!("  asked when {}", condition(spec, when)));
    }
    for column in &spec.columns {
        let (source, note) = match column.origin {
            Origin::Document(of, id) if spec.lookup(of).name == lookup.name => (id, String::new()),
            Origin::Years { lookup: of, from, until } if spec.lookup(of).name == lookup.name => {
                (from, format!(", whole years until {}", event_column(spec, until)))
            }
            _ => continue,
        };
        let paths = &lookup.columns[usize::from(source.0)].paths;
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let kind = match &column.kind {
            Kind::Text { .. } => "text".to_owned(),
            kind => describe(kind),
        };
        line(out, &format!("  {:<22} {kind} from {}{note}", column.name, paths.join(", else ")));
    }
}

fn views(out: &mut String, spec: &Spec) {
    line(out, "\nviews");
    for view in &spec.views {
        let what = match &view.kind {
            ViewKind::Enriched => format!("every event once, {} columns", spec.columns.len()),
            ViewKind::Latest { key, order } => {
                format!(
                    "of each ({}) the greatest ({})",
                    event_columns(spec, key),
                    event_columns(spec, order)
                )
            }
            ViewKind::Counts { of, by, numbers } => {
                let by: Vec<&str> = by.iter().map(|id| output_column(spec, *id)).collect();
                let numbers: Vec<String> = numbers
                    .iter()
                    .map(|number| match &number.when {
                        None => format!("{} all", number.name),
                        Some(when) => format!("{} where {}", number.name, condition(spec, when)),
                    })
                    .collect();
                format!("of {} by ({}): {}", spec.view(*of).name, by.join(", "), numbers.join("; "))
            }
        };
        line(out, &format!("  {:<24} {what}", view.name));
    }
}

/// What is held, of the stock operators that `dataflow` is built of. Bytes are those of the
/// content; what an index costs beside it is measured, not derived (docs/benchmarks.md).
fn memory(out: &mut String, spec: &Spec) {
    let event = spec.events.layout.fixed_bytes() + SHARED_BYTES;
    line(out, "\nheld in memory");
    line(
        out,
        &format!(
            "  each event once                {event} B and its text, shared by all that hold it"
        ),
    );
    line(out, "  dedupe                         key, offset and event, an event");
    for lookup in &spec.lookups {
        let document = lookup.layout.fixed_bytes() + SHARED_BYTES;
        line(
            out,
            &format!(
                "  {:<30} {document} B and its text, a document",
                format!("lookup {}", lookup.name)
            ),
        );
        let events = match (spec.corrections, lookup.when.is_some()) {
            (Corrections::Never, _) => "no event",
            (Corrections::Always, true) => {
                "each event that asks, by key, so that it can be corrected"
            }
            (Corrections::Always, false) => "each event, by key, so that it can be corrected",
        };
        line(out, &format!("  {:<30} {events}", ""));
    }
    for view in &spec.views {
        let what = match &view.kind {
            ViewKind::Enriched => "each record",
            ViewKind::Latest { .. } => "each record by key, and the winner of each key",
            ViewKind::Counts { .. } => "each group and its numbers",
        };
        line(out, &format!("  {:<30} {what}", format!("view {}", view.name)));
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("writing to memory");
}

fn event_column(spec: &Spec, id: ColumnId) -> &str {
    &spec.events.columns[usize::from(id.0)].name
}

fn event_columns(spec: &Spec, ids: &[ColumnId]) -> String {
    ids.iter().map(|id| event_column(spec, *id)).collect::<Vec<_>>().join(", ")
}

fn output_column(spec: &Spec, id: OutputId) -> &str {
    &spec.column(id).name
}

fn condition(spec: &Spec, condition: &Condition) -> String {
    let values: Vec<String> = condition.values.iter().map(ToString::to_string).collect();
    format!("{} in ({})", output_column(spec, condition.column), values.join(", "))
}
