//! The frame decoder: a stream cut anywhere gives the same frames, none longer than the limit, and reserves little.

use bytes::{BufMut, BytesMut};
use jobq_transport::StreamError;
use jobq_transport::codec::FrameCodec;
use tokio_util::codec::Decoder;

use super::script::Script;

/// What a buffer may have beside what it was given and one frame: it doubles, from something small.
const SPARE: usize = 8 * 1024;

/// Two bytes of limit, four of how long the pieces are, then a stream.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let max_frame = usize::from(script.u16());
    let pieces: [usize; 4] = std::array::from_fn(|_| usize::from(script.byte()) + 1);
    let stream = script.rest();

    let whole = read(stream, &[stream.len().max(1)], max_frame);
    assert_eq!(read(stream, &pieces, max_frame), whole, "pieces of {pieces:?}");
    assert!(whole.frames.iter().all(|frame| frame.len() <= max_frame));
    write_back(stream, &whole);
}

#[derive(Debug, PartialEq)]
struct Reading {
    frames: Vec<BytesMut>,
    /// How it ended, unless between two frames.
    error: Option<String>,
}

fn read(stream: &[u8], pieces: &[usize], max_frame: usize) -> Reading {
    let mut codec = FrameCodec::new(max_frame);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut sizes = pieces.iter().cycle();
    let error = loop {
        let (piece, later) = rest.split_at(rest.len().min(*sizes.next().expect("a cycle has no end")));
        rest = later;
        buffer.put_slice(piece);
        match read_frames(&mut codec, &mut buffer, &mut frames, rest.is_empty()) {
            Err(error) => break Some(error.to_string()),
            Ok(()) if rest.is_empty() => break None,
            Ok(()) => {
                let limit = 2 * (stream.len() + max_frame) + SPARE;
                assert!(
                    buffer.capacity() <= limit,
                    "{} bytes are reserved",
                    buffer.capacity()
                );
            }
        }
    };
    Reading { frames, error }
}

fn read_frames(
    codec: &mut FrameCodec,
    buffer: &mut BytesMut,
    frames: &mut Vec<BytesMut>,
    at_end: bool,
) -> Result<(), StreamError> {
    while let Some(frame) = codec.decode(buffer)? {
        frames.push(frame);
    }
    if at_end {
        assert_eq!(
            codec.decode_eof(buffer)?,
            None,
            "a frame that only the end brings"
        );
    }
    Ok(())
}

/// What was read is what the stream begins with.
fn write_back(stream: &[u8], reading: &Reading) {
    let mut written = BytesMut::new();
    for frame in &reading.frames {
        written.put_u32(u32::try_from(frame.len()).expect("no limit is greater"));
        written.put_slice(frame);
    }
    assert_eq!(written, stream[..written.len()]);
    assert!(reading.error.is_some() || written.len() == stream.len());
}
