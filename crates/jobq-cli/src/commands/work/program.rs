//! Finding the program that is to be run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::exit::Exit;
use crate::output;

/// Finds the program as the system would, so that a wrong one is noticed before there is a job.
pub(super) fn find(program: &OsString) -> anyhow::Result<PathBuf> {
    let path = Path::new(program);
    let shown = output::escape(&program.to_string_lossy()).into_owned();
    if path.components().count() > 1 || shown.contains('/') {
        let problem = match std::fs::metadata(path) {
            Ok(file) if file.is_file() && is_executable(path) => return Ok(path.to_owned()),
            Ok(file) if file.is_file() => "it is not executable; chmod +x may help".to_owned(),
            Ok(_) => "it is no file".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(Exit::Usage.because(anyhow!("failed to find the command {shown:?}: {problem}")));
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .map(|directory| directory.join(path))
        .find(|candidate| candidate.is_file() && is_executable(candidate))
        .ok_or_else(|| {
            let error = anyhow!("failed to find the command {shown:?}: it is in no directory of PATH");
            Exit::Usage.because(error)
        })
}

fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_in_the_path_or_where_it_is() {
        assert!(find(&"sh".into()).expect("every system has it").ends_with("sh"));
        assert!(find(&"/bin/sh".into()).is_ok());
        for wrong in ["no-such-command-anywhere", "./no-such-file", "/", ""] {
            let error = find(&wrong.into()).expect_err(wrong);
            assert_eq!(Exit::of(&error), Exit::Usage, "{wrong}");
        }
    }
}
