//! The data of the world, and what is made of it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Relations whose answers are the subjects of a table, which gives their Korean names.
const ANSWERS_OF: [(&str, &str); 4] = [
    ("native_country", "countries"),
    ("river_country", "countries"),
    ("mountain_country", "countries"),
    ("city_country", "countries"),
];

fn facts(world: &World) -> impl Iterator<Item = (&Relation, &Fact)> {
    world.relations.iter().flat_map(|relation| relation.facts.iter().map(move |fact| (relation, fact)))
}

#[test]
fn there_are_enough_relations_facts_and_ways_to_say_them() {
    let world = World::built_in();
    assert!(world.relations.len() >= 12 && world.facts() >= 1500, "{} facts", world.facts());
    for relation in &world.relations {
        assert!(relation.facts.len() >= 50, "{} has {} facts", relation.name, relation.facts.len());
        for language in Language::ALL {
            let voice = relation.voice(language);
            assert!(voice.phrasings.len() >= 5 && voice.prompts.len() >= 4, "{} {language:?}", relation.name);
            let weights = voice.phrasings.iter().map(|phrasing| phrasing.0);
            let uneven = weights.clone().max().unwrap() >= 10 * weights.min().unwrap();
            assert!(uneven, "{} {language:?}: the phrasings are equally frequent", relation.name);
            let kinds = |kind| voice.prompts.iter().filter(|prompt| prompt.kind == kind).count();
            assert!(kinds(Kind::Phrasing) >= 2 && kinds(Kind::Edit) >= 1, "{} {language:?}", relation.name);
        }
    }
}

#[test]
fn names_are_clean_and_answers_are_one_word() {
    let clean = |name: &str| {
        // Composed Hangul and ASCII letters have no other form under NFC.
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '가'..='힣' | ' ' | '\'' | '-');
        name.chars().all(known) && name.trim() == name && !name.contains("  ")
    };
    for (relation, fact) in facts(&World::built_in()) {
        for language in Language::ALL {
            let (subject, answer) = (fact.subject(language), fact.answer(language));
            assert!(clean(subject), "{}: '{subject}'", relation.name);
            let word = clean(answer) && answer.chars().all(char::is_alphanumeric);
            assert!(word && !answer.is_empty(), "{}: '{subject}': '{answer}' is not one word", relation.name);
        }
    }
}

#[test]
fn a_subject_has_one_answer_and_an_english_answer_one_korean_name() {
    let world = World::built_in();
    for relation in &world.relations {
        let mut korean = BTreeMap::new();
        for fact in &relation.facts {
            let (en, ko) = (fact.answer(Language::English), fact.answer(Language::Korean));
            let first = *korean.entry(en).or_insert(ko);
            assert_eq!(first, ko, "{}: two Korean names of {en}", relation.name);
        }
        for language in Language::ALL {
            let subjects: BTreeSet<_> = relation.facts.iter().map(|fact| fact.subject(language)).collect();
            assert_eq!(subjects.len(), relation.facts.len(), "{} {language:?}: a subject twice", relation.name);
        }
    }
}

#[test]
fn countries_have_the_same_name_everywhere() {
    let world = World::built_in();
    for (relation, table) in ANSWERS_OF {
        let subjects = facts(&world).filter(|(relation, _)| relation.table == table);
        let names: BTreeMap<_, _> =
            subjects.map(|(_, fact)| (fact.subject(Language::English), fact.subject(Language::Korean))).collect();
        for fact in &world.relation(relation).unwrap().facts {
            let (en, ko) = (fact.answer(Language::English), fact.answer(Language::Korean));
            assert_eq!(names.get(en), Some(&ko), "{relation}: {en}");
        }
    }
}

/// No pair stands in both directions: its one half would train what its other tests.
#[test]
fn opposites_are_told_in_one_direction() {
    let world = World::built_in();
    let facts = &world.relation("opposite").unwrap().facts;
    for language in Language::ALL {
        let subjects: BTreeSet<_> = facts.iter().map(|fact| fact.subject(language)).collect();
        let both = facts.iter().find(|fact| subjects.contains(fact.answer(language)));
        assert_eq!(both, None);
    }
}

