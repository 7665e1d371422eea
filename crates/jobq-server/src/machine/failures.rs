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

/// Answers to one place are at least so far apart, over however many connections it asks: twenty a second.
const APART: Duration = Duration::from_millis(50);

/// No answer takes longer, also where others are under way to the same place.
const LONGEST: Duration = Duration::from_secs(3);

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
    /// When the last of the answers that are under way to it is due.
    answered: Mono,
}

impl Failures {
    /// Notes a wrong token; how long its answer is to take. None if too many answers are under way to its place, so that
    /// it gets none, and nothing is noted: as [`Failures::wait`] for a right one, which nobody may tell from it.
    pub(super) fn note(&mut self, from: &PeerInfo, now: Mono) -> Option<Duration> {
        let wait = self.wait(from, now)?;
        let place = Place::of(from);
        if self.places.len() >= MAX_PLACES && !self.places.contains_key(&place) {
            let quietest = self.places.iter().min_by_key(|(_, failed)| failed.last);
            if let Some(quietest) = quietest.map(|(place, _)| place.clone()) {
                self.places.remove(&quietest);
            }
        }
        let failed = self.places.entry(place).or_insert(Failed {
            count: 0,
            last: now,
            answered: now,
        });
        let is_new = now.since(failed.last) >= FORGOTTEN_AFTER;
        failed.count = if is_new { 1 } else { failed.count.saturating_add(1) };
        failed.last = now;
        Some(wait)
    }

    /// How long an answer that might be guessed is to take. None if too many are under way to its place.
    pub(super) fn wait(&mut self, from: &PeerInfo, now: Mono) -> Option<Duration> {
        if self.places.is_empty() {
            return Some(Duration::ZERO);
        }
        match self.places.get_mut(&Place::of(from)) {
            Some(failed) if now.since(failed.last) < FORGOTTEN_AFTER => failed.take_turn(now),
            _ => Some(Duration::ZERO),
        }
    }
}

impl Failed {
    /// How long the next answer takes: as long as there were wrong ones before it, and until its turn among those that
    /// are under way. None if that would be longer than any answer takes.
    fn take_turn(&mut self, now: Mono) -> Option<Duration> {
        let doubled = 1_u32.checked_shl(self.count - 1).unwrap_or(u32::MAX);
        let wait = FIRST_WAIT.saturating_mul(doubled).min(MAX_WAIT);
        let turn = self.answered.plus(APART).max(now.plus(wait));
        let wait = turn.since(now);
        if wait > LONGEST {
            return None;
        }
        self.answered = turn;
        Some(wait)
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
        let mut now = NOW;
        let mut waits = Vec::new();
        for _ in 0..100 {
            let wait = failures
                .note(&from("192.0.2.1:1"), now)
                .expect("one answer is under way");
            waits.push(wait.as_millis());
            now = now.plus(wait);
        }
        assert_eq!(waits[..8], [0, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(failures.wait(&from("192.0.2.1:2"), now), Some(MAX_WAIT));
    }

    #[test]
    fn many_guesses_at_a_time_take_turns_and_those_without_a_turn_are_not_looked_at() {
        let mut failures = Failures::default();
        let guess = from("192.0.2.1:1");
        let mut answers = Vec::new();
        // Each millisecond one more, for ten seconds.
        for milli in 0..10_000 {
            let now = NOW.plus(Duration::from_millis(milli));
            if let Some(wait) = failures.note(&guess, now) {
                assert!(wait <= LONGEST, "{wait:?}");
                answers.push(now.plus(wait));
            }
        }
        assert!(
            answers[1..]
                .windows(2)
                .all(|pair| pair[1].since(pair[0]) >= APART),
            "but for the first, which was answered at once"
        );
        let (first, last) = (answers[0], answers[answers.len() - 1]);
        let most = last.since(first).as_millis() / APART.as_millis() + 1;
        assert!(
            answers.len() as u128 <= most && answers.len() > 100,
            "{}",
            answers.len()
        );
        // Nothing tells a right one from a wrong one: it takes a turn too, or gets none.
        let now = NOW.plus(Duration::from_secs(10));
        while failures.note(&guess, now).is_some() {}
        assert_eq!(failures.wait(&guess, now), None);
        let next = now.plus(APART);
        assert!(
            failures
                .wait(&guess, next)
                .is_some_and(|wait| wait + APART > LONGEST)
        );
        assert_eq!(failures.note(&guess, next), None);
        assert_eq!(
            failures.wait(&from("192.0.2.2:1"), next),
            Some(Duration::ZERO),
            "another place"
        );
    }

    #[test]
    fn another_place_and_a_later_time_start_from_nothing() {
        let mut failures = Failures::default();
        for _ in 0..5 {
            failures.note(&from("192.0.2.1:1"), NOW);
        }
        assert_eq!(failures.wait(&from("192.0.2.2:1"), NOW), Some(Duration::ZERO));
        let later = NOW.plus(FORGOTTEN_AFTER);
        assert_eq!(failures.note(&from("192.0.2.1:1"), later), Some(Duration::ZERO));
        assert_eq!(failures.wait(&from("192.0.2.1:1"), later), Some(FIRST_WAIT));
    }

    #[test]
    fn a_network_of_ipv6_is_one_place_and_so_is_a_socket() {
        let mut failures = Failures::default();
        failures.note(&from("[2001:db8:1:2:3::1]:1"), NOW);
        assert_eq!(
            failures.wait(&from("[2001:db8:1:2:4::9]:1"), NOW),
            Some(FIRST_WAIT)
        );
        assert_eq!(
            failures.wait(&from("[2001:db8:1:3::1]:1"), NOW),
            Some(Duration::ZERO)
        );
        failures.note(&from("[::ffff:192.0.2.1]:1"), NOW);
        assert_eq!(failures.wait(&from("192.0.2.1:7"), NOW), Some(FIRST_WAIT));
        failures.note(&from("/run/jobq.sock process 7"), NOW);
        assert_eq!(
            failures.wait(&from("/run/jobq.sock process 8"), NOW),
            Some(FIRST_WAIT)
        );
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
        assert_eq!(failures.wait(&address(0), NOW), Some(Duration::ZERO));
        assert_eq!(failures.wait(&address(1), NOW), Some(FIRST_WAIT));
    }
}
