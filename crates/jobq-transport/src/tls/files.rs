//! Certificates and keys, read from PEM files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, RootCertStore};

/// Longest file of certificates or keys, in bytes: the CAs of a whole system take 300 KB.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Why TLS cannot be spoken with these settings. Each text fits after "failed to connect: " and the like.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {what} from {}: {source}", path.display())]
    Unreadable {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// A file does not hold what it should.
    #[error("cannot read {what} from {}: {problem}", path.display())]
    Malformed {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// The key is that of another certificate.
    #[error(
        "the key in {} does not belong to the certificate in {}; give the two that were made together",
        key.display(),
        cert.display()
    )]
    KeyMismatch {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The system has no list of CAs, or it cannot be read.
    #[error("the system's list of CAs cannot be used ({0}); install one, or say which CA to trust")]
    NoSystemCas(String),
    /// The host of an address can be in no certificate.
    #[error("{host:?} is no name that a certificate can be for")]
    BadHost {
        /// The host.
        host: String,
    },
    /// An address asks for TLS, and the server has no certificate.
    #[error("the server has no certificate to show there")]
    NoCertificate,
    /// There are settings for TLS, and the address is one without it.
    #[error("there are settings for TLS, and {address} goes without it; use tls://HOST:PORT")]
    PlainAddress {
        /// The address.
        address: String,
    },
}

/// The certificates of a file, the first one that of the owner; at least one.
pub(super) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| malformed(what, path, error))?;
    if certificates.is_empty() {
        let problem = "it holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----";
        return Err(malformed(what, path, problem));
    }
    Ok(certificates)
}

/// The first key of a file.
pub(super) fn key(what: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(what, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(&text) => {
            let problem = "the key is encrypted; decrypt it, as with `openssl pkey -in FILE -out FILE`";
            malformed(what, path, problem)
        }
        pem::Error::NoItemsFound => {
            let problem = "it holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----";
            malformed(what, path, problem)
        }
        error => malformed(what, path, error),
    })
}

/// The CAs of a file, to be trusted.
pub(super) fn authorities(what: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots
            .add(certificate)
            .map_err(|error| malformed(what, path, error))?;
    }
    Ok(roots)
}

/// The CAs that the system trusts.
pub(super) fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Among a system's CAs there may be old ones that nobody can read.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let why = match found.errors.first() {
        Some(error) => error.to_string(),
        None => "it is empty".to_owned(),
    };
    Err(TlsError::NoSystemCas(why))
}

/// What is wrong with a pair that has been read but cannot be used together.
pub(super) fn unusable(cert: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch {
            cert: cert.to_owned(),
            key: key.to_owned(),
        },
        rustls::Error::InvalidCertificate(error) => malformed("the certificate", cert, error),
        error => malformed("the key", key, error),
    }
}

pub(super) fn malformed(what: &'static str, path: &Path, problem: impl ToString) -> TlsError {
    TlsError::Malformed {
        what,
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

/// Says in the log if a key's file can be read by everybody on the machine.
pub(super) fn warn_of_readers(key: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        const OTHERS_READ: u32 = 0o004;
        let mode = std::fs::metadata(key).map(|found| found.permissions().mode());
        if mode.is_ok_and(|mode| mode & OTHERS_READ != 0) {
            tracing::warn!(
                path = %key.display(),
                "everybody on this machine may read this private key; take that away with chmod 600"
            );
        }
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text));
    read.map_err(|source| TlsError::Unreadable {
        what,
        path: path.to_owned(),
        source: Arc::new(source),
    })?;
    if text.len() as u64 > MAX_FILE {
        let problem = format!("it is longer than {MAX_FILE} bytes");
        return Err(malformed(what, path, problem));
    }
    Ok(text)
}

fn is_encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}
