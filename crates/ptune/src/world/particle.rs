//! Korean particles: 은/는, 이/가, 을/를, 과/와 ... are chosen by the last sound of what stands before them.
//!
//! A text writes both forms as Korean forms and forms people fill in do, `은(는)`: the one after a consonant, and in
//! brackets the one after a vowel. 으로(로) takes the second after ㄹ too. Digits count as they are read (2: 이, 3: 삼),
//! Latin abbreviations by their last letter's name (L: 엘), Latin words by their usual sound in Korean (book: 북,
//! server: 서버); that last rule is one of thumb. Spaces, quotes and punctuation before the particle are passed over.

/// After a consonant, after a vowel. A longer pair stands before one that it begins with.
const PAIRS: [(&str, &str); 8] = [
    ("이었습니다", "였습니다"),
    ("이라고", "라고"),
    ("이에요", "예요"),
    ("으로", "로"),
    ("은", "는"),
    ("이", "가"),
    ("을", "를"),
    ("과", "와"),
];

/// The last sound of a word, as far as particles care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Vowel,
    Rieul,
    Consonant,
}

/// The text with one form of each pair in it.
pub(super) fn resolve(text: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, pair)) = next_pair(rest) {
        done.push_str(&rest[..at]);
        let form = choose(&done, pair);
        done.push_str(form);
        rest = &rest[at + pair.0.len() + pair.1.len() + "()".len()..];
    }
    done.push_str(rest);
    done
}

/// The form of `after consonant, after vowel` that follows `before`.
pub(super) fn choose<'a>(before: &str, pair: (&'a str, &'a str)) -> &'a str {
    match last_sound(before) {
        Last::Vowel => pair.1,
        Last::Rieul if pair.0 == "으로" => pair.1,
        Last::Rieul | Last::Consonant => pair.0,
    }
}

/// The first pair in a text, and the byte where it begins.
fn next_pair(text: &str) -> Option<(usize, (&'static str, &'static str))> {
    for (bracket, _) in text.match_indices('(') {
        let found = PAIRS.iter().find(|(consonant, vowel)| {
            let inside = text[bracket + 1..].strip_prefix(vowel);
            text[..bracket].ends_with(consonant) && inside.is_some_and(|rest| rest.starts_with(')'))
        });
        if let Some(pair) = found {
            return Some((bracket - pair.0.len(), *pair));
        }
    }
    None
}

fn last_sound(before: &str) -> Last {
    let word = before.trim_end_matches(|c: char| !c.is_alphanumeric());
    match word.chars().next_back() {
        // Syllables stand in order, 28 to a vowel: without final consonant first, with ㄹ ninth.
        Some(c @ '가'..='힣') => match (c as u32 - '가' as u32) % 28 {
            0 => Last::Vowel,
            8 => Last::Rieul,
            _ => Last::Consonant,
        },
        Some('1' | '7' | '8') => Last::Rieul,     // 일 칠 팔
        Some('0' | '3' | '6') => Last::Consonant, // 영 (십, 백, 천, 만), 삼, 육
        Some(c) if c.is_ascii_alphabetic() => {
            let start = word.rfind(|c: char| !c.is_ascii_alphabetic());
            let after = |at: usize| at + word[at..].chars().next().map_or(0, char::len_utf8);
            last_sound_of_latin(&word[start.map_or(0, after)..])
        }
        _ => Last::Vowel,
    }
}

/// Of one or more Latin letters. Capitals and words of two letters (chemical symbols) are read letter by letter.
fn last_sound_of_latin(word: &str) -> Last {
    let spelled = word.len() <= 2 || !word.chars().any(|c| c.is_ascii_lowercase());
    let lower = word.to_ascii_lowercase();
    match lower.as_bytes()[lower.len() - 1] {
        b'l' => Last::Rieul,                                 // 엘
        b'm' | b'n' => Last::Consonant,                      // 엠 엔
        b'r' if spelled => Last::Rieul,                      // 알
        _ if spelled => Last::Vowel,                         // 에이 비 씨 ...
        b'b' | b'c' | b'k' | b'p' | b't' => Last::Consonant, // 웹 뮤직 북 앱 봇
        b'g' if lower.ends_with("ng") => Last::Consonant,    // 킹
        _ => Last::Vowel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn particles_follow_the_last_sound() {
        let cases = [
            ("런던은(는) 크다", "런던은 크다"),
            ("파리은(는) 크다", "파리는 크다"),
            ("서울 으로(로) 가고 파리 으로(로) 가고 런던 으로(로)", "서울 로 가고 파리 로 가고 런던 으로"),
            ("사과과(와) 물과(와) 감과(와)", "사과와 물과 감과"),
            ("'물'을(를), \"차\"을(를)", "'물'을, \"차\"를"),
            ("1이(가) 2이(가) 3이(가) 4이(가) 5이(가) 6이(가)", "1이 2가 3이 4가 5가 6이"),
            ("7은(는) 8은(는) 9은(는) 10은(는) 100은(는)", "7은 8은 9는 10은 100은"),
            ("7 으로(로) 3 으로(로) 2 으로(로)", "7 로 3 으로 2 로"),
            ("H은(는) Fe은(는) Mn은(는) Al은(는) Cr은(는) N은(는)", "H는 Fe는 Mn은 Al은 Cr은 N은"),
            ("Al 으로(로) Mn 으로(로) BMW을(를) HTML을(를)", "Al 로 Mn 으로 BMW를 HTML을"),
            ("스페이스X은(는)", "스페이스X는"),
            ("server은(는) book은(는) king은(는) table은(는) email은(는)", "server는 book은 king은 table는 email은"),
            ("왕 이었습니다(였습니다) 화가 이었습니다(였습니다)", "왕 이었습니다 화가 였습니다"),
            (
                "왕 이라고(라고) 화가 이라고(라고) 왕이에요(예요) 화가이에요(예요)",
                "왕 이라고 화가 라고 왕이에요 화가예요",
            ),
            ("은(는)", "는"),
            ("괄호 (가) 은 (는) 그대로", "괄호 (가) 은 (는) 그대로"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }
}
