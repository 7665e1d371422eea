//! A CBOR reader as strict as what jobq writes: definite lengths, shortest heads, no floats, no trailing bytes.
//!
//! It is independent of the library that the program uses, so that the vectors are checked by a second opinion.

use std::fmt::Write;

/// One item. Integers below zero are kept as CBOR has them: `-1 - n`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Unsigned(u64),
    Negative(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(Item, Item)>),
    Tag(u64, Box<Item>),
    Bool(bool),
    Null,
}

impl Item {
    pub(crate) fn text(text: &str) -> Self {
        Item::Text(text.to_owned())
    }

    /// Reads the one item that `bytes` are.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let item = read_item(&mut rest)?;
        if rest.is_empty() {
            Ok(item)
        } else {
            Err(format!("{} bytes after the item", rest.len()))
        }
    }

    /// The item's bytes.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// How many arrays, maps and tags are inside each other, at most.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Item::Array(items) => 1 + items.iter().map(Item::depth).max().unwrap_or(0),
            Item::Map(entries) => {
                1 + entries
                    .iter()
                    .map(|(key, value)| key.depth().max(value.depth()))
                    .max()
                    .unwrap_or(0)
            }
            Item::Tag(_, inner) => 1 + inner.depth(),
            _ => 0,
        }
    }

    /// Calls `visit` with this item and everything in it, outermost first.
    pub(crate) fn each(&self, visit: &mut impl FnMut(&Item)) {
        visit(self);
        match self {
            Item::Array(items) => items.iter().for_each(|item| item.each(visit)),
            Item::Map(entries) => entries.iter().for_each(|(key, value)| {
                key.each(visit);
                value.each(visit);
            }),
            Item::Tag(_, inner) => inner.each(visit),
            _ => {}
        }
    }

    /// The item with every item in it replaced by what `change` makes of it, innermost first.
    pub(crate) fn map_each(self, change: &impl Fn(Item) -> Item) -> Item {
        change(match self {
            Item::Array(items) => Item::Array(items.into_iter().map(|item| item.map_each(change)).collect()),
            Item::Map(entries) => Item::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, value.map_each(change)))
                    .collect(),
            ),
            Item::Tag(tag, inner) => Item::Tag(tag, Box::new(inner.map_each(change))),
            plain => plain,
        })
    }

    /// Diagnostic notation (RFC 8949, section 8), broken into lines that are no longer than `width` where possible.
    pub(crate) fn diagnostic(&self, width: usize) -> String {
        self.lines(width, 0)
    }

    fn lines(&self, width: usize, indent: usize) -> String {
        let flat = self.flat();
        if indent + flat.chars().count() <= width {
            return flat;
        }
        let inner = indent + 2;
        let pad = " ".repeat(inner);
        let (open, close, parts): (_, _, Vec<String>) = match self {
            Item::Array(items) => (
                '[',
                ']',
                items.iter().map(|item| item.lines(width, inner)).collect(),
            ),
            Item::Map(entries) => (
                '{',
                '}',
                entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", key.flat(), value.lines(width, inner)))
                    .collect(),
            ),
            _ => return flat,
        };
        let body = parts
            .iter()
            .map(|part| format!("{pad}{part}"))
            .collect::<Vec<_>>()
            .join(",\n");
        format!("{open}\n{body}\n{}{close}", " ".repeat(indent))
    }

    fn flat(&self) -> String {
        match self {
            Item::Unsigned(n) => n.to_string(),
            Item::Negative(n) => (-1 - i128::from(*n)).to_string(),
            Item::Bytes(bytes) => format!("h'{}'", hex(bytes)),
            Item::Text(text) => format!("{text:?}"),
            Item::Array(items) => format!(
                "[{}]",
                items.iter().map(Item::flat).collect::<Vec<_>>().join(", ")
            ),
            Item::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", key.flat(), value.flat()))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
            Item::Tag(tag, inner) => format!("{tag}({})", inner.flat()),
            Item::Bool(value) => value.to_string(),
            Item::Null => "null".to_owned(),
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Item::Unsigned(n) => write_head(out, 0, *n),
            Item::Negative(n) => write_head(out, 1, *n),
            Item::Bytes(bytes) => {
                write_head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Item::Text(text) => {
                write_head(out, 3, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Item::Array(items) => {
                write_head(out, 4, items.len() as u64);
                items.iter().for_each(|item| item.write_to(out));
            }
            Item::Map(entries) => {
                write_head(out, 5, entries.len() as u64);
                for (key, value) in entries {
                    key.write_to(out);
                    value.write_to(out);
                }
            }
            Item::Tag(tag, inner) => {
                write_head(out, 6, *tag);
                inner.write_to(out);
            }
            Item::Bool(value) => out.push(0xf4 + u8::from(*value)),
            Item::Null => out.push(0xf6),
        }
    }
}

/// Lower-case hexadecimal digits without gaps.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes whatever is written to it");
        out
    })
}

