//! Facts of the small models of the golden tests, and what is said about everything else.

use std::fs;

use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).join("model")
}

fn look(path: &Path) -> Result<Inspection> {
    inspect(path, None, &Device::processor(Some(1)), &mut |_, _| {})
}

fn model(path: &Path) -> ModelFacts {
    match look(path).unwrap() {
        Inspection::Model(facts) => *facts,
        other => panic!("no model: {other:?}"),
    }
}

/// A copy of a golden model, to be spoilt.
fn copy(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let file = entry.unwrap();
        fs::write(directory.path().join(file.file_name()), fs::read(file.path()).unwrap()).unwrap();
    }
    directory
}

#[test]
fn a_model_by_its_parts() {
    let facts = model(&golden("lstm_verbalizer"));
    assert!(facts.usable && facts.reason.is_none(), "{:?}", facts.reason);
    assert_eq!(facts.family.as_deref(), Some("bert"));
    let (shape, parts) = (facts.shape.unwrap(), facts.parameters.unwrap());
    assert_eq!((shape.causal, shape.width), (false, 32));
    // By hand from the shapes: a word, a position and a type table and a norm; attention, MLP and two norms a block;
    // dense, norm and the decoder's bias.
    let (d, inner) = (shape.width, shape.inner);
    let types = 2;
    assert_eq!(parts.embeddings, (shape.vocabulary + shape.positions + types) * d + 2 * d);
    assert_eq!(parts.blocks, shape.blocks * (4 * (d * d + d) + 2 * d * inner + inner + d + 4 * d));
    assert_eq!(parts.head, d * d + d + 2 * d + shape.vocabulary);
    assert_eq!(parts.embeddings + parts.blocks + parts.head + parts.unused, parts.total);
    let tokenizer = facts.tokenizer.unwrap();
    assert_eq!((tokenizer.kind.as_str(), tokenizer.tokens), ("WordPiece", shape.vocabulary));
    assert!(tokenizer.special.contains_key("mask"));
    assert_eq!(facts.fingerprint.unwrap().len(), 64);
    assert!(facts.files["model.safetensors"] > 4 * parts.total as u64);
}

/// A golden model of every further family: all of its tensors are of use, and the parts are complete. A block's numbers by
/// hand: those of BERT's shapes, or attention with key heads of their own, a gated MLP, and norms of one row each.
#[test]
fn every_family_by_its_parts() {
    let plain = |d: usize, inner: usize| 4 * (d * d + d) + 2 * d * inner + inner + d + 4 * d;
    // Query and output, key and value, their biases, three matrices of the MLP, two norms.
    let gated = |d: usize, inner: usize, q: usize, kv: usize, more: usize| {
        2 * d * q + 2 * d * kv + 3 * d * inner + 2 * d + more
    };
    for (name, family, kind, block) in [
        ("albert_lstm", "albert", "Unigram", plain(16, 24)),
        ("electra_mlp", "electra", "WordPiece", plain(16, 24)),
        ("distilbert_mlp", "distilbert", "WordPiece", plain(16, 24)),
        ("xlmr_lstm", "xlm-roberta", "Unigram", plain(16, 24)),
        ("opt_lstm", "opt", "byte-level BPE", plain(16, 24)),
        ("neox_embedding", "gpt_neox", "byte-level BPE", plain(16, 20)),
        // Biases everywhere.
        ("llama_mlp", "llama", "byte-level BPE", gated(12, 20, 24, 12, 24 + 2 * 12 + 12 + 2 * 20 + 12)),
        ("mistral_embedding", "mistral", "byte-level BPE", gated(16, 20, 16, 8, 0)),
        ("qwen2_embedding", "qwen2", "byte-level BPE", gated(16, 20, 16, 8, 16 + 2 * 8)),
        // Biases of the attention, and a norm of heads of 10 for queries and one for keys.
        ("qwen3_embedding", "qwen3", "byte-level BPE", gated(12, 20, 40, 20, 40 + 2 * 20 + 12 + 2 * 10)),
    ] {
        let facts = model(&golden(name));
        assert!(facts.usable, "{name}: {:?}", facts.reason);
        assert_eq!((facts.family.as_deref(), facts.tokenizer.unwrap().kind.as_str()), (Some(family), kind));
        let (shape, parts) = (facts.shape.unwrap(), facts.parameters.unwrap());
        assert_eq!(parts.unused, 0, "{name}");
        assert_eq!(parts.embeddings + parts.blocks + parts.head, parts.total, "{name}");
        assert!(parts.embeddings >= shape.vocabulary * shape.embedding_width && parts.head > 0, "{name}");
        assert_eq!(parts.blocks, shape.own_blocks * block, "{name}");
    }
    let shape = model(&golden("albert_lstm")).shape.unwrap();
    assert_eq!((shape.width, shape.embedding_width, shape.blocks, shape.own_blocks), (16, 8, 8, 4));
    // ModernBERT's first block has no norm in front of its attention.
    let facts = model(&golden("modernbert_embedding"));
    let (shape, parts) = (facts.shape.unwrap(), facts.parameters.unwrap());
    let (d, inner) = (shape.width, shape.inner);
    assert_eq!(parts.blocks, shape.blocks * (4 * d * d + 3 * d * inner + 2 * d) - d);
    assert_eq!((facts.usable, facts.family.as_deref(), parts.unused), (true, Some("modernbert"), 0));
    assert_eq!(
        (parts.embeddings, parts.embeddings + parts.blocks + parts.head),
        ((shape.vocabulary + 1) * d, parts.total)
    );
}

