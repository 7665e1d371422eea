//! JSON and CBOR, as `docs/PROTOCOL.md` says they turn into each other.
//!
//! JSON goes to CBOR and back unchanged; a text with an integer that neither an `i64` nor a `u64` holds is refused,
//! since it would come back as another number, and so is one with a key twice in an object, of which one would be lost.
//! CBOR does not always come back: byte strings become text, and tags are dropped.
//!
//! [`serde_json::Value`] has lost such integers and keys when it is made, so texts are to be given to [`to_cbor`] as
//! they are.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

use bytes::Bytes;
use ciborium::Value as Cbor;
use ciborium::value::Integer;
use serde_json::Value as Json;

use crate::params::{self, ParamsError};

/// CBOR's tags of integers beyond 64 bits, positive and negative.
const BIGNUMS: [u64; 2] = [2, 3];

/// Why a text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It is broken, or nested deeper than 127 levels.
    #[error("it is no JSON: {what} at line {line}, column {column}")]
    Syntax {
        /// What is wrong.
        what: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 at the end of a line.
        column: usize,
    },
    /// It has an integer that neither an `i64` nor a `u64` holds: as a float it would be another number.
    #[error(
        "the integer {digits} at line {line}, column {column} is beyond 64 bits and would be rounded; write it as a \
         text, in quotes, or with an exponent if it may be rounded"
    )]
    Integer {
        /// The number as it is written; of a very long one the beginning.
        digits: String,
        /// The line, from 1.
        line: usize,
        /// The column of its beginning, from 1, in bytes.
        column: usize,
    },
    /// It has an object with a key twice: of the two values one would be lost.
    #[error(
        "the key {key:?} at line {line}, column {column} is there for the second time in its object; give each key once"
    )]
    Twice {
        /// The key; of a very long one the beginning.
        key: String,
        /// The line of the second one, from 1.
        line: usize,
        /// The column of its beginning, from 1, in bytes.
        column: usize,
    },
    /// It cannot be encoded.
    #[error(transparent)]
    Params(#[from] ParamsError),
}

/// Most characters of a number or a key in an error.
const MAX_SHOWN: usize = 60;

/// Turns a JSON text into one CBOR item.
///
/// ```
/// let item = jobq_client::json::to_cbor(br#"{"width": 640}"#)?;
/// assert_eq!(jobq_client::json::from_cbor(&item)?.to_string(), r#"{"width":640}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`JsonError::Syntax`], [`JsonError::Integer`] and [`JsonError::Twice`], with the place.
pub fn to_cbor(text: &[u8]) -> Result<Bytes, JsonError> {
    let value: Json = serde_json::from_slice(text).map_err(|error| {
        let described = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        JsonError::Syntax {
            what: described.strip_suffix(&place).unwrap_or(&described).to_owned(),
            line: error.line(),
            column: error.column(),
        }
    })?;
    check_lossless(text)?;
    Ok(value_to_cbor(&value)?)
}

/// Looks in a JSON text for what [`serde_json::Value`] would lose: integers that neither an `i64` nor a `u64` holds,
/// and keys that an object has twice. For texts that are read by other means than [`to_cbor`], which does this too.
///
/// # Errors
/// [`JsonError::Integer`] or [`JsonError::Twice`], of the first one. Of a text that is no JSON anything may be said.
pub fn check_lossless(text: &[u8]) -> Result<(), JsonError> {
    // The objects and arrays that are open, the innermost last; an array has no keys.
    let mut open: Vec<Option<HashSet<Cow<'_, [u8]>>>> = Vec::new();
    // The next string is a key, if this is an object.
    let mut key_next = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let length = match byte {
            b'"' => string(rest),
            b'-' | b'0'..=b'9' => number(rest),
            _ => 1,
        };
        let token = &rest[..length];
        match byte {
            b'{' => open.push(Some(HashSet::new())),
            b'[' => open.push(None),
            b'}' | b']' => drop(open.pop()),
            b'"' => {
                if key_next
                    && let Some(Some(keys)) = open.last_mut()
                    && !keys.insert(unescaped(token))
                {
                    let key = String::from_utf8_lossy(&unescaped(token)).into_owned();
                    let (line, column) = place(text, at);
                    let key = cut(&key);
                    return Err(JsonError::Twice { key, line, column });
                }
            }
            b'-' | b'0'..=b'9' => {
                // What is no UTF-8 is no JSON, and whoever reads it says so.
                let digits = std::str::from_utf8(token).unwrap_or_default();
                if is_too_large(digits) {
                    let (line, column) = place(text, at);
                    let digits = cut(digits);
                    return Err(JsonError::Integer { digits, line, column });
                }
            }
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            key_next = matches!(byte, b'{' | b',');
        }
        at += length;
    }
    Ok(())
}

