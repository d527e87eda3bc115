//! `ptune demo` beside its work, which the tests of the library and of the command's file do in a small form.

use crate::scene::Scene;

#[test]
fn a_directory_with_something_else_is_refused_before_any_work() {
    let scene = Scene::new();
    let said = scene.run(&["demo", "--out", "model"]);
    assert_eq!((said.status, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("something else than an earlier demo") && said.err.contains("--out"), "{}", said.err);
    assert!(!scene.path("model/report.html").exists());
    let said = scene.run(&["demo", "--out", "run.toml"]);
    assert_eq!(said.status, Some(2));
    assert!(said.err.contains("run.toml: is a file"), "{}", said.err);
}
