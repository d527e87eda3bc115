"""Every method on five tasks over one frozen model, beside real PEFT.

python methods_runs.py PTUNE MODEL_DIR LAMA_DIR FEWGLUE_DIR OUT_DIR [--tasks P36 CB] [--seeds 0 1 2] [--programs ptune]
                       [--peft PYTHON] [--only NAME] [--threads N] [--table]

Tasks, rows and sizes: methods_tasks.py. AdamW without decay, clipping at 1, constant rates, the dev rows before the first step and
between epochs, the best state over the test rows. ptune computes as it does without being told (frozen weights in bf16 where they
stay frozen), PEFT in f32. Rates: the best of two or three on the dev rows of P36, seed 0. A run leaves a JSON file in OUT_DIR and is not
repeated; --table prints the table of what is there, a task at a time. Seconds are those of the processor, user and system, of the
whole process.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import methods_tasks
from methods_tasks import TASKS


class Way:
    """A method: its template (`template`, `front`, `pseudo` or `classifier` of the task), keys of the run file, and PEFT's name and rate for it."""

    def __init__(self, template, keys="", peft=None, tasks=tuple(TASKS)):
        self.template, self.keys, self.peft, self.tasks = template, keys, peft, tasks


NLI = ("CB", "RTE")
LORA = '[backbone]\nmode = "lora"\n'
FULL = '[backbone]\nmode = "full"\n'
HEAD = "head_learning_rate = 1e-3\n"
WAYS = {
    "manual prompt": Way("template"),
    "prompt tuning": Way("front", '[prompt]\nencoder = "embedding"\ninit = "vocabulary"\n[train]\nlearning_rate = 3e-2\n', ("prompt-tuning", 3e-2)),
    "P-tuning, in front": Way("front", "[train]\nlearning_rate = 1e-3\n", ("p-tuning", 1e-3)),
    "P-tuning": Way("pseudo", "[train]\nlearning_rate = 1e-3\n"),
    "prefix": Way("template", "[prompt]\nprefix_tokens = 10\n[train]\nlearning_rate = 3e-2\n", ("prefix-tuning", 3e-2)),
    "LoRA": Way("template", LORA + "[train]\nbackbone_learning_rate = 1e-3\n", ("lora", 1e-3)),
    "P-tuning, LoRA": Way("pseudo", LORA + "[train]\nlearning_rate = 1e-3\nbackbone_learning_rate = 1e-3\n"),
    "model tuned": Way("template", FULL + "[train]\nbackbone_learning_rate = 5e-5\n"),
    "P-tuning, model tuned": Way("pseudo", FULL + "[train]\nlearning_rate = 1e-3\nbackbone_learning_rate = 5e-5\n"),
    "classifier": Way("classifier", "[train]\n" + HEAD, tasks=NLI),
    "classifier, prefix": Way("classifier", "[prompt]\nprefix_tokens = 10\n[train]\nlearning_rate = 3e-2\n" + HEAD, tasks=NLI),
    "classifier, LoRA": Way("classifier", LORA + "[train]\nbackbone_learning_rate = 1e-3\n" + HEAD, ("classifier-lora", 1e-3), NLI),
    "classifier, model tuned": Way("classifier", FULL + "[train]\nbackbone_learning_rate = 5e-5\n" + HEAD, tasks=NLI),
}


def template(way, task):
    return f"[P*10] {task.template}" if way.template == "front" else getattr(task, way.template)


