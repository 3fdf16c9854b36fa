//! The progress bar of a run to the end of its files.
//!
//! Shape: what the engine tells of its progress in; a bar on standard error out.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

use super::watch::tell_connecting;
use crate::engine::{Connecting, Progress};

/// Shows how far a run is; nothing where standard error is no terminal.
pub(super) struct Bar {
    pub(super) bar: ProgressBar,
    quiet: bool,
}

impl Bar {
    pub(super) fn new(quiet: bool, events: &[PathBuf]) -> Bar {
        if quiet {
            return Bar { bar: ProgressBar::hidden(), quiet };
        }
        let bytes = events.iter().map(|path| size(path)).sum();
        let template = "{prefix} {wide_bar} {percent}%  {binary_bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let bar = ProgressBar::new(bytes).with_style(style).with_prefix("reading");
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar, quiet }
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

impl Progress for Bar {
    fn read(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn writing(&self, rows: u64) {
        let template = "{prefix} {wide_bar} {percent}%  {rows_per_sec} rows/s, {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let style = style.with_key("rows_per_sec", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{}", HumanCount(state.per_sec() as u64));
        });
        self.bar.set_style(style);
        self.bar.set_prefix("writing");
        self.bar.reset();
        self.bar.set_length(rows);
    }

    fn wrote_row(&self) {
        self.bar.inc(1);
    }

    fn connecting(&self, how_far: Connecting<'_>) {
        if !self.quiet {
            tell_connecting(how_far);
        }
    }
}
