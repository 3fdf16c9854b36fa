//! Elasticsearch as a system of record: the checkpoint poll.
//!
//! Shape: an index, an alias or several in; what their documents say, and which are gone, out.
//!
//! Each operation on a shard has a number. A look asks for each shard up to which number all copies
//! have everything (its global checkpoint), refreshes, opens a point in time, and takes what has a
//! number beyond that of the look before; then it counts: if fewer documents are there than are
//! held, it finds those that are gone by counting ranges of numbers.
//!
//! Invariants: what is taken as known moves to the checkpoint that was asked before the refresh,
//! never to the highest number seen, which may be visible before a lower one is; nothing is said
//! that a copy could still lose; an answer in part is none. Each shard is read by itself, since
//! numbers are of a shard and hits do not say theirs. An index that is another one than was asked
//! for ends the look.
//!
//! Not here: how it is asked (`api`), which collection it is (`identity`), up to where a shard was
//! taken (`known`), and how those that are gone are found (`gone`).

mod answers;
mod api;
mod gone;
mod identity;
mod known;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem::replace,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tracing::warn;

use super::{Desk, Kind, System, SystemError, Trouble, http::Client};
use crate::{
    config::{ConfigError, ElasticsearchConfig},
    reference::Projector,
    spec::Spec,
};
use api::{Api, Extent, Hit, PointInTime, Probe, Progress, Shard};
use gone::gone;
use known::{Known, Opened};

/// How long copies may take to have what a search has shown already.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(30);

/// Between questions for that.
const BETWEEN_PROBES: Duration = Duration::from_millis(20);

/// Where an index may not be refreshed, what was done so much longer ago than it refreshes itself
/// is taken as visible.
const UNREFRESHED_SLACK: Duration = Duration::from_secs(5);

/// Where it may not be asked how far shards are, an operation is taken as visible with all below it
/// so long after one beyond it was.
const UNPROBED: Duration = Duration::from_secs(30);

/// An index of Elasticsearch, or several.
pub struct Elasticsearch {
    api: Api,
    /// By shard, what is known of it since the last comparison.
    shards: BTreeMap<Shard, Known>,
    /// What the comparison was of.
    identity: Value,
    /// After how long what was done is visible, where the index may not be refreshed.
    unrefreshed: Option<Duration>,
    /// Whether it may not be asked how far shards are.
    is_blind: bool,
    /// The comparison that goes on.
    comparison: Option<Comparing>,
}

/// A comparison of a collection that is known already.
struct Comparing {
    /// Shards that are to be compared, with their places and how far they were.
    left: VecDeque<(u64, Shard, Progress)>,
    asked: Instant,
    unrefreshed: Option<Duration>,
    /// The shard that is being compared, how it was, when that was opened, and where its next page
    /// begins.
    at: Option<(Comparand, PointInTime, i64)>,
}

/// A shard that is being compared.
struct Comparand {
    shard: Shard,
    known: Known,
    checkpoint: i64,
    opened: Instant,
}

impl Elasticsearch {
    /// The index of a configuration, of which what the spec uses is asked for.
    ///
    /// # Errors
    /// When the configuration is not sound.
    pub fn new(
        spec: Arc<Spec>,
        source: &str,
        config: &ElasticsearchConfig,
    ) -> Result<Elasticsearch, ConfigError> {
        let client = Client::new(config.http()?)?;
        let fields = Projector::of_source(spec, source).fields().into_iter().collect();
        let api = Api::new(client, config.index.clone(), fields, config.page);
        let (shards, identity) = (BTreeMap::new(), Value::Null);
        Ok(Elasticsearch {
            api,
            shards,
            identity,
            unrefreshed: None,
            is_blind: false,
            comparison: None,
        })
    }

