//! What a certificate says of itself, for people.

use std::path::Path;
use std::time::SystemTime;

use super::files::{self, TlsError};
use super::{expiry, identity};

/// What a certificate says of itself. Whether it is true was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateInfo {
    /// Whom it is for: its first host name, else its first URI, else its common name; none where it has none of them.
    pub name: Option<String>,
    /// When it expires; none where that cannot be read.
    pub expires: Option<SystemTime>,
}

impl CertificateInfo {
    /// Reads the certificates of a PEM file, in their order there; at least one.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn read(path: &Path) -> Result<Vec<Self>, TlsError> {
        let found = files::certificates("the certificate", path)?;
        let info = found.iter().map(|certificate| Self {
            name: identity::of(certificate),
            expires: expiry::of(certificate),
        });
        Ok(info.collect())
    }
}
