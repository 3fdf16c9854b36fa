//! The outputs before the first start.

use super::{StartError, Topics};
use crate::kafka::Kafka;

/// Where no shard has progress, no output may hold a record.
pub(super) fn empty_outputs(kafka: &Kafka, topics: &Topics) -> Result<(), StartError> {
    let asker = kafka.asker()?;
    for topic in topics.views.iter().flatten().chain([&topics.dead_letters]) {
        for partition in 0..topic.partitions {
            let (begin, end) = asker.extent(&topic.name, partition)?;
            if begin < end && kafka.holds_records(&topic.name, partition)? {
                return Err(StartError::NoProgress { topic: topic.name.clone() });
            }
        }
    }
    Ok(())
}
