//! A CA, and what it signs.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// A certificate and its private key, in PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

/// Whose certificate it is.
pub(super) enum Kind<'a> {
    /// A server's, with its names and addresses.
    Server(&'a [String]),
    /// A client's, with its name.
    Client(&'a str),
}

/// A CA that was made here. All that its certificate says but its time follows from its key, so that it can be taken
/// up again from that.
pub(super) struct Authority {
    cert: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, and what is to be kept of it.
    pub(super) fn new(valid: Duration) -> anyhow::Result<(Self, Pair)> {
        let key = KeyPair::generate()?;
        let mut params = params_of(&key);
        set_time(&mut params, valid);
        let cert = params.self_signed(&key)?;
        let pair = Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        };
        let authority = Self {
            cert: cert.der().clone(),
            issuer: Issuer::new(params, key),
        };
        Ok((authority, pair))
    }

    /// One that was made before.
    ///
    /// # Errors
    /// What is there is no certificate or no key.
    pub(super) fn load(cert: &str, key: &str) -> anyhow::Result<Self> {
        let cert = CertificateDer::from_pem_slice(cert.as_bytes())
            .map_err(|error| anyhow!("ca.pem holds no certificate: {error}"))?;
        let key = KeyPair::from_pem(key).context("ca.key holds no key that can be used here")?;
        Ok(Self {
            cert,
            issuer: Issuer::new(params_of(&key), key),
        })
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// The CA's key is not that of its certificate, or the CA was made by another program.
    pub(super) fn sign(&self, kind: &Kind<'_>, valid: Duration) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        let mut params = match kind {
            Kind::Server(hosts) => CertificateParams::new(*hosts)?,
            Kind::Client(name) => {
                let mut params = CertificateParams::default();
                params.subject_alt_names = vec![SanType::DnsName((*name).try_into()?)];
                params
            }
        };
        let (name, usage) = match kind {
            Kind::Server(hosts) => (hosts[0].as_str(), ExtendedKeyUsagePurpose::ServerAuth),
            Kind::Client(name) => (*name, ExtendedKeyUsagePurpose::ClientAuth),
        };
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_time(&mut params, valid);
        let cert = params.signed_by(&key, &self.issuer)?;
        self.verify(&cert, kind)?;
        Ok(Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Looks at a certificate as its users will.
    fn verify(&self, cert: &Certificate, kind: &Kind<'_>) -> anyhow::Result<()> {
        let usage = match kind {
            Kind::Server(_) => KeyUsage::server_auth(),
            Kind::Client(_) => KeyUsage::client_auth(),
        };
        let anchor =
            anchor_from_trusted_cert(&self.cert).map_err(|error| anyhow!("ca.pem is no CA: {error}"))?;
        let cert = EndEntityCert::try_from(cert.der()).map_err(|error| anyhow!("{error}"))?;
        cert.verify_for_usage(ALL_VERIFICATION_ALGS, &[anchor], &[], UnixTime::now(), usage, None, None)
            .map(drop)
            .map_err(|error| {
                anyhow!(
                    "ca.key is not the key of ca.pem, or that CA was not made by `jobq cert init` ({error}); what it \
                     signs would be trusted by nobody"
                )
            })
    }
}

/// # Errors
/// No certificate can be for that host.
pub(super) fn check_host(host: &str) -> anyhow::Result<()> {
    ServerName::try_from(host)
        .map(drop)
        .map_err(|_| anyhow!("{host:?} is no name or address of a host; expected one without scheme and port, as in queue.example"))
}

/// The last day of something that is valid from now on, in UTC.
pub(super) fn last_day(valid: Duration) -> Date {
    let now = Zoned::try_from(SystemTime::now()).map(|now| now.with_time_zone(TimeZone::UTC).date());
    now.ok()
        .and_then(|today| today.checked_add(valid).ok())
        .unwrap_or(Date::MAX)
}

/// All that a CA says of itself, but from when until when.
fn params_of(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Another CA has another name, so that a certificate of the wrong one is told apart before its signature is.
    let id: String = params
        .key_identifier(key)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params.distinguished_name = named(&format!("jobq CA {id}"));
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// From yesterday on, since not all clocks are the same.
fn set_time(params: &mut CertificateParams, valid: Duration) {
    let date = |day: Date| {
        let part = |part: i8| u8::try_from(part).expect("months and days are above 0");
        rcgen::date_time_ymd(day.year().into(), part(day.month()), part(day.day()))
    };
    let today = last_day(Duration::ZERO);
    params.not_before = date(today.yesterday().unwrap_or(today));
    params.not_after = date(last_day(valid).tomorrow().unwrap_or(Date::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

    #[test]
    fn a_ca_is_taken_up_again_from_its_files() {
        let (_, pair) = Authority::new(YEAR).expect("the system is random");
        let authority = Authority::load(&pair.cert, &pair.key).expect("it is one");
        let hosts = ["localhost".to_owned(), "::1".to_owned()];
        authority.sign(&Kind::Server(&hosts), YEAR).expect("it signs");
        authority.sign(&Kind::Client("web"), YEAR).expect("it signs");
    }

    #[test]
    fn a_key_of_another_ca_signs_nothing() {
        let (_, one) = Authority::new(YEAR).expect("the system is random");
        let (_, other) = Authority::new(YEAR).expect("the system is random");
        let mixed = Authority::load(&one.cert, &other.key).expect("both are well-formed");
        let error = mixed
            .sign(&Kind::Client("web"), YEAR)
            .err()
            .expect("nobody would trust it");
        assert!(error.to_string().contains("is not the key of ca.pem"), "{error}");
    }

    #[test]
    fn what_is_no_ca_is_named() {
        let (_, pair) = Authority::new(YEAR).expect("the system is random");
        let error = Authority::load("", &pair.key).err().expect("it is empty");
        assert!(error.to_string().contains("ca.pem"), "{error}");
        let error = Authority::load(&pair.cert, &pair.cert)
            .err()
            .expect("it is no key");
        assert!(error.to_string().contains("ca.key"), "{error}");
    }
}
