//! `docs/PROTOCOL.md` against the program: its examples, its messages and fields, its limits and its error codes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jobq_proto::message::Stats;
use jobq_proto::{Backoff, ClientMessage, ErrorCode, Limits, NewJob, ServerMessage, Window, limits};

use crate::cbor::{Item, hex, unhex};
use crate::examples;
use crate::vectors::{Vector, bless, vectors};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/PROTOCOL.md")
}

fn document() -> String {
    std::fs::read_to_string(path()).expect("docs/PROTOCOL.md is part of the repository")
}

/// What is to stand in a fenced block with this info string; `None` where it is no example.
fn expected(info: &str, vectors: &BTreeMap<String, Vector>) -> Option<String> {
    let (kind, name) = info.split_once(' ')?;
    let vector = || {
        vectors
            .get(name)
            .unwrap_or_else(|| panic!("PROTOCOL.md shows {name}, and there is no such vector"))
    };
    match kind {
        "cbor" => Some(vector().block.clone()),
        "frame" => {
            let bytes = &vector().bytes;
            let len = u32::try_from(bytes.len()).expect("an example is short");
            Some(format!("{} {}\n", hex(&len.to_be_bytes()), hex(bytes)))
        }
        _ => None,
    }
}

/// The text with what stands in its examples replaced by what is to stand there, and the names of the examples.
fn with_examples(text: &str, vectors: &BTreeMap<String, Vector>) -> (String, Vec<String>) {
    let mut out = String::new();
    let mut names = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out += line;
        out.push('\n');
        let example = line.strip_prefix("```").and_then(|info| expected(info, vectors));
        if let Some(example) = example {
            names.extend(line.split(' ').nth(1).map(str::to_owned));
            let end = lines.by_ref().find(|line| line.starts_with("```"));
            out += &example;
            out += end.unwrap_or_else(|| panic!("the example `{line}` does not end"));
            out.push('\n');
        }
    }
    (out, names)
}

fn by_name() -> BTreeMap<String, Vector> {
    vectors()
        .into_iter()
        .map(|vector| (vector.name.clone(), vector))
        .collect()
}

/// The cells of each row of each table, without the heads.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// What stands under the heading of one message.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text
        .find(&format!("\n### {heading}\n"))
        .unwrap_or_else(|| panic!("PROTOCOL.md has no heading `### {heading}`"));
    let section = &text[start + 5..];
    let end = section.find("\n### ").or(section.find("\n## "));
    &section[..end.unwrap_or(section.len())]
}

#[test]
fn the_examples_are_the_vectors() {
    let text = document();
    let (expected, names) = with_examples(&text, &by_name());
    if bless() {
        std::fs::write(path(), expected).expect("docs/PROTOCOL.md can be written");
        return;
    }
    for (line, (is, should)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(
            is,
            should,
            "line {} of PROTOCOL.md; JOBQ_BLESS=1 rewrites it",
            line + 1
        );
    }
    assert_eq!(
        text.len(),
        expected.len(),
        "PROTOCOL.md lacks lines; JOBQ_BLESS=1 rewrites it"
    );
    let shown: BTreeSet<String> = names.into_iter().collect();
    let all: BTreeSet<String> = examples::all().into_iter().map(|example| example.name).collect();
    assert_eq!(shown, all, "every vector is shown");
}

#[test]
fn a_changed_byte_in_an_example_is_noticed() {
    let vectors = by_name();
    let (right, _) = with_examples("```cbor ServerMessage.Goodbye.full\n```\n", &vectors);
    assert!(right.contains("a167476f6f64627965a0"), "{right}");
    let wrong = right.replace("a167476f", "a167476e");
    assert_eq!(with_examples(&wrong, &vectors).0, right);
    let (frame, _) = with_examples("```frame ServerMessage.Beat.full\n```\n", &vectors);
    let bytes = unhex(frame.lines().nth(1).expect("the example has a line")).expect("it is hexadecimal");
    assert_eq!(bytes.len(), 17, "the text says 17");
    assert_eq!(bytes[3], 13, "the text says 13");
}

#[test]
fn every_message_has_its_section_with_an_example_and_all_its_fields() {
    let text = document();
    for example in examples::all() {
        let heading = match example.name.split('.').next() {
            Some("ServerMessage") => format!("{} (to the server)", example.message_name()),
            _ => format!("{} (from the server)", example.message_name()),
        };
        let section = section(&text, &heading);
        assert!(
            section.contains(&format!("```cbor {}", example.name)),
            "{}",
            example.name
        );
        let Ok(Item::Map(message)) = Item::read(&example.encode()) else {
            panic!("{} is no map", example.name);
        };
        let Item::Map(fields) = &message[0].1 else {
            panic!("{} has no fields", example.name);
        };
        for (key, _) in fields {
            let Item::Text(key) = key else {
                panic!("{} has a key that is no text", example.name);
            };
            assert!(
                section.contains(&format!("\n| `{key}` | ")),
                "{heading} lacks the field {key}"
            );
        }
    }
}

