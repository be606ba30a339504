//! What librdkafka's errors mean for a role: try again, abort, stop, or tell the user.

use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};

use crate::log::LogError;

/// True if the brokers refused the client's credentials or its TLS.
pub(super) fn is_refusal(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode::{Authentication, SSL, SaslAuthenticationFailed, UnsupportedSASLMechanism};
    matches!(code, Some(Authentication | SSL | SaslAuthenticationFailed | UnsupportedSASLMechanism))
}

/// True if no broker answered.
pub(super) fn is_unreachable(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut, Resolve, WaitingForCoordinator,
    };
    matches!(
        code,
        Some(
            BrokerTransportFailure
                | AllBrokersDown
                | OperationTimedOut
                | RequestTimedOut
                | Resolve
                | WaitingForCoordinator
        )
    )
}

/// True if a consumer recovers from this by itself: librdkafka reports it and goes on trying.
pub(super) fn passes(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, IllegalGeneration, LeaderNotAvailable, NotCoordinator,
        NotLeaderForPartition, PollExceeded, RebalanceInProgress, UnknownMemberId,
    };
    is_unreachable(code)
        || matches!(
            code,
            Some(
                PollExceeded
                    | CoordinatorLoadInProgress
                    | CoordinatorNotAvailable
                    | IllegalGeneration
                    | LeaderNotAvailable
                    | NotCoordinator
                    | NotLeaderForPartition
                    | RebalanceInProgress
                    | UnknownMemberId
            )
        )
}

/// What to do after a call of the transactional producer failed.
pub(super) enum Verdict {
    Retry(String),
    Final(LogError),
}

/// Judges a failed transactional call. What is neither retriable nor abortable ends the session.
pub(super) fn judge(error: &KafkaError, transactional_id: &str) -> Verdict {
    let KafkaError::Transaction(cause) = error else {
        return Verdict::Final(LogError::Failed(format!("Kafka failed in a transaction: {error}")));
    };
    let transactional_id = transactional_id.to_owned();
    if is_fenced(cause) {
        return Verdict::Final(LogError::Fenced { transactional_id });
    }
    if cause.is_fatal() {
        return Verdict::Final(LogError::Failed(format!("Kafka ended the producer `{transactional_id}`: {cause}")));
    }
    if cause.txn_requires_abort() {
        return Verdict::Final(LogError::Abort(cause.string()));
    }
    if cause.is_retriable() {
        return Verdict::Retry(cause.string());
    }
    Verdict::Final(LogError::Failed(format!("Kafka failed in a transaction of `{transactional_id}`: {cause}")))
}

fn is_fenced(cause: &RDKafkaError) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    matches!(cause.code(), Fenced | ProducerFenced) || (cause.is_fatal() && cause.code() == InvalidProducerEpoch)
}

/// The sentence for a record that could not be written.
pub(super) fn unwritten(code: RDKafkaErrorCode, topic: &str) -> LogError {
    match code {
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
            LogError::UnknownTopic { topic: topic.to_owned() }
        }
        RDKafkaErrorCode::UnknownPartition => {
            LogError::Failed(format!("topic `{topic}` has fewer partitions than a record was written for"))
        }
        RDKafkaErrorCode::QueueFull => {
            LogError::Full("the send queue", format!("Kafka takes no records for topic `{topic}`"))
        }
        RDKafkaErrorCode::MessageSizeTooLarge => {
            LogError::Failed(format!("a record is too large for topic `{topic}`; raise its max.message.bytes"))
        }
        other => LogError::Failed(format!("a record for topic `{topic}` was not written: {other}")),
    }
}

/// The sentence for a client that could not be created; an unusable property is named, its value is not shown.
pub(super) fn creation(error: KafkaError) -> LogError {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            LogError::Setting(format!("`{key}` in [kafka.properties]: {reason}"))
        }
        other => LogError::Setting(other.to_string()),
    }
}
