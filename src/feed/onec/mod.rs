//! 1C as a system of record, behind its standard OData interface.
//!
//! Shape: entries of one kind in; what they say, and which are gone, out.
//!
//! The base registers for a node of a plan of exchange what changes. A look has it hand out all of
//! that as one message, which it does again and again until the message is confirmed; confirmed is
//! forgotten. Without a plan there is nothing to look at, and comparisons find what changed.
//!
//! Invariants: a message is confirmed only once it was read to its end and what it says is in the
//! log; a message is read as it comes, entry by entry. An entry that bears the mark of deletion is
//! gone, and so is one that is not there any more. Pages are asked for by position, so one whose
//! entry moved meanwhile can lack it: what a comparison has not met is asked for by its key.
//!
//! Not here: how it is asked (`api`).

mod api;
mod stream;

use std::{collections::BTreeSet, mem::replace, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tracing::warn;

use super::{Desk, Kind, System, SystemError, Trouble};
use crate::{
    config::{ConfigError, OneCConfig},
    reference::{Projector, reconcile::Version},
    spec::Spec,
};
use api::{Api, Entry, Node};

/// How many entries that a comparison has not met are asked for by their keys; where there are
/// more, it is no page that moved. And how many of them between looks.
const ASKED_BY_KEY_MAX: usize = 5_000;
const ASKED_AT_ONCE: usize = 20;

/// How many entries of a comparison are passed over, where the base does not give them.
const PASSED_MAX: u32 = 20;

/// How many entries of a message are said before what they say is written.
const WRITTEN_AT_ONCE: usize = 1_000;

/// Entries of a base of 1C.
pub struct OneC {
    api: Api,
    url: String,
    entity: String,
    /// Classes that came in messages and that nobody asked for; each is told once.
    others: BTreeSet<String>,
    /// Whether it was told that there is nothing to look at.
    is_told: bool,
    comparison: Option<Comparing>,
}

/// A comparison on its way.
struct Comparing {
    /// Whether every entry was read, and had a key.
    is_whole: bool,
    /// Whether a page failed or was read in parts: the base may have changed much until then.
    has_failed: bool,
    /// Whether all is read once more.
    is_second: bool,
    doubts: Doubts,
    at: At,
}

/// Entries that the base may not be able to give, though it is well.
#[derive(Default)]
struct Doubts {
    /// A position at which it gave one before.
    witness: Option<usize>,
    /// Those that it did not give, while it gave that one right after.
    failed: BTreeSet<One>,
    /// How many were passed over.
    passed: u32,
}

/// What came of the question for an entry.
enum Found {
    /// It was said, or may be there.
    There,
    Denied,
    /// The base gave another one instead: it is asked for once more.
    Failed,
}

/// An entry, as it is asked for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum One {
    At(usize),
    Key(String),
}

impl Comparing {
    fn new() -> Comparing {
        let (is_whole, has_failed, is_second) = (true, false, false);
        Comparing { is_whole, has_failed, is_second, doubts: Doubts::default(), at: At::Page(0) }
    }
}

/// Up to where a comparison has come.
enum At {
    /// To this position.
    Page(usize),
    /// To its end; those that it has not met are left to be asked for by their keys.
    Unmet(Vec<String>),
}

impl OneC {
    /// The entries of a configuration, of which what the spec uses is asked for.
    ///
    /// # Errors
    /// When the configuration is not sound.
    pub fn new(spec: Arc<Spec>, source: &str, config: &OneCConfig) -> Result<OneC, ConfigError> {
        let fields = Projector::of_source(spec, source).fields();
        // The base gives whole properties.
        let whole = |field: &String| field.split('.').next().unwrap_or_default().to_owned();
        let fields: BTreeSet<String> = fields.iter().map(whole).collect();
        Ok(OneC {
            api: Api::new(config, fields.into_iter().collect())?,
            url: config.url.clone(),
            entity: config.entity.clone(),
            others: BTreeSet::new(),
            is_told: false,
            comparison: None,
        })
    }

