//! Reading a spec: from text to the types of `spec::file`, or everything that is wrong with its form.
//!
//! Shape: TOML text in; `SpecFile` and the places of its parts out.
//!
//! Invariants: the form is judged by the JSON Schema that editors get, so what an editor accepts is
//! read here, and what it refuses is refused here, all of it at once.
//!
//! Not here: whether names are declared and values make sense (`spec::resolve`).

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::{Map, Value, json};
use toml::{Spanned, de::DeTable, de::DeValue};

use super::{
    file::SpecFile,
    violation::{Findings, Places, Rule, Violation, nearest},
};

/// The JSON Schema of a spec, for editors.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(SpecFile);
    schema.insert("title".to_owned(), json!("Tributary dataflow"));
    schema.to_value()
}

/// Reads a spec's form.
pub(super) fn read(text: &str) -> Result<(SpecFile, Places), Vec<Violation>> {
    let mut places = Places::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| not_toml(error, &places)).collect());
    }
    let value = table_value(table.get_ref(), "", &mut places);
    let found = violations_of_form(&value, &places);
    if !found.is_empty() {
        return Err(found);
    }
    let file = serde_json::from_value(value).expect("what the schema accepts, the types accept");
    Ok((file, places))
}

fn not_toml(error: &toml::de::Error, places: &Places) -> Violation {
    let (line, column) = places.at_byte(error.span().map_or(0, |span| span.start));
    let cause = format!("not TOML: {}", error.message());
    Violation { line, column, rule: Rule::Toml, cause, hint: None }
}

/// A table as JSON; remembers where each part of it stands.
fn table_value(table: &DeTable<'_>, pointer: &str, places: &mut Places) -> Value {
    let mut object = Map::new();
    for (key, value) in table {
        let inner = format!("{pointer}/{}", key.get_ref().replace('~', "~0").replace('/', "~1"));
        places.key(&inner, key.span());
        object.insert(key.get_ref().to_string(), value_value(value, &inner, places));
    }
    Value::Object(object)
}

fn value_value(value: &Spanned<DeValue<'_>>, pointer: &str, places: &mut Places) -> Value {
    if !value.get_ref().is_table() {
        places.value(pointer, value.span());
    }
    match value.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        // Beyond 64 bits TOML has no integers; as text it is read by the few that take it, and
        // refused with its type by all others.
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(read) => i64::try_from(read).map_or_else(|_| read.to_string().into(), Value::from),
            Err(_) => Value::from(number.as_str()),
        },
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(elements) => elements
            .iter()
            .enumerate()
            .map(|(place, element)| value_value(element, &format!("{pointer}/{place}"), places))
            .collect(),
        DeValue::Table(table) => table_value(table, pointer, places),
    }
}

/// What the schema has against a value, in words and with places.
fn violations_of_form(value: &Value, places: &Places) -> Vec<Violation> {
    let validator =
        jsonschema::validator_for(&json_schema()).expect("the generated schema is a schema");
    let mut findings = Findings::new(places);
    for error in validator.iter_errors(value) {
        report(&error, &mut findings);
    }
    findings.finish()
}

fn report(error: &ValidationError<'_>, findings: &mut Findings<'_>) {
    let at = error.instance_path().to_string();
    let name = last_name(&at);
    match error.kind() {
        Kind::AdditionalProperties { unexpected, .. } => {
            for key in unexpected {
                let names = properties_beside(error);
                let cause = format!("key \"{key}\" is not known in {name}");
                let hint = nearest(key, names.iter().map(String::as_str))
                    .or_else(|| Some(format!("known here: {}", names.join(", "))));
                let key = key.replace('~', "~0").replace('/', "~1");
                findings.at_key(&format!("{at}/{key}"), Rule::UnknownKey, cause, hint);
            }
        }
        Kind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            let cause = format!("{name} lacks the key \"{property}\"");
            findings.at_key(&at, Rule::MissingKey, cause, None);
        }
        Kind::Type { kind } => {
            let cause = format!("{name} must be {}", type_words(kind));
            findings.at_value(&at, Rule::WrongType, cause, None);
        }
        Kind::OneOfNotValid { context } => report_choice(error, context, findings),
        Kind::AnyOf { context } => report_union(error, context, findings),
        _ => report_bounds(error, &at, &name, findings),
    }
}

