//! The log: the one small interface between the roles and Kafka.
//!
//! A role reads records of the partitions it is assigned, from offsets it names, and commits its outputs together with
//! its input offsets, or neither. Two implementations keep this promise and pass the same tests:
//! [`kafka`] is the product; [`embedded`] is in process, bounded in memory, gone when the process ends, not for production.
//!
//! Every call may block: sessions belong to OS threads, never to an async task. `log` never looks into a value.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub mod embedded;
pub mod kafka;
pub mod partitioner;
pub mod topics;

/// One partition of one topic, by its full name (prefix included).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    pub topic: Arc<str>,
    pub number: i32,
}

/// An offset in a partition: of the next record to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: Partition,
    pub offset: i64,
}

/// A record as it was read. It borrows from the log's buffers; copy what must outlive the visit.
#[derive(Debug)]
pub struct Record<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the Unix epoch; `None` if the log has none.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a str, &'a [u8])>,
}

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// `None`: by the key's hash ([`partitioner`]); without a key, any.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// `None` writes a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
    /// `None`: now. Ignored by topics with LogAppendTime.
    pub timestamp_ms: Option<i64>,
}

/// What happened to a session's assignment. Until the session answers nothing is read, of any partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// New partitions, to be answered with [`Session::assign`] once their state is restored.
    Assigned(Vec<Partition>),
    /// Partitions to give up: commit or abort, then [`Session::release`].
    Revoked(Vec<Partition>),
    /// Partitions that another member may own already: abort, forget, then [`Session::release`].
    Lost(Vec<Partition>),
}

