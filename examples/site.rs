//! A site that submits jobs and shows what became of them: a form, a page for each job, and a worker.
//!
//! ```sh
//! cargo run -p jobq-examples --bin site                                            # http://127.0.0.1:8080
//! cargo run -p jobq-examples --bin site -- 127.0.0.1:8080 tcp://127.0.0.1:7420     # with a server elsewhere
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures::TryStreamExt;
use jobq_client::{AskError, Client, Endpoint, Include, JobFilter, JobId, JobRequest, SubmitError, params};
use jobq_server::Server;
use jobq_worker::{CancellationToken, Job, JobError, Run, Runtime};
use serde::Deserialize;

const NAME: &str = "reverse";

/// How many jobs the first page shows.
const NEWEST: u64 = 20;

/// Whoever looks at a page does not wait longer.
const DEADLINE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let (endpoint, server): (Endpoint, _) = match arguments.next() {
        Some(address) => (address.parse()?, None),
        None => {
            let server = Server::new().start().await?;
            (server.endpoint(), Some(server))
        }
    };

    // The worker may as well be another process, on another machine.
    let stop = CancellationToken::new();
    let worker = Runtime::new(&endpoint)
        .handler(
            NAME,
            |job: Job<String>, _: Run| async move { reverse(&job.params) },
        )
        .run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);

    let client = Client::builder(&endpoint)
        .label("site")
        .deadline(DEADLINE)
        .connect()
        .await?;
    let listener = tokio::net::TcpListener::bind(&listen)
        .await
        .with_context(|| format!("failed to listen on {listen}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, site(client.clone()))
        .with_graceful_shutdown(async {
            if let Err(error) = tokio::signal::ctrl_c().await {
                eprintln!("failed to wait for an interrupt: {error}");
            }
        })
        .await?;

    stop.cancel();
    worker.await??;
    client.close().await;
    if let Some(server) = server {
        server.stop().await?;
    }
    Ok(())
}

fn reverse(text: &str) -> Result<String, JobError> {
    if text.is_empty() {
        return Err(JobError::never("there is nothing to reverse"));
    }
    Ok(text.chars().rev().collect())
}

fn site(client: Client) -> axum::Router {
    axum::Router::new()
        .route("/", get(newest))
        .route("/jobs", post(submit))
        .route("/jobs/{id}", get(show))
        .with_state(client)
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

/// The job is on disk when the visitor is sent on, so a crash loses nothing that they were told of.
async fn submit(State(client): State<Client>, Form(Text { text }): Form<Text>) -> Result<Redirect, Failure> {
    let request = JobRequest::new(NAME)
        .params(&text)
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, error.to_string()))?;
    let receipt = client.submit(request).await?;
    Ok(Redirect::to(&format!("/jobs/{}", receipt.id)))
}

async fn newest(State(client): State<Client>) -> Result<Html<String>, Failure> {
    let mut rows = String::new();
    let mut jobs = client.list(JobFilter::new().name(NAME).limit(NEWEST));
    while let Some(job) = jobs.try_next().await? {
        let (id, status) = (job.id, job.status);
        write!(rows, "<li><a href=\"/jobs/{id}\">job {id}</a>: {status}</li>")?;
    }
    let form = "<form method=post action=/jobs><input name=text><button>reverse</button></form>";
    Ok(page(&format!("{form}<ul>{rows}</ul>")))
}

async fn show(State(client): State<Client>, Path(id): Path<u64>) -> Result<Html<String>, Failure> {
    let job = client.show_with(JobId(id), Include::Result).await?;
    let job = job.ok_or_else(|| Failure(StatusCode::NOT_FOUND, format!("there is no job {id}")))?;
    let mut text = format!("<p>job {id}: {}</p>", job.status);
    if let Some(result) = &job.result {
        let reversed: String = params::decode(result)
            .map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        write!(text, "<p>result: {}</p>", escape(&reversed))?;
    }
    if let Some(reason) = &job.reason {
        write!(text, "<p>reason: {}</p>", escape(reason))?;
    }
    Ok(page(&format!("{text}<a href=/>all jobs</a>")))
}

fn page(body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><meta charset=utf-8><title>jobq</title>{body}\n"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// What a visitor is told when something fails.
struct Failure(StatusCode, String);

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        // With `Unknown`, the same uuid may be submitted again; this site leaves that to its visitor.
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("failed to submit: {error}"),
        )
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("failed to ask the job queue: {error}"),
        )
    }
}

impl From<std::fmt::Error> for Failure {
    fn from(error: std::fmt::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, page(&escape(&self.1))).into_response()
    }
}
