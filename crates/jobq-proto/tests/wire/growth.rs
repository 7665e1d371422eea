//! What an older or a different program may send: fields, values and shapes that this version does not write.

use jobq_proto::message::{CancelOutcome, Include, RunState, SettleOutcome};
use jobq_proto::{ClientMessage, ErrorCode, Fence, ServerMessage, Status};
use serde::de::DeserializeOwned;

use crate::cbor::Item;
use crate::examples::{self, Example, Message, decode, encode};

/// A field that no version knows, with every kind of item in it that a stranger may send.
fn stranger() -> (Item, Item) {
    let nested = Item::Map(vec![
        (
            Item::Unsigned(1),
            Item::Array(vec![Item::Null, Item::Bool(true), Item::Negative(6)]),
        ),
        (Item::text("t"), Item::Tag(24, Box::new(Item::Bytes(vec![0xf6])))),
        (Item::text("u"), Item::Tag(0, Box::new(Item::text("2026-11-22")))),
    ]);
    (Item::text("added_later"), nested)
}

/// An example's fields after `change`, under the message's name.
fn with_fields(example: &Example, change: impl Fn(Item) -> Item) -> Vec<u8> {
    let Ok(Item::Map(entries)) = Item::read(&example.encode()) else {
        panic!("{} is no map", example.name);
    };
    let changed = entries
        .into_iter()
        .map(|(name, fields)| (name, fields.map_each(&change)))
        .collect();
    Item::Map(changed).write()
}

#[test]
fn unknown_fields_are_skipped_wherever_they_stand() {
    for example in examples::all() {
        for last in [false, true] {
            let bytes = with_fields(&example, |item| match item {
                Item::Map(mut fields) => {
                    let at = if last { fields.len() } else { 0 };
                    fields.insert(at, stranger());
                    Item::Map(fields)
                }
                other => other,
            });
            assert_eq!(
                example.decode(&bytes),
                Ok(example.message.clone()),
                "{}",
                example.name
            );
        }
    }
}

#[test]
fn fields_are_read_in_any_order() {
    for example in examples::all() {
        let bytes = with_fields(&example, |item| match item {
            Item::Map(mut fields) => {
                fields.reverse();
                Item::Map(fields)
            }
            other => other,
        });
        assert_eq!(
            example.decode(&bytes),
            Ok(example.message.clone()),
            "{}",
            example.name
        );
    }
}

#[test]
fn byte_strings_are_read_with_tag_24_in_front_and_without() {
    let mut tagged = 0;
    for example in examples::all() {
        let plain = example.encode();
        let bytes = with_fields(&example, |item| match item {
            Item::Bytes(bytes) => Item::Tag(24, Box::new(Item::Bytes(bytes))),
            other => other,
        });
        tagged += usize::from(bytes != plain);
        assert_eq!(
            example.decode(&bytes),
            Ok(example.message.clone()),
            "{}",
            example.name
        );
    }
    assert!(tagged >= 5, "only {tagged} examples hold byte strings");
}

#[test]
fn an_indefinite_length_is_read_though_none_is_written() {
    let beat = b"\xbf\x64Beat\xa1\x63seq\x18\x2a\xff";
    assert!(
        decode::<ServerMessage>(beat).is_err(),
        "the map of the message's name has a definite length"
    );
    let beat = b"\xa1\x64Beat\xbf\x63seq\x18\x2a\xff";
    assert!(
        decode::<ServerMessage>(beat).is_ok(),
        "the fields may have an indefinite one"
    );
}

fn reads_as<T: DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str, expected: T) {
    assert_eq!(decode::<T>(&Item::text(text).write()), Ok(expected), "{text}");
}

#[test]
fn texts_that_this_version_does_not_know_read_as_unknown() {
    reads_as("AddedLater", Status::Unknown);
    reads_as("AddedLater", SettleOutcome::Unknown);
    reads_as("AddedLater", CancelOutcome::Unknown);
    reads_as("AddedLater", RunState::Unknown);
    reads_as("AddedLater", Include::Unknown);
    reads_as("added_later", ErrorCode::Unknown);
    reads_as("", ErrorCode::Unknown);
    reads_as(&"x".repeat(4096), Status::Unknown);
}

