//! The lock of a data directory.

use std::os::unix::fs::PermissionsExt;

use jobq_server::DataDir;
use jobq_server::store::StoreError;

#[test]
fn a_second_server_is_told_who_has_the_directory() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("not/there/yet");
    let first = DataDir::lock(&path).unwrap();
    assert_eq!(first.path(), path);
    let Err(StoreError::Locked { holder, .. }) = DataDir::lock(&path) else {
        panic!("the directory is locked");
    };
    let expected = format!("process {} since 20", std::process::id());
    assert!(holder.starts_with(&expected), "{holder}");
    drop(first);
    DataDir::lock(&path).unwrap();
}

#[test]
fn a_new_directory_is_its_owners_alone() {
    let parent = tempfile::tempdir().unwrap();
    let directory = DataDir::lock(parent.path().join("data")).unwrap();
    let mode = std::fs::metadata(directory.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_path_that_can_be_no_directory_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DataDir::lock(file.path().join("data")).unwrap_err();
    assert!(
        matches!(&error, StoreError::Directory { path, .. } if path.starts_with(file.path())),
        "{error}"
    );
}
