//! Packed batches, and what is to be predicted in them.
//!
//! ```text
//! masked    [CLS] the cap ##ital [MASK] [MASK] is [SEP]     targets: the tokens of the words chosen, at their rows
//! causal    the capital of France is Paris <end>            targets: the next token, at every row but the last
//! ```
//! Whole-word masking (BERT, 2019 release): words are chosen, not tokens, so that no piece of a word gives the rest away. Of
//! a row's words the share `masked` is chosen, at least one; the fraction that is left over decides by chance. A chosen
//! word is hidden by mask tokens (80 %), replaced token by token by random ones (10 %), or left as it is (10 %): the whole
//! word together.

use super::rows::Row;
use crate::data::{Encoded, Token, pack};
use crate::ops::Layout;
use crate::rng::Rng;

/// A batch for the model.
pub(super) struct Batch {
    pub(super) layout: Layout,
    /// The token that each answer row of the layout should predict.
    pub(super) targets: Vec<u32>,
}

/// What a model learns to predict.
pub(super) enum Goal {
    /// Masked words.
    Masked(Masking),
    /// The next token.
    Causal,
}

impl Goal {
    /// A batch of rows.
    pub(super) fn batch<'a>(&self, rows: impl IntoIterator<Item = &'a Row>, rng: &mut Rng) -> Batch {
        match self {
            Goal::Masked(masking) => masking.batch(rows, rng),
            Goal::Causal => causal(rows),
        }
    }
}

/// How words are hidden from a masked model.
pub(super) struct Masking {
    /// The share of the words.
    pub(super) share: f64,
    /// The mask token.
    pub(super) mask: u32,
    /// Tokens that may stand in for others: all but the special ones.
    pub(super) ordinary: Vec<u32>,
}

impl Masking {
    /// A batch of rows with words masked.
    fn batch<'a>(&self, rows: impl IntoIterator<Item = &'a Row>, rng: &mut Rng) -> Batch {
        let mut targets = Vec::new();
        let masked: Vec<Encoded> = rows.into_iter().map(|row| self.mask(row, rng, &mut targets)).collect();
        Batch { layout: pack(&masked), targets }
    }

    fn mask(&self, row: &Row, rng: &mut Rng, targets: &mut Vec<u32>) -> Encoded {
        let mut words: Vec<usize> = (0..row.words.len()).collect();
        rng.shuffle(&mut words);
        words.truncate(count(self.share, words.len(), rng));
        words.sort_unstable();
        let (mut ids, mut answers) = (row.ids.clone(), Vec::new());
        for word in words {
            let tokens = row.words[word].start as usize..row.words[word].end as usize;
            answers.extend(tokens.clone());
            targets.extend_from_slice(&row.ids[tokens.clone()]);
            match rng.below(10) {
                0..8 => ids[tokens].fill(self.mask),
                8 => ids[tokens].fill_with(|| self.ordinary[rng.below(self.ordinary.len())]),
                _ => {}
            }
        }
        encoded(&ids, answers)
    }
}

/// A batch in which every row of the causal model predicts the next token of its text.
fn causal<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Batch {
    let (mut targets, mut examples) = (Vec::new(), Vec::new());
    for row in rows {
        targets.extend_from_slice(&row.ids[1..]);
        examples.push(encoded(&row.ids, (0..row.ids.len() - 1).collect()));
    }
    Batch { layout: pack(&examples), targets }
}

fn encoded(ids: &[u32], answers: Vec<usize>) -> Encoded {
    let row = Encoded::row(ids.iter().map(|id| Token::Id(*id)).collect(), 0);
    Encoded { answers, ..row }
}

/// How many of `words` are chosen: on average their share, but at least one.
fn count(share: f64, words: usize, rng: &mut Rng) -> usize {
    const STEPS: usize = 1 << 24;
    let wanted = share * words as f64;
    let whole = wanted as usize;
    let one_more = (rng.below(STEPS) as f64) < (wanted - whole as f64) * STEPS as f64;
    (whole + usize::from(one_more)).clamp(1, words.max(1))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // a row of one word
mod tests {
    use super::*;
    use crate::rng::Purpose;

    const MASK: u32 = 4;

    /// Words of one, two and three tokens; every token has a number of its own.
    fn row() -> Row {
        Row { ids: (10..20).collect(), words: vec![1..2, 2..4, 4..7, 7..9] }
    }

    #[test]
    fn whole_words_are_masked_and_the_shares_are_right() {
        let masking = Masking { share: 0.3, mask: MASK, ordinary: (100..200).collect() };
        let (mut rng, row) = (Rng::new(1, Purpose::Masking(0)), row());
        let (mut chosen, mut masked, mut random, mut kept) = (0, 0, 0, 0);
        for _ in 0..4000 {
            let Batch { layout, targets } = masking.batch([&row], &mut rng);
            assert_eq!(layout.targets.iter().map(|&at| row.ids[at as usize]).collect::<Vec<_>>(), targets);
            for word in &row.words {
                let at = word.start as usize..word.end as usize;
                let is_target: Vec<bool> = word.clone().map(|token| layout.targets.contains(&token)).collect();
                assert!(is_target.iter().all(|is| *is == is_target[0]), "a part of the word {word:?}");
                let seen = &layout.ids[at.clone()];
                if !is_target[0] {
                    assert_eq!(seen, &row.ids[at]);
                    continue;
                }
                chosen += 1;
                masked += usize::from(seen.iter().all(|id| *id == MASK));
                random += usize::from(seen.iter().all(|id| *id >= 100));
                kept += usize::from(seen == &row.ids[at]);
            }
        }
        assert_eq!(masked + random + kept, chosen, "a word is masked, replaced or kept as a whole");
        let share = |count: usize, of: usize| count as f64 / of as f64;
        assert!((share(chosen, 4000) - 1.2).abs() < 0.05, "{chosen} of 16000 words");
        for (count, expected) in [(masked, 0.8), (random, 0.1), (kept, 0.1)] {
            assert!((share(count, chosen) - expected).abs() < 0.03, "{count} of {chosen}");
        }
    }

    #[test]
    fn one_word_is_masked_where_the_share_says_less() {
        let masking = Masking { share: 0.01, mask: MASK, ordinary: vec![100] };
        let mut rng = Rng::new(1, Purpose::Masking(0));
        let row = Row { ids: vec![2, 7, 3], words: vec![1..2] };
        for _ in 0..20 {
            assert_eq!(masking.batch([&row, &row], &mut rng).targets, [7, 7]);
        }
    }

    #[test]
    fn a_causal_row_predicts_the_next_of_its_own_text() {
        let rows = [Row { ids: vec![5, 6, 7], words: Vec::new() }, Row { ids: vec![8, 0], words: Vec::new() }];
        let Batch { layout, targets } = causal(&rows);
        assert_eq!(layout.ids, [5, 6, 7, 8, 0]);
        assert_eq!((layout.targets, targets), (vec![0, 1, 3], vec![6, 7, 0]));
        assert_eq!(layout.positions, [0, 1, 2, 0, 1]);
    }
}
