//! Whose work the workspace is built from, and on what terms.

use crate::{assert_none, metadata};

/// Terms that ask for no more than a notice, so that jobq can be shipped under its own.
pub(crate) const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
];

/// Crates that must not come back through a dependency's back door, and why.
pub(crate) const BANNED: &[(&str, &str)] = &[
    (
        "serde_cbor",
        "it is abandoned; ciborium is the codec, and tokio-serde's feature `cbor` stays off",
    ),
    (
        "openssl",
        "TLS is rustls, so that the binary needs no library of the system",
    ),
    (
        "openssl-sys",
        "TLS is rustls, so that the binary needs no library of the system",
    ),
    (
        "native-tls",
        "TLS is rustls, so that the binary needs no library of the system",
    ),
    (
        "aws-lc-rs",
        "it needs cmake and a C compiler's whole tool chain; rustls has ring",
    ),
    (
        "bincode",
        "it is unmaintained, and a format that other languages cannot read",
    ),
    ("async-std", "it is discontinued; the runtime is tokio"),
];

/// A package as far as this is concerned.
struct Package {
    name: String,
    licence: Option<String>,
}

fn licence_violations(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter_map(|Package { name, licence }| match licence {
            None => Some(format!("{name} names no licence")),
            Some(expression) => match is_allowed(expression, ALLOWED) {
                Ok(true) => None,
                Ok(false) => Some(format!(
                    "{name} is licensed {expression:?}, and the allowed licences are {}",
                    ALLOWED.join(", ")
                )),
                Err(error) => Some(format!("{name} is licensed {expression:?}: {error}")),
            },
        })
        .collect()
}

fn banned_violations(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter_map(|package| {
            let (name, why) = BANNED.iter().find(|(name, _)| *name == package.name)?;
            Some(format!(
                "{name} is banned: {why}. `cargo tree -i {name}` shows who brings it"
            ))
        })
        .collect()
}

/// Whether a licence expression can be met with the allowed licences alone.
///
/// `AND` binds closer than `OR`; the old `/` means `OR`. A licence `WITH` an exception is one term.
fn is_allowed(expression: &str, allowed: &[&str]) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let result = any_of(&mut rest, allowed)?;
    match rest.first() {
        None => Ok(result),
        Some(token) => Err(format!("{token:?} is not expected there")),
    }
}

fn any_of(rest: &mut &[&str], allowed: &[&str]) -> Result<bool, String> {
    let mut result = all_of(rest, allowed)?;
    while next_is(rest, "OR") {
        result |= all_of(rest, allowed)?;
    }
    Ok(result)
}

fn all_of(rest: &mut &[&str], allowed: &[&str]) -> Result<bool, String> {
    let mut result = one(rest, allowed)?;
    while next_is(rest, "AND") {
        result &= one(rest, allowed)?;
    }
    Ok(result)
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> Result<bool, String> {
    if next_is(rest, "(") {
        let result = any_of(rest, allowed)?;
        return if next_is(rest, ")") {
            Ok(result)
        } else {
            Err("a parenthesis is not closed".to_owned())
        };
    }
    let licence = term(rest)?;
    if next_is(rest, "WITH") {
        let exception = term(rest)?;
        return Ok(allowed.contains(&format!("{licence} WITH {exception}").as_str()));
    }
    Ok(allowed.contains(&licence))
}

fn term<'a>(rest: &mut &[&'a str]) -> Result<&'a str, String> {
    match rest.split_first() {
        Some((token, tail)) if !["AND", "OR", "WITH", "(", ")"].contains(token) => {
            *rest = tail;
            Ok(token)
        }
        Some((token, _)) => Err(format!("{token:?} stands where a licence is expected")),
        None => Err("it ends where a licence is expected".to_owned()),
    }
}

fn next_is(rest: &mut &[&str], token: &str) -> bool {
    let is = rest.first() == Some(&token);
    if is {
        *rest = &rest[1..];
    }
    is
}

fn packages() -> Vec<Package> {
    let packages = metadata().packages;
    assert!(packages.len() > 50, "only {} packages were found", packages.len());
    packages
        .into_iter()
        .map(|package| Package {
            name: package.name.to_string(),
            licence: package.license,
        })
        .collect()
}

#[test]
fn the_workspace_is_built_from_crates_with_allowed_licences() {
    assert_none(&licence_violations(&packages()));
}

#[test]
fn the_workspace_has_no_banned_crate() {
    assert_none(&banned_violations(&packages()));
}

fn package(name: &str, licence: Option<&str>) -> Package {
    Package {
        name: name.to_owned(),
        licence: licence.map(str::to_owned),
    }
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("GPL-3.0-only/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("GPL-3.0-only AND MIT OR Zlib", true),
        ("Zlib OR MIT AND GPL-3.0-only", true),
        ("(Zlib OR MIT) AND GPL-3.0-only", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH Strange-exception", false),
    ] {
        assert_eq!(is_allowed(expression, ALLOWED), Ok(expected), "{expression}");
    }
    for broken in [
        "",
        "MIT OR",
        "(MIT",
        "MIT)",
        "MIT Apache-2.0",
        "AND MIT",
        "MIT WITH",
    ] {
        assert!(is_allowed(broken, ALLOWED).is_err(), "{broken:?}");
    }
}

#[test]
fn a_licence_that_is_not_allowed_or_missing_is_caught() {
    let found = licence_violations(&[
        package("fine", Some("MIT")),
        package("viral", Some("AGPL-3.0-only")),
        package("silent", None),
        package("garbled", Some("MIT AND")),
    ]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("viral is licensed"), "{found:?}");
    assert_eq!(found[1], "silent names no licence");
    assert!(found[2].contains("ends where a licence is expected"), "{found:?}");
}

#[test]
fn each_banned_crate_is_caught_with_the_reason() {
    for (name, why) in BANNED {
        let found = banned_violations(&[package("fine", Some("MIT")), package(name, Some("MIT"))]);
        assert!(found.len() == 1 && found[0].contains(why), "{name}: {found:?}");
    }
}
