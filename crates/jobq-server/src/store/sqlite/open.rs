//! Opening a database for a new life of its server: whether it can be trusted, whether it has lost something, and
//! under which epoch and identity it goes on.

use std::path::Path;

use rusqlite::Connection;

use super::check::{QUICK_CHECK_BYTES, quick_check};
use super::reserve::Reserve;
use super::watermark::{self, Mark, Watermark};
use super::{SqliteSettings, log, recover, schema, suspect};
use crate::store::error::lost;
use crate::store::{Birth, Recovered, StoreError};
use crate::time::Wall;

/// The beginning of 2025 (UTC), in microseconds since 1970.
const FENCES_SINCE: i64 = 1_735_689_600_000_000;

/// The largest epoch that the time of a restore gives, in 2059.
const LARGEST_RESTORED: u64 = 1 << 30;

/// A database that is open for writing, and what the server needs to know of it.
pub(super) struct Opened {
    pub(super) db: Connection,
    pub(super) recovered: Recovered,
    pub(super) watermark: Watermark,
}

/// Opens the database for a new life.
pub(super) fn open(
    dir: &Path,
    birth: Birth,
    settings: SqliteSettings,
    reserve: &Reserve,
) -> Result<Opened, StoreError> {
    // Both before SQLite opens the log, and makes or cuts it.
    let is_suspect = suspect::renew_log(dir)?;
    let is_unclean = is_unclean(dir);
    let mark = Watermark::read(dir)?;
    let db = schema::open_writer(dir, birth)?;
    if is_unclean {
        check_if_small(dir, &db)?;
    }
    let recovered = begin_life(dir, &db, mark, birth, settings)?;
    let mark = Mark {
        epoch: recovered.epoch,
        batch: recovered.last_batch,
    };
    let watermark = Watermark::begin(dir, mark)?;
    if is_suspect {
        if log::fold_all(&db, dir, reserve)? {
            suspect::clear(dir)?;
        } else {
            tracing::warn!(
                "another program reads the database or the disk is full, so not all of its log could be folded into it; \
                 the next start writes the log anew once more"
            );
        }
    }
    Ok(Opened {
        db,
        recovered,
        watermark,
    })
}

/// Whether the last server did not come to close the database: it would have taken the log away.
fn is_unclean(dir: &Path) -> bool {
    suspect::log(dir)
        .metadata()
        .is_ok_and(|log| log.is_file() && log.len() > 0)
}

/// Looks whether the database is sound, if that takes no time that anybody notices.
fn check_if_small(dir: &Path, db: &Connection) -> Result<(), StoreError> {
    let bytes = dir
        .join(schema::FILE)
        .metadata()
        .map_or(u64::MAX, |file| file.len());
    if bytes > QUICK_CHECK_BYTES {
        tracing::info!(
            bytes,
            "the last server did not stop in order, and the database is too large to be checked at each start; \
             `jobq check` does it"
        );
        return Ok(());
    }
    match quick_check(db)?.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(StoreError::Damaged(first.clone())),
    }
}

/// The least epoch of a store that a copy was restored to: the seconds since 2025. The store that it is a copy of goes
/// on or has gone on, and so may stores that were restored from the same copy before; none of them has been started
/// once a second since then, so no fence of theirs comes again here.
fn restored_epoch(now: Wall) -> u64 {
    let seconds = now.since(Wall(FENCES_SINCE)).as_secs();
    // The numbers of sessions have the epoch in their upper half.
    seconds.min(LARGEST_RESTORED)
}

/// Raises the epoch above that of every life before, and reads what the server needs to know, unless the database has
/// lost something that nobody has accepted the loss of.
fn begin_life(
    dir: &Path,
    db: &Connection,
    mark: Option<Mark>,
    birth: Birth,
    settings: SqliteSettings,
) -> Result<Recovered, StoreError> {
    let Some(mark) = mark else {
        let least_epoch = match recover::is_new(db)? {
            true => 1,
            false => restored_epoch(birth.now),
        };
        return recover::recover_as(db, birth.identity, least_epoch);
    };
    let least_epoch = mark.epoch.saturating_add(1);
    match watermark::check(dir, mark, recover::last_batch(db)?) {
        Ok(()) => {
            if settings.accept_loss {
                tracing::warn!(
                    "nothing is lost, so start without accepting a loss: the next one would go unnoticed"
                );
            }
            recover::recover(db, least_epoch)
        }
        Err(StoreError::Behind { found, known, .. }) if settings.accept_loss => {
            tracing::warn!(
                found,
                known,
                "accepted: what {} did is lost; from now on this is another store, which no worker's session goes on \
                 with",
                lost(found, known)
            );
            recover::recover_as(db, birth.identity, least_epoch)
        }
        Err(error) => Err(error),
    }
}
