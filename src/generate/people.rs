//! People: the reference documents of students and teachers.
//!
//! Shape: dice and numbers in, the `_source` of a document out.
//!
//! Invariants: every document is an object with an object `PERSONAL`, so that none is refused. A
//! few hold what a column must not take, births that make no age, or lack a part.
//!
//! Not here: who has a document (`university`), what happens to it later (`changes`).

use jiff::ToSpan;
use jiff::civil::{Date, date};
use serde_json::{Map, Value, json};

use super::dice::Dice;
use super::names::{
    FACULTIES, FIRST_FEMALE, FIRST_MALE, JOBS, LAST, MIDDLE_FEMALE, MIDDLE_MALE, QUALIFICATIONS,
    SPECIALIZATIONS,
};

/// The document of a student: number `number` in the group named `group`; a share of them is `odd`.
pub(super) fn student(dice: &mut Dice, number: u32, group: &str, odd: f64) -> Value {
    let mut education = education(dice, group);
    let mut personal = named(dice);
    personal.insert("type".to_owned(), json!("student"));
    personal.insert("BITRIX_USER_ID".to_owned(), json!(number.to_string()));
    personal.insert("birthdate".to_owned(), birthdate(dice, 1998, 2008));
    if dice.chance(odd) {
        spoil(dice, &mut personal, &mut education);
    }
    let odd = dice.unit();
    if odd < 0.005 {
        json!({"PERSONAL": personal, "EDUCATION": []})
    } else if odd < 0.01 {
        json!({"PERSONAL": personal})
    } else if odd < 0.015 {
        let second = json!({"department": {"short_title": "ВТОРАЯ-1"}});
        json!({"PERSONAL": personal, "EDUCATION": [education, second]})
    } else {
        json!({"PERSONAL": personal, "EDUCATION": [education]})
    }
}

/// The document of a teacher: `number` is the deanery's, `bitrix` the portal's.
pub(super) fn teacher(dice: &mut Dice, number: u32, bitrix: u32) -> Value {
    let mut personal = named(dice);
    personal.insert("type".to_owned(), json!("employee"));
    personal.insert("BITRIX_USER_ID".to_owned(), json!(bitrix.to_string()));
    personal.insert("ID_DECANAT".to_owned(), json!(number));
    personal.insert("WORK_POSITION".to_owned(), json!("преподаватель"));
    personal.insert("birthdate".to_owned(), birthdate(dice, 1950, 1998));
    match work(dice) {
        Some(work) => json!({"PERSONAL": personal, "WORK": [work]}),
        None => json!({"PERSONAL": personal}),
    }
}

/// What a teacher's document says of work: seldom nothing, seldom an empty title.
pub(super) fn work(dice: &mut Dice) -> Option<Value> {
    let (faculty, chairs) = dice.pick(&FACULTIES);
    let department = json!({"FACULTY_NAME_DECANAT": faculty, "title": dice.pick(chairs)});
    let odd = dice.unit();
    let job = if odd < 0.03 { "" } else { dice.pick(&JOBS) };
    (odd >= 0.02).then(|| json!({"job_title": job, "department": department}))
}

fn education(dice: &mut Dice, group: &str) -> Map<String, Value> {
    let year = dice.between(2019, 2025).to_string();
    let year = if dice.chance(0.01) { "нет".to_owned() } else { year };
    let mut education = Map::new();
    education.insert("department".to_owned(), json!({"short_title": group}));
    education.insert("specialization".to_owned(), json!({"title": dice.pick(&SPECIALIZATIONS)}));
    education.insert("edu_year".to_owned(), json!(year));
    education.insert("edu_qualification".to_owned(), json!(dice.pick(&QUALIFICATIONS)));
    education.insert("edu_course".to_owned(), json!(dice.between(1, 6).to_string()));
    education
}

/// The part of `PERSONAL` that is a name; a few people have no patronymic.
fn named(dice: &mut Dice) -> Map<String, Value> {
    let (ending, first, middle, sex) = if dice.chance(0.5) {
        ("", dice.pick(&FIRST_MALE), dice.pick(&MIDDLE_MALE), "Мужской")
    } else {
        ("а", dice.pick(&FIRST_FEMALE), dice.pick(&MIDDLE_FEMALE), "Женский")
    };
    let last = format!("{}{ending}", dice.pick(&LAST));
    let middle = if dice.chance(0.02) { "" } else { middle };
    let full = format!("{last} {first} {middle}");
    let mut personal = Map::new();
    personal.insert("fullname".to_owned(), json!(full.trim_end()));
    personal.insert("lastname".to_owned(), json!(last));
    personal.insert("name".to_owned(), json!(first));
    personal.insert("surname".to_owned(), json!(middle));
    personal.insert("sex".to_owned(), json!(sex));
    personal
}

