//! The codec: what goes in comes out, and nothing that a peer sends does harm.

use bytes::{Bytes, BytesMut};
use jobq_proto::message::{
    Acknowledged, Completed, CompletedRun, ErrorMessage, Failed, FailedRun, Order, OrderedJob, Receipt,
    Request, Submission,
};
use jobq_proto::{Backoff, ClientMessage, ErrorCode, Fence, ServerMessage, WireError};
use jobq_transport::codec::{FrameCodec, decode, encode};
use jobq_transport::{FrameError, StreamError};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};
use uuid::Uuid;

use crate::fixtures::{beat, beat_back, hello, order, request};

fn bytes() -> impl Strategy<Value = Bytes> {
    // Short and long heads.
    prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 4_000..10_000)].prop_map(Bytes::from)
}

fn fence() -> impl Strategy<Value = Fence> {
    any::<(u64, u64)>().prop_map(Fence::from)
}

fn backoff() -> impl Strategy<Value = Backoff> {
    any::<(u64, u32, u64)>().prop_map(|(base, exponent, max)| Backoff { base, exponent, max })
}

prop_compose! {
    fn submission()(
        uuid in any::<u128>(),
        name in ".{0,200}",
        params in option::of(bytes()),
        username in option::of(".{0,20}"),
        priority in option::of("High|Low|x"),
        run_at in any::<Option<i64>>(),
        numbers in any::<(Option<u64>, Option<u32>, Option<u64>)>(),
        backoff in option::of(backoff()),
    ) -> Submission {
        let uuid = Uuid::from_u128(uuid);
        let (delay, max_attempts, timeout) = numbers;
        Submission { uuid, name, params, username, priority, run_at, delay, max_attempts, timeout, backoff }
    }
}

fn to_server() -> impl Strategy<Value = ServerMessage> {
    let request = (any::<u64>(), vec(submission(), 0..5))
        .prop_map(|(request, jobs)| ServerMessage::Request(Request { request, jobs }));
    let completed =
        (any::<u64>(), fence(), any::<u64>(), option::of(bytes())).prop_map(|(id, fence, ran, result)| {
            CompletedRun {
                id,
                fence,
                ran,
                result,
            }
        });
    let completed = vec(completed, 0..5).prop_map(|runs| ServerMessage::Completed(Completed { runs }));
    let failed = (
        any::<u64>(),
        fence(),
        ".{0,5000}",
        any::<bool>(),
        any::<Option<u64>>(),
    )
        .prop_map(|(id, fence, reason, never, after)| FailedRun {
            id,
            fence,
            ran: 1,
            reason,
            never,
            after,
        });
    let failed = vec(failed, 0..5).prop_map(|runs| ServerMessage::Failed(Failed { runs }));
    prop_oneof![request, completed, failed, any::<u64>().prop_map(beat)]
}

fn to_client() -> impl Strategy<Value = ClientMessage> {
    let job = (
        any::<(u64, u32, u32, u128)>(),
        fence(),
        "[a-z]{1,128}",
        option::of(".{0,20}"),
        bytes(),
    );
    let job = job.prop_map(
        |((id, attempt, max_attempts, uuid), fence, name, username, params)| OrderedJob {
            id,
            fence,
            attempt,
            max_attempts,
            uuid: Uuid::from_u128(uuid),
            name,
            username,
            timeout: None,
            params,
        },
    );
    let order = vec(job, 0..5).prop_map(|jobs| ClientMessage::Order(Order { jobs }));
    let receipt = prop_oneof![
        any::<(u64, bool)>().prop_map(|(id, existing)| Receipt::stored(id, existing)),
        (0..ErrorCode::ALL.len(), ".{0,300}")
            .prop_map(|(code, text)| Receipt::refused(WireError::new(ErrorCode::ALL[code], text))),
    ];
    let acknowledged = (any::<u64>(), vec(receipt, 0..5))
        .prop_map(|(request, jobs)| ClientMessage::Acknowledged(Acknowledged { request, jobs }));
    let error = ".{0,300}".prop_map(|text| {
        let error = WireError::new(ErrorCode::Malformed, text);
        ClientMessage::Error(ErrorMessage { error })
    });
    prop_oneof![order, acknowledged, error]
}

