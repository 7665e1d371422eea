//! A session with a server: one conversation that outlasts its connections.
//!
//! `conversation` says what is to be said and when, without I/O; [`Session`] is the shell that connects, reads and
//! writes.

pub(crate) mod conversation;
mod error;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use jobq_proto::limits::MAX_FIRST_FRAME;
use jobq_proto::message::{Goodbye, Hello, Welcome, Work};
use jobq_proto::{ClientMessage, ServerMessage};
use jobq_transport::{Dealer, Endpoint, EndpointDealer, SendError, TransportError};

pub use error::SessionError;

use crate::alarm::Alarm;
use crate::clock::BootTime;
use conversation::{Conversation, Due, Heard};

/// Most messages that one [`Session::recv`] takes from the transport, so that its owner comes to answer them.
const RECV_LIMIT: usize = 256;

/// How long [`Session::close`] waits for its last words to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// While a server stays away, the log says so this often.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// What a [`Session`] needs to know.
#[derive(Clone)]
#[non_exhaustive]
pub struct SessionConfig {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// What the peer calls itself, for logs and listings: 0 to 128 bytes. It identifies nothing.
    pub label: String,
    /// The secret that the server may ask for.
    pub token: Option<String>,
    /// What the peer will work on; none for a client.
    pub work: Option<Work>,
    /// When to come back after a connection ended.
    pub reconnect: Reconnect,
    /// How long connecting may take, and how long the answer to Hello.
    pub hello_timeout: Duration,
}

impl SessionConfig {
    /// The default time for connecting, and for the answer to Hello.
    pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

    /// A client's session, without label and token.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            label: String::new(),
            token: None,
            work: None,
            reconnect: Reconnect::default(),
            hello_timeout: Self::HELLO_TIMEOUT,
        }
    }
}

impl fmt::Debug for SessionConfig {
    /// Leaves the token out: it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConfig")
            .field("endpoint", &self.endpoint.to_string())
            .field("label", &self.label)
            .field("work", &self.work)
            .field("reconnect", &self.reconnect)
            .field("hello_timeout", &self.hello_timeout)
            .finish_non_exhaustive()
    }
}

/// When a session whose connection ended comes back: after `min`, then twice as long each time, up to `max`. Chance
/// takes up to half of each wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// The first wait.
    pub min: Duration,
    /// No wait is longer. A connection that lasted this long starts the waits anew.
    pub max: Duration,
}

impl Default for Reconnect {
    /// 50 ms to 2 s: a server that starts again gives workers longer than that to name their runs.
    fn default() -> Self {
        Self {
            min: Duration::from_millis(50),
            max: Duration::from_secs(2),
        }
    }
}

