//! A checkpoint of each family, as small as it can be: one block of width 4, six words, eight positions, all values 0.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

const WIDTH: usize = 4;
const INNER: usize = 8;
const WORDS: usize = 6;
const POSITIONS: usize = 8;

/// The families that a `config.json` can name.
pub const FAMILIES: [&str; 3] = ["bert", "roberta", "gpt2"];

/// The `model.safetensors` of a family.
pub fn weights(family: &str) -> Vec<u8> {
    let tensors = match family {
        "gpt2" => gpt2(),
        family => [encoder(family), head(family)].concat(),
    };
    let zeros = vec![0; 4 * 12 * INNER];
    let view = |shape: &Vec<usize>| {
        TensorView::new(Dtype::F32, shape.clone(), &zeros[..4 * shape.iter().product::<usize>()]).unwrap()
    };
    let views: BTreeMap<_, _> = tensors.iter().map(|(name, shape)| (name, view(shape))).collect();
    safetensors::serialize(views, None).unwrap()
}

type Tensors = Vec<(String, Vec<usize>)>;

/// `<name>.weight` and `<name>.bias`.
fn layer(name: &str, weight: &[usize], bias: usize) -> Tensors {
    vec![(format!("{name}.weight"), weight.to_vec()), (format!("{name}.bias"), vec![bias])]
}

fn norm(name: &str) -> Tensors {
    layer(name, &[WIDTH], WIDTH)
}

fn table(name: &str, rows: usize) -> Tensors {
    vec![(format!("{name}.weight"), vec![rows, WIDTH])]
}

fn encoder(prefix: &str) -> Tensors {
    let (embeddings, block) = (format!("{prefix}.embeddings"), format!("{prefix}.encoder.layer.0"));
    let square = |name: &str| layer(&format!("{block}.attention.{name}"), &[WIDTH, WIDTH], WIDTH);
    [
        table(&format!("{embeddings}.word_embeddings"), WORDS),
        table(&format!("{embeddings}.position_embeddings"), POSITIONS),
        table(&format!("{embeddings}.token_type_embeddings"), 1),
        norm(&format!("{embeddings}.LayerNorm")),
        square("self.query"),
        square("self.key"),
        square("self.value"),
        square("output.dense"),
        norm(&format!("{block}.attention.output.LayerNorm")),
        layer(&format!("{block}.intermediate.dense"), &[INNER, WIDTH], INNER),
        layer(&format!("{block}.output.dense"), &[WIDTH, INNER], WIDTH),
        norm(&format!("{block}.output.LayerNorm")),
    ]
    .concat()
}

fn head(family: &str) -> Tensors {
    let (dense, normed, bias) = match family {
        "bert" => ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
        _ => ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    };
    [layer(dense, &[WIDTH, WIDTH], WIDTH), norm(normed), vec![(bias.into(), vec![WORDS])]].concat()
}

fn gpt2() -> Tensors {
    [
        table("wte", WORDS),
        table("wpe", POSITIONS),
        norm("h.0.ln_1"),
        layer("h.0.attn.c_attn", &[WIDTH, 3 * WIDTH], 3 * WIDTH),
        layer("h.0.attn.c_proj", &[WIDTH, WIDTH], WIDTH),
        norm("h.0.ln_2"),
        layer("h.0.mlp.c_fc", &[WIDTH, INNER], INNER),
        layer("h.0.mlp.c_proj", &[INNER, WIDTH], WIDTH),
        norm("ln_f"),
    ]
    .concat()
}
