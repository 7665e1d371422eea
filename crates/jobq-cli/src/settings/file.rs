//! The configuration file: where it is, and what it says.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::trust::{self, Distrust};
use super::{CONFIG, Given, conflict, is_of_one_call, is_setting};
use crate::output::note;

/// Its name where none was given.
const NAME: &str = "jobq.toml";

/// Longest file, in bytes: whatever is longer was not meant.
const MAX_BYTES: u64 = 1024 * 1024;

/// How alike a wrong key and a known one have to be for the latter to be suggested, from 0 to 1.
const ALIKE: f64 = 0.7;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("failed to read the configuration file {path}: {problem}")]
    Unreadable { path: String, problem: String },
    /// Something in it makes no sense.
    #[error("failed to read the configuration file {path}: line {line}: {problem}")]
    Line {
        path: String,
        line: usize,
        problem: String,
    },
}

/// What a configuration file says.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// One setting of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The command; none for a flag of all commands.
    command: Option<String>,
    /// The flag, without its dashes.
    key: String,
    /// As they would stand on the command line.
    pub(super) values: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

impl File {
    /// Reads the file that was asked for, else the one in the working directory, else the user's; an empty path asks
    /// for none. One in the working directory that others can have written is not used, which is said.
    ///
    /// # Errors
    /// It cannot be read, or does not agree with the definition of the command line. That there is none is an error
    /// only if it was asked for.
    pub(super) fn find(asked: Option<&PathBuf>, definition: &Command) -> Result<Option<Self>, FileError> {
        if let Some(path) = asked {
            if path.as_os_str().is_empty() {
                return Ok(None);
            }
            return Self::read(path, definition).map(Some);
        }
        let here = Path::new(NAME);
        if here.exists() {
            match trust::open(here) {
                Ok(file) => return Self::read_from(here, Ok(file), definition).map(Some),
                Err(Distrust::Unreadable(error)) => {
                    return Self::read_from(here, Err(error), definition).map(Some);
                }
                Err(why) => note(&format!(
                    "the configuration file {NAME} of this directory is not used, since {why}; to use it all the same, \
                     give --config {NAME}"
                )),
            }
        }
        let of_user = of_user().filter(|path| path.exists());
        of_user.map(|path| Self::read(&path, definition)).transpose()
    }

    fn read(path: &Path, definition: &Command) -> Result<Self, FileError> {
        Self::read_from(path, std::fs::File::open(path), definition)
    }