/// A birth date within years, seldom something that is none.
fn birthdate(dice: &mut Dice, low: i16, high: i16) -> Value {
    if dice.chance(0.02) {
        return [json!(""), json!("неизвестно"), Value::Null][dice.place(3)].clone();
    }
    let years = dice.place(usize::from(high.abs_diff(low)) + 1) as i64;
    let first: Date = date(low, 1, 1);
    let day = first.saturating_add(years.years()).saturating_add((dice.place(365) as i64).days());
    json!(format!("{day}T00:00:00Z"))
}

/// Puts in what a text or number column must not take, and a birth that makes no age or changes
/// it on an odd day.
fn spoil(dice: &mut Dice, personal: &mut Map<String, Value>, education: &mut Map<String, Value>) {
    let mut put = |into: &mut Map<String, Value>, names: &[&str], values: &[Value]| {
        let value = values[dice.place(values.len())].clone();
        into.insert(dice.pick(names).to_owned(), value);
    };
    put(personal, &["fullname", "sex", "surname"], &no_texts());
    put(education, &["edu_course", "edu_year"], &no_numbers());
    put(personal, &["birthdate"], &odd_births());
}

fn no_texts() -> [Value; 6] {
    [json!(7), json!(true), json!(["x"]), json!({"a": "b"}), json!(" "), json!("a\u{2028}\"b\\")]
}

fn no_numbers() -> [Value; 11] {
    [
        json!(3),
        json!(300),
        json!(70_000),
        json!(-1),
        json!(2.0),
        json!(true),
        json!("007"),
        json!("-0"),
        json!("٣"),
        json!(""),
        json!([4]),
    ]
}

fn odd_births() -> [Value; 7] {
    [
        json!("2004-02-29T23:59:59Z"),
        json!("2031-01-01T00:00:00Z"),
        json!("0001-01-01T00:00:00Z"),
        json!("2004-02-30T00:00:00Z"),
        json!("2004-2-03T00:00:00Z"),
        json!("2004-02-03"),
        json!(20_040_203),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::dice::Stream;
    use super::*;

    fn students(count: u64) -> Vec<Value> {
        let dice = |place| Dice::new(1, Stream::Student, place);
        (0..count).map(|place| student(&mut dice(place), 200, "С-1", 0.03)).collect()
    }

    #[test]
    fn student_has_the_parts_the_columns_come_from() {
        let all = students(5_000);
        let whole = |d: &&Value| {
            d["PERSONAL"]["BITRIX_USER_ID"] == "200"
                && d["PERSONAL"]["type"] == "student"
                && d["EDUCATION"][0]["department"]["short_title"] == "С-1"
        };
        assert!(all.iter().filter(whole).count() > 4_900);
    }

    #[test]
    fn odd_students_occur() {
        let all = students(20_000);
        let count = |odd: &dyn Fn(&Value) -> bool| all.iter().filter(|d| odd(d)).count();
        assert!(count(&|d| d["EDUCATION"] == json!([])) > 0);
        assert!(count(&|d| d.get("EDUCATION").is_none()) > 0);
        assert!(count(&|d| d["EDUCATION"][1].is_object()) > 0);
        assert!(count(&|d| d["PERSONAL"]["birthdate"].is_null()) > 0);
        assert!(count(&|d| d["PERSONAL"]["surname"] == "") > 0);
        for text in no_texts() {
            assert!(count(&|d| d["PERSONAL"]["fullname"] == text) > 0, "{text}");
        }
        for number in no_numbers() {
            assert!(count(&|d| d["EDUCATION"][0]["edu_course"] == number) > 0, "{number}");
        }
        for birth in odd_births() {
            assert!(count(&|d| d["PERSONAL"]["birthdate"] == birth) > 0, "{birth}");
        }
    }

    #[test]
    fn odd_teachers_occur() {
        let dice = |place| Dice::new(1, Stream::Teacher, place);
        let all: Vec<_> = (0..2_000).map(|place| teacher(&mut dice(place), 100, 1)).collect();
        assert!(all.iter().any(|d| d.get("WORK").is_none()));
        assert!(all.iter().any(|d| d["WORK"][0]["job_title"] == ""));
        assert!(all.iter().all(|d| d["PERSONAL"]["ID_DECANAT"] == 100));
    }

    #[test]
    fn birth_is_a_day_within_its_years() {
        let mut dice = Dice::new(1, Stream::Student, 0);
        for _ in 0..1_000 {
            let birth = birthdate(&mut dice, 1998, 2008);
            if let Some((day, _)) = birth.as_str().and_then(|text| text.split_once('T')) {
                let year = day.parse::<Date>().unwrap().year();
                assert!((1998..=2008).contains(&year), "{day}");
            }
        }
    }
}
