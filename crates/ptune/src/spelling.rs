//! "Did you mean ...?": the known names closest to a misspelt one, for error messages.
//!
//! Closeness is the normalised Damerau-Levenshtein similarity (1 for equal names, 0 for nothing in common).

/// Names less alike than this are no help to anybody.
const MINIMUM_SIMILARITY: f64 = 0.5;
/// A longer candidate comes from a hostile file; comparing it would only take time.
const LONGEST_NAME: usize = 256;

/// Up to `count` of `known`, those most like `name` first; names equally like it keep their order.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    if name.len() > LONGEST_NAME {
        return Vec::new();
    }
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST_NAME)
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= MINIMUM_SIMILARITY)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(count).map(|(_, candidate)| candidate).collect()
}

/// `; did you mean 'x'?` for the closest of `known`, or nothing when none is close.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(name, known, 1).first().map(|known| format!("; did you mean '{known}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_comes_first_and_strangers_are_left_out() {
        let known = ["steps", "epochs", "batch_size", "step"];
        assert_eq!(closest("stpes", known, 2), ["steps", "step"]);
        assert_eq!(did_you_mean("batchsize", known), "; did you mean 'batch_size'?");
        assert_eq!(did_you_mean("zzzzzz", known), "");
    }
}
