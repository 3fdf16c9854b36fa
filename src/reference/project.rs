//! Projection: what the spec takes of a document, and nothing else of the person.
//!
//! Shape: the `_source` of a document in; its claims, one for each lookup that it is among, out.
//!
//! Invariants: missing, null and empty text are absent; a value of another form than its column's
//! is absent, never an error; what the spec does not name is never kept.
//!
//! Not here: whether another document claims the same key.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::value::RawValue;

use super::Claim;
use crate::{
    row::{ColumnId, Key, Kind, LookupId, Row, RowBuilder, Value, json, kind},
    spec::{
        Spec,
        plan::{DocumentForm, Lookup, Path, Step},
    },
    time::Moment,
};

/// Most bytes of what a lookup takes of a document, as it is written there. Beyond it the document
/// is refused: its text would stand in every record.
pub const PROJECTED_BYTES_MAX: usize = 1 << 20;

/// Takes from documents what one spec needs.
#[derive(Debug)]
pub struct Projector {
    spec: Arc<Spec>,
    paths: PathTree,
    lookups: Vec<(LookupId, LookupSlots)>,
}

/// Where the found values of a lookup stand.
#[derive(Debug)]
struct LookupSlots {
    filter: Option<Slot>,
    key: Slot,
    /// By column, by path.
    columns: Vec<Vec<Slot>>,
}

/// A position among the found values.
type Slot = usize;

impl LookupSlots {
    fn all(&self) -> impl Iterator<Item = Slot> {
        let columns = self.columns.iter().flatten().copied();
        self.filter.into_iter().chain([self.key]).chain(columns)
    }
}

impl Projector {
    /// A projector for the documents of `spec`.
    pub fn new(spec: Arc<Spec>) -> Projector {
        Projector::of(spec, |_| true)
    }

    /// A projector for the documents of one source: what lookups that are not about it take is not
    /// taken.
    pub fn of_source(spec: Arc<Spec>, source: &str) -> Projector {
        Projector::of(spec, |lookup| rank(lookup, Some(source)).is_some())
    }

    fn of(spec: Arc<Spec>, is_about: impl Fn(&Lookup) -> bool) -> Projector {
        let mut paths = PathTree::default();
        let mut slot = |path: &Path| paths.slot(path);
        let about = (0..).map(LookupId).zip(&spec.lookups).filter(|(_, lookup)| is_about(lookup));
        let slots = |(id, lookup): (LookupId, &Lookup)| {
            let filter = lookup.filter.as_ref().map(|filter| slot(&filter.path));
            let key = slot(&lookup.key_path);
            let columns = lookup.columns.iter();
            let columns = columns.map(|column| column.paths.iter().map(&mut slot).collect());
            (id, LookupSlots { filter, key, columns: columns.collect() })
        };
        let lookups = about.map(slots).collect();
        Projector { spec, paths, lookups }
    }

    /// Whether it takes nothing of any document: no lookup is about its source.
    pub fn takes_nothing(&self) -> bool {
        self.lookups.is_empty()
    }

    /// The claims of a document in the order of the lookups; `None` where one is too long. `source`
    /// is where it comes from; a document of no source is one of each.
    pub fn claims(
        &self,
        source: Option<&str>,
        id: &str,
        document: &RawValue,
    ) -> Option<Vec<Claim>> {
        let mut found = vec![None; self.paths.slots];
        self.paths.root.find(document, &mut found);
        let mut claims = Vec::new();
        for (number, slots) in &self.lookups {
            let lookup = self.spec.lookup(*number);
            let Some(rank) = rank(lookup, source) else { continue };
            if is_too_long(slots, &found) {
                return None;
            }
            if !passes(lookup, slots, &found) {
                continue;
            }
            let Some(key) = key(lookup, found[slots.key]) else { continue };
            let row = row(lookup, slots, &found);
            // The smallest has the key.
            let document = match lookup.from.len() {
                0 | 1 => id.into(),
                _ => format!("{rank:02}:{id}").into(),
            };
            claims.push(Claim { lookup: *number, key, document, row });
        }
        Some(claims)
    }

