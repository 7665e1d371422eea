//! Questions and orders to the server that are answered once: Query, Stats, Cancel and Retry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jobq_proto::{ClientMessage, ServerMessage, WireError};

use super::{Lane, Numbers, refusal_wait};
use crate::clock::BootTime;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Unanswered {
    /// The server refused it.
    Refused(WireError),
    /// No answer came in time.
    TimedOut,
    /// The session is over.
    Over,
}

/// The unanswered questions of one client. `T` stands for whoever waits for an answer.
///
/// The caller bounds how many there are. All of them may be carried out twice, so whatever is unanswered is asked
/// again after a reconnect.
#[derive(Debug)]
pub struct Asks<T> {
    asks: BTreeMap<u64, Ask<T>>,
    /// What is to be sent.
    ready: BTreeSet<u64>,
    delayed: BTreeSet<(BootTime, u64)>,
    deadlines: BTreeSet<(BootTime, u64)>,
    numbers: Numbers,
    is_connected: bool,
    answers: VecDeque<(T, Result<ClientMessage, Unanswered>)>,
}

#[derive(Debug)]
struct Ask<T> {
    token: T,
    /// With its number in it.
    message: ServerMessage,
    deadline: BootTime,
    refusals: u32,
    /// What the server said last, if it has been refused for a passing reason.
    refusal: Option<WireError>,
}

impl<T> Default for Asks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Asks<T> {
    /// No questions, and no connection.
    pub fn new() -> Self {
        Self {
            asks: BTreeMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            numbers: Numbers::new(Lane::Asks),
            is_connected: false,
            answers: VecDeque::new(),
        }
    }

    /// Whether nothing is unanswered.
    pub fn is_idle(&self) -> bool {
        self.asks.is_empty()
    }

    /// Asks; `question` makes the message of its number.
    pub fn push(&mut self, question: impl FnOnce(u64) -> ServerMessage, deadline: BootTime, token: T) {
        let number = self.numbers.take();
        self.deadlines.insert((deadline, number));
        self.ready.insert(number);
        self.asks.insert(
            number,
            Ask {
                token,
                message: question(number),
                deadline,
                refusals: 0,
                refusal: None,
            },
        );
    }

    /// There is a connection; everything unanswered is to be asked on it.
    pub fn handle_connected(&mut self) {
        self.is_connected = true;
        self.delayed.clear();
        self.ready = self.asks.keys().copied().collect();
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self) {
        self.is_connected = false;
    }

    /// The answer to a question. Those that nobody waits for any more are dropped.
    pub fn handle_answer(&mut self, request: u64, answer: ClientMessage) {
        self.finish(request, |_| Ok(answer));
    }

    /// A question was refused. It is asked again later where that can help.
    pub fn handle_refused(&mut self, now: BootTime, chance: u32, request: u64, error: WireError) {
        if !error.code.may_repeat() {
            return self.finish(request, |_| Err(Unanswered::Refused(error)));
        }
        if let Some(ask) = self.asks.get_mut(&request) {
            let wait = refusal_wait(&error, ask.refusals, chance);
            ask.refusals = ask.refusals.saturating_add(1);
            ask.refusal = Some(error);
            self.delayed.insert((now + wait, request));
        }
    }

