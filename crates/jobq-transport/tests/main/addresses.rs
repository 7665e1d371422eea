//! Addresses as text, and what is said when they cannot be used.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use jobq_proto::DEFAULT_PORT;
use jobq_transport::{
    BindOptions, Endpoint, ListenAddress, RouterConfig, StreamRouter, TcpAddress, TransportError, UnixBind,
    memory,
};

use crate::fixtures::{MAX_FRAME, within};

fn tcp(host: &str, port: u16) -> ListenAddress {
    ListenAddress::Tcp(TcpAddress {
        host: host.to_owned(),
        port,
    })
}

fn tls(host: &str) -> ListenAddress {
    ListenAddress::Tls(TcpAddress {
        host: host.to_owned(),
        port: DEFAULT_PORT,
    })
}

#[test]
fn addresses_are_read_and_written_back() {
    let unix = || ListenAddress::Unix("/run/jobq.sock".into());
    for (text, address, written) in [
        (
            "tcp://127.0.0.1:7000",
            tcp("127.0.0.1", 7000),
            "tcp://127.0.0.1:7000",
        ),
        (
            "tcp://queue.example",
            tcp("queue.example", DEFAULT_PORT),
            "tcp://queue.example:7420",
        ),
        ("tcp://localhost:0/", tcp("localhost", 0), "tcp://localhost:0"),
        ("tcp://[::1]:7000", tcp("::1", 7000), "tcp://[::1]:7000"),
        (
            "tls://queue.example",
            tls("queue.example"),
            "tls://queue.example:7420",
        ),
        ("tls://[::1]:7420/", tls("::1"), "tls://[::1]:7420"),
        ("tcp://[::1]", tcp("::1", DEFAULT_PORT), "tcp://[::1]:7420"),
        ("unix:///run/jobq.sock", unix(), "unix:///run/jobq.sock"),
        ("unix:/run/jobq.sock", unix(), "unix:///run/jobq.sock"),
        (
            "unix:jobq.sock",
            ListenAddress::Unix("jobq.sock".into()),
            "unix:jobq.sock",
        ),
    ] {
        let read: ListenAddress = text.parse().unwrap();
        assert_eq!(read, address, "{text}");
        assert_eq!(read.to_string(), written);
        assert_eq!(written.parse(), Ok(read), "what is written is read as the same");
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), written);
    }
}

#[test]
fn what_is_no_address_is_told_apart_and_told_why() {
    for (text, why) in [
        ("", "does not say which transport"),
        ("127.0.0.1:7420", "does not say which transport"),
        ("http://127.0.0.1", "no transport \"http\""),
        ("tcp://", "host is missing"),
        ("tcp://:7420", "host is missing"),
        ("tls://", "host is missing"),
        ("tls://::1", "brackets"),
        ("tcp://host:70000", "no port"),
        ("tcp://host:", "no port"),
        ("tcp://::1", "brackets"),
        ("tcp://[::1", "without ']'"),
        ("tcp://[host]:1", "no IPv6 address"),
        ("tcp://[::1]x", "after ']'"),
        ("tcp://user@host", "no host"),
        ("tcp://host/path", "no host"),
        ("unix:", "path is missing"),
        ("unix://", "path is missing"),
        (
            "unix://jobq.sock",
            "a path from the working directory is unix:jobq.sock",
        ),
    ] {
        let error = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
        assert!(error.contains("expected tcp://HOST:PORT"), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let mut router = StreamRouter::new(RouterConfig::default());
    let address = router.bind(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert!(!address.to_string().ends_with(":0"), "{address} is the real one");
    let error = router.bind(&address).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(matches!(error, TransportError::Bind { .. }));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut router = StreamRouter::new(RouterConfig::default());
    let tcp = router.bind(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
    let unix = router
        .bind(&ListenAddress::Unix(folder.path().join("s")))
        .await
        .unwrap();
    drop(router);
    for address in [tcp, unix] {
        let endpoint = Endpoint::from(address);
        // The listeners go with their tasks, a moment after the router.
        let error = within(async {
            loop {
                if let Err(error) = endpoint.connect(MAX_FRAME).await {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        });
        let error = error.await;
        assert!(matches!(error, TransportError::Connect { .. }), "{error}");
        assert!(error.to_string().contains(&endpoint.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_server_in_this_process_that_is_gone_is_gone_for_good() {
    let (connector, listener) = memory::channel();
    let endpoint = Endpoint::from(connector.clone());
    let _dealer = endpoint.connect(MAX_FRAME).await.unwrap();
    assert!(!connector.is_gone());
    drop(listener);
    assert!(connector.is_gone());
    assert!(matches!(
        endpoint.connect(MAX_FRAME).await,
        Err(TransportError::Gone)
    ));
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobq.sock");
    // The standard library leaves the file behind, as a killed server does.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (bound, local) = UnixBind::bind(&path).await.unwrap();
    assert_eq!(local, path);

    let error = UnixBind::bind(&path).await.unwrap_err().to_string();
    assert!(
        error.contains("jobq.sock") && error.contains("somebody listens"),
        "{error}"
    );
    drop(bound);
    assert!(!path.exists(), "its file goes with it");
}

#[tokio::test]
async fn a_unix_socket_has_the_permissions_that_it_was_asked_to_have() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = folder.path().join("jobq.sock");
    let mut router = StreamRouter::new(RouterConfig::default());
    router.bind(&ListenAddress::Unix(path.clone())).await.unwrap();
    assert_eq!(mode(&path), 0o600, "by default it is for its user only");
    // More than the process's mask leaves.
    let path = folder.path().join("open.sock");
    let mut options = BindOptions::default();
    options.socket_mode = 0o666;
    let address = ListenAddress::Unix(path.clone());
    router.bind_with(&address, &options).await.unwrap();
    assert_eq!(mode(&path), 0o666);
    Endpoint::from(address).connect(MAX_FRAME).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "precious").unwrap();
    let error = UnixBind::bind(&path).await.unwrap_err().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn the_socket_of_another_that_came_later_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobq.sock");
    let (first, _) = UnixBind::bind(&path).await.unwrap();
    std::fs::rename(&path, folder.path().join("moved.sock")).unwrap();
    let (_second, _) = UnixBind::bind(&path).await.unwrap();
    drop(first);
    assert!(path.exists());
}
