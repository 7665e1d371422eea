//! What is set, and by what: a flag, else a variable, else the configuration file, else the default.
//!
//! All of it follows from the command line's definition in [`crate::cli`]: a flag has a variable and a key in the
//! file, so nothing is listed twice. What the file says is handed to clap as the flags' defaults, and so read by the
//! same parsers. [`mod@file`] finds and reads the file, [`trust`] says whether one that nobody named is used, [`blame`]
//! says in clap's errors who is at fault if it was not the command line, [`mod@advice`] what to do about some others, and
//! [`listing`] is for `jobq config`.

mod advice;
mod blame;
mod file;
mod listing;
mod trust;
mod variables;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStr, Resettable};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use crate::cli::{Cli, definition};

pub(crate) use file::File;
pub(crate) use listing::{Origin, Setting};
pub(crate) use variables::unknown_variables;

/// The id of the flag that names the configuration file.
const CONFIG: &str = "config";

/// Why a command line cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// It makes no sense, or asks for help or the version.
    #[error("{error}")]
    Arguments {
        /// Where what makes no sense was said.
        layer: Layer,
        error: Box<clap::Error>,
    },
    /// The configuration file cannot be read, or says what makes no sense.
    #[error(transparent)]
    File(#[from] file::FileError),
}

/// What sets flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    CommandLine,
    Variables,
    File,
}

impl Layer {
    fn of(self, error: clap::Error) -> SettingsError {
        SettingsError::Arguments {
            layer: self,
            error: Box::new(error),
        }
    }

    /// As errors name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "the command line",
            Self::Variables => "the variables",
            Self::File => "the configuration file",
        }
    }
}

/// Where settings come from beside the defaults, for `jobq config`.
#[derive(Debug)]
pub(crate) struct Settings {
    arguments: Vec<OsString>,
    file: Option<File>,
}

/// Reads a command line, with what variables and the configuration file add to it.
///
/// # Errors
/// One of them makes no sense, or the command line asks for help or the version.
pub(crate) fn read(arguments: Vec<OsString>) -> Result<(Cli, Settings), SettingsError> {
    let matches = Layers::new(definition, &arguments, None).read()?;
    let file = File::find(matches.get_one::<PathBuf>(CONFIG), &definition())?;
    let matches = match &file {
        None => matches,
        Some(file) => Layers::new(definition, &arguments, Some(file)).read()?,
    };
    let cli = Cli::from_arg_matches(&matches)
        .map_err(|error| Layer::CommandLine.of(error.format(&mut definition())))?;
    Ok((cli, Settings { arguments, file }))
}

/// The layers of one command line, the strongest first.
struct Layers<'a> {
    definition: fn() -> Command,
    arguments: &'a [OsString],
    file: Option<&'a File>,
}

impl<'a> Layers<'a> {
    fn new(definition: fn() -> Command, arguments: &'a [OsString], file: Option<&'a File>) -> Self {
        Self {
            definition,
            arguments,
            file,
        }
    }

    /// Reads the layers one upon the other, so that each error is that of the layer that made it.
    fn read(&self) -> Result<ArgMatches, SettingsError> {
        let flags = match self.parse(map_arguments((self.definition)(), |_, _, argument| {
            argument.env(Resettable::<OsStr>::Reset)
        })) {
            Ok(flags) => flags,
            // Help names the variables.
            Err(error) if !error.use_stderr() => {
                let error = self.parse((self.definition)()).err().unwrap_or(error);
                return Err(Layer::CommandLine.of(error));
            }
            Err(error) => {
                let error = advice::names(error, &(self.definition)(), self.arguments);
                return Err(Layer::CommandLine.of(error));
            }
        };
        let given = Given::of(&flags, &(self.definition)());
        // A flag counts for more than a variable that contradicts it.
        let with_variables = |command| {
            map_arguments(command, |command, _, argument| {
                if given.contradict(command, &argument) || is_empty_variable(&argument) {
                    argument.env(Resettable::<OsStr>::Reset)
                } else {
                    argument
                }
            })
        };
        let command = with_variables((self.definition)());
        let matches = self
            .parse(command.clone())
            .map_err(|error| Layer::Variables.of(blame::variables(error, &command, &given)))?;
        let Some(file) = self.file else {
            return Ok(matches);
        };
        let given = Given::of(&matches, &command);
        file.contradictions(&command, &given)?;
        let command = map_arguments(command, |command, name, argument| {
            match file.entry(name, &argument) {
                Some(entry) if !given.contradict(command, &argument) => {
                    argument.default_values(entry.values.clone())
                }
                _ => argument,
            }
        });
        self.parse(command.clone())
            .map_err(|error| Layer::File.of(blame::file(error, &command, &given, file)))
    }

