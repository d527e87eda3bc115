"""Is bf16 good enough to train with? python reference/bf16_gradient.py MODEL_DIR PROGRAM [--outliers inside|residual]

PROGRAM is ptune's example: cargo build --release --example prompt_gradient. The gradient of a prompt of nine rows is formed in
f32 and in bf16 by PyTorch (all weights and rows in bf16) and by ptune (compute = "bf16"), on the same sixteen batches of eight
sentences. Printed: |a - b| / |b| and 1 - cosine against PyTorch's f32. With --outliers, two channels are made 300 times as large
first, as some are in large models. The exit status is 1 when a gate is missed: at most
2 % and 5e-4 for every batch, and on no batch more than PyTorch's bf16. The last column says what no engine with bf16 weights can
avoid: PyTorch in f32 throughout, with the weights of its linear layers rounded to bf16 once.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, AutoTokenizer

from prompt_encoder import answer_logits

SENTENCES = pathlib.Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8").splitlines()
BATCHES, EXAMPLES, ROWS = 16, 8, 9
ERROR, COSINE = 0.02, 5e-4
OUTLIERS, FACTOR = (7, 42), 300.0


def with_outliers(directory, kind, to):
    """A copy of a BERT in which two channels are FACTOR times as large where they are written, and the weights that read them as
    much smaller. "inside": between values and attention output, and between the last norm and the head; the model computes the
    same. "residual": by every norm and by what is added before a norm; the norms then see little else, and it is another model."""
    for file in pathlib.Path(directory).iterdir():
        if file.is_file():
            (to / file.name).write_bytes(file.read_bytes())
    tensors = {name: tensor.float() for name, tensor in load_file(to / "model.safetensors").items()}
    last = max(int(name.split(".")[3]) for name in tensors if name.startswith("bert.encoder.layer."))
    inside = (("self.value.", f"layer.{last}.output.LayerNorm"), ("attention.output.dense.weight", "transform.dense.weight"))
    readers = ("query.weight", "key.weight", "value.weight", "intermediate.dense.weight", "transform.dense.weight")
    writers, readers = inside if kind == "inside" else (("LayerNorm", "output.dense"), readers)
    for name, tensor in tensors.items():
        if name.startswith("bert.") and any(part in name for part in writers):
            tensor[list(OUTLIERS)] *= FACTOR
        if name.endswith(readers):
            tensor[:, list(OUTLIERS)] /= FACTOR
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    return to


def batch(seed, tokenizer, model):
    """Eight sentences with three pseudo tokens in front, before and behind [MASK]; the gold word is the model's own answer."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(SENTENCES), generator=random)[:EXAMPLES].tolist()
    table = model.get_input_embeddings().weight
    words = torch.randint(len(table), (ROWS,), generator=random)
    prompt = table[words] + 0.1 * table.std() * torch.randn((ROWS, table.shape[1]), generator=random)
    result = {"ids": [], "answers": [], "gold": [], "prompt": prompt.tolist()}
    for sentence in (SENTENCES[i] for i in chosen):
        ids = tokenizer(sentence.replace("[MASK]", tokenizer.mask_token))["input_ids"]
        mask = ids.index(tokenizer.mask_token_id)
        gold = answer_logits(model, ids, mask, prompt)[0].argmax().item()
        ids = ids[:1] + [-1, -2, -3] + ids[1:mask] + [-4, -5, -6] + ids[mask:mask + 1] + [-7, -8, -9] + ids[mask + 1:]
        result["ids"].append(ids)
        result["answers"].append(mask + 6)
        result["gold"].append(gold)
    return result


def gradient(model, batch, dtype):
    prompt = torch.tensor(batch["prompt"], dtype=dtype, requires_grad=True)
    logits = [answer_logits(model, ids, row, prompt)[0] for ids, row in zip(batch["ids"], batch["answers"])]
    cross_entropy(torch.stack(logits).float(), torch.tensor(batch["gold"])).backward()
    return prompt.grad.double().flatten()


def distance(a, b):
    return ((a - b).norm() / b.norm()).item(), 1 - torch.nn.functional.cosine_similarity(a, b, dim=0).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("program")
    parser.add_argument("--outliers", choices=("inside", "residual"))
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        directory = arguments.model
        if arguments.outliers:
            (scratch / "model").mkdir()
            directory = with_outliers(directory, arguments.outliers, scratch / "model")
        tokenizer = AutoTokenizer.from_pretrained(directory)
        single = AutoModelForMaskedLM.from_pretrained(directory, dtype=torch.float32).eval().requires_grad_(False)
        half = AutoModelForMaskedLM.from_pretrained(directory, dtype=torch.bfloat16).eval().requires_grad_(False)
        rounded = AutoModelForMaskedLM.from_pretrained(directory, dtype=torch.float32).eval().requires_grad_(False)
        for layer in rounded.base_model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.copy_(layer.weight.bfloat16())
        errors = []
        print("batch   ptune f32   ptune bf16           PyTorch bf16         f32, rounded weights")
        for seed in range(BATCHES):
            made = batch(seed, tokenizer, single)
            (scratch / "input.json").write_text(json.dumps(made), encoding="utf-8")
            ours = subprocess.run([arguments.program, str(directory), scratch / "input.json"], check=True, capture_output=True)
            ours = {name: torch.tensor(numbers).double() for name, numbers in json.loads(ours.stdout).items()}
            exact = gradient(single, made, torch.float32)
            f32, bf16 = distance(ours["f32"], exact), distance(ours["bf16"], exact)
            theirs = distance(gradient(half, made, torch.bfloat16), exact)
            weights = distance(gradient(rounded, made, torch.float32), exact)
            passed = bf16[0] <= min(ERROR, theirs[0]) and bf16[1] <= min(COSINE, theirs[1])
            good = good and passed
            errors.append((bf16[0], theirs[0], weights[0]))
            print(f"{seed:5}   {f32[0]:.1e}     {bf16[0]:.4f} {bf16[1]:.1e}       {theirs[0]:.4f} {theirs[1]:.1e}       "
                  f"{weights[0]:.4f} {weights[1]:.1e}   {'' if passed else 'MISSED'}")
    ours, theirs, weights = torch.tensor(errors).T
    print(f"relative error, median and largest: ptune {ours.median():.4f} {ours.max():.4f}, PyTorch {theirs.median():.4f} "
          f"{theirs.max():.4f}, rounded weights {weights.median():.4f} {weights.max():.4f}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