    fn read_from(
        path: &Path,
        file: io::Result<std::fs::File>,
        definition: &Command,
    ) -> Result<Self, FileError> {
        let text = file
            .map_err(|error| error.to_string())
            .and_then(read_text)
            .map_err(|problem| FileError::Unreadable {
                path: path.display().to_string(),
                problem,
            })?;
        let entries = parse(&text, definition).map_err(|wrong| FileError::Line {
            path: path.display().to_string(),
            line: line(&text, wrong.at),
            problem: wrong.problem,
        })?;
        Ok(Self {
            path: path.to_owned(),
            entries,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of an argument.
    pub(super) fn entry(&self, command: Option<&str>, argument: &Arg) -> Option<&Entry> {
        let key = argument.get_long()?;
        self.entries
            .iter()
            .find(|entry| entry.command.as_deref() == command && entry.key == key)
    }

    /// # Errors
    /// Two settings exclude each other, and nothing that was given overrules them.
    pub(super) fn contradictions(&self, root: &Command, given: &Given) -> Result<(), FileError> {
        let Some(command) = given
            .command
            .as_deref()
            .and_then(|name| root.find_subcommand(name))
        else {
            return Ok(());
        };
        let set = command.get_arguments().filter(|argument| is_setting(argument));
        let set = set.filter(|argument| !given.has(argument) && !given.contradict(command, argument));
        let set: Vec<(&Arg, &Entry)> = set
            .filter_map(|argument| Some((argument, self.entry(Some(command.get_name()), argument)?)))
            .collect();
        for (place, (one, first)) in set.iter().enumerate() {
            for (other, second) in &set[place + 1..] {
                if conflict(command, one, other) {
                    let (first, second) = if first.line < second.line {
                        (first, second)
                    } else {
                        (second, first)
                    };
                    return Err(FileError::Line {
                        path: self.path.display().to_string(),
                        line: second.line,
                        problem: format!(
                            "`{}` cannot stand beside `{}` in line {}; give one of them",
                            second.key, first.key, first.line
                        ),
                    });
                }
            }
        }
        Ok(())
    }
}

/// `$XDG_CONFIG_HOME/jobq/jobq.toml`, with `~/.config` where that variable is not set.
fn of_user() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let directory = match set.filter(|path| path.is_absolute()) {
        Some(directory) => directory,
        None => std::env::home_dir()
            .filter(|home| home.is_absolute())?
            .join(".config"),
    };
    Some(directory.join("jobq").join(NAME))
}

fn read_text(file: std::fs::File) -> Result<String, String> {
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    Ok(text)
}

/// What is wrong, and at which byte.
#[derive(Debug)]
struct Wrong {
    at: usize,
    problem: String,
}

fn line(text: &str, at: usize) -> usize {
    1 + text
        .as_bytes()
        .iter()
        .take(at)
        .filter(|&&byte| byte == b'\n')
        .count()
}

fn parse(text: &str, definition: &Command) -> Result<Vec<Entry>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| Wrong {
        at: error.span().map_or(0, |span| span.start),
        problem: format!("it is no TOML: {}", error.message().replace('\n', "; ")),
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        match (definition.find_subcommand(name), value.get_ref()) {
            (Some(command), DeValue::Table(table)) => {
                for (key, value) in table {
                    entries.push(entry(text, command, Some(name), key, value)?);
                }
            }
            (Some(_), _) => {
                return Err(wrong(
                    key,
                    format!("`{name}` is a table of settings, as in [{name}]"),
                ));
            }
            (None, _) => entries.push(entry(text, definition, None, key, value)?),
        }
    }
    // The order of the file, for those who read about it.
    entries.sort_by_key(|entry| entry.line);
    for (place, entry) in entries.iter().enumerate() {
        let twice = |other: &&Entry| (&other.command, &other.key) == (&entry.command, &entry.key);
        if let Some(first) = entries[..place].iter().find(twice) {
            let start = text
                .split_inclusive('\n')
                .take(entry.line - 1)
                .map(str::len)
                .sum();
            return Err(Wrong {
                at: start,
                problem: format!("`{}` is set in line {} already", entry.key, first.line),
            });
        }
    }
    Ok(entries)
}

fn wrong<T>(place: &Spanned<T>, problem: String) -> Wrong {
    Wrong {
        at: place.span().start,
        problem,
    }
}

/// Reads one setting. Its key is the flag; an underscore does for a dash.
fn entry(
    text: &str,
    command: &Command,
    name: Option<&str>,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Entry, Wrong> {
    let flag = key.get_ref().replace('_', "-");
    let Some(argument) = settings(command, name).find(|argument| argument.get_long() == Some(&flag)) else {
        return Err(wrong(key, unknown(key.get_ref(), &flag, command, name)));
    };
    let values = values(argument, value)?;
    Ok(Entry {
        command: name.map(str::to_owned),
        key: flag,
        values,
        line: line(text, key.span().start),
    })
}

/// What can be set for a command, or for all of them.
fn settings<'a>(command: &'a Command, name: Option<&str>) -> impl Iterator<Item = &'a Arg> {
    let all = name.is_none();
    command.get_arguments().filter(move |argument| {
        is_setting(argument) && argument.is_global_set() == all && argument.get_long() != Some(CONFIG)
    })
}

