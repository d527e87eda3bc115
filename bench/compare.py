"""Measures ptune beside a peer and prints the table: python bench/compare.py --ptune PROGRAM --models DIR --rows DIR [--small DIR]

Each line (lines.py, --list) runs its sides in turn, A B C A B C ..., several times, so that a machine that grows warm or busy treats
all alike; every alternation gives each ratio once, and the table tells their least, median and largest. Whole epochs, the same rows in
the same order. Every single measurement goes into bench/record/DATE.csv. bench/README.md says what to prepare. Needs only Python
3.11; the peer needs PyTorch (--python).
"""

import argparse
import csv
import datetime
import pathlib
import shutil
import statistics
import sys
import tempfile

from lines import EVAL, FIRST_ANSWER, LINES, LINES_PER_S, MEMORY, SORTED, TRAIN
from measure import Bench, busy, processor

KEYS = [TRAIN, EVAL, SORTED, MEMORY, LINES_PER_S, FIRST_ANSWER, "step_gflops", "matmul_peak_gflops"]
COLUMNS = ["date", "processor", "line", "alternation", "side", "precision", *KEYS, "others"]
QUIET = 0.1


def main():
    arguments = parse()
    if arguments.list:
        for line in LINES:
            print(f"{line.name:18}{line.alternations:3} x {len(line.sides)} sides   {line.what}")
        return
    chosen = [line for line in LINES if not arguments.only or line.name in arguments.only]
    if not arguments.small:
        chosen = [line for line in chosen if line.model != "small"]
    used = busy()
    if used > QUIET and not arguments.busy:
        raise SystemExit(f"{100 * used:.0f} % of this machine is in use by other work, so nothing measured now would count; wait, or give --busy")
    arguments.record.mkdir(parents=True, exist_ok=True)
    record = arguments.record / f"{datetime.date.today()}.csv"
    print(f"{datetime.date.today()}, {processor()}\n\n| what | target | ratio, least | median | largest | ours | theirs |\n|---|---|---|---|---|---|---|")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ptune-bench-"))
    try:
        bench, all_found = Bench(arguments, folder), []
        for line in chosen:
            found = measure_line(bench, line, arguments.alternations or line.alternations, record)
            for ratio in line.ratios:
                print(row(line, ratio, found), flush=True)
            all_found.append((line, found))
        print_shares(all_found)
        print_others(all_found)
    finally:
        shutil.rmtree(folder)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    paths = {"type": pathlib.Path, "metavar": "DIR"}
    parser.add_argument("--list", action="store_true", help="the lines, and nothing else")
    parser.add_argument("--ptune", default="ptune", help="the program")
    parser.add_argument("--models", **paths, help="what bench/shapes.py wrote")
    parser.add_argument("--rows", **paths, help="what bench/rows.py wrote")
    parser.add_argument("--small", **paths, help="a small BERT, for the lines that need one")
    parser.add_argument("--python", default=sys.executable, help="a Python with torch and transformers")
    parser.add_argument("--peer", help="another peer: a command with {run} (the run file), {model}, {rows}, {epochs}, {dtype}")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[line.name for line in LINES], help="this line; may be repeated")
    parser.add_argument("--alternations", type=int, metavar="N", help="instead of each line's own number")
    parser.add_argument("--record", **paths, default=pathlib.Path(__file__).resolve().parent / "record", help="where the CSV goes")
    parser.add_argument("--busy", action="store_true", help="measure although the machine has other work")
    arguments = parser.parse_args()
    if not arguments.list and not (arguments.models and arguments.rows):
        parser.error("--models and --rows are needed")
    return arguments


def measure_line(bench, line, alternations, record):
    """For every alternation what each side gave, by its name."""
    if line.kind == "start":  # files into the cache
        for side in line.sides:
            bench.measure(line, side)
    found = []
    for alternation in range(1, alternations + 1):
        sides = {}
        for side in line.sides:
            print(f"{line.name} {alternation}/{alternations} {side.name}   ", end="\r", file=sys.stderr, flush=True)
            sides[side.name] = bench.measure(line, side)
            append(record, line, alternation, side, sides[side.name])
        found.append(sides)
    return found


def append(record, line, alternation, side, numbers):
    new = not record.exists()
    with open(record, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        if new:
            writer.writeheader()
        short = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in numbers.items()}
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
        writer.writerow({"date": now, "processor": processor(), "line": line.name, "alternation": alternation, "side": side.name, "precision": side.precision} | short)


def row(line, ratio, found):
    """A row of the table; the speeds are medians."""
    pairs = [(sides[ratio.ours].get(ratio.key), sides[ratio.theirs].get(ratio.theirs_key or ratio.key)) for sides in found]
    pairs = [(ours, theirs) for ours, theirs in pairs if ours and theirs]
    if not pairs:
        return f"| {line.what}: {ratio.what} | | not measured | | | | |"
    ratios = [theirs / ours if ratio.inverse else ours / theirs for ours, theirs in pairs]
    ours, theirs = (statistics.median(column) for column in zip(*pairs))
    median = statistics.median(ratios)
    target = "" if ratio.target is None else f"{ratio.target:g}x, {'held' if median >= ratio.target else 'missed'}"
    unit = {MEMORY: " MB", FIRST_ANSWER: " s"}.get(ratio.key, "/s")
    return f"| {line.what}: {ratio.what} | {target} | {min(ratios):.2f} | {median:.2f} | {max(ratios):.2f} | {three(ours)}{unit} | {three(theirs)}{unit} |"


def three(value):
    """Three digits, and all of those before the point."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def print_shares(all_found):
    """What ptune's steps and products reach of the multiply-add peak that was measured in the same run."""
    print("\n| line | side | whole step, % of the peak | products, % of the peak | products, % of the step |\n|---|---|---|---|---|")
    for line, found in all_found:
        for side in line.sides:
            measured = [sides[side.name] for sides in found if sides[side.name].get("matmul_peak_gflops")]
            if measured:
                shares = [statistics.median(column) for column in zip(*map(step_shares, measured))]
                print(f"| {line.name} | {side.name} | " + " | ".join(f"{100 * share:.0f}" for share in shares) + " |")


def step_shares(numbers):
    peak = numbers["matmul_peak_gflops"]
    products = [operation for operation in numbers["operations"] if operation["gflops"]]
    seconds = sum(operation["seconds"] for operation in products)
    gflops = sum(operation["seconds"] * operation["gflops"] for operation in products) / seconds
    return numbers["step_gflops"] / peak, gflops / peak, sum(operation["share"] for operation in products)


def print_others(all_found):
    shares = [numbers["others"] for _, found in all_found for sides in found for numbers in sides.values()]
    if shares:
        print(f"\nOther processes took {100 * statistics.median(shares):.1f} % of the machine (median of {len(shares)} measurements; at most {100 * max(shares):.1f} %).")


if __name__ == "__main__":
    main()