/// The line and the column of a byte, both from 1.
fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    (
        1 + before.iter().filter(|&&byte| byte == b'\n').count(),
        1 + at - line_start,
    )
}

/// What a string in quotes means.
fn unescaped(string: &[u8]) -> Cow<'_, [u8]> {
    let plain = || {
        let inner = string.strip_prefix(b"\"").unwrap_or(string);
        Cow::Borrowed(inner.strip_suffix(b"\"").unwrap_or(inner))
    };
    if !string.contains(&b'\\') {
        return plain();
    }
    match serde_json::from_slice::<String>(string) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => plain(),
    }
}

/// The length of a string that begins here, with its quotes.
fn string(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// The length of a number that begins here.
fn number(text: &[u8]) -> usize {
    let end = text
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
    end.unwrap_or(text.len())
}

fn is_too_large(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Turns a JSON value into one CBOR item.
///
/// # Errors
/// [`ParamsError::Encode`].
pub fn value_to_cbor(value: &Json) -> Result<Bytes, ParamsError> {
    params::encode(value)
}

/// Turns one CBOR item into a JSON value. No bytes at all count as `null`.
///
/// # Errors
/// [`ParamsError::Decode`] when it is no CBOR or nested deeper than [`params::MAX_DEPTH`], and
/// [`ParamsError::Trailing`].
pub fn from_cbor(item: &[u8]) -> Result<Json, ParamsError> {
    params::decode::<Cbor>(item).map(value)
}

fn value(cbor: Cbor) -> Json {
    match cbor {
        Cbor::Bool(value) => Json::Bool(value),
        Cbor::Integer(number) => integer(number),
        Cbor::Float(number) => serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number),
        Cbor::Text(text) => Json::String(text),
        Cbor::Bytes(bytes) => Json::String(base64url(&bytes)),
        Cbor::Array(items) => Json::Array(items.into_iter().map(value).collect()),
        Cbor::Map(entries) => Json::Object(entries.into_iter().map(|(k, v)| (key(k), value(v))).collect()),
        Cbor::Tag(tag, content) => big_integer(tag, &content).unwrap_or_else(|| value(*content)),
        // Undefined reads as null, and there is nothing else that this version knows.
        _ => Json::Null,
    }
}

fn integer(number: Integer) -> Json {
    if let Ok(number) = u64::try_from(number) {
        return number.into();
    }
    match i64::try_from(number) {
        Ok(number) => number.into(),
        Err(_) => Json::String(i128::from(number).to_string()),
    }
}

/// An integer of up to 127 bits that had to be written as a byte string with a tag.
fn big_integer(tag: u64, content: &Cbor) -> Option<Json> {
    let bytes = content.as_bytes().filter(|_| BIGNUMS.contains(&tag))?;
    let digits = bytes.iter().skip_while(|&&byte| byte == 0);
    if digits.clone().count() > 15 {
        return None;
    }
    let size = digits.fold(0_i128, |number, &byte| number << 8 | i128::from(byte));
    let number = if tag == BIGNUMS[0] { size } else { -1 - size };
    Some(match Integer::try_from(number) {
        Ok(number) => integer(number),
        Err(_) => Json::String(number.to_string()),
    })
}

fn key(cbor: Cbor) -> String {
    match cbor {
        Cbor::Text(text) => text,
        other => value(other).to_string(),
    }
}

/// RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |group, &byte| group << 8 | u32::from(byte));
        for place in 0..=chunk.len() {
            let index = group >> (18 - 6 * place) & 0x3f;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// What a CBOR item holds that is one byte string, and so no value of JSON's: [`from_cbor`] writes it as text, which
/// cannot be told from a text. None for any other item.
///
/// ```
/// assert_eq!(jobq_client::json::byte_string(&[0x42, 0xff, 0x00]), Some(vec![0xff, 0x00]));
/// assert_eq!(jobq_client::json::byte_string(&[0x61, b'a']), None);
/// ```
pub fn byte_string(item: &[u8]) -> Option<Vec<u8>> {
    match params::decode::<Cbor>(item) {
        Ok(Cbor::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// The JSON text of one CBOR item, for people: compact, in one line. What is no CBOR is shown as its bytes.
pub fn show(item: &[u8]) -> String {
    match from_cbor(item) {
        Ok(value) => value.to_string(),
        Err(_) => item.iter().fold("0x".to_owned(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there(text: &str) -> Vec<u8> {
        to_cbor(text.as_bytes()).expect(text).to_vec()
    }

    fn back(item: &[u8]) -> String {
        from_cbor(item).expect("it is CBOR").to_string()
    }

    #[test]
    fn json_becomes_the_plainest_cbor() {
        assert_eq!(there("null"), [0xf6]);
        assert_eq!(there("true"), [0xf5]);
        assert_eq!(
            there("18446744073709551615"),
            [0x1b, 255, 255, 255, 255, 255, 255, 255, 255]
        );
        assert_eq!(there("-9223372036854775808")[0], 0x3b);
        assert_eq!(there("1.5")[..], [0xf9, 0x3e, 0x00]);
        assert_eq!(there("1.0")[0] >> 5, 7, "with a fraction it is a float");
        assert_eq!(there(r#"["a"]"#), [0x81, 0x61, b'a']);
        assert_eq!(
            there(r#"{"b":1,"a":2}"#),
            [0xa2, 0x61, b'b', 1, 0x61, b'a', 2],
            "in order"
        );
    }

    #[test]
    fn an_integer_beyond_64_bits_is_refused_with_its_place() {
        for (text, digits, line, column) in [
            ("18446744073709551616", "18446744073709551616", 1, 1),
            ("-9223372036854775809", "-9223372036854775809", 1, 1),
            (
                "{\"1e\\\"\": [1.5,\n  99999999999999999999]}",
                "99999999999999999999",
                2,
                3,
            ),
        ] {
            let wrong = to_cbor(text.as_bytes()).expect_err(text);
            let expected = JsonError::Integer {
                digits: digits.to_owned(),
                line,
                column,
            };
            assert_eq!(wrong, expected, "{text}");
            let said = wrong.to_string();
            let place = format!("the integer {digits} at line {line}, column {column} ");
            assert!(said.starts_with(&place), "{said}");
        }
        let long = "9".repeat(100_000);
        let said = to_cbor(long.as_bytes())
            .expect_err("it is far too large")
            .to_string();
        assert!(said.len() < 300, "{said}");
    }

    #[test]
    fn what_only_looks_like_a_large_integer_is_taken() {
        assert_eq!(back(&there("18446744073709551616.0")), "1.8446744073709552e+19");
        assert_eq!(back(&there("18446744073709551616e0")), "1.8446744073709552e+19");
        for text in [
            r#""18446744073709551616""#,
            r#"{"a\\":"\" 99999999999999999999"}"#,
        ] {
            assert_eq!(back(&there(text)), text);
        }
    }

    #[test]
    fn a_key_twice_in_an_object_is_refused_with_its_place() {
        for (text, key, line, column) in [
            (r#"{"a":1,"a":2}"#, "a", 1, 8),
            ("{\"b\": [{\"a\": {},\n  \"a\" : 2}]}", "a", 2, 3),
            (r#"{"":0,"a":{"b":1},"":0}"#, "", 1, 19),
            ("{\"a\\\"\":1,\"a\\u0022\":2}", "a\"", 1, 10),
            (r#"{"\u00e9":1,"é":2}"#, "é", 1, 13),
        ] {
            let wrong = to_cbor(text.as_bytes()).expect_err(text);
            let key = key.to_owned();
            assert_eq!(wrong, JsonError::Twice { key, line, column }, "{text}");
            let place = format!("at line {line}, column {column} is there for the second time");
            assert!(wrong.to_string().contains(&place), "{wrong}");
        }
        let long = "é".repeat(10_000);
        let wrong =
            to_cbor(format!(r#"{{"{long}":1,"{long}":2}}"#).as_bytes()).expect_err("it is there twice");
        assert!(wrong.to_string().len() < 300, "{wrong}");
    }

    #[test]
    fn the_same_text_as_a_key_elsewhere_or_as_a_value_is_taken() {
        for text in [
            r#"{"a":{"a":"a"},"b":["a","a",{"a":1},{"a":2}]}"#,
            r#"{"a":"b","b":"a","c":"a"}"#,
            r#"[{"a":1},{"a":1}]"#,
        ] {
            assert_eq!(back(&there(text)), text);
        }
    }

    /// What has no large integers and no floats that a shorter text means too.
    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(Json::from),
            any::<f32>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
                prop::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|entries| Json::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_comes_back_letter_for_letter(json in any_json()) {
            let text = json.to_string();
            prop_assert_eq!(back(&there(&text)), text);
        }

        #[test]
        fn an_integer_comes_back_with_its_digits_or_is_refused(digits in "-?[1-9][0-9]{0,39}") {
            match to_cbor(digits.as_bytes()) {
                Ok(item) => prop_assert_eq!(back(&item), digits),
                Err(error) => {
                    prop_assert!(matches!(error, JsonError::Integer { .. }), "{}", error);
                    prop_assert!(digits.parse::<i64>().is_err() && digits.parse::<u64>().is_err(), "{}", digits);
                }
            }
        }

        #[test]
        fn looking_for_losses_never_panics_on_what_is_no_json(text in any::<Vec<u8>>()) {
            let _ = check_lossless(&text);
        }

        #[test]
        fn what_an_object_of_unlike_keys_became_has_no_key_twice(json in any_json()) {
            prop_assert_eq!(check_lossless(json.to_string().as_bytes()), Ok(()));
            prop_assert_eq!(check_lossless(format!("{json:#}").as_bytes()), Ok(()));
        }
    }

    #[test]
    fn json_comes_back_unchanged() {
        for text in [
            r#"{"z":[1,-2,2.5,"x",null,true],"a":{"b":{}},"é":"\u0000"}"#,
            "-9223372036854775808",
            "18446744073709551615",
            "1e300",
        ] {
            let again = back(&there(text));
            assert_eq!(there(&again), there(text));
        }
    }

    #[test]
    fn bytes_become_base64url_without_padding() {
        assert_eq!(back(&[0x43, 0xfb, 0xff, 0xfe]), r#""-__-""#);
        assert_eq!(back(&[0x41, 0xff]), r#""_w""#);
        assert_eq!(back(&[0x42, 0x00, 0x10]), r#""ABA""#);
        assert_eq!(back(&[0x40]), r#""""#);
    }

    #[test]
    fn what_json_has_not_becomes_what_is_nearest() {
        assert_eq!(back(&[0xc1, 0x1a, 0, 0, 0, 9]), "9", "a tag is dropped");
        assert_eq!(back(&[0xf9, 0x7e, 0x00]), "null", "NaN");
        assert_eq!(back(&[0xf9, 0xfc, 0x00]), "null", "-Infinity");
        assert_eq!(back(&[0xf7]), "null", "undefined");
        assert_eq!(back(&[0xa1, 0x01, 0x61, b'a']), r#"{"1":"a"}"#);
        assert_eq!(back(&[0xa1, 0x82, 0x01, 0xf4, 0x02]), r#"{"[1,false]":2}"#);
        assert_eq!(
            back(&[0x3b, 255, 255, 255, 255, 255, 255, 255, 255]),
            r#""-18446744073709551616""#
        );
        let big = [0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(back(&big), r#""18446744073709551616""#);
        assert_eq!(back(&[]), "null", "no item at all");
    }

    #[test]
    fn broken_json_is_shown_by_line_and_column() {
        let error = to_cbor(b"{\n  \"a\": }").expect_err("broken");
        assert!(
            matches!(
                error,
                JsonError::Syntax {
                    line: 2,
                    column: 8,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error.to_string().ends_with("expected value at line 2, column 8"),
            "{error}"
        );
    }

    #[test]
    fn depth_is_bounded_both_ways() {
        let deep = "[".repeat(100_000);
        assert!(matches!(to_cbor(deep.as_bytes()), Err(JsonError::Syntax { .. })));
        assert!(from_cbor(&vec![0x81; 100_000]).is_err());
        assert!(from_cbor(&vec![0xc1; 100_000]).is_err());
    }

    #[test]
    fn what_is_no_cbor_is_shown_as_bytes() {
        assert_eq!(show(&[0xff, 0x01]), "0xff01");
        assert_eq!(show(&[0x01]), "1");
    }
}
