//! Small edits of a prompt, made by rule: what a person would not think worth a thought.
//!
//! | edit | what |
//! |---|---|
//! | `drop` | a function word less |
//! | `swap` | a function word in the place of another of its kind |
//! | `insert` | a function word more |
//! | `punctuation` | the mark at the end dropped, added or another |
//! | `case` | the words in small letters, in capitals, or the first letter the other way |
//!
//! Function words are English; of prompts in other languages marks and letters are edited. Fields, `[MASK]` and special tokens stay as
//! they are.

use crate::prompt::template::{PieceKind, Template};

/// Words of one kind, each of which a `swap` may put in the place of another.
const KINDS: [&[&str]; 7] = [
    &["a", "the", "an"],
    &["is", "was", "are"],
    &["in", "at", "on"],
    &["of", "from", "for"],
    &["by", "with", "through"],
    &["which", "what"],
    &["and", "or"],
];
/// What an `insert` puts behind a word of a kind.
const BEHIND: [(&[&str], &str); 3] = [
    (&["is", "was", "are"], "also"),
    (&["in", "at", "on", "of", "from", "by", "for", "with"], "the"),
    (&["which"], "one"),
];
/// Marks that may end a prompt.
const MARKS: [&str; 3] = [".", "?", "!"];

/// An edited prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The kind of edit.
    pub kind: &'static str,
    /// What was done: `'in' for 'at'`.
    pub what: String,
    /// The prompt.
    pub template: String,
}

/// A word of a prompt, or a piece that stays.
#[derive(Clone, PartialEq)]
struct Unit {
    space: bool,
    text: String,
    /// A word, which may be edited.
    word: bool,
}

/// The edits of a template, each once, in the order of the rules and of the words.
pub fn edits(template: &Template) -> Vec<Edit> {
    let units = units(template);
    let (original, mut found) = (joined(&units), Vec::<Edit>::new());
    let mut add = |kind: &'static str, what: String, units: &[Unit]| {
        let template = joined(units);
        let known = template == original || found.iter().any(|edit| edit.template == template);
        if !known && Template::parse(&template).is_ok() {
            found.push(Edit { kind, what, template });
        }
    };
    for (i, unit) in units.iter().enumerate().filter(|(_, unit)| unit.word) {
        let Some(kind) = kind_of(&unit.text) else { continue };
        let mut less = units.clone();
        let space = less.remove(i).space;
        if let Some(next) = less.get_mut(i) {
            next.space |= space;
        }
        add("drop", format!("'{}'", unit.text), &less);
        if let Some(other) = kind.iter().find(|other| !same(other, &unit.text)) {
            add("swap", format!("'{other}' for '{}'", unit.text), &with(&units, i, other));
        }
    }
    for (i, unit) in units.iter().enumerate().filter(|(_, unit)| unit.word) {
        let behind = BEHIND.iter().find(|(words, _)| words.iter().any(|word| same(word, &unit.text)));
        let Some((_, more)) = behind else { continue };
        let article = units.get(i + 1).is_some_and(|next| KINDS[0].iter().any(|word| same(word, &next.text)));
        if !article {
            let mut all = units.clone();
            all.insert(i + 1, Unit { space: true, text: (*more).into(), word: true });
            add("insert", format!("'{more}' behind '{}'", unit.text), &all);
        }
    }
    marks(&units, &mut add);
    letters(&units, &mut add);
    found
}

type Add<'a> = dyn FnMut(&'static str, String, &[Unit]) + 'a;

/// The mark at the end.
fn marks(units: &[Unit], add: &mut Add<'_>) {
    let Some(last) = units.last() else { return };
    let now = if last.word && MARKS.contains(&last.text.as_str()) { last.text.as_str() } else { "" };
    let bare = if now.is_empty() { units } else { &units[..units.len() - 1] };
    if !now.is_empty() {
        add("punctuation", format!("without '{now}'"), bare);
    }
    for mark in MARKS.into_iter().filter(|mark| *mark != now) {
        let end = Unit { space: now.is_empty() || last.space, text: mark.into(), word: true };
        let what = if now.is_empty() { format!("with '{mark}'") } else { format!("'{mark}' for '{now}'") };
        add("punctuation", what, &[bare, &[end]].concat());
    }
}

/// Small and capital letters.
fn letters(units: &[Unit], add: &mut Add<'_>) {
    let all = |change: &dyn Fn(&str) -> String| -> Vec<Unit> {
        let changed = |unit: &Unit| Unit { text: change(&unit.text), ..unit.clone() };
        units.iter().map(|unit| if unit.word { changed(unit) } else { unit.clone() }).collect()
    };
    let changes: [(&str, Vec<Unit>); 3] = [
        ("small letters", all(&|text| text.to_lowercase())),
        ("capitals", all(&|text| text.to_uppercase())),
        ("the first letter", first_letter(units)),
    ];
    for (what, changed) in changes.into_iter().filter(|(_, changed)| changed != units) {
        add("case", what.into(), &changed);
    }
}

