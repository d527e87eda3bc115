"""A run file of ptune as token rows for PyTorch: the same ids, by the second template parser in reference/template.py.

Understood: data.*, task.template, task.target, task.verbalizer, prompt.*, train.batch_size, learning_rate, clip_norm and
epochs; anything that would change the work in another way is refused. Label words must be one token here.
"""

import json
import pathlib
import sys
import tomllib
from dataclasses import dataclass

import tokenizers
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "reference"))
import template as language  # noqa: E402

NOT_HERE = {"backbone": ("mode", "dropout"), "prompt": ("hidden_size", "layers"), "task": ("vocabulary", "loss", "causal_tail")}


@dataclass
class Row:
    """ids with -1 - k for pseudo row k, the row that answers, and the target: a label's number or a token."""

    ids: list
    answer: int
    target: int


@dataclass
class Batch:
    """Padded: ids [rows, longest], mask of the same shape or None where no row is shorter, answers and targets [rows]."""

    ids: torch.Tensor
    mask: torch.Tensor | None
    answers: torch.Tensor
    targets: torch.Tensor


class Task:
    def __init__(self, run, model, causal):
        """`run` is the run file's content, `model` the directory."""
        for table, keys in NOT_HERE.items():
            for key in keys:
                if key in run.get(table, {}):
                    raise SystemExit(f"{table}.{key}: this peer does not do that")
        self.tokenizer = open_tokenizer(model)
        self.target = run["task"].get("target", "label")
        self.max_tokens = run.get("data", {}).get("max_tokens", 256)
        self.pieces, self.pseudo_rows = language.parse(run["task"]["template"])
        one = self.tokenizer.token_to_id
        special = {} if causal else {"MASK": one("[MASK]"), "SEP": one("[SEP]"), "CLS": one("[CLS]")}
        around = ([], []) if causal else ([special["CLS"]], [special["SEP"]])
        self.form = language.Form(*around, special, causal)
        self.labels = list(run["task"].get("verbalizer", {}))
        self.words = [[self.one_token(word) for word in words] for words in run["task"].get("verbalizer", {}).values()]

    def one_token(self, word):
        mask = next(piece for piece in self.pieces if piece.text == "MASK")
        ids = language.encode_text(self.tokenizer, word, False, mask.space)
        if len(ids) != 1:
            raise SystemExit(f"'{word}' is {len(ids)} tokens; this peer takes words of one")
        return ids[0]

    def row(self, example):
        """A row without its target."""
        return Row(*language.encode(self.pieces, example, self.tokenizer, self.form, self.max_tokens), 0)

    def rows(self, file):
        with open(file, encoding="utf-8") as lines:
            examples = [json.loads(line) for line in lines]
        rows = [self.row(example) for example in examples]
        for row, example in zip(rows, examples):
            gold = str(example[self.target])
            row.target = self.labels.index(gold) if self.labels else self.one_token(gold)
        return rows

    def initial_words(self):
        """For each pseudo row the token it starts from, of [P*n "words"]; None where there is none."""
        tokens = [None] * self.pseudo_rows
        for piece in self.pieces:
            if piece.kind == "pseudo" and piece.words:
                ids = language.encode_text(self.tokenizer, piece.words, False, True)
                for row, token in zip(piece.rows, ids, strict=True):
                    tokens[row] = token
        return tokens


def read_run(file):
    """A run file, its paths taken from its own directory."""
    file = pathlib.Path(file)
    run = tomllib.loads(file.read_text(encoding="utf-8"))
    run["model"] = str(file.parent / run["model"])
    run["data"] = {key: str(file.parent / value) if key in ("train", "dev", "test") else value for key, value in run["data"].items()}
    return run


def open_tokenizer(model):
    model = pathlib.Path(model)
    if (model / "tokenizer.json").exists():
        tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
    bpe = tokenizers.models.BPE.from_file(str(model / "vocab.json"), str(model / "merges.txt"))
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def collate(rows, pad=0):
    """Padded to the longest row, or to `pad` tokens."""
    longest = max(pad, *(len(row.ids) for row in rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, : len(row.ids)] = 1
    padded = any(len(row.ids) < longest for row in rows)
    return Batch(ids, mask if padded else None, torch.tensor([row.answer for row in rows]), torch.tensor([row.target for row in rows]))
