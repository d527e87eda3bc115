//! The page as a whole: what comes from outside is text on it, and it needs nothing from outside.

use super::*;
use crate::Device;
use crate::train::{self, RunConfig};

/// Trains a small model for four steps on rows and labels as hostile as can be, and returns the page.
fn page(dev: bool) -> String {
    let directory = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lstm_verbalizer/model");
    let row = |label: &str| serde_json::json!({"te</p>xt": "<img src=x onerror=alert(1)> 'the' \"cat\" & 고양이", "label": label});
    let rows = format!("{}\n{}\n", row("<script>alert(1)</script>"), row("좋음 \"&\""));
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    file("rows.jsonl", &rows);
    let dev = if dev { "dev = \"rows.jsonl\"\n" } else { "" };
    let run = format!(
        "model = {model:?}\n[data]\ntrain = \"rows.jsonl\"\n{dev}test = \"rows.jsonl\"\n[task]\n\
         template = \"[P*2] <b>{{te</p>xt|shorten}}</b> 이것은 [MASK] .\"\n[task.verbalizer]\n\
         '<script>alert(1)</script>' = [\"yes\"]\n'좋음 \"&\"' = [\"no\"]\n[train]\nsteps = 4\nbatch_size = 1\neval_every = 1\n"
    );
    file("run.toml", &run);
    let run = directory.path().join("run.toml");
    let out = directory.path().join("<i>out");
    let config = RunConfig::read(&run, &[]).unwrap();
    train::run(&config, &run, &out, &Device::processor(Some(1)), &mut |_| {}).unwrap();
    let written = write(&out, Some(12345)).unwrap();
    assert_eq!(written, out.join(FILE));
    std::fs::read_to_string(written).unwrap()
}

/// The names of the tags in order of opening; panics where one is not closed in its place.
fn tags(page: &str) -> Vec<String> {
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    let body = &page[page.find("</style>").unwrap() + "</style>".len()..];
    for (at, _) in body.match_indices('<') {
        let tag = &body[at + 1..at + body[at..].find('>').unwrap()];
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        if tag.starts_with('/') {
            if !["head", "html"].contains(&name.as_str()) {
                assert_eq!(open.pop().as_ref(), Some(&name), "{}", &body[..at + 20]);
            }
            continue;
        }
        seen.push(name.clone());
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    seen
}

#[test]
fn what_comes_from_outside_is_text() {
    let page = page(true);
    let known = [
        "body",
        "main",
        "header",
        "p",
        "h1",
        "h2",
        "h3",
        "span",
        "section",
        "div",
        "strong",
        "small",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
        "svg",
        "line",
        "text",
        "polyline",
        "circle",
        "title",
        "code",
        "b",
        "details",
        "summary",
        "pre",
        "footer",
    ];
    for tag in tags(&page) {
        assert!(known.contains(&tag.as_str()), "a strange tag <{tag}>");
    }
    for text in ["&lt;script&gt;alert(1)", "&lt;b&gt;", "&lt;i&gt;out", "좋음", "이것은"] {
        assert!(page.contains(text), "{text} is not on the page");
    }
    for text in ["<script", "<img", "<i>", "onerror=\""] {
        assert!(!page.contains(text), "{text}");
    }
}

#[test]
fn it_needs_nothing_else() {
    let page = page(true);
    for outside in ["http:", "https:", "src=\"", "href=", "url(", "@import", "<link", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_run_shows_its_results_and_curves() {
    let whole = page(true);
    for text in
        ["Accuracy on dev", "Training loss", "Learning rate", "12,345 MB", "majority 50.0 %", "P2", "nearest words"]
    {
        assert!(whole.contains(text), "{text}");
    }
    assert_eq!(tags(&whole).iter().filter(|tag| *tag == "svg").count(), 3);
    assert!(!whole.contains("has not come to its end"));
    // Without dev there is no curve of it, and nothing is said to be the best.
    let blind = page(false);
    assert_eq!(tags(&blind).iter().filter(|tag| *tag == "svg").count(), 2);
    assert!(blind.contains("Without dev examples") && !blind.contains("on dev</figcaption>"));
}

/// Two pages of one run differ in times, speed and memory alone.
#[test]
fn the_page_is_the_same_again_but_for_times() {
    let without_times = |page: String| {
        let lines =
            page.lines().filter(|line| !["Time", "examples/s", "/tmp"].iter().any(|timed| line.contains(timed)));
        lines
            .filter(|line| !line.starts_with("  <pre>") && !line.contains(".jsonl"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(without_times(page(true)), without_times(page(true)));
}
