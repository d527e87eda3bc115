"""Trains ptune on LAMA relations and prints a table: python reference/lama_runs.py PTUNE MODEL_DIR LAMA_DIR [OUT_DIR]

LAMA_DIR holds 29k-vocab.json and a directory a relation (P17/train.jsonl, dev.jsonl, test.jsonl with sub_label and
obj_label). For each hand-written template: the template untrained, then with nine pseudo tokens (three in front, three on
each side of the answer) for each encoder and three seeds. AdamW 1e-3, batches of 8, 6 epochs, f32, the best state by dev P@1;
the embedding encoder starts from sampled words. Needs no PyTorch.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

TEMPLATES = [
    ("P17", "{sub_label} is located in [MASK] ."),
    ("P17", "{sub_label} is located in which country or state? [MASK] ."),
    ("P17", "{sub_label} is located in which country? [MASK] ."),
    ("P17", "{sub_label} is located in which country? In [MASK] ."),
    ("P36", "The capital of {sub_label} is [MASK] ."),
    ("P176", "{sub_label} is produced by [MASK] ."),
]
ENCODERS = [("lstm", "random"), ("mlp", "random"), ("embedding", "vocabulary")]
SEEDS = [0, 1, 2]

RUN = """
model = {model}
compute = "f32"
[data]
train = {train}
dev = {dev}
test = {test}
[task]
template = {template}
target = "obj_label"
vocabulary = {vocabulary}
vocabulary_key = "bert-base-cased"
[train]
epochs = 6
clip_norm = 0.0
"""


def main():
    ptune, model, lama = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:4])
    out = pathlib.Path(sys.argv[4] if len(sys.argv) > 4 else tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    print("| relation, template | prompt | P@1, seeds 0 1 2 | mean ± deviation | P@10 | MRR | majority | rows | seconds | MB |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for number, (relation, template) in enumerate(TEMPLATES):
        trained = "[P*3] " + template.replace("[MASK]", "[P*3] [MASK] [P*3]")
        runs = {"manual": [run(out / f"{number}-manual", ptune, model, lama, relation, template, [])]}
        for encoder, init in ENCODERS:
            runs[encoder] = [
                run(out / f"{number}-{encoder}-{seed}", ptune, model, lama, relation, trained,
                    [f"prompt.encoder={encoder}", f"prompt.init={init}", f"seed={seed}"])
                for seed in SEEDS
            ]
        for prompt, results in runs.items():
            print(row(relation, template, prompt, results), flush=True)


def run(out, ptune, model, lama, relation, template, overrides):
    part = {f: json.dumps(f"{lama}/{relation}/{f}.jsonl") for f in ("train", "dev", "test")}
    text = RUN.format(model=json.dumps(model), template=json.dumps(template), vocabulary=json.dumps(f"{lama}/29k-vocab.json"), **part)
    file = out.with_suffix(".toml")
    file.write_text(text)
    command = [ptune, "train", str(file), "--out", str(out), "--json"]
    for override in overrides:
        command += ["--set", override]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def row(relation, template, prompt, results):
    test = [r["test"] for r in results]
    percent = lambda key: [100 * t[key] for t in test]
    mean = lambda values: statistics.mean(values)
    hits = percent("p_at_1")
    spread = f" ± {statistics.stdev(hits):.1f}" if len(hits) > 1 else ""
    return (
        f"| {relation} `{template}` | {prompt} | {' '.join(f'{h:.1f}' for h in hits)} | {mean(hits):.1f}{spread} "
        f"| {mean(percent('p_at_10')):.1f} | {mean([t['mrr'] for t in test]):.3f} | {mean(percent('majority')):.1f} "
        f"| {test[0]['kept']} of {test[0]['kept'] + test[0]['dropped']} "
        f"| {mean([r['seconds'] for r in results]):.1f} | {max(r['peak_rss_mb'] for r in results)} |"
    )


if __name__ == "__main__":
    main()
