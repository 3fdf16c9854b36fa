//! The identity of a topic: one that was deleted and made again has another.
//!
//! Shape: names in; for each an id and its number of partitions, or nothing where there is no such
//! topic.
//!
//! Invariants: the safe part of the client library does not ask for ids, so this file calls the
//! library itself; it is the only one that does, and everything that is made here is freed here.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    os::raw::c_char,
    ptr,
};

use rdkafka::{
    bindings as native,
    client::{Client, ClientContext},
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
};

use super::client::ONE_ANSWER_PATIENCE;

/// What identifies a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) partitions: u32,
}

/// Asks for the identities of topics; those that are not there are left out.
pub(super) fn identities<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
) -> Result<Vec<Identity>, ClientError> {
    let names: Vec<CString> = names
        .iter()
        .map(|name| CString::new(name.as_str()).expect("names of topics are checked"))
        .collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = client.native_ptr();
    let patience = ONE_ANSWER_PATIENCE.as_millis() as i32;
    // SAFETY: the client outlives this call; each object is made here, handed to functions that
    // only read it, and freed once, after what it owns was copied out.
    unsafe {
        let collection =
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::rd_kafka_AdminOptions_new(client, operation);
        native::rd_kafka_AdminOptions_set_request_timeout(options, patience, ptr::null_mut(), 0);
        let queue = native::rd_kafka_queue_new(client);
        native::rd_kafka_DescribeTopics(client, collection, options, queue);
        // The request gives up by itself; a little later it must have answered.
        let event = native::rd_kafka_queue_poll(queue, patience + 1_000);
        let found = if event.is_null() {
            Err(ClientError::AdminOp(Code::OperationTimedOut))
        } else {
            let code = Code::from(native::rd_kafka_event_error(event));
            let found = if code == Code::NoError {
                described(event)
            } else {
                Err(ClientError::AdminOp(code))
            };
            native::rd_kafka_event_destroy(event);
            found
        };
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_TopicCollection_destroy(collection);
        found
    }
}

/// Copies what an event says of topics.
///
/// # Safety
/// `event` is an answer to `DescribeTopics` that was not freed.
unsafe fn described(event: *mut native::rd_kafka_event_t) -> Result<Vec<Identity>, ClientError> {
    // SAFETY: all that is read belongs to the event; texts are C strings that live as long as it.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let text = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
        let mut found = Vec::with_capacity(count);
        for place in 0..count {
            let topic = *topics.add(place);
            let error = native::rd_kafka_TopicDescription_error(topic);
            match Code::from(native::rd_kafka_error_code(error)) {
                Code::NoError => {}
                Code::UnknownTopicOrPartition | Code::UnknownTopic => continue,
                code => return Err(ClientError::AdminOp(code)),
            }
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            let mut partitions = 0;
            native::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            found.push(Identity {
                name: text(native::rd_kafka_TopicDescription_name(topic)),
                id: text(native::rd_kafka_Uuid_base64str(id)),
                partitions: partitions as u32,
            });
        }
        Ok(found)
    }
}
