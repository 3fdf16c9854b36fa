//! `tributary diff`: what is other in a dataflow that was made anew.

use std::{fmt::Write, path::PathBuf, sync::atomic::Ordering, time::Duration};

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Failure, place::PlaceOptions, print, tell, watch};
use crate::{
    engine::shown_dataflow,
    history::{
        compare::{ColumnCompared, Compared, CountsCompared, Side, ViewCompared, compare},
        hold::hold,
        known::Known,
    },
    time::Epoch,
};

/// Say what is other in a dataflow that was made anew than in the one that readers are shown: rows
/// that only one of them has, columns that are other, each with how many and some examples, and the
/// numbers of the views of counts.
///
/// Both are compared where they hold exactly the same of every input: the one that readers are not
/// shown is held there, and goes on afterwards; the other one is not held up. So both must run
/// (`tributary run`, `tributary backfill`). It takes about 15 seconds until both are there, and
/// then as long as it takes to read the outputs. Nothing is changed.
///
/// Examples show what stands in records, of people too: see to whom you show them, or ask for none.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The changed dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// The dataflow to compare with; the one that readers are shown where it is not given.
    #[arg(long, value_name = "NAME")]
    with: Option<String>,

    /// So many examples of each kind.
    #[arg(long, value_name = "N", default_value_t = 3)]
    examples: usize,

    /// How long to wait for one of the dataflows, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,

    /// Say it as one JSON object.
    #[arg(long)]
    json: bool,
}

/// All of it.
#[derive(Serialize)]
struct Whole<'c> {
    one: &'c str,
    other: &'c str,
    /// Where both were compared: at which epoch of which of them.
    epoch: Epoch,
    of: &'c str,
    is_equal: bool,
    #[serde(flatten)]
    compared: &'c Compared,
}

impl Diff {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.own_spec(&self.spec)?;
        let (kafka, _) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let shown = shown_dataflow(&kafka, &spec.family).map_err(Failure::failed)?;
        let with = match &self.with {
            Some(name) => name.clone(),
            None => shown.clone(),
        };
        if with == spec.name {
            return Err(Failure::Arguments(format!(
                "readers are shown \"{with}\" itself; name the dataflow to compare it with: --with"
            )));
        }
        let end = watch::end_when_asked()?;
        let is_to_end = || end.load(Ordering::Relaxed);
        let patience = Duration::from_secs(self.patience);
        let known = |name: &str, remedy| Known::of(&kafka, &spec.family, name, remedy);
        let ours = || known(&spec.name, "`tributary backfill` makes it");
        let theirs = || known(&with, "does it run?");
        let other = ours().map_err(Failure::history)?;
        let one = theirs().map_err(Failure::history)?;
        // What readers are shown is not held up.
        let is_held = [shown != with, shown == with];
        let (held, free) = if is_held[0] { (theirs(), &other) } else { (ours(), &one) };
        let held = held.map_err(Failure::history)?;
        tell(&format!("leads \"{}\" to where \"{}\" is", held.name, free.name));
        let held = hold(&kafka, (held, free), patience, &is_to_end).map_err(Failure::history)?;
        let bar = ProgressBar::new(0);
        let style = "reads the outputs {wide_bar} {human_pos} of {human_len}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
        let told = &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        let until = |is_held: bool| (!is_held).then_some((held.epoch, held.since));
        let sides = [
            Side { dataflow: &one, until: until(is_held[0]) },
            Side { dataflow: &other, until: until(is_held[1]) },
        ];
        let compared = compare(&kafka, &spec, sides, self.examples, told);
        bar.finish_and_clear();
        let compared = compared.map_err(Failure::history)?;
        held.was_held().map_err(Failure::history)?;
        let of = if is_held[0] { &spec.name } else { &with };
        let is_equal = compared.is_equal();
        let whole = Whole {
            one: &with,
            other: &spec.name,
            epoch: held.epoch,
            of,
            is_equal,
            compared: &compared,
        };
        match self.json {
            true => {
                let text = serde_json::to_string(&whole).expect("plain values have a JSON");
                print(&format!("{text}\n"))
            }
            false => print(&text(&whole)),
        }
    }
}

fn text(whole: &Whole<'_>) -> String {
    let Whole { one, other, epoch, of, compared, is_equal } = whole;
    let mut out = format!("\"{one}\" and \"{other}\", at epoch {epoch} of \"{of}\"\n");
    for (of, views) in [(one, &compared.only_one), (other, &compared.only_other)] {
        if !views.is_empty() {
            writeln!(out, "\nviews only of \"{of}\": {}", views.join(", ")).expect("to memory");
        }
    }
    for (name, view) in &compared.views {
        out.push_str(&text_of_view(name, view, one, other));
    }
    for (name, counts) in &compared.counts {
        out.push_str(&text_of_counts(name, counts));
    }
    if *is_equal {
        out.push_str("nothing is other\n");
    }
    out
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head.to_vec());
    table
}

/// A table's lines, each a bit further in.
fn indented(table: &Table) -> String {
    let lines = table.to_string();
    lines.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

fn text_of_view(name: &str, view: &ViewCompared, one: &str, other: &str) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to memory");
    let ViewCompared { equal, changed, only_one, only_other, overtaken, no_rows, .. } = view;
    line(format!("\nview {name}: {} rows equal, {} changed", count(*equal), count(*changed)));
    let only = [(one, only_one, &view.only_one_keys), (other, only_other, &view.only_other_keys)];
    for (of, number, keys) in only.into_iter().filter(|(_, number, _)| **number > 0) {
        let examples =
            if keys.is_empty() { String::new() } else { format!(": {}", keys.join(", ")) };
        line(format!("  only in \"{of}\": {}{examples}", count(*number)));
    }
    if *overtaken > 0 {
        line(format!(
            "  not compared, since they went on meanwhile: {}; compare again to see them",
            count(*overtaken)
        ));
    }
    if *no_rows > 0 {
        line(format!("  no rows, and not compared: {}", count(*no_rows)));
    }
    if view.columns.is_empty() {
        return out;
    }
    let mut columns = table(&["column", "changed", "came", "went", "for example"]);
    for (column, of_column) in &view.columns {
        let ColumnCompared { changed, came, went, examples } = of_column;
        let example = examples.first().map_or(String::new(), |(key, before, after)| {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            format!("{} -> {} in {key}", value(before), value(after))
        });
        columns.add_row([column.clone(), count(*changed), count(*came), count(*went), example]);
    }
    out + &indented(&columns)
}

fn text_of_counts(name: &str, counts: &CountsCompared) -> String {
    let CountsCompared { groups, changed, examples } = counts;
    let mut out =
        format!("\nnumbers of {name}: {} of {} groups other\n", count(*changed), count(*groups));
    if !examples.is_empty() {
        let mut rows = table(&["group", "numbers"]);
        for group in examples {
            let number = |(name, before, after): &(String, i64, i64)| match before == after {
                true => format!("{name} {before}"),
                false => format!("{name} {before} -> {after}"),
            };
            let numbers: Vec<String> = group.numbers.iter().map(number).collect();
            rows.add_row([group.group.clone(), numbers.join(", ")]);
        }
        out.push_str(&indented(&rows));
    }
    out
}
