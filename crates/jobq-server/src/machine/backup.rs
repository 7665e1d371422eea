//! The copy of the store that somebody fetches: who asks for it, how long it is kept, and where it stands.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::{self, BackupDone, BackupPart, BackupPhase, BackupRead};
use jobq_proto::{ClientMessage, ErrorCode, WireError};
use jobq_transport::PeerId;
use uuid::Uuid;

use super::Machine;
use super::peers::Weight;
use super::reads::Purpose;
use super::timers::Timer;
use crate::store::{BackupFailureKind, BackupFile, BackupOrder, BackupReport, BackupState, Read};
use crate::time::{Mono, Now};

/// A copy that nobody has asked for in this time is removed.
const KEPT: Duration = Duration::from_secs(30);

/// The copy, and what the store is to do about it.
#[derive(Default)]
pub(super) struct Backups {
    current: Option<Backup>,
    /// At most the end of one copy and the beginning of another.
    orders: VecDeque<BackupOrder>,
}

/// The copy that there is.
struct Backup {
    id: Uuid,
    state: BackupState,
    /// Who asked for it last.
    peer: PeerId,
    /// Until when it is kept, unless somebody asks for it.
    until: Mono,
    /// Parts of it that the store is reading.
    reading: usize,
}

impl Backups {
    fn find(&mut self, id: Uuid) -> Option<&mut Backup> {
        self.current.as_mut().filter(|backup| backup.id == id)
    }

    fn drop_copy(&mut self, id: Uuid) {
        if self.current.take_if(|backup| backup.id == id).is_some() {
            self.orders.push_back(BackupOrder::Drop(id));
        }
    }
}

impl Backup {
    /// The copy that can be fetched.
    fn file(&self) -> Option<BackupFile> {
        match self.state {
            BackupState::Ready(file) => Some(file),
            _ => None,
        }
    }
}

impl Machine {
    /// Something for the store to do about a copy of itself.
    pub fn poll_backup(&mut self) -> Option<BackupOrder> {
        self.backups.orders.pop_front()
    }

    /// The copy has come on.
    pub fn handle_backup(&mut self, now: Now, report: BackupReport) {
        self.tick(now);
        let Some(backup) = self.backups.find(report.id) else {
            return; // It was given up meanwhile.
        };
        let has_failed = matches!(report.state, BackupState::Failed(_));
        backup.state = report.state;
        if has_failed {
            // Whatever is left of it.
            self.backups.orders.push_back(BackupOrder::Drop(report.id));
        }
    }

    pub(super) fn back_up(&mut self, peer: PeerId, asked: message::Backup) {
        let message::Backup { request, backup: id } = asked;
        if let Err(error) = self.begin_backup(peer, request, id) {
            return self.refuse(peer, request, error);
        }
        self.keep_backup(peer, id);
        if let Some(backup) = self.backups.find(id) {
            let state = described(request, &backup.state);
            self.outbox
                .send(peer, ClientMessage::BackupState(Box::new(state)));
        }
    }

    /// Has a copy made, unless it is there.
    fn begin_backup(&mut self, peer: PeerId, request: u64, id: Uuid) -> Result<(), WireError> {
        self.check_number(peer, request)?;
        match &self.backups.current {
            Some(backup) if backup.id == id => return Ok(()),
            // One that has failed is in nobody's way.
            Some(backup) if !matches!(backup.state, BackupState::Failed(_)) => {
                return Err(WireError::new(
                    ErrorCode::BackupRunning,
                    "another backup is being made or fetched; there is one at a time",
                ));
            }
            _ if self.closing => {
                let going = "the server is going down, and makes no backup";
                return Err(WireError::new(ErrorCode::ShuttingDown, going));
            }
            _ => {}
        }
        self.backups.current = Some(Backup {
            id,
            state: BackupState::Copying { done: 0, of: 0 },
            peer,
            until: self.now.mono,
            reading: 0,
        });
        self.backups.orders.push_back(BackupOrder::Begin(id));
        Ok(())
    }

    /// Somebody asks for the copy.
    fn keep_backup(&mut self, peer: PeerId, id: Uuid) {
        let until = self.now.mono.plus(KEPT);
        let Some(backup) = self.backups.find(id) else {
            return;
        };
        // One timer at a time, which looks whether the copy has been asked for since.
        let has_timer = backup.until > self.now.mono;
        backup.peer = peer;
        backup.until = until;
        if !has_timer {
            self.timers.set(until, Timer::Backup(id));
        }
    }

    /// The copy may not have been asked for in a while.
    pub(super) fn check_backup(&mut self, id: Uuid) {
        let Some(backup) = self.backups.find(id) else {
            return;
        };
        if backup.until > self.now.mono {
            let until = backup.until;
            return self.timers.set(until, Timer::Backup(id));
        }
        tracing::info!("a backup that nobody asks for any more is removed");
        self.backups.drop_copy(id);
    }

