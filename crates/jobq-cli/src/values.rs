//! What a job is made of, as several commands read it from their flags.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jobq_client::{Priority, Status};
use jobq_proto::{JobName, Username};

/// Reads a job's name.
///
/// # Errors
/// It can be none.
pub(crate) fn name(text: &str) -> Result<String, String> {
    text.parse::<JobName>()
        .map(String::from)
        .map_err(|error| error.message)
}

/// Reads a username.
///
/// # Errors
/// It can be none.
pub(crate) fn username(text: &str) -> Result<String, String> {
    text.parse::<Username>()
        .map(String::from)
        .map_err(|error| error.message)
}

/// Reads a status, and tells which there are.
pub(crate) fn status() -> impl TypedValueParser<Value = Status> {
    let names = Status::ALL.map(|status| status.as_str().to_lowercase());
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

/// Reads a priority, and tells which there are.
pub(crate) fn priority() -> impl TypedValueParser<Value = Priority> {
    let names = Priority::ALL.map(|priority| priority.as_str().to_lowercase());
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}
