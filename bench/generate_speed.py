"""Speed of `ptune generate` beside transformers' generate, by turns: the same lines, as many new tokens, greedy, kept keys.

    python bench/generate_speed.py --ptune target/release/ptune --model DIR [--lines 64 --tokens 32 --rounds 3]

DIR is a GPT-2 in Hugging Face's layout, of random weights: then neither ends a text early. ptune answers with a manual prompt.
Loading is not counted: ptune's time is that of all lines less that of one
line and token, the peer's that of the call. The peer pads on the left to the longest line and may not end early; that ptune did not
either is checked. Both use two threads.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

import torch
import transformers

WORDS = "the river town old was built near a large green hill and people there like to sing in winter while it snows".split()


def lines(count):
    draw = random.Random(0)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(8, 40))) for _ in range(count)]


def adapter(ptune, model, texts, compute, directory):
    rows = "".join(json.dumps({"text": text, "answer": "snow"}) + "\n" for text in texts[:2])
    (directory / "rows.jsonl").write_text(rows)
    (directory / "run.toml").write_text(
        f'model = {json.dumps(str(model))}\ncompute = "{compute}"\nthreads = 2\n[data]\ntrain = "rows.jsonl"\nmax_tokens = 200\n'
        '[task]\ntemplate = "a a a a {text} [MASK]"\ntarget = "answer"\nanswer = "text"\nanswer_tokens = 64\n'
    )
    out = directory / f"run-{compute}"
    subprocess.run([ptune, "train", directory / "run.toml", "--out", out], check=True, capture_output=True)
    return out / "adapter"


def ptune_seconds(ptune, adapter, texts, tokens, directory):
    (directory / "lines.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    command = [ptune, "--threads", "2", "generate", adapter, "--input", directory / "lines.jsonl", "--max-tokens", str(tokens)]
    start = time.perf_counter()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - start
    written = [json.loads(line)["tokens"] for line in out.splitlines()]
    assert len(written) == len(texts), out
    return seconds, sum(written)


def peer_seconds(model, batch, tokens):
    start = time.perf_counter()
    with torch.inference_mode():
        found = model.generate(**batch, do_sample=False, use_cache=True, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=50256)
    seconds = time.perf_counter() - start
    assert found.shape[1] == batch["input_ids"].shape[1] + tokens
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ptune", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--lines", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    texts = lines(arguments.lines)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token or "<|endoftext|>", "left"
    batch = tokenizer(["a a a a " + text for text in texts], padding=True, return_tensors="pt")
    for compute, dtype in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
        peer = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype).eval()
        with tempfile.TemporaryDirectory() as directory:
            directory = pathlib.Path(directory)
            made = adapter(arguments.ptune, arguments.model, texts, compute, directory)
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                load, _ = ptune_seconds(arguments.ptune, made, texts[:1], 1, directory)
                whole, written = ptune_seconds(arguments.ptune, made, texts, arguments.tokens, directory)
                assert written == len(texts) * arguments.tokens, "a text ended early: the work was not the same"
                ours.append(whole - load)
                theirs.append(peer_seconds(peer, batch, arguments.tokens))
        ratios = sorted(their / our for our, their in zip(ours, theirs))
        rate = arguments.lines * arguments.tokens
        print(f"{compute}: ptune {rate / min(ours):.0f} tokens/s, transformers {rate / min(theirs):.0f}; "
              f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


if __name__ == "__main__":
    main()
