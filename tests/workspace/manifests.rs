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
    /// What its readers find, if it is published.
    published: Option<Published>,
}

#[derive(Clone)]
struct Published {
    /// The text of its README.
    readme: Option<String>,
    documentation: Option<String>,
    /// Its folder has the texts of both licences.
    licences: bool,
}

fn violations(member: &Member) -> Vec<String> {
    let forbids_unsafe = |source: &String| {
        source
            .lines()
            .any(|line| line.trim() == "#![forbid(unsafe_code)]")
    };
    let published = |kept: fn(&Published) -> bool| member.published.as_ref().is_none_or(kept);
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
        (
            published(|it| it.readme.as_ref().is_some_and(|text| !text.contains("](../"))),
            "is published and has no README, or one with links that lead out of the package: write `readme`",
        ),
        (
            published(|it| it.documentation.is_some()),
            "is published and does not say where its documentation is: write `documentation`",
        ),
        (
            published(|it| it.licences),
            "is published without the texts of its licences: link LICENSE-MIT and LICENSE-APACHE into its folder",
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
            // None is everywhere, an empty list nowhere.
            published: package.publish.is_none().then(|| published(package)),
        })
        .collect()
}

fn published(package: &cargo_metadata::Package) -> Published {
    let folder = package.manifest_path.parent().expect("a manifest is in a folder");
    let is_there = |name: &str| folder.join(name).exists();
    Published {
        readme: package
            .readme()
            .and_then(|path| std::fs::read_to_string(path).ok()),
        documentation: package.documentation.clone(),
        licences: ["LICENSE-MIT", "LICENSE-APACHE"]
            .iter()
            .all(|name| is_there(name)),
    }
}

#[test]
fn the_workspace_members_say_what_they_must() {
    let members = members();
    assert!(
        members.iter().filter(|member| member.library.is_some()).count() >= 5,
        "libraries were not found"
    );
    assert!(
        members.iter().filter(|member| member.published.is_some()).count() >= 6,
        "published crates were not found"
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
        published: Some(Published {
            readme: Some("# good\n".to_owned()),
            documentation: Some("https://docs.rs/good".to_owned()),
            licences: true,
        }),
    }
}

#[test]
fn a_member_that_says_everything_is_no_violation() {
    assert_none(&violations(&good()));
    let program = Member {
        library: None,
        published: None,
        ..good()
    };
    assert_none(&violations(&program));
}

/// A good member but for what `change` does.
fn with(change: impl FnOnce(&mut Published)) -> Member {
    let mut member = good();
    change(member.published.as_mut().expect("a good member is published"));
    member
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
        (
            "README",
            with(|published| published.readme = Some("see [more](../more.md)".to_owned())),
        ),
        ("README", with(|published| published.readme = None)),
        ("documentation", with(|published| published.documentation = None)),
        ("licences", with(|published| published.licences = false)),
    ];
    for (what, member) in lacking {
        let found = violations(&member);
        assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
    }
}
