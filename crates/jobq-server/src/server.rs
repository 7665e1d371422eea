//! A server, from its parts to its end.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use jobq_proto::JobId;
use jobq_transport::{
    BindOptions, Endpoint, ListenAddress, RouterConfig, ServerTls, StreamRouter, TlsError, TransportError,
    memory,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::access::{MIN_SHARED_TOKEN, Tokens, TokensError};
use crate::clock::{Clock, SystemClock};
use crate::driver::{Driver, ServeError, Stop};
use crate::expiry;
use crate::lock::DataDir;
use crate::machine::{Config, Machine};
use crate::store::{Birth, LiveJob, MemoryStore, SqliteSettings, SqliteStore, Store, StoreError};

/// Live jobs read from the store at a time, at the start.
const LOAD_JOBS: usize = 10_000;

/// Pages of them that are read while the machine takes in those before, so that neither waits for the other for long.
const PAGES_AHEAD: usize = 4;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store could not be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address could not be listened on.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The list of tokens in the data directory cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Which files could not be read again, and why. Of those, what was read before stays in use; the others count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The list of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Neither can.
    #[error("{tokens}; and {tls}")]
    Both {
        /// What is wrong with the list of tokens.
        tokens: TokensError,
        /// What is wrong with the certificates.
        tls: TlsError,
    },
}

/// Builds a server. Without [`data`](Server::data) it keeps its jobs in memory.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use jobq_server::Server;
///
/// let server = Server::new().data("./jobq-data").listen("tcp://127.0.0.1:0".parse()?).start().await?;
/// println!("listening on {}", server.addresses()[0]);
/// server.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Server {
    config: Config,
    router: RouterConfig,
    data: Option<PathBuf>,
    /// The list of tokens of the data directory, if it was read before the start.
    listed: Option<Option<Tokens>>,
    store: SqliteSettings,
    addresses: Vec<ListenAddress>,
    bind: BindOptions,
}

impl Server {
    /// A server with the default settings, in memory, listening nowhere but in this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// With these settings.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// With these limits on connections.
    #[must_use]
    pub fn router(mut self, router: RouterConfig) -> Self {
        self.router = router;
        self
    }

