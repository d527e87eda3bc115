//! What can be wrong with a family other than BERT only: its keys, names, heads and tokenizer files.

use serde_json::{Value, json};

use crate::scene::Scene;

const CONFIG: &str = "model/config.json";
const VOCAB: &str = "model/vocab.json";
const MERGES: &str = "model/merges.txt";

/// A test for each kind: change a good model, train, and expect the words.
macro_rules! train_refuses {
    ($($name:ident: $scene:expr, $change:expr => $says:expr;)*) => {$(
        #[test]
        fn $name() {
            let scene = $scene;
            let change: fn(&Scene) = $change;
            change(&scene);
            scene.refused(&["train", "run.toml", "--out", "out", "--json"], &$says);
        }
    )*};
}

/// Changes a key of `config.json`.
fn config(scene: &Scene, key: &str, value: Value) {
    scene.json(CONFIG, |config| config[key] = value);
}

/// Gives tensors another name.
fn rename(scene: &Scene, from: &str, to: &str) {
    scene.header(|header| {
        let tensors = header.as_object_mut().unwrap();
        let names: Vec<String> = tensors.keys().filter(|name| name.starts_with(from)).cloned().collect();
        assert!(!names.is_empty(), "no tensor {from}*");
        for name in names {
            let tensor = tensors.remove(&name).unwrap();
            tensors.insert(name.replacen(from, to, 1), tensor);
        }
    });
}