fn first_letter(units: &[Unit]) -> Vec<Unit> {
    let mut units = units.to_vec();
    if let Some(unit) = units.iter_mut().find(|unit| unit.word) {
        let mut letters = unit.text.chars();
        let other = |c: char| -> String {
            if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
        };
        unit.text = letters.next().map_or(String::new(), other) + letters.as_str();
    }
    units
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The words of the same kind, where it is a function word.
fn kind_of(word: &str) -> Option<&'static [&'static str]> {
    KINDS.into_iter().find(|kind| kind.iter().any(|known| same(known, word)))
}

/// The units with another word at `i`, which keeps its first letter's case.
fn with(units: &[Unit], i: usize, word: &str) -> Vec<Unit> {
    let mut units = units.to_vec();
    let capital = units[i].text.chars().next().is_some_and(char::is_uppercase);
    let mut letters = word.chars();
    units[i].text = match letters.next() {
        Some(first) if capital => first.to_uppercase().collect::<String>() + letters.as_str(),
        _ => word.into(),
    };
    units
}

/// The words of a template, marks as words of their own, and its other pieces.
fn units(template: &Template) -> Vec<Unit> {
    let (source, pieces) = (template.source(), template.pieces());
    let ends = pieces.iter().skip(1).map(|piece| piece.at).chain([source.len()]);
    let mut units = Vec::new();
    for (piece, end) in pieces.iter().zip(ends) {
        match &piece.kind {
            PieceKind::Text(text) => {
                for (i, word) in text.split_whitespace().enumerate() {
                    let bare = word.trim_end_matches(|c: char| c.is_ascii_punctuation());
                    let (bare, mark) = word.split_at(bare.len());
                    let space = i > 0 || piece.space;
                    let parts = [(bare, space), (mark, space && bare.is_empty())];
                    let parts = parts.into_iter().filter(|(text, _)| !text.is_empty());
                    units.extend(parts.map(|(text, space)| Unit { space, text: text.into(), word: true }));
                }
            }
            _ => {
                let text = source[piece.at..end].trim_end().into();
                units.push(Unit { space: piece.space, text, word: false });
            }
        }
    }
    units
}

/// A template of these units.
fn joined(units: &[Unit]) -> String {
    let mut source = String::new();
    for unit in units {
        if unit.space && !source.is_empty() {
            source.push(' ');
        }
        match unit.word {
            true => source += &unit.text.replace('[', "[[").replace('{', "{{"),
            false => source += &unit.text,
        }
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(template: &str) -> Vec<(&'static str, String)> {
        edits(&Template::parse(template).unwrap()).into_iter().map(|edit| (edit.kind, edit.template)).collect()
    }

    #[test]
    fn every_rule_on_one_prompt() {
        let expected = [
            ("drop", "{x} located in [MASK]."),
            ("swap", "{x} was located in [MASK]."),
            ("drop", "{x} is located [MASK]."),
            ("swap", "{x} is located at [MASK]."),
            ("insert", "{x} is also located in [MASK]."),
            ("insert", "{x} is located in the [MASK]."),
            ("punctuation", "{x} is located in [MASK]"),
            ("punctuation", "{x} is located in [MASK]?"),
            ("punctuation", "{x} is located in [MASK]!"),
            ("case", "{x} IS LOCATED IN [MASK]."),
            ("case", "{x} Is located in [MASK]."),
        ];
        assert_eq!(found("{x} is located in [MASK]."), expected.map(|(kind, template)| (kind, template.to_string())));
    }

    #[test]
    fn pieces_that_are_no_words_stay_and_escapes_are_escaped_again() {
        for template in ["{a|shorten} [SEP] The [[b]: [MASK] .", "수도는 [MASK]입니다.", "[MASK]", "{{ {a}of[MASK] the"]
        {
            for (_, edited) in found(template) {
                let [old, new] = [template, &edited].map(|source| Template::parse(source).unwrap());
                assert_eq!(old.fields(), new.fields(), "{edited}");
                assert_ne!(old.source(), new.source());
            }
        }
        assert!(found("The capital of {x} is [MASK] .").contains(&("case", "the capital of {x} is [MASK] .".into())));
        assert!(found("A [[x] is [MASK] .").iter().all(|(_, template)| template.contains("[[")));
        assert!(found("수도는 [MASK]입니다.").iter().any(|(_, template)| template == "수도는 [MASK]입니다"));
    }
}