/// A stream of frames, as it travels.
fn stream_of(messages: &[ServerMessage]) -> BytesMut {
    let mut stream = BytesMut::new();
    let mut codec = FrameCodec::new(usize::MAX);
    for message in messages {
        codec.encode(message, &mut stream).unwrap();
    }
    stream
}

#[test]
fn a_message_over_the_limit_leaves_nothing_behind_in_the_buffer() {
    let mut codec = FrameCodec::new(encode(&beat(1)).unwrap().len());
    let mut stream = stream_of(&[beat(0)]);
    let error = codec.encode(&hello(), &mut stream).unwrap_err();
    assert!(
        matches!(error, StreamError::Frame(FrameError::TooLarge { .. })),
        "{error}"
    );
    codec.encode(&beat(1), &mut stream).unwrap();
    assert_eq!(stream, stream_of(&[beat(0), beat(1)]));
}

proptest! {
    #[test]
    fn a_message_to_the_server_comes_out_as_it_went_in(message in to_server()) {
        prop_assert_eq!(decode::<ServerMessage>(&encode(&message).unwrap()), Ok(message));
    }

    #[test]
    fn a_message_from_the_server_comes_out_as_it_went_in(message in to_client()) {
        prop_assert_eq!(decode::<ClientMessage>(&encode(&message).unwrap()), Ok(message));
    }

    #[test]
    fn what_another_library_writes_is_what_this_one_writes(message in to_server(), other in to_client()) {
        let mut frame = Vec::new();
        ciborium::into_writer(&message, &mut frame).unwrap();
        prop_assert_eq!(&encode(&message).unwrap(), &frame);
        frame.clear();
        ciborium::into_writer(&other, &mut frame).unwrap();
        prop_assert_eq!(&encode(&other).unwrap(), &frame);
    }

    #[test]
    fn what_another_library_reads_as_something_else_is_not_taken(
        message in to_server(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut frame = encode(&message).unwrap().to_vec();
        for (place, byte) in damage {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        if let Ok(ours) = decode::<ServerMessage>(&frame) {
            let theirs: ServerMessage = ciborium::from_reader(&frame[..]).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn random_bytes_yield_an_error_or_a_message(frame in vec(any::<u8>(), 0..300)) {
        let _ = decode::<ServerMessage>(&frame);
        let _ = decode::<ClientMessage>(&frame);
    }

    #[test]
    fn a_damaged_message_yields_an_error_or_a_message(
        message in to_server(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = encode(&message).unwrap().to_vec();
        for (place, byte) in damage {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        let _ = decode::<ServerMessage>(&frame);
        let _ = decode::<ClientMessage>(&frame);
    }

    #[test]
    fn a_message_that_is_cut_off_is_malformed(message in to_server(), end in any::<prop::sample::Index>()) {
        let frame = encode(&message).unwrap();
        let result = decode::<ServerMessage>(&frame[..end.index(frame.len())]);
        prop_assert!(matches!(result, Err(FrameError::Malformed { .. })), "{:?}", result);
    }

    #[test]
    fn a_stream_in_pieces_is_the_same_as_in_one(
        messages in vec(to_server(), 1..4),
        sizes in vec(1..3_000_usize, 1..10),
    ) {
        let mut stream = stream_of(&messages);
        let mut codec = FrameCodec::new(usize::MAX);
        let (mut arrived, mut decoded) = (BytesMut::new(), Vec::new());
        for size in sizes.iter().cycle() {
            if stream.is_empty() {
                break;
            }
            arrived.unsplit(stream.split_to(stream.len().min(*size)));
            while let Some(frame) = codec.decode(&mut arrived).unwrap() {
                decoded.push(decode::<ServerMessage>(&frame).unwrap());
            }
        }
        prop_assert_eq!(decoded, messages);
        prop_assert!(arrived.is_empty());
    }
}

#[test]
fn a_length_over_the_limit_reserves_nothing() {
    let mut codec = FrameCodec::new(1_000);
    let mut stream = BytesMut::from(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3][..]);
    let before = stream.capacity();
    let error = codec.decode(&mut stream).unwrap_err();
    let (length, limit) = (0x7fff_ffff, 1_000);
    assert!(matches!(error, StreamError::Frame(error) if error == FrameError::TooLarge { length, limit }));
    assert_eq!(stream.capacity(), before);
}

#[test]
fn a_stream_that_ends_behind_a_length_ended_within_a_frame() {
    for stream in [&[0, 0, 0][..], &[0, 0, 0, 9], &[0, 0, 0, 9, 0xa1]] {
        let mut codec = FrameCodec::new(100);
        let mut buffer = BytesMut::from(stream);
        // Whether what there was had been looked at before or not.
        for looks in 0..2 {
            assert!(codec.decode(&mut buffer).unwrap().is_none());
            if looks == 1 {
                let error = codec.decode_eof(&mut buffer).unwrap_err();
                assert!(matches!(error, StreamError::Io(_)), "{error} for {stream:?}");
            }
        }
    }
}

#[test]
fn an_array_that_claims_to_be_endless_reserves_little_and_is_malformed() {
    // {"Watch": {"request": 1, "ids": [2^62 ids …
    let mut frame = b"\xa1\x65Watch\xa2\x67request\x01\x63ids\x9b".to_vec();
    frame.extend((1_u64 << 62).to_be_bytes());
    assert!(matches!(
        decode::<ServerMessage>(&frame),
        Err(FrameError::Malformed { .. })
    ));
    // The same for a byte string.
    let mut frame = b"\xa1\x67Request\xa2\x67request\x01\x64jobs\x81\xa1\x66params\x5b".to_vec();
    frame.extend((1_u64 << 62).to_be_bytes());
    assert!(matches!(
        decode::<ServerMessage>(&frame),
        Err(FrameError::Malformed { .. })
    ));
}

#[test]
fn an_array_of_more_items_than_any_limit_is_malformed() {
    let most = usize::try_from(jobq_proto::MAX_ITEMS).expect("it is an index");
    let begin = b"\xa1\x65Watch\xa3\x67request\x01\x65bytes\x00";
    for field in [&b"\x63ids"[..], b"\x65other"] {
        for (items, is_message) in [(most, field == b"\x63ids"), (most + 1, false)] {
            let items = vec![0; items];
            let counted = [
                b"\x9a",
                &u32::try_from(items.len()).expect("they are few").to_be_bytes()[..],
            ]
            .concat();
            for frame in [
                [&begin[..], field, &counted, &items].concat(),
                [&begin[..], field, b"\x9f", &items, b"\xff"].concat(),
            ] {
                let read = decode::<ServerMessage>(&frame);
                assert_eq!(
                    read.is_ok(),
                    is_message,
                    "{} items: {:?}",
                    items.len(),
                    read.err()
                );
            }
        }
    }
}

#[test]
fn lengths_that_come_at_the_end_are_read_too() {
    // Beat with an indefinite map, and a job whose name and params come in pieces.
    assert_eq!(decode(b"\xa1\x64Beat\xbf\x63seq\x07\xff"), Ok(beat(7)));
    let mut frame = b"\xa1\x67Request\xa2\x67request\x01\x64jobs\x9f\xa3\x64uuid\x50".to_vec();
    frame.extend(Uuid::from_u128(7).as_bytes());
    frame.extend(b"\x64name\x7f\x65thumb\x64nail\xff\x66params\xd8\x18\x5f\x42\x00\x01\x41\x02\xff\xff");
    assert_eq!(decode(&frame), Ok(request(3)), "the tag on params is passed over");
}

#[test]
fn what_is_of_the_wrong_kind_is_malformed() {
    for frame in [
        &b"\xa1\x64Beat\xa1\x63seq\x20"[..],
        b"\xa1\x64Beat\xa1\x63seq\xf9\x3c\x00",
        b"\xa1\x64Beat\x81\x01",
        b"\xa1\x64Beat\xa1\x01\x01",
        b"\xa1\x44Beat\xa0",
        b"\xa2\x64Beat\xa0\x64Beat\xa0",
        b"\xbf\x64Beat\xa0\xff",
        b"\xa1\x67Started\xa1\x64runs\x81\xa2\x62id\x01\x65fence\x83\x01\x02\x03",
        b"\xa1\x67Started\xa1\x64runs\x81\xa2\x62id\x01\x65fence\x81\x01",
        b"\xa1\x64Beat\xa1\x61x\x62\xff\xff",
        b"\xa1\x64Beat\xa2\x63seq\x07\x62\xff\xff\x01",
        b"\xa1\x64Beat\xa1\x61x\x1c",
        b"\xa1\x64Beat\xa1\x61x\x5f\x61x\xff",
    ] {
        let result = decode::<ServerMessage>(frame);
        assert!(
            matches!(result, Err(FrameError::Malformed { .. })),
            "{frame:x?}: {result:?}"
        );
    }
}

#[test]
fn fields_that_are_not_known_are_skipped() {
    let frame = b"\xa1\x64Beat\xa2\x65later\x83\x01\xf6\xa1\x61x\xfb\x3f\xf0\0\0\0\0\0\0\x63seq\x07";
    assert_eq!(decode(frame), Ok(beat(7)));
}

#[test]
fn a_known_name_with_wrong_fields_is_malformed_and_not_unknown() {
    let result = decode::<ServerMessage>(b"\xa1\x64Beat\xa1\x63seq\x61x");
    assert!(matches!(result, Err(FrameError::Malformed { .. })), "{result:?}");
    // A name of the other direction is unknown in this one.
    let result = decode::<ServerMessage>(b"\xa1\x65Order\xa1\x64jobs\x80");
    let name = "Order".to_owned();
    assert_eq!(result, Err(FrameError::UnknownMessage { name }));
}

#[test]
fn an_error_repeats_little_of_what_a_peer_said() {
    let name = "x".repeat(50_000);
    let mut frame = b"\xa1\x7a".to_vec();
    frame.extend((name.len() as u32).to_be_bytes());
    frame.extend(name.as_bytes());
    frame.push(0xa0);
    let error = decode::<ServerMessage>(&frame).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownMessage);
    assert!(WireError::from(error).message.len() < 300);
}

#[test]
fn the_codes_on_the_wire_are_those_of_the_errors() {
    let error = FrameError::TooLarge { length: 2, limit: 1 };
    assert_eq!(WireError::from(error).code, ErrorCode::FrameTooLarge);
    let error = decode::<ServerMessage>(b"").unwrap_err();
    assert_eq!(WireError::from(error).code, ErrorCode::Malformed);
}

#[test]
fn every_name_of_a_message_is_on_the_wire_as_listed() {
    for message in [hello(), beat(1), request(3)] {
        let frame = encode(&message).unwrap();
        let name = ServerMessage::NAMES
            .iter()
            .find(|name| frame[2..].starts_with(name.as_bytes()));
        assert!(name.is_some(), "{message:?}");
    }
    for message in [beat_back(1), order(3)] {
        let frame = encode(&message).unwrap();
        let name = ClientMessage::NAMES
            .iter()
            .find(|name| frame[2..].starts_with(name.as_bytes()));
        assert!(name.is_some(), "{message:?}");
    }
}