    /// Asks how far all shards are, or which they are where that may not be asked.
    fn ask(&mut self) -> Result<Probe, SystemError> {
        match self.api.probe() {
            Err(error) if error.kind == Kind::Forbidden => {
                if !replace(&mut self.is_blind, true) {
                    let later = UNPROBED.as_secs();
                    warn!("{error}; until then changes of the last {later} s are read each time");
                }
                Ok(Probe::blind(self.api.settings()?))
            }
            probed => {
                self.is_blind &= probed.is_err();
                probed
            }
        }
    }

    /// Asks how far all shards are; another collection than was compared ends the look.
    fn probe(&mut self, identity: &Value) -> Result<Probe, Trouble> {
        let probe = self.ask()?;
        if !identity::is_same(&probe.identity(), identity) {
            // A shard that is being brought back is missing for a while.
            return match probe.is_part_of(identity) {
                true => Err(api::in_part("ask how far the index is".to_owned()).into()),
                false => Err(Trouble::Other),
            };
        }
        Ok(probe)
    }

    /// Asks each shard for the highest number that is to be seen, where nobody says how far it is.
    fn see_highest(&mut self, probe: &mut Probe, identity: &Value) -> Result<(), Trouble> {
        let shards: Vec<Shard> = probe.shards.keys().cloned().collect();
        for shard in shards {
            let (point, extent) = self.open(&shard, identity)?;
            self.api.close(point);
            probe.shards.get_mut(&shard).expect("it is one of them").checkpoint = extent.highest;
        }
        Ok(())
    }

    /// Makes what was done visible, where that is allowed; returns after how long all of it is to
    /// be seen, where that is not at once.
    fn refresh(&mut self, probe: &Probe) -> Result<Option<Duration>, SystemError> {
        match self.api.refresh() {
            Ok(()) => self.unrefreshed = None,
            Err(error) if error.kind == Kind::Forbidden => {
                let settings = self.api.settings()?;
                let intervals: Option<Vec<_>> = settings.values().map(|s| s.refresh).collect();
                let Some(longest) = intervals.and_then(|all| all.into_iter().max()) else {
                    // Nobody makes anything visible.
                    let said = "the index does not refresh itself".to_owned();
                    return Err(SystemError { said, ..error });
                };
                let unrefreshed = longest + UNREFRESHED_SLACK;
                if self.unrefreshed.replace(unrefreshed) != Some(unrefreshed) {
                    let later = unrefreshed.as_secs();
                    warn!("{error}; until then changes are seen some {later} s later");
                }
            }
            Err(error) => return Err(error),
        }
        Ok(match probe.is_blind {
            true => Some(self.unrefreshed.unwrap_or_default().max(UNPROBED)),
            false => self.unrefreshed,
        })
    }

    /// Opens a shard, once all that a search of it shows is with all copies.
    fn open(&mut self, shard: &Shard, identity: &Value) -> Result<(PointInTime, Extent), Trouble> {
        let mut point = self.api.open(shard)?;
        let extent = self.api.extent(&mut point)?;
        let asked = Instant::now();
        loop {
            let probe = self.probe(identity)?;
            if probe.shards[shard].checkpoint >= extent.highest {
                return Ok((point, extent));
            }
            if asked.elapsed() > CHECKPOINT_PATIENCE {
                return Err(api::in_part("wait for the copies of a shard".to_owned()).into());
            }
            thread::sleep(BETWEEN_PROBES);
        }
    }

    /// Reads what a shard has beyond a number, and says it; returns how many documents that are.
    fn read(
        &mut self,
        point: &mut PointInTime,
        known: &Known,
        beyond: i64,
        desk: &mut Desk<'_>,
    ) -> Result<u64, Trouble> {
        let (mut read, mut next) = (0, Some(beyond));
        while let Some(beyond) = next {
            next = self.api.page_beyond(point, beyond, true, &mut |hits: &[Hit<'_>]| {
                for hit in hits {
                    say(hit, known, desk)?;
                }
                read += hits.len() as u64;
                Ok::<_, Trouble>(desk.flush()?)
            })?;
        }
        Ok(read)
    }

