//! What Maturion logs: every line that an operator may see, by a name that does not change.
//!
//! Each event is one function here, with its level, its fields and its words; `docs/reference.md` has the same table,
//! and a test compares the two. No other module logs, but for what librdkafka says of itself. An event never holds a
//! record's content.

/// An event, as the reference has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: &'static str,
    /// `error`, `warn`, `info` or `debug`.
    pub level: &'static str,
    pub fields: &'static [&'static str],
}

/// The function of each event, and the table of all of them, from one list.
macro_rules! events {
    ($($(#[$doc:meta])* $level:ident $name:ident($($field:ident: $kind:ty),*) $words:literal;)+) => {
        $(
            $(#[$doc])*
            pub fn $name($($field: $kind),*) {
                tracing::$level!(target: "maturion", event = stringify!($name), $($field,)* $words);
            }
        )+

        /// Every event, in the order of the reference.
        pub const ALL: &[Event] = &[$(Event {
            name: stringify!($name),
            level: stringify!($level),
            fields: &[$(stringify!($field)),*],
        }),+];
    };
}

events! {
    /// The process has started all it was asked to.
    info running(instance: &str, log: &str) "running";
    /// A signal asked the process to end.
    info stopping() "stopping; once more to stop at once";
    /// Everything is gone when the process ends.
    warn log_is_embedded() "the log is embedded: in this process, gone when it ends, not for production";

    /// The HTTP door is open.
    info http_listening(address: &str) "listening for HTTP";
    /// `serve.allow_remote` is set without a token.
    warn http_unprotected(address: &str) "anyone who reaches this address may write records: serve.allow_remote is set without a token";
    /// The HTTP door closed by itself; the roles go on.
    error http_ended(reason: &str) "the HTTP server ended";
    /// `/health/live` answered that the process should be restarted.
    error not_live(reason: &str) "a worker has not turned for too long";

    /// The PostgreSQL door is open.
    info postgres_listening(address: &str) "listening for PostgreSQL's clients";
    /// `serve.postgres` is set, but the door stays closed.
    warn postgres_closed(reason: &str) "the PostgreSQL door is not opened";
    /// The PostgreSQL door closed by itself; the roles go on.
    error postgres_ended(reason: &str) "the PostgreSQL server ended";
    /// Somebody tried to come in and may not: the name is what they said.
    warn sign_in_refused(user: &str, from: &str, reason: &str) "a sign-in was refused";

    /// A worker was given partitions, and reads them from here on.
    info partitions_assigned(role: &str, partitions: u64) "partitions were assigned";
    /// A worker gave partitions up after its last commit.
    info partitions_revoked(role: &str, partitions: u64) "partitions were given up";
    /// Others may own the partitions already: what was not committed is theirs.
    warn partitions_lost(role: &str, partitions: u64) "partitions were lost";
    /// Detect has its memory back from the log.
    info state_restored(partitions: u64, milliseconds: u64) "state was restored";
    /// Windows that had begun are given up; baselines are kept.
    warn progress_too_old(partition: i32, format: u64) "the progress was written by an older program and cannot be used: windows that had begun are given up";
    /// Their baselines begin anew.
    warn series_too_old(partition: i32, series: u64) "the state of series was written by an older program and cannot be used: they begin anew";
    /// Windows of that version of the pipeline cannot be finished.
    warn definition_unreadable(partition: i32, reason: &str) "a pipeline's definition cannot be read and is left out";
    /// Its rows count as late.
    warn pane_given_up(partition: i32) "a pane of a version that nobody here knows is given up";
    /// Nothing of the transaction is seen by anyone; its records are read again.
    warn transaction_aborted(role: &str, reason: &str) "a transaction was aborted and is done again";
    /// A worker ended with an error that may pass, and starts again after a pause.
    warn worker_restarted(role: &str, reason: &str) "a role starts anew after a pause";
    /// A worker ended with an error that a new start cannot cure.
    error role_stopped(role: &str, reason: &str) "a role stopped";
    /// The process was told to stop while Kafka was away: another reads the same records again.
    warn stopped_uncommitted(role: &str, reason: &str) "a role stopped without committing what it did last";
    /// Costs disk, nothing else; tried again with the next snapshot.
    warn partials_kept(reason: &str) "partials that are no longer needed could not be deleted";

    /// A message of the remediation topic or a command is not believed, and nothing follows from it.
    warn claim_refused(reason: &str) "a message was not heard";
    /// A decision waits for the present value, which is asked for again.
    warn reading_failed(incident: &str, reason: &str) "the present value of what would be changed cannot be read";

    /// A notice will not arrive.
    warn notice_dropped(contact: &str, reason: &str) "a notice was given up";
    /// A ticket has no lines of logs, and says so.
    warn witness_failed(incident: &str, reason: &str) "the logs could not be read for a ticket";
    /// A ticket is not as it should be; tried again, unless that would be in vain.
    warn ticket_failed(incident: &str, reason: &str) "a ticket could not be written";
    /// A draft pull request is not as it should be; tried again, unless that would be in vain.
    warn proposal_failed(incident: &str, reason: &str) "a change could not be proposed";

    /// What other processes do is not known for a while; tried again.
    warn observer_failed(reason: &str) "what other processes do cannot be followed";
    /// What another process wrote about itself is of a version that this one cannot read.
    warn bulletin_unreadable(reason: &str) "what another process says about itself cannot be read";

    /// Kafka aborts it when its timeout has passed.
    warn transaction_left_open(reason: &str) "the open transaction was left for Kafka to abort";
    /// The group notices at the latest when the session times out.
    warn rebalance_unanswered(reason: &str) "a rebalance was not answered before leaving the group";
    /// What a client heard from the brokers: detail, whatever matters comes back as an error.
    debug kafka_heard(error: &str, reason: &str) "heard from Kafka";
    /// Whoever embeds the command line has a subscriber of their own.
    debug logs_go_elsewhere() "logs go to the subscriber that is there already";

    /// No instance answers, so a question is answered from what is committed.
    info asked_the_store(url: &str) "no instance answers: this is what is committed to the store";
    /// Commits that a loss of power had cut were taken away; their rows are read from Kafka again.
    warn torn_commits_removed(table: &str, commits: u64) "torn commits of the store were removed, and their rows are read from Kafka again";
    /// The store's memory is full: nothing more is fetched until a commit has made room.
    warn store_full(bytes: u64) "the store's memory is full; reading waits for a commit";
    /// A commit did not succeed, and is tried again.
    warn store_commit_failed(table: &str, reason: &str) "a commit to the store failed";
    /// Maintenance of a table did not succeed, and is tried again in the next round.
    warn store_maintenance_failed(table: &str, reason: &str) "maintenance of the store failed";
    /// Maintenance changed a table.
    debug store_maintained(table: &str, merged: u64, expired: u64) "the store was maintained";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_events_have_one_name() {
        let names: std::collections::BTreeSet<&str> = ALL.iter().map(|event| event.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
