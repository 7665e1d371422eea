//! A program with a job queue of its own, until it is given the address of a server.
//!
//! ```sh
//! cargo run -p jobq-examples --bin embedded                            # server, worker and client in one process
//! cargo run -p jobq-examples --bin embedded -- tcp://127.0.0.1:7420    # the same with a server elsewhere
//! ```

use futures::StreamExt;
use jobq_client::{Client, Endpoint, JobRequest};
use jobq_server::Server;
use jobq_worker::{CancellationToken, Job, JobError, Run, Runtime, Worker};

const TEXTS: [&str; 4] = [
    "acknowledged means on disk",
    "one binary, nothing beside it",
    "",
    "a dead worker is noticed in seconds",
];

struct CountWords;

impl Worker for CountWords {
    const JOB_NAME: &'static str = "count-words";
    type Params = String;
    type Output = usize;

    async fn process(&self, job: Job<String>, _run: &Run) -> Result<usize, JobError> {
        match job.params.split_whitespace().count() {
            0 => Err(JobError::never("there are no words")),
            words => Ok(words),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Without an address this process is the server too, in memory. `.data("./jobq-data")` keeps the jobs on disk,
    // `.listen("tcp://127.0.0.1:7420".parse()?)` lets other processes in.
    let (endpoint, server): (Endpoint, _) = match std::env::args().nth(1) {
        Some(address) => (address.parse()?, None),
        None => {
            let server = Server::new().start().await?;
            (server.endpoint(), Some(server))
        }
    };

    let stop = CancellationToken::new();
    let worker = Runtime::new(&endpoint).worker(CountWords);
    let worker = tokio::spawn(worker.run(stop.clone().cancelled_owned()));

    let client = Client::connect(&endpoint).await?;
    let mut ids = Vec::new();
    for text in TEXTS {
        let job = JobRequest::new(CountWords::JOB_NAME).params(&text)?;
        ids.push(client.submit(job).await?.id);
    }
    let mut results = client.results::<usize>(ids);
    while let Some(result) = results.next().await {
        match result {
            Ok((id, words)) => println!("job {id}: {words} words"),
            Err(error) => println!("{error}"),
        }
    }

    stop.cancel();
    let summary = worker.await??;
    println!("{} completed, {} failed", summary.completed, summary.failed);
    client.close().await;
    if let Some(server) = server {
        server.stop().await?;
    }
    Ok(())
}