    /// Keeps its jobs in this directory, which is made if need be. Only one server at a time can have it. Where it has
    /// a list of tokens, nobody gets in without one of them, or what else [`Config`] asks for.
    #[must_use]
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Some(directory.into());
        self
    }

    /// With these settings of the store, where it keeps its jobs in a directory.
    #[must_use]
    pub fn store(mut self, settings: SqliteSettings) -> Self {
        self.store = settings;
        self
    }

    /// Listens there as well.
    #[must_use]
    pub fn listen(mut self, address: ListenAddress) -> Self {
        self.addresses.push(address);
        self
    }

    /// Shows these certificates on its `tls://` addresses.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use jobq_server::{Server, ServerTls, TlsFiles};
    ///
    /// let tls = ServerTls::load(TlsFiles::new("server.pem", "server.key"))?;
    /// let server = Server::new().listen("tls://0.0.0.0:7420".parse()?).tls(tls).start().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.bind.tls = Some(tls);
        self
    }

    /// Makes Unix sockets with these permissions, of which writing says who may connect. The default is 0o600: only
    /// the server's user.
    #[must_use]
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.bind.socket_mode = mode;
        self
    }

    /// Reads the list of tokens of the data directory now, and not at the start: what is looked at before is what the
    /// server goes by.
    ///
    /// # Errors
    /// The list cannot be used.
    pub fn read_tokens(mut self) -> Result<Self, TokensError> {
        self.listed = self.data.as_deref().map(Tokens::load).transpose()?;
        Ok(self)
    }

    /// Whether anybody gets in only with a token, as far as is known before the start.
    pub fn asks_for_token(&self) -> bool {
        let listed = self.listed.as_ref().is_some_and(Option::is_some);
        listed || self.config.token.is_some() || self.config.tokens.is_some()
    }

    /// Opens the store, takes in what it holds, and begins to listen; in this order, so that nobody is answered by
    /// a server that does not know its jobs.
    ///
    /// # Errors
    /// When the directory is in use or cannot be used, the database is not one of jobq's, from a newer version or
    /// behind what was acknowledged, or an address cannot be listened on.
    pub async fn start(mut self) -> Result<RunningServer, StartError> {
        let now = SystemClock.now();
        let birth = Birth {
            identity: new_identity()?,
            now: now.wall,
        };
        let settings = self.store;
        match self.data.clone() {
            None => self.start_with(MemoryStore::new(birth), None).await,
            Some(path) => {
                let listed = self.listed.take();
                let (store, listed) = tokio::task::spawn_blocking(move || {
                    let lock = DataDir::lock(&path)?;
                    let listed = match listed {
                        Some(listed) => listed,
                        None => Tokens::load(&path)?,
                    };
                    let store = SqliteStore::open_with(&path, birth, settings)?.holding(lock);
                    Ok::<_, StartError>((store, listed))
                })
                .await
                .expect("opening a store does not panic")?;
                self.start_with(store, listed).await
            }
        }
    }

    /// Starts with the list of tokens of its data directory, if that has one; it counts for more than that of the
    /// settings.
    async fn start_with<S: Store + 'static>(
        self,
        mut store: S,
        listed: Option<Tokens>,
    ) -> Result<RunningServer, StartError> {
        let Self {
            mut config,
            router,
            addresses: asked_for,
            bind,
            data,
            ..
        } = self;
        if let Some(token) = &config.token
            && token.len() < MIN_SHARED_TOKEN
        {
            tracing::warn!(
                bytes = token.len(),
                "the shared token is shorter than {MIN_SHARED_TOKEN} bytes and may be guessed: make one with `openssl \
                 rand -base64 32`, or use `jobq token create` instead"
            );
        }
        config.certificates |= bind.tls.as_ref().is_some_and(ServerTls::asks_for_certificates);
        let own_tokens = config.tokens.take();
        config.tokens = listed.or_else(|| own_tokens.clone());
        let (tokens, tokens_changed) = watch::channel(config.tokens.clone());
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(StartError::Random)?;
        let close_within = config.close_within;
        let (mut machine, store, jobs) = tokio::task::spawn_blocking(move || {
            let mut machine = Machine::new(config, store.recovered(), seed, SystemClock.now());
            let jobs = load(&mut machine, &mut store)?;
            Ok::<_, StoreError>((machine, store, jobs))
        })
        .await
        .expect("loading jobs does not panic")?;
        let mut router = StreamRouter::new(router);
        let (connector, listener) = memory::channel();
        router.listen(listener);
        let mut addresses = Vec::new();
        for address in &asked_for {
            addresses.push(router.bind_with(address, &bind).await?);
        }
        tracing::info!(jobs, epoch = store.recovered().epoch, "the server is up");
        machine.begin(SystemClock.now());
        let (stop, stopped) = watch::channel(Stop::No);
        let driver = Driver::new(machine, router, store, SystemClock, stopped, tokens_changed);
        let serving = driver.run(close_within);
        let task = match bind.tls.clone() {
            None => tokio::spawn(serving),
            Some(tls) => {
                expiry::warn(&tls);
                tokio::spawn(async move {
                    tokio::select! {
                        served = serving => served,
                        never = expiry::watch(tls) => match never {},
                    }
                })
            }
        };
        Ok(RunningServer {
            addresses,
            endpoint: Endpoint::Memory(connector),
            tls: bind.tls,
            data,
            own_tokens,
            tokens,
            stop,
            task,
        })
    }
}

/// Takes the live jobs of a store into a machine; says how many there are.
fn load<S: Store>(machine: &mut Machine, store: &mut S) -> Result<usize, StoreError> {
    let (pages_tx, pages) = sync_channel(PAGES_AHEAD);
    // On two threads: each takes half of a long queue's start.
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_live(store, &pages_tx));
        let mut count = 0;
        for page in pages {
            count += page.len();
            machine.load(page);
        }
        let read = reading.join();
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(count)
    })
}

/// Reads all live jobs, a page after the other.
fn read_live<S: Store>(store: &mut S, pages: &SyncSender<Vec<LiveJob>>) -> Result<(), StoreError> {
    let mut after = JobId(0);
    loop {
        let page = store.live(after, LOAD_JOBS)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        if pages.send(page).is_err() {
            return Ok(()); // Whoever loads them panicked.
        }
    }
}

