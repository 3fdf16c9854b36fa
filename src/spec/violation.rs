//! Violations: what is wrong in a spec, where, and what was probably meant.
//!
//! Shape: a rule, a line and column, a cause in words, the nearest right name.
//!
//! Invariants: every violation names one rule of the closed set, and each rule has a golden case in
//! `tests/spec`; violations are reported all at once, in the order of the file.
//!
//! Not here: finding them (`spec::read` for the form, `spec::resolve` for the sense).

use std::{collections::HashMap, fmt, ops::Range, path::PathBuf};

/// What a spec must keep to; the name is stable and printed with the violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The file is TOML.
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
    /// A name stands for one thing.
    NameTaken,
    /// A range is `LOW..HIGH` of its type.
    BadRange,
    /// A path is `NAME.NAME[0].NAME`.
    BadPath,
    /// The zone is known and keeps one offset.
    BadZone,
    /// A named column is declared.
    UnknownColumn,
    /// Keys and orders consist of event columns.
    LookedUpColumn,
    /// A column is of the type that its role needs.
    WrongKind,
    /// A column that every event must have is not optional.
    OptionalColumn,
    /// A value in a condition can occur in its column.
    WrongValue,
    /// A named view is declared and of the right kind.
    UnknownView,
    /// A view's key contains the shard key.
    KeyWithoutShard,
    /// A view's order tells any two events apart.
    OrderNotTotal,
    /// Counts by looked-up columns need corrections.
    NeedsCorrections,
    /// There is something to do.
    Empty,
}

impl Rule {
    /// Every rule, so that tests can show that each has a case.
    pub const ALL: [Rule; 21] = [
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
            writeln!(f, "{path}:{line}:{column}: {cause} [{}]", rule.name())?;
            if let Some(hint) = hint {
                writeln!(f, "    {hint}")?;
            }
        }
        match self.found.len() {
            1 => write!(f, "{path}: 1 violation"),
            n => write!(f, "{path}: {n} violations"),
        }
    }
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

    /// Line and column of a byte.
    pub(super) fn at_byte(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..byte.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Line and column of a value; of what encloses it where it is not written itself.
    pub(super) fn of_value(&self, pointer: &str) -> (usize, usize) {
        self.locate(&self.values, pointer)
    }

    /// Line and column of a key; of what encloses it where it is not written itself.
    pub(super) fn of_key(&self, pointer: &str) -> (usize, usize) {
        self.locate(&self.keys, pointer)
    }

    fn locate(&self, spans: &HashMap<String, Range<usize>>, pointer: &str) -> (usize, usize) {
        let mut pointer = pointer;
        loop {
            // A table's own span begins where its content does; its key is what a reader looks for.
            if let Some(span) = spans.get(pointer).or_else(|| self.keys.get(pointer)) {
                return self.at_byte(span.start);
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return (1, 1),
            }
        }
    }
}

/// Collects violations by the pointer of what they are about.
pub(super) struct Findings<'p> {
    places: &'p Places,
    found: Vec<Violation>,
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
        self.push(self.places.of_value(pointer), rule, cause, hint);
    }

    pub(super) fn at_key(
        &mut self,
        pointer: &str,
        rule: Rule,
        cause: String,
        hint: Option<String>,
    ) {
        self.push(self.places.of_key(pointer), rule, cause, hint);
    }

    fn push(&mut self, at: (usize, usize), rule: Rule, cause: String, hint: Option<String>) {
        let violation = Violation { line: at.0, column: at.1, rule, cause, hint };
        if !self.found.contains(&violation) {
            self.found.push(violation);
        }
    }

    pub(super) fn finish(mut self) -> Vec<Violation> {
        self.found.sort_by_key(|violation| (violation.line, violation.column));
        self.found
    }
}

/// `did you mean "x"?` for the nearest of some names, where one is near.
pub(super) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let folded = name.to_lowercase();
    names
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("did you mean \"{candidate}\"?"))
}

/// Likeness from which a name is worth proposing; below it proposals are guesses (tried on swapped,
/// missing and doubled letters in the names of `attendance.toml`).
const NEAR: f64 = 0.75;
