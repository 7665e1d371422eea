//! The flags of `jobq serve` that say where it listens, and who gets in there.

use std::path::PathBuf;

use anyhow::anyhow;
use jobq_server::access::MIN_SHARED_TOKEN;
use jobq_server::{Server, ServerTls, TlsFiles};
use jobq_transport::ListenAddress;

use crate::cli::Global;
use crate::exit::Exit;

/// Where a server listens, and who gets in there.
#[derive(Debug, clap::Args)]
pub(super) struct Listening {
    /// Listen there: tcp://HOST:PORT or tls://HOST:PORT, with port 7420 if it is left out, or unix:///PATH; may be
    /// given several times
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "tcp://127.0.0.1:7420",
        value_delimiter = ','
    )]
    listen: Vec<ListenAddress>,
    /// Let only those in at tls:// addresses who show a certificate signed by a CA in this PEM file
    ///
    /// The certificate's name is then the peer's identity: its first host name, else its first URI, else its common
    /// name.
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Listen at addresses that other machines reach without TLS, or without asking who connects
    ///
    /// Everybody who reaches such an address can submit jobs and take them, or read and change what travels.
    #[arg(long)]
    insecure_listen: bool,
    /// Make Unix sockets with these permissions; who may write to one may connect
    #[arg(long, value_name = "OCTAL", value_parser = mode, default_value = "600")]
    socket_mode: u32,
}

impl Listening {
    /// Looks for addresses at which strangers would be let in, or listen in.
    ///
    /// # Errors
    /// There is one, and nobody said that it is meant.
    pub(super) fn check(&self, asks_for_token: bool) -> anyhow::Result<()> {
        for address in &self.listen {
            let Some(lacking) = self.lacking(address, asks_for_token) else {
                continue;
            };
            if self.insecure_listen {
                tracing::warn!(%address, "other machines reach this address, and it goes {lacking}");
                continue;
            }
            return Err(Exit::Usage.because(anyhow!(
                "failed to listen on {address}: other machines reach it, and it would go {lacking}; listen on tls:// \
                 with --tls-cert and --tls-key (`jobq cert init` makes them), and ask for a token (JOBQ_TOKEN or \
                 --token-file) or for client certificates (--tls-client-ca). Or say --insecure-listen, if nobody \
                 else can reach it"
            )));
        }
        Ok(())
    }

    /// Looks for addresses at which strangers could guess the token that all may share. The server warns of such a token
    /// wherever it listens.
    ///
    /// # Errors
    /// There is one, and nobody said that it is meant.
    pub(super) fn check_token(&self, shared: Option<&str>) -> anyhow::Result<()> {
        let is_short = |token: &&str| token.len() < MIN_SHARED_TOKEN;
        let Some(token) = shared.filter(is_short) else {
            return Ok(());
        };
        let is_open = |address: &&ListenAddress| match address {
            ListenAddress::Tcp(tcp) => !is_loopback(&tcp.host),
            ListenAddress::Tls(tcp) => !is_loopback(&tcp.host) && self.tls_client_ca.is_none(),
            _ => false,
        };
        match self.listen.iter().find(is_open) {
            Some(address) if !self.insecure_listen => Err(Exit::Usage.because(anyhow!(
                "failed to listen on {address}: other machines reach it, and the shared token has only {} bytes, which can \
                 be guessed; expected {MIN_SHARED_TOKEN} at least. Make one with `openssl rand -base64 32`, or give each \
                 client its own with `jobq token create`. Or say --insecure-listen, if nobody else can reach it",
                token.len()
            ))),
            _ => Ok(()),
        }
    }

