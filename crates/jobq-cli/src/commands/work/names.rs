//! Which jobs a worker runs: NAME and --name.

use std::collections::BTreeSet;

use anyhow::anyhow;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::exit::Exit;
use crate::values::name;

/// The ids of the two.
const ARGUMENT: &str = "name";
const FLAG: &str = "names";

/// The names of the jobs to run, as they were given.
///
/// By hand, since what is typed counts for more than what a variable or the configuration file says: a NAME alone puts
/// the names of these aside, and together with a --name that is typed as well it is one more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// The names, each once, and one at least.
    ///
    /// # Errors
    /// There is none, or one twice.
    pub(super) fn checked(&self) -> anyhow::Result<&[String]> {
        let mut seen = BTreeSet::new();
        let twice = self.0.iter().find(|name| !seen.insert(*name));
        let problem = match twice {
            Some(name) => format!("{name:?} is given more than once; name each kind of job once"),
            None if self.0.is_empty() => {
                "there is none; say which jobs to run, as in jobq work thumbnail -- COMMAND".to_owned()
            }
            None => return Ok(&self.0),
        };
        Err(Exit::Usage.because(anyhow!("failed to read the names: {problem}")))
    }
}

impl clap::Args for Names {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new(ARGUMENT)
                    .value_name("NAME")
                    .value_parser(name)
                    .help("The jobs to run"),
            )
            .arg(
                Arg::new(FLAG)
                    .long("name")
                    .value_name("NAME")
                    .action(ArgAction::Append)
                    .value_delimiter(',')
                    .value_parser(name)
                    .help("Run these as well; repeat it, or put commas between them"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Names {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let argument: Option<&String> = matches.get_one(ARGUMENT);
        let is_typed = matches.value_source(FLAG) == Some(ValueSource::CommandLine);
        let flags = matches
            .get_many(FLAG)
            .filter(|_| is_typed || argument.is_none())
            .into_iter()
            .flatten();
        Ok(Self(argument.into_iter().chain(flags).cloned().collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn names(arguments: &[&str], elsewhere: &'static [&'static str]) -> Vec<String> {
        let command =
            Names::augment_args(Command::new("work")).mut_arg(FLAG, |flag| flag.default_values(elsewhere));
        let arguments = ["work"].iter().chain(arguments);
        let matches = command.try_get_matches_from(arguments).expect("they make sense");
        Names::from_arg_matches(&matches).expect("they are names").0
    }

    #[test]
    fn what_is_typed_counts_for_more_than_what_is_set_elsewhere() {
        assert_eq!(names(&["a"], &[]), ["a"]);
        assert_eq!(
            names(&["a", "--name", "b", "--name", "c,d"], &[]),
            ["a", "b", "c", "d"]
        );
        assert_eq!(names(&["--name", "b"], &["x"]), ["b"]);
        assert_eq!(names(&[], &["x", "y"]), ["x", "y"]);
        assert_eq!(names(&["a"], &["x", "y"]), ["a"]);
    }

    #[test]
    fn a_worker_has_a_name_and_each_once() {
        assert!(Names(vec!["a".into(), "b".into()]).checked().is_ok());
        for wrong in [vec![], vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]] {
            let error = Names(wrong).checked().expect_err("it is wrong");
            assert_eq!(Exit::of(&error), Exit::Usage);
        }
    }
}
