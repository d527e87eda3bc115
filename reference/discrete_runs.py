"""Discrete prompts on LAMA and FewGLUE, as tables: python reference/discrete_runs.py PTUNE MODEL_DIR LAMA_DIR PROMPTS_DIR FEWGLUE_DIR OUT_DIR [PART ...]

LAMA_DIR is that of lama_runs.py. PROMPTS_DIR holds what LPAQA and AutoPrompt published: lpaqa_mine/P17.jsonl, lpaqa_paraphrase/P17.jsonl (objects
with template and weight), lpaqa_manual_paraphrase/P17.txt, autoprompt_fact_retrieval_bert_prompts.jsonl (relation and template). FEWGLUE_DIR
holds CB and RTE (train.jsonl and dev32.jsonl of 32 rows, val.jsonl, which is the test set). PARTs, all without one:

autoprompt P36 P176 P17   tokens by gradient: {sub_label} [P*5] [MASK] . , three seeds
autoprompt CB RTE         the same of the words of superglue_runs.py, with its label words
labels CB RTE             the same with label words that are searched first
words CB RTE              label words alone, around the hand-written words of superglue_runs.py: one or three a label, of the likeliest or of all
lpaqa P36 P176 P17        given prompts: the best, the mean of the best ten and of all, learned weights, the weights of the files

A PART is written kind:task, as in autoprompt:P36, or kind:task:steps for a search of another length. Changes are the prompts that were evaluated on dev: the first with a token in each place, then
one a token that was changed. Sizes of a search are fixed beforehand (STEPS, below). Seconds are those of the processor,
user and system, of all threads; memory is the largest of the process. A run that is in OUT_DIR is not repeated. Needs no PyTorch.
"""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tomllib

SEEDS = [0, 1, 2]
RELATIONS = ["P36", "P176", "P17"]
TASKS = {
    "CB": {"entailment": ["yes"], "contradiction": ["no"], "neutral": ["maybe"]},
    "RTE": {"entailment": ["yes"], "not_entailment": ["no"]},
}
# Steps, rows of a batch, candidates.
STEPS = {"lama": (100, 32, 10), "CB": (50, 16, 10), "RTE": (50, 16, 10)}
TRIGGERS = "{sub_label} [P*5] [MASK] ."
ENTAILMENT = "[P*3] {hypothesis|no_punct} ? [P*3] [MASK] , [P*3] {premise|shorten}"
MANUAL = "{hypothesis|no_punct} ? [MASK] , {premise|shorten}"
TOP = 10

RUN = """
model = {model}
[data]
train = {train}
dev = {dev}
test = {test}
max_tokens = 256
[task]
template = {template}
{task}
[search]
steps = {steps}
batch_size = {batch}
candidates = {candidates}
"""


def main():
    global ptune, model, lama, prompts, fewglue, out
    ptune, model, lama, prompts, fewglue, out = (pathlib.Path(p).resolve() for p in sys.argv[1:7])
    out.mkdir(parents=True, exist_ok=True)
    parts = [part.split(":") for part in sys.argv[7:]] or (
        [("autoprompt", task) for task in RELATIONS + list(TASKS)] + [(kind, task) for kind in ("labels", "words") for task in TASKS] + [("lpaqa", r) for r in RELATIONS])
    for kind, task, *steps in parts:
        if kind == "lpaqa":
            ensembles(task)
        elif kind == "words":
            label_words(task)
        else:
            searches(kind, task, *steps)


def searches(kind, task, steps=None):
    """A row for each seed, and their mean."""
    metric = "accuracy" if task in TASKS else "p_at_1"
    print(f"\n{kind} {task}: {metric} of the prompt found\n\n| seed | dev | test | changes | processor s | MB | labels | prompt |\n|---|---|---|---|---|---|---|---|")
    found = []
    for seed in SEEDS:
        place = out / "-".join([kind, task, *([steps] if steps else []), str(seed)])
        sets = [f"seed={seed}"] + (["search.label_words=1"] if kind == "labels" else []) + ([f"search.steps={steps}"] if steps else [])
        run = search(place, task, sets, [])
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        changed = len({line["prompt"] for line in lines if "prompt" in line})
        labels = ", ".join(f"{one['label']}: {' '.join(one['words'])}" for one in run.get("labels", []))
        print(f"| {seed} | {100 * run['dev'][metric]:.1f} | {100 * run['test'][metric]:.1f} | {changed} | {run['cpu']:.0f} | {run['mb']:.0f} | {labels} | `{run['prompt']}` |", flush=True)
        found.append(run)
    tests = [100 * run["test"][metric] for run in found]
    majority = 100 * found[0]["test"]["majority"]
    print(f"\nmean {statistics.mean(tests):.1f} ± {statistics.stdev(tests):.1f}, majority {majority:.1f}", flush=True)


def label_words(task):
    """The hand-written template alone, with words for the labels."""
    print(f"\nwords {task}: accuracy\n\n| words a label | among | dev | test | processor s | MB | words |\n|---|---|---|---|---|---|---|")
    for count in (1, 3):
        for pool in (100, 0):
            sets = [f"search.label_words={count}", f"search.label_pool={pool}"]
            run = search(out / f"words-{task}-{count}-{pool}", task, sets, [], MANUAL)
            labels = ", ".join(f"{one['label']}: {' '.join(one['words'])}" for one in run["labels"])
            print(f"| {count} | {pool or 'all'} | {100 * run['dev']['accuracy']:.1f} | {100 * run['test']['accuracy']:.1f} | {run['cpu']:.0f} | {run['mb']:.0f} | {labels} |", flush=True)