    /// What protects nobody at an address; none where all is well.
    fn lacking(&self, address: &ListenAddress, asks_for_token: bool) -> Option<&'static str> {
        let (tcp, is_encrypted) = match address {
            ListenAddress::Tcp(tcp) => (tcp, false),
            ListenAddress::Tls(tcp) => (tcp, true),
            _ => return None,
        };
        if is_loopback(&tcp.host) {
            return None;
        }
        let is_asked = asks_for_token || (is_encrypted && self.tls_client_ca.is_some());
        match (is_encrypted, is_asked) {
            (true, true) => None,
            (true, false) => Some("without asking who connects"),
            (false, true) => Some("without TLS"),
            (false, false) => Some("without TLS and without asking who connects"),
        }
    }

    /// Has a server listen there, with its certificates.
    ///
    /// # Errors
    /// They are missing, or cannot be used.
    pub(super) fn apply(&self, server: Server, global: &Global) -> anyhow::Result<Server> {
        let server = self.listen.iter().cloned().fold(server, Server::listen);
        let server = server.socket_mode(self.socket_mode);
        Ok(match self.tls(global)? {
            Some(tls) => server.tls(tls),
            None => server,
        })
    }

    fn tls(&self, global: &Global) -> anyhow::Result<Option<ServerTls>> {
        let usage = |error: String| Exit::Usage.because(anyhow!("failed to listen: {error}"));
        let certificate = global.certificate()?;
        let encrypted = self
            .listen
            .iter()
            .find(|address| matches!(address, ListenAddress::Tls(_)));
        match (encrypted, certificate) {
            (None, _) if self.tls_client_ca.is_some() => Err(usage(
                "--tls-client-ca is for tls:// addresses, and no --listen is one".to_owned(),
            )),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                tracing::warn!("--tls-cert is not shown to anybody: no --listen is a tls:// address");
                Ok(None)
            }
            (Some(address), None) => Err(usage(format!(
                "{address} needs a certificate: give --tls-cert and --tls-key; `jobq cert init` makes them"
            ))),
            (Some(_), Some((cert, key))) => {
                let mut files = TlsFiles::new(cert, key);
                if let Some(client_ca) = &self.tls_client_ca {
                    files = files.client_ca(client_ca);
                }
                let tls = ServerTls::load(files).map_err(|error| {
                    Exit::CannotStart.because(anyhow!("failed to start the server: {error}"))
                })?;
                Ok(Some(tls))
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    address.map_or(host == "localhost", |address| {
        address.to_canonical().is_loopback()
    })
}

fn mode(text: &str) -> Result<u32, String> {
    const ALL: u32 = 0o777;
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= ALL)
        .ok_or_else(|| "expected permissions as chmod takes them, from 000 to 777, such as 660".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(address: &str, client_ca: bool, insecure: bool) -> Listening {
        Listening {
            listen: vec![
                "tcp://127.0.0.1".parse().expect("it is an address"),
                address.parse().expect("it is an address"),
            ],
            tls_client_ca: client_ca.then(|| "ca.pem".into()),
            insecure_listen: insecure,
            socket_mode: 0o600,
        }
    }

    #[test]
    fn an_address_that_other_machines_reach_needs_tls_and_someone_asking_who_connects() {
        for host in [
            "0.0.0.0",
            "[::]",
            "10.0.0.1",
            "queue.example",
            "[::ffff:10.0.0.1]",
        ] {
            for (scheme, token, client_ca, is_good) in [
                ("tls", true, false, true),
                ("tls", false, true, true),
                ("tls", false, false, false),
                ("tcp", true, false, false),
                ("tcp", true, true, false),
                ("tcp", false, true, false),
                ("tcp", false, false, false),
            ] {
                let address = format!("{scheme}://{host}");
                let checked = listening(&address, client_ca, false).check(token);
                assert_eq!(checked.is_ok(), is_good, "{address} {token} {client_ca}");
                if let Err(error) = checked {
                    assert_eq!(Exit::of(&error), Exit::Usage);
                }
                assert!(
                    listening(&address, client_ca, true).check(token).is_ok(),
                    "it is meant"
                );
            }
        }
    }

    #[test]
    fn an_address_of_this_machine_needs_nothing() {
        for address in [
            "tcp://127.0.0.1",
            "tcp://127.8.9.10",
            "tcp://[::1]",
            "tcp://[::ffff:127.0.0.1]",
            "tcp://localhost",
            "tls://localhost",
            "unix:///run/jobq.sock",
        ] {
            assert!(listening(address, false, false).check(false).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_short_token_is_none_where_other_machines_can_try_it() {
        let short = Some("fifteen bytes..");
        for (address, client_ca, is_good) in [
            ("tls://0.0.0.0", false, false),
            ("tcp://10.0.0.1", false, false),
            ("tls://0.0.0.0", true, true),
            ("tls://localhost", false, true),
            ("unix:///run/jobq.sock", false, true),
        ] {
            let checked = listening(address, client_ca, false).check_token(short);
            assert_eq!(checked.is_ok(), is_good, "{address} {client_ca}");
            if let Err(error) = checked {
                assert_eq!(Exit::of(&error), Exit::Usage);
                assert!(error.to_string().contains("15 bytes"), "{error}");
            }
            assert!(listening(address, client_ca, true).check_token(short).is_ok());
            for good in [None, Some("of sixteen bytes")] {
                assert!(listening(address, client_ca, false).check_token(good).is_ok());
            }
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(mode("660"), Ok(0o660));
        assert_eq!(mode("0600"), Ok(0o600));
        for bad in ["", "rw", "888", "1000", "-1"] {
            assert!(mode(bad).is_err(), "{bad:?}");
        }
    }
}
