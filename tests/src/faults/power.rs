//! Power cuts: the store's file system is shut down without writing what it has in memory.
//!
//! What this takes away is all that the system has not handed to the disk: pages, file lengths, names, the journal.
//! What a real disk has in a cache of its own, and loses although it was told to keep it, it does not.

use std::time::Duration;

use super::disk::Disk;
use super::load::Load;
use super::round::{Round, Skipped, Tally};
use super::scene::{Runs, Scene, stop};

/// Its size in MiB.
const DISK: u32 = 64;

/// The reserve is small, so that the disk is large enough; the workers stay, and need not be waited for.
const FLAGS: [&str; 4] = ["--reserve", "1MB", "--ttl", "5s"];

/// Within what a cut comes after the start.
const WITHIN: Duration = Duration::from_millis(150);

/// Most cuts in a round.
const MOST_CUTS: u64 = 3;

const PROGRAMS: u32 = 2;

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let disk = Disk::ext4(
        &round.directory.join("disk.ext4"),
        &round.directory.join("data"),
        DISK,
    )?;
    let mut scene = Scene::open(round, &FLAGS).await;
    let worker = scene.work(3);
    let address = scene.server.address().to_owned();
    let load = Load::start(&mut scene, &address, PROGRAMS);
    let cuts = scene.chance.between(1, MOST_CUTS);
    for _ in 0..cuts {
        scene.moment(WITHIN).await;
        scene.history.notes("fault     power cut");
        disk.cut()?;
        // It may have ended by itself.
        scene.server.kill().await;
        disk.restore().await;
        scene.restart().await;
    }
    load.finish().await;
    let ended = scene.drain().await;
    stop(worker).await;
    let mut tally = scene.close(&ended, Runs::SettledOnce).await;
    tally
        .noticed
        .insert("cuts".to_owned(), usize::try_from(cuts).expect("there are few"));
    drop(disk);
    Ok(tally)
}
