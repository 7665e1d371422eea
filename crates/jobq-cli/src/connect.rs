//! Reaching the server: its address, its token, and what to say when it is not there.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use jobq_client::{
    AskError, Client, ClientTls, ConnectError, Endpoint, ErrorCode, SessionError, TlsError, TlsFailure,
    WireError,
};
use jobq_server::access::SecretToken;

use crate::cli::Global;
use crate::exit::Exit;
use crate::times;

/// The variable that the token is read from.
const TOKEN: &str = "JOBQ_TOKEN";

/// Longest token, in bytes; the server reads no more before it knows a peer.
const MAX_TOKEN: usize = 1024;

impl Global {
    /// Where the server is, and whom to trust there.
    ///
    /// # Errors
    /// It is no address, or one without TLS where there are flags for TLS.
    pub(crate) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let endpoint: Endpoint = self
            .server
            .parse()
            .map_err(|error| Exit::Usage.because(anyhow::Error::new(error)))?;
        match self.tls()? {
            Some(tls) => endpoint.with_tls(tls).map_err(unusable_tls),
            None => Ok(endpoint),
        }
    }

    /// What the flags for TLS say to a client; none without any.
    fn tls(&self) -> anyhow::Result<Option<ClientTls>> {
        let mut tls = ClientTls::new();
        if let Some(ca) = &self.tls_ca {
            tls = tls.ca(ca);
        }
        if let Some((cert, key)) = self.certificate()? {
            tls = tls.identity(cert, key);
        }
        Ok((tls != ClientTls::new()).then_some(tls))
    }

    /// The certificate to show, and its key.
    ///
    /// # Errors
    /// There is one without the other.
    pub(crate) fn certificate(&self) -> anyhow::Result<Option<(&Path, &Path)>> {
        let missing = match (&self.tls_cert, &self.tls_key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => return Ok(Some((cert, key))),
            (Some(_), None) => "--tls-cert needs --tls-key, the file of the certificate's private key",
            (None, Some(_)) => "--tls-key needs --tls-cert, the file of the key's certificate",
        };
        Err(Exit::Usage.because(anyhow!("failed to read the certificate to show: {missing}")))
    }

    /// The token to show to the server, or to ask for.
    ///
    /// # Errors
    /// The file cannot be read, or what is there can be no token.
    pub(crate) fn token(&self) -> anyhow::Result<Option<String>> {
        let (token, from) = match &self.token_file {
            _ if self.ask_token => (Some(ask_token()?), "the terminal".to_owned()),
            Some(path) => {
                let token = read_token(path)
                    .with_context(|| format!("failed to read the token from {}", path.display()));
                (
                    Some(token.map_err(|error| Exit::Usage.because(error))?),
                    path.display().to_string(),
                )
            }
            None => (
                std::env::var(TOKEN).ok().filter(|token| !token.is_empty()),
                TOKEN.to_owned(),
            ),
        };
        match token {
            Some(token) if token.is_empty() || token.len() > MAX_TOKEN => Err(Exit::Usage.because(anyhow!(
                "failed to read the token from {from}: it has {} bytes, expected 1 to {MAX_TOKEN}",
                token.len()
            ))),
            token => {
                if let Some(Err(error)) = token.as_deref().map(SecretToken::check) {
                    tracing::warn!("the token from {from} may be refused: {error}");
                }
                Ok(token)
            }
        }
    }

    /// Whether there is a token in the variable for it, and no flag says that it is elsewhere.
    pub(crate) fn has_token_variable(&self) -> bool {
        let is_there = std::env::var(TOKEN).is_ok_and(|token| !token.is_empty());
        is_there && self.token_file.is_none() && !self.ask_token
    }

    /// Connects, or says what to do.
    ///
    /// # Errors
    /// No server answers within a few seconds, or it refuses.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let mut builder = Client::builder(self.endpoint()?).label(format!("jobq {}", std::process::id()));
        if let Some(token) = self.token()? {
            builder = builder.token(token);
        }
        builder.connect().await.map_err(|error| match error {
            ConnectError::Session(error) => unreachable(error),
            ConnectError::Tls(error) => unusable_tls(error),
            error => Exit::Unreachable.because(error),
        })
    }
}

/// After so long without an answer, people want to know what is waited for.
pub(crate) const NOTICE_AFTER: Duration = Duration::from_secs(2);

/// Waits for a call, and says once, after a while, what it waits for.
pub(crate) async fn patiently<T>(
    client: &Client,
    call: impl Future<Output = T>,
    say: impl FnOnce(&str),
) -> T {
    let mut call = std::pin::pin!(call);
    tokio::select! {
        biased;
        answer = &mut call => return answer,
        () = tokio::time::sleep(NOTICE_AFTER) => {
            let waits = match client.refusal() {
                Some(error) => refusal(&error),
                None => silence(),
            };
            say(&format!("{waits}; still trying, for up to {} in all", times::length(client.deadline())));
        }
    }
    call.await
}

/// What is true of a server that has not answered for a while.
pub(crate) fn silence() -> String {
    format!(
        "no answer from the server for {}, which may be stopping or away",
        times::length(NOTICE_AFTER)
    )
}

/// What is true of a server that takes no jobs now.
pub(crate) fn refusal(error: &WireError) -> String {
    format!("the server refuses for now: {}: {}", error.code, error.message)
}

