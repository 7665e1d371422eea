//! The flags of `jobq serve` that say how much of a kind there may be at a time.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use jobq_proto::JobName;
use jobq_server::{Config, QueueLimits};

use crate::sizes;
use crate::values::number;

/// How much of a kind there may be at a time.
#[derive(Debug, clap::Args)]
pub(super) struct Limits {
    /// Have at most so many jobs with workers at a time, over all workers
    #[arg(short = 'n', long, value_name = "N", value_parser = number::<u32>(1..))]
    max_active: Option<u32>,
    /// Have at most N jobs of this name with workers at a time, over all workers; may be given several times
    ///
    /// Jobs of other names are handed out meanwhile. A job of a name with a cap is never sent to a worker that could
    /// not run it at once. For a name that is given twice, the last one counts.
    #[arg(long, value_name = "NAME=N", value_parser = cap, value_delimiter = ',')]
    cap: Vec<(JobName, NonZeroU32)>,
    /// Hold at most so many jobs that have not ended; more are refused with queue_full until some have
    ///
    /// What is there already always goes on: retries, and jobs of lost workers, go back to the queue whatever the
    /// limit. A waiting job takes two to ten bytes of memory, a scheduled one about 100.
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..), default_value_t = QueueLimits::DEFAULT_JOBS)]
    max_queued: u64,
    /// Hold at most so many bytes of params of jobs that have not ended, as in 10GiB
    #[arg(long, value_name = "SIZE", value_parser = sizes::size)]
    max_queued_bytes: Option<u64>,
    /// Hold at most so many jobs of any one name that have not ended
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..))]
    max_queued_per_name: Option<u64>,
    /// Hold at most so many bytes of params of jobs of any one name that have not ended
    #[arg(long, value_name = "SIZE", value_parser = sizes::size)]
    max_queued_bytes_per_name: Option<u64>,
}

impl Limits {
    /// Puts them into the server's settings.
    pub(super) fn apply(&self, config: &mut Config) {
        config.max_active = self.max_active.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        config.queue.jobs = Some(self.max_queued);
        config.queue.bytes = self.max_queued_bytes;
        config.queue.jobs_per_name = self.max_queued_per_name;
        config.queue.bytes_per_name = self.max_queued_bytes_per_name;
        config.caps = self.cap.iter().cloned().collect::<BTreeMap<_, _>>();
    }
}

fn cap(text: &str) -> Result<(JobName, NonZeroU32), String> {
    let (name, cap) = text.split_once('=').ok_or("expected NAME=N, as in thumbnail=4")?;
    let name = name.parse::<JobName>().map_err(|error| error.message)?;
    let cap = cap
        .parse::<NonZeroU32>()
        .map_err(|_| format!("expected a number of jobs from 1 to {}, not {cap:?}", u32::MAX))?;
    Ok((name, cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_a_name_and_a_number_of_at_least_one() {
        let (name, number) = cap("mail.send=4").expect("it is well-formed");
        assert_eq!((name.as_str(), number.get()), ("mail.send", 4));
        for bad in [
            "",
            "thumbnail",
            "=4",
            "a b=4",
            "a=",
            "a=0",
            "a=-1",
            "a=x",
            "a=1=2",
        ] {
            assert!(cap(bad).is_err(), "{bad:?}");
        }
    }
}
