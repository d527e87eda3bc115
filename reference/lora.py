"""Writes the golden numbers of LoRA: `python reference/lora.py`, with PEFT installed. Rerunning gives the same bytes.

Real PEFT puts its LoRA on models of other golden cases. A case's `case.json` says which, with the ids of three rows, their answer rows and gold
tokens, and the losses of five steps of AdamW. `golden.safetensors` holds each A and B under the name it has in an adapter of ptune; the logits of the answer rows; and `grad.NAME` of the mean
cross-entropy. Where PEFT has one LoRA on a fused tensor (`c_attn`), its A is given to
each of the three parts and the rows of its B are theirs: the parts' gradients of A add up to PEFT's. Those would go apart
under Adam, so such a case has no losses.
"""

import json
import pathlib

import peft
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

TREE = pathlib.Path(__file__).parent.parent / "crates/ptune/tests/golden"
STEPS, RATE, DECAY = 5, 1e-2, 0.1
FUSED = ["query", "key", "value"]

CASES = {
    "lora_bert": dict(
        model="lstm_uneven", auto=AutoModelForMaskedLM, rank=3, alpha=5, rslora=False,
        targets={"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
                 "output": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"},
        answers=[4, 0, 6],
    ),
    "lora_gpt2": dict(
        model="gpt2_mlp", auto=AutoModelForCausalLM, rank=4, alpha=7, rslora=True,
        targets={"output": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}, answers=[6, 2, 5],
    ),
    "lora_gpt2_fused": dict(
        model="gpt2_mlp", auto=AutoModelForCausalLM, rank=2, alpha=8, rslora=False,
        targets={"fused": "attn.c_attn"}, answers=[6, 2, 5],
    ),
}


def layer_of(name, matrix):
    """The layer in the checkpoint; that of the GPT-2 has its names without a prefix."""
    return name.removeprefix("base_model.model.").removeprefix("transformer.").removesuffix(f".{matrix}.default.weight")


def split(name, tensor, matrix):
    """A tensor of PEFT under ptune's names."""
    layer = layer_of(name, matrix)
    if not layer.endswith("c_attn"):
        return {f"{layer}.{matrix}.weight": tensor}
    parts = tensor.chunk(3) if matrix == "lora_B" else [tensor] * 3
    return {f"{layer}.{part}.{matrix}.weight": t for part, t in zip(FUSED, parts)}


def write(case, about):
    torch.manual_seed(7)
    base = about["auto"].from_pretrained(TREE / about["model"] / "model", attn_implementation="eager", dtype=torch.float32)
    config = peft.LoraConfig(
        r=about["rank"], lora_alpha=about["alpha"], use_rslora=about["rslora"],
        target_modules=sorted(name for name, _ in base.named_modules()
                              if name.endswith(tuple("." + target for target in about["targets"].values()))
                              and (".layer." in name or ".h." in name)),
    )
    model = peft.get_peft_model(base, config).eval()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, p in trained.items():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape) * 0.3)
    ids = torch.randint(5, 100, (3, 7))
    answers, gold = torch.tensor(about["answers"]), torch.tensor([11, 7, 60])
    out = {}
    for name, p in trained.items():
        out |= split(name, p.detach().clone(), "lora_A" if "lora_A" in name else "lora_B")

    def logits():
        return model(input_ids=ids).logits[torch.arange(3), answers]

    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=DECAY)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        found = logits()
        loss = cross_entropy(found, gold)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            out["logits"] = found.detach()
            for name, p in trained.items():
                matrix = "lora_A" if "lora_A" in name else "lora_B"
                if matrix == "lora_A" and "c_attn" in name:
                    out[f"grad.{layer_of(name, matrix)}.lora_A.weight"] = p.grad.clone()
                else:
                    out |= {f"grad.{k}": t for k, t in split(name, p.grad.clone(), matrix).items()}
        optimizer.step()
    targets = FUSED if "fused" in about["targets"] else list(about["targets"])
    described = dict(model=about["model"], rank=about["rank"], alpha=about["alpha"], rslora=about["rslora"],
                     targets=targets, ids=ids.tolist(), answers=answers.tolist(), gold=gold.tolist(), learning_rate=RATE, weight_decay=DECAY, peft=peft.__version__,
                     losses=[] if "fused" in about["targets"] else losses)
    directory = TREE / case
    directory.mkdir(exist_ok=True)
    save_file({k: out[k].contiguous().clone() for k in sorted(out)}, directory / "golden.safetensors")
    (directory / "case.json").write_text(json.dumps(described) + "\n")


for case, about in CASES.items():
    write(case, about)