train_refuses! {
    gpt2_without_a_width: Scene::gpt2(), |s| s.json(CONFIG, |config| drop(config.as_object_mut().unwrap().remove("n_embd")))
        => ["config.json: n_embd: is missing"];
    gpt2_heads_that_do_not_fit: Scene::gpt2(), |s| config(s, "n_head", json!(5))
        => ["config.json: n_head: 5 heads do not divide n_embd 16"];
    gpt2_with_cross_attention: Scene::gpt2(), |s| config(s, "add_cross_attention", json!(true))
        => ["config.json: add_cross_attention: cross-attention is not implemented"];
    gpt2_with_an_unknown_activation: Scene::gpt2(), |s| config(s, "activation_function", json!("swish"))
        => ["config.json: activation_function: activation 'swish' is not implemented; implemented: gelu"];
    gpt2_with_an_absurd_norm: Scene::gpt2(), |s| config(s, "layer_norm_epsilon", json!(2))
        => ["config.json: layer_norm_epsilon: 2 should be a small number"];
    gpt2_with_a_wrong_switch: Scene::gpt2(), |s| config(s, "scale_attn_weights", json!("yes"))
        => ["config.json: scale_attn_weights: \"yes\" is not true or false"];
    gpt2_untied_without_its_head: Scene::gpt2(), |s| config(s, "tie_word_embeddings", json!(false))
        => ["model: this checkpoint has no language-model head", "lm_head.weight", "GPT2LMHeadModel"];
    gpt2_with_a_wrong_inner_width: Scene::gpt2(), |s| config(s, "n_inner", json!(65))
        => ["tensor 'transformer.h.0.mlp.c_fc.weight': has shape [16, 64]; the configuration makes it [16, 65]"];
    gpt2_without_its_attention: Scene::gpt2(), |s| rename(s, "transformer.h.1.attn.c_attn.weight", "transformer.h.1.attn.c_attention.weight")
        => ["tensor 'transformer.h.1.attn.c_attn.weight': is missing; names like it: ", "transformer.h.1.attn.c_attention.weight"];
    gpt2_and_a_class_token: Scene::gpt2(), |s| s.edit("run.toml", "[P*2] {premise", "[CLS] [P*2] {premise")
        => ["this model's tokenizer has no class token", "^"];
    gpt2_longer_than_its_positions: Scene::gpt2(), |s| s.edit("run.toml", "max_tokens = 40", "max_tokens = 49")
        => ["data.max_tokens: 49 is more than the 48 positions of this model"];

    roberta_without_its_head: Scene::roberta(), |s| rename(s, "lm_head.dense", "classifier.dense")
        => ["model: this checkpoint has no masked-language-model head (no tensors lm_head.*)", "RobertaForMaskedLM"];
    roberta_untied_without_its_decoder: Scene::roberta(), |s| rename(s, "lm_head.decoder.weight", "lm_head.coder.weight")
        => ["tensor 'lm_head.decoder.weight': is missing; names like it: ", "lm_head.coder.weight"];
    roberta_with_relative_positions: Scene::roberta(), |s| config(s, "position_embedding_type", json!("relative_key"))
        => ["config.json: position_embedding_type: 'relative_key' positions are not implemented"];
    roberta_decoder: Scene::roberta(), |s| config(s, "is_decoder", json!(true))
        => ["config.json: is_decoder: a decoder of this model type is not implemented"];
    roberta_padding_outside_its_vocabulary: Scene::roberta(), |s| config(s, "pad_token_id", json!(100_000))
        => ["config.json: pad_token_id: 100000 is not a whole number from 0 to "];
    roberta_padding_that_leaves_no_position: Scene::roberta(), |s| config(s, "pad_token_id", json!(49))
        => ["config.json: max_position_embeddings: 50 leaves no position"];
    roberta_longer_than_its_positions: Scene::roberta(), |s| s.edit("run.toml", "max_tokens = 40", "max_tokens = 49")
        => ["data.max_tokens: 49 is more than the 48 positions of this model"];

    xlmr_without_its_head: Scene::of("xlmr_lstm"), |s| rename(s, "lm_head.dense", "classifier.dense")
        => ["model: this checkpoint has no masked-language-model head (no tensors lm_head.*)", "XLMRobertaForMaskedLM"];
    xlmr_in_its_larger_form: Scene::of("xlmr_lstm"), |s| config(s, "model_type", json!("xlm-roberta-xl"))
        => ["config.json: model_type: model type 'xlm-roberta-xl' is not implemented; implemented: bert, roberta, xlm-roberta"];
    albert_without_its_head: Scene::of("albert_lstm"), |s| rename(s, "predictions.dense", "classifier.dense")
        => ["model: this checkpoint has no masked-language-model head (no tensors predictions.*)", "AlbertForMaskedLM"];
    albert_without_the_width_of_its_words: Scene::of("albert_lstm"),
        |s| s.json(CONFIG, |config| drop(config.as_object_mut().unwrap().remove("embedding_size")))
        => ["config.json: embedding_size: is missing"];
    albert_with_words_of_another_width: Scene::of("albert_lstm"), |s| config(s, "embedding_size", json!(9))
        => ["tensor 'albert.embeddings.token_type_embeddings.weight': has shape [2, 8]; the configuration makes it [2, 9]"];
    albert_with_more_groups_than_layers: Scene::of("albert_lstm"), |s| config(s, "num_hidden_groups", json!(5))
        => ["config.json: num_hidden_groups: 5 is not a whole number from 1 to 4"];
    albert_with_a_group_that_is_not_there: Scene::of("albert_lstm"), |s| config(s, "num_hidden_groups", json!(3))
        => ["tensor 'albert.encoder.albert_layer_groups.2.albert_layers.0.attention.query.weight': is missing"];
    albert_with_absurd_groups: Scene::of("albert_lstm"), |s| config(s, "inner_group_num", json!(1 << 20))
        => ["config.json: inner_group_num: 1048576 is not a whole number from 1 to 256"];
    albert_with_relative_positions: Scene::of("albert_lstm"), |s| config(s, "position_embedding_type", json!("relative_key"))
        => ["config.json: position_embedding_type: 'relative_key' positions are not implemented"];
    electra_that_tells_tokens_apart: Scene::of("electra_mlp"), |s| rename(s, "generator_predictions", "discriminator_predictions")
        => ["model: this checkpoint is an ELECTRA discriminator", "cannot fill a mask; use the generator"];
    electra_without_its_head: Scene::of("electra_mlp"), |s| rename(s, "generator_predictions", "classifier")
        => ["model: this checkpoint has no masked-language-model head (no tensors generator_predictions.*)", "ElectraForMaskedLM"];
    electra_without_its_projection: Scene::of("electra_mlp"), |s| rename(s, "electra.embeddings_project", "electra.project")
        => ["tensor 'electra.embeddings_project.weight': is missing"];
    distilbert_without_its_head: Scene::of("distilbert_mlp"), |s| rename(s, "vocab_transform", "pre_classifier")
        => ["model: this checkpoint has no masked-language-model head (no tensors vocab_transform.*)", "DistilBertForMaskedLM"];
    distilbert_with_heads_that_do_not_fit: Scene::of("distilbert_mlp"), |s| config(s, "n_heads", json!(3))
        => ["config.json: n_heads: 3 heads do not divide dim 16"];
    opt_with_its_norms_behind: Scene::of("opt_lstm"), |s| config(s, "do_layer_norm_before", json!(false))
        => ["config.json: do_layer_norm_before: norms behind attention and MLP (OPT-350m has them) are not implemented"];
    opt_with_words_of_another_width: Scene::of("opt_lstm"), |s| config(s, "word_embed_proj_dim", json!(8))
        => ["config.json: word_embed_proj_dim: word vectors of another width (8) than hidden_size 16 are not implemented"];
    opt_without_biases: Scene::of("opt_lstm"), |s| config(s, "enable_bias", json!(false))
        => ["config.json: enable_bias: an OPT without biases is not implemented"];
    opt_with_bare_norms: Scene::of("opt_lstm"), |s| config(s, "layer_norm_elementwise_affine", json!(false))
        => ["config.json: layer_norm_elementwise_affine: norms without weights are not implemented"];
    opt_untied_without_its_head: Scene::of("opt_lstm"), |s| config(s, "tie_word_embeddings", json!(false))
        => ["model: this checkpoint has no language-model head", "lm_head.weight", "OPTForCausalLM"];
    sentencepiece_alone: Scene::of("albert_lstm"), |s| { s.remove("model/tokenizer.json"); s.write("model/spiece.model", "x"); }
        => ["model: the tokenizer is missing", "spiece.model is there, but this release does not read it", "save_pretrained(DIR) writes tokenizer.json"];

    missing_merges: Scene::gpt2(), |s| s.remove(MERGES)
        => ["model: the tokenizer is missing", "vocab.json is there, but merges.txt, which belongs to it, is not"];
    missing_vocabulary: Scene::roberta(), |s| s.remove(VOCAB)
        => ["model: the tokenizer is missing", "merges.txt is there, but vocab.json, which belongs to it, is not"];
    merges_of_another_vocabulary: Scene::gpt2(), |s| s.edit(MERGES, "\nt h\n", "\nq q\n")
        => ["merges.txt:", ": 'qq' is not in vocab.json: the two files are not of the same model"];
    merges_that_are_no_pairs: Scene::roberta(), |s| s.write(MERGES, "#version: 0.2\nth\n")
        => ["merges.txt:2: two tokens with a space between were expected, not 'th'"];
    vocabulary_that_is_no_object: Scene::gpt2(), |s| s.write(VOCAB, "[\"the\"]")
        => ["vocab.json:1: an object from token to id was expected"];
    vocabulary_with_a_wrong_id: Scene::gpt2(), |s| s.json(VOCAB, |vocab| vocab["Ġthe"] = json!("five"))
        => ["vocab.json: Ġthe: \"five\" is no token id"];
    vocabulary_larger_than_the_table: Scene::gpt2(), |s| s.json(VOCAB, |vocab| vocab["zzz"] = json!(5000))
        => ["vocab.json: the tokenizer has 5001 tokens, but config.json says vocab_size "];
}
