//! The text of a field after its modifiers. No token is made here.

use crate::prompt::template::Field;

/// The value of a field after its modifiers, without white space around it.
pub(super) fn field_text(field: &Field, value: &str) -> String {
    let mut text = value.trim();
    if field.no_punct {
        text = text.trim_end_matches(|c: char| c.is_whitespace() || is_punctuation(c));
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if field.lower_first => first.to_lowercase().chain(chars).collect(),
        _ => text.to_string(),
    }
}

/// ASCII punctuation (Python's `string.punctuation`), and the Latin, general, CJK and full-width blocks' marks.
fn is_punctuation(c: char) -> bool {
    let latin_general = ['¡', '§', '«', '¶', '·', '»', '¿'];
    c.is_ascii_punctuation()
        || latin_general.contains(&c)
        || matches!(c, '‐'..='‧' | '‰'..='⁞' | '、'..='〃' | '〈'..='】' | '〔'..='〟')
        || matches!(c, '！'..='／' | '：'..='＠' | '［'..='｀' | '｛'..='･')
}