#[test]
fn unknown_texts_do_not_disturb_what_stands_after_them() {
    for (name, known) in [
        ("ServerMessage.Holding.full", "Running"),
        ("ClientMessage.Settled.full", "Stale"),
        ("ClientMessage.Cancelled.full", "Marked"),
        ("ClientMessage.Acknowledged.full", "uuid_conflict"),
        ("ClientMessage.Jobs.full", "Processing"),
        ("ServerMessage.Query.full", "Params"),
    ] {
        let example = examples::all()
            .into_iter()
            .find(|e| e.name == name)
            .expect("there is such an example");
        let bytes = with_fields(&example, |item| {
            if item == Item::text(known) {
                Item::text("AddedLater")
            } else {
                item
            }
        });
        let read = example
            .decode(&bytes)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_ne!(read, example.message, "{name}");
        assert_eq!(
            format!("{read:?}").matches("Unknown").count(),
            1,
            "{name}: {read:?}"
        );
    }
}

#[test]
fn a_uuid_has_16_bytes() {
    for (len, fits) in [(15, false), (16, true), (17, false), (0, false)] {
        let submission = Item::Map(vec![
            (Item::text("uuid"), Item::Bytes(vec![7; len])),
            (Item::text("name"), Item::text("ping")),
        ]);
        let fields = Item::Map(vec![
            (Item::text("request"), Item::Unsigned(1)),
            (Item::text("jobs"), Item::Array(vec![submission])),
        ]);
        let request = Item::Map(vec![(Item::text("Request"), fields)]);
        let read = decode::<ServerMessage>(&request.write());
        assert_eq!(read.is_ok(), fits, "{len} bytes: {read:?}");
    }
}

#[test]
fn a_fence_has_two_numbers() {
    let numbers = |n: u64| Item::Array((0..n).map(Item::Unsigned).collect()).write();
    assert!(decode::<Fence>(&numbers(1)).is_err());
    assert_eq!(decode::<Fence>(&numbers(2)), Ok(Fence { epoch: 0, seq: 1 }));
    assert!(decode::<Fence>(&numbers(3)).is_err());
}

#[test]
fn integers_are_no_floats_and_counts_are_not_negative() {
    assert!(decode::<ServerMessage>(b"\xa1\x64Beat\xa1\x63seq\x01").is_ok());
    assert!(decode::<ServerMessage>(b"\xa1\x64Beat\xa1\x63seq\xf9\x3c\x00").is_err());
    assert!(decode::<ServerMessage>(b"\xa1\x64Beat\xa1\x63seq\x20").is_err());
}

#[test]
fn an_unknown_message_is_an_error() {
    for name in ["AddedLater", "hello", ""] {
        let message = Item::Map(vec![(Item::text(name), Item::Map(Vec::new()))]).write();
        assert!(decode::<ServerMessage>(&message).is_err(), "{name:?}");
        assert!(decode::<ClientMessage>(&message).is_err(), "{name:?}");
    }
}

/// serde names all variants in the error for one that it does not know.
fn variants_of<T: DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
    let message = Item::Map(vec![(Item::text("?"), Item::Map(Vec::new()))]).write();
    let error = decode::<T>(&message).expect_err("no message has this name");
    let names: Vec<String> = error.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    names.into_iter().filter(|name| name != "?").collect()
}

#[test]
fn the_list_of_names_is_that_of_the_messages() {
    assert_eq!(variants_of::<ServerMessage>(), ServerMessage::NAMES);
    assert_eq!(variants_of::<ClientMessage>(), ClientMessage::NAMES);
}

#[test]
fn every_error_code_travels_as_its_own_text() {
    for &code in ErrorCode::ALL {
        assert_eq!(Item::read(&encode(&code)), Ok(Item::text(code.as_str())));
        reads_as(code.as_str(), code);
        assert_eq!(code.to_string(), code.as_str());
    }
    assert!(
        !ErrorCode::Unknown.may_repeat(),
        "an old client must not hammer a new server"
    );
}

#[test]
fn every_status_travels_as_its_own_text_and_is_read_in_any_case() {
    for status in Status::ALL {
        assert_eq!(Item::read(&encode(&status)), Ok(Item::text(status.as_str())));
        reads_as(status.as_str(), status);
        assert_eq!(status.as_str().to_lowercase().parse(), Ok(status));
    }
}

#[test]
fn a_message_in_the_wrong_direction_is_an_error_where_its_name_is_not_known() {
    for example in examples::all() {
        let bytes = example.encode();
        let (other_way, read) = match example.message {
            Message::ToServer(_) => (ClientMessage::NAMES, decode::<ClientMessage>(&bytes).map(drop)),
            Message::FromServer(_) => (ServerMessage::NAMES, decode::<ServerMessage>(&bytes).map(drop)),
        };
        if !other_way.contains(&example.message_name()) {
            assert!(read.is_err(), "{}", example.name);
        }
    }
}