    /// Reads a page of a shard, and says what was not seen since the feed began. Returns where the
    /// next page begins.
    fn read_page(
        &mut self,
        point: &mut PointInTime,
        known: &Known,
        beyond: i64,
        desk: &mut Desk<'_>,
    ) -> Result<Option<i64>, Trouble> {
        self.api.page_beyond(point, beyond, true, &mut |hits: &[Hit<'_>]| {
            for hit in hits {
                if is_news(hit, known, desk) {
                    say(hit, known, desk)?;
                }
            }
            Ok::<_, Trouble>(desk.flush()?)
        })
    }

    /// Reads which documents a page of a shard has, and says those that are held in an earlier
    /// version. Returns where the next page begins.
    fn read_others(
        &mut self,
        point: &mut PointInTime,
        known: &Known,
        beyond: i64,
        desk: &mut Desk<'_>,
    ) -> Result<Option<i64>, Trouble> {
        let mut others = Vec::new();
        let next = self.api.page_beyond(point, beyond, false, &mut |hits: &[Hit<'_>]| {
            others.extend(
                hits.iter().filter(|hit| is_news(hit, known, desk)).map(|hit| hit.id.clone()),
            );
            Ok::<_, Trouble>(())
        })?;
        self.api.by_ids(point, &others, &mut |hits: &[Hit<'_>]| {
            hits.iter().try_for_each(|hit| say(hit, known, desk))?;
            Ok::<_, Trouble>(desk.flush()?)
        })?;
        Ok(next)
    }

    /// Ends a comparison that was not brought to its end.
    fn leave_comparison(&mut self) {
        let comparison = self.comparison.take();
        if let Some((_, point, _)) = comparison.and_then(|comparison| comparison.at) {
            self.api.close(point);
        }
    }

    /// Finds which documents of a shard are gone from it.
    fn gone_from(
        &mut self,
        point: &mut PointInTime,
        known: &Known,
        extent: Extent,
        desk: &mut Desk<'_>,
    ) -> Result<Vec<String>, Trouble> {
        let held = desk.held().versions();
        let held = held.filter_map(|(version, id)| Some((known.number(version)?, id)));
        let mut held: Vec<(i64, Box<str>)> = match held.clone().count() as u64 {
            count if count == extent.documents => return Ok(Vec::new()),
            _ => held.map(|(number, id)| (number, id.into())).collect(),
        };
        held.sort_unstable();
        let numbers: Vec<i64> = held.iter().map(|(number, _)| *number).collect();
        let place = |number| numbers.binary_search(number).expect("it is one of these");
        let gone = gone(&numbers, &mut |ranges| self.api.count(point, ranges))?;
        Ok(gone.iter().map(|number| held[place(number)].1.to_string()).collect())
    }

    /// Misses documents that are gone from a shard, but for those that stand in another one: what
    /// was copied before it was deleted is there, and what was known of it is what it said here.
    fn miss(
        &mut self,
        mut ids: Vec<String>,
        gone_from: &Shard,
        identity: &Value,
        desk: &mut Desk<'_>,
    ) -> Result<(), Trouble> {
        for (shard, known) in self.shards.clone() {
            if ids.is_empty() || shard == *gone_from {
                continue;
            }
            let (mut point, _) = self.open(&shard, identity)?;
            let mut found = BTreeSet::new();
            let read = self.api.by_ids(&mut point, &ids, &mut |hits: &[Hit<'_>]| {
                found.extend(hits.iter().map(|hit| hit.id.clone()));
                hits.iter().try_for_each(|hit| say(hit, &known, desk))
            });
            self.api.close(point);
            read?;
            ids.retain(|id| !found.contains(id));
            if !found.is_empty() {
                // One that was not known to stand there may have hidden another one from the count.
                self.shards.entry(shard).and_modify(|known| known.may_lack = true);
            }
        }
        let now = Instant::now();
        ids.iter().for_each(|id| desk.reconcile().miss(id, now));
        Ok(desk.flush()?)
    }
}

