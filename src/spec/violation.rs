//! Violations: what is wrong in a spec, where, and what was probably meant.
//!
//! Shape: a rule, a line and column, a cause in words, the nearest right name.
//!
//! Invariants: every violation names one rule of the closed set, and each rule has a golden case in
//! `tests/spec`; violations are reported all at once, in the order of the file.
//!
//! Not here: finding them (`spec::read` for the form, `spec::resolve` for the sense).

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
    path::PathBuf,
};

/// What a spec must keep to; the name is stable and printed with the violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The file is TOML, in UTF-8.
    Toml,
    /// Every key is one that the place knows.
    UnknownKey,
    /// Every required key is there.
    MissingKey,
    /// Every value is of its type.
    WrongType,
    /// A choice is one of the list.
    UnknownChoice,
    /// Numbers and lists keep their bounds.
    OutOfBounds,
    /// Names are written as files, topics and columns can bear them.
    BadName,
    /// A name stands for one thing, and once in a list.
    NameTaken,
    /// A range is `LOW..HIGH` of its type, and can be met.
    BadRange,
    /// A path is `NAME.NAME[0].NAME`, and once in a list.
    BadPath,
    /// The zone is known and keeps one offset.
    BadZone,
    /// A named column is declared.
    UnknownColumn,
    /// Keys, orders, matches and conditions of lookups consist of event columns.
    LookedUpColumn,
    /// A column is of the type that its role needs.
    WrongKind,
    /// A column that every event must have is not optional.
    OptionalColumn,
    /// A value in a condition can occur in its column, and stands there once.
    WrongValue,
    /// A named view is declared and of the right kind.
    UnknownView,
    /// A view's key contains the shard key.
    KeyWithoutShard,
    /// A view's order tells any two events apart.
    OrderNotTotal,
    /// With a horizon, a view's order begins with the time.
    OrderNotByTime,
    /// Counts by looked-up columns need corrections.
    NeedsCorrections,
    /// There is something to do: a view, a column, a number.
    Empty,
}

impl Rule {
    /// Every rule, so that tests can show that each has a case.
    pub const ALL: [Rule; 22] = [
        Rule::Toml,
        Rule::UnknownKey,
        Rule::MissingKey,
        Rule::WrongType,
        Rule::UnknownChoice,
        Rule::OutOfBounds,
        Rule::BadName,
        Rule::NameTaken,
        Rule::BadRange,
        Rule::BadPath,
        Rule::BadZone,
        Rule::UnknownColumn,
        Rule::LookedUpColumn,
        Rule::WrongKind,
        Rule::OptionalColumn,
        Rule::WrongValue,
        Rule::UnknownView,
        Rule::KeyWithoutShard,
        Rule::OrderNotTotal,
        Rule::OrderNotByTime,
        Rule::NeedsCorrections,
        Rule::Empty,
    ];

    /// The name that is printed.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Toml => "toml",
            Rule::UnknownKey => "unknown-key",
            Rule::MissingKey => "missing-key",
            Rule::WrongType => "wrong-type",
            Rule::UnknownChoice => "unknown-choice",
            Rule::OutOfBounds => "out-of-bounds",
            Rule::BadName => "bad-name",
            Rule::NameTaken => "name-taken",
            Rule::BadRange => "bad-range",
            Rule::BadPath => "bad-path",
            Rule::BadZone => "bad-zone",
            Rule::UnknownColumn => "unknown-column",
            Rule::LookedUpColumn => "looked-up-column",
            Rule::WrongKind => "wrong-kind",
            Rule::OptionalColumn => "optional-column",
            Rule::WrongValue => "wrong-value",
            Rule::UnknownView => "unknown-view",
            Rule::KeyWithoutShard => "key-without-shard",
            Rule::OrderNotTotal => "order-not-total",
            Rule::OrderNotByTime => "order-not-by-time",
            Rule::NeedsCorrections => "needs-corrections",
            Rule::Empty => "empty",
        }
    }
}

/// One thing that is wrong in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The rule that is broken.
    pub rule: Rule,
    /// What is wrong, in words.
    pub cause: String,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

