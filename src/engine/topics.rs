//! The topics of a dataflow: which there are to be, with which settings, and whether those that are
//! there fit.
//!
//! Shape: a spec and names in; what is to be made, and what does not fit, out.
//!
//! Invariants: each setting that is asked for here is one that a promise rests on, and says so.

use std::collections::BTreeMap;

use super::{Names, replayed_topic};
use crate::{
    kafka::{Kafka, KafkaError, MESSAGE_BYTES_MAX, NewTopic, TopicState},
    progress::Store,
    sink::kafka::output_topics,
    spec::Spec,
};

/// What the largest record of an output may have at least: an event and all that its documents say,
/// at most 1 MiB each, are less in most dataflows.
pub const OUTPUT_BYTES: u64 = 8 << 20;

/// What a dead letter may have on top of its event: its headers.
const HEADERS_BYTES_MAX: u64 = 64 << 10;

/// How many bytes of an event a dead letter can hold in its topic.
pub(super) fn dead_letter_bytes(topic: &TopicState) -> usize {
    let most = topic.settings.get("max.message.bytes").and_then(|bytes| bytes.parse::<u64>().ok());
    let most = most.unwrap_or(OUTPUT_BYTES).min(MESSAGE_BYTES_MAX);
    most.saturating_sub(HEADERS_BYTES_MAX) as usize
}

/// What is to be said of a topic whose records must stay and go, by its own settings.
fn fading(topic: &TopicState) -> Option<String> {
    let goes = |setting: &&str| {
        let value = topic.settings.get(*setting).map_or("-1", String::as_str);
        (value != "-1").then(|| format!("{setting} = {value}"))
    };
    let settings: Vec<String> =
        ["retention.ms", "retention.bytes"].iter().filter_map(goes).collect();
    (!settings.is_empty()).then(|| {
        format!(
            "topic \"{name}\" deletes its records in time ({settings}), and a start that misses \
             some waits for --accept-loss: let them stay: kafka-configs --alter --entity-type \
             topics --entity-name {name} --add-config retention.ms=-1,retention.bytes=-1",
            name = topic.name,
            settings = settings.join(", "),
        )
    })
}

/// The reference log keeps what was said for so long though it was said anew: a start after less
/// than that finds every document as it was.
const COMPACTION_LAG_MS: u64 = 7 * 24 * 3600 * 1000;

/// The topics of views keep a record for so long though it is superseded: a loader says that its
/// table holds all up to where a topic ended before, and is to find that.
const OUTPUT_LAG_MS: u64 = 20_000;

/// A topic that a dataflow needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    topic: NewTopic,
    /// Settings that a topic which is there must have: name, test, what for.
    needs: Vec<Need>,
}

/// A setting that a promise rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    setting: &'static str,
    value: NeedValue,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum NeedValue {
    Equal(&'static str),
    AtLeast(u64),
    /// At least so much as another topic has, and what a dead letter says besides.
    MoreThanIn(String),
}

/// All topics that a dataflow needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan(Vec<Planned>);

/// What came of making topics.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Each topic, its partitions, and whether it is new.
    pub topics: Vec<(String, u32, bool)>,
    /// What does not fit in those that were there: told with the remedy.
    pub unfit: Vec<Unfit>,
    /// What is to be known of those that were there.
    pub warnings: Vec<String>,
}

/// A setting that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "topic \"{topic}\" has {setting} = {found} and needs {needed}: {reason}; mend it: \
     kafka-configs --alter --entity-type topics --entity-name {topic} --add-config \
     {setting}={remedy}"
)]
pub struct Unfit {
    /// The topic.
    pub topic: String,
    /// The setting.
    pub setting: String,
    /// What it is.
    pub found: String,
    /// What it must be.
    pub needed: String,
    /// A value that fits.
    pub remedy: String,
    /// What rests on it.
    pub reason: &'static str,
}

/// Settings that do not fit.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct UnfitTopics(pub Vec<Unfit>);

impl Made {
    /// What does not fit, as an error.
    pub fn into_error(self) -> UnfitTopics {
        UnfitTopics(self.unfit)
    }
}