def ensembles(relation):
    files = given(relation)
    print(f"\nlpaqa {relation}: P@1\n\n| prompts | of them | way | dev | test | answer together | processor s | MB |\n|---|---|---|---|---|---|---|---|")
    for name, file in files.items():
        ways = {"best": ["search.combine=best"]}
        count = len(file.read_text().splitlines())
        if count > 1:
            ways |= {
                f"mean of {TOP}": ["search.combine=mean", f"search.top={TOP}"],
                "mean of all": ["search.combine=mean"],
                f"learned weights of {TOP}": ["search.combine=weighted", f"search.top={TOP}"],
            }
        for way, sets in ways.items():
            place = out / f"lpaqa-{relation}-{name}-{way.replace(' ', '-')}"
            run = search(place, relation, sets, ["--prompts", str(file)])
            print(row(name, len(run["tried"]), way, run), flush=True)
            if way == "best" and count > 1:
                scores = [100 * one["metrics"]["p_at_1"] for one in run["tried"]]
                print(f"| {name} | {len(scores)} | each alone, dev: {statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}, worst {scores[-1]:.1f} | | | | | |")
            if way == "mean of all" and "weight" in file.read_text():
                print(row(name, len(run["tried"]), "weights of the file", weighted(place, relation, file)), flush=True)


def row(name, tried, way, run):
    dev = f"{100 * run['dev']['p_at_1']:.1f}" if run.get("dev") else ""
    return f"| {name} | {tried} | {way} | {dev} | {100 * run['test']['p_at_1']:.1f} | {len(run['prompts'])} | {run['cpu']:.0f} | {run['mb']:.0f} |"


def given(relation):
    """The prompts of a relation, by who gave them."""
    mined, paraphrased = (prompts / f"lpaqa_{kind}" / f"{relation}.jsonl" for kind in ("mine", "paraphrase"))
    both = out / f"{relation}-both.jsonl"
    rows = [json.loads(line) for file in (mined, paraphrased) for line in file.read_text().splitlines()]
    both.write_text("".join(json.dumps({"template": one["template"]}) + "\n" for one in rows))
    auto = out / f"{relation}-autoprompt.jsonl"
    lines = (prompts / "autoprompt_fact_retrieval_bert_prompts.jsonl").read_text().splitlines()
    auto.write_text("".join(line + "\n" for line in lines if json.loads(line)["relation"] == relation))
    hand = prompts / "lpaqa_manual_paraphrase" / f"{relation}.txt"
    return {"autoprompt": auto, "by hand": hand, "mined": mined, "paraphrased": paraphrased, "both": both}


def weighted(place, relation, file):
    """The mean of all prompts again, with the weights of the file in the place of equal ones: an adapter that is edited."""
    given = {asked(one["template"]): one["weight"] for one in map(json.loads, file.read_text().splitlines())}
    text = (place / "adapter" / "adapter.toml").read_text()
    weights = [given[one["template"]] for one in tomllib.loads(text)["task"]["discrete"]["prompts"]]
    shares = iter([weight / sum(weights) for weight in weights])
    copy = place.with_name(place.name + "-given") / "adapter"
    copy.mkdir(parents=True, exist_ok=True)
    for one in (place / "adapter").iterdir():
        (copy / one.name).write_bytes(one.read_bytes())
    (copy / "adapter.toml").write_text(re.sub("(?m)^weight = .*$", lambda _: f"weight = {next(shares)!r}", text))
    run = measured([ptune, "eval", copy, "--data", lama / relation / "test.jsonl", "--json"])
    return {"test": run["metrics"], "prompts": weights, "cpu": run["cpu"], "mb": run["mb"]}


def asked(template):
    """A published template as the run file has it."""
    return template.replace("[X]", "{sub_label}").replace("[Y]", "[MASK]").strip()


def search(place, task, sets, more, template=None):
    """One search, or what it once came to."""
    kept = place.with_suffix(".json")
    if kept.exists():
        return json.loads(kept.read_text())
    if task in TASKS:
        directory, names, template = fewglue / task, ("train", "dev32", "val"), template or ENTAILMENT
        about = "[task.verbalizer]\n" + "\n".join(f"{label} = {json.dumps(words)}" for label, words in TASKS[task].items())
    else:
        directory, names, template = lama / task, ("train", "dev", "test"), "{sub_label} [MASK] ." if more else TRIGGERS
        about = f'target = "obj_label"\nvocabulary = {json.dumps(str(lama / "29k-vocab.json"))}\nvocabulary_key = "bert-base-cased"'
    steps, batch, candidates = STEPS.get(task, STEPS["lama"])
    data = {part: json.dumps(str(directory / f"{name}.jsonl")) for part, name in zip(("train", "dev", "test"), names)}
    file = place.with_suffix(".toml")
    file.write_text(RUN.format(model=json.dumps(str(model)), template=json.dumps(template), task=about, steps=steps, batch=batch, candidates=candidates, **data))
    subprocess.run(["rm", "-rf", str(place)], check=True)  # of a run that was interrupted
    command = [ptune, "search", file, "--out", place, "--json", *more]
    for one in sets:
        command += ["--set", one]
    run = measured(command)
    kept.write_text(json.dumps(run))
    return run


def measured(command):
    """What a command said, with its processor seconds and largest memory."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(str(part) for part in command)}")
    return {**json.loads(said), "cpu": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1024}


if __name__ == "__main__":
    main()
