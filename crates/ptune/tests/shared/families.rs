//! A small model of every family, for what must hold in each.

/// Golden cases with a model of each family, of several blocks.
pub(crate) const FAMILIES: [&str; 14] = [
    "lstm_uneven",
    "roberta_lstm",
    "gpt2_lstm",
    "albert_lstm",
    "electra_mlp",
    "distilbert_mlp",
    "xlmr_lstm",
    "opt_lstm",
    "llama_mlp",
    "mistral_embedding",
    "qwen2_embedding",
    "qwen3_embedding",
    "neox_embedding",
    "modernbert_embedding",
];