impl TopicPlan {
    /// What a dataflow needs.
    pub fn of(spec: &Spec, names: &Names, events: u32, outputs: u32) -> TopicPlan {
        let compact = Need {
            setting: "cleanup.policy",
            value: NeedValue::Equal("compact"),
            reason: "the newest record of each key must stay for good",
        };
        let append_time = Need {
            setting: "message.timestamp.type",
            value: NeedValue::Equal("LogAppendTime"),
            reason: "times must be those of the broker, which nobody else sets",
        };
        let large = |bytes: u64, reason| Need {
            setting: "max.message.bytes",
            value: NeedValue::AtLeast(bytes),
            reason,
        };
        let small_segments = ("segment.bytes", (1 << 20).to_string());
        let output_lag = Need {
            setting: "min.compaction.lag.ms",
            value: NeedValue::AtLeast(OUTPUT_LAG_MS),
            reason: "whoever follows a view must come to read a record before it is superseded",
        };
        let mut plan = Vec::new();
        let event_bytes = spec.events.bytes_max as u64 + HEADERS_BYTES_MAX;
        let joined_bytes = event_bytes + ((1 + spec.lookups.len() as u64) << 20);
        let output_bytes = OUTPUT_BYTES.max(joined_bytes);
        let mut add =
            |name: &str, partitions, needs: Vec<Need>, more: &[(&'static str, String)]| {
                let of_need = |need: &Need| match need.value {
                    NeedValue::MoreThanIn(_) => None,
                    _ => Some((need.setting, need.value.remedy())),
                };
                let settings: BTreeMap<_, _> =
                    needs.iter().filter_map(of_need).chain(more.iter().cloned()).collect();
                let settings = settings.into_iter().collect();
                let topic = NewTopic { name: name.to_owned(), partitions, settings };
                plan.push(Planned { topic, needs });
            };
        let holds_event = "the largest event must fit";
        let kept = Need {
            setting: "cleanup.policy",
            value: NeedValue::Equal("delete"),
            reason: "of an event that came twice the first counts, and compaction keeps the last",
        };
        // Whoever makes the events may have reasons for other settings; these are rested on.
        let mut needs = vec![kept];
        needs.extend(spec.events.horizon.is_some().then(|| append_time.clone()));
        add(
            &names.events,
            events,
            needs,
            &[
                ("message.timestamp.type", "LogAppendTime".to_owned()),
                ("max.message.bytes", event_bytes.to_string()),
                ("retention.ms", "-1".to_owned()),
            ],
        );
        if !spec.lookups.is_empty() {
            let lag = Need {
                setting: "min.compaction.lag.ms",
                value: NeedValue::AtLeast(COMPACTION_LAG_MS),
                reason: "a start must find each document as it was when the last one ended",
            };
            let needs = vec![
                compact.clone(),
                append_time.clone(),
                lag,
                Need {
                    setting: "delete.retention.ms",
                    value: NeedValue::AtLeast(COMPACTION_LAG_MS),
                    reason: "who has read a document must come to read that it is gone",
                },
                large(output_bytes, "the largest document must fit"),
            ];
            add(&names.reference, 1, needs, &[]);
        }
        for (name, view) in output_topics(spec) {
            let needs = match view {
                Some(_) => vec![
                    compact.clone(),
                    append_time.clone(),
                    output_lag.clone(),
                    large(output_bytes, "the largest record must fit"),
                ],
                None => vec![
                    Need {
                        setting: "cleanup.policy",
                        value: NeedValue::Equal("delete"),
                        reason: "of dead letters with one key each must stay",
                    },
                    large(output_bytes.max(event_bytes + HEADERS_BYTES_MAX), holds_event),
                    Need {
                        setting: "max.message.bytes",
                        value: NeedValue::MoreThanIn(names.events.clone()),
                        reason: "a record that is too long for an event must fit",
                    },
                ],
            };
            let more: &[(&'static str, String)] = match view {
                Some(_) => &[],
                None => &[("retention.ms", "-1".to_owned())],
            };
            add(&name, outputs, needs, more);
        }
        let own = [
            Store::progress_topic(&spec.name),
            Store::lead_topic(&spec.name),
            replayed_topic(&spec.name),
        ];
        for name in own {
            let needs = vec![compact.clone(), append_time.clone()];
            add(&name, 1, needs, std::slice::from_ref(&small_segments));
        }
        TopicPlan(plan)
    }

    /// What does not fit in the topics that are there.
    pub fn unfit(&self, found: &[TopicState]) -> Vec<Unfit> {
        let mut unfit = Vec::new();
        for Planned { topic, needs } in &self.0 {
            let Some(state) = found.iter().find(|state| state.name == topic.name) else { continue };
            for Need { setting, value, reason } in needs {
                let value = &value.resolved(setting, found);
                let found = state.settings.get(*setting).map_or("", String::as_str);
                if !value.holds(found) {
                    unfit.push(Unfit {
                        topic: topic.name.clone(),
                        setting: (*setting).to_owned(),
                        found: found.to_owned(),
                        needed: value.to_string(),
                        remedy: value.remedy(),
                        reason,
                    });
                }
            }
        }
        unfit
    }

    /// What is to be said of the topics that are there.
    pub(super) fn warnings(&self, found: &[TopicState]) -> Vec<String> {
        found.iter().filter(|state| self.keeps(&state.name)).filter_map(fading).collect()
    }

    /// Whether the records of a topic are to stay, and no key of theirs says which may go.
    fn keeps(&self, name: &str) -> bool {
        let stays = |(setting, value): &(&str, String)| *setting == "retention.ms" && value == "-1";
        let planned = self.0.iter().find(|planned| planned.topic.name == name);
        planned.is_some_and(|planned| planned.topic.settings.iter().any(stays))
    }

    /// The names of all of them.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|planned| planned.topic.name.clone()).collect()
    }
}

impl NeedValue {
    /// Without reference to another topic: by what that one has.
    fn resolved(&self, setting: &str, found: &[TopicState]) -> NeedValue {
        let NeedValue::MoreThanIn(topic) = self else { return self.clone() };
        let other = found.iter().find(|state| state.name == *topic);
        let bytes = other.and_then(|state| state.settings.get(setting)?.parse::<u64>().ok());
        NeedValue::AtLeast(bytes.unwrap_or(0) + HEADERS_BYTES_MAX)
    }

