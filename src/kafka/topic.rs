//! Topics: what there is, and making what is to be there.
//!
//! Shape: names in; for each its identity, partitions and settings out.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{
        AdminOptions, ConfigResource, ConfigResourceResult, NewTopic as ClientTopic,
        ResourceSpecifier, TopicReplication,
    },
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
};

use super::{
    client::{ANSWER_PATIENCE, Kafka, KafkaError, ONE_ANSWER_PATIENCE, may_pass},
    patience::{NEWS_PATIENCE, until_answered},
    topic_id,
};

/// Between looks whether a broker has heard of a topic.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// How long a topic that is there may have no settings: a broker that has not heard yet of one that
/// was just made says nothing of it, and neither does one that may not tell.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(10);

/// A topic that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub name: String,
    /// Its identity: one that was deleted and made again has another.
    pub id: String,
    /// Number of its partitions.
    pub partitions: u32,
    /// Its settings, the brokers' defaults included.
    pub settings: BTreeMap<String, String>,
}

/// A topic that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of its partitions.
    pub partitions: u32,
    /// Settings in which it differs from the brokers' defaults.
    pub settings: Vec<(&'static str, String)>,
}

impl Kafka {
    /// The topics of these names that are there.
    ///
    /// # Errors
    /// When the brokers cannot be asked.
    pub fn topics(&self, names: &[String]) -> Result<Vec<TopicState>, KafkaError> {
        let admin = self.admin()?;
        let failed = |error: &ClientError| {
            let tried = format!("ask for the topics {}", named(names));
            KafkaError::failed(tried, error, None)
        };
        let asked = until_answered(|| topic_id::identities(admin.inner(), names));
        let found = asked.map_err(|error| failed(&error))?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: Vec<_> = found.iter().map(|t| ResourceSpecifier::Topic(&t.name)).collect();
        let options = AdminOptions::new().request_timeout(Some(ONE_ANSWER_PATIENCE));
        let deadline = Instant::now() + SETTINGS_PATIENCE;
        let resources = loop {
            let asked =
                until_answered(|| pollster::block_on(admin.describe_configs(&wanted, &options)));
            let resources = asked.map_err(|error| failed(&error))?;
            let is_unknown = |resource: &ConfigResourceResult| {
                resource.as_ref().is_ok_and(|resource| resource.entries.is_empty())
            };
            if !resources.iter().any(is_unknown) || Instant::now() > deadline {
                break resources;
            }
            thread::sleep(BETWEEN_LOOKS);
        };
        let mut topics = Vec::with_capacity(found.len());
        for (identity, resource) in found.into_iter().zip(resources) {
            let ConfigResource { entries, .. } =
                resource.map_err(|code| failed(&ClientError::AdminOp(code)))?;
            if entries.is_empty() {
                // The client drops the reason.
                let tried = format!("ask for the settings of topic \"{}\"", identity.name);
                let error = ClientError::AdminOp(Code::TopicAuthorizationFailed);
                return Err(KafkaError::failed(tried, &error, None));
            }
            let settings = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            let topic_id::Identity { name, id, partitions } = identity;
            topics.push(TopicState { name, id, partitions, settings: settings.collect() });
        }
        Ok(topics)
    }

    /// The same; a topic that is not there is looked for a while longer: of one that was just made
    /// a broker may not have heard yet.
    ///
    /// # Errors
    /// As `topics`.
    pub fn topics_by_now(&self, names: &[String]) -> Result<Vec<TopicState>, KafkaError> {
        let deadline = Instant::now() + NEWS_PATIENCE;
        loop {
            let found = self.topics(names)?;
            if found.len() == names.len() || Instant::now() > deadline {
                return Ok(found);
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Makes topics, with so many copies; without a number, the brokers' default.
    ///
    /// # Errors
    /// With the first that is not made; those before it are.
    pub fn create(&self, topics: &[NewTopic], copies: Option<u16>) -> Result<(), KafkaError> {
        let admin = self.admin()?;
        let copies = copies.map_or(-1, i32::from);
        let wanted: Vec<ClientTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let copies = TopicReplication::Fixed(copies);
                let new = ClientTopic::new(&topic.name, topic.partitions as i32, copies);
                topic.settings.iter().fold(new, |new, (name, value)| new.set(name, value))
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(ANSWER_PATIENCE))
            .operation_timeout(Some(ANSWER_PATIENCE));
        let failed = |names: &[String], error: &ClientError| {
            KafkaError::failed(format!("make the topics {}", named(names)), error, None)
        };
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let make = || {
            let made = pollster::block_on(admin.create_topics(&wanted, &options))?;
            let passing = made
                .iter()
                .find_map(|result| result.as_ref().err().filter(|(_, code)| may_pass(*code)));
            match passing {
                // Those that are made by now are there when it is asked again.
                Some((_, code)) => Err(ClientError::AdminOp(*code)),
                None => Ok(made),
            }
        };
        for result in until_answered(make).map_err(|error| failed(&names, &error))? {
            match result {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(failed(&[name], &ClientError::AdminOp(code))),
            }
        }
        Ok(())
    }
}

impl Kafka {
    /// Deletes topics; that one is gone already is as good.
    ///
    /// # Errors
    /// With the first that may be there still.
    pub fn delete(&self, names: &[String]) -> Result<(), KafkaError> {
        let admin = self.admin()?;
        let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        let options = AdminOptions::new()
            .request_timeout(Some(ANSWER_PATIENCE))
            .operation_timeout(Some(ANSWER_PATIENCE));
        let failed = |names: &[String], error: &ClientError| {
            KafkaError::failed(format!("delete the topics {}", named(names)), error, None)
        };
        let deleted = pollster::block_on(admin.delete_topics(&wanted, &options));
        for result in deleted.map_err(|error| failed(names, &error))? {
            match result {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic)) => {}
                Err((name, code)) => return Err(failed(&[name], &ClientError::AdminOp(code))),
            }
        }
        Ok(())
    }
}

pub(super) fn named(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
