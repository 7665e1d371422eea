//! Params as words of the command line: `file=a.png width:=200`.

use jobq_client::json;
use serde_json::{Map, Value};

/// Why words are no params.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PairError {
    /// It has no key, or nothing that ends it.
    #[error("{0:?} is neither KEY=TEXT nor KEY:=JSON")]
    NoPair(String),
    /// What follows `:=` is no JSON.
    #[error("what follows := in {pair:?} is no JSON: {what} at column {column}; a text is KEY=TEXT")]
    NoJson {
        pair: String,
        what: String,
        /// Within the JSON, from 1.
        column: usize,
    },
    /// What follows `:=` has a number that would be another one, or a key twice.
    #[error("in {pair:?}, {problem}")]
    Lossy { pair: String, problem: String },
    /// Two words have the same key.
    #[error("the key {0:?} is given twice")]
    Twice(String),
}

/// Reads words as an object, its keys in their order.
pub(super) fn object(pairs: &[String]) -> Result<Value, PairError> {
    let mut object = Map::new();
    for pair in pairs {
        let (key, value) = read(pair)?;
        if object.insert(key.clone(), value).is_some() {
            return Err(PairError::Twice(key));
        }
    }
    Ok(Value::Object(object))
}

fn read(pair: &str) -> Result<(String, Value), PairError> {
    let mut key = String::new();
    let mut rest = pair;
    loop {
        if let Some(json) = rest.strip_prefix(":=").filter(|_| !key.is_empty()) {
            return Ok((key, parse(pair, json)?));
        }
        if let Some(text) = rest.strip_prefix('=').filter(|_| !key.is_empty()) {
            return Ok((key, Value::from(text)));
        }
        let mut chars = rest.chars();
        match (chars.next(), chars.clone().next()) {
            (Some('\\'), Some(literal @ ('=' | ':' | '\\'))) => {
                key.push(literal);
                chars.next();
            }
            (Some('='), _) | (None, _) => return Err(PairError::NoPair(pair.to_owned())),
            (Some(c), _) => key.push(c),
        }
        rest = chars.as_str();
    }
}

fn parse(pair: &str, text: &str) -> Result<Value, PairError> {
    let value = serde_json::from_str(text).map_err(|error| {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        PairError::NoJson {
            pair: pair.to_owned(),
            what: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
            column: error.column(),
        }
    })?;
    json::check_lossless(text.as_bytes()).map_err(|error| PairError::Lossy {
        pair: pair.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pairs: &[&str]) -> Result<String, PairError> {
        let pairs: Vec<String> = pairs.iter().map(|&pair| pair.to_owned()).collect();
        object(&pairs).map(|value| value.to_string())
    }

    #[test]
    fn words_are_texts_or_json_in_their_order() {
        assert_eq!(
            shown(&[
                "file=a.png",
                "width:=200",
                "tags:=[\"x\"]",
                "empty=",
                "sum=1=1",
                "time=10:30"
            ])
            .as_deref(),
            Ok(r#"{"file":"a.png","width":200,"tags":["x"],"empty":"","sum":"1=1","time":"10:30"}"#)
        );
    }

    #[test]
    fn a_backslash_takes_the_meaning_from_what_ends_a_key() {
        assert_eq!(shown(&[r"a\=b=c"]).as_deref(), Ok(r#"{"a=b":"c"}"#));
        assert_eq!(shown(&[r"a\:=c"]).as_deref(), Ok(r#"{"a:":"c"}"#));
        assert_eq!(shown(&[r"a\\=c"]).as_deref(), Ok(r#"{"a\\":"c"}"#));
        assert_eq!(shown(&[r"C:\x=\y"]).as_deref(), Ok(r#"{"C:\\x":"\\y"}"#));
    }

    #[test]
    fn what_is_no_pair_is_named() {
        for wrong in ["file", "=a", ":", r"a\=b", ""] {
            assert_eq!(shown(&[wrong]), Err(PairError::NoPair(wrong.to_owned())));
        }
        let error = shown(&["width:=2x"]).expect_err("it is no JSON").to_string();
        assert!(
            error.contains("\"width:=2x\"") && error.contains("column 2"),
            "{error}"
        );
        let error = shown(&["n:=[18446744073709551616]"])
            .expect_err("it would be rounded")
            .to_string();
        assert!(
            error.contains("the integer 18446744073709551616 at line 1, column 2"),
            "{error}"
        );
        let error = shown(&[r#"n:={"a":1,"a":2}"#])
            .expect_err("one would be lost")
            .to_string();
        assert!(
            error.contains("the key \"a\" at line 1, column 8 is there for the second time"),
            "{error}"
        );
        assert_eq!(shown(&["a=1", "a:=2"]), Err(PairError::Twice("a".to_owned())));
    }
}
