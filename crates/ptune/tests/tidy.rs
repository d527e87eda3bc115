//! The rules of ARCHITECTURE.md that a machine can check: layers, unsafe files, documentation, lengths.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the library may use, beside itself and [`LOW`]. Data flows one way: never upwards.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("checkpoint", &[]),
    ("prompt", &["checkpoint"]),
    ("model", &["checkpoint"]),
    ("data", &["prompt", "checkpoint"]),
    ("method", &["prompt", "model", "checkpoint"]),
    ("adapter", &["method", "prompt", "model", "checkpoint"]),
    ("generate", &["data", "model", "checkpoint"]),
    ("train", &["generate", "adapter", "method", "data", "prompt", "model", "checkpoint"]),
    ("inspect", &["train", "adapter", "method", "data", "prompt", "model", "checkpoint"]),
    ("report", &["inspect", "train", "adapter", "method", "data", "prompt", "model", "checkpoint"]),
    ("pretrain", &["train", "method", "data", "prompt", "model", "checkpoint"]),
    ("predict", &["generate", "train", "adapter", "method", "data", "prompt", "model", "checkpoint"]),
    ("merge", &["predict", "train", "adapter", "method", "model", "checkpoint"]),
    ("search", &["predict", "train", "adapter", "method", "data", "prompt", "model", "checkpoint"]),
    (
        "sensitivity",
        &["search", "report", "predict", "train", "adapter", "method", "data", "prompt", "model", "checkpoint"],
    ),
    ("exchange", &["predict", "generate", "train", "adapter", "method", "data", "prompt", "model", "checkpoint"]),
    ("world", &[]),
    (
        "demo",
        &[
            "world",
            "pretrain",
            "predict",
            "report",
            "inspect",
            "train",
            "adapter",
            "method",
            "data",
            "prompt",
            "model",
            "checkpoint",
        ],
    ),
];

/// The lowest layer: any module may use these, and they use one another only as listed in [`LOW_MAY_USE`].
const LOW: [&str; 9] = ["error", "files", "keys", "ops", "parameter", "profile", "rng", "spelling", "tensor"];

const LOW_MAY_USE: [(&str, &[&str]); 9] = [
    ("error", &[]),
    ("files", &["error"]),
    ("keys", &["error", "files", "spelling"]),
    ("ops", &["profile", "tensor"]),
    ("parameter", &["tensor"]),
    ("profile", &[]),
    ("rng", &[]),
    ("spelling", &[]),
    ("tensor", &["profile"]),
];

/// The only files of the project that may hold unsafe code: the shells, the pool, and the loops whose bounds are
/// asserted once at their entry.
const UNSAFE_FILES: [&str; 10] = [
    "attention/forward.rs",
    "attention/group.rs",
    "attention/operands.rs",
    "attention/product.rs",
    "context.rs",
    "isa.rs",
    "linear/tile.rs",
    "matmul/tile.rs",
    "pool.rs",
    "simd/x86.rs",
];

const LONGEST_FILE: usize = 600;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(under: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(under).expect("a readable source tree") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The names after `crate::` in code, `{...}` lists one level deep included.
fn used_modules(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split(['}', ',']).collect(),
                None => vec![rest],
            };
            for name in names {
                let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                used.insert(name);
            }
        }
    }
    used
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let source = crates().join("ptune/src");
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let relative = file.strip_prefix(&source).expect("under src");
        let first = relative.components().next().expect("a component").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let rules = MAY_USE.iter().chain(&LOW_MAY_USE).find(|(name, _)| *name == module);
        let Some((_, allowed)) = rules else {
            wrong.push(format!("{}: module {module} has no layer", relative.display()));
            continue;
        };
        let text = fs::read_to_string(&file).expect("a text file");
        for used in used_modules(&text) {
            let is_module = LOW.contains(&used.as_str()) || MAY_USE.iter().any(|(name, _)| *name == used);
            let low_is_fine = !LOW.contains(&module) && LOW.contains(&used.as_str());
            // Names that the crate root re-exports from `error` and `tensor` are lower case nowhere: types.
            if is_module && used != module && !low_is_fine && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses crate::{used}, which lies above or beside it", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_in_the_listed_files() {
    let mut wrong = Vec::new();
    for file in rust_files(&crates()) {
        let path = file.to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).expect("a text file");
        let allows = text.lines().any(|line| line.starts_with("#![allow(") && line.contains("unsafe_code"));
        let kernels = path.split_once("ptune-kernels/src/").map(|(_, rest)| rest);
        let listed = kernels.is_some_and(|rest| UNSAFE_FILES.contains(&rest));
        if allows && !listed {
            wrong.push(path);
        }
    }
    assert!(wrong.is_empty(), "unsafe code is allowed outside the list: {wrong:?}");
}

#[test]
fn every_source_file_says_what_it_is_and_stays_readable() {
    let mut wrong = Vec::new();
    for file in rust_files(&crates()).into_iter().filter(|file| !file.components().any(|c| c.as_os_str() == "target")) {
        let text = fs::read_to_string(&file).expect("a text file");
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not begin with //!", file.display()));
        }
        if text.lines().count() > LONGEST_FILE {
            wrong.push(format!("{} has more than {LONGEST_FILE} lines", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