fn report_bounds(error: &ValidationError<'_>, at: &str, name: &str, findings: &mut Findings<'_>) {
    let cause = match error.kind() {
        Kind::Minimum { limit } => format!("{name} must be at least {limit}"),
        Kind::Maximum { limit } => format!("{name} must be at most {limit}"),
        Kind::MinItems { .. } => format!("{name} must not be empty"),
        _ => format!("{name} is out of its bounds"),
    };
    findings.at_value(at, Rule::OutOfBounds, cause, None);
}

/// One of several words, or a table whose `type` or `kind` is one of several words and says which
/// keys it has: then the errors are those of the table that it says it is.
fn report_choice(
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    findings: &mut Findings<'_>,
) {
    let at = error.instance_path().to_string();
    let Choices { tag, words } = Choices::of(error);
    let (Some(tag), Some(table)) = (&tag, error.instance().as_object()) else {
        return match (tag, error.instance().as_str()) {
            (None, Some(word)) => report_unknown_choice(&at, word, &words, findings),
            (tag, _) => {
                let wanted = if tag.is_some() { "a table" } else { "text" };
                let cause = format!("{} must be {wanted}", last_name(&at));
                findings.at_value(&at, Rule::WrongType, cause, None);
            }
        };
    };
    let tag_at = format!("{at}/{tag}");
    match table.get(tag) {
        None => {
            let cause = format!("{} lacks the key \"{tag}\"", last_name(&at));
            let hint = Some(format!("one of: {}", words.join(", ")));
            findings.at_key(&at, Rule::MissingKey, cause, hint);
        }
        Some(Value::String(word)) => match words.iter().position(|known| known == word) {
            Some(branch) => context[branch].iter().for_each(|inner| report(inner, findings)),
            None => report_unknown_choice(&tag_at, word, &words, findings),
        },
        Some(_) => {
            findings.at_value(&tag_at, Rule::WrongType, format!("{tag} must be text"), None);
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
    fn of(error: &ValidationError<'_>) -> Choices {
        let schema = json_schema();
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

fn report_unknown_choice(at: &str, word: &str, choices: &[String], findings: &mut Findings<'_>) {
    let cause = format!("\"{word}\" is no {}", last_name(at));
    let hint = nearest(word, choices.iter().map(String::as_str))
        .or_else(|| Some(format!("one of: {}", choices.join(", "))));
    findings.at_value(at, Rule::UnknownChoice, cause, hint);
}

/// A value that may have one of several types: the errors within the type that it has.
fn report_union(
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    findings: &mut Findings<'_>,
) {
    let at = error.instance_path().to_string();
    let of_other_type = |e: &ValidationError<'_>| {
        matches!(e.kind(), Kind::Type { .. }) && e.instance_path().to_string() == at
    };
    match context.iter().find(|errors| !errors.iter().any(of_other_type)) {
        Some(errors) => errors.iter().for_each(|inner| report(inner, findings)),
        None => {
            let types: Vec<String> = context.iter().flatten().filter_map(type_of).collect();
            let cause = format!("{} must be {}", last_name(&at), types.join(" or "));
            findings.at_value(&at, Rule::WrongType, cause, None);
        }
    }
}

/// The keys that the schema knows where an unknown one was found.
fn properties_beside(error: &ValidationError<'_>) -> Vec<String> {
    let schema = json_schema();
    let path = error.schema_path().to_string();
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let resolved = schema.pointer(parent).and_then(|s| s.get("properties"));
    resolved
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
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

/// The part of a pointer that a reader looks for: `the spec`, a key, or `element 2 of key`.
fn last_name(pointer: &str) -> String {
    let mut parts = pointer.rsplit('/');
    let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
    match (parts.next(), parts.next()) {
        (Some(place), Some(list)) if place.parse::<usize>().is_ok() => {
            format!("element {place} of {}", unescape(list))
        }
        (Some(""), _) | (None, _) => "the spec".to_owned(),
        (Some(name), _) => unescape(name),
    }
}
