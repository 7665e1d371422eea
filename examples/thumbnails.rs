//! Makes thumbnails of the PNG and JPEG files of a folder, each in a job of its own. A file that is no image ends as a
//! dead letter; the others are made all the same.
//!
//! ```sh
//! cargo run -p jobq-examples --bin thumbnails -- PICTURES THUMBNAILS
//! cargo run -p jobq-examples --bin thumbnails -- PICTURES THUMBNAILS tcp://127.0.0.1:7420
//! ```

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use futures::StreamExt;
use image::error::ImageError;
use image::{ImageFormat, ImageReader};
use jobq_client::{Client, Endpoint, JobFilter, JobRequest, Status};
use jobq_server::Server;
use jobq_worker::{CancellationToken, Job, JobError, Run, Runtime};
use serde::{Deserialize, Serialize};

const NAME: &str = "thumbnail";

/// Longest side of a thumbnail, in pixels.
const SIDE: u32 = 128;

#[derive(Serialize, Deserialize)]
struct Asset {
    from: PathBuf,
    to: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Size {
    width: u32,
    height: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, address) = match arguments.as_slice() {
        [from, to] => (from, to, None),
        [from, to, address] => (from, to, Some(address)),
        _ => anyhow::bail!("expected: thumbnails PICTURES THUMBNAILS [SERVER]"),
    };
    let assets = assets(Path::new(from), Path::new(to))?;
    fs::create_dir_all(to).with_context(|| format!("failed to make {to}"))?;
    let (endpoint, server): (Endpoint, _) = match address {
        Some(address) => (address.parse()?, None),
        None => {
            let server = Server::new().start().await?;
            (server.endpoint(), Some(server))
        }
    };

    let stop = CancellationToken::new();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let worker = Runtime::new(&endpoint)
        .blocking(NAME, make_thumbnail)
        .concurrency(u32::try_from(cores)?)
        .run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);

    let client = Client::connect(&endpoint).await?;
    let failed = make_all(&client, &assets).await?;
    stop.cancel();
    worker.await??;
    client.close().await;
    if let Some(server) = server {
        server.stop().await?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The images of a folder, by their names, and what is to become of each.
fn assets(from: &Path, to: &Path) -> anyhow::Result<Vec<Asset>> {
    let mut assets = Vec::new();
    for entry in
        fs::read_dir(from).with_context(|| format!("failed to read the folder {}", from.display()))?
    {
        let path = entry?.path();
        let extension = path
            .extension()
            .and_then(OsStr::to_str)
            .map(str::to_ascii_lowercase);
        if let (Some("png" | "jpg" | "jpeg"), Some(name)) = (extension.as_deref(), path.file_name()) {
            let to = to.join(name).with_extension("png");
            assets.push(Asset { from: path, to });
        }
    }
    assets.sort_by(|a, b| a.from.cmp(&b.from));
    Ok(assets)
}

/// Submits a job for each image, tells how each ends, and gives how many failed.
async fn make_all(client: &Client, assets: &[Asset]) -> anyhow::Result<usize> {
    let jobs = assets.iter().map(|asset| JobRequest::new(NAME).params(asset));
    let receipts = client.submit_many(jobs.collect::<Result<_, _>>()?).await?;
    let ids = receipts
        .into_iter()
        .map(|receipt| receipt.map(|receipt| receipt.id))
        .collect::<Result<Vec<_>, _>>()?;
    let path_of = |id| {
        let place = ids.iter().position(|other| *other == id);
        place.map_or_else(
            || "?".to_owned(),
            |place| assets[place].from.display().to_string(),
        )
    };

    let mut results = client.results::<Size>(ids.iter().copied());
    while let Some(result) = results.next().await {
        // What failed is asked for below.
        if let Ok((id, Size { width, height })) = result {
            println!("{}: {width}x{height}", path_of(id));
        }
    }
    // A dead letter stays with the server, for people to look at and to retry.
    let mut failed = 0;
    let mut dead_letters = client.list(JobFilter::new().name(NAME).status(Status::Failed));
    while let Some(job) = dead_letters.next().await {
        let job = job?;
        let id = jobq_client::JobId(job.id);
        if ids.contains(&id) {
            failed += 1;
            println!("{}: failed: {}", path_of(id), job.reason.unwrap_or_default());
        }
    }
    Ok(failed)
}

/// The work itself. Doing it twice does no harm: the thumbnail takes its place only when it is whole.
fn make_thumbnail(job: Job<Asset>, run: Run) -> Result<Size, JobError> {
    let Asset { from, to } = job.params;
    run.progress(0.0, "decoding");
    let image = ImageReader::open(&from)?
        .with_guessed_format()?
        .decode()
        .map_err(|error| match error {
            // Reading may work the next time; a damaged file stays damaged.
            ImageError::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                JobError::from(error)
            }
            error => JobError::never(error.to_string()),
        })?;
    if run.is_cancelled() {
        return Err(JobError::retry("stopped"));
    }
    run.progress(0.5, "resizing");
    let thumbnail = image.thumbnail(SIDE, SIDE);
    let unfinished = to.with_extension(format!("{}.tmp", run.fence()));
    thumbnail.save_with_format(&unfinished, ImageFormat::Png)?;
    fs::rename(&unfinished, &to)?;
    Ok(Size {
        width: thumbnail.width(),
        height: thumbnail.height(),
    })
}
