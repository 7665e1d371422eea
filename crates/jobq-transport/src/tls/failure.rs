//! Why two sides could not agree on a TLS connection.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Most names of a certificate that an error repeats.
const MAX_NAMES: usize = 8;

/// Why a TLS connection did not come about, or ended, in the words of this side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// What came is no TLS.
    #[error("the other side does not speak TLS")]
    Plain,
    /// The other side's certificate was made by nobody that this side trusts.
    #[error("the other side's certificate is signed by no CA that is trusted here")]
    UnknownCa,
    /// The other side's certificate was valid once.
    #[error("the other side's certificate has expired")]
    Expired,
    /// The other side's certificate will be valid later, or this side's clock is behind.
    #[error("the other side's certificate is not valid yet; is the clock right?")]
    NotYetValid,
    /// The server's certificate is for other hosts.
    #[error("the server's certificate is for {}, and not for {host}", names(.presented))]
    WrongName {
        /// The host that was connected to.
        host: String,
        /// The names that the certificate is for.
        presented: Vec<String>,
    },
    /// The other side's certificate is no good, for a reason without a name of its own.
    #[error("the other side's certificate is not accepted: {0}")]
    BadCertificate(String),
    /// The server asks for a client certificate, and this side has shown none.
    #[error("the server asks for a client certificate, and none was shown")]
    CertificateRequired,
    /// The other side does not accept the certificate of this side.
    #[error("the other side does not accept the certificate that was shown to it: {0}")]
    Refused(String),
    /// There is no version of TLS, or no cipher, that both sides speak.
    #[error("no version of TLS and no cipher suits both sides; jobq speaks TLS 1.3 and 1.2 ({0})")]
    NothingInCommon(String),
    /// The other side speaks TLS, but not jobq's protocol in it.
    #[error("the other side speaks another protocol than jobq's there")]
    OtherProtocol,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// The failure in an error of a stream, if that is what it is about.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    fn of_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::Plain,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::NoCertificatesPresented => Self::CertificateRequired,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::NoApplicationProtocol => Self::OtherProtocol,
            Error::PeerIncompatible(_) => Self::NothingInCommon(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::UnknownIssuer => Self::UnknownCa,
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::NotValidForNameContext { expected, presented } => Self::WrongName {
                host: expected.to_str().into_owned(),
                presented: presented.clone(),
            },
            error => Self::BadCertificate(error.to_string()),
        }
    }

    /// What the other side says, in one byte, of what this side did.
    fn of_alert(alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::CertificateRequired | A::NoCertificate => Self::CertificateRequired,
            A::UnknownCA => Self::Refused("it trusts no CA that has signed it".to_owned()),
            A::CertificateExpired => Self::Refused("it has expired".to_owned()),
            A::CertificateRevoked => Self::Refused("it has been revoked".to_owned()),
            A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown | A::AccessDenied => {
                Self::Refused(format!("{alert:?}"))
            }
            A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => {
                Self::NothingInCommon(format!("it says {alert:?}"))
            }
            A::NoApplicationProtocol => Self::OtherProtocol,
            alert => Self::Other(format!("the other side says {alert:?}")),
        }
    }
}

/// The same error, with words of ours where it is about TLS.
pub(super) fn in_words(error: io::Error) -> io::Error {
    let failure = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref())
        .map(TlsFailure::of_rustls);
    match failure {
        Some(failure) => io::Error::new(error.kind(), failure),
        None => error,
    }
}

fn names(presented: &[String]) -> String {
    let shown: Vec<&str> = presented.iter().take(MAX_NAMES).map(|name| plain(name)).collect();
    match (shown.is_empty(), presented.len() > MAX_NAMES) {
        (true, _) => "no host at all".to_owned(),
        (false, true) => format!("{} and more", shown.join(", ")),
        (false, false) => shown.join(", "),
    }
}

/// A name as it stands in the certificate, without the kind that rustls puts around it: `DnsName("a.example")`.
fn plain(name: &str) -> &str {
    name.split_once('(')
        .and_then(|(_, inner)| inner.strip_suffix(')'))
        .unwrap_or(name)
        .trim_matches('"')
}
