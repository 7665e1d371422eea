//! Which word of a command line is a script, so that nothing a job says ends up in one.

use std::ffi::OsString;
use std::path::Path;

/// Programs that run code from their arguments, and the short options that it follows.
const INTERPRETERS: [(&[&str], &str); 6] = [
    (
        &["sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox", "su"],
        "c",
    ),
    (&["python", "pypy"], "c"),
    (&["perl"], "eE"),
    (&["ruby", "lua"], "e"),
    (&["node", "nodejs", "deno", "bun"], "ep"),
    (&["php"], "r"),
];

/// The interpreter that runs the word at this place as code, as far as can be told by its name: `bash` of
/// `env A=1 bash -ec SCRIPT`.
pub(super) fn interpreter(command: &[OsString], place: usize) -> Option<String> {
    let (option, before) = command[..place].split_last()?;
    let option = option.to_str()?;
    // Short options may stand together, and the one that takes the script is the last of them.
    let last = option
        .strip_prefix('-')
        .filter(|rest| !rest.starts_with('-'))?
        .chars()
        .last()?;
    before.iter().find_map(|word| {
        let name = Path::new(word).file_name()?.to_str()?;
        // Versions are part of some names: python3.12.
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let (_, options) = INTERPRETERS.iter().find(|(names, _)| names.contains(&plain))?;
        options.contains(last).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_last(command: &[&str]) -> Option<String> {
        let words: Vec<OsString> = command.iter().map(OsString::from).collect();
        interpreter(&words, words.len() - 1)
    }

    #[test]
    fn the_word_after_an_interpreters_option_is_a_script() {
        for (command, name) in [
            (&["sh", "-c", "script"][..], "sh"),
            (&["/bin/bash", "-euc", "script"], "bash"),
            (&["env", "A=1", "nice", "zsh", "-c", "script"], "zsh"),
            (&["python3.12", "-c", "script"], "python3.12"),
            (&["perl", "-ne", "script"], "perl"),
            (&["node", "-e", "script"], "node"),
        ] {
            assert_eq!(of_last(command).as_deref(), Some(name), "{command:?}");
        }
    }

    #[test]
    fn other_words_are_none() {
        for command in [
            &["sh"][..],
            &["sh", "script.sh"],
            &["sh", "-c", "script", "argument"],
            &["sh", "-x", "file"],
            &["grep", "-c", "word"],
            &["python3", "file.py", "x"],
            &["bash", "--rc", "file"],
        ] {
            assert_eq!(of_last(command), None, "{command:?}");
        }
    }
}