    fn holds(&self, found: &str) -> bool {
        match self {
            NeedValue::Equal(value) => found == *value,
            NeedValue::AtLeast(least) => found.parse().is_ok_and(|found: u64| found >= *least),
            NeedValue::MoreThanIn(_) => true,
        }
    }

    fn remedy(&self) -> String {
        match self {
            NeedValue::Equal(value) => (*value).to_owned(),
            NeedValue::AtLeast(least) => least.to_string(),
            NeedValue::MoreThanIn(topic) => format!("more than in {topic}"),
        }
    }
}

impl std::fmt::Display for NeedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NeedValue::Equal(value) => f.write_str(value),
            NeedValue::AtLeast(least) => write!(f, "at least {least}"),
            NeedValue::MoreThanIn(topic) => write!(f, "more than \"{topic}\" has"),
        }
    }
}

/// Makes the topics of a plan that are not there yet.
///
/// # Errors
/// When brokers do not make them.
pub fn make_topics(
    kafka: &Kafka,
    plan: &TopicPlan,
    copies: Option<u16>,
) -> Result<Made, KafkaError> {
    let names = plan.names();
    let before = kafka.topics(&names)?;
    let is_there = |name: &String| before.iter().any(|state| state.name == *name);
    let new: Vec<NewTopic> = plan.0.iter().map(|planned| planned.topic.clone()).collect();
    let mut new: Vec<NewTopic> = new.into_iter().filter(|topic| !is_there(&topic.name)).collect();
    if copies.is_some_and(|copies| copies > 2) {
        // What was acknowledged then outlasts the loss of a broker, and one may be gone.
        let on_two = || ("min.insync.replicas", "2".to_owned());
        new.iter_mut().for_each(|topic| topic.settings.push(on_two()));
    }
    if !new.is_empty() {
        kafka.create(&new, copies)?;
    }
    let mut topics: Vec<(String, u32, bool)> =
        before.iter().map(|state| (state.name.clone(), state.partitions, false)).collect();
    topics.extend(new.into_iter().map(|topic| (topic.name, topic.partitions, true)));
    topics.sort();
    Ok(Made { topics, unfit: plan.unfit(&before), warnings: plan.warnings(&before) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_holds_what_both_its_topic_and_its_writer_take() {
        let of = |bytes: &str| {
            let settings = [("max.message.bytes".to_owned(), bytes.to_owned())].into();
            let (name, id) = ("letters".to_owned(), String::new());
            dead_letter_bytes(&TopicState { name, id, partitions: 1, settings })
        };
        assert_eq!(of("1048576"), (1 << 20) - (64 << 10));
        assert_eq!(of("134217728"), (64 << 20) - (64 << 10));
    }
}
