//! Adapters of the PEFT library (Hugging Face): a directory of two files, read and written.
//!
//! | file | holds |
//! |---|---|
//! | `adapter_config.json` | which method, sizes, task type; we write only the keys that every PEFT from 0.5 on takes |
//! | `adapter_model.safetensors` | the tensors below; f32 from us, f32, f16 or bf16 to us |
//! | `ptune.json` | ours alone: what PEFT has no place for, template, label words, base (`sibling.rs`) |
//!
//! | `peft_type` | tensor | shape |
//! |---|---|---|
//! | `PROMPT_TUNING`, `P_TUNING`, `CPT` | `prompt_embeddings` | `[p, d]`: the rows that stand before the text |
//! | `MULTITASK_PROMPT_TUNING` | the same, `prefix_task_cols [tasks, p, ranks]`, `prefix_task_rows [tasks, ranks, d]` | task t: `prompt_embeddings * (cols[t] rows[t])`, element by element |
//! | `PREFIX_TUNING`, `CARTRIDGE` | `prompt_embeddings` | `[p, layers * 2 * d_kv]`: of each token K0, V0, K1, V1, ... |
//! | `LORA` | `base_model.model.<module>.lora_A.weight`, `.lora_B.weight` | `[r, inputs]`, `[outputs, r]`, also of a `Conv1D` |
//! | any with `SEQ_CLS` | the layers of a classifier besides (`heads.rs`) | |
//!
//! PEFT saves what its prompt encoder computes, never the encoder; so do we, and the files mean the same to both. It puts
//! all virtual tokens before the text and has no task type for a masked model, so what it cannot say is refused
//! (`front.rs`); `LORA` changes modules wherever they are, and so does it in a masked model (`modules.rs`). Pickled weights (`adapter_model.bin`) are never read: they can run code.

mod config;
mod front;
mod heads;
mod keys;
mod lora_config;
mod lora_read;
mod lora_write;
mod modules;
mod prefix;
mod read;
mod sibling;
mod write;

pub use front::{front_rows, refuse_prefix};
pub use heads::PeftHead;
pub use read::{PeftAdapter, PeftTrained};
pub use write::{Exported, PeftMethod, Source};

/// How large an adapter of PEFT is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeftSize {
    /// Virtual tokens, of a prompt or a prefix.
    Tokens(usize),
    /// The rank of low-rank additions.
    Rank(usize),
}

const CONFIG_FILE: &str = "adapter_config.json";
const TENSORS_FILE: &str = "adapter_model.safetensors";
const PICKLED_FILE: &str = "adapter_model.bin";
const OUR_FILE: &str = "ptune.json";
const PROMPT_TENSOR: &str = "prompt_embeddings";
/// What stands before the names of modules in a LoRA; of a prompt, which leaves the model as it is, `base_model.`.
const WRAPPED: &str = "base_model.model.";
