//! What a tokenizer puts in front of a text: its post-processor says so or, where there is none, `add_bos_token` of
//! `tokenizer_config.json`. transformers goes by the same rule.

use serde_json::{Map, Value};
use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper, Token};

use super::contained::contained;
use crate::checkpoint::special_tokens::SpecialTokens;

/// The ids in front of a text. `settings` are the files of special tokens, the first one first.
pub(super) fn beginning(
    processor: Option<&PostProcessorWrapper>,
    settings: &[Map<String, Value>],
    special: &SpecialTokens,
) -> std::result::Result<Vec<u32>, String> {
    let Some(processor) = processor else {
        let adds = settings.first().is_some_and(|file| file.get("add_bos_token") == Some(&Value::Bool(true)));
        return Ok(special.bos.filter(|_| adds).into_iter().collect());
    };
    // An id that no vocabulary has stands for the text.
    let text = Encoding::from_tokens(vec![Token::new(u32::MAX, "text".into(), (0, 4))], 0);
    // It panics where a template names a token that it does not describe.
    let around = contained(|| processor.process(text, None, true));
    let around = around.map_err(|e| format!("its post_processor fails: {e}"))?;
    Ok(around.get_ids().iter().copied().take_while(|id| *id != u32::MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> [Map<String, Value>; 1] {
        [serde_json::from_str(text).expect("an object")]
    }

    #[test]
    fn the_post_processor_wins_over_the_settings_and_these_need_a_token() {
        let special = SpecialTokens { bos: Some(7), ..SpecialTokens::default() };
        let (adds, does_not) = (settings(r#"{"add_bos_token": true}"#), settings(r#"{"add_bos_token": false}"#));
        let found = |processor: Option<&str>, settings: &[Map<String, Value>], special: &SpecialTokens| {
            let processor =
                processor.map(|text| serde_json::from_str::<PostProcessorWrapper>(text).expect("a processor"));
            beginning(processor.as_ref(), settings, special).expect("it does not fail")
        };
        assert_eq!(found(None, &adds, &special), [7]);
        assert_eq!(found(None, &does_not, &special), [0u32; 0]);
        assert_eq!(found(None, &settings("{}"), &special), [0u32; 0]);
        assert_eq!(found(None, &adds, &SpecialTokens::default()), [0u32; 0]);
        let template = r#"{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}"#;
        let bytes = r#"{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}"#;
        let both = format!(r#"{{"type": "Sequence", "processors": [{bytes}, {template}]}}"#);
        assert_eq!(found(Some(template), &does_not, &special), [1]);
        assert_eq!(found(Some(bytes), &adds, &special), [0u32; 0]);
        assert_eq!(found(Some(&both), &does_not, &special), [1]);
    }
    #[test]
    fn a_template_with_a_token_that_it_does_not_describe_is_an_error() {
        let template = r#"{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}}"#;
        let processor: PostProcessorWrapper = serde_json::from_str(template).expect("the library reads it");
        let refused = beginning(Some(&processor), &[], &SpecialTokens::default()).expect_err("it cannot be used");
        assert!(refused.contains("post_processor"), "{refused}");
    }
}