fn unknown(written: &str, flag: &str, command: &Command, name: Option<&str>) -> String {
    let place = name.map_or("at the top".to_owned(), |name| format!("in [{name}]"));
    let mut arguments = command.get_arguments();
    if arguments.any(|argument| argument.get_long() == Some(flag) && is_of_one_call(argument)) {
        return format!(
            "`{written}` says what one call is about, and is no setting; give it on the command line"
        );
    }
    let known: Vec<&str> = settings(command, name).filter_map(Arg::get_long).collect();
    let tables: Vec<&str> = match name {
        None => command.get_subcommands().map(Command::get_name).collect(),
        Some(_) => Vec::new(),
    };
    let alike = known
        .iter()
        .chain(&tables)
        .map(|known| (strsim::jaro_winkler(flag, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let owner = command
        .get_subcommands()
        .find(|command| settings(command, Some("")).any(|argument| argument.get_long() == Some(flag)));
    let advice = match (owner, alike) {
        (Some(owner), _) => format!("did you mean to set it in [{}]?", owner.get_name()),
        (None, Some((_, known))) if tables.contains(known) => format!("did you mean [{known}]?"),
        (None, Some((_, known))) => format!("did you mean `{known}`?"),
        (None, None) => format!("expected one of {}", known.join(", ")),
    };
    format!("there is no setting `{written}` {place}; {advice}")
}

fn values(argument: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Wrong> {
    let key = argument.get_long().unwrap_or_default();
    let is_pair = argument
        .get_value_names()
        .is_some_and(|names| names.iter().any(|name| name.contains('=')));
    let kind = value.get_ref().type_str();
    match (argument.get_action(), value.get_ref()) {
        (ArgAction::SetTrue | ArgAction::SetFalse, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
        (ArgAction::SetTrue | ArgAction::SetFalse, _) => Err(wrong(
            value,
            format!("`{key}` is a switch: expected true or false, and not a {kind}"),
        )),
        (ArgAction::Append, DeValue::Array(items)) => items.iter().map(|item| scalar(key, item)).collect(),
        (ArgAction::Append, DeValue::Table(pairs)) if is_pair => pairs
            .iter()
            .map(|(name, value)| Ok(format!("{}={}", name.get_ref(), scalar(key, value)?)))
            .collect(),
        _ => scalar(key, value).map(|value| vec![value]),
    }
}

fn scalar(key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, Wrong> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Datetime(time) => Ok(time.to_string()),
        other => Err(wrong(
            value,
            format!("`{key}` takes one text or number, and not a {}", other.type_str()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition;

    fn read(text: &str) -> Result<Vec<Entry>, String> {
        parse(text, &definition())
            .map_err(|wrong| format!("line {}: {}", line(text, wrong.at), wrong.problem))
    }

    #[test]
    fn a_file_sets_what_flags_set() {
        let text = "server = \"tcp://example.org:1\"\n\n[serve]\ndata = \"/d\"\nmax_active = 4\nlisten = [\"a\", \"b\"]\n\
                    [list]\njson = true\n";
        let entries = read(text).expect("it makes sense");
        let shown: Vec<String> = entries
            .iter()
            .map(|e| format!("{} {}={}", e.line, e.key, e.values.join("+")))
            .collect();
        assert_eq!(
            shown,
            [
                "1 server=tcp://example.org:1",
                "4 data=/d",
                "5 max-active=4",
                "6 listen=a+b",
                "8 json=true"
            ]
        );
    }

    #[test]
    fn a_flag_of_pairs_may_be_a_table() {
        let entries = read("[serve.cap]\nthumbnail = 4\n\"mail.send\" = 1\n").expect("it makes sense");
        assert_eq!(entries.len(), 1);
        let mut caps = entries[0].values.clone();
        caps.sort();
        assert_eq!(caps, ["mail.send=1", "thumbnail=4"]);
        let lists = read("[serve]\ncap = [\"thumbnail=4\"]\n").expect("it makes sense");
        assert_eq!(lists[0].values, ["thumbnail=4"]);
        assert!(read("[list.limit]\nx = 4\n").is_err());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_was_meant() {
        for (text, expected) in [
            (
                "\nservr = \"x\"",
                "line 2: there is no setting `servr` at the top; did you mean `server`?",
            ),
            (
                "[serve]\ndatta = \"x\"",
                "line 2: there is no setting `datta` in [serve]; did you mean `data`?",
            ),
            (
                "[server]\ndata = \"x\"",
                "line 1: `server` takes one text or number",
            ),
            ("[stat]\njson = true", "did you mean [stats]?"),
            ("ready-file = \"x\"", "did you mean to set it in [serve]?"),
            (
                "config = \"x\"",
                "`config` is a table of settings, as in [config]",
            ),
            ("serve = 1", "`serve` is a table of settings, as in [serve]"),
            (
                "[list]\njson = \"yes\"",
                "line 2: `json` is a switch: expected true or false",
            ),
            (
                "[serve]\ndata = true",
                "line 2: `data` takes one text or number, and not a boolean",
            ),
            (
                "[serve]\nmax-active = 1\nmax_active = 2",
                "line 3: `max-active` is set in line 2 already",
            ),
            ("[serve]\nhelp = true", "there is no setting `help`"),
            ("server =\n", "line 1: it is no TOML"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
