//! What PEFT does silently and wrongly, by the letters under which ptune's authors noted it: none of it happens here.

use super::*;

/// A. PEFT saves what the encoder computes, and takes it as the encoder's input where it is loaded into a live one. Here it is
/// the prompt, bit for bit.
#[test]
fn trap_a_an_encoders_output_is_the_prompt_itself() {
    for name in ["p_tuning_lstm", "p_tuning_mlp"] {
        let peft = golden("peft").join(name);
        let out = TempDir::new().unwrap();
        import(&peft, PROMPT, None, out.path()).unwrap();
        let saved = &read_tensors(&tensors_of(&peft))["prompt_embeddings"];
        assert_eq!(Adapter::load(out.path()).unwrap().prompt, saved.1, "{name}");
    }
}

/// B. The spans of `QUESTION_ANS` are off by the prompt. D. Without a task type the prompt has no effect. G. Half of a prompt for
/// an encoder and a decoder is never trained. And what is a crash there.
#[test]
fn trap_b_d_g_task_types_that_mislead_are_errors() {
    let cases = [
        ("task_type", Value::Null, "runs the model without its prompt"),
        ("task_type", json!("QUESTION_ANS"), "spans that are off"),
        ("task_type", json!("SEQ_2_SEQ_LM"), "no encoder-decoder models"),
        ("task_type", json!("TOKEN_CLS"), "reads CAUSAL_LM"),
        ("peft_type", Value::Null, "is missing"),
        ("peft_type", json!("ADALORA"), "'ADALORA' is not implemented"),
    ];
    for (key, value, says) in cases {
        let peft = changed("prompt_tuning", |config| drop(config.insert(key.into(), value)));
        assert_import_refused(peft.path(), PROMPT, says);
    }
}

/// C. Behind a prompt a causal model's classifier reads the last position there, a pad where the text is shorter than others.
#[test]
fn trap_c_a_classifier_reads_the_last_token_of_its_own_text() {
    let out = TempDir::new().unwrap();
    let run = labels("gpt2_mlp", "[P*4] {text} is");
    let from = TaskFrom::Run(&run, Path::new("run.toml"));
    import_peft(&golden("peft/cls_p_tuning_gpt2"), None, from, None, out.path()).unwrap();
    let texts = ["Rain", "The cat sleeps in the red room", "no"];
    let together = scores(out.path(), &json!(texts));
    for (text, together) in texts.iter().zip(together) {
        assert_eq!(scores(out.path(), &json!([text])), [together], "{text}");
    }
}

/// E. Any base is taken there. The sizes say that it is another, and `ptune.json` knows its fingerprint.
#[test]
fn trap_e_another_base_is_an_error() {
    let cases = [
        ("num_layers", json!(12), "another than the adapter's"),
        ("num_attention_heads", json!(12), "another than the adapter's"),
        ("num_virtual_tokens", json!(8), "has 4 rows"),
        ("token_dim", json!(768), "another than the adapter's"),
        ("token_dim", json!("24"), "a whole number was expected"),
    ];
    for (key, value, says) in cases {
        let peft = changed("prompt_tuning", |config| drop(config.insert(key.into(), value)));
        assert_import_refused(peft.path(), PROMPT, says);
    }
    let (scene, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    export(imported().path(), None, out.path()).unwrap();
    let other = golden("gpt2_lstm/model");
    let refused = import_peft(out.path(), Some(&other), TaskFrom::Beside, None, &scene.path().join("out")).unwrap_err();
    assert!(refused.to_string().contains("which this is not"), "{refused}");
}

/// F. `encoder_dropout` has no effect on an MLP there. It is none of the adapter's, and no key of a run file takes it and
/// does nothing.
#[test]
fn trap_f_no_dropout_is_promised_to_an_encoder() {
    let (here, there, out) =
        (imported_as("p_tuning_mlp", 0.0), imported_as("p_tuning_mlp", 0.5), TempDir::new().unwrap());
    assert_eq!(Adapter::load(here.path()).unwrap(), Adapter::load(there.path()).unwrap());
    export(there.path(), None, out.path()).unwrap();
    assert_eq!(read_json(&out.path().join("adapter_config.json"))["encoder_dropout"], json!(0.0));
    let run = out.path().join("run.toml");
    fs::write(&run, "model = \"m\"\n[prompt]\nencoder = \"mlp\"\ndropout = 0.5\n").unwrap();
    let refused = RunConfig::read(&run, &[]).unwrap_err();
    assert!(refused.to_string().contains("dropout"), "{refused}");
}

fn imported_as(name: &str, dropout: f64) -> TempDir {
    let peft = changed(name, |config| drop(config.insert("encoder_dropout".into(), json!(dropout))));
    let out = TempDir::new().unwrap();
    import(peft.path(), PROMPT, None, out.path()).unwrap();
    out
}

/// H. An adapter that was loaded to answer can still be trained there. Here answering leaves every byte of it.
#[test]
fn trap_h_answering_changes_nothing() {
    let adapter = imported();
    let bytes = || {
        let files = fs::read_dir(adapter.path()).unwrap().map(|file| file.unwrap().path());
        files.map(|file| (file.clone(), fs::read(file).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = bytes();
    let texts = json!(["Rain"]);
    assert_eq!(scores(adapter.path(), &texts), scores(adapter.path(), &texts));
    assert_eq!(bytes(), before);
}
