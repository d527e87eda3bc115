"""Writes `crates/ptune/tests/golden/classifier/`: classifiers over the tiny models of other golden cases, with transformers'
`ForSequenceClassification` and, for prefixes, PEFT's encoder (for the causal model PEFT's own `SEQ_CLS` model).

A case is `CASE.json` (rows of token ids, labels, losses of five updates; the norms of the model's gradients where it is
trained too) and `CASE.safetensors` (starting values of classifier and prefix, scores, their gradients).

`python reference/classifier.py`; rerunning gives the same bytes.
"""

import json

import torch
from peft import PrefixTuningConfig, get_peft_model
from peft.tuners.prefix_tuning.model import PrefixEncoder
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.cache_utils import DynamicCache

from prefix import GOLDEN, STEPS, texts

# Name, golden case with the model, labels, prefix rows, whether the model is trained too.
CASES = [("bert_prefix", "lstm_verbalizer", 3, 4, False), ("bert_full", "mlp_words", 2, 0, True),
         ("roberta_probe", "roberta_lstm", 4, 0, False), ("gpt2_prefix", "gpt2_lstm", 3, 5, False),
         ("gpt2_full", "gpt2_mlp", 2, 0, True),
         # The first token, without biases; the mean of all rows, with them.
         ("modernbert_probe", "modernbert_embedding", 3, 0, False), ("modernbert_full", "modernbert_mlp", 3, 0, True)]
# The classifier's parameters in transformers, and ours.
NAMES = {"bert": {"bert.pooler.dense": "dense", "classifier": ""}, "roberta": {"classifier.dense": "dense", "classifier.out_proj": ""},
         "gpt2": {"score": ""}, "modernbert": {"head.dense": "dense", "head.norm": "norm", "classifier": ""}}


def head_parameters(model, family):
    """Ours by name."""
    found = {}
    for theirs, ours in NAMES[family].items():
        for part, parameter in model.get_submodule(theirs).named_parameters():
            found[".".join(filter(None, ["classifier", ours, part]))] = parameter
    return found


def scores(model, family, encoder, peft, ids):
    """Scores [labels] of one row."""
    ids = torch.tensor([ids])
    if peft is not None:
        return peft(input_ids=ids).logits[0]
    if encoder is None:
        return model(input_ids=ids).logits[0]
    c = model.config
    rows = encoder(torch.arange(encoder.embedding.num_embeddings))
    rows = rows.view(len(rows), 2 * c.num_hidden_layers, c.num_attention_heads, -1).transpose(0, 1)
    cache = DynamicCache()
    for i in range(c.num_hidden_layers):
        cache.update(rows[2 * i].transpose(0, 1)[None], rows[2 * i + 1].transpose(0, 1)[None], i)
    return model.classifier(model.bert(input_ids=ids, past_key_values=cache).pooler_output)[0]


def case(name, golden, labels, rows, full):
    torch.manual_seed(len(name) + labels)
    family = name.split("_")[0]
    c = AutoConfig.from_pretrained(GOLDEN / golden / "model", num_labels=labels)
    if family == "modernbert":
        c.pad_token_id = None  # its default is beyond this vocabulary
    model = AutoModelForSequenceClassification.from_pretrained(GOLDEN / golden / "model", config=c, attn_implementation="eager").eval()
    model.requires_grad_(full)
    head = head_parameters(model, family)
    for parameter in head.values():
        torch.nn.init.normal_(parameter.requires_grad_(True), std=0.3)
    c, encoder, peft = model.config, None, None
    if rows:
        config = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=rows, token_dim=c.hidden_size, num_layers=c.num_hidden_layers,
                                    num_attention_heads=c.num_attention_heads, num_transformer_submodules=1, encoder_hidden_size=c.hidden_size)
        encoder = PrefixEncoder(config)
        if family == "gpt2":
            c.pad_token_id = 0
            peft = get_peft_model(model, config)
            encoder = peft.prompt_encoder["default"]
            head = {"classifier.weight": next(p for n, p in peft.named_parameters() if "score.modules_to_save" in n)}
            head["classifier.weight"].requires_grad_(True)
    ids, _, _ = texts(c.vocab_size, family == "gpt2")
    gold = torch.randint(0, labels, (len(ids),))
    trained = {**head, **({"prefix": encoder.embedding.weight} if rows else {})}
    others = [p for p in model.parameters() if full and not any(p is h for h in head.values())]
    optimizer = torch.optim.AdamW([*trained.values(), *others], lr=5e-3, weight_decay=0.0)
    tensors = {k: v.detach().clone() for k, v in trained.items()}
    losses, norms = [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        all_scores = torch.stack([scores(model, family, encoder, peft, row) for row in ids])
        loss = cross_entropy(all_scores, gold)
        loss.backward()
        if step == 0:
            tensors["scores"] = all_scores.detach().clone()
            tensors |= {"grad." + k: p.grad.clone() for k, p in trained.items()}
            if full:
                norms = {k: p.grad.norm().item() for k, p in model.named_parameters() if any(p is o for o in others) and p.grad is not None}
        optimizer.step()
        losses.append(loss.item())
    out = GOLDEN / "classifier"
    out.mkdir(exist_ok=True)
    save_file({k: tensors[k].contiguous() for k in sorted(tensors)}, out / f"{name}.safetensors")
    values = dict(model=golden, labels=labels, rows=rows, ids=ids, gold=gold.tolist(), losses=losses)
    if full:
        values["gradient_norms"] = dict(sorted(norms.items()))
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items())
    (out / f"{name}.json").write_text("{\n" + lines + "\n}\n")
    print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for arguments in CASES:
        case(*arguments)
