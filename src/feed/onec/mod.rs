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

use std::{
    collections::BTreeSet,
    mem::{self, replace},
    sync::Arc,
};

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
    passed: Passed,
}

/// Entries that a comparison could not read.
#[derive(Default)]
struct Passed {
    count: u32,
    /// The position that failed last.
    failed: Option<usize>,
}

/// A comparison on its way.
struct Comparing {
    /// Whether every entry had a key.
    is_whole: bool,
    /// Whether a page failed or was read in parts: the base may have changed much until then.
    has_failed: bool,
    at: At,
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
            passed: Passed::default(),
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

    /// What comes once all pages were read: those that were not met are asked for by their keys, or
    /// all is read once more.
    fn ask_by_key(&mut self, is_whole: bool, has_failed: bool, desk: &Desk<'_>) -> Comparing {
        let unmet = desk.held().unmet().take(ASKED_BY_KEY_MAX + 1).map(str::to_owned);
        let unmet: Vec<String> = unmet.collect();
        let at = match unmet.len() > ASKED_BY_KEY_MAX {
            false => At::Unmet(unmet),
            true if has_failed => {
                self.api.begin_pages();
                At::Page(0)
            }
            true => At::Unmet(Vec::new()),
        };
        Comparing { is_whole, has_failed: false, at }
    }

    /// Asks for entries by their keys, and says them, or that they are gone.
    fn say_by_key(&mut self, ids: &[String], desk: &mut Desk<'_>) -> Result<(), Trouble> {
        let mut denied = Vec::new();
        for id in ids {
            if !self.say_one(id, desk)? {
                denied.push(id);
            }
        }
        if denied.is_empty() {
            return Ok(());
        }
        // That it denied an entry says nothing where it denied all of them for a while.
        self.api.gives_one_of(&[0, 1, 2])?;
        for id in denied {
            if !self.say_one(id, desk)? {
                desk.say_gone(id);
            }
        }
        Ok(())
    }

    /// Asks for an entry by its key, and says it; returns whether it may be there. Of one that the
    /// base does not give while it gives others what was known stands.
    fn say_one(&mut self, id: &str, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        desk.mark_when_due()?;
        // What is no key of a base is none of its entries.
        if !is_key(id) {
            return Ok(false);
        }
        match self.api.by_key(id, &mut |entry| say(entry, desk)) {
            Err(error) if is_of_one(&error) && self.api.gives_one_of(&[0, 1, 2])? => {
                warn!(base = self.url, key = id, "is left as it was known: {error}");
                desk.refuse(Some((id, desk.held().version(id).unwrap_or_default())));
                Ok(true)
            }
            answered => Ok(answered?),
        }
    }

    /// Whether the base gives entries beyond a position, or the one before it where that is the
    /// last.
    fn gives_others_than(&mut self, to: usize) -> Result<bool, SystemError> {
        let beyond = self.api.gives_one_of(&[to + 1, to + 2, to + 3])?;
        Ok(beyond || (to > 0 && self.api.gives_one_of(&[to - 1])?))
    }

    /// Says a page as `say_page`. An entry that the base did not give twice is passed over where it
    /// gives others beyond it; of a few that may be so.
    fn say_page_or_pass(
        &mut self,
        to: usize,
        passed: &mut Passed,
        desk: &mut Desk<'_>,
    ) -> Result<(Option<usize>, bool), Trouble> {
        match self.say_page(to, desk) {
            // A page of more than one is asked for in half.
            Err(Trouble::System(error))
                if error.kind == Kind::TooMuch
                    && passed.count < PASSED_MAX
                    && passed.failed.replace(to) == Some(to)
                    && self.gives_others_than(to)? =>
            {
                warn!(base = self.url, position = to, "is passed over: {error}");
                desk.refuse(None);
                passed.count += 1;
                Ok((Some(to + 1), false))
            }
            said => said,
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

    fn identity(&mut self) -> Result<Value, SystemError> {
        Ok(json!({ "base": self.url, "entity": self.entity }))
    }

    fn compare(&mut self, _: &Value, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        desk.begin_comparison(None);
        self.api.begin_pages();
        self.passed = Passed::default();
        self.comparison = Some(Comparing { is_whole: true, has_failed: false, at: At::Page(0) });
        Ok(())
    }

    fn compare_on(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let Some(Comparing { is_whole, has_failed, at }) = self.comparison.take() else {
            return Ok(true);
        };
        let next = match at {
            At::Page(to) => {
                // Where that fails, it is asked for again.
                self.comparison = Some(Comparing { is_whole, has_failed: true, at: At::Page(to) });
                let mut passed = mem::take(&mut self.passed);
                let said = self.say_page_or_pass(to, &mut passed, desk);
                self.passed = passed;
                let (next, is_sound) = said?;
                let is_whole = is_whole && is_sound;
                match next {
                    Some(next) => {
                        // One that was too much, or whose entries had moved, took its time as well.
                        let has_failed = has_failed || next <= to;
                        Comparing { is_whole, has_failed, at: At::Page(next) }
                    }
                    None => self.ask_by_key(is_whole, has_failed, desk),
                }
            }
            At::Unmet(left) if left.is_empty() => {
                desk.end_comparison(is_whole);
                return Ok(true);
            }
            At::Unmet(mut left) => {
                let asked = left.split_off(left.len().saturating_sub(ASKED_AT_ONCE));
                if let Err(error) = self.say_by_key(&asked, desk) {
                    left.extend(asked);
                    self.comparison = Some(Comparing { is_whole, has_failed, at: At::Unmet(left) });
                    return Err(error);
                }
                Comparing { is_whole, has_failed, at: At::Unmet(left) }
            }
        };
        self.comparison = Some(next);
        Ok(false)
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