/// Whether a document that a comparison has found is held in an earlier version; takes it as met
/// where it is not. A look may have seen a later one meanwhile.
fn is_news(hit: &Hit<'_>, known: &Known, desk: &mut Desk<'_>) -> bool {
    let held = desk.held().version(&hit.id).unwrap_or_default();
    match known.number(held) {
        Some(number) if number >= hit.number => {
            desk.saw(&hit.id, held);
            false
        }
        // A look has met it in another shard since, where it went from here.
        None => !desk.held().is_met(&hit.id),
        Some(_) => true,
    }
}

/// Says a document that was found.
fn say(hit: &Hit<'_>, known: &Known, desk: &mut Desk<'_>) -> Result<(), Trouble> {
    let Some(source) = hit.source else {
        let tried = "read what documents say".to_owned();
        let said = "the index does not keep it (`_source` is not enabled)".to_owned();
        let remedy = "name an index that keeps it";
        return Err(SystemError::new(tried, said, remedy).into());
    };
    desk.say(&hit.id, known.version(hit.number), source);
    Ok(())
}

impl System for Elasticsearch {
    fn begin(&mut self) {
        self.leave_comparison();
        self.shards.clear();
    }

    fn is_same(&self, one: &Value, other: &Value) -> bool {
        identity::is_same(one, other)
    }

    fn completed(&self, now: Value, before: &Value) -> Value {
        identity::completed(now, before)
    }

    fn identity(&mut self) -> Result<Value, SystemError> {
        let probe = self.ask()?;
        self.api.check_aliases()?;
        let settings = self.api.settings()?;
        let is_whole = probe.uuids.keys().all(|index| {
            let found = probe.shards.keys().filter(|shard| shard.index == *index).count();
            settings.get(index).is_some_and(|setting| setting.shards as usize == found)
        });
        match is_whole {
            true => Ok(probe.identity()),
            false => Err(api::in_part("ask which index it is".to_owned())),
        }
    }

    fn positions(&self) -> Value {
        let mut positions = serde_json::Map::new();
        for (Shard { index, number }, known) in &self.shards {
            let of_index = positions.entry(index).or_insert_with(|| json!({}));
            of_index[number.to_string()] = known.taken.into();
        }
        positions.into()
    }

    fn resume(&mut self, identity: &Value, positions: &Value) {
        // Where nobody says of which history numbers are, those from before may be of another one.
        if self.is_blind || !identity::is_whole(identity) {
            return;
        }
        let shards = identity::shards(identity);
        let taken = |shard: &Shard| positions[&shard.index][shard.number.to_string()].as_i64();
        let known = (1..).zip(shards).map(|(place, shard)| {
            let taken = taken(&shard)?;
            Some((shard, Known::new(place, taken)))
        });
        let Some(known) = known.collect::<Option<BTreeMap<_, _>>>() else { return };
        self.shards = known;
        self.identity = identity.clone();
    }

    fn compare(&mut self, identity: &Value, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        let mut probe = self.probe(identity)?;
        if probe.is_blind {
            self.see_highest(&mut probe, identity)?;
        }
        let asked = Instant::now();
        let unrefreshed = self.refresh(&probe)?;
        // What is held of versions is worth something while it is the same collection.
        let all_is_new = self.shards.is_empty() || self.identity != *identity;
        if all_is_new {
            self.shards.clear();
            self.identity = identity.clone();
            desk.reconcile().forget_versions();
            // Else all would be read again and again until something is sure to be visible.
            let until = asked + unrefreshed.unwrap_or_default();
            while Instant::now() < until && !desk.is_to_end() {
                thread::sleep(BETWEEN_PROBES);
            }
        }
        self.leave_comparison();
        desk.begin_comparison(Some(probe.documents));
        let shards = (1..).zip(&probe.shards);
        let left =
            shards.map(|(place, (shard, progress))| (place, shard.clone(), progress.clone()));
        let left = left.collect();
        self.comparison = Some(Comparing { left, asked, unrefreshed, at: None });
        if all_is_new {
            // Nothing can be looked at before that.
            while !self.compare_on(desk)? {
                if desk.is_to_end() {
                    return Err(Trouble::Other);
                }
            }
        }
        Ok(())
    }