    /// Whether what a lookup takes of a document is too long, so that it has no claims.
    pub fn is_too_long(&self, source: &RawValue) -> bool {
        let mut found = vec![None; self.paths.slots];
        self.paths.root.find(source, &mut found);
        self.lookups.iter().any(|(_, slots)| is_too_long(slots, &found))
    }

    /// The paths of which something is taken.
    pub fn paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for (number, _) in &self.lookups {
            let lookup = self.spec.lookup(*number);
            let columns = lookup.columns.iter().flat_map(|column| &column.paths);
            let filter = lookup.filter.iter().map(|filter| &filter.path);
            paths.extend(filter.chain([&lookup.key_path]).chain(columns).map(Path::to_string));
        }
        paths
    }

    /// The fields that a system is to be asked for: each path up to its first position, since
    /// systems that leave out parts of an array move the rest.
    pub fn fields(&self) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        self.paths.root.fields("", &mut fields);
        fields
    }

    /// The document with nothing in it but what the spec takes: it makes the same claims.
    pub fn pruned(&self, source: &RawValue) -> Vec<u8> {
        let mut found = vec![None; self.paths.slots];
        self.paths.root.find(source, &mut found);
        let mut out = Vec::new();
        if !self.paths.root.write(&found, &mut out) {
            out.extend_from_slice(b"{}");
        }
        out
    }
}

/// Which of the sources of a lookup a document's is; `None` where the lookup is not about it.
fn rank(lookup: &Lookup, source: Option<&str>) -> Option<usize> {
    match source {
        Some(source) if !lookup.from.is_empty() => lookup.from.iter().position(|s| s == source),
        _ => Some(0),
    }
}

fn is_too_long(slots: &LookupSlots, found: &[Option<&RawValue>]) -> bool {
    let taken = slots.all().filter_map(|slot| found[slot]);
    taken.map(|token| token.get().len()).sum::<usize>() > PROJECTED_BYTES_MAX
}

fn passes(lookup: &Lookup, slots: &LookupSlots, found: &[Option<&RawValue>]) -> bool {
    let (Some(filter), Some(slot)) = (&lookup.filter, slots.filter) else { return true };
    found[slot].and_then(json::text).is_some_and(|text| text == filter.equals)
}

fn key(lookup: &Lookup, token: Option<&RawValue>) -> Option<Key> {
    let mut scratch = String::new();
    let value = lookup.key_kind.read(token?, &mut scratch).ok()?;
    Some(Key::of([Some(value)]))
}

fn row(lookup: &Lookup, slots: &LookupSlots, found: &[Option<&RawValue>]) -> Row {
    let mut bytes = Vec::new();
    let mut row = RowBuilder::new(&lookup.layout, &mut bytes);
    for (place, (column, slots)) in lookup.columns.iter().zip(&slots.columns).enumerate() {
        let id = ColumnId(place as u16);
        let kind = lookup.layout.kind(id);
        let tokens = slots.iter().filter_map(|slot| found[*slot]);
        let mut values = tokens.filter_map(|token| read(kind, column.form, token));
        if let Some(value) = values.next() {
            row.put(id, value.borrowed());
        }
    }
    Row::of_bytes(&bytes)
}

/// A document's value in a column; `None` where it has another form, or says nothing.
fn read<'a>(kind: &Kind, form: DocumentForm, token: &'a RawValue) -> Option<Value<Cow<'a, str>>> {
    match (form, kind) {
        (DocumentForm::DayOfMoment, _) => {
            let moment = Moment::parse_utc(json::text(token)?.as_bytes())?;
            Some(Value::Day(moment.day()))
        }
        (DocumentForm::Kind, Kind::Integer { low, high }) => {
            let number = kind::integer(token).filter(|number| (low..=high).contains(&number))?;
            Some(Value::Integer(number))
        }
        (DocumentForm::Kind, _) => json::text(token).map(Value::Text),
    }
}

