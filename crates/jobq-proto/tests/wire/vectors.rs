//! The bytes of every example, as they stand in `vectors.txt`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jobq_proto::{ClientMessage, MAX_DEPTH, ServerMessage};

use crate::cbor::{Item, hex, unhex};
use crate::examples::{self, Example};

/// Longest line of diagnostic notation, in characters.
const WIDTH: usize = 100;
/// Bytes on a line of hexadecimal digits.
const HEX_BYTES: usize = 48;

const HEADER: &str = "\
# Test vectors of the jobq protocol, version 1: one message each, without the length that goes before it in a frame.
# A vector is a line `== name`, the message in diagnostic notation (RFC 8949, section 8), a line `--`, and its bytes
# in hexadecimal digits, broken into lines. A map's fields stand in the order in which jobq writes them; a reader
# takes them in any order. Written by `JOBQ_BLESS=1 cargo test -p jobq-proto`.
";

/// One vector of the file.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Diagnostic notation, `--` and hexadecimal digits, as they stand in the file and in the document.
    pub(crate) block: String,
}

/// Whether to rewrite the files instead of comparing with them.
pub(crate) fn bless() -> bool {
    std::env::var_os("JOBQ_BLESS").is_some_and(|value| value == "1")
}

/// What the file holds; what it is to hold, when it is being rewritten.
pub(crate) fn vectors() -> Vec<Vector> {
    let text = if bless() {
        rendered()
    } else {
        std::fs::read_to_string(path()).expect("vectors.txt is checked in beside this test")
    };
    parse(&text)
}

/// A vector's text, without its name.
pub(crate) fn block(bytes: &[u8]) -> String {
    let item = Item::read(bytes).unwrap_or_else(|error| panic!("{}: {error}", hex(bytes)));
    let digits: Vec<String> = bytes.chunks(HEX_BYTES).map(hex).collect();
    format!("{}\n--\n{}\n", item.diagnostic(WIDTH), digits.join("\n"))
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors.txt")
}

fn rendered() -> String {
    examples::all().iter().fold(HEADER.to_owned(), |text, example| {
        text + &format!("\n== {}\n{}", example.name, block(&example.encode()))
    })
}

fn parse(text: &str) -> Vec<Vector> {
    let mut parts = text.split("\n== ");
    parts.next().expect("splitting gives at least one part");
    parts
        .map(|part| {
            let (name, block) = part
                .split_once('\n')
                .expect("a vector's name has a line of its own");
            let block = format!("{}\n", block.trim_end());
            let (_, digits) = block
                .split_once("\n--\n")
                .unwrap_or_else(|| panic!("{name} has no line `--`"));
            Vector {
                name: name.to_owned(),
                bytes: unhex(digits).unwrap_or_else(|error| panic!("{name}: {error}")),
                block,
            }
        })
        .collect()
}

fn vector_of<'a>(vectors: &'a [Vector], example: &Example) -> &'a Vector {
    vectors
        .iter()
        .find(|vector| vector.name == example.name)
        .unwrap_or_else(|| panic!("vectors.txt has no {}; JOBQ_BLESS=1 adds it", example.name))
}

#[test]
fn the_file_holds_what_the_examples_give() {
    if bless() {
        std::fs::write(path(), rendered()).expect("vectors.txt can be written");
        return;
    }
    let text = std::fs::read_to_string(path()).expect("vectors.txt is checked in beside this test");
    assert!(
        text == rendered(),
        "vectors.txt differs from the examples: the protocol's bytes have changed, or the file was edited. If that \
         is meant, JOBQ_BLESS=1 rewrites it"
    );
}

#[test]
fn every_example_is_written_as_the_bytes_of_its_vector() {
    let vectors = vectors();
    for example in examples::all() {
        let vector = vector_of(&vectors, &example);
        assert_eq!(hex(&example.encode()), hex(&vector.bytes), "{}", example.name);
    }
}

#[test]
fn every_vector_reads_as_the_value_of_its_example() {
    let vectors = vectors();
    for example in examples::all() {
        let vector = vector_of(&vectors, &example);
        assert_eq!(
            example.decode(&vector.bytes),
            Ok(example.message.clone()),
            "{}",
            example.name
        );
    }
}

#[test]
fn every_message_has_a_vector_and_every_vector_a_message() {
    let known: BTreeSet<String> = ServerMessage::NAMES
        .iter()
        .map(|name| format!("ServerMessage.{name}"))
        .chain(
            ClientMessage::NAMES
                .iter()
                .map(|name| format!("ClientMessage.{name}")),
        )
        .collect();
    let vectors = vectors();
    let covered: BTreeSet<String> = vectors
        .iter()
        .map(|vector| {
            let (message, _) = vector
                .name
                .rsplit_once('.')
                .expect("a vector's name has three parts");
            message.to_owned()
        })
        .collect();
    assert_eq!(covered, known);
    let names: BTreeSet<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    assert_eq!(names.len(), vectors.len(), "two vectors have one name");
    assert_eq!(names.len(), examples::all().len(), "a vector has no example");
}

#[test]
fn a_vector_is_a_map_of_one_entry_with_its_messages_name() {
    for example in examples::all() {
        let item = Item::read(&example.encode()).expect("the vectors are strict CBOR");
        let Item::Map(entries) = item else {
            panic!("{} is no map", example.name);
        };
        assert_eq!(entries.len(), 1, "{}", example.name);
        assert_eq!(
            entries[0].0,
            Item::text(example.message_name()),
            "{}",
            example.name
        );
        assert!(
            matches!(entries[0].1, Item::Map(_)),
            "{} holds no map",
            example.name
        );
    }
}

#[test]
fn what_is_written_has_definite_lengths_shortest_heads_and_no_floats() {
    for example in examples::all() {
        let bytes = example.encode();
        let item = Item::read(&bytes).unwrap_or_else(|error| panic!("{} has {error}", example.name));
        assert_eq!(hex(&item.write()), hex(&bytes), "{}", example.name);
    }
}

#[test]
fn absent_fields_take_no_bytes() {
    for example in examples::all() {
        let item = Item::read(&example.encode()).expect("the vectors are strict CBOR");
        item.each(&mut |item| assert_ne!(*item, Item::Null, "{} holds a null", example.name));
    }
    let minimal = examples::all()
        .into_iter()
        .find(|e| e.name == "ServerMessage.Hello.minimal");
    let hello = minimal.expect("there is such an example").encode();
    assert_eq!(hex(&hello), hex(b"\xa1\x65Hello\xa1\x67version\x01"));
}

#[test]
fn the_deepest_message_has_the_depth_that_the_documentation_gives() {
    let deepest = examples::all()
        .iter()
        .map(|example| {
            Item::read(&example.encode())
                .expect("the vectors are strict CBOR")
                .depth()
        })
        .max();
    assert_eq!(
        deepest,
        Some(7),
        "the documentation of MAX_DEPTH and PROTOCOL.md say 7"
    );
    const { assert!(MAX_DEPTH == 32) };
}