/// Everything that is wrong in one spec.
#[derive(Debug, thiserror::Error)]
pub struct Violations {
    /// The file, as it was named.
    pub path: PathBuf,
    /// At least one, in the order of the file.
    pub found: Vec<Violation>,
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for Violation { line, column, rule, cause, hint } in &self.found {
            writeln!(f, "{path}:{line}:{column}: {} [{}]", plain(cause), rule.name())?;
            if let Some(hint) = hint {
                writeln!(f, "    {}", plain(hint))?;
            }
        }
        match self.found.len() {
            1 => write!(f, "{path}: 1 violation"),
            n => write!(f, "{path}: {n} violations"),
        }
    }
}

/// Text without what a terminal would take for a command.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Where each key and value of a spec stands in its text, by JSON pointer.
#[derive(Debug, Default)]
pub(super) struct Places {
    text: String,
    keys: HashMap<String, Range<usize>>,
    values: HashMap<String, Range<usize>>,
}

impl Places {
    pub(super) fn new(text: &str) -> Places {
        Places { text: text.to_owned(), ..Places::default() }
    }

    pub(super) fn key(&mut self, pointer: &str, span: Range<usize>) {
        self.keys.insert(pointer.to_owned(), span);
    }

    pub(super) fn value(&mut self, pointer: &str, span: Range<usize>) {
        self.values.insert(pointer.to_owned(), span);
    }

    /// Whether a key stands there, rather than an element of a list.
    pub(super) fn is_key(&self, pointer: &str) -> bool {
        self.keys.contains_key(pointer)
    }

    /// Where something stands; where it is not written itself, what encloses it. A table's own span
    /// begins where its content does; its key is what a reader looks for.
    fn locate(&self, spans: &HashMap<String, Range<usize>>, pointer: &str) -> usize {
        let mut pointer = pointer;
        loop {
            if let Some(span) = spans.get(pointer).or_else(|| self.keys.get(pointer)) {
                return span.start;
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return 0,
            }
        }
    }
}

/// The pointer of what stands under a name.
pub(super) fn pointer_to(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Collects violations by the pointer of what they are about.
pub(super) struct Findings<'p> {
    pub(super) places: &'p Places,
    /// By byte of the text: lines are counted once, at the end.
    found: Vec<(usize, Violation)>,
}

impl<'p> Findings<'p> {
    pub(super) fn new(places: &'p Places) -> Findings<'p> {
        Findings { places, found: Vec::new() }
    }

    pub(super) fn at_value(
        &mut self,
        pointer: &str,
        rule: Rule,
        cause: String,
        hint: Option<String>,
    ) {
        self.at_byte(self.places.locate(&self.places.values, pointer), rule, cause, hint);
    }

    pub(super) fn at_key(
        &mut self,
        pointer: &str,
        rule: Rule,
        cause: String,
        hint: Option<String>,
    ) {
        self.at_byte(self.places.locate(&self.places.keys, pointer), rule, cause, hint);
    }

    pub(super) fn at_byte(&mut self, byte: usize, rule: Rule, cause: String, hint: Option<String>) {
        self.found.push((byte, Violation { line: 0, column: 0, rule, cause, hint }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The violations in the order of the file, each once, with lines and columns.
    pub(super) fn finish(mut self) -> Vec<Violation> {
        self.found.sort_by_key(|(byte, _)| *byte);
        let mut known = HashSet::new();
        self.found.retain(|(byte, violation)| known.insert((*byte, violation.cause.clone())));
        let text = &self.places.text;
        // The mark at the beginning of a file is no character that a reader sees.
        let mut passed = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let (mut line, mut column) = (1, 1);
        for (byte, violation) in &mut self.found {
            let byte = text.floor_char_boundary(*byte).max(passed);
            for character in text[passed..byte].chars() {
                (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            passed = byte;
            (violation.line, violation.column) = (line, column);
        }
        self.found.into_iter().map(|(_, violation)| violation).collect()
    }
}

/// `did you mean "x"?` for the nearest of some names, where one is near.
pub(super) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    nearest_name(name, names).map(|candidate| format!("did you mean \"{candidate}\"?"))
}

/// The nearest of some names, where one is near.
pub(super) fn nearest_name<'n>(
    name: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let folded = name.to_lowercase();
    names
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Likeness from which a name is worth proposing; below it proposals are guesses (tried on swapped,
/// missing and doubled letters in the names of `attendance.toml`).
const NEAR: f64 = 0.75;
