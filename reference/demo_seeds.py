"""Runs `ptune demo` with several seeds and prints, for each model and language, P@1 in percent of the prompts as written, and of
those of the tuned relations after P-tuning: the mean over a relation's prompts and how far its worst is from its best, both as
means over the relations; mean ± deviation of the seeds.

    python reference/demo_seeds.py target/release/ptune [SEED ...]

Needs nothing but Python. The demo replaces its own output, in a temporary directory.
"""

import json
import statistics
import subprocess
import sys
import tempfile

LANGUAGES = {"en": "English", "ko": "Korean"}


def relations(run, kind, model, language):
    """Relations of one model in one language: all, `surveyed`, or those that were tuned, `lessons`."""
    return next([one for one in m[kind] if one["language"] == language] for m in run["models"] if m["name"] == model)


def of_seeds(values):
    """`97.1 ± 0.4`, in percent."""
    values = [100 * value for value in values]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.1f}"


def mean(lessons, *path):
    """The mean over relations of a number in each."""
    def number(lesson):
        for key in path:
            lesson = lesson[key]
        return lesson
    return statistics.mean(number(lesson) for lesson in lessons)


def main(ptune, seeds):
    runs = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as out:
            command = [ptune, "demo", "--seed", seed, "--out", out + "/demo", "--json"]
            runs.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        print(f"seed {seed}: {runs[-1]['seconds']:.1f} s, peak memory {runs[-1]['peak_rss_mb']} MB", file=sys.stderr)
    print("| model | language | relations | by hand: mean | worst to best | P-tuned: mean | worst to best | majority | random weights |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in [model["name"] for model in runs[0]["models"]]:
        for code, language in LANGUAGES.items():
            surveyed = [relations(run, "surveyed", model, code) for run in runs]
            cells = [of_seeds([mean(of_run, "by_hand", key) for of_run in surveyed]) for key in ("mean", "spread")]
            majority = statistics.mean(mean(of_run, "majority") for of_run in surveyed)
            print(f"| {model} | {language} | all {len(surveyed[0])} | {cells[0]} | {cells[1]} | | | {100 * majority:.1f} | |")
            each = [relations(run, "lessons", model, code) for run in runs]
            columns = [("by_hand", "mean"), ("by_hand", "spread"), ("tuned", "mean"), ("tuned", "spread"), ("majority",), ("random_weights",)]
            cells = [of_seeds([mean(of_run, *path) for of_run in each]) for path in columns[:4]]
            cells += [f"{100 * statistics.mean(mean(of_run, *path) for of_run in each):.1f}" for path in columns[4:]]
            print(f"| {model} | {language} | {len(each[0])} | " + " | ".join(cells) + " |")
    seconds = [run["seconds"] for run in runs]
    print(f"\n{len(runs)} seeds; {min(seconds):.1f} to {max(seconds):.1f} s, peak memory {max(run['peak_rss_mb'] for run in runs)} MB")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or ["0", "1", "2", "3", "4"])
