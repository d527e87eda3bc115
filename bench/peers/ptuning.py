"""P-tuning of a run file in PyTorch, or LoRA with PEFT: python bench/peers/ptuning.py RUN.toml [--epochs N] [--dtype f32|bf16] [--pad N] [--evaluate 0] [--lora RANK]

The same rows, in the same order and with the same ids, as `ptune bench RUN.toml`: whole epochs in file order, a batch padded to its
longest row or to --pad tokens; then the test rows in batches of 16 in the order of the file, and once more sorted by length.
AdamW and clipping as in the run file's defaults. Two steps that do not count go before each part. One JSON line at the end:
train_examples_per_s, eval_examples_per_s, eval_sorted_examples_per_s, accuracy, peak_rss_mb (of training), losses (the first and last
three; with `init = "words"` and an `embedding` encoder they are ptune's). With --lora nothing but low-rank additions to queries and values
is trained: the template has no pseudo tokens then.
"""

import argparse
import json
import resource
import time

import torch

from network import Encoder, Network, is_causal
from task import Task, collate, read_run

EVALUATION_BATCH = 16
WARM_UP = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--pad", type=int, default=0, help="pad every row to so many tokens")
    parser.add_argument("--evaluate", type=int, default=1, help="0: only train")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the model's body")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--lora", type=int, default=0, metavar="RANK")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    run = read_run(arguments.run)
    causal = is_causal(run["model"])
    task = Task(run, run["model"], causal)
    network = Network(run["model"], causal, arguments.dtype, task.words, arguments.compile)
    result = train(run, task, network, arguments)
    print(json.dumps(result))


def train(run, task, network, arguments):
    settings, prompt = run.get("train", {}), run.get("prompt", {})
    if arguments.lora:
        encoder, trained = lambda: None, network.add_lora(arguments.lora)
    else:
        encoder = Encoder(prompt.get("encoder", "lstm"), task.pseudo_rows, network.table.weight.shape[1], initial(task, network, prompt))
        trained = list(encoder.parameters())
    optimizer = torch.optim.AdamW(trained, lr=settings.get("learning_rate", 1e-3), weight_decay=0.0)
    clip, size = settings.get("clip_norm", 1.0), settings.get("batch_size", 8)
    rows = task.rows(run["data"]["train"])
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]

    def step(batch):
        batch = collate(batch, arguments.pad)
        loss = torch.nn.functional.cross_entropy(network.scores(batch, encoder()), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        return loss.item()

    losses = [step(batch) for batch in batches[:WARM_UP]]
    start = time.perf_counter()
    for _ in range(arguments.epochs):
        losses += [step(batch) for batch in batches]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result = {"train_examples_per_s": arguments.epochs * len(rows) / seconds, "peak_rss_mb": peak}
    if arguments.evaluate:
        result |= evaluate(task.rows(run["data"].get("test", run["data"]["train"])), network, encoder, arguments.pad)
    return result | {"losses": [round(loss, 5) for loss in losses[:3] + losses[-3:]]}


def initial(task, network, prompt):
    """The word embeddings that the table starts from; None for random ones."""
    if prompt.get("init", "random") == "random":
        return None
    tokens = task.initial_words()
    if None in tokens:
        raise SystemExit('prompt.init: this peer starts from [P*n "words"], in every place, or at random')
    return network.table.weight[torch.tensor(tokens)].float()


def evaluate(rows, network, encoder, pad):
    found = {}
    for key, order in [("eval_examples_per_s", rows), ("eval_sorted_examples_per_s", sorted(rows, key=lambda row: len(row.ids)))]:
        groups = [order[at : at + EVALUATION_BATCH] for at in range(0, len(order), EVALUATION_BATCH)]
        with torch.inference_mode():
            prompt = encoder()
            network.scores(collate(groups[0], pad), prompt)
            start, right = time.perf_counter(), 0
            for group in groups:
                batch = collate(group, pad)
                right += (network.scores(batch, prompt).argmax(1) == batch.targets).sum().item()
            found[key] = len(rows) / (time.perf_counter() - start)
    return found | {"accuracy": right / len(rows)}


if __name__ == "__main__":
    main()
