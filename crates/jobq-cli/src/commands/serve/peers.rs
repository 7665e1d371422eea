//! The flags of `jobq serve` that say how much its peers may take, whether they mean well or not.

use std::time::Duration;

use jobq_server::Config;
use jobq_transport::RouterConfig;

use crate::values::number;
use crate::{sizes, times};

/// Least and most bytes of params, and of a result. The store takes no more than 8 MiB at a time.
const PAYLOAD: std::ops::RangeInclusive<u64> = 1024..=8 * 1024 * 1024;

/// Least bytes of memory for what is read from peers and written to them: about what one peer may have.
const LEAST_MEMORY: u64 = 64 * 1024 * 1024;

/// What part of that memory each use of it has at most.
const MESSAGES_PART: u64 = 4;
const FRAMES_PART: u64 = 4;
const ANSWERS_PART: u64 = 2;

/// And what is watched may take on top, and how many bytes a watched job takes about.
const WATCHES_PART: u64 = 8;
const WATCH_BYTES: usize = 100;

/// What part of the connections that have not been let in may wait for a late answer to a wrong token.
const LATE_PART: u32 = 10;

/// How much peers may take.
#[derive(Debug, clap::Args)]
pub(super) struct Peers {
    /// Have at most so many connections; whoever comes then is refused with too_many_peers
    ///
    /// Each takes a file descriptor, so the system's limit on open files has to be higher.
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..), default_value = "10000")]
    max_connections: u32,
    /// Have at most so many connections that have not been let in
    ///
    /// Beyond that, a new connection takes the place of the one that has been silent the longest, so that whoever opens
    /// connections and says nothing keeps nobody out.
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..), default_value = "1000")]
    max_unknown_peers: u32,
    /// Close a connection on which no Hello has come within so long
    #[arg(long, value_name = "DURATION", value_parser = within, default_value = "5s")]
    hello_within: Duration,
    /// Close a connection on which a message has begun, and too little of it came for so long
    ///
    /// Too little is less than 16 KiB/s since the message began: one of which nothing more comes has this time, and one of
    /// 1 MiB may take 64 s longer. Whoever has slower links sets more.
    #[arg(long, value_name = "DURATION", value_parser = within, default_value = "30s")]
    frame_within: Duration,
    /// Take params and results of at most so many bytes, as in 4MiB; from 1KiB to 8MiB
    ///
    /// The longest message has 64 KiB more. Clients and workers learn it from the server.
    #[arg(long, value_name = "SIZE", value_parser = payload, default_value = "1MiB")]
    max_payload: u64,
    /// Hold at most about so many bytes of what peers sent or did not read yet, as in 2GiB; at least 64MiB
    ///
    /// A quarter is for messages that wait to be carried out, a quarter for long ones that are being read, and half for
    /// answers that are not read; an eighth more for the jobs that they watch. What is beyond waits in the system's
    /// buffers, or, of answers, costs the connection that has the most of them.
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "1GiB")]
    peer_memory: u64,
}

impl Peers {
    /// Puts into the server's settings what its machine has to know.
    pub(super) fn apply(&self, config: &mut Config) {
        let limits = config.limits;
        config.limits = jobq_proto::Limits {
            frame: limits.frame - limits.params + self.max_payload,
            params: self.max_payload,
            result: self.max_payload,
            ..limits
        };
        config.watches = self.part(WATCHES_PART) / WATCH_BYTES;
        config.late_answers =
            usize::try_from(self.max_unknown_peers.div_ceil(LATE_PART)).unwrap_or(usize::MAX);
    }

    /// The limits on connections.
    pub(super) fn router(&self) -> RouterConfig {
        let mut router = RouterConfig::default();
        router.max_peers = usize::try_from(self.max_connections).unwrap_or(usize::MAX);
        router.max_unadmitted = usize::try_from(self.max_unknown_peers).unwrap_or(usize::MAX);
        router.hello_timeout = self.hello_within;
        router.frame_timeout = self.frame_within;
        router.inboxes_bytes = self.part(MESSAGES_PART);
        router.frames_bytes = self.part(FRAMES_PART);
        router.outboxes_bytes = self.part(ANSWERS_PART);
        router
    }

    /// So large a part of the peers' memory, in bytes.
    fn part(&self, part: u64) -> usize {
        usize::try_from(self.peer_memory / part).unwrap_or(usize::MAX)
    }
}

/// Longer than anybody needs, and short enough for every timer.
const MAX_WITHIN: Duration = Duration::from_secs(24 * 3600);

fn within(text: &str) -> Result<Duration, String> {
    let time = times::duration(text)?;
    if (Duration::from_millis(1)..=MAX_WITHIN).contains(&time) {
        Ok(time)
    } else {
        Err("it has to be from 1ms to 24h".to_owned())
    }
}

fn payload(text: &str) -> Result<u64, String> {
    let size = sizes::size(text)?;
    if PAYLOAD.contains(&size) {
        Ok(size)
    } else {
        Err("it has to be from 1KiB to 8MiB".to_owned())
    }
}

fn memory(text: &str) -> Result<u64, String> {
    let size = sizes::size(text)?;
    if size >= LEAST_MEMORY {
        Ok(size)
    } else {
        Err("it has to be at least 64MiB".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        peers: Peers,
    }

    #[test]
    fn the_defaults_are_those_of_the_libraries() {
        let peers = Line::parse_from(["serve"]).peers;
        assert_eq!(peers.router(), RouterConfig::default());
        let mut config = Config::default();
        peers.apply(&mut config);
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_longer_payload_makes_longer_frames() {
        let peers = Line::parse_from(["serve", "--max-payload", "4MiB"]).peers;
        let mut config = Config::default();
        peers.apply(&mut config);
        assert_eq!(config.limits, jobq_proto::Limits::with_payload(4 << 20));
    }

    #[test]
    fn times_and_sizes_that_no_server_could_keep_are_refused() {
        assert!(within("0s").is_err() && within("2d").is_err());
        assert_eq!(within("250ms"), Ok(Duration::from_millis(250)));
        assert!(payload("1023").is_err() && payload("9MiB").is_err());
        assert!(memory("1MiB").is_err());
        assert_eq!(memory("64MiB"), Ok(LEAST_MEMORY));
    }
}
