//! What clap says, in the form of the program's other errors.

use std::io::Write;

use anstyle::Style;
use clap::builder::Styles;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::definition;
use crate::exit::Exit;
use crate::log::wants_colour;
use crate::output::one_line;
use crate::settings::Layer;

/// Most characters of a wrong value that are shown: params may be a hundred thousand.
const MAX_VALUE: usize = 200;

/// Prints help or the version to standard output, or to standard error what makes no sense.
pub(crate) fn print(error: clap::Error, layer: Layer) -> Exit {
    // There is nobody to tell if either fails.
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Ok;
    }
    let _ = std::io::stderr().write_all(describe(error, layer, wants_colour()).as_bytes());
    Exit::Usage
}

fn describe(error: clap::Error, layer: Layer, colour: bool) -> String {
    let mut error = without_value(error);
    for kind in [
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
        ContextKind::InvalidValue,
    ] {
        if let Some(ContextValue::String(value)) = error.get(kind) {
            // In one line, and without control characters.
            let shown = one_line(value, MAX_VALUE);
            error.insert(kind, ContextValue::String(shown));
        }
    }
    let text = error.render();
    let (text, style) = match colour {
        true => (text.ansi().to_string(), *Styles::styled().get_error()),
        false => (text.to_string(), Style::new()),
    };
    match text.strip_prefix(&format!("{style}error:{style:#} ")) {
        Some(problem) => format!("jobq: failed to read {}: {problem}", layer.name()),
        // The help, for whoever typed nothing.
        None => text,
    }
}

/// Flags that take values with a minus take another flag for their value, where they are given none.
fn without_value(error: clap::Error) -> clap::Error {
    let (Some(ContextValue::String(value)), Some(flag)) = (
        error.get(ContextKind::InvalidValue),
        error.get(ContextKind::InvalidArg),
    ) else {
        return error;
    };
    let is_flag = value
        .strip_prefix("--")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    if error.kind() != ErrorKind::ValueValidation || !is_flag {
        return error;
    }
    let mut missing = clap::Error::new(ErrorKind::InvalidValue).with_cmd(&definition());
    missing.insert(ContextKind::InvalidArg, flag.clone());
    missing.insert(ContextKind::InvalidValue, ContextValue::String(String::new()));
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str]) -> String {
        let error = definition()
            .try_get_matches_from(arguments)
            .expect_err("it makes no sense");
        describe(error, Layer::CommandLine, false)
    }

    #[test]
    fn colours_change_nothing_of_the_form() {
        let wrong = ["jobq", "list", "--limit", "x"];
        let error = definition()
            .try_get_matches_from(wrong)
            .expect_err("it makes no sense");
        let text = describe(error, Layer::Variables, true);
        assert!(
            text.starts_with("jobq: failed to read the variables: ") && text.contains('\u{1b}'),
            "{text:?}"
        );
    }

    #[test]
    fn what_makes_no_sense_is_told_as_all_errors_are() {
        let text = said(&["jobq", "list", "--limit", "x"]);
        let expected = "jobq: failed to read the command line: invalid value 'x' for '--limit <N>': expected a whole \
                        number, 1 or greater\n";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_flag_that_follows_where_a_value_should_is_not_taken_for_one() {
        for (arguments, flag) in [
            (&["list", "--limit", "--json"][..], "--limit <N>"),
            (&["list", "--since", "--json"], "--since <TIME>"),
            (&["serve", "--data", "--ttl"], "--data <DIR>"),
            (&["submit", "x", "--params", "--wait"], "--params <JSON|@FILE|->"),
        ] {
            let arguments: Vec<&str> = ["jobq"].iter().chain(arguments).copied().collect();
            let text = said(&arguments);
            let expected = format!("a value is required for '{flag}' but none was supplied");
            assert!(text.contains(&expected), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn a_value_of_any_length_is_told_in_a_line() {
        let long = format!("\u{1b}[31m{}\nmore", "x".repeat(100_000));
        let text = said(&["jobq", "list", "--limit", &long]);
        assert!(text.len() < 500 && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn values_with_a_minus_are_told_what_is_wrong_with_them() {
        for (arguments, expected) in [
            (
                &["submit", "x", "--in", "-5s"][..],
                "'-5s' for '--in <DURATION>': it is less than nothing",
            ),
            (
                &["submit", "x", "--max-attempts", "-1"],
                "expected a whole number from 1 to 10000",
            ),
            (
                &["work", "x", "-j", "-1", "--", "true"],
                "expected a whole number from 1 to 10000",
            ),
            (&["serve", "--reserve", "-1MB"], "it is no size"),
            (
                &["list", "--since", "-2h"],
                "'-2h' for '--since <TIME>': it is no time",
            ),
        ] {
            let arguments: Vec<&str> = ["jobq"].iter().chain(arguments).copied().collect();
            let text = said(&arguments);
            assert!(text.contains(expected), "{arguments:?}: {text}");
        }
    }
}
