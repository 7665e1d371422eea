//! Every setting in force, and what set it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStr, Resettable};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{CONFIG, File, Layers, Settings, SettingsError, is_setting, map_arguments};
use crate::cli::definition;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The flag, after its command and a dot where it is not one of all commands.
    pub(crate) key: String,
    /// What it is set to, as it would stand on the command line; empty where it is not set.
    pub(crate) values: Vec<String>,
    /// What set it.
    pub(crate) origin: Origin,
}

/// What set a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag of this command line.
    Flag,
    /// A variable.
    Variable(String),
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// Nothing: it has its default.
    Default,
    /// Nothing: it has no default.
    Unset,
}

impl Settings {
    /// The settings of all commands.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) fn all(&self) -> Result<Vec<Setting>, SettingsError> {
        let definition = definition();
        let matches = self.matches(&self.arguments)?;
        let mut settings = self.of(None, &definition, &matches);
        for command in definition.get_subcommands() {
            let name = command.get_name();
            self.check_file(name)?;
            let matches = self.matches(&[OsString::from("jobq"), name.into()])?;
            if let Some(matches) = matches.subcommand_matches(name) {
                settings.extend(self.of(Some(name), command, matches));
            }
        }
        Ok(settings)
    }

    /// Checks what the file says of a command, and of all, also where a flag or a variable counts for more.
    fn check_file(&self, name: &str) -> Result<(), SettingsError> {
        let arguments = [OsString::from("jobq"), name.into()];
        match Layers::new(without_variables, &arguments, self.file.as_ref()).read() {
            Err(SettingsError::Arguments { error, .. }) if is_missing(&error) => Ok(()),
            read => read.map(drop),
        }
    }

    fn matches(&self, arguments: &[OsString]) -> Result<ArgMatches, SettingsError> {
        let file = self.file.as_ref();
        match Layers::new(definition, arguments, file).read() {
            // What is missing is given when the command is called; what is set has to be right all the same.
            Err(SettingsError::Arguments { error, .. }) if is_missing(&error) => {}
            read => return read,
        }
        match Layers::new(nothing_required, arguments, file).read() {
            // A variable that is of use only beside an argument.
            Err(SettingsError::Arguments { error, .. }) if is_missing(&error) => {
                Layers::new(lenient, arguments, file).read()
            }
            read => read,
        }
    }

    fn of(&self, name: Option<&str>, command: &Command, matches: &ArgMatches) -> Vec<Setting> {
        let arguments = command.get_arguments().filter(|argument| {
            is_setting(argument) && argument.is_global_set() == name.is_none() && argument.get_id() != CONFIG
        });
        arguments
            .map(|argument| {
                let id = argument.get_id().as_str();
                let values = matches.get_raw(id).into_iter().flatten();
                let origin = self.origin(name, argument, matches);
                let long = argument.get_long().unwrap_or_default();
                Setting {
                    key: name.map_or(long.to_owned(), |name| format!("{name}.{long}")),
                    values: match (argument.get_action(), &origin) {
                        // What a switch is when nobody touches it.
                        (ArgAction::SetTrue, Origin::Unset) => Vec::new(),
                        _ => values.map(|value| value.to_string_lossy().into_owned()).collect(),
                    },
                    origin,
                }
            })
            .collect()
    }

    fn origin(&self, name: Option<&str>, argument: &Arg, matches: &ArgMatches) -> Origin {
        let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
        match matches.value_source(argument.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Origin::Flag,
            Some(ValueSource::EnvVariable) => {
                let variable = argument.get_env().unwrap_or_default();
                Origin::Variable(variable.to_string_lossy().into_owned())
            }
            Some(_) => match self.in_file(name, argument) {
                Some((file, line)) => Origin::File(file.path().to_owned(), line),
                None if is_switch => Origin::Unset,
                None => Origin::Default,
            },
            None => Origin::Unset,
        }
    }

    fn in_file(&self, name: Option<&str>, argument: &Arg) -> Option<(&File, usize)> {
        let file = self.file.as_ref()?;
        Some((file, file.entry(name, argument)?.line))
    }
}

fn is_missing(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// The command line, with no argument required.
fn nothing_required() -> Command {
    let mut root = definition();
    let names: Vec<String> = root.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        root = root.mut_subcommand(name, |command| {
            command.mut_args(|argument| argument.required(false))
        });
    }
    root.subcommand_required(false).arg_required_else_help(false)
}

/// The same, with no variable read.
fn without_variables() -> Command {
    map_arguments(nothing_required(), |_, _, argument| {
        argument.env(Resettable::<OsStr>::Reset)
    })
}

/// The command line, with all forgiven.
fn lenient() -> Command {
    definition().ignore_errors(true)
}
