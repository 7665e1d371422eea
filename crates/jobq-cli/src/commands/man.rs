//! `jobq man`: the manual pages.

use std::path::PathBuf;

use anyhow::Context;
use clap_mangen::Man;

use crate::cli::definition;
use crate::exit::Exit;
use crate::output::Output;

/// The flags of `jobq man`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
There is a page for jobq and one for each command: jobq.1, jobq-serve.1 and so
on. Without DIR, it writes jobq.1 to standard output.

Examples:
  jobq man | man -l -
  jobq man ~/.local/share/man/man1 && man jobq-submit")]
pub(crate) struct Args {
    /// Write all pages into this directory, which is made if need be
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        Man::new(definition())
            .render(&mut page)
            .context("failed to write the manual page")?;
        let mut output = Output::new();
        output.line(String::from_utf8_lossy(&page).trim_end())?;
        output.finish()?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(definition(), directory))
        .with_context(|| format!("failed to write the manual pages into {}", directory.display()))?;
    Ok(Exit::Ok)
}
