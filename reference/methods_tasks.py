"""The tasks of methods_runs.py and methods_peft.py: rows, templates, sizes; the same for both programs.

LAMA relations with their own train, dev and test rows; CB and RTE with few rows (FewGLUE: 32 for training, 32 for dev, the official
validation rows as test), 128 tokens.
"""

import json
import pathlib
from dataclasses import dataclass

NLI = "{hypothesis|no_punct} ? [MASK] , {premise|shorten}"
NLI_PSEUDO = "[P*3] {hypothesis|no_punct} ? [P*3] [MASK] , [P*3] {premise|shorten}"


@dataclass
class Task:
    template: str
    pseudo: str  # the template with nine pseudo tokens around, as in the paper's experiments
    epochs: int
    batch: int
    epochs_between: int = 1  # evaluations on dev
    labels: dict | None = None  # label -> word; None: probing

    @property
    def classifier(self):
        return "{hypothesis} [SEP] {premise|shorten}" if self.labels else None


def probing(template, epochs):
    return Task(template, "[P*3] " + template.replace("[MASK]", "[P*3] [MASK] [P*3]"), epochs, 16)


def entailment(labels):
    return Task(NLI, NLI_PSEUDO, 20, 8, 2, labels)


TASKS = {
    "P36": probing("The capital of {sub_label} is [MASK] .", 6),
    "P176": probing("{sub_label} is produced by [MASK] .", 3),
    "P17": probing("{sub_label} is located in [MASK] .", 3),
    "CB": entailment({"entailment": "yes", "contradiction": "no", "neutral": "maybe"}),
    "RTE": entailment({"entailment": "yes", "not_entailment": "no"}),
}
MAX_TOKENS = 128


def files(task, lama, fewglue):
    """Train, dev and test of a task."""
    if TASKS[task].labels is None:
        return {part: pathlib.Path(lama) / task / f"{part}.jsonl" for part in ("train", "dev", "test")}
    names = {"train": "train", "dev": "dev32", "test": "val"}
    return {part: pathlib.Path(fewglue) / task / f"{name}.jsonl" for part, name in names.items()}


def candidates(lama):
    """The words that a probing answer may be."""
    return json.loads((pathlib.Path(lama) / "29k-vocab.json").read_text(encoding="utf-8"))["bert-base-cased"]
