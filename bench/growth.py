"""How a training step grows: python bench/growth.py --ptune PROGRAM --models DIR [--csv FILE] [--svg FILE]

Five series, each with all else fixed: rows of a batch, tokens of a row, width, depth, threads. Every row has the same length, so there is
nothing but the work itself. --models holds what `bench/shapes.py --growth` wrote. Each point is the best of --repeats measurements
(default 3): growth is a property of the program, and other work can only slow it down. Both precisions. Needs only Python.
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from measure import processor
from picture import picture
from rows import equal

DEPTHS, WIDTHS = (1, 2, 4, 8, 16), (128, 256, 512, 768, 1024)
MIDDLE = {"model": "depth-4", "rows": 8, "tokens": 64, "threads": None}
PSEUDO_AND_SPECIAL = 12
PRECISIONS = ("f32", "bf16")


def series():
    """Name of the axis -> what to measure at each of its values."""
    threads = os.cpu_count()
    counts = sorted({1, 2, 4, 8, 16, 32, threads} & set(range(1, threads + 1)))
    return {
        "rows of a batch": {n: MIDDLE | {"rows": n} for n in (1, 2, 4, 8, 16, 32, 64)},
        "tokens of a row": {n: MIDDLE | {"tokens": n} for n in (16, 32, 64, 128, 256, 512)},
        "width": {n: MIDDLE | {"model": f"width-{n}"} for n in WIDTHS},
        "layers": {n: MIDDLE | {"model": f"depth-{n}"} for n in DEPTHS},
        "threads": {n: MIDDLE | {"threads": n} for n in counts},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ptune", default="ptune")
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="ptune-growth-") as folder:
        for axis, points in series().items():
            for value, setting in points.items():
                for precision in PRECISIONS:
                    times = [step_ms(arguments, pathlib.Path(folder), setting, precision) for _ in range(arguments.repeats)]
                    found.append({"axis": axis, "value": value, "precision": precision, "step_ms": round(min(times), 4)})
                    print(f"{axis} {value} {precision}: {min(times):.3f} ms a step", file=sys.stderr, flush=True)
    print(table(found))
    if arguments.csv:
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["processor", *found[0]])
            writer.writeheader()
            writer.writerows({"processor": processor()} | point for point in found)
    if arguments.svg:
        arguments.svg.write_text(picture(found), encoding="utf-8")


def step_ms(arguments, folder, setting, precision):
    """Milliseconds of a training step."""
    rows, words = setting["rows"], setting["tokens"] - PSEUDO_AND_SPECIAL
    train = folder / f"{rows}-{words}.jsonl"
    train.write_text("".join(json.dumps(equal(i, words)) + "\n" for i in range(rows)), encoding="utf-8")
    test = folder / "one.jsonl"  # bench evaluates too
    test.write_text(json.dumps(equal(0, 4)) + "\n", encoding="utf-8")
    run = folder / "run.toml"
    run.write_text(
        f"model = {json.dumps(str((arguments.models / setting['model']).resolve()))}\n[data]\ntrain = {json.dumps(str(train))}\n"
        f"test = {json.dumps(str(test))}\nmax_tokens = 512\n[task]\ntemplate = \"[P*3] {{text}} [P*3] [MASK] [P*3]\"\n"
        f"[task.verbalizer]\ngood = [\"good\"]\nbad = [\"bad\"]\n[train]\nepochs = 1\nbatch_size = {rows}\n[prompt]\nencoder = \"embedding\"\n",
        encoding="utf-8",
    )
    epochs = 10 if rows * words < 1000 else 3
    command = [arguments.ptune, "bench", run, "--epochs", epochs, "--json", "--set", f"compute={precision}"]
    if setting["threads"]:
        command += ["--threads", setting["threads"]]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return 1000 * rows / json.loads(done.stdout)["train_examples_per_s"]


def table(found):
    lines = ["| axis | value | " + " | ".join(f"{p}, ms a step" for p in PRECISIONS) + " |", "|---|---|" + "---|" * len(PRECISIONS)]
    times = {(point["axis"], point["value"], point["precision"]): point["step_ms"] for point in found}
    for axis, value in dict.fromkeys((point["axis"], point["value"]) for point in found):
        lines.append(f"| {axis} | {value} | " + " | ".join(f"{times[axis, value, p]:.2f}" for p in PRECISIONS) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
