//! Pipelines and rules, validated: a value of these types cannot name what does not exist.
//!
//! All durations are event time, in microseconds ([`Micros`]), like every timestamp in the core.

use serde::{Deserialize, Serialize};

/// Microseconds: of event time since the Unix epoch, or a length of event time.
pub type Micros = i64;

/// One pipeline: a windowed aggregation and the rules on its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Unique among all pipelines; `[a-z][a-z0-9_]*`.
    pub name: String,
    pub source: Source,
    /// The text of the SQL statement.
    pub sql: String,
    /// Where the statement was read from, for error messages.
    pub sql_file: String,
    /// The columns of the SQL that identify one series. May be empty: one series for everything.
    pub series: Vec<String>,
    /// How long a window waits for late rows after its end.
    pub lateness: Micros,
    pub limits: Limits,
    pub rules: Vec<Rule>,
}

/// The rule that every pipeline has without naming it: it fires while there are more series than the pipeline's limit.
pub const SERIES_LIMIT: &str = "series_limit";
/// The module of the agent's own telemetry; it belongs to no organisation.
pub const AGENT_MODULE: &str = "maturion";

/// What a pipeline may hold in memory, over all its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series of one window. Further ones are folded into the overflow series, and the rule `series_limit` says so.
    /// Each costs a few hundred bytes in every window that is open, and as much again for what its rules remember.
    pub series: usize,
    /// Windows open at once, of those that do not overlap. Beyond it the oldest closes although its time has not come:
    /// what still arrives for it is late. Each costs as much as its series.
    pub open_windows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { series: 100_000, open_windows: 1_000 }
    }
}

/// What a pipeline computes, without its rules. It travels ahead of the partials it explains, so that whoever has another
/// version of the pipeline's file can finish their windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub pipeline: String,
    /// What the partials made by it carry.
    pub version: String,
    pub source: Source,
    pub sql: String,
    pub series: Vec<String>,
    pub lateness: Micros,
    /// For a pipeline that reads windows: what makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Box<Definition>>,
}

/// What a pipeline reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Logs,
    Metrics,
    /// The closed windows of the pipeline that the SQL's FROM names.
    Windows(String),
}

/// One condition on one measure of one pipeline, with its levels and its patience.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique within its pipeline.
    pub name: String,
    pub technique: Technique,
    /// A numeric column of the SQL.
    pub measure: String,
    /// From the most to the least severe; never empty. Each level has its own limit and its own `for`.
    pub levels: Vec<Level>,
    pub direction: Direction,
    /// The column that counts the evidence behind one row, if the rule asks for some.
    pub samples: Option<String>,
    /// Rows with fewer samples are not evidence: neither a breach nor a recovery.
    pub min_samples: u64,
    /// The measure is a share of `samples`; a breach needs the Wilson lower bound beyond the limit.
    pub rate: bool,
    /// How long the measure stays within the recovery limit before the detection resolves.
    pub clear_for: Micros,
    /// The share of the limit that counts as recovered (0.8: below 80 % of an `above`, over 125 % of a `below`).
    pub recovery: f64,
    /// Smallest distance from the baseline that matters, in the measure's unit (techniques with a baseline).
    pub min_effect: f64,
    pub evaluate: Evaluate,
    /// Windows that a baseline learns before it judges (techniques with a baseline).
    pub warmup_windows: u64,
    pub scope: Scope,
    pub remedy: Option<Remedy>,
    /// Rules, `name` or `pipeline.name`, that stay silent for the series covered by a firing series of this rule.
    pub inhibits: Vec<RuleName>,
}

/// A rule's full name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleName {
    pub pipeline: String,
    pub rule: String,
}

/// How a rule judges a measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Technique {
    /// The measure against the level's limit.
    Threshold,
    /// The measure against the limit times its baseline's centre.
    Ratio,
    /// The measure's distance from its baseline's centre, in spreads, against the limit.
    /// `robust`: median and MAD; else mean and standard deviation.
    Zscore { robust: bool },
    /// The series itself: never seen, or back after its detection resolved. Limits do not apply.
    NewFingerprint,
}

impl Technique {
    /// The name in configuration and on the remediation topic.
    pub fn name(self) -> &'static str {
        match self {
            Technique::Threshold => "threshold",
            Technique::Ratio => "ratio",
            Technique::Zscore { .. } => "zscore",
            Technique::NewFingerprint => "new_fingerprint",
        }
    }

    /// True if the technique compares with a learnt baseline.
    pub fn has_baseline(self) -> bool {
        matches!(self, Technique::Ratio | Technique::Zscore { .. })
    }
}

/// One severity of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub severity: Severity,
    /// What the technique compares with: a value, a multiple or a number of spreads.
    pub limit: f64,
    /// How long the breach lasts before this level fires. Zero: at the first window.
    pub for_: Micros,
}

/// Which way is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Above,
    Below,
    /// Either way; only with a baseline.
    Both,
}

/// When a rule looks at a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluate {
    OnClose,
    /// At each change of an open window too; a breach then needs no close.
    Continuous,
}

/// From the least to the most severe, so that `max` is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// The name in configuration, in policies and on the topics.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// One step harsher; critical stays critical.
    pub fn harsher(self) -> Severity {
        match self {
            Severity::Low => Severity::Medium,
            Severity::Medium => Severity::High,
            Severity::High | Severity::Critical => Severity::Critical,
        }
    }

    /// One step milder; low stays low.
    pub fn milder(self) -> Severity {
        match self {
            Severity::Critical => Severity::High,
            Severity::High => Severity::Medium,
            Severity::Medium | Severity::Low => Severity::Low,
        }
    }
}

/// What kind of change would fix it; decides who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Trivial,
    Configuration,
    CodeMinor,
    CodeMajor,
    Schema,
    Architecture,
}

impl Scope {
    pub const ALL: [Scope; 6] =
        [Scope::Trivial, Scope::Configuration, Scope::CodeMinor, Scope::CodeMajor, Scope::Schema, Scope::Architecture];

    /// The name in configuration, in policies and on the topics.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Trivial => "trivial",
            Scope::Configuration => "configuration",
            Scope::CodeMinor => "code_minor",
            Scope::CodeMajor => "code_major",
            Scope::Schema => "schema",
            Scope::Architecture => "architecture",
        }
    }

    /// The scope of that name.
    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// The action a rule proposes; the target is the series' module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    pub action: String,
}
