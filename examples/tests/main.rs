//! Runs the examples as their reader would.

mod embedding;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use image::{DynamicImage, ImageFormat, RgbImage};
use jobq_client::{Client, JobFilter, Status};
use jobq_server::{RunningServer, Server};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(120);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens")
}

async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    within(command.output()).await.expect("the example starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("examples print text")
}

/// A server as another process would have it, and its address.
async fn server() -> (RunningServer, String) {
    let any_port = "tcp://127.0.0.1:0".parse().expect("an address");
    let server = Server::new().listen(any_port).start().await.expect("it starts");
    let address = server.addresses()[0].to_string();
    (server, address)
}

fn check_words(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    let mut lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.pop(), Some("3 completed, 1 failed"));
    lines.sort_unstable();
    let expected = [
        "job 1: 4 words",
        "job 2: 5 words",
        "job 3 failed: there are no words",
        "job 4: 7 words",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_embedded_example_is_server_worker_and_client_in_one_process() {
    check_words(&run(env!("CARGO_BIN_EXE_embedded"), &[]).await);
}

#[tokio::test]
async fn the_embedded_example_moves_to_a_server_by_its_address() {
    let (server, address) = server().await;
    check_words(&run(env!("CARGO_BIN_EXE_embedded"), &[&address]).await);
    let client = Client::connect(&address).await.expect("the server is there");
    let completed = client.stats().await.expect("an answer").total.completed;
    assert_eq!(completed, 3, "the jobs were the server's");
    client.close().await;
    server.stop().await.expect("a good end");
}

fn paint(path: &Path, width: u32, height: u32, format: ImageFormat) {
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 128]));
    DynamicImage::from(image)
        .save_with_format(path, format)
        .expect("the folder can be written");
}

/// Two images, one of them large enough to shrink, and one that only looks like one.
fn pictures(folder: &Path) {
    paint(&folder.join("wide.png"), 640, 320, ImageFormat::Png);
    paint(&folder.join("tall.JPG"), 100, 400, ImageFormat::Jpeg);
    let whole = std::fs::read(folder.join("wide.png")).expect("it was painted");
    std::fs::write(folder.join("broken.png"), &whole[..whole.len() / 2]).expect("the folder can be written");
    std::fs::write(folder.join("notes.txt"), "no image").expect("the folder can be written");
}

fn check_thumbnails(output: &Output, folder: &Path) {
    assert_eq!(output.status.code(), Some(1), "one failed: {output:?}");
    let stdout = text(&output.stdout);
    for (name, width, height) in [("wide.png", 128, 64), ("tall.png", 32, 128)] {
        let size = image::image_dimensions(folder.join(name)).expect("a thumbnail");
        assert_eq!(size, (width, height), "{name}");
        assert!(stdout.contains(&format!(": {width}x{height}\n")), "{stdout}");
    }
    let failed: Vec<&str> = stdout.lines().filter(|line| line.contains("failed")).collect();
    assert!(
        matches!(failed[..], [line] if line.contains("broken.png: failed: ")),
        "{stdout}"
    );
    let made = std::fs::read_dir(folder).expect("the folder was made").count();
    assert_eq!(made, 2, "nothing half done is left");
}

#[tokio::test]
async fn the_thumbnail_example_shrinks_real_images_and_the_corrupt_one_is_a_dead_letter() {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path());
    let to = folder.path().join("small");
    let (from, to) = (folder.path(), to.as_path());
    let path = |path: &Path| path.to_str().expect("a path of text").to_owned();
    check_thumbnails(
        &run(env!("CARGO_BIN_EXE_thumbnails"), &[&path(from), &path(to)]).await,
        to,
    );

    let (server, address) = server().await;
    let again = from.join("again");
    let arguments = [path(from), path(&again), address.clone()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    check_thumbnails(&run(env!("CARGO_BIN_EXE_thumbnails"), &arguments).await, &again);
    let client = Client::connect(&address).await.expect("the server is there");
    let dead = client.page(JobFilter::new().status(Status::Failed)).await;
    let dead = dead.expect("an answer").jobs;
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].name.as_str(), dead[0].attempts),
        ("thumbnail", 1),
        "it was not tried again"
    );
    client.close().await;
    server.stop().await.expect("a good end");
}

#[tokio::test]
async fn the_thumbnail_example_says_what_it_expects() {
    let output = run(env!("CARGO_BIN_EXE_thumbnails"), &[]).await;
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("thumbnails PICTURES THUMBNAILS [SERVER]"));
}

/// The site, and the address that it printed.
async fn start_site() -> (Child, String) {
    let mut site = Command::new(env!("CARGO_BIN_EXE_site"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the example starts");
    let stdout = site.stdout.take().expect("it is piped");
    let line = within(BufReader::new(stdout).lines().next_line()).await;
    let line = line.expect("it prints text").expect("it prints its address");
    let address = line
        .strip_prefix("listening on http://")
        .expect("its address")
        .to_owned();
    (site, address)
}

/// The head and the body of an answer.
async fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = within(TcpStream::connect(address))
        .await
        .expect("the site listens");
    within(stream.write_all(request.as_bytes()))
        .await
        .expect("the site reads");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer))
        .await
        .expect("the site answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

async fn page(address: &str, path: &str) -> (String, String) {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n"),
    )
    .await
}

/// Submits a text and gives the path of its job's page.
async fn submit(address: &str, form: &str) -> String {
    let length = form.len();
    let (head, _) = ask(
        address,
        &format!(
            "POST /jobs HTTP/1.1\r\nHost: site\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
        ),
    )
    .await;
    let location = head.lines().find_map(|line| line.strip_prefix("location: "));
    location
        .unwrap_or_else(|| panic!("a redirect: {head}"))
        .to_owned()
}

/// The page of a job, once it says `word`.
async fn page_with(address: &str, path: &str, word: &str) -> String {
    within(async {
        loop {
            let (_, body) = page(address, path).await;
            if body.contains(word) {
                return body;
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_site_submits_jobs_and_shows_their_results() {
    let (_site, address) = start_site().await;
    let path = submit(&address, "text=%3Cb%3Eqboj").await;
    let body = page_with(&address, &path, "Completed").await;
    assert!(body.contains("result: jobq&gt;b&lt;"), "{body}");
    let path = submit(&address, "text=").await;
    let body = page_with(&address, &path, "Failed").await;
    assert!(body.contains("there is nothing to reverse"), "{body}");
    let (_, body) = page(&address, "/").await;
    assert!(
        body.contains("job 1</a>: Completed") && body.contains("job 2</a>: Failed"),
        "{body}"
    );
    let (head, body) = page(&address, "/jobs/77").await;
    assert!(
        head.starts_with("HTTP/1.1 404") && body.contains("there is no job 77"),
        "{head}{body}"
    );
}
