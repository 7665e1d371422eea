//! A connection on which much is under way at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};

/// What is read at a time, in bytes.
const READ: usize = 256 * 1024;

/// How long a server may be silent. None of what is asked takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many outstanding replies keep a server busy for longer than [`GATHER`].
const MANY: u64 = 1_000;

/// How long replies gather before they are read, while many are outstanding.
const GATHER: Duration = Duration::from_micros(300);

/// A connection: writes go out at once, reads are buffered.
pub(crate) struct Pipe {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What has been read and not been taken.
    start: usize,
    end: usize,
}

/// Commands that are written together.
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    /// How many replies they have.
    pub(crate) replies: u64,
}

impl Pipe {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: vec![0; READ],
            start: 0,
            end: 0,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream
            .write_all(bytes)
            .context("failed to write to the server")
    }

    /// Whether [`Self::line`] and [`Self::take`] have to wait for whatever they take.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next line, without its end. It has to be shorter than the buffer.
    pub(crate) fn line(&mut self) -> anyhow::Result<&[u8]> {
        let mut searched = 0;
        let length = loop {
            let known = &self.buffer[self.start..self.end];
            match known[searched..].iter().position(|byte| *byte == b'\n') {
                Some(at) => break searched + at,
                None => searched = known.len(),
            }
            self.fill()?;
        };
        let line = &self.buffer[self.start..self.start + length];
        self.start += length + 1;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The next so many bytes, fewer than the buffer has.
    pub(crate) fn take(&mut self, length: usize) -> anyhow::Result<&[u8]> {
        while self.end - self.start < length {
            self.fill()?;
        }
        self.start += length;
        Ok(&self.buffer[self.start - length..self.start])
    }

    /// To be called before a reply is taken. While many are outstanding and none is here it lets some come: a server
    /// that wakes its client with each reply spends much of its time on that.
    fn gather(&self, outstanding: u64) {
        if self.is_empty() && outstanding >= MANY {
            std::thread::sleep(GATHER);
        }
    }

    /// Writes all chunks, with at most `window` replies outstanding, and waits for the last of them. `reply` takes one.
    pub(crate) fn pipeline(
        &mut self,
        chunks: &[Chunk],
        window: u64,
        mut reply: impl FnMut(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut chunks = chunks.iter().peekable();
        let mut outstanding = 0;
        loop {
            while let Some(chunk) =
                chunks.next_if(|it| outstanding == 0 || outstanding + it.replies <= window)
            {
                self.write(&chunk.bytes)?;
                outstanding += chunk.replies;
            }
            if outstanding == 0 {
                return Ok(());
            }
            self.gather(outstanding);
            reply(self)?;
            outstanding -= 1;
        }
    }

    /// Reads what there is, and waits for something if there is nothing.
    fn fill(&mut self) -> anyhow::Result<()> {
        if self.end == self.buffer.len() {
            if self.start == 0 {
                bail!("the server sends more at a time than {READ} bytes");
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error).context("failed to read from the server"),
        };
        self.end += read;
        Ok(())
    }
}

/// A number at the end of a reply's words.
pub(crate) fn number(text: &[u8]) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.trim().parse().ok())
        .with_context(|| format!("a number is expected, not {text:?}"))
}

/// An error that quotes what a server said.
pub(crate) fn unexpected(reply: &[u8]) -> anyhow::Error {
    let shown = reply.get(..200).unwrap_or(reply);
    anyhow::anyhow!("the server says {:?}", String::from_utf8_lossy(shown))
}
