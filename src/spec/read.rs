//! Reading a spec: from text to the types of `spec::file`, or everything that is wrong with its
//! form.
//!
//! Shape: TOML text in; `SpecFile` and the places of its parts out.
//!
//! Invariants: the form is judged by the JSON Schema that editors get, so what an editor accepts is
//! read here, and what it refuses is refused here, all of it at once.
//!
//! Not here: whether names are declared and values make sense (`spec::resolve`).

use std::{collections::HashSet, sync::LazyLock};

use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::{Map, Value, json};
use toml::{Spanned, de::DeTable, de::DeValue};

use super::{
    file::SpecFile,
    violation::{Findings, Places, Rule, Violation, nearest, nearest_name, pointer_to},
};

/// Longest spec in bytes: the most columns, lookups and views that are possible, at length, are a
/// tenth of it; what is longer is not a spec, and would only take long to refuse.
pub(super) const SPEC_BYTES_MAX: usize = 4 << 20;

/// The JSON Schema of a spec, for editors.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(SpecFile);
    schema.insert("title".to_owned(), json!("Tributary dataflow"));
    schema.to_value()
}

/// The schema, and what judges by it: compiling it takes longer than most specs.
static SCHEMA: LazyLock<(Value, Validator)> = LazyLock::new(|| {
    let schema = json_schema();
    let validator = jsonschema::validator_for(&schema).expect("the generated schema is a schema");
    (schema, validator)
});

/// A spec whose form could be read.
pub(super) struct Read {
    pub(super) file: SpecFile,
    pub(super) places: Places,
    /// What is wrong with its form all the same; the file stands without it.
    pub(super) found: Vec<Violation>,
}

/// Options on which nothing else in a spec depends, so that the rest can be judged without them.
const ON_THEIR_OWN: [&str; 3] = ["/shards", "/events/bytes_max", "/events/depth_max"];

/// Reads a spec's form.
pub(super) fn read(text: &str) -> Result<Read, Vec<Violation>> {
    let places = Places::new(text);
    if text.len() > SPEC_BYTES_MAX {
        return Err(too_long());
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut findings = Findings::new(&places);
        for error in &errors {
            let span = error.span().unwrap_or_default();
            let message = match error.message() {
                "duplicate key" => {
                    format!("duplicate key {}", text.get(span.clone()).unwrap_or_default())
                }
                message => message.replace('\n', ", "),
            };
            findings.at_byte(span.start, Rule::Toml, format!("not TOML: {message}"), None);
        }
        return Err(findings.finish());
    }
    let mut reader = Reader { text, places, too_large: Vec::new() };
    let mut value = reader.table(table.get_ref(), "");
    let Reader { places, too_large, .. } = reader;
    let (found, unknown) = Form::new(&places, too_large).violations(&value);
    if found.is_empty() {
        let file = serde_json::from_value(value);
        let file = file.expect("what the schema accepts, the types accept");
        return Ok(Read { file, places, found });
    }
    // What is wrong here hides no more than it must: the sense of the rest is judged too.
    let Some(unknown) = unknown else { return Err(found) };
    let on_their_own = ON_THEIR_OWN.into_iter();
    let removed = unknown.iter().map(String::as_str).chain(on_their_own);
    removed.for_each(|pointer| remove(&mut value, pointer));
    match serde_json::from_value(value) {
        Ok(file) => Ok(Read { file, places, found }),
        Err(_) => Err(found),
    }
}

/// Removes what stands at a pointer.
fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    if let Some(table) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        table.remove(&name);
    }
}

fn too_long() -> Vec<Violation> {
    let cause = format!("the file is longer than {SPEC_BYTES_MAX} bytes, and no spec is");
    refused(&Places::new(""), 0, Rule::OutOfBounds, cause)
}

/// A file that is no text.
pub(super) fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> Vec<Violation> {
    if bytes.len() > SPEC_BYTES_MAX {
        return too_long();
    }
    let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let cause = "not TOML: no UTF-8 from here on".to_owned();
    refused(&Places::new(&valid), valid.len(), Rule::Toml, cause)
}

fn refused(places: &Places, byte: usize, rule: Rule, cause: String) -> Vec<Violation> {
    let mut findings = Findings::new(places);
    findings.at_byte(byte, rule, cause, None);
    findings.finish()
}

