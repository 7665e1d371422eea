//! The flags of `jobq serve` that say how long records of ended jobs are kept.

use std::time::Duration;

use jobq_server::{Config, Keep};

use crate::times;
use crate::values::number;

/// How long records of ended jobs are kept.
#[derive(Debug, clap::Args)]
pub(super) struct Retention {
    /// Keep the records of completed jobs for so long after their end: a duration, or forever
    ///
    /// With a record go the job, its params, result and history, and its uuid, under which it can then be submitted
    /// anew. One minute at least. Room in the database's file is used again, and given back beyond an eighth of it.
    #[arg(long, value_name = "DURATION", value_parser = age, default_value = "7d")]
    keep_completed: Age,
    /// Keep the records of failed jobs, the dead letters, for so long after their end
    #[arg(long, value_name = "DURATION", value_parser = age, default_value = "30d")]
    keep_failed: Age,
    /// Keep the records of cancelled jobs for so long after their end
    #[arg(long, value_name = "DURATION", value_parser = age, default_value = "7d")]
    keep_cancelled: Age,
    /// Keep at most so many records of completed, of failed and of cancelled jobs each; no limit by default
    ///
    /// Those of the earliest jobs go, but none within a minute of its job's end. 0 keeps each for that minute.
    #[arg(long, value_name = "N", value_parser = number::<u64>(0..))]
    keep_count: Option<u64>,
}

/// How old a record may get; none for any age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Age(Option<Duration>);

impl Retention {
    /// Puts them into the server's settings.
    pub(super) fn apply(&self, config: &mut Config) {
        config.keep.completed = self.keep_completed.0;
        config.keep.failed = self.keep_failed.0;
        config.keep.cancelled = self.keep_cancelled.0;
        config.keep.count = self.keep_count;
    }
}

fn age(text: &str) -> Result<Age, String> {
    if text.trim() == "forever" {
        return Ok(Age(None));
    }
    let age = times::duration(text).map_err(|error| format!("{error}, or forever"))?;
    if age < Keep::LEAST_AGE {
        return Err(
            "it has to be at least 1m: a submit that is repeated is known by the record of the first"
                .to_owned(),
        );
    }
    Ok(Age(Some(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_for_a_minute_at_least_or_forever() {
        assert_eq!(age("forever"), Ok(Age(None)));
        assert_eq!(age("2d"), Ok(Age(Some(Duration::from_secs(2 * 24 * 3600)))));
        assert_eq!(age("1m"), Ok(Age(Some(Keep::LEAST_AGE))));
        for bad in ["0", "59s", "-1d", "week", "", "1 month"] {
            assert!(age(bad).is_err(), "{bad:?}");
        }
    }
}
