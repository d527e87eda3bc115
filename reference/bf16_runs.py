"""Trains ptune on LAMA relations in f32 and in bf16 and prints the differences: python reference/bf16_runs.py PTUNE MODEL_DIR
LAMA_DIR [OUT_DIR]

The first template of each relation of lama_runs.py with its settings, the LSTM encoder, seeds 0, 1, 2: the same rows in the same
order from the same start, so a difference is that of the precision. Loss: mean training loss between two evaluations on dev.
Needs no PyTorch.
"""

import json
import pathlib
import statistics
import sys
import tempfile

from lama_runs import SEEDS, TEMPLATES, run

COLUMNS = [("P@1", 100, "p_at_1"), ("P@10", 100, "p_at_10"), ("MRR", 1, "mrr")]


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def main():
    ptune, model, lama = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:4])
    out = pathlib.Path(sys.argv[4] if len(sys.argv) > 4 else tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    print("| relation | seed | " + " | ".join(f"{name}, f32 and bf16" for name, _, _ in COLUMNS) + " | loss of each epoch, f32 | bf16 |")
    print("|---|---|" + "---|" * (len(COLUMNS) + 2), flush=True)
    differences = {name: [] for name, _, _ in COLUMNS}
    for relation, template in dict(reversed(TEMPLATES)).items():
        trained = "[P*3] " + template.replace("[MASK]", "[P*3] [MASK] [P*3]")
        for seed in SEEDS:
            places = {compute: out / f"{relation}-{seed}-{compute}" for compute in ("f32", "bf16")}
            test = {
                compute: run(place, ptune, model, lama, relation, trained, [f"seed={seed}", f"compute={compute}"])["test"]
                for compute, place in places.items()
            }
            cells = []
            for name, scale, key in COLUMNS:
                single, half = (scale * test[compute][key] for compute in ("f32", "bf16"))
                differences[name].append(half - single)
                digits = 1 if scale == 100 else 3
                cells.append(f"{single:.{digits}f} {half:.{digits}f}")
            cells += [" ".join(f"{loss:.3f}" for loss in losses(place)) for place in places.values()]
            print(f"| {relation} | {seed} | " + " | ".join(cells) + " |", flush=True)
    for name, values in differences.items():
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        print(f"{name}: bf16 - f32 = {mean:+.4f}, deviation {deviation:.4f}, mean / its error {mean / deviation * len(values) ** 0.5:+.1f}")


if __name__ == "__main__":
    main()
