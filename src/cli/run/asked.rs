//! A run over Kafka that another command asks for.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf};

use super::{COMMIT_INTERVAL_MS, EPOCH_LINES, FUEL, OnFault, Run, TICK_MS};
use crate::{cli::place::PlaceOptions, engine::Span};

/// A run over Kafka that is asked for by another command.
#[derive(Debug)]
pub(in crate::cli) struct Asked {
    pub(in crate::cli) spec: PathBuf,
    pub(in crate::cli) place: PlaceOptions,
    pub(in crate::cli) archive: Option<String>,
    pub(in crate::cli) no_load: bool,
    pub(in crate::cli) workers: u16,
    pub(in crate::cli) metrics: Option<PathBuf>,
    pub(in crate::cli) http: Option<SocketAddr>,
    pub(in crate::cli) quiet: bool,
    pub(in crate::cli) span: Span,
    pub(in crate::cli) rate: Option<NonZeroU64>,
}

impl From<Asked> for Run {
    /// All else as it is where nothing is said. Its feeds are those of the dataflow that runs
    /// already.
    fn from(asked: Asked) -> Run {
        let Asked { spec, place, archive, no_load, workers, metrics, http, quiet, span, rate } =
            asked;
        Run {
            spec,
            once: false,
            events: Vec::new(),
            documents: None,
            changes: None,
            out: None,
            place,
            commit_interval: COMMIT_INTERVAL_MS,
            accept_loss: false,
            accept_partitions: false,
            archive,
            archive_faults: OnFault::Refuse,
            no_feeds: true,
            no_load,
            workers,
            epoch_lines: EPOCH_LINES,
            processes: None,
            process: None,
            hosts: None,
            patience: 0,
            tick: TICK_MS,
            atomic_max: None,
            fuel: FUEL,
            metrics,
            http,
            http_token: None,
            supervise: false,
            show: None,
            stock: false,
            quiet,
            span,
            rate,
        }
    }
}