/// Makes JSON of TOML; remembers where each part of it stands.
struct Reader<'t> {
    text: &'t str,
    places: Places,
    /// Pointers of the integers that do not fit 64 bits.
    too_large: Vec<String>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, pointer: &str) -> Value {
        let mut object = Map::new();
        for (key, value) in table {
            let inner = pointer_to(pointer, key.get_ref());
            self.places.key(&inner, key.span());
            object.insert(key.get_ref().to_string(), self.value(value, &inner));
        }
        Value::Object(object)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, pointer: &str) -> Value {
        if !value.get_ref().is_table() {
            self.places.value(pointer, value.span());
        }
        match value.get_ref() {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(number) => {
                let read = i64::from_str_radix(number.as_str(), number.radix());
                read.map_or_else(
                    |_| {
                        self.too_large.push(pointer.to_owned());
                        Value::Null
                    },
                    Value::from,
                )
            }
            // No option is a float. JSON Schema would take 64.0 for an integer, which TOML does
            // not; what no option can be, null, stands in for it.
            DeValue::Float(_) => Value::Null,
            DeValue::Boolean(yes) => Value::from(*yes),
            // A date without quotes says what it says with them.
            DeValue::Datetime(_) => Value::from(&self.text[value.span()]),
            DeValue::Array(elements) => elements
                .iter()
                .enumerate()
                .map(|(place, element)| self.value(element, &format!("{pointer}/{place}")))
                .collect(),
            DeValue::Table(table) => self.table(table, pointer),
        }
    }
}

/// Judges a spec's form: what the schema has against a value, in words and with places.
struct Form<'p> {
    schema: &'static Value,
    too_large: HashSet<String>,
    /// Pointers of keys that are not known.
    unknown: Vec<String>,
    /// Whether one of them was probably meant to say something on which other parts depend.
    hides: bool,
    findings: Findings<'p>,
}

