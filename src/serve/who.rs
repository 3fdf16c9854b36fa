//! Who acts: the person in whose name a request comes.
//!
//! Shape: the header `Tributary-Person: student:219`, `teacher:104` or `deanery:101` in; a person
//! out. An employee without a number in the deanery is `teacher:`.
//!
//! Not here: whether that is true. In a demonstration one is whom one says.

use axum::http::{HeaderMap, StatusCode};

use super::problem::Problem;
use crate::journal::{Journals, rules::Person};

/// The header.
pub const PERSON: &str = "tributary-person";

/// Who acts, where anybody does.
pub fn who(headers: &HeaderMap, journals: &Journals) -> Result<Option<Person>, Problem> {
    let Some(value) = headers.get(PERSON) else { return Ok(None) };
    let person = value.to_str().ok().and_then(read).ok_or_else(|| {
        let detail = "Tributary-Person is student:NUMBER, teacher:NUMBER or deanery:NUMBER";
        Problem::bad_request(detail)
    })?;
    match person {
        Person::Deanery(Some(number)) if !journals.is_deanery(number) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "Вы не сотрудник деканата"))
        }
        person => Ok(Some(person)),
    }
}

fn read(text: &str) -> Option<Person> {
    let (kind, number) = text.split_once(':')?;
    let number = match number {
        "" => None,
        number => Some(number.parse::<u32>().ok()?),
    };
    match kind {
        "student" => number.map(Person::Student),
        "teacher" => Some(Person::Teacher(number)),
        "deanery" => Some(Person::Deanery(number)),
        _ => None,
    }
}