    /// A connection is gone: who fetched the copy over it has a moment to come back.
    pub(super) fn leave_backup(&mut self, peer: PeerId) {
        let until = self.now.mono.plus(self.config.grace);
        if let Some(backup) = &mut self.backups.current
            && backup.peer == peer
            && until < backup.until
        {
            backup.until = until;
            self.timers.set(until, Timer::Backup(backup.id));
        }
    }

    /// The server is going.
    pub(super) fn give_up_backup(&mut self) {
        if let Some(backup) = &self.backups.current {
            let id = backup.id;
            self.backups.drop_copy(id);
        }
    }

    pub(super) fn read_backup(&mut self, peer: PeerId, asked: BackupRead) {
        let BackupRead {
            request, backup: id, ..
        } = asked;
        let planned = self.plan_part(&asked).and_then(|read| {
            self.begin_request(peer, request, Weight::default())
                .map(|()| read)
        });
        match planned {
            Ok(read) => {
                if let Some(backup) = self.backups.find(id) {
                    backup.reading += 1;
                }
                self.keep_backup(peer, id);
                let purpose = Purpose::BackupPart { peer, request, id };
                self.reads.ask(read, purpose);
            }
            Err(error) => self.refuse(peer, request, error),
        }
    }

    fn plan_part(&mut self, asked: &BackupRead) -> Result<Read, WireError> {
        let BackupRead {
            backup: id,
            offset,
            length,
            ..
        } = *asked;
        let found = self.backups.find(id);
        let (file, reading) = found
            .and_then(|backup| Some((backup.file()?, backup.reading)))
            .ok_or_else(no_copy)?;
        if !(1..=BackupRead::MAX_LENGTH).contains(&length) {
            let most = BackupRead::MAX_LENGTH;
            return Err(WireError::bad_request(format!(
                "the part's length is {length}; it is 1 to {most}"
            )));
        }
        if offset > file.bytes {
            return Err(WireError::bad_request(format!(
                "the part's offset is {offset}, and the copy has {} bytes",
                file.bytes
            )));
        }
        if reading >= BackupRead::MAX_UNANSWERED {
            return Err(WireError::new(
                ErrorCode::WindowExceeded,
                format!("{reading} parts are unanswered; ask for more when some have been answered"),
            ));
        }
        Ok(Read::BackupPart {
            id,
            offset,
            length: usize::try_from(length).unwrap_or(usize::MAX),
        })
    }

    /// The store has read a part.
    pub(super) fn backup_read(&mut self, peer: PeerId, request: u64, id: Uuid, bytes: Option<Bytes>) {
        self.part_ended(id);
        self.end_request(peer, request);
        match bytes {
            Some(bytes) => {
                let part = BackupPart { request, bytes };
                self.answer(peer, ClientMessage::BackupPart(part));
            }
            None => self.refuse(peer, request, no_copy()),
        }
    }

    /// A part has been read, or could not be.
    pub(super) fn part_ended(&mut self, id: Uuid) {
        if let Some(backup) = self.backups.find(id) {
            backup.reading = backup.reading.saturating_sub(1);
        }
    }

    pub(super) fn end_backup(&mut self, peer: PeerId, done: BackupDone) {
        let BackupDone { request, backup } = done;
        if let Err(error) = self.check_number(peer, request) {
            return self.refuse(peer, request, error);
        }
        self.backups.drop_copy(backup);
        let gone = phase(request, BackupPhase::Gone, 0, 0);
        self.outbox.send(peer, ClientMessage::BackupState(Box::new(gone)));
    }
}

fn no_copy() -> WireError {
    WireError::new(
        ErrorCode::NotFound,
        "there is no such copy: it is not ready yet, or it was removed; begin a backup anew",
    )
}

fn phase(request: u64, phase: BackupPhase, done: u64, of: u64) -> message::BackupState {
    message::BackupState {
        request,
        phase,
        done,
        of,
        file: None,
        error: None,
    }
}

/// Where a copy stands, as it travels.
fn described(request: u64, state: &BackupState) -> message::BackupState {
    match state {
        BackupState::Copying { done, of } => phase(request, BackupPhase::Copying, *done, *of),
        BackupState::Checking { done, of } => phase(request, BackupPhase::Checking, *done, *of),
        BackupState::Ready(file) => message::BackupState {
            file: Some(message::BackupFile {
                bytes: file.bytes,
                sha256: Bytes::copy_from_slice(&file.sha256),
                commit: file.commit,
                jobs: file.jobs,
            }),
            ..phase(request, BackupPhase::Ready, 0, 0)
        },
        BackupState::Failed(failure) => {
            let code = match failure.kind {
                BackupFailureKind::NoRoom => ErrorCode::StorageFull,
                BackupFailureKind::Damaged => ErrorCode::Damaged,
                BackupFailureKind::Unsupported => ErrorCode::BadRequest,
                BackupFailureKind::Other => ErrorCode::Internal,
            };
            message::BackupState {
                error: Some(WireError::new(code, failure.message.clone())),
                ..phase(request, BackupPhase::Failed, 0, 0)
            }
        }
    }
}
