//! What to do about errors that clap has no good advice for.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Says how a job's name that begins with `-` is given, where there is a flag for it. clap's own advice, to put it
/// behind `--`, is right only where names are arguments.
pub(super) fn names(mut error: clap::Error, root: &Command, arguments: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let may_be_name = unknown.starts_with('-') && !unknown.starts_with("--");
    let command = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .find_map(|argument| root.find_subcommand(argument));
    let has_flag = command.is_some_and(|command| {
        command
            .get_arguments()
            .any(|argument| argument.get_long() == Some("name"))
    });
    if error.kind() == ErrorKind::UnknownArgument && may_be_name && has_flag {
        let tip = format!("a job's name that begins with '-' is given as '--name={unknown}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}
