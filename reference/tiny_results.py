"""What PyTorch reaches on the tiny tasks: `python reference/tiny_results.py [sentiment] [capitals]` prints the tables of README.md.

Hand-written prompts are scored on all test rows. P-tuned ones are scored untrained, then trained on the train rows with the model frozen (AdamW,
batches of 8, a new order every epoch, clipping at 1, no dropout), evaluated on dev every 25 steps, and the best state (ties keep the
later) is scored on test.
"""

import copy
import json
import random
import statistics
import sys
import time

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM

import template
from prompt_encoder import PromptEncoder, answer_logits, label_scores
from tiny import EXAMPLES

TASKS = {
    "sentiment": dict(
        target="label", verbalizer={"positive": ["good"], "negative": ["bad"]}, steps=250,
        tuned=["[P*3] {text} it was [P*3] [MASK]", "[P*3] {text} it was [P*3] [MASK] .", "[P*3] {text} [P*3] [MASK] [P*3]"],
        manual=["{text} it was [MASK]", "{text} it was [MASK] .", "{text} we found it [MASK] .", "{text} it was a [MASK] time .",
                "{text} the experience was [MASK] .", "{text} i felt [MASK] .", "{text} i think it is [MASK] .", "{text} this is [MASK] .",
                "{text} all in all [MASK] ."]),
    "capitals": dict(
        target="object", verbalizer=None, steps=250, tuned=["[P*3] {subject} [P*3] [MASK] [P*3]"],
        manual=["{subject} [MASK] .", "{subject} ' s main city is [MASK] .", "in {subject} there is [MASK] .", "the most important city of {subject} is [MASK] .",
                "[MASK] , {subject}", "the capital of {subject} is [MASK] ."]),
}
# The rate suits each encoder: bare rows start as N(0, 1) and Adam moves them by about the rate a step.
ENCODERS, SEEDS = (("embedding", 3e-3), ("embedding", 3e-2), ("mlp", 3e-3), ("lstm", 3e-3)), (0, 1, 2)


class Task:
    """One task on the frozen model; its rows are encoded by one template."""

    def __init__(self, name, text):
        self.spec = TASKS[name]
        self.model = AutoModelForMaskedLM.from_pretrained(EXAMPLES / "tiny-mlm", dtype=torch.float32).eval().requires_grad_(False)
        vocab = (EXAMPLES / "tiny-mlm/vocab.txt").read_text(encoding="utf-8").splitlines()
        tokenizer, (pieces, self.prompt_rows) = template.wordpiece(vocab), template.parse(text)
        verbalizer = self.spec["verbalizer"]
        self.words = verbalizer and [[vocab.index(w) for w in words] for words in verbalizer.values()]
        self.splits = {}
        for split in ("train", "dev", "test"):
            examples = [json.loads(line) for line in (EXAMPLES / name / f"{split}.jsonl").open(encoding="utf-8")]
            gold = [list(verbalizer).index(e["label"]) if verbalizer else vocab.index(e["object"]) for e in examples]
            self.splits[split] = [(*template.encode(pieces, e, tokenizer), g) for e, g in zip(examples, gold)]

    def scores(self, row, prompt):
        logits = answer_logits(self.model, row[0], row[1], prompt)[0]
        return label_scores(logits, self.words) if self.words else logits

    @torch.no_grad()
    def accuracy(self, split, prompt):
        rows = self.splits[split]
        return sum(int(self.scores(row, prompt).argmax()) == row[2] for row in rows) / len(rows)

    def tune(self, encoder, rate, seed):
        """Test accuracy of the untrained encoder, and of the state that is best on dev."""
        torch.manual_seed(seed)
        order = random.Random(seed)
        encoder = PromptEncoder(encoder, self.prompt_rows, self.model.config.hidden_size)
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=rate, weight_decay=0.0)
        untrained = self.accuracy("test", encoder())
        best, state, queue = -1.0, None, []
        for step in range(1, self.spec["steps"] + 1):
            if len(queue) < 8:
                queue = order.sample(self.splits["train"], len(self.splits["train"]))
            batch, queue = queue[:8], queue[8:]
            prompt = encoder()
            loss = torch.stack([cross_entropy(self.scores(row, prompt), torch.tensor(row[2])) for row in batch]).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            if step % 25 == 0:
                accuracy = self.accuracy("dev", encoder())
                if accuracy >= best:
                    best, state = accuracy, copy.deepcopy(encoder.state_dict())
        encoder.load_state_dict(state)
        return untrained, self.accuracy("test", encoder())


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or TASKS:
        none = torch.zeros(0, 96)
        for text in TASKS[name]["manual"]:
            print(f"| `{text}` | {Task(name, text).accuracy('test', none):.3f} |", flush=True)
        for text in TASKS[name]["tuned"]:
            task = Task(name, text)
            for encoder, rate in ENCODERS:
                start = time.time()
                untrained, tuned = zip(*(task.tune(encoder, rate, seed) for seed in SEEDS))
                listed = [", ".join(f"{x:.3f}" for x in column) for column in (untrained, tuned)]
                seconds = (time.time() - start) / len(SEEDS)
                print(f"| `{text}` | {encoder} | {rate:g} | {listed[0]} | {listed[1]} | {statistics.mean(tuned):.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
