//! What each crate of the workspace must say about itself.

use cargo_metadata::TargetKind;

use crate::{assert_none, metadata};

/// A crate of the workspace as far as this is concerned.
#[derive(Clone)]
struct Member {
    name: String,
    licence: Option<String>,
    description: Option<String>,
    rust_version: Option<String>,
    /// The text of its Cargo.toml.
    manifest: String,
    /// The text of its lib.rs, if it is a library.
    library: Option<String>,
}

fn violations(member: &Member) -> Vec<String> {
    let forbids_unsafe = |source: &String| {
        source
            .lines()
            .any(|line| line.trim() == "#![forbid(unsafe_code)]")
    };
    let checks = [
        (
            member.licence.is_some(),
            "has no licence: write `license.workspace = true`",
        ),
        (
            member
                .description
                .as_ref()
                .is_some_and(|text| !text.trim().is_empty()),
            "has no description",
        ),
        (
            member.rust_version.is_some(),
            "has no rust-version: write `rust-version.workspace = true`",
        ),
        (
            inherits_lints(&member.manifest),
            "does not take the workspace's lints: write `[lints]` and `workspace = true`",
        ),
        (
            member.library.as_ref().is_none_or(forbids_unsafe),
            "is a library whose lib.rs lacks `#![forbid(unsafe_code)]`",
        ),
    ];
    checks
        .into_iter()
        .filter(|(kept, _)| !kept)
        .map(|(_, what)| format!("{} {what}", member.name))
        .collect()
}

/// Whether a manifest has `workspace = true` in its table `[lints]`. cargo metadata does not tell.
fn inherits_lints(manifest: &str) -> bool {
    manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

fn members() -> Vec<Member> {
    let read = |path: &cargo_metadata::camino::Utf8Path| {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {path}: {error}"))
    };
    metadata()
        .workspace_packages()
        .into_iter()
        .map(|package| Member {
            name: package.name.to_string(),
            licence: package.license.clone(),
            description: package.description.clone(),
            rust_version: package.rust_version.as_ref().map(ToString::to_string),
            manifest: read(&package.manifest_path),
            library: package
                .targets
                .iter()
                .find(|target| target.is_kind(TargetKind::Lib))
                .map(|target| read(&target.src_path)),
        })
        .collect()
}

#[test]
fn the_workspace_members_say_what_they_must() {
    let members = members();
    assert!(
        members.iter().filter(|member| member.library.is_some()).count() >= 5,
        "libraries were not found"
    );
    assert_none(&members.iter().flat_map(violations).collect::<Vec<_>>());
}

fn good() -> Member {
    Member {
        name: "good".to_owned(),
        licence: Some("MIT".to_owned()),
        description: Some("Does good".to_owned()),
        rust_version: Some("1.95.0".to_owned()),
        manifest: "[package]\nname = \"good\"\n\n[lints]\nworkspace = true\n\n[dependencies]\n".to_owned(),
        library: Some("//! Good.\n\n#![forbid(unsafe_code)]\n".to_owned()),
    }
}

#[test]
fn a_member_that_says_everything_is_no_violation() {
    assert_none(&violations(&good()));
    let program = Member {
        library: None,
        ..good()
    };
    assert_none(&violations(&program));
}

#[test]
fn each_thing_that_a_member_lacks_is_caught() {
    let lacking = [
        (
            "licence",
            Member {
                licence: None,
                ..good()
            },
        ),
        (
            "description",
            Member {
                description: Some(" ".to_owned()),
                ..good()
            },
        ),
        (
            "rust-version",
            Member {
                rust_version: None,
                ..good()
            },
        ),
        (
            "lints",
            Member {
                manifest: "[package]\nname = \"good\"\n".to_owned(),
                ..good()
            },
        ),
        (
            "lints",
            Member {
                manifest: "[lints]\n[lints.rust]\nworkspace = true\n".to_owned(),
                ..good()
            },
        ),
        (
            "unsafe_code",
            Member {
                library: Some("// #![forbid(unsafe_code)]\n".to_owned()),
                ..good()
            },
        ),
        (
            "unsafe_code",
            Member {
                library: Some("#![deny(unsafe_code)]\n".to_owned()),
                ..good()
            },
        ),
    ];
    for (what, member) in lacking {
        let found = violations(&member);
        assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
    }
}
