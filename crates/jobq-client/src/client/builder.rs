//! Settings for a client, and its first connection.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use jobq_proto::message::Welcome;
use jobq_transport::{AddressError, ClientTls, Endpoint};
use tokio::sync::{Semaphore, mpsc};

use super::driver::{self, Driver};
use super::{Client, Handle, State};
use crate::error::ConnectError;
use crate::session::{Session, SessionConfig, SessionError, SessionEvent};

/// Where a server is: an [`Endpoint`], or a text such as `tcp://127.0.0.1:7420`, `tls://queue.example` or
/// `unix:///run/jobq.sock`.
pub trait IntoEndpoint {
    /// The endpoint.
    ///
    /// # Errors
    /// When a text is no address.
    fn into_endpoint(self) -> Result<Endpoint, AddressError>;
}

impl IntoEndpoint for Endpoint {
    fn into_endpoint(self) -> Result<Endpoint, AddressError> {
        Ok(self)
    }
}

impl IntoEndpoint for &Endpoint {
    fn into_endpoint(self) -> Result<Endpoint, AddressError> {
        Ok(self.clone())
    }
}

impl IntoEndpoint for &str {
    fn into_endpoint(self) -> Result<Endpoint, AddressError> {
        self.parse()
    }
}

impl IntoEndpoint for &String {
    fn into_endpoint(self) -> Result<Endpoint, AddressError> {
        self.parse()
    }
}

impl IntoEndpoint for String {
    fn into_endpoint(self) -> Result<Endpoint, AddressError> {
        self.parse()
    }
}

/// Settings for a client; see [`Client::builder`].
#[must_use = "settings do nothing until `connect`"]
pub struct ClientBuilder {
    endpoint: Result<Endpoint, AddressError>,
    label: String,
    token: Option<String>,
    tls: Option<ClientTls>,
    connect_timeout: Duration,
    deadline: Duration,
}

impl ClientBuilder {
    pub(super) fn new(endpoint: impl IntoEndpoint) -> Self {
        Self {
            endpoint: endpoint.into_endpoint(),
            label: String::new(),
            token: None,
            tls: None,
            connect_timeout: SessionConfig::HELLO_TIMEOUT,
            deadline: Client::DEADLINE,
        }
    }

    /// What the client calls itself, for the server's log: 0 to 128 bytes.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The secret that the server may ask for.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whom to trust at a `tls://` address, and which certificate to show there. Without this, the system's CAs are
    /// trusted, and no certificate is shown. For a Unix socket it means nothing, and with `tcp://` it is an error.
    ///
    /// ```no_run
    /// use jobq_client::{Client, ClientTls};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = ClientTls::new().ca("ca.pem").identity("web.pem", "web.key");
    /// let client = Client::builder("tls://queue.example").tls(tls).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long connecting may take, the server's greeting included; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long each call waits for its answer, a lost connection and its repetition included; 30 s by default.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Connects. Tries once: a server that is not there is an error now, and waited for only later. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let mut endpoint = self.endpoint?;
        if let Some(tls) = self.tls {
            endpoint = endpoint.with_tls(tls)?;
        }
        endpoint.check().await?;
        let address = endpoint.to_string();
        let mut config = SessionConfig::new(endpoint);
        config.label = self.label;
        config.token = self.token;
        config.hello_timeout = self.connect_timeout;
        let mut session = Session::new(config);
        let greeting = greet(&mut session);
        let (welcome, early) = tokio::time::timeout(self.connect_timeout, greeting)
            .await
            .unwrap_or(Err(SessionError::HelloTimeout {
                address,
                within: self.connect_timeout,
            }))?;
        let state = Arc::new(State {
            welcome: RwLock::new(Arc::new(*welcome)),
            over: OnceLock::new(),
            refusal: Mutex::default(),
        });
        let submit_permits = Arc::new(Semaphore::new(driver::WAITING_JOBS));
        let (commands, commanded) = mpsc::unbounded_channel();
        let driver = Driver::new(session, state.clone(), submit_permits.clone(), commanded);
        tokio::spawn(driver.run(early));
        Ok(Client {
            handle: Arc::new(Handle {
                submit_permits,
                ask_permits: Arc::new(Semaphore::new(driver::ASKS)),
                commands,
                state,
                next_number: AtomicU64::new(0),
            }),
            deadline: self.deadline,
        })
    }
}

impl fmt::Debug for ClientBuilder {
    /// Leaves the token out: it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoint", &self.endpoint)
            .field("label", &self.label)
            .field("connect_timeout", &self.connect_timeout)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Waits for the server's Hello; gives its terms, and all events from it on.
async fn greet(session: &mut Session) -> Result<(Box<Welcome>, Vec<SessionEvent>), SessionError> {
    let mut events = Vec::new();
    session.recv(&mut events).await?;
    match events.first() {
        Some(SessionEvent::Connected { welcome, .. }) => Ok((welcome.clone(), events)),
        _ => match events.pop() {
            Some(SessionEvent::Disconnected { error }) => Err(error),
            // The first event of a session is one of these two, and there is one when `recv` returns.
            other => unreachable!("a session began with {other:?}"),
        },
    }
}