/// When what was refused, or not answered at all, is worth another call.
pub(crate) fn when_to_repeat(refused: Option<ErrorCode>) -> &'static str {
    match refused {
        Some(ErrorCode::QueueFull) => "when fewer jobs are queued",
        Some(ErrorCode::StorageFull) => "when there is room on the server's disk",
        Some(ErrorCode::ShuttingDown) => "when the server is back",
        Some(_) => "later",
        None => "when the server answers again",
    }
}

/// The error of a session that is over or never began, with what to do.
pub(crate) fn unreachable(error: SessionError) -> anyhow::Error {
    let advice = match &error {
        error if error.tls().is_some() => match error.tls().and_then(tls_advice) {
            Some(advice) => advice,
            None => return Exit::Unreachable.because(error.clone()),
        },
        SessionError::Connect { .. } => {
            "start one with `jobq serve`, or say where it is with --server or JOBQ_SERVER"
        }
        SessionError::Refused { error, .. } if error.code == ErrorCode::BadToken => {
            "give a token that is in use by JOBQ_TOKEN, --token-file or --ask-token; `jobq token` makes them"
        }
        SessionError::Refused { error, .. } if error.code == ErrorCode::Forbidden => {
            "give one that allows it; `jobq token list` shows what each does"
        }
        _ => return Exit::Unreachable.because(error),
    };
    Exit::Unreachable.because(anyhow!("{error}; {advice}"))
}

/// What to do about a TLS connection that did not come about.
fn tls_advice(failure: &TlsFailure) -> Option<&'static str> {
    Some(match failure {
        TlsFailure::Plain => "connect by tcp:// to a server that listens without TLS",
        TlsFailure::UnknownCa => "give the certificate of the server's CA by --tls-ca",
        TlsFailure::Expired => "give the server a new one",
        TlsFailure::WrongName { .. } => "connect to a name that it is for",
        TlsFailure::CertificateRequired => "give one by --tls-cert and --tls-key",
        TlsFailure::Refused(_) => "give another by --tls-cert and --tls-key",
        _ => return None,
    })
}

/// The error of settings for TLS that cannot be used.
fn unusable_tls(error: TlsError) -> anyhow::Error {
    let advice = match &error {
        TlsError::NoSystemCas(_) => " by --tls-ca",
        _ => "",
    };
    Exit::Usage.because(anyhow!("{error}{advice}"))
}

/// How the program ends when the server refuses something for this reason.
pub(crate) fn refused(code: ErrorCode) -> Exit {
    use ErrorCode as E;
    match code {
        E::BadName | E::BadUsername | E::BadPriority | E::BadTime | E::BadRetryPolicy | E::BadRequest => {
            Exit::Usage
        }
        E::Forbidden => Exit::Unreachable,
        code if code.may_repeat() => Exit::Unreachable,
        _ => Exit::Partial,
    }
}

/// The error of a question, with its exit code.
pub(crate) fn unanswered(error: AskError) -> anyhow::Error {
    match error {
        AskError::Session(error) => unreachable(error),
        AskError::TimedOut(_) => Exit::Unknown.because(error),
        AskError::Refused(ref refusal) => refused(refusal.code).because(error),
        error => error.into(),
    }
}

/// Asks whoever sits at the terminal, and shows nothing of the answer.
fn ask_token() -> anyhow::Result<String> {
    let terminal = console::Term::stderr();
    let ask = || -> anyhow::Result<String> {
        if !terminal.is_term() {
            return Err(anyhow!(
                "there is no terminal to ask at; use --token-file or {TOKEN}"
            ));
        }
        terminal.write_str("Token: ")?;
        Ok(terminal.read_secure_line()?)
    };
    ask().map_err(|error| Exit::Usage.because(error.context("failed to ask for the token")))
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    // One byte and a line break more than the longest, so that a longer one is noticed.
    std::fs::File::open(path)?
        .take(MAX_TOKEN as u64 + 3)
        .read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_the_server_refuses_and_why() {
        for (code, message, expected) in [
            (
                ErrorCode::QueueFull,
                "the queue is full: 5 jobs have not ended, and at most 5 may be queued",
                "the server refuses for now: queue_full: the queue is full: 5 jobs have not ended, and at most 5 may \
                 be queued",
            ),
            (
                ErrorCode::StorageFull,
                "the server's disk is full",
                "the server refuses for now: storage_full: the server's disk is full",
            ),
            (
                ErrorCode::ShuttingDown,
                "the server is going down",
                "the server refuses for now: shutting_down: the server is going down",
            ),
        ] {
            assert_eq!(refusal(&WireError::new(code, message)), expected);
        }
        assert_eq!(
            silence(),
            "no answer from the server for 2s, which may be stopping or away"
        );
    }

    #[test]
    fn when_to_repeat_depends_on_what_was_refused() {
        let times = [
            Some(ErrorCode::QueueFull),
            Some(ErrorCode::StorageFull),
            Some(ErrorCode::ShuttingDown),
            Some(ErrorCode::Internal),
            None,
        ]
        .map(when_to_repeat);
        let expected = [
            "when fewer jobs are queued",
            "when there is room on the server's disk",
            "when the server is back",
            "later",
            "when the server answers again",
        ];
        assert_eq!(times, expected);
    }
}