/// All paths of a spec as one tree, so that a document is passed through once.
#[derive(Debug, Default)]
struct PathTree {
    root: PathNode,
    slots: usize,
}

#[derive(Debug, Default)]
struct PathNode {
    slot: Option<Slot>,
    children: Vec<(Step, PathNode)>,
}

impl PathTree {
    /// The slot of a path, the same for equal paths.
    fn slot(&mut self, path: &Path) -> Slot {
        let mut node = &mut self.root;
        for step in &path.0 {
            let known = node.children.iter().position(|(known, _)| known == step);
            let place = known.unwrap_or_else(|| {
                node.children.push((step.clone(), PathNode::default()));
                node.children.len() - 1
            });
            node = &mut node.children[place].1;
        }
        *node.slot.get_or_insert_with(|| {
            self.slots += 1;
            self.slots - 1
        })
    }
}

impl PathNode {
    /// Puts the tokens that paths lead to into their slots. Depth is bounded by the spec's paths.
    fn find<'a>(&self, token: &'a RawValue, found: &mut [Option<&'a RawValue>]) {
        if let Some(slot) = self.slot {
            // No column takes an object or an array as it is.
            let is_value = |token: &&RawValue| {
                !matches!(token.get(), "null" | "\"\"") && !token.get().starts_with(['{', '['])
            };
            found[slot] = Some(token).filter(is_value);
        }
        if self.children.is_empty() {
            return;
        }
        // Of a key that stands twice the last counts, so nothing is followed before all were seen.
        let mut inner = vec![None; self.children.len()];
        let mut remember = |at: &dyn Fn(&Step) -> bool, token| {
            for (place, (step, _)) in self.children.iter().enumerate() {
                if at(step) {
                    inner[place] = Some(token);
                }
            }
        };
        json::object(token, |key, value| {
            remember(&|step| matches!(step, Step::Name(name) if name == key), value);
        });
        json::array(token, |position, value| {
            remember(&|step| *step == Step::Position(position), value);
        });
        for ((_, child), token) in self.children.iter().zip(inner) {
            if let Some(token) = token {
                child.find(token, found);
            }
        }
    }

    /// Adds the paths below this one, up to their first position.
    fn fields(&self, path: &str, fields: &mut BTreeSet<String>) {
        if self.slot.is_some() {
            fields.insert(path.to_owned());
        }
        for (step, child) in &self.children {
            match step {
                Step::Position(_) => drop(fields.insert(path.to_owned())),
                Step::Name(name) if path.is_empty() => child.fields(name, fields),
                Step::Name(name) => child.fields(&format!("{path}.{name}"), fields),
            }
        }
    }

