//! Tokens that were not accepted, and how long the next answer to the same place takes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jobq_transport::PeerInfo;

use super::Map;
use crate::time::Mono;

/// The answer to the second wrong token of a place takes so long, and twice as long to each further one …
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// … up to this. A worker that shows the shared token from a place where others guess comes back in time all the same:
/// what it runs is its for 5 s after its connection closed, and it looks for the server every 2 s.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// After so long without a wrong token, a place is like any other.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Most places that are remembered; of more, the one that has been quiet for longest is forgotten.
const MAX_PLACES: usize = 4_096;

/// Where wrong tokens came from lately.
#[derive(Default)]
pub(super) struct Failures {
    places: Map<Place, Failed>,
}

/// Where peers come from, as far as they can be told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// An IPv4 address, or the network of an IPv6 address: whoever has one of its addresses has all.
    Net(IpAddr),
    /// All that come by a transport without such addresses.
    Transport(&'static str),
}

struct Failed {
    count: u32,
    last: Mono,
}

impl Failures {
    /// Notes a wrong token; how long its answer is to take.
    pub(super) fn note(&mut self, from: &PeerInfo, now: Mono) -> Duration {
        let wait = self.wait(from, now);
        let place = Place::of(from);
        if self.places.len() >= MAX_PLACES && !self.places.contains_key(&place) {
            let quietest = self.places.iter().min_by_key(|(_, failed)| failed.last);
            if let Some(quietest) = quietest.map(|(place, _)| place.clone()) {
                self.places.remove(&quietest);
            }
        }
        let failed = self.places.entry(place).or_insert(Failed { count: 0, last: now });
        let is_new = now.since(failed.last) >= FORGOTTEN_AFTER;
        failed.count = if is_new { 1 } else { failed.count.saturating_add(1) };
        failed.last = now;
        wait
    }

    /// How long an answer that might be guessed is to take.
    pub(super) fn wait(&self, from: &PeerInfo, now: Mono) -> Duration {
        if self.places.is_empty() {
            return Duration::ZERO;
        }
        match self.places.get(&Place::of(from)) {
            Some(failed) if now.since(failed.last) < FORGOTTEN_AFTER => {
                let doubled = 1_u32.checked_shl(failed.count - 1).unwrap_or(u32::MAX);
                FIRST_WAIT.saturating_mul(doubled).min(MAX_WAIT)
            }
            _ => Duration::ZERO,
        }
    }
}

impl Place {
    fn of(from: &PeerInfo) -> Self {
        match from
            .address
            .parse::<SocketAddr>()
            .map(|address| address.ip().to_canonical())
        {
            Ok(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Place::Net([a, b, c, d, 0, 0, 0, 0].into())
            }
            Ok(address) => Place::Net(address),
            Err(_) => Place::Transport(from.transport),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> PeerInfo {
        PeerInfo {
            transport: "tcp",
            address: address.to_owned(),
            identity: None,
        }
    }

    const NOW: Mono = Mono(1_000_000_000);

    #[test]
    fn answers_take_longer_and_longer_up_to_a_bound_and_the_first_is_at_once() {
        let mut failures = Failures::default();
        let waits: Vec<_> = (0..8)
            .map(|_| failures.note(&from("192.0.2.1:1"), NOW).as_millis())
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        for _ in 0..100 {
            failures.note(&from("192.0.2.1:1"), NOW);
        }
        assert_eq!(failures.wait(&from("192.0.2.1:2"), NOW), MAX_WAIT);
    }

    #[test]
    fn another_place_and_a_later_time_start_from_nothing() {
        let mut failures = Failures::default();
        for _ in 0..5 {
            failures.note(&from("192.0.2.1:1"), NOW);
        }
        assert_eq!(failures.wait(&from("192.0.2.2:1"), NOW), Duration::ZERO);
        let later = NOW.plus(FORGOTTEN_AFTER);
        assert_eq!(failures.note(&from("192.0.2.1:1"), later), Duration::ZERO);
        assert_eq!(failures.wait(&from("192.0.2.1:1"), later), FIRST_WAIT);
    }

    #[test]
    fn a_network_of_ipv6_is_one_place_and_so_is_a_socket() {
        let mut failures = Failures::default();
        failures.note(&from("[2001:db8:1:2:3::1]:1"), NOW);
        assert_eq!(failures.wait(&from("[2001:db8:1:2:4::9]:1"), NOW), FIRST_WAIT);
        assert_eq!(failures.wait(&from("[2001:db8:1:3::1]:1"), NOW), Duration::ZERO);
        failures.note(&from("[::ffff:192.0.2.1]:1"), NOW);
        assert_eq!(failures.wait(&from("192.0.2.1:7"), NOW), FIRST_WAIT);
        failures.note(&from("/run/jobq.sock process 7"), NOW);
        assert_eq!(failures.wait(&from("/run/jobq.sock process 8"), NOW), FIRST_WAIT);
    }

    #[test]
    fn the_places_are_bounded_and_the_quietest_goes() {
        let mut failures = Failures::default();
        let address = |number: usize| {
            from(&format!(
                "10.{}.{}.{}:1",
                number >> 16,
                number >> 8 & 255,
                number & 255
            ))
        };
        for number in 0..=MAX_PLACES {
            failures.note(&address(number), NOW.plus(Duration::from_millis(number as u64)));
        }
        assert_eq!(failures.places.len(), MAX_PLACES);
        assert_eq!(failures.wait(&address(0), NOW), Duration::ZERO);
        assert_eq!(failures.wait(&address(1), NOW), FIRST_WAIT);
    }
}