#[test]
fn prompts_are_marked_by_their_distance_and_must_be_near() {
    let phrasings = [Phrasing(1, "A river {x} is in {y}.".into()), Phrasing(5, "The river {x} is in {y}.".into())];
    let prompt = |sentence| Prompt::new(sentence, &phrasings);
    let near = |sentence, kind| {
        let prompt = prompt(sentence).unwrap();
        assert_eq!((prompt.kind, prompt.of.as_str()), (kind, "The river {sub_label} is in [MASK]."), "{sentence}");
    };
    near("The river {x} is in {y}.", Kind::Phrasing);
    near("river {x} is in {y}.", Kind::Edit); // one from both: the frequent one counts
    near("The river {x} is in {y}", Kind::Edit);
    near("The long river {x} is in {y}.", Kind::Edit);
    assert!(prompt("The long river {x} was in {y}.").unwrap_err().contains("more than one word"));
    assert!(prompt("In {y} is the river {x}.").unwrap_err().contains("behind it"));
    assert!(prompt("{x}은(는) {y} 을(를) 지납니다.").unwrap_err().contains("depends on the answer"));
}

#[test]
fn a_fact_is_said_with_the_right_particles() {
    let world = World::built_in();
    let capital = world.relation("capital").unwrap();
    let fact = |subject| capital.facts.iter().find(|fact| fact.subject(Language::English) == subject).unwrap();
    let said: Vec<String> =
        capital.voice(Language::Korean).phrasings.iter().map(|p| p.say(fact("Britain"), Language::Korean)).collect();
    assert!(said.contains(&"영국의 수도는 런던 입니다.".into()), "{said:?}");
    assert!(said.contains(&"런던 은 영국의 수도입니다.".into()), "{said:?}");
    let english = Phrasing(1, "{x} has {y}.".into());
    assert_eq!(english.say(fact("the Netherlands"), Language::English), "The Netherlands has Amsterdam.");
}

#[test]
fn no_sentence_keeps_a_particle_in_brackets_and_korean_answers_stand_alone() {
    for (relation, fact) in facts(&World::built_in()) {
        for language in Language::ALL {
            for phrasing in &relation.voice(language).phrasings {
                let said = phrasing.say(fact, language);
                assert!(!said.contains(['(', '{']), "{said}");
                let words: Vec<&str> = said.split([' ', '.', ',', '?']).collect();
                assert!(words.contains(&fact.answer(language)), "the answer is no word of its own: {said}");
            }
        }
    }
}

/// Everything a text says: runs of its sentences' pieces, a question and its answer being two, and `heading: item`.
fn said_in(text: &str) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    for line in text.lines() {
        if let Some((heading, items)) = line.split_once(": ") {
            said.extend(items.trim_end_matches('.').split(", ").map(|item| format!("{heading}: {item}")));
        }
        let ends: Vec<usize> = line.match_indices(['.', '?']).map(|(at, _)| at + 1).collect();
        let begins: Vec<usize> = [0].into_iter().chain(ends.iter().copied()).collect();
        for begin in begins {
            said.extend(ends.iter().filter(|end| **end > begin).map(|end| line[begin..*end].trim().to_string()));
        }
    }
    said
}

#[test]
fn the_corpus_says_every_fact_and_repeats_itself_from_its_seed() {
    let world = World::built_in();
    let least = 2 * world.facts();
    let text = corpus(&world, 3, least).unwrap();
    let said = said_in(&text);
    for (relation, fact) in facts(&world) {
        for language in Language::ALL {
            let voice = relation.voice(language);
            let item = format!("{}: {} {}", voice.heading, fact.subject(language), fact.answer(language));
            let found = voice.phrasings.iter().any(|phrasing| said.contains(&phrasing.say(fact, language)));
            assert!(found || said.contains(&item), "{}: {fact:?} is not said in {language:?}", relation.name);
        }
    }
    assert_eq!(text, corpus(&world, 3, least).unwrap());
    assert_ne!(text, corpus(&world, 4, least).unwrap());
    let too_few = corpus(&world, 3, least - 1).unwrap_err().to_string();
    assert!(too_few.contains(&format!("at least {least}")), "{too_few}");
}

