//! Params and results: values of your types, as one CBOR item.

use bytes::Bytes;
use jobq_proto::NewJob;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep params and results may nest.
pub const MAX_DEPTH: usize = 128;

/// Why a value and its params or result do not turn into each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// The value's `Serialize` failed, or it has something that CBOR has not.
    #[error("the value cannot be encoded as CBOR: {0}")]
    Encode(String),
    /// The item is no CBOR, or not what the type expects.
    #[error("the CBOR item does not fit the type: {0}")]
    Decode(String),
    /// There is more than one item.
    #[error("{0} bytes follow the CBOR item")]
    Trailing(usize),
}

/// Encodes a value.
///
/// # Errors
/// [`ParamsError::Encode`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, ParamsError> {
    let mut item = Vec::new();
    ciborium::into_writer(value, &mut item).map_err(|error| ParamsError::Encode(error.to_string()))?;
    Ok(item.into())
}

/// Decodes one item, all of it. No bytes at all count as `null`, as a job without params or result has them.
///
/// # Errors
/// [`ParamsError::Decode`] and [`ParamsError::Trailing`].
pub fn decode<T: DeserializeOwned>(item: &[u8]) -> Result<T, ParamsError> {
    let mut rest = if item.is_empty() { NewJob::NO_PARAMS } else { item };
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|error| ParamsError::Decode(describe(error)))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(ParamsError::Trailing(rest.len()))
    }
}

/// The decoder's own words are for its programmers; these are for its users.
fn describe<E: std::fmt::Display + std::fmt::Debug>(error: ciborium::de::Error<E>) -> String {
    use ciborium::de::Error;
    match error {
        Error::Io(_) => "it ends too early".to_owned(),
        Error::Syntax(at) => format!("it is no CBOR at byte {at}"),
        Error::Semantic(Some(at), what) => format!("{what} (at byte {at})"),
        Error::Semantic(None, what) => what,
        Error::RecursionLimitExceeded => format!("it is nested deeper than {MAX_DEPTH}"),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Asset {
        path: String,
        width: u32,
    }

    #[test]
    fn a_value_comes_back_as_it_was() {
        let asset = Asset {
            path: "a/b.png".to_owned(),
            width: 640,
        };
        let item = encode(&asset).expect("it is encodable");
        assert_eq!(decode::<Asset>(&item), Ok(asset));
    }

    #[test]
    fn a_job_without_params_has_the_unit_value() {
        assert_eq!(decode::<()>(&[]), Ok(()));
        assert_eq!(decode::<()>(NewJob::NO_PARAMS), Ok(()));
        assert_eq!(decode::<Option<u8>>(&[]), Ok(None));
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_why() {
        let item = encode("text").expect("it is encodable");
        let error = decode::<u64>(&item).expect_err("a text is no number").to_string();
        assert!(error.contains("invalid type"), "{error}");
        assert_eq!(decode::<u64>(&[1, 2]), Err(ParamsError::Trailing(1)));
        assert!(matches!(decode::<u64>(&[0x1a, 0]), Err(ParamsError::Decode(_))));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = vec![0x81; 100_000];
        let error = decode::<ciborium::Value>(&deep)
            .expect_err("too deep")
            .to_string();
        assert!(error.contains("deeper than 128"), "{error}");
    }
}
