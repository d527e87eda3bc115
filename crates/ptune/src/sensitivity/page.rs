//! `sensitivity.html`: every prompt on a line from 0 to 100 %, before and after. The picture is that of a demo's report
//! (`report/chart.html`).

use serde::Serialize;

use super::{Sensitivity, Spread};
use crate::Result;
use crate::report::chart::Track;
use crate::report::render as render_page;
use crate::train::config::RunConfig;

#[derive(Serialize)]
struct Page {
    version: &'static str,
    model: String,
    metric: &'static str,
    rows: &'static str,
    examples: usize,
    majority: String,
    tuned: bool,
    prompts: Vec<Line>,
    spreads: Vec<(&'static str, [String; 4])>,
}

#[derive(Serialize)]
struct Line {
    template: String,
    edit: Option<String>,
    track: Track,
}

pub(super) fn render(found: &Sensitivity, config: &RunConfig) -> Result<String> {
    let name = config.model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let line = |prompt: &super::Scored| Line {
        template: prompt.template.clone(),
        edit: prompt.edit.map(|kind| format!("{kind}: {}", prompt.what.as_deref().unwrap_or_default())),
        track: Track::new(prompt.untrained, prompt.tuned.unwrap_or(prompt.untrained)),
    };
    let spread = |name, spread: &Spread| {
        let deviation = spread.deviation.map_or("–".into(), percent);
        (name, [percent(spread.best), percent(spread.worst), percent(spread.mean), deviation])
    };
    let mut spreads = vec![spread("as written", &found.untrained)];
    spreads.extend(found.tuned.as_ref().map(|tuned| spread("after P-tuning", tuned)));
    let page = Page {
        version: env!("CARGO_PKG_VERSION"),
        model: name,
        metric: found.metric,
        rows: found.rows,
        examples: found.examples,
        majority: percent(found.majority),
        tuned: found.tuned.is_some(),
        prompts: found.prompts.iter().map(line).collect(),
        spreads,
    };
    render_page(include_str!("page.html"), &page)
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}