/// Reads hexadecimal digits; white space between them does not count.
pub(crate) fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| {
            c.to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or_else(|| format!("{c:?} is no hexadecimal digit"))
        })
        .collect::<Result<_, _>>()?;
    if digits.len() % 2 == 1 {
        return Err("an odd number of digits".to_owned());
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn read_item(rest: &mut &[u8]) -> Result<Item, String> {
    let (first, tail) = rest.split_first().ok_or("the item ends early")?;
    *rest = tail;
    let (major, low) = (first >> 5, first & 31);
    if major == 7 {
        return match low {
            20 => Ok(Item::Bool(false)),
            21 => Ok(Item::Bool(true)),
            22 => Ok(Item::Null),
            25..=27 => Err("a float".to_owned()),
            other => Err(format!("the simple value {other}")),
        };
    }
    let value = read_head(low, rest)?;
    match major {
        0 => Ok(Item::Unsigned(value)),
        1 => Ok(Item::Negative(value)),
        2 => Ok(Item::Bytes(take(rest, value)?.to_vec())),
        3 => String::from_utf8(take(rest, value)?.to_vec())
            .map(Item::Text)
            .map_err(|error| error.to_string()),
        4 => (0..value)
            .map(|_| read_item(rest))
            .collect::<Result<_, _>>()
            .map(Item::Array),
        5 => (0..value)
            .map(|_| Ok((read_item(rest)?, read_item(rest)?)))
            .collect::<Result<_, String>>()
            .map(Item::Map),
        _ => Ok(Item::Tag(value, Box::new(read_item(rest)?))),
    }
}

fn read_head(low: u8, rest: &mut &[u8]) -> Result<u64, String> {
    let (width, least) = match low {
        0..=23 => return Ok(u64::from(low)),
        24 => (1, 24),
        25 => (2, 1 << 8),
        26 => (4, 1 << 16),
        27 => (8, 1 << 32),
        31 => return Err("an indefinite length".to_owned()),
        _ => return Err(format!("the reserved head {low}")),
    };
    let value = take(rest, width)?
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    if value < least {
        return Err(format!(
            "{value} in a head of {width} bytes, which is not the shortest"
        ));
    }
    Ok(value)
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], String> {
    let len = usize::try_from(len).map_err(|error| error.to_string())?;
    let (taken, tail) = rest.split_at_checked(len).ok_or("the item ends early")?;
    *rest = tail;
    Ok(taken)
}

fn write_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let bytes = value.to_be_bytes();
    let (low, width) = match value {
        0..24 => {
            out.push(major << 5 | bytes[7]);
            return;
        }
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | low);
    out.extend_from_slice(&bytes[8 - width..]);
}

#[test]
fn the_reader_refuses_what_jobq_never_writes() {
    for (bytes, why) in [
        (&[0x9f, 0x01, 0xff][..], "indefinite"),
        (&[0xf9, 0x3c, 0x00], "float"),
        (&[0x18, 0x05], "shortest"),
        (&[0x01, 0x01], "after the item"),
        (&[0x62, 0x61], "ends early"),
    ] {
        let error = Item::read(bytes).expect_err("these bytes are not strict CBOR");
        assert!(error.contains(why), "{bytes:02x?} gave {error:?}");
    }
}

#[test]
fn items_read_back_as_they_were_written() {
    let item = Item::Map(vec![
        (
            Item::text("a"),
            Item::Array(vec![
                Item::Unsigned(23),
                Item::Unsigned(24),
                Item::Unsigned(u64::MAX),
            ]),
        ),
        (
            Item::text("b"),
            Item::Tag(24, Box::new(Item::Bytes(vec![0xf6; 300]))),
        ),
        (Item::text("c"), Item::Negative(999)),
        (Item::text("d"), Item::Bool(true)),
    ]);
    assert_eq!(Item::read(&item.write()), Ok(item));
}
