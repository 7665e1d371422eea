//! Each message, through the codec: what is read is written as something that is read as the same.

use std::fmt;

use jobq_proto::{ClientMessage, ErrorCode, ServerMessage};
use jobq_transport::FrameError;
use jobq_transport::codec::{Message, decode, encode};

use super::invent::{Known, invent};
use super::script::Script;

/// Longest error, in bytes, whatever was wrong with however long a frame.
const MAX_ERROR: usize = 400;

/// One byte that says what follows: a frame, or the script of a message.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    match script.byte() % 4 {
        0 => of_bytes::<ServerMessage>(script.rest()),
        1 => of_bytes::<ClientMessage>(script.rest()),
        2 => of_script::<ServerMessage>(&mut script),
        _ => of_script::<ClientMessage>(&mut script),
    }
}

fn of_bytes<M: Message + PartialEq + fmt::Debug>(frame: &[u8]) {
    match decode::<M>(frame) {
        Ok(message) => survives(&message),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() <= MAX_ERROR, "{} bytes: {text}", text.len());
            let expected = match error {
                FrameError::UnknownMessage { .. } => ErrorCode::UnknownMessage,
                _ => ErrorCode::Malformed,
            };
            assert_eq!(error.code(), expected);
        }
    }
}

fn of_script<M: Message + PartialEq + fmt::Debug>(script: &mut Script<'_>) {
    let Some(message) = invent::<M>(script, &Known::default()) else {
        return;
    };
    survives(&message);
    // The same with bytes changed, as a peer that is out of order sends it.
    let mut frame = encode(&message)
        .expect("the protocol's messages can be written")
        .to_vec();
    while !script.is_over() && !frame.is_empty() {
        let at = usize::from(script.u16()) % frame.len();
        match script.byte() % 3 {
            0 => frame[at] = script.byte(),
            1 => frame.insert(at, script.byte()),
            _ => {
                frame.remove(at);
            }
        }
        of_bytes::<M>(&frame);
    }
}

fn survives<M: Message + PartialEq + fmt::Debug>(message: &M) {
    let frame = encode(message).expect("the protocol's messages can be written");
    let read = decode::<M>(&frame).expect("what was written can be read");
    assert_eq!(read, *message);
    assert_eq!(encode(&read).expect("it was written before"), frame);
}
