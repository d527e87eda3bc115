"""Trains ptune on CB and RTE and prints a table: python reference/superglue_runs.py PTUNE MODEL_DIR SUPERGLUE_DIR [OUT_DIR [JOBS]]

SUPERGLUE_DIR holds a directory a task (CB/train.jsonl, val.jsonl with premise, hypothesis, label). The official validation rows are
the test set, as in the paper; the best state is picked on every tenth training row, which no run trains on. Three ways with the
same words: tuned with the manual template (PET-FT), tuned with pseudo tokens (P-tuning), pseudo tokens over the frozen model; and
the manual template untrained. Three seeds. Hyper-parameters are fixed beforehand, from the paper's grid: AdamW, decay 0.01, linear
schedule, batches of 16, backbone 3e-5, prompt 1e-4 (1e-3 where the model is frozen), clipping at 1. JOBS runs go side by side, each
with one thread; seconds then say little. Needs no PyTorch.
"""

import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

TASKS = {
    "CB": (8, {"entailment": ["yes"], "contradiction": ["no"], "neutral": ["maybe"]}),
    "RTE": (1, {"entailment": ["yes"], "not_entailment": ["no"]}),
}
MANUAL = "{hypothesis|no_punct} ? [MASK] , {premise|shorten}"
PSEUDO = "[P*3] {hypothesis|no_punct} ? [P*3] [MASK] , [P*3] {premise|shorten}"
WAYS = {
    "manual, untrained": (MANUAL, "frozen", "1e-3"),
    "manual, tuned (PET-FT)": (MANUAL, "full", "1e-4"),
    "P-tuning, tuned": (PSEUDO, "full", "1e-4"),
    "P-tuning, frozen": (PSEUDO, "frozen", "1e-3"),
}
SEEDS = [0, 1, 2]

RUN = """
model = {model}
[data]
train = {train}
dev = {dev}
test = {test}
max_tokens = 256
[task]
template = {template}
[task.verbalizer]
{verbalizer}
[backbone]
mode = "{mode}"
[train]
epochs = {epochs}
batch_size = 16
learning_rate = {rate}
{backbone}weight_decay = 0.01
schedule = "linear"
"""


def main():
    ptune, model, data = (pathlib.Path(p).resolve() for p in sys.argv[1:4])
    out = pathlib.Path(sys.argv[4] if len(sys.argv) > 4 else tempfile.mkdtemp())
    jobs = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    out.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = {}
        for task in TASKS:
            files = split(out, data, task)
            for way, (_, mode, _) in WAYS.items():
                seeds = SEEDS if mode == "full" or way.startswith("P") else SEEDS[:1]
                futures[task, way] = [pool.submit(run, out, ptune, model, files, task, way, seed, jobs) for seed in seeds]
        print("| task | way | accuracy, seeds 0 1 2 | mean ± deviation | macro-F1 | majority | trained | seconds | MB |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for (task, way), results in futures.items():
            print(row(task, way, [result.result() for result in results]), flush=True)


def split(out, data, task):
    """Every tenth training row is dev."""
    rows = (data / task / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    files = {"train": out / f"{task}-train.jsonl", "dev": out / f"{task}-dev.jsonl", "test": data / task / "val.jsonl"}
    files["dev"].write_text("".join(rows[::10]), encoding="utf-8")
    files["train"].write_text("".join(r for i, r in enumerate(rows) if i % 10), encoding="utf-8")
    return files


def place(out, task, way, seed, compute):
    """The directory of a run."""
    return out / f"{task}-{list(WAYS).index(way)}-{seed}-{compute}"


def run(out, ptune, model, files, task, way, seed, jobs, compute="auto"):
    epochs, labels = TASKS[task]
    template, mode, rate = WAYS[way]
    verbalizer = "\n".join(f"{label} = {json.dumps(words)}" for label, words in labels.items())
    text = RUN.format(model=json.dumps(str(model)), template=json.dumps(template), verbalizer=verbalizer, mode=mode, epochs=epochs,
                      rate=rate, backbone="backbone_learning_rate = 3e-5\n" if mode == "full" else "",
                      **{name: json.dumps(str(path)) for name, path in files.items()})
    directory = place(out, task, way, seed, compute)
    file = directory.with_suffix(".toml")
    file.write_text(text)
    command = [str(ptune), "train", str(file), "--out", str(directory), "--json", "--set", f"seed={seed}", "--set", f"compute={compute}"]
    if jobs > 1:
        command += ["--threads", "1"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def row(task, way, results):
    percent = lambda key: [100 * r["test"][key] for r in results]
    spread = lambda values: f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")
    accuracy = percent("accuracy")
    return (
        f"| {task} | {way} | {' '.join(f'{a:.1f}' for a in accuracy)} | {spread(accuracy)} | {spread(percent('macro_f1'))} "
        f"| {percent('majority')[0]:.1f} | {results[0]['trainable_parameters']} "
        f"| {statistics.mean(r['seconds'] for r in results):.1f} | {max(r['peak_rss_mb'] for r in results)} |"
    )


if __name__ == "__main__":
    main()