def run_file(way, name, seed, model, lama, files):
    task = TASKS[name]
    lines = [f"model = {json.dumps(model)}", f"seed = {seed}", "[data]", f"max_tokens = {methods_tasks.MAX_TOKENS}"]
    lines += [f"{part} = {json.dumps(str(file))}" for part, file in files.items()]
    lines += ["[task]", f"template = {json.dumps(template(way, task))}"]
    if way.template == "classifier":
        lines += ['head = "classifier"', f"labels = {json.dumps(list(task.labels))}"]
    elif task.labels:
        lines += ["[task.verbalizer]", *(f"{label} = [{json.dumps(word)}]" for label, word in task.labels.items())]
    else:
        lines += ['target = "obj_label"', f"vocabulary = {json.dumps(f'{lama}/29k-vocab.json')}", 'vocabulary_key = "bert-base-cased"']
    if way.template != "template" or way.keys:
        keys = way.keys if "[train]" in way.keys else way.keys + "[train]\n"
        lines += [keys + f"batch_size = {task.batch}\nepochs = {task.epochs}"]
        lines += ["eval_every = 8"] if task.labels else []  # steps, two epochs of 32 rows; else an epoch
    return "\n".join(lines) + "\n"


def ptune_command(arguments, name, task, seed, place):
    files = methods_tasks.files(task, arguments.lama, arguments.fewglue)
    file = place.with_suffix(".toml")
    file.write_text(run_file(WAYS[name], task, seed, arguments.model, arguments.lama, files))
    return [arguments.ptune, "train", str(file), "--out", str(place), "--json", *arguments.threads]


def peft_command(arguments, name, task, seed):
    method, rate = WAYS[name].peft
    script = str(pathlib.Path(__file__).with_name("methods_peft.py"))
    places = [arguments.model, arguments.lama, arguments.fewglue]
    return [arguments.peft, script, method, task, *places, "--seed", str(seed), "--rate", str(rate), *arguments.threads]


def measured(command, environment=None):
    """The JSON that a command prints, and the processor time that it took."""
    before = os.times()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return json.loads(done.stdout.splitlines()[-1] if done.stdout.startswith('{"dev"') else done.stdout) | {"processor_seconds": cpu}


def run_all(arguments):
    for task in arguments.tasks:
        for name, way in WAYS.items():
            if task not in way.tasks or (arguments.only and name not in arguments.only):
                continue
            for seed in arguments.seeds if way.keys else arguments.seeds[:1]:
                for program in arguments.programs:
                    if program == "ptune" or way.peft:
                        one(arguments, program, name, task, seed)


def one(arguments, program, name, task, seed):
    place = arguments.out / f"{task}-{name.replace(', ', '+').replace(' ', '-')}-{program}-{seed}"
    kept = place.with_name(place.name + ".json")
    if kept.exists():
        return
    print(place.name, flush=True)
    command = ptune_command(arguments, name, task, seed, place) if program == "ptune" else peft_command(arguments, name, task, seed)
    kept.write_text(json.dumps(measured(command)))


def table(arguments):
    for task in arguments.tasks:
        print(f"\n**{task}**\n\n| method | ptune | trained | processor s | MB | PEFT | trained | processor s | MB |\n|---|---|---|---|---|---|---|---|---|")
        for name, way in WAYS.items():
            if task in way.tasks:
                cells = [cell for program in ("ptune", "peft") for cell in columns(arguments, program, name, task)]
                print(f"| {name} | {' | '.join(cells)} |")


def columns(arguments, program, name, task):
    start = f"{task}-{name.replace(', ', '+').replace(' ', '-')}-{program}-"
    results = [json.loads(file.read_text()) for file in sorted(arguments.out.glob(start + "?.json"))]
    if not results:
        return ["-"] * 4
    tests = [100 * (r["test"] if program == "peft" else r["test"].get("p_at_1", r["test"].get("accuracy"))) for r in results]
    spread = f"{statistics.mean(tests):.1f} ± {statistics.stdev(tests):.1f}" if len(tests) > 1 else f"{tests[0]:.1f}"
    trained = results[0]["trained" if program == "peft" else "trainable_parameters"]
    return [spread, f"{trained:,}", f"{statistics.mean(r['processor_seconds'] for r in results):.0f}", f"{max(r['peak_rss_mb'] for r in results)}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("ptune", "model", "lama", "fewglue"):
        parser.add_argument(name)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--peft", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--programs", nargs="*", default=["ptune", "peft"])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--threads", default=[], type=lambda n: ["--threads", n])
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        run_all(arguments)
    table(arguments)


if __name__ == "__main__":
    main()
