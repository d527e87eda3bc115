"""One method of real PEFT on one task: python methods_peft.py METHOD TASK MODEL_DIR LAMA_DIR FEWGLUE_DIR --rate R [--seed N] [--dev]

The strongest plain form: PEFT wraps the body of the model, the head is computed at the answers only and for the label words only,
batches are padded to their longest row, evaluation goes over rows sorted by length. Everything else as the run files of
methods_runs.py say to ptune. A JSON line: test (a share), dev, trained (parameters), seconds (without the imports), peak_rss_mb.
"""

import argparse
import copy
import json
import pathlib
import random
import resource
import sys
import time

import peft
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

import methods_tasks

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench/peers"))
import task as rows_of  # noqa: E402

FRONT = 10
CONFIGS = {
    "prompt-tuning": lambda: peft.PromptTuningConfig("FEATURE_EXTRACTION", num_virtual_tokens=FRONT, prompt_tuning_init="SAMPLE_VOCAB"),
    "p-tuning": lambda: peft.PromptEncoderConfig("FEATURE_EXTRACTION", num_virtual_tokens=FRONT, encoder_reparameterization_type="LSTM"),
    "prefix-tuning": lambda: peft.PrefixTuningConfig("FEATURE_EXTRACTION", num_virtual_tokens=FRONT),
    "lora": lambda: peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]),
    "classifier-lora": lambda: peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]),
}


class Words(torch.nn.Module):
    """The head of BERT at the answers, of some columns or of all."""

    def __init__(self, lm, columns):
        super().__init__()
        self.transform = lm.cls.predictions.transform
        decoder = lm.get_output_embeddings()
        self.weight, self.bias = (decoder.weight, decoder.bias) if columns is None else (decoder.weight[columns], decoder.bias[columns])

    def forward(self, hidden):
        return torch.nn.functional.linear(self.transform(hidden), self.weight, self.bias)


class Classifier(torch.nn.Module):
    """BERT's pooler and classifier, both trained, as in ptune."""

    def __init__(self, model, labels):
        super().__init__()
        whole = AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels, dtype=torch.float32)
        self.pooler, self.classifier = whole.bert.pooler, whole.classifier

    def forward(self, hidden):
        return self.classifier(torch.tanh(self.pooler.dense(hidden)))


class Network:
    def __init__(self, method, model, task, rows):
        lm = AutoModelForMaskedLM.from_pretrained(model, dtype=torch.float32).eval().requires_grad_(False)
        if method == "classifier-lora":
            self.head = Classifier(model, len(task.labels))
        else:
            self.head = Words(lm, [word for words in rows.words for word in words] or None)
        config = CONFIGS[method]()
        if getattr(config, "prompt_tuning_init", None) == "SAMPLE_VOCAB":
            config.tokenizer_name_or_path = model
        self.body = peft.get_peft_model(lm.bert, config).eval()
        self.front = FRONT if method in ("prompt-tuning", "p-tuning") else 0
        self.classifier = method == "classifier-lora"

    def trained(self):
        return [p for p in [*self.body.parameters(), *(self.head.parameters() if self.classifier else [])] if p.requires_grad]

    def scores(self, batch):
        mask = torch.ones_like(batch.ids) if batch.mask is None else batch.mask
        hidden = self.body(input_ids=batch.ids, attention_mask=mask).last_hidden_state
        answers = torch.zeros_like(batch.answers) if self.classifier else batch.answers + self.front
        return self.head(hidden[torch.arange(len(hidden)), answers])


class Rows(rows_of.Task):
    """Token rows of a task; of a classifier, the mask stands in front and is taken out again."""

    def __init__(self, task, method, model, lama):
        self.classifier = method == "classifier-lora"
        template = "[MASK] " + task.classifier if self.classifier else task.template
        run = {"task": {"template": template}, "data": {"max_tokens": methods_tasks.MAX_TOKENS + self.classifier}}
        if task.labels:
            run["task"]["verbalizer"] = {label: [word] for label, word in task.labels.items()}
        else:
            run["task"]["target"] = "obj_label"
        super().__init__(run, model, causal=False)
        ids = [] if task.labels else [self.token(word) for word in methods_tasks.candidates(lama)]
        self.candidates = torch.tensor(sorted({i for i in ids if i is not None})) if ids else None

    def token(self, word):
        try:
            return self.one_token(word)
        except SystemExit:
            return None

    def read(self, file):
        found = []
        allowed = None if self.candidates is None else set(self.candidates.tolist())
        for line in file.read_text(encoding="utf-8").splitlines():
            example = json.loads(line)
            row = self.row(example)
            row.target = self.labels.index(str(example["label"])) if self.labels else self.token(example["obj_label"])
            if self.classifier:
                del row.ids[1]
            if self.labels or row.target in allowed:
                found.append(row)
        return found

    def right(self, scores, targets):
        if self.candidates is None:
            return (scores.argmax(1) == targets).sum().item()
        return (self.candidates[scores[:, self.candidates].argmax(1)] == targets).sum().item()


def evaluate(network, rows, examples):
    order = sorted(examples, key=lambda row: len(row.ids))
    right = 0
    with torch.inference_mode():
        for at in range(0, len(order), 64):
            batch = rows_of.collate(order[at : at + 64])
            right += rows.right(network.scores(batch), batch.targets)
    return right / len(order)


def train(network, rows, task, parts, rate, seed):
    trained = network.trained()
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    best, kept = evaluate(network, rows, parts["dev"]), copy.deepcopy([p.data for p in trained])
    order = random.Random(seed)
    for epoch in range(1, task.epochs + 1):
        examples = parts["train"][:]
        order.shuffle(examples)
        for at in range(0, len(examples), task.batch):
            batch = rows_of.collate(examples[at : at + task.batch])
            loss = torch.nn.functional.cross_entropy(network.scores(batch), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        if epoch % task.epochs_between:
            continue
        score = evaluate(network, rows, parts["dev"])
        if score >= best:
            best, kept = score, copy.deepcopy([p.data for p in trained])
    for parameter, data in zip(trained, kept):
        parameter.data.copy_(data)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=CONFIGS)
    parser.add_argument("task", choices=methods_tasks.TASKS)
    parser.add_argument("model")
    parser.add_argument("lama")
    parser.add_argument("fewglue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--dev", action="store_true", help="without the test rows")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    start = time.perf_counter()
    torch.manual_seed(arguments.seed)
    task = methods_tasks.TASKS[arguments.task]
    rows = Rows(task, arguments.method, arguments.model, arguments.lama)
    network = Network(arguments.method, arguments.model, task, rows)
    files = methods_tasks.files(arguments.task, arguments.lama, arguments.fewglue)
    parts = {part: rows.read(file) for part, file in files.items()}
    dev = train(network, rows, task, parts, arguments.rate, arguments.seed)
    result = {"dev": dev, "trained": sum(p.numel() for p in network.trained())}
    if not arguments.dev:
        result["test"] = evaluate(network, rows, parts["test"])
    result |= {"seconds": time.perf_counter() - start, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