    fn parse(&self, command: Command) -> Result<ArgMatches, clap::Error> {
        command.try_get_matches_from(self.arguments)
    }
}

/// What was given on the command line, or by variables too: the ids of the flags, and their command.
struct Given {
    command: Option<String>,
    ids: Vec<String>,
}

impl Given {
    fn of(matches: &ArgMatches, definition: &Command) -> Self {
        let mut given = explicit(matches, definition);
        let command = matches.subcommand().map(|(name, matches)| {
            if let Some(command) = definition.find_subcommand(name) {
                given.extend(explicit(matches, command));
            }
            name.to_owned()
        });
        Self { command, ids: given }
    }

    fn has(&self, argument: &Arg) -> bool {
        self.ids.iter().any(|id| argument.get_id() == id.as_str())
    }

    /// Whether something that was given cannot stand beside an argument that was not.
    fn contradict(&self, command: &Command, argument: &Arg) -> bool {
        !self.has(argument)
            && self.command.as_deref() == Some(command.get_name())
            && command
                .get_arguments()
                .any(|other| self.has(other) && conflict(command, argument, other))
    }
}

fn explicit(matches: &ArgMatches, command: &Command) -> Vec<String> {
    let explicit = command.get_arguments().filter(|argument| {
        let source = matches.value_source(argument.get_id().as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    });
    explicit.map(|argument| argument.get_id().to_string()).collect()
}

/// Whether two arguments of a command exclude each other, whichever of them says so.
fn conflict(command: &Command, one: &Arg, other: &Arg) -> bool {
    let says = |one: &Arg, other: &Arg| {
        let named = command.get_arg_conflicts_with(one);
        named.iter().any(|named| named.get_id() == other.get_id())
    };
    !one.is_global_set() && !other.is_global_set() && (says(one, other) || says(other, one))
}

/// Changes all arguments that are flags; the function is told the command, and its name where it is not the root.
fn map_arguments(mut root: Command, change: impl Fn(&Command, Option<&str>, Arg) -> Arg) -> Command {
    let names: Vec<String> = root.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let before = root.clone();
    root = root.mut_args(|argument| change_flag(&before, None, argument, &change));
    for name in names {
        root = root.mut_subcommand(&name, |command| {
            let before = command.clone();
            command.mut_args(|argument| change_flag(&before, Some(&name), argument, &change))
        });
    }
    root
}

fn change_flag(
    command: &Command,
    name: Option<&str>,
    argument: Arg,
    change: impl Fn(&Command, Option<&str>, Arg) -> Arg,
) -> Arg {
    if is_setting(&argument) {
        change(command, name, argument)
    } else {
        argument
    }
}

/// The heading of flags that say which jobs one call is about. Were they settings, a line in a file would cancel jobs
/// that nobody named.
pub(crate) const WHICH_JOBS: &str = "Which jobs";

/// Whether an argument can be set by a variable and by the file: flags can, save those that are questions, and those
/// that concern one call.
pub(crate) fn is_setting(argument: &Arg) -> bool {
    let question = matches!(argument.get_long(), None | Some("help" | "version"));
    !question && !argument.is_hide_set() && !is_of_one_call(argument)
}

/// Whether an argument says what one call is about, and not how calls are.
fn is_of_one_call(argument: &Arg) -> bool {
    let identity = matches!(argument.get_long(), Some("uuid" | "once"));
    identity || argument.get_help_heading() == Some(WHICH_JOBS)
}

/// Whether the variable of an argument is there and empty, which counts as not set. An empty JOBQ_CONFIG says
/// something.
fn is_empty_variable(argument: &Arg) -> bool {
    let value = argument.get_env().and_then(std::env::var_os);
    argument.get_id() != CONFIG && value.is_some_and(|value| value.is_empty())
}
