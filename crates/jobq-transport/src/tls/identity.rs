//! The name in a certificate.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::der::{OID, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING, expect, item};

/// Longest name that is taken, in bytes: that of a host.
const MAX_NAME: usize = 253;

/// The OID of a common name, 2.5.4.3, as it stands in a certificate.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The name that a certificate is for: its first host name, else its first URI, else its common name. None if it has
/// none of them, or one that is longer than a name may be or has control characters.
///
/// Only as true as the certificate: it has to be verified before.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let name = certificate
        .valid_dns_names()
        .next()
        .or_else(|| certificate.valid_uri_names().next())
        .or_else(|| common_name(certificate.subject()))?;
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned())
}

/// The first common name of a subject: a sequence of sets of pairs of an OID and a text, the outermost sequence
/// without its head.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    while !subject.is_empty() {
        let (mut pairs, rest) = expect(SET, subject)?;
        subject = rest;
        while !pairs.is_empty() {
            let (pair, others) = expect(SEQUENCE, pairs)?;
            pairs = others;
            let (oid, value) = expect(OID, pair)?;
            if oid == COMMON_NAME {
                let (tag, text, _) = item(value)?;
                let is_text = matches!(tag, UTF8_STRING | PRINTABLE_STRING);
                return is_text.then(|| std::str::from_utf8(text).ok()).flatten();
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    /// A certificate with these host names, URIs and common names.
    fn certificate(hosts: &[&str], uris: &[&str], names: &[&str]) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("the system is random");
        let mut params = CertificateParams::default();
        let text = |text: &&str| (*text).try_into().expect("it is ASCII");
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI(text(uri)))
            .chain(hosts.iter().map(|host| SanType::DnsName(text(host))))
            .collect();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "an organisation ".repeat(20));
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let certificate = params.self_signed(&key).expect("it is well-formed");
        certificate.der().clone()
    }

    #[test]
    fn a_host_name_goes_before_a_uri_and_that_before_a_common_name() {
        let uri = "spiffe://example.org/worker";
        for (hosts, uris, names, expected) in [
            (
                &["a.example", "b.example"][..],
                &[uri][..],
                &["c"][..],
                Some("a.example"),
            ),
            (&[], &[uri], &["c"], Some(uri)),
            (&[], &[], &["Ann Onymous"], Some("Ann Onymous")),
            (&[], &[], &["zoë"], Some("zoë")),
            (&[], &[], &[], None),
        ] {
            let certificate = certificate(hosts, uris, names);
            assert_eq!(of(&certificate).as_deref(), expected);
        }
    }

    #[test]
    fn a_name_that_could_deceive_is_none() {
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["two\nlines", "\u{1b}[31mred", "", long.as_str()] {
            assert_eq!(of(&certificate(&[], &[], &[name])), None, "{name:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_subject_have_no_name() {
        let subjects: [&[u8]; 6] = [
            &[SET],
            &[SET, 0x85, 1, 1, 1, 1, 1],
            &[SET, 0x82, 0xff],
            &[SET, 4, SEQUENCE, 9, OID, 3],
            &[SET, 2, SEQUENCE, 0],
            &[0, 0, 0],
        ];
        for subject in subjects {
            assert_eq!(common_name(subject), None, "{subject:?}");
        }
        assert_eq!(of(&CertificateDer::from(vec![0; 100])), None);
    }
}
