//! Who acts: the person in whose name a request comes.
//!
//! Shape: a visitor, and where that one may say in whose name it acts, the header
//! `Tributary-Person: student:219`, `teacher:104` or `deanery:101`, in; a person out. An employee
//! without a number in the deanery is `teacher:`.
//!
//! Not here: who may say so (`door`).

use axum::http::{HeaderMap, StatusCode};

use super::{door::Visitor, problem::Problem};
use crate::journal::{Journals, rules::Person};

/// The header.
const PERSON: &str = "tributary-person";

/// Who acts, where anybody does.
pub fn who(
    visitor: Visitor,
    headers: &HeaderMap,
    journals: &Journals,
) -> Result<Option<Person>, Problem> {
    let person = match (visitor, headers.get(PERSON)) {
        (Visitor::Person(person), _) => person,
        (Visitor::Anyone | Visitor::Program, Some(value)) => {
            value.to_str().ok().and_then(read).ok_or_else(|| {
                let detail = "Tributary-Person is student:NUMBER, teacher:NUMBER or deanery:NUMBER";
                Problem::bad_request(detail)
            })?
        }
        _ => return Ok(None),
    };
    match person {
        // Who has logged in, or a program, is believed.
        Person::Deanery(Some(number))
            if visitor == Visitor::Anyone && !journals.is_deanery(number) =>
        {
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
