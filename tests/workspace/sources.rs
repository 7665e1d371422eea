//! Where the workspace's crates come from, and that `deny.toml` says the same as the rules here.

use serde::Deserialize;

use crate::licences::{ALLOWED, BANNED};
use crate::{assert_none, metadata};

/// The one registry, as cargo writes it.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn source_violations<'a>(packages: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Vec<String> {
    packages
        .into_iter()
        .filter_map(|(name, source)| match source {
            // The workspace's own.
            None | Some(REGISTRY) => None,
            Some(other) => Some(format!("{name} comes from {other}, and not from crates.io")),
        })
        .collect()
}

#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
    allow_registry: Vec<String>,
    allow_git: Vec<String>,
}

fn deny() -> Deny {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml");
    let text = std::fs::read_to_string(path).expect("deny.toml stands at the root");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_workspace_is_built_from_crates_of_one_registry() {
    let packages = metadata().packages;
    let sources = packages.iter().map(|package| {
        let source = package.source.as_ref().map(|source| source.repr.as_str());
        (package.name.as_str(), source)
    });
    assert_none(&source_violations(sources));
}

#[test]
fn crates_from_elsewhere_are_caught() {
    let found = source_violations([
        ("own", None),
        ("fine", Some(REGISTRY)),
        ("forked", Some("git+https://example.org/forked#0123")),
        ("mirrored", Some("registry+https://example.org/index")),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("forked comes from git+"), "{found:?}");
}

#[test]
fn deny_toml_has_the_same_rules() {
    let deny = deny();
    assert_eq!(deny.licenses.allow, ALLOWED);
    let banned: Vec<Ban> = BANNED
        .iter()
        .map(|(name, why)| Ban {
            name: (*name).to_owned(),
            reason: (*why).to_owned(),
        })
        .collect();
    assert_eq!(deny.bans.deny, banned);
    let sources = deny.sources;
    assert_eq!(
        (sources.unknown_registry, sources.unknown_git),
        ("deny".to_owned(), "deny".to_owned())
    );
    assert_eq!(sources.allow_registry, [REGISTRY.trim_start_matches("registry+")]);
    assert!(sources.allow_git.is_empty());
}
