//! The entry points of `entry.rs` under proptest: seeds of good files, damaged in the ways that files from outside are.
//!
//! The same functions run for hours under libFuzzer (`fuzz/README.md`); here they get a few hundred inputs each, always
//! the same ones. `files/` beside this file holds whole hostile files, one folder a threat; their tests run the binary
//! (`crates/ptune-cli/tests/it/hostile.rs`).

#[allow(unreachable_pub)] // the fuzz targets call them from another crate
mod entry;
mod mutate;

use std::fs;
use std::path::Path;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use entry::ENTRIES;
use mutate::{Edit, mutated};

/// The tests of the library: fixtures and golden models.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

const CASES: u32 = 400;

/// The good files of an entry point, by name.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(TESTS).join("hostile/seeds").join(name);
    let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs one entry point over its seeds and mutations of them.
fn survives(name: &str) {
    let (_, entry) = ENTRIES.iter().find(|(known, _)| *known == name).expect("an entry point");
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| entry(seed));
    let config = Config { cases: CASES, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() };
    let inputs = mutated(seeds);
    let outcome = TestRunner::new(config).run(&inputs, |bytes| {
        entry(&bytes);
        Ok::<(), TestCaseError>(())
    });
    if let Err(found) = outcome {
        panic!("{name}: {found}");
    }
}

macro_rules! survives {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            survives($name);
        })*

        #[test]
        fn every_entry_point_has_a_test_and_seeds() {
            let mut tested = vec![$($name),*];
            tested.sort_unstable();
            let mut known: Vec<_> = ENTRIES.iter().map(|(name, _)| *name).collect();
            known.sort_unstable();
            assert_eq!(tested, known);
            known.iter().for_each(|name| assert!(seeds(name).len() > 1, "{name} has no seeds"));
        }
    };
}

survives! {
    weights_survive_damage: "weights";
    configs_survive_damage: "config";
    tokenizers_survive_damage: "tokenizer";
    templates_survive_damage: "template";
    run_files_survive_damage: "run_file";
    adapters_survive_damage: "adapter";
    data_survive_damage: "data";
    vocabularies_survive_damage: "vocabulary";
    run_logs_survive_damage: "run_log";
}

/// Configurations that never fit would leave the loader untested.
#[test]
fn the_configurations_of_the_seeds_are_those_of_whole_models() {
    seeds("config").iter().for_each(|seed| assert!(entry::fits(seed), "{}", String::from_utf8_lossy(seed)));
}

#[test]
fn every_entry_point_has_a_fuzz_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in ENTRIES {
        let target = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).expect(name);
        assert!(target.contains(&format!("entry::{name}(")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
    }
}

/// A mutation that changed nothing would test nothing.
#[test]
fn every_kind_of_damage_changes_a_file() {
    let good = &seeds("adapter")[0];
    for edit in Edit::one_of_each() {
        let mut bytes = good.clone();
        edit.apply(&mut bytes, good);
        assert!(bytes != *good, "{edit:?} changed nothing");
    }
}