fn new_identity() -> Result<Uuid, StartError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(StartError::Random)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// A server that runs, as a task of the runtime it was started in. Dropping it stops it at once, as a crash would.
#[derive(Debug)]
pub struct RunningServer {
    addresses: Vec<ListenAddress>,
    endpoint: Endpoint,
    tls: Option<ServerTls>,
    data: Option<PathBuf>,
    /// What counts as long as its data directory has no list.
    own_tokens: Option<Tokens>,
    tokens: watch::Sender<Option<Tokens>>,
    stop: watch::Sender<Stop>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl RunningServer {
    /// Where it listens, in the order asked for, with the ports that the system picked.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// How clients and workers in this process connect to it.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Reads the files again that may change while it runs: its certificates, for the connections to come, and the list
    /// of tokens of its data directory. Connections go on as they are, save for those that came with a token which is
    /// not in the list any more. Where the directory has never had a list, that of [`Config`] stays in use.
    ///
    /// Each is read by itself: a token that was revoked is shut out also while a certificate is being replaced.
    ///
    /// # Errors
    /// What is wrong with the files; of those, what was read before stays in use.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let tokens = self.reload_tokens();
        let tls = self.reload_certificates();
        match (tokens, tls) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(tokens), Ok(())) => Err(tokens.into()),
            (Ok(()), Err(tls)) => Err(tls.into()),
            (Err(tokens), Err(tls)) => Err(ReloadError::Both { tokens, tls }),
        }
    }

    fn reload_tokens(&self) -> Result<(), TokensError> {
        let Some(data) = &self.data else { return Ok(()) };
        let tokens = self.read_tokens(data)?;
        self.tokens.send_if_modified(|known| {
            let changed = *known != tokens;
            *known = tokens;
            changed
        });
        Ok(())
    }

    fn reload_certificates(&self) -> Result<(), TlsError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        tls.reload()?;
        expiry::warn(tls);
        Ok(())
    }

    /// A list that is gone would let others in than it did, or everybody.
    fn read_tokens(&self, data: &Path) -> Result<Option<Tokens>, TokensError> {
        match Tokens::load(data)? {
            Some(read) => Ok(Some(read)),
            None if *self.tokens.borrow() == self.own_tokens => Ok(self.own_tokens.clone()),
            None => Err(TokensError::gone(data)),
        }
    }

    /// A handle that asks it to stop, from anywhere.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: self.stop.clone(),
        }
    }

    /// Serves until something stops it.
    ///
    /// # Errors
    /// When the store or the transport failed, or the server panicked.
    pub async fn wait(&mut self) -> Result<(), ServeError> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(ServeError::Panicked(error.to_string())),
        }
    }

    /// Stops gracefully: takes no more jobs, lets workers finish or give back what they have within the limit for
    /// that, and closes the store.
    ///
    /// # Errors
    /// As [`RunningServer::wait`].
    pub async fn stop(mut self) -> Result<(), ServeError> {
        self.stopper().stop(Stop::Graceful);
        self.wait().await
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks a server to stop.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: watch::Sender<Stop>,
}

impl Stopper {
    /// Asks for a stop. A stop that was asked for is not taken back, only made faster.
    pub fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|asked| {
            let faster = stop > *asked;
            *asked = (*asked).max(stop);
            faster
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{NamePatterns, Scope, Token, TokenFile};
    use crate::time::Wall;

    fn list(name: &str) -> Tokens {
        let made = Token::generate(name.to_owned(), Scope::Admin, NamePatterns::all(), Wall(0), None);
        let (token, _) = made.expect("the system has random bytes");
        Tokens::new(vec![token])
    }

    #[tokio::test]
    async fn tokens_of_the_settings_stay_in_use_until_the_data_directory_has_a_list_which_may_not_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config {
            tokens: Some(list("own")),
            ..Config::default()
        };
        let server = Server::new().config(config).data(dir.path());
        let server = server.start().await.expect("it starts");
        server.reload().expect("there never was a list");
        assert_eq!(*server.tokens.borrow(), server.own_tokens);

        let listed = list("listed");
        let file = TokenFile::lock(dir.path()).expect("nobody else has it");
        file.save(&listed).expect("it is written");
        server.reload().expect("the list is good");
        assert_eq!(*server.tokens.borrow(), Some(listed.clone()));
        std::fs::remove_file(dir.path().join("tokens")).expect("it is there");
        let gone = server.reload().expect_err("who was let in by it is not any more");
        assert!(
            matches!(gone, ReloadError::Tokens(TokensError::Gone { .. })),
            "{gone}"
        );
        assert_eq!(*server.tokens.borrow(), Some(listed));
        server.stop().await.expect("it stops");
    }
}
