//! LoRA: PEFT's answers, the form of ours, and what would be loaded there or here to another effect.

use std::collections::BTreeMap;

use super::*;

/// Name, model, template.
const CASES: [(&str, &str, &str); 3] = [
    ("lora_bert", "mlp_words", "{text} is [MASK]"),
    ("lora_gpt2", "gpt2_mlp", BEHIND),
    ("lora_llama", "llama_mlp", BEHIND),
];

fn import_over(model: &str, peft: &Path, template: &str, out: &Path) -> Result<PeftImport> {
    import_peft(peft, None, TaskFrom::Run(&task(model, template), Path::new("run.toml")), None, out)
}

fn imported((name, model, template): (&str, &str, &str)) -> TempDir {
    let out = TempDir::new().unwrap();
    import_over(model, &golden("peft").join(name), template, out.path()).unwrap();
    out
}

#[track_caller]
fn assert_refused(peft: &Path, says: &str) {
    let scene = TempDir::new().unwrap();
    let refused = import_over("mlp_words", peft, "{text} is [MASK]", &scene.path().join("out")).unwrap_err();
    assert!(refused.is_request() && refused.to_string().contains(says), "'{says}' is not in: {refused}");
    assert!(!scene.path().join("out").exists(), "something was written");
}

/// Ranks and factors of their own, a part of the blocks, a fused module, a regular expression, a masked model.
#[test]
fn what_peft_added_answers_here_as_there() {
    for case in CASES {
        let answers = read_json(&golden("peft").join(case.0).join("answers.json"));
        assert_eq!((&answers["peft"], &answers["model"]), (&json!("0.21.2"), &json!(case.1)));
        let expected: Vec<Vec<f64>> = serde_json::from_value(answers["logits"][0].clone()).unwrap();
        let expected: Vec<_> = expected.into_iter().map(centred).collect();
        assert_close(&scores(imported(case).path(), &answers["texts"]), &expected, case.0);
    }
}

#[test]
fn additions_come_back_as_they_were() {
    for case in CASES {
        let adapter = imported(case);
        let (out, again) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let done = export(adapter.path(), None, out.path()).unwrap();
        assert_eq!((done.method, done.size), ("LORA", PeftSize::Rank(3)));
        import_peft(out.path(), None, TaskFrom::Beside, None, again.path()).unwrap();
        // The hashes of the matrices' file are part of it.
        assert_eq!(Adapter::load(again.path()).unwrap(), Adapter::load(adapter.path()).unwrap(), "{}", case.0);
    }
}

