//! The topics of a dataflow, as a start finds them.
//!
//! Shape: names in; topics with their identities and partitions out, and what is to be said of
//! their settings.

use std::collections::BTreeMap;

use super::{Names, StartError};
use crate::{
    engine::topics::{TopicPlan, UnfitTopics, dead_letter_bytes},
    kafka::{Kafka, TopicState},
    progress::Store,
    sink::kafka::{Topic, Topics, output_topics},
    spec::Spec,
};

/// The topics of a dataflow, as they are.
pub(in crate::engine) fn look(
    kafka: &Kafka,
    spec: &Spec,
    names: &Names,
) -> Result<Topics, StartError> {
    Ok(look_closely(kafka, spec, names)?.0)
}

/// The same, and what is to be said of them.
pub(super) fn look_closely(
    kafka: &Kafka,
    spec: &Spec,
    names: &Names,
) -> Result<(Topics, Vec<String>), StartError> {
    let outputs = output_topics(spec);
    let (lead, progress) = (Store::lead_topic(&spec.name), Store::progress_topic(&spec.name));
    let needs_reference = !spec.lookups.is_empty();
    let reference = needs_reference.then(|| names.reference.clone());
    let mut wanted = vec![names.events.clone(), lead.clone(), progress.clone()];
    wanted.extend(reference.clone());
    wanted.extend(outputs.keys().cloned());
    let found: BTreeMap<String, TopicState> = kafka
        .topics_by_now(&wanted)?
        .into_iter()
        .map(|topic| (topic.name.clone(), topic))
        .collect();
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| !found.contains_key(*name))
        .map(|name| format!("\"{name}\""))
        .collect();
    if !missing.is_empty() {
        return Err(StartError::NoTopics { topics: missing.join(", ") });
    }
    // Their numbers of partitions are held against the lead record, not against a plan.
    let plan = TopicPlan::of(spec, names, 1, 1);
    let states: Vec<TopicState> = found.values().cloned().collect();
    let unfit = plan.unfit(&states);
    if !unfit.is_empty() {
        return Err(UnfitTopics(unfit).into());
    }
    let topic = |name: &String| {
        let TopicState { name, id, partitions, .. } = found[name].clone();
        Topic { name, id, partitions }
    };
    let mut views = vec![None; spec.views.len()];
    let mut dead_letters = None;
    for (name, view) in &outputs {
        match view {
            Some(view) => views[usize::from(view.0)] = Some(topic(name)),
            None => dead_letters = Some(topic(name)),
        }
    }
    let lag = reference
        .as_ref()
        .and_then(|name| found[name].settings.get("min.compaction.lag.ms")?.parse().ok());
    let dead_letters = dead_letters.expect("every dataflow has dead letters");
    let topics = Topics {
        events: topic(&names.events),
        history: 0,
        reference: reference.as_ref().map(topic),
        reference_lag_ms: lag.unwrap_or(0),
        views,
        dead_letter_bytes: dead_letter_bytes(&found[&dead_letters.name]),
        dead_letters,
        progress: topic(&progress),
        lead: topic(&lead),
    };
    Ok((topics, plan.warnings(&states)))
}
