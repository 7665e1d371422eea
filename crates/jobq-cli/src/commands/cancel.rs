//! `jobq cancel`.

use crate::cli::Global;
use crate::exit::Exit;

/// The flags of `jobq cancel`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, _global: &Global) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}