/// The keys that LoRA has had since PEFT 0.5; others only where they say something.
#[test]
fn exports_have_the_keys_that_every_version_knows() {
    let keys = [
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "modules_to_save",
        "peft_type",
        "r",
        "revision",
        "target_modules",
        "task_type",
    ];
    let out = TempDir::new().unwrap();
    export(imported(CASES[0]).path(), Some(PeftMethod::Lora), out.path()).unwrap();
    let config = read_json(&out.path().join("adapter_config.json"));
    assert_eq!(config.as_object().unwrap().keys().collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
    // A masked model has no task type in PEFT; a LoRA without one still has its effect.
    assert_eq!((&config["task_type"], &config["bias"], &config["r"]), (&Value::Null, &json!("none"), &json!(3)));
    assert_eq!(config["lora_alpha"].to_string(), "5");
    let names = ["attention.self.query", "attention.self.value", "intermediate.dense"];
    assert_eq!(config["target_modules"], json!(names));

    // Three layers in one module: three times the rank, and alpha so that the factor is the same.
    let out = TempDir::new().unwrap();
    export(imported(CASES[1]).path(), None, out.path()).unwrap();
    let config = read_json(&out.path().join("adapter_config.json"));
    assert_eq!((&config["fan_in_fan_out"], &config["use_rslora"]), (&json!(true), &json!(true)));
    assert_eq!((&config["r"], &config["rank_pattern"]), (&json!(9), &json!({"mlp.c_proj": 3})));
    let factor = config["lora_alpha"].as_f64().unwrap() / 9f64.sqrt();
    let other = config["alpha_pattern"]["mlp.c_proj"].as_f64().unwrap() / 3f64.sqrt();
    assert!((factor - 5.0 / 3f64.sqrt()).abs() < 1e-12 && (other - factor).abs() < 1e-12, "{config}");
    let tensors = read_tensors(&tensors_of(out.path()));
    // The checkpoint leaves `transformer.` out, which PEFT would not find: it ignores tensors that it has no place for.
    let shape = |matrix: &str| &tensors[&format!("base_model.model.transformer.h.0.attn.c_attn.{matrix}.weight")].0;
    assert_eq!((shape("lora_A"), shape("lora_B")), (&vec![9, 24], &vec![72, 9]));
}

/// PEFT finds modules by the ends of their names: `output.dense` would be `attention.output.dense` too.
#[test]
fn modules_whose_names_end_alike_are_named_whole() {
    let directory = ModelDirectory::open(&golden("mlp_words/model")).unwrap();
    let down = ModelSpec::read(&directory).unwrap().blocks[0].mlp.down.clone();
    let peft = changed("lora_bert", |_| {});
    change_tensors(&tensors_of(peft.path()), |tensors| {
        let matrix = |name: &str, shape: [usize; 2]| {
            let name = format!("base_model.model.bert.encoder.layer.1.output.dense.{name}.weight");
            (name, (shape.to_vec(), vec![0.5; shape[0] * shape[1]]))
        };
        *tensors = BTreeMap::from([matrix("lora_A", [3, down.inputs]), matrix("lora_B", [down.outputs, 3])]);
    });
    let (adapter, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    import_over("mlp_words", peft.path(), "{text} is [MASK]", adapter.path()).unwrap();
    export(adapter.path(), None, out.path()).unwrap();
    let config = read_json(&out.path().join("adapter_config.json"));
    let names = ["bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.output.dense"];
    assert_eq!(config["target_modules"], json!(names));
}

/// What PEFT 0.21.2 wrote, and what would be added to another effect than there.
#[test]
fn variants_are_refused_by_name() {
    for (name, says) in [("dora_llama", "DoRA"), ("lora_emb", "embedding"), ("lora_bias", "B has a bias")] {
        assert_refused(&golden("peft/refused").join(name), says);
    }
    let cases = [
        ("use_dora", json!(true), "DoRA scales"),
        ("bias", json!("lora_only"), "biases were trained"),
        ("layer_replication", json!([[0, 2], [1, 2]]), "repeated"),
        ("target_parameters", json!(["experts.w"]), "outside of linear layers"),
        ("trainable_token_indices", json!([3]), "entries of the word table"),
        ("alora_invocation_tokens", json!([3]), "begin at these tokens"),
        ("use_qalora", json!(true), "QA-LoRA"),
        ("use_bdlora", json!({"nblocks": 2}), "block-diagonal"),
        ("arrow_config", json!({"top_k": 2}), "Arrow"),
        ("enable_lora", json!([true, false, true]), "fused layers of PEFT 0.1"),
        ("init_lora_weights", json!("pissa"), "changes the base's weights"),
        ("init_lora_weights", json!("loftq"), "changes the base's weights"),
        ("a_later_variant", json!("on"), "the key is not known"),
        ("alpha_pattern", json!({"layer\\.[01].*": 4}), "name each module"),
        ("alpha_pattern", json!({"query": "4"}), "a number was expected"),
        ("rank_pattern", json!({"query": 8}), "its lora_A has 3 rows"),
        ("r", json!(8), "its lora_A has 3 rows"),
        ("lora_alpha", json!(0), "above 0"),
        ("task_type", json!("SEQ_2_SEQ_LM"), "no encoder-decoder models"),
        ("task_type", json!("TOKEN_CLS"), "TOKEN_CLS"),
    ];
    for (key, value, says) in cases {
        let peft = changed("lora_bert", |config| drop(config.insert(key.into(), value)));
        assert_refused(peft.path(), says);
    }
}

/// PEFT takes what it finds of the tensors, and leaves the rest of the model as it was without a word.
#[test]
fn tensors_without_a_place_are_errors() {
    const QUERY: &str = "base_model.model.bert.encoder.layer.0.attention.self.query";
    let moved = |to: &str| {
        let peft = changed("lora_bert", |_| {});
        change_tensors(&tensors_of(peft.path()), |tensors| {
            let tensor = tensors.remove(&format!("{QUERY}.lora_B.weight")).unwrap();
            if !to.is_empty() {
                tensors.insert(to.into(), tensor);
            }
        });
        peft
    };
    assert_refused(moved("").path(), "is missing");
    assert_refused(moved(&format!("{QUERY}.lora_B.default.weight")).path(), "is no low-rank addition");
    assert_refused(moved("bert.encoder.layer.0.attention.self.query.lora_B.weight").path(), "does not begin with");
    assert_refused(moved("base_model.model.bert.encoder.layer.9.attention.self.query.lora_B.weight").path(), "layer.9");
    assert_refused(moved("base_model.model.bert.pooler.dense.lora_B.weight").path(), "pooler");
    assert_refused(moved("base_model.model.bert.embeddings.word_embeddings.weight").path(), "resized");
    // Another model: nothing in the files names it.
    let scene = TempDir::new().unwrap();
    let from = golden("peft/lora_bert");
    let refused = import_over("gpt2_mlp", &from, BEHIND, &scene.path().join("out")).unwrap_err();
    assert!(refused.to_string().contains("(gpt2) has no linear layer"), "{refused}");
    let refused = import_over("peft_lstm", &from, "{text} is [MASK]", &scene.path().join("out")).unwrap_err();
    assert!(refused.is_request(), "{refused}");
    // A model without a head has no prefix in its names.
    let bare = changed("lora_bert", |_| {});
    change_tensors(&tensors_of(bare.path()), |tensors| {
        let renamed = std::mem::take(tensors).into_iter().map(|(name, tensor)| (name.replace(".bert.", "."), tensor));
        tensors.extend(renamed);
    });
    let out = TempDir::new().unwrap();
    import_over("mlp_words", bare.path(), "{text} is [MASK]", out.path()).unwrap();
    assert_eq!(Adapter::load(out.path()).unwrap(), Adapter::load(imported(CASES[0]).path()).unwrap());
}

#[test]
fn additions_beside_a_prompt_have_no_form_in_peft() {
    let adapter = imported(CASES[1]);
    let mut loaded = Adapter::load(adapter.path()).unwrap();
    (loaded.description.template, loaded.rows, loaded.prompt) = (PROMPT.into(), 4, vec![0.5; 4 * 24]);
    (loaded.description.encoder, loaded.description.shapes) = (Some("mlp".into()), Some("peft".into()));
    loaded.save(adapter.path()).unwrap();
    for method in [None, Some(PeftMethod::Lora), Some(PeftMethod::PrefixTuning)] {
        let refused = export(adapter.path(), method, &adapter.path().join("out")).unwrap_err();
        assert!(refused.to_string().contains("those of one type at a time"), "{refused}");
    }
    let plain = super::imported();
    let refused = export(plain.path(), Some(PeftMethod::Lora), &plain.path().join("out")).unwrap_err();
    assert!(refused.to_string().contains("no low-rank additions"), "{refused}");
    let scene = TempDir::new().unwrap();
    let refused = import_over("gpt2_mlp", &golden("peft/lora_gpt2"), PROMPT, &scene.path().join("out")).unwrap_err();
    assert!(refused.to_string().contains("without [P*n]"), "{refused}");
}
