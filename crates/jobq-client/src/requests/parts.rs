//! A backup on its way: which parts are to be asked for, and whether what came is what was announced. Without I/O.

use bytes::Bytes;
use jobq_proto::message::{BackupFile, BackupRead};
use sha2::{Digest, Sha256};

/// What is fetched of a backup, from its beginning to its end.
#[derive(Debug)]
pub struct Parts {
    file: BackupFile,
    /// Where the next part begins that is to be asked for.
    asked: u64,
    /// Where the next part begins that is to come.
    came: u64,
    sum: Sha256,
}

/// A part to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// What came is not what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch;

impl Parts {
    /// Nothing of this file has come.
    pub fn new(file: BackupFile) -> Self {
        Self {
            file,
            asked: 0,
            came: 0,
            sum: Sha256::new(),
        }
    }

    /// The next part to ask for; none when all have been, or as many are on their way as the server takes.
    pub fn poll_ask(&mut self) -> Option<Part> {
        let window = BackupRead::MAX_LENGTH * BackupRead::MAX_UNANSWERED as u64;
        if self.asked >= self.file.bytes || self.asked >= self.came.saturating_add(window) {
            return None;
        }
        let offset = self.asked;
        let length = BackupRead::MAX_LENGTH.min(self.file.bytes - offset);
        self.asked += length;
        Some(Part { offset, length })
    }

    /// The part has come, in the order asked for.
    ///
    /// # Errors
    /// It is of another length, or it is the last one and the whole has another checksum.
    pub fn take(&mut self, part: Part, bytes: &Bytes) -> Result<(), Mismatch> {
        if part.offset != self.came || bytes.len() as u64 != part.length {
            return Err(Mismatch);
        }
        self.came += part.length;
        self.sum.update(bytes);
        if self.is_whole() && self.sum.clone().finalize()[..] != self.file.sha256[..] {
            return Err(Mismatch);
        }
        Ok(())
    }

    /// Whether all has come.
    pub fn is_whole(&self) -> bool {
        self.came >= self.file.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Vec<u8> {
        (0..1_000_001_u32).map(|n| (n % 253) as u8).collect()
    }

    fn file(content: &[u8]) -> BackupFile {
        BackupFile {
            bytes: content.len() as u64,
            sha256: Bytes::copy_from_slice(&Sha256::digest(content)),
            commit: 1,
            jobs: 1,
        }
    }

    fn of(content: &[u8], part: Part) -> Bytes {
        let (from, length) = (part.offset as usize, part.length as usize);
        Bytes::copy_from_slice(&content[from..from + length])
    }

    /// Fetches all of it; how many parts were under way at most.
    fn fetch(parts: &mut Parts, content: &[u8]) -> Result<usize, Mismatch> {
        let mut asked = std::collections::VecDeque::new();
        let mut most = 0;
        loop {
            asked.extend(std::iter::from_fn(|| parts.poll_ask()));
            most = most.max(asked.len());
            let Some(part) = asked.pop_front() else {
                return Ok(most);
            };
            parts.take(part, &of(content, part))?;
        }
    }

    #[test]
    fn all_parts_come_once_and_no_more_are_asked_for_than_the_server_answers_at_a_time() {
        let content = content();
        let mut parts = Parts::new(file(&content));
        assert_eq!(fetch(&mut parts, &content), Ok(BackupRead::MAX_UNANSWERED));
        assert!(parts.is_whole());
        assert_eq!(parts.poll_ask(), None);
    }

    #[test]
    fn a_changed_byte_is_noticed_at_the_end() {
        let mut content = content();
        let mut parts = Parts::new(file(&content));
        content[500_000] ^= 1;
        assert_eq!(fetch(&mut parts, &content), Err(Mismatch));
    }

    #[test]
    fn a_part_that_is_too_short_or_out_of_order_is_noticed_at_once() {
        let content = content();
        let mut parts = Parts::new(file(&content));
        let first = parts.poll_ask().expect("there is one");
        let second = parts.poll_ask().expect("there are more");
        assert_eq!(parts.take(second, &of(&content, second)), Err(Mismatch));
        assert_eq!(parts.take(first, &of(&content, first).slice(1..)), Err(Mismatch));
    }
}