    fn compare_on(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let Some(Comparing { mut left, asked, unrefreshed, at }) = self.comparison.take() else {
            return Ok(true);
        };
        let (comparand, mut point, beyond) = match at {
            Some(at) => at,
            None => {
                let Some((place, shard, progress)) = left.pop_front() else {
                    desk.end_comparison(true);
                    return Ok(true);
                };
                let known = self.shards.get(&shard).cloned().unwrap_or(Known::new(place, -1));
                let (point, _) = self.open(&shard, &self.identity.clone())?;
                let (checkpoint, opened) = (progress.checkpoint, Instant::now());
                (Comparand { shard, known, checkpoint, opened }, point, -1)
            }
        };
        let Comparand { shard, known, checkpoint, opened } = &comparand;
        let next = match known.is_compared {
            false => self.read_page(&mut point, known, beyond, desk),
            true => self.read_others(&mut point, known, beyond, desk),
        };
        let at = match next {
            Ok(Some(beyond)) => Some((comparand, point, beyond)),
            ended => {
                self.api.close(point);
                ended?;
                // Looks may have come further meanwhile.
                let mut known = self.shards.remove(shard).unwrap_or_else(|| known.clone());
                known.take(*checkpoint, Opened { asked, opened: *opened, unrefreshed });
                (known.may_lack, known.is_compared) = (true, true);
                self.shards.insert(shard.clone(), known);
                None
            }
        };
        self.comparison = Some(Comparing { left, asked, unrefreshed, at });
        Ok(false)
    }

    fn look(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let identity = self.identity.clone();
        let (probe, asked) = (self.probe(&identity)?, Instant::now());
        let went_back = |(shard, known): (&Shard, &Known)| {
            !probe.is_blind && probe.shards[shard].highest < known.taken
        };
        // It was put back to an earlier time while nobody could tell: nothing of it is known.
        if self.shards.iter().any(went_back) {
            self.shards.clear();
            return Err(Trouble::Other);
        }
        let is_new = |known: &Known, shard| {
            let progress = &probe.shards[shard];
            let is_new = progress.highest != known.taken || progress.checkpoint != known.taken;
            is_new || known.may_lack
        };
        let changed: Vec<Shard> = self
            .shards
            .iter()
            .filter(|(shard, known)| is_new(known, *shard))
            .map(|(shard, _)| shard.clone())
            .collect();
        if changed.is_empty() {
            return Ok(false);
        }
        let unrefreshed = self.refresh(&probe)?;
        let mut is_more = false;
        for shard in changed {
            let mut known = self.shards[&shard].clone();
            let (mut point, extent) = self.open(&shard, &identity)?;
            let opened = Instant::now();
            let read = self.read(&mut point, &known, known.taken, desk);
            let gone = match &read {
                Ok(_) => self.gone_from(&mut point, &known, extent, desk),
                Err(_) => Ok(Vec::new()),
            };
            self.api.close(point);
            self.miss(gone?, &shard, &identity, desk)?;
            // What is not sure to be visible is read again, however much it is.
            is_more |= read? >= self.api.page() as u64 && unrefreshed.is_none();
            let (checkpoint, asked) = match probe.is_blind {
                true => (extent.highest, opened),
                false => (probe.shards[&shard].checkpoint, asked),
            };
            known.take(checkpoint, Opened { asked, opened, unrefreshed });
            known.may_lack = false;
            self.shards.insert(shard, known);
        }
        Ok(is_more)
    }
}