/// One role's way through the log: consume, transform, produce, exactly once.
pub trait Session: Send {
    /// Waits up to `wait` for a first record, then visits what is there, `max` records at most.
    /// Returns as soon as the assignment changes; a change is reported once. Zero records do not mean that the log is at its end.
    fn poll(
        &mut self,
        wait: Duration,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<Rebalance>, LogError>;

    /// Starts reading newly assigned partitions at these positions: all that were reported, in one call.
    fn assign(&mut self, positions: &[Position]) -> Result<(), LogError>;

    /// Stops reading these partitions: all that were reported, in one call.
    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError>;

    /// Reads assigned partitions again from these positions, after an abort.
    fn rewind(&mut self, positions: &[Position]) -> Result<(), LogError>;

    /// Stops fetching these partitions without giving them up.
    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError>;

    /// Fetches paused partitions again.
    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError>;

    /// The position of the next record in each partition being read. It also advances over aborted records and
    /// transaction markers, so that the end of [`Log::bounds`] is reached when all was visited.
    fn positions(&mut self) -> Result<Vec<Position>, LogError>;

    /// The group's committed offsets, pending transactions resolved first; `None` where nothing was committed yet.
    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<Option<i64>>, LogError>;

    /// Adds a record to the open transaction; the first call opens one. Blocks while the send queue is full.
    fn send(&mut self, record: Outgoing<'_>) -> Result<(), LogError>;

    /// Commits everything sent since the last commit together with these input offsets (of the next record to read).
    /// On [`LogError::Abort`] call [`Session::abort`], forget what was computed, restore and rewind.
    fn commit(&mut self, offsets: &[Position]) -> Result<(), LogError>;

    /// Throws away everything sent since the last commit.
    fn abort(&mut self) -> Result<(), LogError>;

    /// Leaves the group after an abort of whatever is open, so that others take over at once.
    fn close(self: Box<Self>);
}

/// Reads partitions without a group: restoring state, following outputs, tests. Sees committed records only.
pub trait Reader: Send {
    /// Like [`Session::poll`], without assignments. Returns how many records were visited.
    fn poll(&mut self, wait: Duration, max: usize, visit: &mut dyn FnMut(&Record<'_>)) -> Result<usize, LogError>;

    /// Like [`Session::positions`]: `position == end` means that everything before `end` was visited.
    fn positions(&mut self) -> Result<Vec<Position>, LogError>;
}

/// Writes records without a transaction and waits for their acknowledgement: ingestion and generated load.
pub trait Appender: Send + Sync {
    /// Queues a record; blocks while the queue is full.
    fn append(&self, record: Outgoing<'_>) -> Result<(), LogError>;

    /// Waits until everything appended by anyone before is acknowledged; the first failure since the last flush is the result.
    fn flush(&self, wait: Duration) -> Result<(), LogError>;
}

/// A topic as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: String,
    pub partitions: i32,
    /// The configuration keys that `maturion topics` checks, as the log reports them.
    pub config: std::collections::BTreeMap<String, String>,
}

/// A connection to one log.
pub trait Log: Send + Sync {
    /// A member of `group` on `topics`. `transactional_id` is stable per instance and task: opening a session fences
    /// its predecessor of the same name and aborts what it left open.
    fn session(&self, group: &str, topics: &[String], transactional_id: &str) -> Result<Box<dyn Session>, LogError>;

    /// Reads exactly these partitions from these offsets; an offset below the earliest kept one is an error.
    fn reader(&self, positions: &[Position]) -> Result<Box<dyn Reader>, LogError>;

    /// A plain producer.
    fn appender(&self) -> Result<Arc<dyn Appender>, LogError>;

    /// Earliest kept and next offset (the last stable one: read_committed) of each partition.
    fn bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError>;

    /// Like [`Log::bounds`], once every transaction that was being written into these partitions when it was called is
    /// decided: a commit returns before the markers that make it visible stand in each partition.
    fn settled_bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError>;

    /// The named topics that exist.
    fn describe(&self, topics: &[String]) -> Result<Vec<TopicInfo>, LogError>;

    /// Creates a topic with this configuration; an existing one is an error.
    fn create(&self, topic: &TopicInfo) -> Result<(), LogError>;

    /// Deletes the records before each position (DeleteRecords).
    fn trim(&self, before: &[Position]) -> Result<(), LogError>;

    /// What `status` and the logs call it: `kafka at host:port`, or `embedded (in process, not for production)`.
    fn describe_self(&self) -> String;
}

/// What can go wrong with the log.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("cannot reach Kafka at {brokers}: {reason}; check kafka.brokers and that the broker is running")]
    Unreachable { brokers: String, reason: String },
    #[error("Kafka at {brokers} refused to authenticate: {reason}; check [kafka.properties]")]
    Authentication { brokers: String, reason: String },
    #[error("topic `{topic}` does not exist; create it with `maturion topics`")]
    UnknownTopic { topic: String },
    /// The transaction must be aborted; the session goes on after that.
    #[error("the transaction must be aborted: {0}")]
    Abort(String),
    /// Kafka gave the session's name away: this session is over. Mostly a newer one of that name exists, but not always:
    /// Kafka also ends a transaction that is open for too long, and after a restart it may know a member by a former id.
    #[error(
        "another instance took over `{transactional_id}`, or this one was paused or cut off from Kafka for longer than \
         transaction.timeout.ms; give every instance a name of its own"
    )]
    Fenced { transactional_id: String },
    #[error("offset {offset} of {topic}-{partition} is no longer kept; the earliest is {earliest}")]
    OffsetLost { topic: String, partition: i32, offset: i64, earliest: i64 },
    #[error("{0} is full: {1}")]
    Full(&'static str, String),
    #[error("unusable Kafka setting: {0}")]
    Setting(String),
    #[error("{0}")]
    Failed(String),
}

impl LogError {
    /// True if a new session may succeed without anyone changing Maturion's files or starting it again: the log is away,
    /// or refused one request. False for [`LogError::Fenced`], of which only another try can tell.
    pub fn passes(&self) -> bool {
        match self {
            LogError::Unreachable { .. } | LogError::Abort(_) | LogError::Full(..) | LogError::Failed(_) => true,
            LogError::Authentication { .. }
            | LogError::UnknownTopic { .. }
            | LogError::Fenced { .. }
            | LogError::OffsetLost { .. }
            | LogError::Setting(_) => false,
        }
    }
}
