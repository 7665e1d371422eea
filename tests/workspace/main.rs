//! Rules about the workspace itself: what its crates may know, whose work they may use, and what each must say.
//!
//! The rules are functions over small values, each with a test that it catches what it is there for; the tests
//! called `the_workspace_…` apply them to what `cargo metadata` tells of this workspace, without the network.

mod layers;
mod licences;
mod manifests;
mod sources;

use std::path::PathBuf;
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace and everything that it is built from on this platform.
///
/// Other platforms' dependencies are left out: cargo has not downloaded them, and nothing is downloaded here.
fn metadata() -> Metadata {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let options = ["--locked", "--offline", "--filter-platform", &host()].map(str::to_owned);
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(options)
        .exec()
        .unwrap_or_else(|error| {
            panic!("cargo metadata failed; `cargo fetch --locked` gets what it may be missing: {error}")
        })
}

/// The platform that cargo builds for here, e.g. `x86_64-unknown-linux-gnu`.
fn host() -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .arg("-vV")
        .output()
        .expect("cargo, which started this test, can be run");
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("cargo -vV names the host")
        .to_owned()
}

/// Fails with all violations, one on a line.
#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
