//! Backups: the server makes a copy of its database, and the client fetches it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use jobq_proto::message::{self, BackupDone, BackupFile, BackupPhase, BackupRead, BackupState};
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage, WireError};
use uuid::Uuid;

use super::Client;
use crate::error::{AskError, BackupError};
use crate::requests::parts::{Part, Parts};
use crate::uuids;

/// How often the server is asked how far the copy is.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupProgress {
    /// The server makes a copy: so many bytes of about so many.
    Copying {
        /// Bytes that have been copied.
        done: u64,
        /// Bytes that there are, as far as is known; 0 for not yet.
        of: u64,
    },
    /// The server checks the copy: so many jobs of so many.
    Checking {
        /// Jobs that have been looked at.
        done: u64,
        /// Jobs that there are; 0 while all pages are looked at.
        of: u64,
    },
}

/// A backup that the server makes for this client.
///
/// [`Backup::ready`] waits until it is whole and checked, [`Backup::next`] gives it part by part. The server removes
/// its copy when it is told to by [`Backup::done`], and a moment after it hears no more of this client.
pub struct Backup {
    client: Client,
    id: Uuid,
    fetching: Option<Fetching>,
}

/// Parts on their way, in order.
struct Fetching {
    parts: Parts,
    coming: VecDeque<(Part, BoxFuture<'static, Result<Bytes, AskError>>)>,
}

impl Client {
    /// Has the server begin a copy of its database. It goes on meanwhile, and the copy holds all that was acknowledged
    /// before this was called. One is made at a time; while another is, this waits for as long as the deadline.
    ///
    /// # Errors
    /// The server makes another backup, or none at all, or does not answer in time.
    pub async fn back_up(&self) -> Result<Backup, AskError> {
        let backup = Backup {
            client: self.clone(),
            id: uuids::next(),
            fetching: None,
        };
        backup.ask().await?;
        Ok(backup)
    }
}

impl Backup {
    /// The same backup with another deadline for each of its questions.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.client = self.client.with_deadline(deadline);
        self
    }

    /// Waits until the copy is whole and checked; `progress` hears how far it is, a few times a second.
    ///
    /// # Errors
    /// The server could not make it, or does not answer.
    pub async fn ready(
        &mut self,
        mut progress: impl FnMut(BackupProgress),
    ) -> Result<BackupFile, BackupError> {
        loop {
            let state = self.ask().await.map_err(BackupError::Ask)?;
            let BackupState { done, of, .. } = state;
            match (state.phase, state.file) {
                (BackupPhase::Ready, Some(file)) => {
                    self.fetching = Some(Fetching {
                        parts: Parts::new(file.clone()),
                        coming: VecDeque::new(),
                    });
                    return Ok(file);
                }
                (BackupPhase::Copying, _) => progress(BackupProgress::Copying { done, of }),
                (BackupPhase::Checking, _) => progress(BackupProgress::Checking { done, of }),
                _ => {
                    let unknown = || WireError::new(ErrorCode::Internal, "the server makes no backup");
                    return Err(BackupError::Failed(state.error.unwrap_or_else(unknown)));
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The next part of the copy; none when all of it has come, and is what the server announced. Nothing comes before
    /// [`Backup::ready`]. Not cancel-safe: a part may be lost.
    ///
    /// # Errors
    /// The server has the copy no longer or does not answer, or what came is not what was announced.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Some(Fetching { parts, coming }) = &mut self.fetching else {
            return Ok(None);
        };
        while let Some(part) = parts.poll_ask() {
            let (client, id) = (self.client.clone(), self.id);
            // Asked for at once, and not only when its turn comes.
            let asked = tokio::spawn(async move { client.backup_part(id, part).await });
            let came = asked.map(|part| part.unwrap_or(Err(AskError::Closed))).boxed();
            coming.push_back((part, came));
        }
        let Some((part, came)) = coming.pop_front() else {
            return Ok(None);
        };
        let bytes = came.await.map_err(|error| match error {
            AskError::Refused(error) if error.code == ErrorCode::NotFound => BackupError::Lost(error),
            error => BackupError::Ask(error),
        })?;
        parts.take(part, &bytes).map_err(|_| BackupError::Mismatch)?;
        Ok(Some(bytes))
    }

    /// Has the server remove its copy, wherever it stands.
    ///
    /// # Errors
    /// No answer in time; then the server removes it after a moment.
    pub async fn done(self) -> Result<(), AskError> {
        let backup = self.id;
        let question = move |request| ServerMessage::BackupDone(BackupDone { request, backup });
        self.client.ask(Box::new(question)).await.map(drop)
    }

    async fn ask(&self) -> Result<BackupState, AskError> {
        let backup = self.id;
        let question = move |request| ServerMessage::Backup(message::Backup { request, backup });
        match self.client.ask(Box::new(question)).await? {
            ClientMessage::BackupState(state) => Ok(*state),
            _ => Err(AskError::Unexpected),
        }
    }
}

impl Client {
    async fn backup_part(&self, backup: Uuid, part: Part) -> Result<Bytes, AskError> {
        let question = move |request| {
            ServerMessage::BackupRead(BackupRead {
                request,
                backup,
                offset: part.offset,
                length: part.length,
            })
        };
        match self.ask(Box::new(question)).await? {
            ClientMessage::BackupPart(answer) => Ok(answer.bytes),
            _ => Err(AskError::Unexpected),
        }
    }
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