    /// Says a message of changes, and confirms it.
    fn exchange(&mut self, node: &Node, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        let OneC { api, entity, others, .. } = self;
        let (mut said, mut failed) = (0, None);
        let read = api.changes(node, &mut |entry: &RawValue| {
            let changed = Changed::of(entity, entry);
            match changed {
                Some(Changed::Entry(entry)) => say(&entry, desk),
                Some(Changed::Gone(id)) => desk.say_gone(&id),
                Some(Changed::Other(class)) => {
                    if others.insert(class.clone()) {
                        warn!(class, "is of no use here, and is confirmed with what is");
                    }
                }
                None => desk.refuse(None),
            }
            said += 1;
            if said % WRITTEN_AT_ONCE == 0 {
                failed = desk.flush().err();
            }
            failed.is_none()
        });
        // Who is fenced has no writer any more: it is of no consequence that the message was left.
        if let Some(failed) = failed {
            return Err(failed.into());
        }
        read?;
        if said == 0 {
            return Ok(());
        }
        desk.flush()?;
        // One that another feed has fenced may have found nothing to write, and is to forget
        // nothing.
        desk.write_mark()?;
        failpoint!("onec-written");
        api.confirm(node)?;
        failpoint!("onec-confirmed");
        Ok(())
    }

    /// Goes on with a comparison; returns whether it is at its end.
    fn step(&mut self, comparing: &mut Comparing, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let Comparing { is_whole, has_failed, doubts, at, .. } = comparing;
        match at {
            At::Page(to) => {
                let to = *to;
                let (next, is_sound) =
                    self.say_page_or_pass(to, doubts, desk).inspect_err(|_| *has_failed = true)?;
                *is_whole &= is_sound;
                match next {
                    Some(next) => {
                        // One that was too much, or whose entries had moved, took its time as well.
                        *has_failed |= next <= to;
                        *at = At::Page(next);
                    }
                    None => self.end_pages(comparing, desk),
                }
            }
            At::Unmet(left) if left.is_empty() => {
                desk.end_comparison(*is_whole);
                return Ok(true);
            }
            At::Unmet(left) => {
                let asked = left.split_off(left.len().saturating_sub(ASKED_AT_ONCE));
                match self.say_by_key(&asked, doubts, desk) {
                    // They are asked for again last.
                    Ok(again) => drop(left.splice(..0, again)),
                    Err(error) => {
                        left.extend(asked);
                        return Err(error);
                    }
                }
            }
        }
        Ok(false)
    }

    /// What comes once all pages were read: those that were not met are asked for by their keys; or
    /// all is read once more, where entries were passed over, or much may have moved.
    fn end_pages(&mut self, comparing: &mut Comparing, desk: &Desk<'_>) {
        let unmet: Vec<String> = desk.held().unmet().map(str::to_owned).collect();
        let is_much = unmet.len() > ASKED_BY_KEY_MAX;
        let is_doubtful = comparing.doubts.passed > 0 || (is_much && comparing.has_failed);
        if is_doubtful && !comparing.is_second {
            self.api.begin_pages();
            *comparing = Comparing { is_second: true, ..Comparing::new() };
            return;
        }
        // Where an entry may be one of these, only who is denied goes; else the guard decides.
        let is_left_to_guard = is_much && comparing.is_whole;
        comparing.at = At::Unmet(if is_left_to_guard { Vec::new() } else { unmet });
    }

    /// Asks for entries by their keys, and says them, or that they are gone; returns those that are
    /// to be asked for again.
    fn say_by_key(
        &mut self,
        ids: &[String],
        doubts: &mut Doubts,
        desk: &mut Desk<'_>,
    ) -> Result<Vec<String>, Trouble> {
        let (mut denied, mut again) = (Vec::new(), Vec::new());
        for id in ids {
            match self.say_one(id, doubts, desk)? {
                Found::There => {}
                Found::Denied => denied.push(id),
                Found::Failed => again.push(id.clone()),
            }
        }
        if !denied.is_empty() {
            // That it denied an entry says nothing where it denied all of them for a while.
            self.is_well(doubts)?;
        }
        for id in denied {
            match self.say_one(id, doubts, desk)? {
                Found::There => {}
                Found::Denied => desk.say_gone(id),
                Found::Failed => again.push(id.clone()),
            }
        }
        Ok(again)
    }