#[test]
fn every_field_of_every_nested_map_is_in_a_table() {
    let documented: BTreeSet<String> = rows(&document())
        .into_iter()
        .filter_map(|cells| Some(cells.first()?.trim_matches('`').to_owned()))
        .collect();
    for example in examples::all() {
        let item = Item::read(&example.encode()).expect("the vectors are strict CBOR");
        let Item::Map(message) = item else {
            panic!("{} is no map", example.name);
        };
        message[0].1.each(&mut |item| {
            let Item::Map(fields) = item else { return };
            for (key, _) in fields {
                let Item::Text(key) = key else {
                    panic!("{} has a key that is no text", example.name);
                };
                assert!(
                    documented.contains(key),
                    "no table has the field {key} of {}",
                    example.name
                );
            }
        });
    }
}

/// The fields of one message that it cannot be read without. Tries each by leaving it out.
fn required_fields(name: &str) -> BTreeSet<String> {
    let mut required = BTreeSet::new();
    for example in examples::all()
        .into_iter()
        .filter(|example| example.name.starts_with(name))
    {
        let Ok(Item::Map(message)) = Item::read(&example.encode()) else {
            panic!("{} is no map", example.name);
        };
        let Item::Map(fields) = &message[0].1 else {
            panic!("{} has no fields", example.name);
        };
        for at in 0..fields.len() {
            let mut rest = fields.clone();
            let (key, _) = rest.remove(at);
            let bytes = Item::Map(vec![(message[0].0.clone(), Item::Map(rest))]).write();
            if let (Item::Text(key), Err(_)) = (key, example.decode(&bytes)) {
                required.insert(key);
            }
        }
    }
    required
}

#[test]
fn the_fields_called_required_are_those_that_a_message_cannot_be_read_without() {
    let text = document();
    let to_server = ServerMessage::NAMES
        .iter()
        .map(|name| ("ServerMessage", *name, "to"));
    let from_server = ClientMessage::NAMES
        .iter()
        .map(|name| ("ClientMessage", *name, "from"));
    for (direction, name, way) in to_server.chain(from_server) {
        let section = section(&text, &format!("{name} ({way} the server)"));
        let first_table = section
            .split("\n*")
            .next()
            .expect("splitting gives at least one part");
        let called: BTreeSet<String> = rows(first_table)
            .into_iter()
            .filter(|cells| cells.get(2).is_some_and(|cell| cell == "required"))
            .map(|cells| cells[0].trim_matches('`').to_owned())
            .collect();
        assert_eq!(
            called,
            required_fields(&format!("{direction}.{name}.")),
            "{direction}.{name}"
        );
    }
}

#[test]
fn every_error_code_has_one_row_that_says_whether_it_may_be_repeated() {
    let text = document();
    let (_, errors) = text
        .split_once("\n## 11. Errors\n")
        .expect("PROTOCOL.md has a section on errors");
    let (errors, _) = errors.split_once("\n## 12.").expect("another section follows");
    let rows: Vec<Vec<String>> = rows(errors)
        .into_iter()
        .filter(|cells| cells[0] != "code")
        .collect();
    let codes: Vec<&str> = rows.iter().map(|cells| cells[0].trim_matches('`')).collect();
    let all: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes, all);
    for (cells, code) in rows.iter().zip(ErrorCode::ALL) {
        assert_eq!(cells.len(), 4, "{code}");
        assert!(
            ["yes", "no"].contains(&cells[1].as_str()),
            "{code} closes: {}",
            cells[1]
        );
        let may_repeat = if code.may_repeat() { "yes" } else { "no" };
        assert_eq!(cells[2], may_repeat, "{code}");
    }
}

/// A number as the document writes it.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join(",")
}

#[test]
fn the_limits_are_those_of_the_program() {
    let text = document();
    let Limits {
        frame,
        params,
        result,
        reason,
        items,
        names,
        watches,
    } = Limits::default();
    for (name, value) in [
        ("frame", frame),
        ("params", params),
        ("result", result),
        ("reason", reason),
        ("items", items),
        ("names", names),
        ("watches", watches),
    ] {
        assert!(
            text.contains(&format!("\n| `{name}` | {} | ", grouped(value))),
            "{name} is {value}"
        );
    }
    let window = Window::default();
    assert!(text.contains(&format!("jobs ({})", grouped(window.jobs))));
    assert_eq!(window.bytes, 8 << 20, "the text says 8 MiB");
    assert!(text.contains(&format!(
        "at most {} bytes",
        grouped(limits::MAX_FIRST_FRAME as u64)
    )));
    assert_eq!(limits::MAX_NAME, 128);
    assert!(text.contains(&format!("at most {} names", Stats::MAX_NAMES)));
    assert!(text.contains(&format!("at most {} deep", jobq_proto::MAX_DEPTH)));
    assert!(text.contains(&format!("port {} by default", jobq_proto::DEFAULT_PORT)));
    assert!(text.starts_with(&format!(
        "# The jobq protocol, version {}\n",
        jobq_proto::PROTOCOL_VERSION
    )));
    assert!(text.contains(&format!("tried: 1 to {} |", grouped(NewJob::MAX_ATTEMPTS.into()))));
    let backoff = Backoff::default();
    assert_eq!(
        (backoff.base, backoff.exponent, backoff.max),
        (1_000_000, 4, 604_800_000_000)
    );
    assert!(text.contains("a `base` of 1 s, an\n`exponent` of 4 and a `max` of 7 days"));
}
