"""Logits of twenty sentences at their [MASK]: `python reference/logits.py MODEL_DIR [--write FILE] [--against FILE]`.

A causal model skips the sentences that begin with [MASK]. FILE is JSON: {"sentences": [...], "logits": [[...], ...]}, for each sentence of sentences.txt, in that order, the raw logits of the
whole vocabulary at its [MASK]; of a causal model those of the row before it, of a text that ends there. With --against the exit status is 1 when a sentence differs by more than 1e-4 of its largest logit.
The weights are read as f32 whatever the file holds.
"""

import argparse
import json
import pathlib
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

SENTENCES = pathlib.Path(__file__).with_name("sentences.txt")
LIMIT = 1e-4


def is_causal(directory):
    return AutoConfig.from_pretrained(directory).model_type == "gpt2"


def logits_of(directory, sentences, causal):
    """[sentences, vocab] in f32, each sentence alone and unpadded."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    kind = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    model = kind.from_pretrained(directory, dtype=torch.float32).eval()
    rows = []
    for sentence in sentences:
        assert sentence.count("[MASK]") == 1, f"one [MASK] a sentence: {sentence}"
        text = sentence.split("[MASK]")[0].rstrip() if causal else sentence.replace("[MASK]", tokenizer.mask_token)
        ids = tokenizer(text, padding=False, truncation=False, return_tensors="pt")["input_ids"]
        place = -1 if causal else (ids[0] == tokenizer.mask_token_id).nonzero().item()
        with torch.no_grad():
            rows.append(model(input_ids=ids).logits[0, place])
    return tokenizer, torch.stack(rows)


def compare(sentences, ours, path):
    """Prints max|a-b| / max|b| of each sentence, b being transformers; true when all are within LIMIT."""
    other = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    if other["sentences"] != sentences:
        sys.exit(f"{path}: its sentences are not those of {SENTENCES.name}")
    theirs = torch.tensor(other["logits"])
    if theirs.shape != ours.shape:
        sys.exit(f"{path}: logits are {list(theirs.shape)}, expected {list(ours.shape)}")
    differences = (theirs - ours).abs().amax(1) / ours.abs().amax(1)
    same_word = theirs.argmax(1) == ours.argmax(1)
    for sentence, difference, same in zip(sentences, differences.tolist(), same_word.tolist()):
        print(f"{difference:.2e}  {'same word ' if same else 'OTHER WORD'}  {sentence}")
    print(f"worst {differences.max().item():.2e}, limit {LIMIT:.0e}")
    return differences.max().item() <= LIMIT


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--write", metavar="FILE")
    parser.add_argument("--against", metavar="FILE")
    arguments = parser.parse_args()
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    causal = is_causal(arguments.model)
    if causal:
        sentences = [sentence for sentence in sentences if not sentence.startswith("[MASK]")]
    tokenizer, logits = logits_of(arguments.model, sentences, causal)
    if arguments.write:
        pathlib.Path(arguments.write).write_text(json.dumps({"sentences": sentences, "logits": logits.tolist()}), encoding="utf-8")
    if arguments.against:
        sys.exit(0 if compare(sentences, logits, arguments.against) else 1)
    for sentence, row in zip(sentences, logits):
        words = ", ".join(f"{tokenizer.convert_ids_to_tokens(i)} {row[i]:.4f}" for i in row.topk(5).indices.tolist())
        print(f"{sentence}\n    {words}")


if __name__ == "__main__":
    main()
