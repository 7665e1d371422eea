//! The scenarios by name, and what each does unless told otherwise.

use clap::ValueEnum;

use super::MAX_PAYLOAD;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Which {
    /// All of these but prune, one after the other
    All,
    /// Jobs acknowledged a second, none of them run
    Submit,
    /// A full queue worked off and settled
    Drain,
    /// Submitting and working at once
    Flow,
    /// One job at a time on an idle server
    Latency,
    /// Memory, room and speed with a long queue standing
    Backlog,
    /// Memory and CPU time for connections that do nothing, and latency beside them
    Idle,
    /// Draining and flow with jobs of many names, compared with one name
    Names,
    /// How late jobs start that are due at a time, and what waiting costs
    Scheduled,
    /// Large params a second, and small jobs beside them
    Large,
    /// How soon a server with a long queue and history is back
    Restart,
    /// Room on disk for queued jobs, completed ones, and when their records have gone
    Prune,
}

impl Which {
    /// Those that [`Which::All`] stands for: all that do not wait for a minute.
    pub(super) const EACH: &[Self] = &[
        Self::Submit,
        Self::Drain,
        Self::Flow,
        Self::Latency,
        Self::Backlog,
        Self::Idle,
        Self::Names,
        Self::Scheduled,
        Self::Large,
        Self::Restart,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Submit => "submit",
            Self::Drain => "drain",
            Self::Flow => "flow",
            Self::Latency => "latency",
            Self::Backlog => "backlog",
            Self::Idle => "idle",
            Self::Names => "names",
            Self::Scheduled => "scheduled",
            Self::Large => "large",
            Self::Restart => "restart",
            Self::Prune => "prune",
        }
    }

    /// How many jobs it has unless told otherwise.
    pub(super) fn jobs(self) -> u64 {
        match self {
            Self::All | Self::Submit | Self::Drain | Self::Flow | Self::Prune => 500_000,
            Self::Latency => 2_000,
            Self::Backlog => 1_000_000,
            Self::Idle => 200,
            Self::Names | Self::Restart => 200_000,
            Self::Scheduled => 100_000,
            Self::Large => 500,
        }
    }

    /// How many bytes of params its jobs have unless told otherwise.
    pub(super) fn payload(self) -> u64 {
        match self {
            Self::Large => MAX_PAYLOAD,
            _ => 100,
        }
    }

    /// Whether jobs may come at a rate.
    pub(super) fn has_rate(self) -> bool {
        matches!(self, Self::Submit | Self::Flow | Self::Scheduled)
    }
}
