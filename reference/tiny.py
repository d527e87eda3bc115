"""Rebuilds the small model and the data sets of `examples/`: `python reference/tiny.py` (about two minutes on one thread).

Writes examples/tiny-mlm (a BERT masked language model in f16, its vocabulary the words of its corpus plus single letters),
examples/sentiment/{train,dev,test}.jsonl and examples/capitals/{train,dev,test}.jsonl. The corpus is drawn from the grammars of
tiny_reviews.py and tiny_facts.py; no text of the sentiment rows occurs in it. Same machine and versions: same bytes.
"""

import json
import pathlib
import random
import sys
import time

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForMaskedLM

import template
import tiny_facts
import tiny_reviews

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
SEED, STEPS, BATCH, RATE, WARMUP = 1, 3000, 64, 2e-3, 200
SHAPE = dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256, max_position_embeddings=96)
KEY, OTHER = 0.9, 0.05  # how often a word is asked: one that carries an answer, any other
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, CLS, SEP, MASK = 0, 2, 3, 4
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION = list(".,:;!?'\"()-")
DOCUMENTS, FACT_SHARE, DEFINITION_SHARE = 60_000, 0.2, 0.1


def build_data():
    """The rows of both tasks and the corpus, which holds no text of the sentiment rows."""
    r = random.Random(SEED)
    taken = set()
    sentiment = dict(zip(("train", "dev", "test"), (tiny_reviews.task_rows(r, n, taken) for n in (64, 64, 200))))
    capitals = dict(zip(("train", "dev", "test"), tiny_facts.task_rows(r)))
    corpus = []
    while len(corpus) < DOCUMENTS:
        kind = r.random()
        if kind < FACT_SHARE:
            corpus.append(tiny_facts.document(r))
        elif kind < FACT_SHARE + DEFINITION_SHARE:
            corpus.append(tiny_reviews.definition(r))
        else:
            corpus.append(tiny_reviews.document(r, taken))
    joined = "\n".join(corpus)
    leaked = [text for text in taken if text in joined]
    assert not leaked, f"texts of the task stand in the corpus: {leaked[:3]}"
    return sentiment, capitals, corpus


def build_vocabulary(corpus):
    words = sorted({word for text in corpus for word in text.split() if word.isalpha() and len(word) > 1})
    return [*SPECIALS, *PUNCTUATION, *LETTERS, *("##" + c for c in LETTERS), *words]


def masked_batch(documents, key_words, generator):
    """Padded ids, mask and targets (-100 where nothing is asked). Words that carry an answer are asked four times as often."""
    longest = max(map(len, documents))
    ids = torch.full((len(documents), longest), PAD)
    for i, row in enumerate(documents):
        ids[i, : len(row)] = torch.tensor(row)
    chance = torch.where(key_words[ids], KEY, OTHER) * (ids > MASK)
    asked = torch.rand(ids.shape, generator=generator) < chance
    target = torch.where(asked, ids, -100)
    fate = torch.rand(ids.shape, generator=generator)
    inputs = torch.where(asked & (fate < 0.8), MASK, ids)
    noise = torch.randint(MASK + 1, len(key_words), ids.shape, generator=generator)
    return torch.where(asked & (fate > 0.9), noise, inputs), (ids != PAD).long(), target


def pretrain(rows, vocab):
    """Masked language modelling; documents of like length stand together."""
    torch.manual_seed(SEED)
    generator, order = torch.Generator().manual_seed(SEED), random.Random(SEED)
    config = BertConfig(vocab_size=len(vocab), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                        initializer_range=0.05, architectures=["BertForMaskedLM"], **SHAPE)
    model = BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    answers = {w for words in tiny_reviews.EVALUATIONS for w in words} | {w for row in tiny_facts.COUNTRIES for w in row[1:]}
    key_words = torch.tensor([word in answers for word in vocab])
    rows = sorted(rows, key=len)
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    start, mean = time.time(), 0.0
    for step in range(STEPS):
        rate = RATE * min((step + 1) / WARMUP, (STEPS - step) / (STEPS - WARMUP))
        optimizer.param_groups[0]["lr"] = rate
        inputs, mask, target = masked_batch(order.choice(batches), key_words, generator)
        hidden = model.bert(input_ids=inputs, attention_mask=mask).last_hidden_state
        asked = target >= 0
        loss = cross_entropy(model.cls(hidden[asked]), target[asked])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += (loss.item() - mean) / min(step + 1, 100)
        if step % 250 == 249:
            print(f"step {step + 1} loss {mean:.3f} {time.time() - start:.0f} s", file=sys.stderr)
    return model.eval()


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def write_model(directory, model, vocab):
    directory.mkdir(parents=True, exist_ok=True)
    model.config.dtype = torch.float16
    config = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_") and v is not None}
    write_lines(directory / "config.json", [json.dumps(dict(sorted(config.items())), indent=2)])
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("cls.predictions.decoder.")}
    save_file({k: weights[k].half().contiguous() for k in sorted(weights)}, directory / "model.safetensors", metadata={"format": "pt"})
    write_lines(directory / "vocab.txt", vocab)
    write_lines(directory / "tokenizer_config.json", [json.dumps({
        "tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True,
        "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
        "model_max_length": SHAPE["max_position_embeddings"]}, indent=2)])


def main():
    torch.set_num_threads(1)
    sentiment, capitals, corpus = build_data()
    for task, splits in (("sentiment", sentiment), ("capitals", capitals)):
        for split, rows in splits.items():
            write_lines(EXAMPLES / task / f"{split}.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows])
    vocab = build_vocabulary(corpus)
    tokenizer = template.wordpiece(vocab)
    rows = [[CLS, *template.encode_text(tokenizer, text, False), SEP] for text in corpus]
    print(f"{len(corpus)} documents, {len(vocab)} tokens in the vocabulary, longest {max(map(len, rows))}", file=sys.stderr)
    write_model(EXAMPLES / "tiny-mlm", pretrain(rows, vocab), vocab)


if __name__ == "__main__":
    main()
