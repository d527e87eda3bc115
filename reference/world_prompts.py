"""Why a prompt of the small world works or not: `python reference/world_prompts.py PTUNE`

Scores the hand-written prompts of `ptune world` untrained over both built-in models, and sorts them by what the edit put in: a
word that the corpus never has, one that it has in sentences of other relations only, or one that it has in this relation.
Needs nothing but Python.
"""

import collections
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

RUN = """
model = "{model}"
compute = "f32"
[data]
train = "{facts}/train.jsonl"
test = "{facts}/test.jsonl"
[task]
template = {template}
target = "obj_label"
vocabulary = "{world}/{language}/answers.txt"
"""
LANGUAGES = {"en": "English", "ko": "Korean"}
PHRASING, LESS, NEVER, ELSEWHERE, HERE = (
    "as the model has read it", "a word left out", "a word that it has never read", "a word of other relations",
    "a word of this relation")


def words(text):
    """The words of a template or text, without fields and the mask."""
    return re.findall(r"\w+", re.sub(r"\{.*?\}|\[MASK\]", " ", text))


def kind(prompt, read, known):
    """What the edit of a prompt put in; `read` counts the corpus's words, `known` has those of the relation's phrasings."""
    if prompt["kind"] == "phrasing":
        return PHRASING
    new = set(words(prompt["template"])) - set(words(prompt["of"]))
    if not new:
        return LESS
    if any(word not in read for word in new):
        return NEVER
    return HERE if new <= known[prompt["relation"], prompt["language"]] else ELSEWHERE


def score(ptune, model, world, prompt, out):
    """P@1 on the test facts."""
    run = RUN.format(model=model, world=world, facts=world / prompt["language"] / prompt["relation"], language=prompt["language"],
                     template=json.dumps(prompt["template"], ensure_ascii=False))
    if model == "world-gpt":
        run += 'causal_tail = "drop"\n'
    (out / "run.toml").write_text(run, encoding="utf-8")
    command = [ptune, "train", out / "run.toml", "--out", out / "run", "--json"]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    subprocess.run(["rm", "-r", out / "run"], check=True)
    return 100 * result["test"]["p_at_1"]


def main(ptune):
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        world = directory / "world"
        subprocess.run([ptune, "world", world, "--json"], check=True, stdout=subprocess.DEVNULL)
        prompts = [json.loads(line) for line in (world / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
        read = set(words((world / "corpus.txt").read_text(encoding="utf-8")))
        known = collections.defaultdict(set)
        for prompt in prompts:
            if prompt["kind"] == "phrasing":
                known[prompt["relation"], prompt["language"]] |= set(words(prompt["template"]))
        print("| model | language | prompt | prompts | P@1: mean | worst |\n|---|---|---|---|---|---|")
        for model in ("world-mlm", "world-gpt"):
            scores = collections.defaultdict(list)
            for prompt in prompts:
                scores[prompt["language"], kind(prompt, read, known)].append(score(ptune, model, world, prompt, directory))
            for code, language in LANGUAGES.items():
                for group in (PHRASING, LESS, HERE, ELSEWHERE, NEVER):
                    if of := scores[code, group]:
                        print(f"| {model} | {language} | {group} | {len(of)} | {statistics.mean(of):.1f} | {min(of):.1f} |")


if __name__ == "__main__":
    main(sys.argv[1])
