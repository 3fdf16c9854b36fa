//! Retiring: what a dataflow has of its own is taken away.
//!
//! Shape: a dataflow that readers are not shown in; no topic, table or archive of it any more out.
//!
//! Invariants: nothing goes of a dataflow that readers are shown, nor of the inputs, nor of what
//! the family has under its own name: others read that.

use super::{HistoryError, known::Known, switch::readers_id};
use crate::{
    archive,
    config::ClickHouseConfig,
    engine::{Names, TopicPlan},
    kafka::Kafka,
    load::{LoadError, Migrations, Readers, Server},
    progress::Store,
    spec::Spec,
};

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Topics.
    pub topics: Vec<String>,
    /// Tables and views.
    pub tables: Vec<String>,
    /// Files of its archive.
    pub files: u64,
}

/// Takes away what a dataflow has of its own.
///
/// # Errors
/// When readers are shown it, or something may be there still.
pub fn retire(
    kafka: &Kafka,
    spec: &Spec,
    names: &Names,
    clickhouse: Option<(&ClickHouseConfig, &Migrations)>,
    archive: Option<&archive::Store>,
    gives_up_rollback: bool,
) -> Result<Retired, HistoryError> {
    let refuse = |remedy: String| {
        let dataflow = spec.name.clone();
        Err(HistoryError::Shown { dataflow, remedy })
    };
    if !spec.is_renamed() {
        return refuse("what bears the name of the family is read by others too".to_owned());
    }
    // Nobody switches readers meanwhile.
    let _switching = kafka.writer(&readers_id(&spec.family))?;
    let pointer = Store::new(kafka.clone(), &spec.family).pointer()?;
    if let Some(pointer) = &pointer {
        if pointer.dataflow == spec.name {
            return refuse("go back to the other one first: `tributary promote --rollback`".into());
        }
        if pointer.before == spec.name && !gives_up_rollback {
            return refuse(
                "it was before the last switch, and could be again: give --give-up-rollback".into(),
            );
        }
    }
    let inputs = format!("{}_events", spec.name);
    let is_known = match Known::of(kafka, &spec.family, &spec.name, "there is nothing of it") {
        Ok(known) => known.says_its_family(),
        // One that was made half-way has said nothing yet; what has inputs is a family of its own.
        Err(HistoryError::NotThere { .. }) => kafka.asker()?.identities(&[inputs])?.is_empty(),
        Err(error) => return Err(error),
    };
    if !is_known {
        return refuse(
            "that it was made with this file is not known: delete its topics by hand".into(),
        );
    }
    let mut retired = Retired::default();
    if let Some((config, migrations)) = clickhouse {
        let server = Server::new(config).map_err(LoadError::from)?;
        let readers = Readers::new(&server, config, spec, migrations);
        if let Some(pointer) = &pointer
            && !readers.show(&pointer.dataflow)?
        {
            return refuse("a switch of readers is half done: `tributary promote` ends it".into());
        }
        retired.tables = readers.drop_all(&spec.name)?;
    }
    if let Some(store) = archive {
        for file in store.list("").map_err(crate::archive::ArchiveError::from)? {
            store.remove(&file.path).map_err(crate::archive::ArchiveError::from)?;
            retired.files += 1;
        }
    }
    let inputs = [&names.events, &names.reference];
    let mut topics = TopicPlan::of(spec, names, 1, 1).names();
    topics.retain(|topic| !inputs.contains(&topic));
    let there = kafka.topics(&topics)?;
    topics.retain(|topic| there.iter().any(|of| of.name == *topic));
    kafka.delete(&topics)?;
    retired.topics = topics;
    Ok(retired)
}
