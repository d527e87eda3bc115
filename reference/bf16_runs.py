"""Trains ptune in f32 and in bf16 and prints the differences: python reference/bf16_runs.py PTUNE MODEL_DIR LAMA_DIR
SUPERGLUE_DIR [OUT_DIR]

LAMA: the first template of each relation of lama_runs.py with its settings and the LSTM encoder. CB and RTE: P-tuning over the frozen
model as in superglue_runs.py. Seeds 0, 1, 2; the same rows in the same order from the same start, so a difference is that of the
precision. Loss: mean training loss between two evaluations on dev. Needs no PyTorch.
"""

import json
import pathlib
import statistics
import sys
import tempfile

import lama_runs
import superglue_runs
from lama_runs import SEEDS, TEMPLATES

# What is compared: name, factor, digits, key of the metrics.
LAMA = [("P@1", 100, 1, "p_at_1"), ("P@10", 100, 1, "p_at_10"), ("MRR", 1, 3, "mrr")]
SUPERGLUE = [("accuracy", 100, 1, "accuracy"), ("macro-F1", 100, 1, "macro_f1")]


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def lama(out, ptune, model, data):
    """`run(relation, seed, compute)` -> run directory and test metrics."""
    templates = dict(reversed(TEMPLATES))

    def run(relation, seed, compute):
        template = "[P*3] " + templates[relation].replace("[MASK]", "[P*3] [MASK] [P*3]")
        place = out / f"{relation}-{seed}-{compute}"
        found = lama_runs.run(place, ptune, model, data, relation, template, [f"seed={seed}", f"compute={compute}"])
        return place, found["test"]

    return templates, run


def superglue(out, ptune, model, data):
    """The same for tasks."""
    files = {task: superglue_runs.split(out, pathlib.Path(data), task) for task in superglue_runs.TASKS}

    def run(task, seed, compute):
        way = "P-tuning, frozen"
        found = superglue_runs.run(out, ptune, model, files[task], task, way, seed, 1, compute)
        return superglue_runs.place(out, task, way, seed, compute), found["test"]

    return superglue_runs.TASKS, run


def table(names, run, columns):
    """A row a run; then the paired differences."""
    print("| task | seed | " + " | ".join(f"{name}, f32 and bf16" for name, *_ in columns) + " | loss, f32 | bf16 |")
    print("|---|---|" + "---|" * (len(columns) + 2), flush=True)
    differences = {name: [] for name, *_ in columns}
    for task in names:
        for seed in SEEDS:
            (place, single), (narrow_place, narrow) = (run(task, seed, compute) for compute in ("f32", "bf16"))
            cells = []
            for name, scale, digits, key in columns:
                differences[name].append(scale * (narrow[key] - single[key]))
                cells.append(f"{scale * single[key]:.{digits}f} {scale * narrow[key]:.{digits}f}")
            cells += [" ".join(f"{loss:.3f}" for loss in losses(of)) for of in (place, narrow_place)]
            print(f"| {task} | {seed} | " + " | ".join(cells) + " |", flush=True)
    print()
    for name, values in differences.items():
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        errors = f"{mean / deviation * len(values) ** 0.5:+.1f}" if deviation else "no"
        print(f"{name}: bf16 - f32 = {mean:+.4f}, deviation {deviation:.4f}, {errors} standard errors")
    print(flush=True)


def main():
    ptune, model, lama_dir, superglue_dir = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:5])
    out = pathlib.Path(sys.argv[5] if len(sys.argv) > 5 else tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    table(*superglue(out, ptune, model, superglue_dir), SUPERGLUE)
    table(*lama(out, ptune, model, lama_dir), LAMA)


if __name__ == "__main__":
    main()
