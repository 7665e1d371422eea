//! clap's errors name flags; where a variable or the file is at fault, they have to name that.

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

use super::{File, Given};

/// An error that variables made.
pub(super) fn variables(error: clap::Error, command: &Command, given: &Given) -> clap::Error {
    name(error, command, given, |_, argument| variable(argument))
}

/// An error that the file made.
pub(super) fn file(error: clap::Error, command: &Command, given: &Given, file: &File) -> clap::Error {
    name(error, command, given, |name, argument| {
        let entry = file.entry(name, argument)?;
        Some(format!("{}:{}", file.path().display(), entry.line))
    })
}

/// Puts the origins of the arguments that an error names in front of them.
fn name(
    mut error: clap::Error,
    root: &Command,
    given: &Given,
    origin: impl Fn(Option<&str>, &Arg) -> Option<String>,
) -> clap::Error {
    // How an argument is shown is known when the definition is complete.
    let mut root = root.clone();
    root.build();
    let command = given
        .command
        .as_deref()
        .and_then(|name| root.find_subcommand(name));
    let own = command.into_iter().flat_map(|command| {
        let own = command
            .get_arguments()
            .filter(|argument| !argument.is_global_set());
        own.map(|argument| (Some(command.get_name()), argument))
    });
    let arguments: Vec<(Option<&str>, &Arg)> = own
        .chain(root.get_arguments().map(|argument| (None, argument)))
        .collect();
    let named = |text: &String| {
        let (name, argument) = arguments
            .iter()
            .find(|(_, argument)| argument.to_string() == *text)?;
        let origin = origin(*name, argument).filter(|_| !given.has(argument))?;
        Some(format!("{origin} ({text})"))
    };
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let value = match error.get(kind) {
            Some(ContextValue::String(text)) => named(text).map(ContextValue::String),
            Some(ContextValue::Strings(texts)) => {
                let texts = texts
                    .iter()
                    .map(|text| named(text).unwrap_or_else(|| text.clone()));
                Some(ContextValue::Strings(texts.collect()))
            }
            _ => None,
        };
        if let Some(value) = value {
            error.insert(kind, value);
        }
    }
    error
}

/// The variable that sets an argument, if it is there.
pub(super) fn variable(argument: &Arg) -> Option<String> {
    let name = argument.get_env()?.to_str()?;
    let value = std::env::var_os(name)?;
    (!value.is_empty()).then(|| name.to_owned())
}
