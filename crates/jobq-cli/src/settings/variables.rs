//! Variables that look like settings and are none.

use clap::Command;

use super::is_of_one_call;
use crate::cli::{definition, variable_of};

/// What `jobq` reads, and what `jobq work` sets for the commands that it runs, beside the variables of flags.
const OTHERS: [&str; 8] = [
    "JOBQ_TOKEN",
    "JOBQ_ID",
    "JOBQ_NAME",
    "JOBQ_UUID",
    "JOBQ_ATTEMPT",
    "JOBQ_MAX_ATTEMPTS",
    "JOBQ_FENCE",
    "JOBQ_USERNAME",
];

/// How alike a variable and a known one have to be for the latter to be suggested, from 0 to 1.
const ALIKE: f64 = 0.9;

/// What to say of each variable of the environment that begins with `JOBQ_` and sets nothing. Other programs may have
/// such variables, so that this is no error.
pub(crate) fn unknown_variables() -> Vec<String> {
    let definition = definition();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<String> = names.filter_map(|name| describe(&name, &definition)).collect();
    unknown.sort();
    unknown
}

fn describe(name: &str, definition: &Command) -> Option<String> {
    let known = known(definition);
    if !name.starts_with("JOBQ_") || OTHERS.contains(&name) || known.iter().any(|known| known == name) {
        return None;
    }
    if let Some(flag) = flag_of_one_call(name, definition) {
        return Some(format!(
            "the variable {name} sets nothing: {flag} says what one call is about; give it on the command line"
        ));
    }
    let alike = known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let advice = alike.map_or(String::new(), |(_, known)| format!("; did you mean {known}?"));
    Some(format!("the variable {name} sets nothing{advice}"))
}

/// The variables of all flags.
fn known(definition: &Command) -> Vec<String> {
    let commands = std::iter::once(definition).chain(definition.get_subcommands());
    let variables = commands
        .flat_map(Command::get_arguments)
        .filter_map(|argument| argument.get_env()?.to_str());
    variables.map(str::to_owned).collect()
}

/// The flag that a variable would set if flags of one call had any.
fn flag_of_one_call(name: &str, definition: &Command) -> Option<String> {
    definition.get_subcommands().find_map(|command| {
        let arguments = command
            .get_arguments()
            .filter(|argument| is_of_one_call(argument));
        let mut flags = arguments.filter_map(clap::Arg::get_long);
        let flag = flags.find(|flag| variable_of(command.get_name(), flag) == name)?;
        Some(format!("--{flag}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_sets_nothing_is_told_with_what_was_meant() {
        let definition = definition();
        let told = |name: &str| describe(name, &definition);
        for known in ["JOBQ_SERVER", "JOBQ_SUBMIT_AT", "JOBQ_TOKEN", "JOBQ_UUID", "PATH"] {
            assert_eq!(told(known), None);
        }
        for (name, expected) in [
            ("JOBQ_SUBMIT_PRIORTY", "did you mean JOBQ_SUBMIT_PRIORITY?"),
            ("JOBQ_CANCEL_NAME", "--name says what one call is about"),
            ("JOBQ_X", "JOBQ_X sets nothing"),
        ] {
            let told = told(name).expect(name);
            assert!(told.contains(expected), "{told}");
        }
    }
}
