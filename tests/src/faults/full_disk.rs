//! A file system that fills up under load, and is freed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::Disk;
use super::load::Load;
use super::round::{Round, Skipped, Tally};
use super::scene::{Runs, Scene, stop};

/// Its size in MiB.
const DISK: u32 = 24;

const FLAGS: [&str; 2] = ["--reserve", "2MB"];

/// How long the disk stays full, and how long it has room, at most.
const WITHIN: Duration = Duration::from_millis(250);

const MOST_TIMES: u64 = 3;

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let data = round.directory.join("data");
    let disk = Disk::in_memory(&data, DISK)?;
    let mut scene = Scene::open(round, &FLAGS).await;
    let worker = scene.work(3);
    let address = scene.server.address().to_owned();
    let load = Load::start(&mut scene, &address, 2);
    let mut seen = Vec::new();
    for _ in 0..scene.chance.between(1, MOST_TIMES) {
        scene.moment(WITHIN / 2).await;
        scene.history.notes("fault     the disk is full");
        let filler = Filler::fill(&data);
        scene.moment(WITHIN).await;
        seen.push("filled");
        if scene.chance.percent(33) {
            scene.history.notes("fault     SIGKILL of the server");
            scene.server.kill().await;
            let started = scene.server.try_restart(&[]).await;
            seen.push(match &started {
                Ok(()) => "started on the full disk",
                Err(status) if status.code() == Some(10) => "did not start on it",
                Err(status) => panic!("the server ended with {status}"),
            });
            drop(filler);
            if started.is_err() {
                scene.restart().await;
            }
        }
        scene.history.notes("there is room");
    }
    load.finish().await;
    let ended = scene.drain().await;
    stop(worker).await;
    let mut tally = scene.close(&ended, Runs::SettledOnce).await;
    seen.into_iter().for_each(|seen| tally.notice(seen));
    drop(disk);
    Ok(tally)
}

/// A file that takes all room. Dropped, the room is there again.
struct Filler(PathBuf);

impl Filler {
    fn fill(data: &Path) -> Self {
        let path = data.join("filler");
        let filler = Self(path.clone());
        let full = match File::create(&path) {
            Err(error) => error,
            Ok(mut file) => loop {
                if let Err(error) = file.write_all(&[7; 4096]) {
                    break error;
                }
            },
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        filler
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // It may have found no room for its name.
        let _ = std::fs::remove_file(&self.0);
    }
}
