//! What TLS has of its own: who is trusted, and what is said when somebody is not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jobq_proto::ErrorCode;
use jobq_transport::{
    BindOptions, ClientTls, Closed, Connector, Dealer, Endpoint, EndpointDealer, PeerId, PeerInfo, Router,
    RouterConfig, RouterEvent, ServerTls, StreamRouter, TcpConnector, TlsConnector, TlsError, TlsFailure,
    TlsFiles, TransportError,
};
use rcgen::{ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::certificates::{Authority, Certificate, authority, write};
use crate::fixtures::{
    Fixture, Kind, MAX_FRAME, beat, beat_back, hello, listen_tls, read_refusal, receive, receive_all, within,
};

/// A server for TLS, and a folder for files.
struct Scene {
    router: StreamRouter,
    tls: ServerTls,
    endpoint: Endpoint,
    folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        Self::of(&authority().server(&["127.0.0.1"]), None, RouterConfig::default()).await
    }

    /// A server that asks for certificates of the trusted CA.
    async fn mutual() -> Self {
        let server = authority().server(&["127.0.0.1"]);
        Self::of(&server, Some(authority()), RouterConfig::default()).await
    }

    async fn of(server: &Certificate, client_ca: Option<&Authority>, config: RouterConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client_ca = client_ca.map(|ca| ca.write(folder.path(), "client-ca"));
        let files = server.write(folder.path(), "server").files(client_ca);
        let tls = ServerTls::load(files).unwrap();
        let mut router = StreamRouter::new(config);
        let endpoint = listen_tls(&mut router, tls.clone()).await.into();
        Self {
            router,
            tls,
            endpoint,
            folder,
        }
    }

    /// Settings that trust the CA that the tests trust.
    fn trusting(&self) -> ClientTls {
        ClientTls::new().ca(authority().write(self.folder.path(), "ca"))
    }

    /// The server, for a client with these settings.
    fn endpoint(&self, settings: ClientTls) -> Endpoint {
        self.endpoint.clone().with_tls(settings).unwrap()
    }

    /// A client with these settings that has been admitted.
    async fn peer(&mut self, settings: ClientTls) -> (EndpointDealer, PeerId, PeerInfo) {
        let mut dealer = self.endpoint(settings).connect(MAX_FRAME).await.unwrap();
        dealer.send(&hello()).unwrap();
        dealer.flush();
        let mut events = Vec::new();
        while events.len() < 2 {
            within(self.router.recv(&mut events, 1)).await.unwrap();
            // Peers of before may have gone.
            events.retain(|event| !matches!(event, RouterEvent::Closed { .. }));
        }
        match &events[0] {
            RouterEvent::Opened { peer, info } => {
                self.router.admit(*peer, MAX_FRAME);
                (dealer, *peer, info.clone())
            }
            other => panic!("expected Opened, not {other:?}"),
        }
    }

    /// Why a client with these settings does not get in; told at its connection, or by what it reads first.
    async fn failure(&self, settings: ClientTls) -> TlsFailure {
        let error = match self.endpoint(settings).connect(MAX_FRAME).await {
            Ok(mut dealer) => {
                dealer.send(&hello()).unwrap();
                receive(&mut dealer).await.unwrap_err()
            }
            Err(error) => {
                assert!(error.to_string().contains(&self.endpoint.to_string()), "{error}");
                error
            }
        };
        error.tls().unwrap_or_else(|| panic!("{error:?}")).clone()
    }

    /// Exchanges the server's files.
    fn replace(&self, server: &Certificate) {
        server.write(self.folder.path(), "server");
    }
}

/// What a client that trusts the tests' CA says of a server's certificate.
async fn failure_of(server: Certificate) -> TlsFailure {
    let scene = Scene::of(&server, None, RouterConfig::default()).await;
    scene.failure(scene.trusting()).await
}