impl Form<'_> {
    fn new(places: &Places, too_large: Vec<String>) -> Form<'_> {
        let too_large = too_large.into_iter().collect();
        let (schema, findings) = (&SCHEMA.0, Findings::new(places));
        Form { schema, too_large, unknown: Vec::new(), hides: false, findings }
    }

    /// What is wrong, and the pointers of keys without which the rest says what it was meant to;
    /// `None` where it does not.
    fn violations(mut self, value: &Value) -> (Vec<Violation>, Option<Vec<String>>) {
        for at in &self.too_large {
            let cause = format!("{} is an integer beyond 64 bits", self.name(at));
            let hint = at.contains("/in/").then(|| "write it as text, in quotes".to_owned());
            self.findings.at_value(at, Rule::OutOfBounds, cause, hint);
        }
        for error in SCHEMA.1.iter_errors(value) {
            self.report(&error);
        }
        let unknown = (!self.hides).then_some(self.unknown);
        (self.findings.finish(), unknown)
    }

    fn report(&mut self, error: &ValidationError<'_>) {
        let at = error.instance_path().to_string();
        if self.too_large.contains(&at) {
            return;
        }
        let name = self.name(&at);
        match error.kind() {
            Kind::AdditionalProperties { unexpected, .. } => {
                let names = self.properties_beside(error);
                for key in unexpected {
                    let cause = format!("key \"{key}\" is not known in {name}");
                    let hint = nearest(key, names.iter().map(String::as_str))
                        .or_else(|| Some(format!("known here: {}", names.join(", "))));
                    let pointer = pointer_to(&at, key);
                    let meant = nearest_name(key, names.iter().map(String::as_str));
                    self.hides |= meant.is_some_and(|meant| {
                        !ON_THEIR_OWN.contains(&pointer_to(&at, meant).as_str())
                    });
                    self.findings.at_key(&pointer, Rule::UnknownKey, cause, hint);
                    self.unknown.push(pointer);
                }
            }
            Kind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                let cause = format!("{name} lacks the key \"{property}\"");
                self.findings.at_key(&at, Rule::MissingKey, cause, None);
            }
            Kind::Type { kind } => {
                let cause = format!("{name} must be {}", type_words(kind));
                self.findings.at_value(&at, Rule::WrongType, cause, None);
            }
            Kind::OneOfNotValid { context } => self.report_choice(error, context),
            Kind::AnyOf { context } => self.report_union(&at, context),
            _ => self.report_bounds(error, &at, &name),
        }
    }

    fn report_bounds(&mut self, error: &ValidationError<'_>, at: &str, name: &str) {
        let cause = match error.kind() {
            Kind::Minimum { limit } => format!("{name} must be at least {limit}"),
            Kind::Maximum { limit } => format!("{name} must be at most {limit}"),
            Kind::MinItems { .. } => format!("{name} must not be empty"),
            Kind::MaxItems { limit } => format!("{name} must have at most {limit} elements"),
            _ => format!("{name} is out of its bounds"),
        };
        self.findings.at_value(at, Rule::OutOfBounds, cause, None);
    }

    /// One of several words, or a table whose `type` or `kind` is one of several words and says
    /// which keys it has: then the errors are those of the table that it says it is.
    fn report_choice(
        &mut self,
        error: &ValidationError<'_>,
        context: &[Vec<ValidationError<'static>>],
    ) {
        let at = error.instance_path().to_string();
        let Choices { tag, words } = Choices::of(self.schema, error);
        let (Some(tag), Some(table)) = (&tag, error.instance().as_object()) else {
            return match (tag, error.instance().as_str()) {
                (None, Some(word)) => self.report_unknown_choice(&at, word, &words),
                (tag, _) => {
                    let wanted = if tag.is_some() { "a table" } else { "text" };
                    let cause = format!("{} must be {wanted}", self.name(&at));
                    self.findings.at_value(&at, Rule::WrongType, cause, None);
                }
            };
        };
        let tag_at = format!("{at}/{tag}");
        match table.get(tag) {
            None => {
                let cause = format!("{} lacks the key \"{tag}\"", self.name(&at));
                let hint = Some(format!("one of: {}", words.join(", ")));
                self.findings.at_key(&at, Rule::MissingKey, cause, hint);
            }
            Some(Value::String(word)) => match words.iter().position(|known| known == word) {
                Some(branch) => context[branch].iter().for_each(|inner| self.report(inner)),
                None => self.report_unknown_choice(&tag_at, word, &words),
            },
            Some(_) if self.too_large.contains(&tag_at) => {}
            Some(_) => {
                let cause = format!("{tag} must be text");
                self.findings.at_value(&tag_at, Rule::WrongType, cause, None);
            }
        }
    }

    fn report_unknown_choice(&mut self, at: &str, word: &str, choices: &[String]) {
        let cause = format!("\"{word}\" is no {}", self.name(at));
        let hint = nearest(word, choices.iter().map(String::as_str))
            .or_else(|| Some(format!("one of: {}", choices.join(", "))));
        self.findings.at_value(at, Rule::UnknownChoice, cause, hint);
    }

    /// A value that may have one of several types: the errors within the type that it has.
    fn report_union(&mut self, at: &str, context: &[Vec<ValidationError<'static>>]) {
        let of_other_type = |e: &ValidationError<'_>| {
            matches!(e.kind(), Kind::Type { .. }) && e.instance_path().to_string() == at
        };
        match context.iter().find(|errors| !errors.iter().any(of_other_type)) {
            Some(errors) => errors.iter().for_each(|inner| self.report(inner)),
            None => {
                let types: Vec<String> = context.iter().flatten().filter_map(type_of).collect();
                let cause = format!("{} must be {}", self.name(at), types.join(" or "));
                self.findings.at_value(at, Rule::WrongType, cause, None);
            }
        }
    }

    /// The keys that the schema knows where an unknown one was found.
    fn properties_beside(&self, error: &ValidationError<'_>) -> Vec<String> {
        let path = error.schema_path().to_string();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let resolved = self.schema.pointer(parent).and_then(|s| s.get("properties"));
        resolved
            .and_then(Value::as_object)
            .map(|properties| properties.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The part of a pointer that a reader looks for: `the spec`, a key, or `element 2 of key`.
    fn name(&self, pointer: &str) -> String {
        let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
        match pointer.rsplit_once('/') {
            None => "the spec".to_owned(),
            Some((_, "")) => "\"\"".to_owned(),
            Some((_, name)) if self.findings.places.is_key(pointer) => unescape(name),
            Some((list, place)) => format!("element {place} of {}", self.name(list)),
        }
    }
}

/// Among what a schema lets choose: words, or tables told apart by the word under a tag.
struct Choices {
    tag: Option<String>,
    /// By branch of the schema.
    words: Vec<String>,
}

impl Choices {
    fn of(schema: &Value, error: &ValidationError<'_>) -> Choices {
        let branches = schema.pointer(&error.schema_path().to_string()).and_then(Value::as_array);
        let mut choices = Choices { tag: None, words: Vec::new() };
        for branch in branches.into_iter().flatten() {
            let tagged = branch["properties"].as_object().into_iter().flatten();
            let mut tagged = tagged.filter_map(|(tag, of)| Some((tag, of["const"].as_str()?)));
            let word = match tagged.next() {
                Some((tag, word)) => {
                    choices.tag = Some(tag.clone());
                    Some(word)
                }
                None => branch["const"].as_str(),
            };
            choices.words.push(word.unwrap_or_default().to_owned());
        }
        choices
    }
}

fn type_of(error: &ValidationError<'static>) -> Option<String> {
    match error.kind() {
        Kind::Type { kind } => Some(type_words(kind)),
        _ => None,
    }
}

fn type_words(kind: &TypeKind) -> String {
    let word = |json_type: jsonschema::JsonType| match json_type {
        jsonschema::JsonType::Integer | jsonschema::JsonType::Number => "an integer",
        jsonschema::JsonType::String => "text",
        jsonschema::JsonType::Array => "a list",
        jsonschema::JsonType::Object => "a table",
        jsonschema::JsonType::Boolean => "true or false",
        jsonschema::JsonType::Null => "absent",
    };
    match kind {
        TypeKind::Single(one) => word(*one).to_owned(),
        TypeKind::Multiple(several) => {
            let types = several.iter().filter(|t| *t != jsonschema::JsonType::Null);
            types.map(word).collect::<Vec<_>>().join(" or ")
        }
    }
}
