//! `report.html`: a run on one page that needs nothing else, not even a network.
//!
//! | file | part |
//! |---|---|
//! | `page.rs` | what stands on the page, from the facts of `inspect` |
//! | `chart.rs`, `chart.html` | curves as SVG geometry, and how they are drawn; the report of a demo draws its own with them |
//! | `nearest.html` | the words near each pseudo token, here and in the report of a demo |
//! | `page.html`, `style.css` | how it looks |
//!
//! `page.html` is a minijinja template in which every value is escaped: labels, words, texts and file names come from
//! outside. The page has no script. Times, speed and memory are its only contents that another run would not repeat.

pub(crate) mod chart;
mod page;
mod written;

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};

use crate::inspect::RunFacts;
use crate::{Error, Result, files};
use page::Page;
use serde::Serialize;
pub use written::grouped;
pub(crate) use written::{bytes, seconds};

/// The file's name in the run directory.
pub const FILE: &str = "report.html";

/// Writes the report of the run in `directory`, finished or not, and returns its path. `peak_rss_mb` is what the files
/// of a run do not tell: the most memory that the process held, in MB.
///
/// # Errors
/// As [`RunFacts::read`]; a failed write.
pub fn write(directory: &Path, peak_rss_mb: Option<u64>) -> Result<PathBuf> {
    let facts = RunFacts::read(directory, None)?;
    let page = render(include_str!("page.html"), &Page::new(&facts, peak_rss_mb)?)?;
    let file = directory.join(FILE);
    files::write_atomically(&file, page.as_bytes())?;
    Ok(file)
}

/// A page from its template, which has `style.css` to include and the macros of `chart.html` and `nearest.html`.
pub(crate) fn render(template: &str, page: &impl Serialize) -> Result<String> {
    let failed = |wrong: minijinja::Error| Error::Failed(format!("the report cannot be written: {wrong:#}"));
    let mut environment = Environment::new();
    // A line of the template that holds only a tag leaves no line on the page.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|name| if name == "style.css" { AutoEscape::None } else { AutoEscape::Html });
    environment.add_template("style.css", include_str!("style.css")).map_err(failed)?;
    environment.add_template("chart.html", include_str!("chart.html")).map_err(failed)?;
    environment.add_template("nearest.html", include_str!("nearest.html")).map_err(failed)?;
    environment.add_template("page.html", template).map_err(failed)?;
    environment.get_template("page.html").and_then(|template| template.render(Serde(page))).map_err(failed)
}

#[cfg(test)]
mod tests;
