//! Names, the order of the environment variables, refs and commits, and what is said when a model is not there.

use std::fs;

use tempfile::TempDir;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba98";

fn parse(text: &str) -> Option<(String, Option<String>)> {
    HubName::parse(Path::new(text)).map(|name| (name.model, name.revision))
}

#[test]
fn names_are_one_or_two_parts_and_lead_nowhere_else() {
    let named = |model: &str, revision: Option<&str>| Some((model.to_owned(), revision.map(str::to_owned)));
    assert_eq!(parse("bert-base-cased"), named("bert-base-cased", None));
    assert_eq!(parse("klue/roberta-base"), named("klue/roberta-base", None));
    assert_eq!(parse("a/b.c_d@v1.0"), named("a/b.c_d", Some("v1.0")));
    assert_eq!(parse("a/b@refs/pr/3"), named("a/b", Some("refs/pr/3")));
    for text in
        ["", "/", "/a", "a/", "a/b/c", "../a", "a/..", "./a", "a--b", "a..b", "-a", "a.", "a b", "모델", "a@", "@a"]
    {
        assert_eq!(parse(text), None, "{text}");
    }
    for text in ["a@../../etc", "a@/etc", "a@b/../c", "a@b@c", "a@b//c"] {
        assert_eq!(parse(text), None, "{text}");
    }
    assert_eq!(parse(&"a".repeat(97)), None);
}

/// The cache's place with these variables set.
fn cache(variables: &[(&str, &str)]) -> Option<PathBuf> {
    let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    cache_directory(find)
}

#[test]
fn the_environment_decides_in_the_order_of_the_python_library() {
    let mut variables = vec![
        ("HF_HUB_CACHE", "/1"),
        ("HUGGINGFACE_HUB_CACHE", "/2"),
        ("HF_HOME", "/3"),
        ("XDG_CACHE_HOME", "/4"),
        ("HOME", "/5"),
    ];
    for place in ["/1", "/2", "/3/hub", "/4/huggingface/hub", "/5/.cache/huggingface/hub"] {
        assert_eq!(cache(&variables), Some(place.into()));
        variables.remove(0);
    }
    assert_eq!(cache(&[]), None);
    assert_eq!(
        cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "~/hf"), ("HOME", "/home/kim")]),
        Some("/home/kim/hf/hub".into())
    );
    assert_eq!(cache(&[("HF_HUB_CACHE", "~/c"), ("HOME", "")]), None);
}

/// A cache with two snapshots of `klue/roberta-base`, `main` and `pr/1` being the first.
fn filled() -> TempDir {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--klue--roberta-base");
    for commit in [COMMIT, OTHER] {
        fs::create_dir_all(model.join("snapshots").join(commit)).unwrap();
        fs::write(model.join("snapshots").join(commit).join("config.json"), "{}").unwrap();
    }
    fs::create_dir_all(model.join("refs/pr")).unwrap();
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    fs::write(model.join("refs/pr/1"), format!("{COMMIT}\n")).unwrap();
    cache
}

fn located(cache: &TempDir, name: &str) -> Result<PathBuf> {
    let beside = tempfile::tempdir().unwrap();
    locate_in(Some(cache.path()), Path::new(name), beside.path())
}

#[track_caller]
fn assert_says(cache: &TempDir, name: &str, parts: &[&str]) {
    let error = located(cache, name).unwrap_err();
    assert!(error.is_request());
    for part in parts {
        assert!(error.to_string().contains(part), "'{part}' is not in: {error}");
    }
}

#[test]
fn a_revision_is_a_ref_or_a_commit() {
    let cache = filled();
    let snapshot = |commit| cache.path().join("models--klue--roberta-base/snapshots").join(commit);
    for (name, commit) in [("", COMMIT), ("@main", COMMIT), ("@pr/1", COMMIT), (&format!("@{OTHER}"), OTHER)] {
        assert_eq!(located(&cache, &format!("klue/roberta-base{name}")).unwrap(), snapshot(commit));
    }
    assert_eq!(name_of(&snapshot(OTHER)), format!("klue/roberta-base@{OTHER}"));
    assert_eq!(name_of(Path::new("/models/tiny")), "tiny");
    assert_eq!(name_of(Path::new("/models--a/snapshot/b")), "b");
}

#[test]
fn a_directory_goes_before_the_cache() {
    let (cache, beside) = (filled(), tempfile::tempdir().unwrap());
    let directory = beside.path().join("klue/roberta-base");
    fs::create_dir_all(&directory).unwrap();
    let name = Path::new("klue/roberta-base");
    assert!(!is_name(name, beside.path()));
    assert_eq!(locate_in(Some(cache.path()), name, beside.path()).unwrap(), directory);
    fs::remove_dir(&directory).unwrap();
    assert!(is_name(name, beside.path()));
    assert!(locate_in(Some(cache.path()), name, beside.path()).unwrap().starts_with(cache.path()));
}

#[test]
fn what_is_not_there_is_said_with_where_and_how_to_get_it() {
    let cache = filled();
    let place = cache.path().to_str().unwrap();
    assert_says(&cache, "klue/other", &["klue/other: there is no such directory", place, "hf download klue/other"]);
    assert_says(&cache, "a/b/c", &["a/b/c: there is no such directory"]);
    let parts =
        ["models--klue--roberta-base", "no revision 'v2'", "hf download klue/roberta-base --revision v2", OTHER];
    assert_says(&cache, "klue/roberta-base@v2", &parts);

    let model = cache.path().join("models--klue--roberta-base");
    fs::remove_file(model.join("snapshots").join(OTHER).join("config.json")).unwrap();
    assert_says(&cache, &format!("klue/roberta-base@{OTHER}"), &["is not complete", "config.json", "hf download"]);
    fs::remove_file(model.join("refs/main")).unwrap();
    assert_says(&cache, "klue/roberta-base", &["no revision 'main'", &format!("klue/roberta-base@{COMMIT}")]);
}

#[test]
fn threat_a_ref_that_leads_out_of_the_cache() {
    let cache = filled();
    for content in ["../../../secret", "/etc", "", "\0", &"0".repeat(1 << 20)] {
        fs::write(cache.path().join("models--klue--roberta-base/refs/main"), content).unwrap();
        assert_says(&cache, "klue/roberta-base", &["refs/main"]);
    }
}
