"""Checks a model directory that `ptune pretrain` wrote against transformers: `python reference/pretrain.py MODEL TEXT`.

TEXT is plain text, as it was trained on. Weights must load without a missing or unexpected key, AutoTokenizer must give the
ids that tokenizer.json gives as it stands, no token unknown, and for fifty lines, each with a word replaced by [MASK], the
logits there (of a causal model those of the row before, of a text that ends there) must be those that
`cargo run --release --example logits` prints, to 1e-4 of a line's largest. The weights are read as f32 whatever the file holds.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from logits import LIMIT, is_causal, logits_of

LINES = 50
EXAMPLE = "cargo run --quiet --release --package ptune --example logits --".split()


def sample(path):
    """Fifty lines of at least three words from all of the text."""
    lines = [line.strip() for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]
    lines = [line for line in dict.fromkeys(lines) if len(line.split()) >= 3]
    return lines[:: max(1, len(lines) // LINES)][:LINES]


def masked(line, place):
    words = line.split()
    words[1 + place % (len(words) - 1)] = "[MASK]"
    return " ".join(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--example", nargs="+", default=EXAMPLE, help="the example, if it is built already")
    arguments = parser.parse_args()
    causal = is_causal(arguments.model)
    kind = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    _, loading = kind.from_pretrained(arguments.model, dtype=torch.float32, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"], loading

    lines = sample(arguments.text)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    plain = Tokenizer.from_file(str(pathlib.Path(arguments.model) / "tokenizer.json"))
    for line in lines:
        ids = tokenizer(line)["input_ids"]
        assert ids == plain.encode(line).ids, line
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids, line
    print(f"{len(lines)} lines, the same ids; the first: {tokenizer.convert_ids_to_tokens(tokenizer(lines[0])['input_ids'])}")

    sentences = [masked(line, place) for place, line in enumerate(lines)]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write("\n".join(sentences))
        file.flush()
        said = subprocess.run([*arguments.example, arguments.model, file.name], capture_output=True, check=True).stdout
    ours = torch.tensor(json.loads(said)["logits"])
    _, theirs = logits_of(arguments.model, sentences, causal)
    worst = ((ours - theirs).abs().amax(1) / theirs.abs().amax(1)).max().item()
    same = (ours.argmax(1) == theirs.argmax(1)).sum().item()
    print(f"logits: worst {worst:.2e} of a line's largest, limit {LIMIT:.0e}; the same word in {same} of {len(lines)}")
    sys.exit(0 if worst <= LIMIT else 1)


if __name__ == "__main__":
    main()
