"""`ptune predict` in PyTorch: python bench/peers/answer.py ADAPTER [--field NAME=TEXT ...] [--input FILE] [--dtype f32|bf16]

Reads an adapter of ptune (its template, label words and prompt rows) and answers the same JSON lines: read whole, batches of 64
sorted by length, answers in the order of the file. A JSON object a line on standard output, as ptune prints it.
"""

import argparse
import json
import pathlib
import tomllib

import safetensors.torch
import torch

from network import Network, is_causal
from task import Task, collate

BATCH = 64
TOP = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=pathlib.Path)
    parser.add_argument("--field", action="append", default=[])
    parser.add_argument("--input", type=pathlib.Path)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    arguments = parser.parse_args()
    description = tomllib.loads((arguments.adapter / "adapter.toml").read_text(encoding="utf-8"))["task"]
    model = description["base"]["path"]
    causal = is_causal(model)
    run = {"task": {"template": description["template"], "verbalizer": description.get("labels", {})}, "data": {"max_tokens": description["max_tokens"]}}
    task = Task(run, model, causal)
    network = Network(model, causal, arguments.dtype, task.words)
    prompt = safetensors.torch.load_file(arguments.adapter / "prompt.safetensors")["prompt"]
    if arguments.input:
        examples = [json.loads(line) for line in arguments.input.read_text(encoding="utf-8").splitlines()]
    else:
        examples = [dict(field.split("=", 1) for field in arguments.field)]
    for line in answers([task.row(example) for example in examples], task, network, prompt):
        print(line)


def answers(rows, task, network, prompt):
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    lines = [""] * len(rows)
    with torch.inference_mode():
        for at in range(0, len(order), BATCH):
            group = order[at : at + BATCH]
            probabilities = network.scores(collate([rows[i] for i in group]), prompt).softmax(1)
            best, tokens = probabilities.topk(1 if task.labels else TOP)
            for i, all_of_row, values, ids in zip(group, probabilities, best.tolist(), tokens.tolist()):
                if task.labels:
                    lines[i] = json.dumps({"label": task.labels[ids[0]], "probabilities": dict(zip(task.labels, all_of_row.tolist()))})
                else:
                    top = [{"word": task.tokenizer.id_to_token(token), "probability": p} for token, p in zip(ids, values)]
                    lines[i] = json.dumps({"top": top}, ensure_ascii=False)
    return lines


if __name__ == "__main__":
    main()
