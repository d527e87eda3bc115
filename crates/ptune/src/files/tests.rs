//! A failed write leaves the old file as it was and no temporary file behind.

use std::fs;
use std::path::Path;

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_write_replaces_the_old_bytes_and_leaves_no_temporary_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    write_atomically(&file, b"old and longer").unwrap();
    write_atomically(&file, b"new").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(names(directory.path()), ["a.toml"]);
}

#[test]
fn a_staged_file_that_is_not_committed_disappears() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    write_atomically(&file, b"old").unwrap();
    drop(StagedFile::write(&file, b"new").unwrap());
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_eq!(names(directory.path()), ["a.toml"]);
}

#[test]
fn a_destination_that_is_a_directory_is_an_error_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let error = write_atomically(&taken, b"new").unwrap_err();
    assert!(matches!(error, Error::Write { .. }) && !error.is_request(), "{error}");
    assert!(taken.is_dir());
    assert_eq!(names(directory.path()), ["taken"], "the temporary file was left behind");
}

#[test]
fn a_missing_directory_is_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gone").join("a.toml");
    assert!(write_atomically(&file, b"new").unwrap_err().to_string().contains("a.toml"));
    create_directory(file.parent().unwrap()).unwrap();
    create_directory(file.parent().unwrap()).unwrap();
    write_atomically(&file, b"new").unwrap();
    assert!(matches!(create_directory(&file), Err(Error::Write { .. })), "a file is in the way");
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a");
    fs::write(&file, "four").unwrap();
    assert_eq!(read_text(&file, 4).unwrap(), "four");
    assert!(read_bytes(&file, 3).unwrap_err().to_string().contains("longer than 3 bytes"));
}

#[test]
fn removing_a_missing_file_is_fine_but_a_directory_is_not() {
    let directory = tempfile::tempdir().unwrap();
    remove_if_present(&directory.path().join("absent")).unwrap();
    assert!(remove_if_present(directory.path()).is_err());
}

/// Names the directory to work in to a test that runs in a child process.
#[cfg(unix)]
const CHILD_DIRECTORY: &str = "PTUNE_TEST_FULL_DISK";

/// Stands in for a full disk: runs the test `name` once more in a child process that may write 4 to 8 KiB to a file,
/// so that a longer write fails half-way. There this returns `directory`'s path; here, once the child has passed, none.
#[cfg(unix)]
pub(crate) fn on_a_full_disk(name: &str, directory: &Path) -> Option<std::path::PathBuf> {
    if let Some(directory) = std::env::var_os(CHILD_DIRECTORY) {
        return Some(directory.into());
    }
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(CHILD_DIRECTORY, directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    None
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_damages_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "old").unwrap();
    if let Some(child) = on_a_full_disk("a_disk_that_fills_up_damages_nothing", directory.path()) {
        let error = write_atomically(&child.join("a"), &vec![1; 1 << 20]).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        return;
    }
    assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"old");
    assert_eq!(names(directory.path()), ["a"], "the temporary file was left behind");
}