#[test]
fn phrasings_are_drawn_by_weight() {
    let tables = [("things", "en\tko\tkind.en\tkind.ko\nA\t가\tB\t나\n")];
    let phrasings = r#"
        [kind]
        table = "things"
        heading = { en = "Things", ko = "것" }
        en = [[3, "{x} often {y}."], [1, "{x} seldom {y}."]]
        ko = [[1, "{x} {y} 입니다."]]
        prompts = { en = [], ko = [] }
    "#;
    let world = World::parse(&tables, phrasings).unwrap();
    let text = corpus(&world, 0, 8000).unwrap();
    let count = |word| text.matches(word).count() as f64;
    let ratio = count("often") / count("seldom");
    assert!((2.6..3.4).contains(&ratio), "{ratio}");
    let sentences = count("often") + count("seldom") + count("입니다") + count("Things") + count("것:");
    assert_eq!(sentences, 8000.0);
}

#[test]
fn the_parts_of_a_relation_share_no_fact() {
    let world = World::built_in();
    for (index, relation) in world.relations.iter().enumerate() {
        let parts = split(&world, index, 1);
        let all: BTreeSet<usize> = parts.parts().iter().flat_map(|(_, facts)| facts.iter().map(|f| f.row)).collect();
        assert_eq!(all.len(), relation.facts.len());
        assert_eq!(parts.train.len() + parts.dev.len() + parts.test.len(), relation.facts.len());
        assert!(parts.dev.len() >= 10 && parts.test.len() >= 10, "{}", relation.name);
        assert_eq!(parts.test, split(&world, index, 1).test);
        assert_ne!(parts.test, split(&world, index, 2).test);
    }
}

#[test]
fn korean_rows_carry_the_particles_of_their_subject() {
    let world = World::built_in();
    let facts = &world.relation("symbol").unwrap().facts;
    let iron = facts.iter().find(|fact| fact.subject(Language::English) == "iron").unwrap();
    assert_eq!(
        serde_json::to_string(&row(iron, Language::Korean)).unwrap(),
        r#"{"sub_label":"철","obj_label":"Fe","language":"ko","topic":"은","subject":"이","object":"을","with":"과"}"#
    );
    assert_eq!(
        serde_json::to_string(&row(iron, Language::English)).unwrap(),
        r#"{"sub_label":"iron","obj_label":"Fe","language":"en"}"#
    );
}

#[test]
fn a_malformed_table_or_phrasing_is_named() {
    let phrasings = "[kind]\ntable = \"things\"\nheading = { en = \"a\", ko = \"b\" }\nen = [[1, \"{x} {y}\"]]\nko = [[1, \"{x} {y}\"]]\nprompts = { en = [], ko = [] }\n";
    let cases = [
        ("en\tko\tkind.en\n", phrasings, "things.tsv:1: there is no column 'kind.ko'"),
        ("en\tko\tkind.en\tkind.ko\nA\t가\tB\n", phrasings, "things.tsv:2: 3 columns; the header has 4"),
        ("en\tko\tkind.en\tkind.ko\nA\t가\tB\t-\n", phrasings, "things.tsv:2: 'kind' is given in one language only"),
        ("en\tko\tkind.en\tkind.ko\nA\t가 \tB\t나\n", phrasings, "column 'ko' is empty or begins or ends"),
        ("en\tko\tkind.en\tkind.ko\nA\t가\t-\t-\n", phrasings, "no fact of 'kind'"),
        ("", &phrasings.replace("things", "others"), "kind: there is no table 'others'"),
        ("", &phrasings.replace("[1, \"{x} {y}\"]", "[0, \"{x} {y}\"]"), "a weight above 0"),
        ("", &phrasings.replace("heading", "title"), "kind: "),
    ];
    for (table, phrasings, expected) in cases {
        let error = World::parse(&[("things", table)], phrasings).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\ndoes not say: {expected}");
    }
}
