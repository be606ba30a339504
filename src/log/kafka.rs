//! Apache Kafka behind the log's interface.
