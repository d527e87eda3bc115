//! The template language: what parses, and where the caret stands when it does not.

use super::PieceKind::{Cls, Mask, Sep, Text};
use super::*;
use proptest::prelude::*;

/// The pieces as `(space, kind)`.
fn pieces(source: &str) -> Vec<(bool, PieceKind)> {
    let template = Template::parse(source).unwrap_or_else(|e| panic!("{source}: {e}"));
    template.pieces.into_iter().map(|piece| (piece.space, piece.kind)).collect()
}

fn text(text: &str) -> PieceKind {
    Text(text.to_string())
}

fn field(name: &str) -> PieceKind {
    PieceKind::Field(Field { name: name.to_string(), ..Field::default() })
}

fn pseudo(first_row: usize, count: usize) -> PieceKind {
    PieceKind::Pseudo(Pseudo { first_row, count, words: None, name: None })
}

#[test]
fn white_space_belongs_to_the_piece_behind_it() {
    assert_eq!(
        pieces(" {sub} is  the\tcapital [P*2] of[MASK] , [SEP] x "),
        [
            (true, field("sub")),
            (true, text("is  the\tcapital")),
            (true, pseudo(0, 2)),
            (true, text("of")),
            (false, Mask),
            (true, text(",")),
            (true, Sep),
            (true, text("x")),
        ]
    );
    assert_eq!(pieces("{a}[CLS]{b}[MASK]").iter().map(|piece| piece.0).collect::<Vec<_>>(), [false; 4]);
}

#[test]
fn escapes_are_left_to_right_and_closing_brackets_are_plain() {
    let cases: [(&str, &[PieceKind]); 6] = [
        ("[[note] [MASK]", &[text("[note]"), Mask]),
        ("[[MASK] {{x} [MASK]", &[text("[MASK] {x}"), Mask]),
        ("[[[MASK]]", &[text("["), Mask, text("]")]),
        ("{{{a}}[MASK]", &[text("{"), field("a"), text("}"), Mask]),
        ("[[[[ [MASK]", &[text("[["), Mask]),
        ("a } b ] [CLS][MASK]", &[text("a } b ]"), Cls, Mask]),
    ];
    for (source, expected) in cases {
        let found: Vec<PieceKind> = pieces(source).into_iter().map(|piece| piece.1).collect();
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn modifiers_combine() {
    let expected = Field { name: "premise".into(), shorten: true, no_punct: true, lower_first: false };
    assert_eq!(pieces("{premise|no_punct|shorten} [MASK]")[0].1, PieceKind::Field(expected.clone()));
    assert_eq!(pieces("{ premise | shorten | no_punct } [MASK]")[0].1, PieceKind::Field(expected));
    assert_eq!(
        pieces("{a b|lower_first}[MASK]")[0].1,
        PieceKind::Field(Field { name: "a b".into(), lower_first: true, ..Field::default() })
    );
}

#[test]
fn names_share_rows_and_count_once() {
    let template = Template::parse("[P*2 @a] x [P*3] [MASK] [P*2 @a \"in the\"] [P*1 \"of\"]").unwrap();
    let found: Vec<_> = template.pseudo().map(|(_, p)| (p.first_row, p.count, p.words.as_deref())).collect();
    assert_eq!(found, [(0, 2, Some("in the")), (2, 3, None), (0, 2, Some("in the")), (5, 1, Some("of"))]);
    assert_eq!(template.pseudo_rows(), 6);
    assert!(template.has_pseudo_tokens());
    assert!(!Template::parse("{a} [MASK]").unwrap().has_pseudo_tokens());
    assert_eq!(
        Template::parse("[P*1 \"a ] b\"][MASK]").unwrap().pseudo().next().unwrap().1.words.as_deref(),
        Some("a ] b")
    );
}

#[test]
fn errors_point_at_the_offending_character() {
    let cases = [
        ("{a|shorter} [MASK]", 3, "unknown modifier 'shorter'"),
        ("{a|} [MASK]", 3, "unknown modifier ''"),
        ("{} [MASK]", 1, "name is missing"),
        ("x {a [MASK]", 2, "not closed"),
        ("x [P*3 {a} [MASK]", 2, "not closed"),
        ("x [MASK", 2, "not closed"),
        ("[P*0] [MASK]", 3, "1 to 1000"),
        ("[P*1001] [MASK]", 3, "1 to 1000"),
        ("[P*99999999999999999999999] [MASK]", 3, "1 to 1000"),
        ("[P*x] [MASK]", 3, "number"),
        ("[P*-1] [MASK]", 3, "number"),
        ("[P] [MASK]", 0, "[P*1]"),
        ("[P*3 words] [MASK]", 5, "initial words"),
        ("[P*3 \"a\" \"b\"] [MASK]", 9, "second time"),
        ("[P*3 @] [MASK]", 5, "a name is"),
        ("[P*3 \"\"] [MASK]", 5, "empty"),
        ("[P*3 @a] [MASK] [P*2 @a]", 21, "3 pseudo tokens elsewhere"),
        ("[P*3 @a \"x\"] [MASK] [P*3 @a \"y\"]", 25, "other words"),
        ("수도 [mask]", 7, "unknown word 'mask'"),
        ("{a} is", 6, "no [MASK]"),
        ("[MASK] and [MASK]", 11, "second"),
        ("", 0, "empty"),
        ("  ", 0, "empty"),
    ];
    for (source, expected_at, expected) in cases {
        match Template::parse(source) {
            Err(Error::Template { at, message, .. }) => {
                assert_eq!(at, expected_at, "{source}: {message}");
                assert!(message.contains(expected), "{source}: {message}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn a_field_that_the_data_lacks_is_shown_with_those_it_has() {
    let template = Template::parse("{sub}의 수도는 {obj} [MASK]").unwrap();
    assert_eq!(template.fields(), ["sub", "obj"]);
    template.check_fields(&["obj", "sub", "more"]).unwrap();
    let message = template.check_fields(&["sub", "label"]).unwrap_err().to_string();
    let expected = "the data has no field 'obj'; its fields are 'sub' and 'label'\n  \
                    {sub}의 수도는 {obj} [MASK]\n                 ^";
    assert_eq!(message, expected);
}

#[test]
fn the_answer_is_glued_to_what_stands_before_it() {
    let cases = [
        ("[MASK] x", Glue::Start),
        (" [MASK] x", Glue::Space),
        ("a [MASK]", Glue::Space),
        ("a[MASK]", Glue::Joined('a')),
        ("(([MASK])", Glue::Joined('(')),
        ("{a}[MASK]", Glue::JOINED),
        ("[P*2][MASK]", Glue::JOINED),
        ("a[SEP][MASK]", Glue::Start),
        ("a[SEP] [MASK]", Glue::Space),
    ];
    for (source, expected) in cases {
        assert_eq!(Template::parse(source).unwrap().answer_glue(), expected, "{source}");
    }
}

proptest! {
    /// Any text gets a template or a sentence, and the caret stands on a character boundary of the template.
    #[test]
    fn parsing_never_panics(source in r#"(\[P\*[0-9]{0,3}|\[MASK\]|\[|\]|\{a|\}|\{|"| @n|\||수도|[ -~]|\PC){0,16}"#) {
        match Template::parse(&source) {
            Ok(template) => {
                template.answer_glue();
                prop_assert!(template.pieces().iter().all(|piece| source.is_char_boundary(piece.at)));
            }
            Err(error) => {
                let Error::Template { at, .. } = &error else { panic!("{error}") };
                prop_assert!(source.is_char_boundary(*at));
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