    /// Asks for an entry by its key, and says it. Of one that the base does not give while it gives
    /// others what was known stands.
    fn say_one(
        &mut self,
        id: &str,
        doubts: &mut Doubts,
        desk: &mut Desk<'_>,
    ) -> Result<Found, Trouble> {
        desk.mark_when_due()?;
        // What is no key of a base is none of its entries.
        if !is_key(id) {
            return Ok(Found::Denied);
        }
        match self.api.by_key(id, &mut |entry| say(entry, desk)) {
            Ok(true) => Ok(Found::There),
            Ok(false) => Ok(Found::Denied),
            Err(error) if is_of_one(&error) && self.is_well(doubts)? => {
                if doubts.failed.insert(One::Key(id.to_owned())) {
                    return Ok(Found::Failed);
                }
                warn!(base = self.url, key = id, "is left as it was known: {error}");
                if !desk.held().is_missed(id) {
                    desk.refuse(Some((id, desk.held().version(id).unwrap_or_default())));
                }
                Ok(Found::There)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the base gives an entry that it gave before, or one of the first; no where there is
    /// none.
    fn is_well(&mut self, doubts: &Doubts) -> Result<bool, SystemError> {
        match doubts.witness {
            Some(position) => self.api.gives_one_of(&[position]),
            None => self.api.gives_one_of(&[0, 1, 2, 3]),
        }
    }

    /// Says a page as `say_page`. Entries that the base does not give while it is well are passed
    /// over, a few of them.
    fn say_page_or_pass(
        &mut self,
        to: usize,
        doubts: &mut Doubts,
        desk: &mut Desk<'_>,
    ) -> Result<(Option<usize>, bool), Trouble> {
        match self.say_page(to, desk) {
            // A page of more than one is asked for in half.
            Err(Trouble::System(error)) if error.kind == Kind::TooMuch => {
                if !self.is_well(doubts)? {
                    return Err(error.into());
                }
                // So it was well before the second time, and after it.
                if doubts.failed.insert(One::At(to)) {
                    return Ok((Some(to), true));
                }
                if doubts.passed == PASSED_MAX {
                    let remedy = "it gives many others, but not this one, nor some before it: look \
                                  into the base's log of events";
                    return Err(SystemError { remedy, ..error }.into());
                }
                warn!(base = self.url, position = to, "is passed over: {error}");
                desk.refuse(None);
                doubts.passed += 1;
                Ok((Some(to + 1), false))
            }
            said => {
                let (next, is_sound) = said?;
                doubts.failed.clear();
                doubts.witness =
                    next.filter(|next| *next > to).map(|next| next - 1).or(doubts.witness);
                Ok((next, is_sound))
            }
        }
    }

    /// Says a page from a position on; returns where the next one begins, and whether each entry
    /// had a key.
    fn say_page(
        &mut self,
        to: usize,
        desk: &mut Desk<'_>,
    ) -> Result<(Option<usize>, bool), Trouble> {
        let mut is_whole = true;
        let next = self.api.page(to, &mut |entries: &[Option<Entry<'_>>]| {
            for entry in entries {
                match entry {
                    Some(entry) => say(entry, desk),
                    None => {
                        desk.refuse(None);
                        is_whole = false;
                    }
                }
            }
            Ok::<_, Trouble>(desk.flush()?)
        })?;
        Ok((next, is_whole))
    }
}

/// What a message says.
enum Changed<'a> {
    /// What an entry says now.
    Entry(Entry<'a>),
    /// It is no more.
    Gone(String),
    /// Something else.
    Other(String),
}

impl<'a> Changed<'a> {
    fn of(entity: &str, written: &'a RawValue) -> Option<Changed<'a>> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "odata.type")]
            class: String,
        }
        #[derive(Deserialize)]
        struct Deletion {
            #[serde(rename = "Ref_Key")]
            key: String,
            #[serde(rename = "Ref_Type")]
            class: String,
        }
        const OF_OBJECTS: &str = "StandardODATA.";
        let Head { class } = serde_json::from_str(written.get()).ok()?;
        let is_ours = |class: &str| class.strip_prefix(OF_OBJECTS) == Some(entity);
        if is_ours(&class) {
            return Entry::of(written).map(Changed::Entry);
        }
        if class.strip_prefix(OF_OBJECTS) == Some("ObjectDeletion") {
            let Deletion { key, class } = serde_json::from_str(written.get()).ok()?;
            return Some(match is_ours(&class) {
                true => Changed::Gone(key.to_lowercase()),
                false => Changed::Other(class),
            });
        }
        Some(Changed::Other(class))
    }
}

