//! What a job is made of, as several commands read it from their flags.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jobq_client::{Priority, Status};
use jobq_proto::{JobName, Username};

use crate::output::one_line;

/// Most characters of a message that quotes what was wrong: that may be anything, and of any length.
const MAX_MESSAGE: usize = 400;

/// Reads a job's name.
///
/// # Errors
/// It can be none.
pub(crate) fn name(text: &str) -> Result<String, String> {
    text.parse::<JobName>()
        .map(String::from)
        .map_err(|error| one_line(&error.message, MAX_MESSAGE))
}

/// Reads a whole number from a range, and tells the range where it is none.
pub(crate) fn number<T>(
    range: impl RangeBounds<T> + Clone + Send + Sync + 'static,
) -> impl TypedValueParser<Value = T>
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text: &str| {
        let number = text.parse::<T>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let least = match range.start_bound() {
                Bound::Included(least) => least.to_string(),
                _ => "0".to_owned(),
            };
            match range.end_bound() {
                Bound::Included(most) => format!("expected a whole number from {least} to {most}"),
                _ => format!("expected a whole number, {least} or greater"),
            }
        })
    }
}

/// Reads a username.
///
/// # Errors
/// It can be none.
pub(crate) fn username(text: &str) -> Result<String, String> {
    text.parse::<Username>()
        .map(String::from)
        .map_err(|error| one_line(&error.message, MAX_MESSAGE))
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

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    fn a_number_that_is_none_is_told_the_range() {
        let read = |text: &str, parser: clap::builder::ValueParser| {
            let command = Command::new("x").arg(Arg::new("n").long("n").value_parser(parser));
            let matches = command.try_get_matches_from(["x", &format!("--n={text}")]);
            matches
                .map(|matches| *matches.get_one::<u32>("n").expect("it is given"))
                .map_err(|error| error.to_string())
        };
        let bounded = || number::<u32>(1..=10).into();
        assert_eq!(read("10", bounded()).ok(), Some(10));
        for wrong in ["0", "11", "-1", "1.5", "x", "", "99999999999999999999"] {
            let said = read(wrong, bounded()).expect_err(wrong);
            assert!(
                said.contains("expected a whole number from 1 to 10"),
                "{wrong}: {said}"
            );
        }
        let said = read("-1", number::<u32>(0..).into()).expect_err("it is below");
        assert!(said.contains("expected a whole number, 0 or greater"), "{said}");
    }
}
