//! Patience: what fails in a way that may pass is asked again, and not in silence.

use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use tracing::warn;

use super::client::{ANSWER_PATIENCE, code_of, may_pass};

/// Between tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Between words why it is still tried.
const BETWEEN_WORDS: Duration = Duration::from_secs(10);

/// Between questions while who leads changes.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(100);

/// How long a broker may take to hear of a topic that was just made.
pub(super) const NEWS_PATIENCE: Duration = Duration::from_secs(3);

/// Asks brokers until they answer, or it has taken too long: who leads may change meanwhile, for a
/// moment nobody does, and some have not heard yet of a topic that was just made.
pub(super) fn until_answered<T>(
    ask: impl Fn() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let begun = Instant::now();
    loop {
        let answer = ask();
        let patience = match answer.as_ref().err().and_then(code_of) {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => NEWS_PATIENCE,
            Some(code) if may_pass(code) => ANSWER_PATIENCE,
            _ => return answer,
        };
        if begun.elapsed() > patience {
            return answer;
        }
        thread::sleep(BETWEEN_QUESTIONS);
    }
}

/// Asks until it is answered, or fails in a way that does not pass, or `is_to_stop`; says why `who`
/// still asks: after the first try that failed, and then not more often than each 10 s.
///
/// # Errors
/// What the last try failed with; one that may pass where it is to stop.
pub fn patiently<T, E: Error>(
    who: &str,
    is_to_stop: impl Fn() -> bool,
    may_pass: impl Fn(&E) -> bool,
    ask: impl Fn() -> Result<T, E>,
) -> Result<T, E> {
    let mut next_word = Instant::now();
    loop {
        let error = match ask() {
            Err(error) if may_pass(&error) && !is_to_stop() => error,
            answer => return answer,
        };
        if Instant::now() >= next_word {
            next_word = Instant::now() + BETWEEN_WORDS;
            let cause = error.source().map(ToString::to_string);
            warn!(who, cause, "tries again: {error}");
        }
        thread::sleep(BETWEEN_TRIES);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn failed(code: Code) -> ClientError {
        ClientError::MetadataFetch(code)
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        let asked = Cell::new(0);
        let ask = |codes: &[Code]| {
            asked.set(0);
            until_answered(|| {
                asked.set(asked.get() + 1);
                codes.get(asked.get() - 1).map_or(Ok(()), |code| Err(failed(*code)))
            })
        };
        assert_eq!(ask(&[Code::OffsetNotAvailable, Code::UnknownTopicOrPartition]), Ok(()));
        assert_eq!(asked.get(), 3);
        let refused = Code::TopicAuthorizationFailed;
        assert_eq!(ask(&[Code::LeaderNotAvailable, refused]), Err(failed(refused)));
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn patience_ends_where_it_is_to_stop() {
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            Err::<(), _>(failed(Code::AllBrokersDown))
        };
        let ended = patiently("a test", || asked.get() == 2, |_| true, ask);
        assert_eq!((ended, asked.get()), (Err(failed(Code::AllBrokersDown)), 2));
        let refused = patiently("a test", || false, |_| asked.get() == 3, ask);
        assert_eq!((refused, asked.get()), (Err(failed(Code::AllBrokersDown)), 4));
    }
}
