//! More than one server on the same directory.

use std::process::Stdio;
use std::time::Duration;

use super::load::Load;
use super::round::{Round, Skipped, Tally};
use super::scene::{Runs, Scene, stop, text};
use crate::{Process, Program};

/// The exit code of a server that could not start.
const CANNOT_START: i32 = 10;

/// Within what a second server comes.
const WITHIN: Duration = Duration::from_millis(60);

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let mut scene = Scene::open(round, &[]).await;
    let worker = scene.work(3);
    let address = scene.server.address().to_owned();
    let load = Load::start(&mut scene, &address, 2);
    let mut seen = vec!["refused beside one"];

    scene.moment(WITHIN).await;
    scene.history.notes("fault     a second server");
    let said = scene.program.run(second(&scene)).await.failure(CANNOT_START);
    let holder = format!("process {}", scene.server.id().expect("it runs"));
    assert!(
        said.contains(&holder),
        "the second server does not say who is first: {said}"
    );

    scene.moment(WITHIN).await;
    scene
        .history
        .notes("fault     SIGKILL of the server, and two start at once");
    scene.server.kill().await;
    let mut other = start(&scene.program, &scene);
    match scene.server.try_restart(&[]).await {
        Ok(()) => {
            let status = other.wait().await;
            assert_eq!(status.code(), Some(CANNOT_START), "the other server: {status}");
            seen.push("the first of two won");
        }
        Err(status) => {
            assert_eq!(status.code(), Some(CANNOT_START), "one of two servers: {status}");
            other.kill().await;
            scene.restart().await;
            seen.push("the second of two won");
        }
    }
    load.finish().await;
    let ended = scene.drain().await;
    stop(worker).await;
    let mut tally = scene.close(&ended, Runs::Accounted).await;
    seen.into_iter().for_each(|seen| tally.notice(seen));
    Ok(tally)
}

fn second(scene: &Scene) -> [String; 5] {
    let data = scene.server.data();
    ["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)].map(str::to_owned)
}

fn start(program: &Program, scene: &Scene) -> Process {
    let mut command = program.command(second(scene));
    command.stdout(Stdio::null());
    Process::spawn(command, "another jobq serve", &scene.directory.join("other.log"))
}
