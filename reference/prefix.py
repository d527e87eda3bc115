"""Writes `crates/ptune/tests/golden/prefix/`: prefix tuning (P-tuning v2) over the tiny models of other golden cases.

A case is `CASE.json` (rows of token ids, answer rows, targets, losses of five updates) and `CASE.safetensors` (the encoder's
starting values by PEFT's names, the prefix, logits, the gradient of every parameter). For causal models the prefix is that of PEFT
itself, `PeftModelForCausalLM` with `PREFIX_TUNING`; for BERT and RoBERTa, which PEFT has no task type for, the same
encoder's rows go into transformers' cache; ModernBERT takes no cache, so there they go into its attention, in front of its own keys,
and its mask and its positions into the place of those of a longer text. In all of them positions of the text go on behind the
prefix, so where layers have a window, rows beyond it do not see the prefix. With `full` the model is trained too, and the norms of all
its gradients are written.

`python reference/prefix.py`; rerunning gives the same bytes.
"""

import json
import pathlib

import torch
from peft import PrefixTuningConfig, get_peft_model
from peft.tuners.prefix_tuning.model import PrefixEncoder
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.cache_utils import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

GOLDEN = pathlib.Path(__file__).parent.parent / "crates/ptune/tests/golden"
STEPS = 5
# Name, golden case with the model, prefix rows, hidden width of the projection, whether the model is trained too.
CASES = [("bert_plain", "lstm_verbalizer", 5, None, False), ("bert_projected", "lstm_uneven", 3, 10, False),
         ("bert_full", "mlp_words", 4, None, True), ("roberta_plain", "roberta_lstm", 6, None, False),
         ("gpt2_plain", "gpt2_lstm", 5, None, False), ("gpt2_projected", "gpt2_mlp", 4, 7, False),
         ("gpt2_full", "gpt2_mlp", 2, None, True),
         # Windows of 7; of 6 from the second layer on; of 9 on the first, heads with norms; none; and 3 to either side on every other.
         ("mistral_plain", "mistral_embedding", 4, None, False), ("qwen2_projected", "qwen2_embedding", 3, 5, False),
         ("qwen3_plain", "qwen3_embedding", 5, None, False), ("neox_full", "neox_embedding", 4, None, True),
         ("modernbert_plain", "modernbert_embedding", 4, None, False)]


def texts(vocab, causal):
    """Uneven rows, their answer rows and targets."""
    rows = [torch.randint(5, vocab, (n,)).tolist() for n in (3, 9, 1 if causal else 2, 14, 6)]
    answers = [len(row) - 1 if causal else (3 * i) % len(row) for i, row in enumerate(rows)]
    return rows, answers, torch.randint(5, vocab, (len(rows),)).tolist()


class Prefixed(torch.nn.Module):
    """A masked model behind the rows of PEFT's encoder."""

    def __init__(self, model, config):
        super().__init__()
        self.model, self.encoder = model, PrefixEncoder(config)

    def logits(self, ids):
        c = self.model.config
        rows = self.encoder(torch.arange(self.encoder.embedding.num_embeddings))
        rows = rows.view(len(rows), 2 * c.num_hidden_layers, c.num_attention_heads, -1).transpose(0, 1)
        if c.model_type == "modernbert":
            return modernbert_logits(self.model, rows, ids)
        cache = DynamicCache()
        for i in range(c.num_hidden_layers):
            cache.update(rows[2 * i].transpose(0, 1)[None], rows[2 * i + 1].transpose(0, 1)[None], i)
        return self.model(input_ids=torch.tensor([ids]), past_key_values=cache).logits[0]


def modernbert_logits(model, rows, ids):
    """Of a ModernBERT whose layers see the keys and values `rows` [2 layers, n, heads, width] in front of their own. A key is
    seen where it is no more than half a window away."""
    (_, n, _, _), length, c = rows.shape, len(ids), model.config
    apart = (torch.arange(n, n + length)[:, None] - torch.arange(n + length)).abs()

    def attention(module, query, key, value, attention_mask, scaling, **kwargs):
        i = module.layer_idx
        key, value = (torch.cat([part.transpose(0, 1)[None], own], dim=2) for part, own in zip(rows[2 * i: 2 * i + 2], (key, value)))
        scores = query @ key.transpose(2, 3) * scaling
        if c.layer_types[i] == "sliding_attention":
            scores = scores.masked_fill(apart > c.local_attention // 2, float("-inf"))
        return (scores.softmax(-1) @ value).transpose(1, 2), None

    ALL_ATTENTION_FUNCTIONS["with_prefix"] = attention
    c._attn_implementation = "with_prefix"
    positions = torch.arange(n, n + length)[None]
    return model(input_ids=torch.tensor([ids]), position_ids=positions, attention_mask=torch.ones(1, length)).logits[0]


class PeftCausal(torch.nn.Module):
    """PEFT's own model."""

    def __init__(self, model, config):
        super().__init__()
        self.model = model
        self.peft = get_peft_model(model, config)
        self.encoder = self.peft.prompt_encoder["default"]

    def logits(self, ids):
        return self.peft(input_ids=torch.tensor([ids])).logits[0]


def case(name, golden, rows, hidden, full):
    torch.manual_seed(len(name) + rows)
    directory = GOLDEN / golden / "model"
    causal = name.split("_")[0] in ("gpt2", "mistral", "qwen2", "qwen3", "neox")
    kind = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    c = AutoConfig.from_pretrained(directory)
    if c.model_type == "modernbert":
        c.pad_token_id = None  # its default is beyond this vocabulary
    model = kind.from_pretrained(directory, config=c, attn_implementation="eager").eval()
    heads = getattr(c, "num_key_value_heads", c.num_attention_heads)
    width = heads * (getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=rows, prefix_projection=hidden is not None,
                                encoder_hidden_size=hidden or c.hidden_size, token_dim=width, num_transformer_submodules=1,
                                num_layers=c.num_hidden_layers, num_attention_heads=heads)
    wrapped = (PeftCausal if causal else Prefixed)(model, config)
    model.requires_grad_(full)
    ids, answers, targets = texts(c.vocab_size, causal)
    encoder = wrapped.encoder

    def loss():
        logits = torch.stack([wrapped.logits(row)[at] for row, at in zip(ids, answers)])
        return cross_entropy(logits, torch.tensor(targets)), logits

    tensors = {"encoder." + k: v.detach().clone() for k, v in encoder.named_parameters()}
    tensors["prefix"] = encoder(torch.arange(rows)).detach().clone()
    parameters = [*encoder.parameters(), *(model.parameters() if full else [])]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, weight_decay=0.0)
    losses, norms = [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        value, logits = loss()
        value.backward()
        if step == 0:
            tensors["logits"] = logits.detach().clone()
            tensors |= {"encoder_grad." + k: p.grad.clone() for k, p in encoder.named_parameters()}
            if full:
                norms = {k.removeprefix("base_model."): p.grad.norm().item() for k, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        losses.append(value.item())
    out = GOLDEN / "prefix"
    out.mkdir(exist_ok=True)
    save_file({k: tensors[k].contiguous() for k in sorted(tensors)}, out / f"{name}.safetensors")
    values = dict(model=golden, rows=rows, hidden=hidden, ids=ids, answers=answers, targets=targets, losses=losses)
    if full:
        values["gradient_norms"] = dict(sorted(norms.items()))
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items())
    (out / f"{name}.json").write_text("{\n" + lines + "\n}\n")
    print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for arguments in CASES:
        case(*arguments)
