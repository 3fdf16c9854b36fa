//! Drift: where a table or view is other than the migrations say.
//!
//! Shape: what is wanted and what is there, as the server says both, in; differences with the
//! statements that mend them out.

use super::{Drift, Object, ObjectColumn, named};

/// Where one is other than it is to be.
pub(super) fn drift(
    wanted: &Object,
    found: &Object,
    (wanted_columns, found_columns): (Vec<ObjectColumn>, Vec<ObjectColumn>),
) -> Vec<Drift> {
    let of = |what: String, remedy: String| Drift { name: wanted.name.clone(), what, remedy };
    if !wanted.as_select.is_empty() {
        return match wanted.as_select == found.as_select {
            true => Vec::new(),
            false => {
                let remedy =
                    format!("CREATE OR REPLACE VIEW {} AS {}", wanted.name, wanted.as_select);
                vec![of("shows something else".to_owned(), remedy)]
            }
        };
    }
    let mut drifts = Vec::new();
    let table = named(&wanted.name);
    let (engine, ttl, settings) = wanted.engine();
    let (found_engine, found_ttl, found_settings) = found.engine();
    for (name, value) in &settings {
        if !found_settings.contains(&(*name, *value)) {
            drifts.push(of(
                format!("has not the setting {name} = {value}"),
                format!("ALTER TABLE {table} MODIFY SETTING {name} = {value}"),
            ));
        }
    }
    if ttl != found_ttl {
        let remedy = match ttl {
            "" => format!("ALTER TABLE {table} REMOVE TTL"),
            ttl => format!("ALTER TABLE {table} MODIFY TTL {ttl}"),
        };
        drifts.push(of(format!("has the TTL \"{found_ttl}\", not \"{ttl}\""), remedy));
    }
    if engine != found_engine {
        let what = format!("is {found_engine}, not {engine}");
        let remedy = "no ALTER mends that: rename the table, and have `tributary init` make it: it \
                      is loaded anew";
        drifts.push(of(what, remedy.to_owned()));
    }
    let mut previous = None::<&str>;
    for column in &wanted_columns {
        let name = named(&column.name);
        let place = previous.map_or("FIRST".to_owned(), |p| format!("AFTER {}", named(p)));
        let default = match &*column.default_kind {
            "" => String::new(),
            kind => format!(" {kind} {}", column.default_expression),
        };
        let as_it_is = format!("{name} {}{default}", column.type_name);
        previous = Some(&column.name);
        match found_columns.iter().find(|found| found.name == column.name) {
            None => drifts.push(of(
                format!("has no column {}", column.name),
                format!("ALTER TABLE {table} ADD COLUMN {as_it_is} {place}"),
            )),
            Some(found)
                if found.type_name == column.type_name
                    && column.default_kind.is_empty()
                    && found != column =>
            {
                let kind = &found.default_kind;
                drifts.push(of(
                    format!("has column {} with {kind} {}", column.name, found.default_expression),
                    format!("ALTER TABLE {table} MODIFY COLUMN {name} REMOVE {kind}"),
                ));
            }
            Some(found) if found != column => drifts.push(of(
                format!("has column {} as {}", column.name, found.type_name),
                format!("ALTER TABLE {table} MODIFY COLUMN {as_it_is}"),
            )),
            Some(_) => {}
        }
    }
    for column in &found_columns {
        if !wanted_columns.iter().any(|wanted| wanted.name == column.name) {
            drifts.push(of(
                format!("has a column {} that no migration made", column.name),
                format!("ALTER TABLE {table} DROP COLUMN {}", named(&column.name)),
            ));
        }
    }
    drifts
}
