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

/// Tables of fields by their captions: the heading of a message, or the name of a map in it.
type Tables = BTreeMap<String, BTreeMap<String, Row>>;

/// What a table says about a field.
struct Row {
    kind: String,
    required: bool,
}

fn tables(text: &str) -> Tables {
    let (_, messages) = text.split_once("\n## 9. ").expect("PROTOCOL.md has a section 9");
    let (messages, _) = messages
        .split_once("\n## 11. ")
        .expect("PROTOCOL.md has a section 11");
    let mut tables = Tables::new();
    let mut caption = "";
    for line in messages.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            caption = heading;
        } else if let Some((name, _)) = line.strip_prefix('*').and_then(|rest| rest.split_once('*')) {
            caption = name;
        }
        let cells: Vec<&str> = line
            .split(" | ")
            .map(|cell| cell.trim_matches(['|', ' ', '`']))
            .collect();
        if let ([field, kind, absent, _], true) = (cells.as_slice(), line.starts_with("| `")) {
            let row = Row {
                kind: kind.trim_matches(['[', ']']).to_owned(),
                required: *absent == "required",
            };
            let twice = tables
                .entry(caption.to_owned())
                .or_default()
                .insert((*field).to_owned(), row);
            assert!(twice.is_none(), "{caption} has the field {field} twice");
        }
    }
    tables
}

/// For each field of each table: whether messages can not be read without it, found by leaving it out.
#[derive(Default)]
struct Required(BTreeMap<(String, String), bool>);

impl Required {
    /// Leaves out each field of `map`, which the table called `caption` describes, and of the maps in it. `whole`
    /// puts a changed map into its place in the message.
    fn probe(
        &mut self,
        tables: &Tables,
        caption: &str,
        map: &Item,
        can_be_read: &dyn Fn(&Item) -> bool,
        whole: &dyn Fn(Item) -> Item,
    ) {
        let Item::Map(fields) = map else {
            panic!("{caption} describes {map:?}, which is no map");
        };
        for (at, (key, value)) in fields.iter().enumerate() {
            let Item::Text(name) = key else {
                panic!("{caption} has the key {key:?}, which is no text");
            };
            let row = tables.get(caption).and_then(|table| table.get(name));
            let row = row.unwrap_or_else(|| panic!("the table {caption} lacks the field {name}"));
            let mut rest = fields.clone();
            rest.remove(at);
            let required = !can_be_read(&whole(Item::Map(rest)));
            *self.0.entry((caption.to_owned(), name.clone())).or_default() |= required;
            if !tables.contains_key(&row.kind) {
                continue;
            }
            let with = |value: Item| {
                let mut fields = fields.clone();
                fields[at].1 = value;
                whole(Item::Map(fields))
            };
            match value {
                Item::Array(items) => {
                    for (n, item) in items.iter().enumerate() {
                        let whole = |item: Item| {
                            let mut items = items.clone();
                            items[n] = item;
                            with(Item::Array(items))
                        };
                        self.probe(tables, &row.kind, item, can_be_read, &whole);
                    }
                }
                map => self.probe(tables, &row.kind, map, can_be_read, &with),
            }
        }
    }
}

#[test]
fn the_tables_have_the_fields_of_the_messages_and_call_the_right_ones_required() {
    let text = document();
    let tables = tables(&text);
    let mut found = Required::default();
    for example in examples::all() {
        let way = if example.name.starts_with("ServerMessage.") {
            "to"
        } else {
            "from"
        };
        let heading = format!("{} ({way} the server)", example.message_name());
        let section = section(&text, &heading);
        assert!(
            section.contains(&format!("```cbor {}\n", example.name)),
            "{heading} lacks {}",
            example.name
        );
        let Ok(Item::Map(message)) = Item::read(&example.encode()) else {
            panic!("{} is no map", example.name);
        };
        let (name, fields) = &message[0];
        let whole = |fields: Item| Item::Map(vec![(name.clone(), fields)]);
        let can_be_read = |message: &Item| example.decode(&message.write()).is_ok();
        found.probe(&tables, &heading, fields, &can_be_read, &whole);
    }
    for (caption, table) in &tables {
        for (name, row) in table {
            let required = found.0.get(&(caption.clone(), name.clone()));
            assert_eq!(
                required,
                Some(&row.required),
                "{caption}: {name} (None: no message has it)"
            );
        }
    }
}

#[test]
fn every_message_has_a_section() {
    let text = document();
    for name in ServerMessage::NAMES {
        assert!(!section(&text, &format!("{name} (to the server)")).is_empty());
    }
    for name in ClientMessage::NAMES {
        assert!(!section(&text, &format!("{name} (from the server)")).is_empty());
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
    assert!(text.contains(&format!(
        "letter for letter: 1 to {} bytes",
        limits::MAX_REASON_TEXT
    )));
    assert!(text.contains(&format!("at most {} names", Stats::MAX_NAMES)));
    assert!(text.contains(&format!("at most {} deep", jobq_proto::MAX_DEPTH)));
    assert!(text.contains(&format!("at most {} items", grouped(jobq_proto::MAX_ITEMS))));
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
