//! `jobq man`: the manual pages.

mod page;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Command;

use crate::cli::definition;
use crate::exit::Exit;
use crate::output::Output;

/// The flags of `jobq man`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
There is a page for jobq and one for each command: jobq.1, jobq-serve.1,
jobq-cert-init.1 and so on. Without DIR, it writes jobq.1 to standard output.

Examples:
  jobq man | man -l -
  jobq man ~/.local/share/man/man1 && man jobq-submit")]
pub(crate) struct Args {
    /// Write all pages into this directory, which is made if need be
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut root = definition().disable_help_subcommand(true);
    root.build();
    let Some(directory) = &args.directory else {
        let mut output = Output::new();
        output.line(String::from_utf8_lossy(&page(&root, &root)?).trim_end())?;
        output.finish()?;
        return Ok(Exit::Ok);
    };
    let written = write_all(&root, directory);
    written.with_context(|| format!("failed to write the manual pages into {}", directory.display()))?;
    Ok(Exit::Ok)
}

fn write_all(root: &Command, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut left = vec![root];
    while let Some(command) = left.pop() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        std::fs::write(directory.join(format!("{name}.1")), page(root, command)?)?;
        left.extend(command.get_subcommands());
    }
    Ok(())
}

fn page(root: &Command, command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    page::render(command, root.get_version().unwrap_or_default(), &mut page)?;
    Ok(page)
}
