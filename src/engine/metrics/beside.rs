//! The numbers of what runs beside the dataflow: feeds, the loader, the archive.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{ByFeed, ByInput, ByView};

/// The numbers of the loader that runs inside.
#[derive(Debug, Default)]
pub(super) struct Loads {
    pub(super) rows: Family<ByView, Gauge<u64, AtomicU64>>,
    pub(super) frontier: Family<ByView, Gauge<f64, AtomicU64>>,
    pub(super) refused: Family<ByView, Gauge<u64, AtomicU64>>,
    pub(super) fails: Family<ByView, Gauge>,
}

impl Loads {
    pub(super) fn register(registry: &mut Registry) -> Loads {
        let loads = Loads::default();
        registry.register(
            "load_rows",
            "Rows that were inserted into ClickHouse since the loader began",
            loads.rows.clone(),
        );
        registry.register(
            "load_frontier_seconds",
            "The epoch up to which ClickHouse shows everything, in seconds since 1970",
            loads.frontier.clone(),
        );
        registry.register(
            "load_refused",
            "Records in the topic that are none of the view, since the loader began",
            loads.refused.clone(),
        );
        registry.register("load_fails", "Whether the loader fails", loads.fails.clone());
        loads
    }
}

/// The numbers of the archive.
#[derive(Debug, Default)]
pub(super) struct Archive {
    pub(super) segments: Gauge<u64, AtomicU64>,
    pub(super) bytes: Gauge<u64, AtomicU64>,
    pub(super) kept: Gauge<f64, AtomicU64>,
    pub(super) held: Family<ByInput, Gauge<u64, AtomicU64>>,
    pub(super) failures: Counter,
}

impl Archive {
    pub(super) fn register(registry: &mut Registry) -> Archive {
        let archive = Archive::default();
        registry.register(
            "archive_segments",
            "Files that the newest manifest of the archive names",
            archive.segments.clone(),
        );
        registry.register("archive_bytes", "Their bytes", archive.bytes.clone());
        registry.register(
            "archive_kept_seconds",
            "When that manifest was written, in seconds since 1970; none while nothing comes",
            archive.kept.clone(),
        );
        registry.register(
            "archive_held_offset",
            "Up to where the archive holds an input",
            archive.held.clone(),
        );
        registry.register(
            "archive_failures",
            "How often what came could not be archived, and was tried again",
            archive.failures.clone(),
        );
        archive
    }
}

/// The numbers of the feeds that run inside.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    pub(super) answered: Family<ByFeed, Gauge<u64, AtomicU64>>,
    pub(super) compared: Family<ByFeed, Gauge<u64, AtomicU64>>,
    pub(super) documents: Family<ByFeed, Gauge<u64, AtomicU64>>,
    pub(super) pending: Family<ByFeed, Gauge<u64, AtomicU64>>,
    pub(super) refused: Family<ByFeed, Gauge<u64, AtomicU64>>,
    pub(super) fails: Family<ByFeed, Gauge>,
    pub(super) waits: Family<ByFeed, Gauge>,
}

impl Feeds {
    pub(super) fn register(registry: &mut Registry) -> Feeds {
        let feeds = Feeds::default();
        registry.register(
            "feed_answered_seconds",
            "When the system last answered as it should, in seconds since 1970",
            feeds.answered.clone(),
        );
        registry.register(
            "feed_compared_seconds",
            "When all was last compared, in seconds since 1970",
            feeds.compared.clone(),
        );
        registry.register(
            "feed_documents",
            "Documents that the log holds of the source",
            feeds.documents.clone(),
        );
        registry.register(
            "feed_pending",
            "Documents that are gone and not deleted yet, or wait for the operator's word",
            feeds.pending.clone(),
        );
        registry.register(
            "feed_refused",
            "Documents that were refused since the feed began",
            feeds.refused.clone(),
        );
        registry.register(
            "feed_fails",
            "Whether the system does not answer as it should, 0 or 1",
            feeds.fails.clone(),
        );
        registry.register(
            "feed_waits",
            "Whether the feed waits for the operator's word, 0 or 1",
            feeds.waits.clone(),
        );
        feeds
    }
}