    /// When [`Asks::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> BootTime {
        let first = |times: &BTreeSet<(BootTime, u64)>| times.first().map_or(BootTime::NEVER, |&(at, _)| at);
        first(&self.deadlines).min(first(&self.delayed))
    }

    /// Ends what is out of time, and has repeated what has waited for long enough.
    pub fn handle_timeout(&mut self, now: BootTime) {
        while let Some(&(at, number)) = self.deadlines.first()
            && at <= now
        {
            self.finish(number, |refusal| {
                Err(refusal.map_or(Unanswered::TimedOut, Unanswered::Refused))
            });
        }
        while let Some(&(at, number)) = self.delayed.first()
            && at <= now
        {
            self.delayed.pop_first();
            self.ready.insert(number);
        }
    }

    /// The session is over: nothing is answered any more.
    pub fn handle_over(&mut self) {
        while let Some((&number, _)) = self.asks.first_key_value() {
            self.finish(number, |_| Err(Unanswered::Over));
        }
    }

    /// The next question to send.
    pub fn poll_transmit(&mut self) -> Option<ServerMessage> {
        if !self.is_connected {
            return None;
        }
        let number = self.ready.pop_first()?;
        self.asks.get(&number).map(|ask| ask.message.clone())
    }

    /// The next answer for somebody who waits.
    pub fn poll_answer(&mut self) -> Option<(T, Result<ClientMessage, Unanswered>)> {
        self.answers.pop_front()
    }

    fn finish(
        &mut self,
        number: u64,
        answer: impl FnOnce(Option<WireError>) -> Result<ClientMessage, Unanswered>,
    ) {
        let Some(ask) = self.asks.remove(&number) else {
            return;
        };
        self.deadlines.remove(&(ask.deadline, number));
        self.ready.remove(&number);
        if ask.refusal.is_some() {
            self.delayed.retain(|&(_, delayed)| delayed != number);
        }
        self.answers.push_back((ask.token, answer(ask.refusal)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jobq_proto::ErrorCode;
    use jobq_proto::message::{Stats, StatsQuery};

    use super::*;

    const NOW: BootTime = BootTime::from_micros(1_000_000);

    fn ask(asks: &mut Asks<u32>, token: u32) {
        let question = |request| ServerMessage::Stats(StatsQuery { request });
        asks.push(question, NOW + Duration::from_secs(30), token);
    }

    fn sent(asks: &mut Asks<u32>) -> u64 {
        match asks.poll_transmit() {
            Some(ServerMessage::Stats(query)) => query.request,
            other => panic!("a question is due, and it was {other:?}"),
        }
    }

    fn stats(request: u64) -> ClientMessage {
        ClientMessage::Stats(Box::new(Stats {
            request,
            ..Stats::default()
        }))
    }

    #[test]
    fn an_unanswered_question_is_asked_again_on_the_next_connection() {
        let mut asks = Asks::new();
        ask(&mut asks, 1);
        assert_eq!(asks.poll_transmit(), None, "there is no connection yet");
        asks.handle_connected();
        sent(&mut asks);
        assert_eq!(asks.poll_transmit(), None);
        asks.handle_disconnected();
        asks.handle_connected();
        let request = sent(&mut asks);
        asks.handle_answer(request, stats(request));
        assert_eq!(asks.poll_answer(), Some((1, Ok(stats(request)))));
    }

    #[test]
    fn a_question_without_an_answer_ends_at_its_deadline() {
        let mut asks = Asks::new();
        ask(&mut asks, 1);
        asks.handle_connected();
        let request = sent(&mut asks);
        assert_eq!(asks.poll_timeout(), NOW + Duration::from_secs(30));
        asks.handle_timeout(NOW + Duration::from_secs(30));
        assert_eq!(asks.poll_answer(), Some((1, Err(Unanswered::TimedOut))));
        asks.handle_answer(request, stats(request));
        assert_eq!(asks.poll_answer(), None, "a late answer is for nobody");
    }

    #[test]
    fn a_passing_refusal_is_repeated_and_reported_only_at_the_deadline() {
        let mut asks = Asks::new();
        ask(&mut asks, 1);
        asks.handle_connected();
        let request = sent(&mut asks);
        let full = WireError::new(ErrorCode::Internal, "not now");
        asks.handle_refused(NOW, u32::MAX, request, full.clone());
        let again = asks.poll_timeout();
        assert!(again > NOW && again < NOW + Duration::from_secs(1));
        asks.handle_timeout(again);
        assert_eq!(sent(&mut asks), request);
        asks.handle_refused(again, u32::MAX, request, full.clone());
        asks.handle_timeout(NOW + Duration::from_secs(30));
        assert_eq!(asks.poll_answer(), Some((1, Err(Unanswered::Refused(full)))));
        assert_eq!(asks.poll_timeout(), BootTime::NEVER);
    }
}
