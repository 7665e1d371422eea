//! What a command says, in bounded memory.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// The beginning of a stream; what is beyond the limit is read and dropped, so that the writer is not held up.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
    limit: usize,
    total: u64,
}

impl Head {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            total: 0,
        }
    }

    /// Reads until the end. What was read is kept if this is dropped.
    pub(super) async fn read(&mut self, source: Option<impl AsyncRead + Unpin>) {
        read(source, |chunk| self.take(chunk)).await;
    }

    /// How many bytes there were, those dropped included.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many are kept at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether some were dropped.
    pub(super) fn is_cut(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn take(&mut self, chunk: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.total += chunk.len() as u64;
    }
}

/// The end of a stream.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
    cut: bool,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
            cut: false,
        }
    }

    /// Adds what comes next.
    pub(super) fn take(&mut self, chunk: &[u8]) {
        let over = (self.bytes.len() + chunk.len()).saturating_sub(self.limit);
        self.cut |= over > 0;
        let old = over.min(self.bytes.len());
        self.bytes.drain(..old);
        let chunk = &chunk[over - old..];
        self.bytes.extend(chunk);
    }

    /// The text, of at most so many bytes; where something is missing before it, it begins with "…".
    pub(super) fn text(&self, most: usize) -> String {
        const ELLIPSIS: &str = "…";
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        if text.len() <= most && !self.cut {
            return text.to_owned();
        }
        let room = most.saturating_sub(ELLIPSIS.len());
        let start = text.ceil_char_boundary(text.len().saturating_sub(room));
        format!("{ELLIPSIS}{}", &text[start..])
    }
}

/// Reads until the end; an error is one too.
pub(super) async fn read(source: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut source) = source else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = source.read(&mut chunk).await {
        take(&chunk[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_its_limit_a_head_counts_and_drops() {
        let mut head = Head::new(10);
        head.read(Some(&[b'x'; 100_000][..])).await;
        assert_eq!((head.total(), head.is_cut()), (100_000, true));
        assert_eq!(head.into_bytes(), [b'x'; 10]);
        let mut head = Head::new(10);
        head.read(Some(&b"0123456789"[..])).await;
        assert!(!head.is_cut());
    }

    #[test]
    fn a_tail_keeps_the_end() {
        let mut tail = Tail::new(10);
        tail.take(b"first words, last words");
        assert_eq!(tail.text(100), "…last words");
        let mut tail = Tail::new(10);
        tail.take(b"all\n");
        assert_eq!(tail.text(100), "all");
        assert_eq!(tail.text(3), "all");
    }

    #[test]
    fn a_tail_is_cut_between_characters() {
        let mut tail = Tail::new(100);
        tail.take("ééééé".as_bytes());
        let text = tail.text(8);
        assert_eq!(text, "…éé");
        let mut tail = Tail::new(3);
        tail.take("éé".as_bytes());
        assert_eq!(tail.text(100), "…\u{fffd}é");
    }
}
