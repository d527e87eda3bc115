//! Classifiers: `SEQ_CLS` with a prompt, a prefix and a LoRA, in the names of one layer and of two, and a pooler, which is
//! trained here and part of the base there.

use super::*;

/// Name, model, template.
type Case = (&'static str, &'static str, &'static str);

const PROMPT_GPT2: Case = ("cls_p_tuning_gpt2", "gpt2_mlp", "[P*4] {text} is");
const PREFIX_ROBERTA: Case = ("cls_prefix_roberta", "roberta_embedding", " {text} is");
const LORA_BERT: Case = ("cls_lora_bert", "mlp_words", "{text} is");

fn import_labels(peft: &Path, config: &RunConfig, out: &Path) -> Result<PeftImport> {
    import_peft(peft, None, TaskFrom::Run(config, Path::new("run.toml")), None, out)
}

fn imported((name, model, template): Case) -> TempDir {
    let out = TempDir::new().unwrap();
    import_labels(&golden("peft").join(name), &labels(model, template), out.path()).unwrap();
    out
}

#[track_caller]
fn assert_refused(peft: &Path, config: &RunConfig, says: &str) {
    let scene = TempDir::new().unwrap();
    let refused = import_labels(peft, config, &scene.path().join("out")).unwrap_err();
    assert!(refused.is_request() && refused.to_string().contains(says), "'{says}' is not in: {refused}");
    assert!(!scene.path().join("out").exists(), "something was written");
}

#[test]
fn what_peft_classified_answers_here_as_there() {
    for case in [PROMPT_GPT2, PREFIX_ROBERTA, LORA_BERT] {
        let answers = read_json(&golden("peft").join(case.0).join("answers.json"));
        let expected: Vec<Vec<f64>> = serde_json::from_value(answers["logits"][0].clone()).unwrap();
        let expected: Vec<_> = expected.into_iter().map(centred).collect();
        assert_close(&scores(imported(case).path(), &answers["texts"]), &expected, case.0);
    }
}

#[test]
fn classifiers_come_back_as_they_were() {
    let score = ["base_model.score.weight"];
    let two = ["dense.bias", "dense.weight", "out_proj.bias", "out_proj.weight"];
    let two = two.map(|part| format!("base_model.classifier.{part}"));
    let pooled = ["bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight"];
    let pooled = pooled.map(|part| format!("base_model.model.{part}"));
    // A prompt's config cannot name modules before PEFT 0.17, and need not where they are PEFT's own choice.
    let cases = [
        (PROMPT_GPT2, score.map(str::to_owned).to_vec(), None),
        (PREFIX_ROBERTA, two.to_vec(), None),
        (LORA_BERT, pooled.to_vec(), Some(json!(["classifier", "score", "pooler.dense"]))),
    ];
    for (case, names, saved) in cases {
        let adapter = imported(case);
        let (out, again) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        export(adapter.path(), None, out.path()).unwrap();
        let config = read_json(&out.path().join("adapter_config.json"));
        assert_eq!((&config["task_type"], config.get("modules_to_save")), (&json!("SEQ_CLS"), saved.as_ref()));
        let tensors = read_tensors(&tensors_of(out.path()));
        let head = tensors.keys().filter(|name| !name.contains("lora_") && *name != "prompt_embeddings");
        assert_eq!(head.cloned().collect::<Vec<_>>(), names);
        import_peft(out.path(), None, TaskFrom::Beside, None, again.path()).unwrap();
        assert_eq!(Adapter::load(again.path()).unwrap(), Adapter::load(adapter.path()).unwrap(), "{}", case.0);
    }
}

#[test]
fn a_prompt_with_a_classifier_becomes_a_prefix_with_it() {
    let adapter = imported(PROMPT_GPT2);
    let (out, again) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    export(adapter.path(), Some(PeftMethod::PrefixTuning), out.path()).unwrap();
    import_peft(out.path(), None, TaskFrom::Beside, None, again.path()).unwrap();
    let texts = json!(["Rain", "The cat sleeps in the red room"]);
    assert_close(&scores(again.path(), &texts), &scores(adapter.path(), &texts), "behind the prefix");
}

/// What PEFT leaves out of its file: a pooler that stays as it was in the base.
#[test]
fn a_pooler_is_that_of_the_file_or_of_the_base() {
    let scene = TempDir::new().unwrap();
    let (peft, model) = (changed("cls_lora_bert", |_| {}), scene.path().join("model"));
    let mut pooler = Tensors::new();
    change_tensors(&tensors_of(peft.path()), |tensors| {
        let parts: Vec<String> = tensors.keys().filter(|name| name.contains("pooler")).cloned().collect();
        for name in parts {
            pooler.insert(name["base_model.model.".len()..].to_owned(), tensors.remove(&name).unwrap());
        }
    });
    assert_eq!(pooler.len(), 2);
    assert_refused(peft.path(), &labels("mlp_words", "{text} is"), "drew it at random");

    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(golden("mlp_words/model")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    change_tensors(&model.join("model.safetensors"), |tensors| tensors.extend(pooler.clone()));
    let config = RunConfig { model, ..labels("mlp_words", "{text} is") };
    let head = |peft: &Path, out: &str| {
        let out = scene.path().join(out);
        import_labels(peft, &config, &out).unwrap();
        read_tensors(&out.join("head.safetensors"))
    };
    let expected = read_tensors(&imported(LORA_BERT).path().join("head.safetensors"));
    assert_eq!(head(peft.path(), "frozen"), expected);

    // PEFT's "all-linear" gives the pooler an addition; scale 5 / 3.
    change_tensors(&tensors_of(peft.path()), |tensors| {
        let stem = "base_model.model.bert.pooler.dense";
        let width = pooler["bert.pooler.dense.bias"].0[0];
        let (mut a, mut b) = (vec![0.0; 3 * width], vec![0.0; width * 3]);
        (a[width + 4], b[2 * 3 + 1]) = (0.5, 3.0);
        tensors.insert(format!("{stem}.lora_A.weight"), (vec![3, width], a));
        tensors.insert(format!("{stem}.lora_B.weight"), (vec![width, 3], b));
    });
    let changed = head(peft.path(), "changed");
    let [before, after] = [&expected, &changed].map(|head| &head["classifier.dense.weight"]);
    let width = before.0[1];
    for (at, (before, after)) in before.1.iter().zip(&after.1).enumerate() {
        let more = if at == 2 * width + 4 { 2.5 } else { 0.0 };
        assert!((after - before - more).abs() < 1e-6, "{at}: {before} -> {after}");
    }
}

#[test]
fn a_classifier_that_is_not_whole_or_not_asked_for_is_refused() {
    let score = |change: &dyn Fn(&mut Tensors)| {
        let peft = changed("cls_p_tuning_gpt2", |_| {});
        change_tensors(&tensors_of(peft.path()), change);
        peft
    };
    let config = labels("gpt2_mlp", "[P*4] {text} is");
    // PEFT: KeyError 'base_model.score.weight'.
    let none = score(&|tensors| drop(tensors.remove("base_model.score.weight")));
    assert_refused(none.path(), &config, "base_model.score.weight");
    let two = score(&|tensors| {
        let (shape, numbers) = tensors.get_mut("base_model.score.weight").unwrap();
        (shape[0], *numbers) = (2, numbers[..2 * shape[1]].to_vec());
    });
    assert_refused(two.path(), &config, "has 2 labels, the task 3");
    let whole = score(&|_| {});
    assert_refused(whole.path(), &task("gpt2_mlp", PROMPT), "name them in their order");
    assert_refused(&golden("peft/p_tuning_mlp"), &config, "it has no classifier");
    // Saved by hand, with what PEFT takes out of the names.
    let by_hand = score(&|tensors| {
        let weight = tensors.remove("base_model.score.weight").unwrap();
        tensors.insert("base_model.score.modules_to_save.default.weight".into(), weight);
    });
    let out = TempDir::new().unwrap();
    import_labels(by_hand.path(), &config, out.path()).unwrap();
    assert_eq!(Adapter::load(out.path()).unwrap(), Adapter::load(imported(PROMPT_GPT2).path()).unwrap());
    let half = changed("cls_prefix_roberta", |_| {});
    change_tensors(&tensors_of(half.path()), |tensors| drop(tensors.remove("base_model.classifier.dense.bias")));
    assert_refused(half.path(), &labels("roberta_embedding", " {text} is"), "classifier.dense.bias");
}

#[test]
fn what_peft_runs_otherwise_is_refused() {
    // Its prompt stands before [CLS], and its classifier reads the first virtual token.
    let bert = golden("peft/refused/ptuning_mlp_seqcls_bert");
    assert_refused(&bert, &labels("mlp_words", "[P*4] {text}"), "reads the first virtual token there");
    // No keys and values in transformers' class: PEFT saves such a prefix and cannot run it.
    let prefix = changed("cls_prefix_roberta", |_| {});
    change_tensors(&tensors_of(prefix.path()), |tensors| {
        let directory = ModelDirectory::open(&golden("distilbert_mlp/model")).unwrap();
        let spec = ModelSpec::read(&directory).unwrap();
        let matrix = |rows: usize, columns: usize| (vec![rows, columns], vec![0.5; rows * columns]);
        *tensors = Tensors::from([
            ("prompt_embeddings".into(), matrix(4, spec.past_width())),
            ("base_model.pre_classifier.weight".into(), matrix(spec.hidden, spec.hidden)),
            ("base_model.pre_classifier.bias".into(), (vec![spec.hidden], vec![0.5; spec.hidden])),
            ("base_model.classifier.weight".into(), matrix(3, spec.hidden)),
            ("base_model.classifier.bias".into(), (vec![3], vec![0.5; 3])),
        ]);
    });
    let config = prefix.path().join("adapter_config.json");
    let mut keys = read_json(&config);
    keys.as_object_mut().unwrap().retain(|key, _| ["peft_type", "task_type"].contains(&key.as_str()));
    fs::write(&config, keys.to_string()).unwrap();
    assert_refused(prefix.path(), &labels("distilbert_mlp", "{text} is"), "takes no keys and values");
    // A classifier alone.
    let alone = imported(LORA_BERT);
    let mut loaded = Adapter::load(alone.path()).unwrap();
    loaded.tuned = loaded.tuned.head_alone();
    loaded.save(alone.path()).unwrap();
    let refused = export(alone.path(), None, &alone.path().join("out")).unwrap_err();
    assert!(refused.to_string().contains("only its classifier was trained"), "{refused}");
}