#[tokio::test]
async fn a_peer_without_a_certificate_has_no_identity() {
    let mut scene = Scene::new().await;
    let (_dealer, _, info) = scene.peer(scene.trusting()).await;
    assert_eq!((info.transport, info.identity), ("tls", None));
    assert!(info.address.starts_with("127.0.0.1:"), "{}", info.address);
}

#[tokio::test]
async fn a_server_whose_ca_is_unknown_is_refused() {
    let stranger = Authority::new("somebody else");
    let failure = failure_of(stranger.server(&["127.0.0.1"])).await;
    assert_eq!(failure, TlsFailure::UnknownCa);
    // Another CA of the same name is another CA.
    let namesake = Authority::new("the trusted CA");
    let failure = failure_of(namesake.server(&["127.0.0.1"])).await;
    assert!(
        matches!(failure, TlsFailure::UnknownCa | TlsFailure::BadCertificate(_)),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused() {
    let expired = authority().server_with(&["127.0.0.1"], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    assert_eq!(failure_of(expired).await, TlsFailure::Expired);
    let early = authority().server_with(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(3000, 1, 1);
    });
    assert_eq!(failure_of(early).await, TlsFailure::NotYetValid);
}

#[tokio::test]
async fn a_certificate_for_other_hosts_is_refused_with_their_names() {
    let failure = failure_of(authority().server(&["queue.example", "10.0.0.1"])).await;
    assert_eq!(
        failure.to_string(),
        "the server's certificate is for queue.example, 10.0.0.1, and not for 127.0.0.1"
    );
    let failure = failure_of(authority().server(&[])).await;
    assert!(
        failure
            .to_string()
            .contains("is for no host at all, and not for 127.0.0.1"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_certificate_for_clients_is_none_for_servers() {
    let failure = failure_of(authority().server_with(&["127.0.0.1"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }))
    .await;
    assert!(matches!(failure, TlsFailure::BadCertificate(_)), "{failure:?}");
}

#[tokio::test]
async fn a_client_certificate_makes_its_name_the_peers_identity() {
    let mut scene = Scene::mutual().await;
    let san = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let (common, host) = (
        authority().client("Ann"),
        |params: &mut rcgen::CertificateParams| {
            params.subject_alt_names = vec![san("worker-1.example"), san("other.example")];
        },
    );
    for (certificate, identity) in [
        (common, "Ann"),
        (authority().client_with("Ann", host), "worker-1.example"),
    ] {
        let files = certificate.write(scene.folder.path(), "client");
        let settings = files.identity(scene.trusting());
        let (mut dealer, peer, info) = scene.peer(settings).await;
        assert_eq!(info.identity.as_deref(), Some(identity));
        scene.router.send(peer, beat_back(1)).unwrap();
        scene.router.flush();
        assert_eq!(receive(&mut dealer).await.unwrap(), [beat_back(1)]);
    }
}

#[tokio::test]
async fn a_client_certificate_that_is_asked_for_and_not_shown_is_named() {
    let scene = Scene::mutual().await;
    let failure = scene.failure(scene.trusting()).await;
    assert_eq!(failure, TlsFailure::CertificateRequired);
}

#[tokio::test]
async fn a_client_certificate_that_is_no_good_is_refused_with_the_reason() {
    let scene = Scene::mutual().await;
    let stranger = Authority::new("somebody else");
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    for (client, why) in [
        (stranger.client("Ann"), "trusts no CA"),
        (authority().client_with("Ann", expired), "has expired"),
        (authority().server(&["127.0.0.1"]), "not accept"),
    ] {
        let files = client.write(scene.folder.path(), "client");
        let failure = scene.failure(files.identity(scene.trusting())).await;
        assert!(failure.to_string().contains(why), "{why}: {failure}");
        assert!(matches!(failure, TlsFailure::Refused(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn new_certificates_are_for_new_connections_and_disturb_none_that_there_are() {
    let mut scene = Scene::mutual().await;
    let client = authority().client("Ann").write(scene.folder.path(), "client");
    let settings = client.identity(scene.trusting());
    let (mut old, old_peer, _) = scene.peer(settings.clone()).await;

    let successor = Authority::new("the next CA");
    scene.replace(&successor.server(&["127.0.0.1"]));
    scene.tls.reload().unwrap();
    assert_eq!(
        scene.failure(settings).await,
        TlsFailure::UnknownCa,
        "it shows the new one"
    );
    let next = ClientTls::new().ca(successor.write(scene.folder.path(), "next"));
    let (mut new, new_peer, _) = scene.peer(client.identity(next)).await;
    for (dealer, peer, number) in [(&mut old, old_peer, 1), (&mut new, new_peer, 2)] {
        dealer.send(&beat(number)).unwrap();
        dealer.flush();
        let mut events = Vec::new();
        within(scene.router.recv(&mut events, 1)).await.unwrap();
        assert_eq!(
            events,
            [RouterEvent::Message {
                peer,
                message: beat(number)
            }]
        );
    }
}

#[tokio::test]
async fn a_client_ca_that_was_exchanged_admits_nobody_of_the_old_one() {
    let mut scene = Scene::mutual().await;
    let client = authority().client("Ann").write(scene.folder.path(), "client");
    let settings = client.identity(scene.trusting());
    scene.peer(settings.clone()).await;
    Authority::new("the next CA").write(scene.folder.path(), "client-ca");
    scene.tls.reload().unwrap();
    let failure = scene.failure(settings).await;
    assert!(matches!(failure, TlsFailure::Refused(_)), "{failure:?}");
}

#[tokio::test]
async fn files_that_are_no_good_leave_the_old_certificates_in_use() {
    let mut scene = Scene::new().await;
    let server = authority().server(&["127.0.0.1"]);
    let other = authority().server(&["127.0.0.1"]);
    scene.replace(&Certificate {
        cert: server.cert,
        key: other.key,
    });
    let error = scene.tls.reload().unwrap_err();
    assert!(matches!(error, TlsError::KeyMismatch { .. }), "{error}");
    scene.peer(scene.trusting()).await;
    std::fs::remove_file(scene.folder.path().join("server.pem")).unwrap();
    scene.tls.reload().unwrap_err();
    scene.peer(scene.trusting()).await;
}

#[tokio::test]
async fn files_that_are_no_good_are_named_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let server = authority().server(&["localhost"]);
    let good = server.write(folder.path(), "good");
    let other = authority().server(&["localhost"]).write(folder.path(), "other");
    let file = |name: &str, text: &str| write(folder.path(), name, text);
    let absent = folder.path().join("absent.pem");
    let damaged = server.cert.replacen("MII", "MIX", 1);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let cases: [(PathBuf, PathBuf, &[&str]); 8] = [
        (
            absent.clone(),
            good.key.clone(),
            &["absent.pem", "the certificate", "No such file"],
        ),
        (
            good.cert.clone(),
            absent.clone(),
            &["absent.pem", "the key", "No such file"],
        ),
        (
            file("empty.pem", ""),
            good.key.clone(),
            &["empty.pem", "BEGIN CERTIFICATE"],
        ),
        (
            good.key.clone(),
            good.key.clone(),
            &["good.key", "BEGIN CERTIFICATE"],
        ),
        (
            good.cert.clone(),
            good.cert.clone(),
            &["good.pem", "BEGIN PRIVATE KEY"],
        ),
        (
            good.cert.clone(),
            file("secret.key", encrypted),
            &["secret.key", "is encrypted", "openssl pkey"],
        ),
        (file("damaged.pem", &damaged), good.key.clone(), &["damaged.pem"]),
        (
            good.cert.clone(),
            other.key.clone(),
            &["good.pem", "other.key", "does not belong"],
        ),
    ];
    for (cert, key, said) in cases {
        let files = TlsFiles::new(&cert, &key);
        let error = ServerTls::load(files).unwrap_err().to_string();
        assert!(
            said.iter().all(|words| error.contains(words)),
            "{said:?}: {error}"
        );
        // A client's are read in the same way.
        let ca = authority().write(folder.path(), "ca");
        let settings = ClientTls::new().ca(ca).identity(cert, key);
        let endpoint: Endpoint = "tls://localhost".parse().unwrap();
        let error = endpoint
            .with_tls(settings)
            .unwrap()
            .check()
            .await
            .unwrap_err()
            .to_string();
        let name = said[0];
        assert!(error.contains(name), "{error}");
    }
    for (client_ca, said) in [(absent, "No such file"), (good.key.clone(), "BEGIN CERTIFICATE")] {
        let error = ServerTls::load(good.files(Some(client_ca)))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("client certificates") && error.contains(said),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_from_the_next_connection_on() {
    let mut scene = Scene::mutual().await;
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let client = authority()
        .client_with("Ann", expired)
        .write(scene.folder.path(), "client");
    let settings = client.identity(scene.trusting());
    scene.failure(settings.clone()).await;
    authority().client("Ann").write(scene.folder.path(), "client");
    scene.peer(settings).await;
}

#[tokio::test]
async fn a_plain_client_on_a_tls_port_is_told_to_speak_tls() {
    let mut scene = Scene::new().await;
    let Endpoint::Tls(connector) = &scene.endpoint else {
        panic!("it is for TLS");
    };
    let mut plain = Endpoint::Tcp(connector.address.clone())
        .connect(MAX_FRAME)
        .await
        .unwrap();
    plain.send(&hello()).unwrap();
    let (said, end) = receive_all(&mut plain).await;
    let [last] = <[_; 1]>::try_from(said).unwrap();
    let (code, message) = crate::fixtures::refusal(last);
    assert_eq!(code, ErrorCode::Malformed);
    assert!(message.contains("tls://"), "{message}");
    assert!(matches!(end, TransportError::Closed), "{end}");
    let mut events = Vec::new();
    assert_eq!(
        scene.router.try_recv(&mut events, 10),
        0,
        "nobody was there: {events:?}"
    );
}

#[tokio::test]
async fn a_tls_client_on_a_plain_port_is_told_so_and_so_is_the_server() {
    let mut fixture = Fixture::new(Kind::Tcp).await;
    let Endpoint::Tcp(address) = fixture.endpoint.clone() else {
        panic!("it is plain");
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = ClientTls::new().ca(authority().write(folder.path(), "ca"));
    let endpoint = Endpoint::Tls(TlsConnector { address, settings });
    let error = endpoint.connect(MAX_FRAME).await.err().unwrap();
    assert_eq!(error.tls(), Some(&TlsFailure::Plain), "{error}");
    let peer = fixture.opened().await;
    let (closed, why) = fixture.closed().await;
    assert_eq!(closed, peer);
    assert!(why.to_string().contains("beginning of TLS"), "{why}");
    assert!(matches!(why, Closed::Protocol(error) if error.code == ErrorCode::Malformed));
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_gives_its_seat_back() {
    let mut config = RouterConfig::default();
    config.hello_timeout = Duration::from_millis(50);
    let server = authority().server(&["127.0.0.1"]);
    let mut scene = Scene::of(&server, None, config).await;
    let Endpoint::Tls(connector) = &scene.endpoint else {
        panic!("it is for TLS");
    };
    let tcp = TcpConnector {
        address: connector.address.clone(),
    };
    for beginning in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = tcp.connect().await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut rest = Vec::new();
        // Closed without a word, or reset; but not kept.
        let _ = within(stream.read_to_end(&mut rest)).await;
    }
    within(async {
        while scene.router.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut events = Vec::new();
    assert_eq!(
        scene.router.try_recv(&mut events, 10),
        0,
        "nobody was there: {events:?}"
    );
}

#[tokio::test]
async fn garbage_within_a_handshake_is_answered_by_an_alert_and_disturbs_nobody() {
    let mut scene = Scene::new().await;
    let (mut dealer, peer, _) = scene.peer(scene.trusting()).await;
    let Endpoint::Tls(connector) = &scene.endpoint else {
        panic!("it is for TLS");
    };
    let tcp = TcpConnector {
        address: connector.address.clone(),
    };
    let mut stream = tcp.connect().await.unwrap();
    // A record as it should be, with a message that no client begins with.
    stream
        .write_all(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00")
        .await
        .unwrap();
    let mut said = Vec::new();
    within(stream.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said.first(), Some(&0x15), "an alert: {said:?}");
    scene.router.send(peer, beat_back(7)).unwrap();
    scene.router.flush();
    assert_eq!(receive(&mut dealer).await.unwrap(), [beat_back(7)]);
}

#[tokio::test]
async fn a_connection_that_is_cut_without_a_goodbye_is_an_end_like_any_other() {
    let mut scene = Scene::new().await;
    let stream = tls_stream(&scene, rustls::DEFAULT_VERSIONS, &[]).await.unwrap();
    let (tcp, _) = stream.into_inner();
    drop(tcp);
    let mut events = Vec::new();
    while events.len() < 2 {
        within(scene.router.recv(&mut events, 2)).await.unwrap();
    }
    assert!(
        matches!(
            &events[1],
            RouterEvent::Closed {
                why: Closed::PeerGone,
                ..
            }
        ),
        "{events:?}"
    );
}

#[tokio::test]
async fn tls_1_3_and_1_2_are_spoken_with_jobq_or_no_protocol_named_in_them() {
    let scene = Scene::new().await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for protocols in [&[][..], &["jobq"], &["h2", "jobq"]] {
            let mut stream: Box<dyn jobq_transport::ByteStream> =
                Box::new(tls_stream(&scene, &[version], protocols).await.unwrap());
            stream.write_all(&[0; 4]).await.unwrap();
            let (code, _) = read_refusal(&mut stream).await;
            assert_eq!(code, ErrorCode::Malformed, "it is a jobq server that answers");
        }
        let other = tls_stream(&scene, &[version], &["h2", "http/1.1"]).await;
        assert!(other.is_err(), "another protocol is refused in the handshake");
    }
}

/// A connection of a TLS client that is not jobq's own.
async fn tls_stream(
    scene: &Scene,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = authority().write(scene.folder.path(), "ca");
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let Endpoint::Tls(connector) = &scene.endpoint else {
        panic!("it is for TLS");
    };
    let tcp = TcpConnector {
        address: connector.address.clone(),
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp.connect().await.unwrap())
        .await
}

#[tokio::test]
async fn settings_for_tls_are_refused_where_it_is_not_spoken() {
    let plain: Endpoint = "tcp://127.0.0.1".parse().unwrap();
    let error = plain.with_tls(ClientTls::new()).unwrap_err().to_string();
    assert!(
        error.contains("tcp://127.0.0.1:7420") && error.contains("use tls://"),
        "{error}"
    );
    let local: Endpoint = "unix:///run/jobq.sock".parse().unwrap();
    assert_eq!(
        local.with_tls(ClientTls::new()).unwrap().to_string(),
        "unix:///run/jobq.sock"
    );
}

#[tokio::test]
async fn a_host_that_no_certificate_can_be_for_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ClientTls::new().ca(authority().write(folder.path(), "ca"));
    let endpoint: Endpoint = "tls://under the.bridge".replace(' ', "~").parse().unwrap();
    let endpoint = endpoint.with_tls(settings).unwrap();
    let error = endpoint.check().await.unwrap_err();
    assert!(matches!(error, TlsError::BadHost { .. }), "{error}");
    let error = endpoint.connect(MAX_FRAME).await.err().unwrap();
    assert!(error.to_string().contains("under~the.bridge"), "{error}");
}

#[tokio::test]
async fn a_tls_address_without_certificates_is_not_listened_on() {
    let mut router = StreamRouter::new(RouterConfig::default());
    let address = "tls://127.0.0.1:0".parse().unwrap();
    let error = router
        .bind_with(&address, &BindOptions::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tls://127.0.0.1:0") && error.contains("no certificate"),
        "{error}"
    );
}