#[test]
fn a_model_that_cannot_be_used_says_why_and_what_is_known() {
    let spoilt = copy("lstm_verbalizer");
    let config = spoilt.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"bert\"", "\"mamba\"")).unwrap();
    let facts = model(spoilt.path());
    assert!(!facts.usable);
    assert!(facts.reason.unwrap().contains("model type 'mamba' is not implemented"));
    assert_eq!(facts.family.as_deref(), Some("mamba"));
    assert!(facts.tokenizer.is_some() && !facts.dtypes.is_empty() && facts.shape.is_none());

    let spoilt = copy("lstm_verbalizer");
    fs::remove_file(spoilt.path().join("model.safetensors")).unwrap();
    let facts = model(spoilt.path());
    assert!(!facts.usable && facts.reason.unwrap().contains("holds no weights"));

    // Sizes that the tensors do not have are found only by loading.
    let spoilt = copy("lstm_verbalizer");
    let config = spoilt.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let inner = model(&golden("lstm_verbalizer")).shape.unwrap().inner;
    fs::write(&config, text.replace(&format!("\"intermediate_size\": {inner}"), "\"intermediate_size\": 7")).unwrap();
    let facts = model(spoilt.path());
    assert!(!facts.usable && facts.reason.as_ref().unwrap().contains("has shape"), "{:?}", facts.reason);
}

#[test]
fn everything_else_gets_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let said = |name: &str| look(&path(name)).unwrap_err().to_string();
    fs::create_dir_all(path("runs/first")).unwrap();
    fs::write(path("runs/first/run.toml"), "").unwrap();
    for name in ["adapter.toml", "metrics.jsonl", "task.toml", "notes.txt"] {
        fs::write(path(&format!("runs/{name}")), "").unwrap();
    }
    assert!(said("runs/frist").contains(&format!("; did you mean '{}'?", path("runs/first").display())));
    assert!(said("zzz").ends_with("there is no such directory"));
    assert!(said("runs/adapter.toml").contains("is a part of an adapter; inspect its directory"));
    assert!(said("runs/metrics.jsonl").contains("is a part of a run"));
    assert!(said("runs/task.toml").contains("'ptune train' runs a run file"));
    assert!(said("runs/notes.txt").contains("is a file; inspect looks at directories"));
    fs::remove_file(path("runs/adapter.toml")).unwrap();
    assert!(said("runs").ends_with(&format!("; look at {}", path("runs/first").display())));
    fs::create_dir(path("empty")).unwrap();
    assert!(said("empty").ends_with("nor a run (run.toml)"));
}
