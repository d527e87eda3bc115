//! Bundles keep every adapter's bytes whatever happens to the others, and tell damage by the adapter's name.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::adapter::tests::{classifier, manual, probe};

/// Three adapters, `a`, `나` and `c`, and their bundle.
struct Scene {
    directory: TempDir,
}

const NAMES: [&str; 3] = ["a", "c", "나"];

fn golden() -> Vec<Golden> {
    vec![Golden { fields: vec![("text".into(), "비".into())], scores: vec![(0, 0.1), (1, -1e-30)] }]
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene { directory: TempDir::new().unwrap() };
        for (name, adapter) in NAMES.iter().zip([classifier(), probe(), manual()]) {
            adapter.save(&scene.path(name)).unwrap();
            Bundle::add(&scene.bundle(), name, &scene.path(name), golden(), false).unwrap();
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bundle(&self) -> PathBuf {
        self.path("tasks.ptune")
    }

    fn open(&self) -> Bundle {
        Bundle::open(&self.bundle()).unwrap()
    }
}

fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

fn hashes(bundle: &Bundle) -> Vec<(String, String)> {
    bundle.entries().iter().map(|entry| (entry.name.clone(), entry.sha256())).collect()
}

#[test]
fn what_goes_in_comes_out_byte_for_byte() {
    let scene = Scene::new();
    let bundle = scene.open();
    let names: Vec<&str> = bundle.entries().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, NAMES);
    for entry in bundle.entries() {
        bundle.check(&entry.name).unwrap();
        assert_eq!(entry.golden, golden());
        let out = scene.path("out").join(&entry.name);
        bundle.extract(&entry.name, &out).unwrap();
        assert_eq!(contents(&out), contents(&scene.path(&entry.name)));
        Adapter::load(&out).unwrap();
    }
}

#[test]
fn adding_removing_and_replacing_leave_the_others_as_they_were() {
    let scene = Scene::new();
    let before = hashes(&scene.open());
    let bytes = fs::read(scene.bundle()).unwrap();
    Bundle::add(&scene.bundle(), "b", &scene.path("a"), Vec::new(), false).unwrap();
    assert_eq!(scene.open().entries().len(), 4);
    scene.open().remove(&["b"]).unwrap();
    assert_eq!(fs::read(scene.bundle()).unwrap(), bytes, "the same adapters make the same file");

    let taken = Bundle::add(&scene.bundle(), "c", &scene.path("a"), golden(), false).unwrap_err();
    assert!(taken.to_string().contains("has an adapter 'c' already"), "{taken}");
    Bundle::add(&scene.bundle(), "c", &scene.path("a"), golden(), true).unwrap();
    let after = hashes(&scene.open());
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert_eq!(after[1].1, before[0].1, "the hash is the adapter's, whatever its name");
    scene.open().remove(&NAMES).unwrap();
    assert!(scene.open().entries().is_empty());
}

#[test]
fn every_damaged_byte_is_told_and_never_passed_on() {
    let scene = Scene::new();
    let whole = fs::read(scene.bundle()).unwrap();
    let places = scene.open().places();
    let mut seen = Vec::new();
    for at in (0..whole.len()).step_by(23) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(scene.bundle(), &bytes).unwrap();
        let owner = places.iter().rposition(|place| *place <= at as u64).map(|owner| NAMES[owner]);
        let Some(owner) = owner else {
            let error = Bundle::open(&scene.bundle()).unwrap_err();
            assert!(error.is_request(), "{error}");
            continue;
        };
        let damaged = scene.open();
        for name in NAMES {
            let checked = damaged.check(name);
            assert_eq!(checked.is_err(), name == owner, "byte {at}");
            assert!(
                checked.is_ok() || checked.unwrap_err().to_string().contains(&format!("adapter '{owner}' is damaged"))
            );
        }
        if !seen.contains(&owner) {
            seen.push(owner);
            // Nothing is written with it in, but it can be taken out.
            let refused = Bundle::add(&scene.bundle(), "new", &scene.path("a"), Vec::new(), false).unwrap_err();
            assert!(refused.is_request() && refused.to_string().contains(owner), "{refused}");
            assert!(damaged.extract(owner, &scene.path("damaged")).is_err());
            fs::remove_dir_all(scene.path("damaged")).unwrap();
            assert!(fs::read(scene.bundle()).unwrap() == bytes);
            damaged.remove(&[owner]).unwrap();
            assert_eq!(scene.open().entries().len(), 2);
        }
    }
    assert_eq!(seen, NAMES);
    for length in (0..whole.len()).step_by(61) {
        fs::write(scene.bundle(), &whole[..length]).unwrap();
        assert!(Bundle::open(&scene.bundle()).is_err(), "{length} bytes");
    }
    fs::write(scene.bundle(), [&whole[..], b"x"].concat()).unwrap();
    assert!(Bundle::open(&scene.bundle()).unwrap_err().to_string().contains("appended"));
}

#[test]
fn names_and_files_lead_nowhere_else() {
    let scene = Scene::new();
    for name in ["", ".", "..", "a/b", "a\\b", "a b", "a#b", "-a", "\u{202e}", &"x".repeat(101)] {
        let refused = Bundle::add(&scene.bundle(), name, &scene.path("a"), Vec::new(), true).unwrap_err();
        assert!(refused.is_request(), "{name:?}: {refused}");
    }
    // An index that names a file outside: written with its hash, as only somebody hostile would.
    let mut entry = scene.open().entries()[0].clone();
    entry.files.truncate(1);
    entry.files[0] = Part { name: "../escaped".into(), bytes: 0, sha256: sha256(b"") };
    let text = serde_json::to_vec(&Index { format: FORMAT, adapters: vec![entry] }).unwrap();
    let head = [&MAGIC[..], &(text.len() as u64).to_le_bytes(), &Sha256::digest(&text)].concat();
    fs::write(scene.bundle(), [head, text].concat()).unwrap();
    let refused = Bundle::open(&scene.bundle()).unwrap_err();
    assert!(refused.to_string().contains("no name of a file"), "{refused}");
    let missing = Bundle::open(&scene.path("nobody")).unwrap_err();
    assert!(missing.to_string().contains("is not there"), "{missing}");
    assert!(Bundle::add(&scene.path("new"), "x", &scene.path("nobody"), Vec::new(), false).is_err());
    assert!(!scene.path("new").exists());
}