    /// Appends what was found, where it was found; returns whether anything was.
    fn write(&self, found: &[Option<&RawValue>], out: &mut Vec<u8>) -> bool {
        if let Some(token) = self.slot.and_then(|slot| found[slot]) {
            out.extend_from_slice(token.get().as_bytes());
            return true;
        }
        let inner = self.children.iter().filter_map(|(step, child)| {
            let mut bytes = Vec::new();
            child.write(found, &mut bytes).then_some((step, bytes))
        });
        let (mut names, mut positions) = (Vec::new(), BTreeMap::new());
        for (step, bytes) in inner {
            match step {
                Step::Name(name) => names.push((name, bytes)),
                Step::Position(position) => drop(positions.insert(*position, bytes)),
            }
        }
        // A value is an object or an array: something was found in one of the two at most.
        for (place, (name, bytes)) in names.iter().enumerate() {
            out.push(if place == 0 { b'{' } else { b',' });
            json::write_text(out, name);
            out.push(b':');
            out.extend_from_slice(bytes);
        }
        if !names.is_empty() {
            out.push(b'}');
        }
        let Some((last, _)) = positions.last_key_value() else { return !names.is_empty() };
        for position in 0..=*last {
            out.push(if position == 0 { b'[' } else { b',' });
            out.extend_from_slice(positions.get(&position).map_or(b"null", |bytes| bytes));
        }
        out.push(b']');
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_take_of_the_sources_that_they_name() {
        let text = "name = \"x\"\n[events]\nkey = \"A\"\nshard_key = \"A\"\ntime = \"T\"\n\
                    zone = \"UTC\"\n[events.columns]\nA = { type = \"text\", bytes_max = 9 }\n\
                    T = { type = \"datetime\" }\n\
                    [lookups.two]\nfrom = [\"b\", \"a\"]\nkey = { path = \"K\" }\nmatches = \"A\"\n\
                    columns.B = { type = \"text\", path = \"b\" }\n\
                    [lookups.one]\nfrom = [\"a\"]\nkey = { path = \"K\" }\nmatches = \"A\"\n\
                    columns.C = { type = \"text\", path = \"c[1].d\" }\n\
                    [views.v]\nkind = \"enriched\"\n";
        let spec = Spec::parse(std::path::Path::new("x.toml"), text).expect("it is sound");
        let spec = Arc::new(spec);
        let document = "{\"K\":\"k\",\"b\":\"B\",\"c\":[0,{\"d\":\"D\"}]}";
        let document = RawValue::from_string(document.to_owned()).expect("JSON");
        let claims = |source| {
            let claims = Projector::new(Arc::clone(&spec)).claims(source, "id", &document);
            let claims = claims.expect("it is short").into_iter();
            claims.map(|claim| (claim.lookup.0, claim.document.to_string())).collect::<Vec<_>>()
        };
        let claim = |lookup, document: &str| (lookup, document.to_owned());
        assert_eq!(claims(Some("a")), [claim(0, "01:id"), claim(1, "id")]);
        assert_eq!(claims(Some("b")), [claim(0, "00:id")]);
        assert_eq!(claims(Some("c")), []);
        assert_eq!(claims(None).len(), 2);
        let of = |source| Projector::of_source(Arc::clone(&spec), source);
        let paths = |source| of(source).paths().into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!((paths("a"), paths("b")), ("K b c[1].d".to_owned(), "K b".to_owned()));
        assert_eq!(of("b").pruned(&document), b"{\"K\":\"k\",\"b\":\"B\"}");
        assert!(of("c").takes_nothing() && !of("b").takes_nothing());
    }

    #[test]
    fn a_pruned_document_makes_the_same_claims_and_holds_nothing_else() {
        let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = project.join("dataflows/attendance.toml");
        let projector = Projector::new(Arc::new(Spec::load(&path).expect("it is sound")));
        let people = project.join("data/attendance/people.ndjson");
        let lines = std::fs::read_to_string(people).expect("the sample is there");
        let mut claimed = 0;
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let mut source = line["_source"].clone();
            source["SECRET"] = "nobody asked".into();
            source["PERSONAL"]["SECRET"] = "nobody asked".into();
            let token = RawValue::from_string(source.to_string()).expect("JSON");
            let pruned = String::from_utf8(projector.pruned(&token)).expect("JSON is UTF-8");
            assert!(!pruned.contains("SECRET"));
            let again = RawValue::from_string(pruned).expect("what is pruned is JSON");
            let claims = projector.claims(None, "a", &again);
            claimed += claims.as_ref().map_or(0, Vec::len);
            assert_eq!(claims, projector.claims(None, "a", &token));
        }
        assert!(claimed > 0);
        let nothing = RawValue::from_string("{\"B\":[[],{}]}".to_owned()).expect("JSON");
        assert_eq!(projector.pruned(&nothing), b"{}");
    }
}