impl Reconnect {
    /// The wait after `failures` failures before this one. The smallest and the greatest `chance` give half of it
    /// and all of it.
    fn wait(&self, failures: u32, chance: u32) -> Duration {
        let full = self
            .min
            .saturating_mul(2_u32.saturating_pow(failures.min(30)))
            .min(self.max);
        full / 2 + (full / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

/// What [`Session::recv`] reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionEvent {
    /// There is a connection, and Hello was answered; what is sent from now on reaches this life of the session.
    Connected {
        /// The server's terms.
        welcome: Box<Welcome>,
        /// Whether the session before goes on. If not, every run of an earlier one is over. A worker sends Holding
        /// next, whatever this says.
        resumed: bool,
    },
    /// The server says something that does not concern the session alone.
    Message(ClientMessage),
    /// The server has answered a Beat: [`Session::last_answered_beat_sent`] is later than before. What a worker could not
    /// start since it did not know whether the run is its own, it can now.
    Answered,
    /// The connection, or an attempt at one, is over. What was sent on it may or may not have arrived. The session
    /// comes back by itself, as long as it is received from.
    Disconnected {
        /// Why.
        error: SessionError,
    },
}

/// Nothing can be sent at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has no connection at the moment")]
#[non_exhaustive]
pub struct NotConnected {}

/// A session with a server. It connects, says Hello, sends Beats, notices dead connections, comes back after each
/// and resumes where it was, for ever.
///
/// Everything happens within [`Session::recv`]: an owner that does not call it has no connection for long. Clients
/// use [`crate::Client`]; this is for those who write a worker of their own.
pub struct Session {
    endpoint: Endpoint,
    conversation: Conversation,
    link: Link,
    inbox: Vec<ClientMessage>,
    alarm: Alarm,
    /// Why a message could not be sent; it ends the connection, since its sender counts on its order.
    unsent: Option<SendError>,
    over: Option<SessionError>,
    /// When the log last said that the server is away.
    complained: Option<BootTime>,
    /// It has neither had a connection nor failed to get one.
    is_fresh: bool,
}

enum Link {
    None,
    Connecting(Connecting),
    Open(Box<EndpointDealer>),
}

/// An attempt to connect. It is kept in the session, so that a `recv` that is dropped does not start it again.
type Connecting = Pin<Box<dyn Future<Output = Result<EndpointDealer, TransportError>> + Send>>;

impl Session {
    /// A session that connects at the first [`Session::recv`].
    pub fn new(config: SessionConfig) -> Self {
        let hello = Hello {
            token: config.token,
            work: config.work,
            ..Hello::new(config.label)
        };
        let address = config.endpoint.to_string();
        Self {
            endpoint: config.endpoint,
            conversation: Conversation::new(address, hello, config.reconnect, config.hello_timeout)
                .with_calendar_ahead(BootTime::calendar_ahead()),
            link: Link::None,
            inbox: Vec::new(),
            alarm: Alarm::default(),
            unsent: None,
            over: None,
            complained: None,
            is_fresh: true,
        }
    }

    /// Waits for at least one event and appends what there is to `out`, in the order in which it came. Also
    /// connects, writes what was sent, and sends Beats; so it has to be called again and again. Cancel-safe:
    /// nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Only what trying again cannot help ([`SessionError::is_permanent`]). The session is over then, and every
    /// further call gives the same error.
    pub async fn recv(&mut self, out: &mut Vec<SessionEvent>) -> Result<(), SessionError> {
        let before = out.len();
        while out.len() == before {
            if let Some(error) = &self.over {
                return Err(error.clone());
            }
            self.step(out).await;
        }
        Ok(())
    }

    /// Queues a message; [`Session::flush`] and [`Session::recv`] write it.
    ///
    /// # Errors
    /// [`NotConnected`] before [`SessionEvent::Connected`] and after [`SessionEvent::Disconnected`]; the message is
    /// gone. Also when the connection cannot take it, which ends the connection: the next [`Session::recv`] says
    /// so.
    pub fn send(&mut self, message: &ServerMessage) -> Result<(), NotConnected> {
        match &mut self.link {
            Link::Open(dealer) if self.conversation.is_open() && self.unsent.is_none() => {
                dealer.send(message).map_err(|source| {
                    self.unsent = Some(source);
                    NotConnected {}
                })
            }
            _ => Err(NotConnected {}),
        }
    }

    /// Says whether anything is under way: as a worker, whether it has runs, those included whose report is not settled;
    /// as a client, whether anything that it has asked or watches is unanswered. While nothing is, Beats are sent as
    /// seldom as the server allows. Until it is said, something is. A Beat that becomes due by that is queued.
    pub fn set_busy(&mut self, busy: bool) {
        if !self.conversation.set_busy(busy) {
            return;
        }
        if let Link::Open(dealer) = &mut self.link
            && self.unsent.is_none()
            && let Some(beat) = self.conversation.poll_beat(BootTime::now())
            && let Err(source) = dealer.send(&beat)
        {
            self.unsent = Some(source);
        }
    }

    /// Lets what was sent leave now. Never waits.
    pub fn flush(&mut self) {
        if let Link::Open(dealer) = &mut self.link {
            dealer.flush();
        }
    }

    /// When the last message was sent that is known to have renewed the session: an answered Beat, or the Hello.
    /// The server gives the session's runs to others one time-to-live after that at the earliest. None before the
    /// first connection; unchanged while there is none.
    pub fn last_answered_beat_sent(&self) -> Option<BootTime> {
        self.conversation.last_answered_sent()
    }

    /// Whether messages can be sent.
    pub fn is_connected(&self) -> bool {
        self.conversation.is_open()
    }

    /// The server's terms, as it last stated them; none before the first connection.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.conversation.welcome()
    }

    /// Says goodbye, waits up to a second for it to leave, and ends the session; runs that a worker still holds are
    /// released by the server.
    pub async fn close(self) {
        let Link::Open(mut dealer) = self.link else {
            return;
        };
        if self.conversation.is_open()
            && let Err(error) = dealer.send(&ServerMessage::Goodbye(Goodbye {}))
        {
            tracing::debug!(%error, "the connection was gone before the goodbye");
        }
        match tokio::time::timeout(CLOSE_TIMEOUT, dealer.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the goodbye did not leave"),
            Err(_) => tracing::debug!("the goodbye did not leave in time"),
        }
    }

    /// Waits for one thing to happen and acts on it.
    async fn step(&mut self, out: &mut Vec<SessionEvent>) {
        let now = BootTime::now();
        let timer = self.alarm.wait(now, self.conversation.poll_timeout());
        match &mut self.link {
            Link::None => {
                if self.conversation.poll_connect(now) {
                    let endpoint = self.endpoint.clone();
                    self.link =
                        Link::Connecting(Box::pin(async move { endpoint.connect(MAX_FIRST_FRAME).await }));
                } else {
                    timer.await;
                }
            }
            Link::Connecting(connecting) => {
                tokio::select! {
                    biased;
                    result = connecting => self.connected(result, out),
                    () = timer => self.timed_out(out),
                }
            }
            Link::Open(dealer) => {
                if let Some(source) = self.unsent.take() {
                    return self.lost(self.unsendable(source), out);
                }
                tokio::select! {
                    biased;
                    result = dealer.recv(&mut self.inbox, RECV_LIMIT) => self.received(result, out),
                    () = timer => self.timed_out(out),
                }
            }
        }
    }

    fn connected(&mut self, result: Result<EndpointDealer, TransportError>, out: &mut Vec<SessionEvent>) {
        match result {
            Ok(mut dealer) => {
                let hello = self.conversation.handle_connected(BootTime::now());
                match dealer.send(&hello) {
                    Ok(()) => {
                        dealer.flush();
                        self.link = Link::Open(Box::new(dealer));
                    }
                    Err(source) => self.lost(self.unsendable(source), out),
                }
            }
            Err(TransportError::Gone) => self.lost(SessionError::Gone, out),
            Err(source) => {
                let error = SessionError::Connect {
                    address: self.endpoint.to_string(),
                    source: source.into(),
                };
                self.lost(error, out);
            }
        }
    }

    fn received(&mut self, result: Result<(), TransportError>, out: &mut Vec<SessionEvent>) {
        let now = BootTime::now();
        let mut inbox = std::mem::take(&mut self.inbox);
        out.reserve(inbox.len());
        for message in inbox.drain(..) {
            match self.conversation.handle_message(now, message) {
                Ok(Heard::Message(message)) => out.push(SessionEvent::Message(message)),
                Ok(Heard::Answered) => out.push(SessionEvent::Answered),
                Ok(Heard::Nothing) => {}
                Ok(Heard::Welcome { resumed }) => self.opened(resumed, out),
                Err(error) => {
                    self.lost(error, out);
                    break;
                }
            }
        }
        inbox.clear();
        self.inbox = inbox;
        if let Err(source) = result
            && matches!(self.link, Link::Open(_))
        {
            let address = self.endpoint.to_string();
            let error = match source {
                TransportError::Frame(error) => SessionError::Protocol {
                    address,
                    what: error.to_string(),
                },
                source => SessionError::Lost {
                    address,
                    source: source.into(),
                },
            };
            self.lost(error, out);
        }
    }

    fn opened(&mut self, resumed: bool, out: &mut Vec<SessionEvent>) {
        let (Link::Open(dealer), Some(welcome)) = (&mut self.link, self.conversation.welcome()) else {
            return;
        };
        dealer.admit(usize::try_from(welcome.limits.frame).unwrap_or(usize::MAX));
        let address = &self.endpoint;
        self.is_fresh = false;
        if self.complained.take().is_some() {
            tracing::info!(%address, server = %welcome.server, resumed, "connected again");
        } else {
            tracing::debug!(%address, server = %welcome.server, resumed, "connected");
        }
        out.push(SessionEvent::Connected {
            welcome: Box::new(welcome.clone()),
            resumed,
        });
    }

    fn timed_out(&mut self, out: &mut Vec<SessionEvent>) {
        match self.conversation.handle_timeout(BootTime::now()) {
            None => {}
            Some(Due::Dead(error)) => self.lost(error, out),
            Some(Due::Send(message)) => {
                if let Link::Open(dealer) = &mut self.link {
                    match dealer.send(&message) {
                        Ok(()) => dealer.flush(),
                        Err(source) => self.lost(self.unsendable(source), out),
                    }
                }
            }
        }
    }

    fn unsendable(&self, source: SendError) -> SessionError {
        SessionError::Send {
            address: self.endpoint.to_string(),
            source,
        }
    }

    /// Every end of a connection comes here. A permanent one is the answer of the next `recv`.
    fn lost(&mut self, error: SessionError, out: &mut Vec<SessionEvent>) {
        self.link = Link::None;
        self.unsent = None;
        let now = BootTime::now();
        let Some(wait) = self.conversation.handle_lost(now, chance(), &error) else {
            tracing::debug!(%error, "the session is over");
            self.over = Some(error);
            return;
        };
        // The first failure of a session may be all there is: whoever connects once says so by other means.
        let first = std::mem::take(&mut self.is_fresh);
        if !first && self.complained.is_none_or(|last| now.since(last) >= LOG_INTERVAL) {
            self.complained = Some(now);
            tracing::warn!(%error, "disconnected; trying to come back");
        } else {
            tracing::debug!(%error, ?wait, "not connected");
        }
        out.push(SessionEvent::Disconnected { error });
    }
}

/// A number to spread things with. Without a source of randomness everything is spread alike, which is bearable.
pub(crate) fn chance() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