/// Whether an answer may be about the one entry that was asked for: what it says is too much for
/// the base, or not for everybody.
fn is_of_one(error: &SystemError) -> bool {
    matches!(error.kind, Kind::TooMuch | Kind::Forbidden)
}

/// Whether an id is a key as a base writes it, in lower case: 8-4-4-4-12 digits.
fn is_key(id: &str) -> bool {
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && id.split('-').all(is_digits)
}

/// Says an entry; one that bears the mark of deletion is not there any more.
fn say(entry: &Entry<'_>, desk: &mut Desk<'_>) {
    match entry.is_marked {
        true => desk.say_gone(&entry.id),
        false => desk.say(&entry.id, Version(entry.version), entry.source),
    }
}

impl System for OneC {
    fn keeps_its_place(&self) -> bool {
        true
    }

    fn tells_who_comes_back(&self) -> bool {
        self.api.exchanges()
    }

    fn identity(&mut self) -> Result<Value, SystemError> {
        Ok(json!({ "base": self.url, "entity": self.entity }))
    }

    fn compare(&mut self, _: &Value, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        desk.begin_comparison(None);
        self.api.begin_pages();
        self.comparison = Some(Comparing::new());
        Ok(())
    }

    fn compare_on(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let Some(mut comparing) = self.comparison.take() else { return Ok(true) };
        let is_done = self.step(&mut comparing, desk);
        // Where that fails, it goes on from there.
        self.comparison = Some(comparing).filter(|_| !matches!(is_done, Ok(true)));
        is_done
    }

    fn look(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        match self.api.node()? {
            Some(node) => self.exchange(&node, desk)?,
            None if replace(&mut self.is_told, true) => {}
            None => warn!(
                base = self.url,
                "no plan of exchange is named: what changes is found by comparison"
            ),
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_other_ids() {
        assert!(is_key("0f8fad5b-d9cb-469f-a165-70867728950e"));
        for other in [
            "123",
            "",
            "0f8fad5b-d9cb-469f-a165-70867728950",
            "g-",
            "0f8fad5b-d9cb-469f-a165-70867728950g",
        ] {
            assert!(!is_key(other), "{other}");
        }
    }

    #[test]
    fn changes_are_told_apart_and_keys_are_written_in_one_way() {
        let said = |text: &str| {
            let entry: &RawValue = serde_json::from_str(text).expect("it is JSON");
            Changed::of("Catalog_A", entry).map(|changed| match changed {
                Changed::Entry(entry) => format!("entry {} {}", entry.id, entry.version),
                Changed::Gone(id) => format!("gone {id}"),
                Changed::Other(class) => format!("other {class}"),
            })
        };
        let of = |class: &str, more: &str| format!(r#"{{"odata.type":"{class}"{more}}}"#);
        let entry = r#","Ref_Key":"AB-C","DataVersion":"AAAAAAAAAAE=""#;
        let gone = |class: &str| format!(r#","Ref_Key":"AB-C","Ref_Type":"StandardODATA.{class}""#);
        for (text, wanted) in [
            (of("StandardODATA.Catalog_A", entry), Some("entry ab-c 1")),
            (of("StandardODATA.Catalog_A", r#","Ref_Key":"AB-C""#), Some("entry ab-c 0")),
            (of("StandardODATA.ObjectDeletion", &gone("Catalog_A")), Some("gone ab-c")),
            (
                of("StandardODATA.ObjectDeletion", &gone("Catalog_B")),
                Some("other StandardODATA.Catalog_B"),
            ),
            (of("StandardODATA.Catalog_AB", entry), Some("other StandardODATA.Catalog_AB")),
            (of("StandardODATA.Catalog_A", ""), None),
            ("{}".to_owned(), None),
        ] {
            assert_eq!(said(&text).as_deref(), wanted, "{text}");
        }
    }
}
