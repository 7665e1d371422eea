//! CAs and certificates, made on the spot.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jobq_transport::{ClientTls, TlsFiles};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};

/// Something that signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Certificate {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// A certificate and its key, in files.
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The CA that the tests trust.
pub(crate) fn authority() -> &'static Authority {
    static TRUSTED: LazyLock<Authority> = LazyLock::new(|| Authority::new("the trusted CA"));
    &TRUSTED
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server's certificate for these hosts.
    pub(crate) fn server(&self, hosts: &[&str]) -> Certificate {
        self.server_with(hosts, |_| {})
    }

    /// A server's certificate that is odd in some way.
    pub(crate) fn server_with(
        &self,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        self.sign(&params)
    }

    /// A client's certificate.
    pub(crate) fn client(&self, name: &str) -> Certificate {
        self.client_with(name, |_| {})
    }

    /// A client's certificate that is odd in some way.
    pub(crate) fn client_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        Certificate {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes its own certificate to a file, and says to which.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        write(folder, &format!("{name}.pem"), &self.0.pem())
    }
}

impl Certificate {
    /// Writes both to files.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Files {
        Files {
            cert: write(folder, &format!("{name}.pem"), &self.cert),
            key: write(folder, &format!("{name}.key"), &self.key),
        }
    }
}

impl Files {
    /// As a server's.
    pub(crate) fn files(&self, client_ca: Option<PathBuf>) -> TlsFiles {
        let files = TlsFiles::new(&self.cert, &self.key);
        match client_ca {
            Some(client_ca) => files.client_ca(client_ca),
            None => files,
        }
    }

    /// As a client's.
    pub(crate) fn identity(&self, settings: ClientTls) -> ClientTls {
        settings.identity(&self.cert, &self.key)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
