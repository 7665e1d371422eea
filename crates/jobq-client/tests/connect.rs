use jobq_client::{Client, ConnectError, ErrorCode, JobId, SessionError, SubmitError, WaitError};
use jobq_client::{JobRequest, WireError};
use jobq_proto::message::ErrorMessage;
use jobq_proto::{ClientMessage, ServerMessage};

use crate::fake::{FakeServer, patiently};

fn last_words(code: ErrorCode) -> ClientMessage {
    let error = WireError::new(code, "not you");
    ClientMessage::Error(ErrorMessage { error })
}

#[tokio::test]
async fn connecting_where_nobody_listens_fails_and_names_the_address() {
    // Bound and not listened on, so that nobody else can while this lives.
    let taken = tokio::net::TcpSocket::new_v4().expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    taken.bind(any).expect("a free port");
    let address = format!("tcp://{}", taken.local_addr().expect("it has one"));
    let error = patiently(Client::connect(&address))
        .await
        .expect_err("nobody is there");
    assert!(
        matches!(error, ConnectError::Session(SessionError::Connect { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains(&address), "{error}");
    drop(taken);
}

#[tokio::test]
async fn a_text_that_is_no_address_is_refused() {
    let error = Client::connect("localhost").await.expect_err("no address");
    assert!(matches!(error, ConnectError::Address(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_greets_is_given_up() {
    let (endpoint, mut server) = FakeServer::new();
    let builder = Client::builder(endpoint).connect_timeout(std::time::Duration::from_millis(50));
    let (client, _peer) = tokio::join!(patiently(builder.connect()), server.accept_silently());
    let error = client.expect_err("nobody greets");
    assert!(
        matches!(error, ConnectError::Session(SessionError::HelloTimeout { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refused_token_is_an_error_of_connecting_that_says_why() {
    let (endpoint, mut server) = FakeServer::new();
    let refuse = async {
        let mut peer = server.accept_silently().await;
        assert_eq!(peer.hello.token.as_deref(), Some("wrong"));
        assert_eq!(peer.hello.label, "shop");
        peer.send(last_words(ErrorCode::BadToken)).await;
    };
    let builder = Client::builder(endpoint).token("wrong").label("shop");
    let (client, ()) = tokio::join!(patiently(builder.connect()), refuse);
    let error = client.expect_err("refused");
    assert!(error.to_string().contains("not you (bad_token)"), "{error}");
}

#[tokio::test]
async fn an_error_that_cannot_pass_ends_everything_that_waits() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let submit = client.submit(JobRequest::new("ping"));
    let wait = client.wait(JobId(1));
    let script = async {
        for _ in 0..2 {
            peer.read().await.expect("a Request and a Watch");
        }
        peer.send(last_words(ErrorCode::BadToken)).await;
    };
    let (submitted, waited, ()) = tokio::join!(patiently(submit), patiently(wait), script);
    assert!(
        matches!(submitted, Err(SubmitError::Unknown { .. })),
        "{submitted:?}"
    );
    assert!(matches!(waited, Err(WaitError::Session(_))), "{waited:?}");
    let later = client.submit(JobRequest::new("ping")).await;
    assert!(
        matches!(later, Err(SubmitError::Session(SessionError::Refused { .. }))),
        "{later:?}"
    );
}

#[tokio::test]
async fn an_embedded_server_that_is_dropped_ends_its_clients() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, peer) = server.client(endpoint).await;
    let wait = client.wait(JobId(1));
    drop((peer, server));
    let error = patiently(wait).await.expect_err("the server is gone");
    assert!(error.to_string().contains("gone"), "{error}");
}

#[tokio::test]
async fn the_last_handle_says_goodbye() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let clone = client.clone();
    drop(client);
    let (stats, ()) = tokio::join!(clone.stats(), crate::ask::answer_stats(&mut peer));
    stats.expect("a clone goes on");
    drop(clone);
    assert!(matches!(peer.read().await, Some(ServerMessage::Goodbye(_))));
    assert_eq!(peer.read().await, None);
}

#[tokio::test]
async fn a_closed_client_says_goodbye_and_its_clones_end() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let clone = client.clone();
    let (waited, ()) = tokio::join!(patiently(clone.wait(JobId(1))), async move {
        peer.read().await.expect("a Watch");
        tokio::join!(client.close(), async move {
            assert!(matches!(peer.read().await, Some(ServerMessage::Goodbye(_))));
            assert_eq!(peer.read().await, None);
        });
    });
    assert!(matches!(waited, Err(WaitError::Closed)), "{waited:?}");
    let submitted = clone.submit(JobRequest::new("ping")).await;
    assert!(matches!(submitted, Err(SubmitError::Closed)), "{submitted:?}");
    let many = clone.submit_many(vec![JobRequest::new("ping")]).await;
    assert!(matches!(many, Err(SubmitError::Closed)), "{many:?}");
}
