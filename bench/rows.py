"""Writes the rows that are measured: python bench/rows.py OUT --superglue DIR --lama DIR

SUPERGLUE holds a directory a task (RTE/train.jsonl, val.jsonl with premise, hypothesis, label), LAMA a directory a relation
(P17/train.jsonl with sub_label, obj_label). Always the first rows of a file, so that two people measure the same ones:

| file | rows |
|---|---|
| rte-train.jsonl, rte-eval.jsonl | 32 and 64 of RTE: texts of very different lengths |
| lama-train.jsonl, lama-eval.jsonl | 64 and 64 of P17: short, of almost one length; countries that are one token in the usual vocabularies. The field `nothing` is empty: a template that begins with it has the same tokens, but no beginning that all rows share |
| equal.jsonl | 32 texts of 20 words, each one token: no padding anywhere, so that only the kernels count |
| lines.jsonl | 10,000 subjects of all relations, to be answered |

Needs nothing but Python.
"""

import argparse
import json
import pathlib

COUNTRIES = {"France", "Italy", "Germany", "Spain", "Japan", "India", "Canada", "Australia", "Russia", "China", "Iran", "Brazil", "Sweden", "Norway"}
# Words that are one token in every English vocabulary.
WORDS = "the of and to in was for that with his from had not are were they which this been their has would what there more".split()
EQUAL_ROWS, EQUAL_WORDS = 32, 20
LINES = 10_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--superglue", type=pathlib.Path, required=True)
    parser.add_argument("--lama", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rte = arguments.superglue / "RTE"
    countries = [row | {"nothing": ""} for row in read(arguments.lama / "P17" / "train.jsonl") if row["obj_label"] in COUNTRIES]
    subjects = [{"sub_label": row["sub_label"]} for file in sorted(arguments.lama.glob("P*/train.jsonl")) for row in read(file)]
    for name, rows, wanted in [
        ("rte-train", read(rte / "train.jsonl"), 32),
        ("rte-eval", read(rte / "val.jsonl"), 64),
        ("lama-train", countries, 64),
        ("lama-eval", countries[64:], 64),
        ("equal", [equal(i) for i in range(EQUAL_ROWS)], EQUAL_ROWS),
        ("lines", subjects, LINES),
    ]:
        if len(rows) < wanted:
            raise SystemExit(f"{name}: {wanted} rows were expected, the data has {len(rows)}")
        file = arguments.out / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:wanted]), encoding="utf-8")
        print(file)


def read(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def equal(number, words=EQUAL_WORDS):
    """A row whose text has so many tokens, another one for each number."""
    text = " ".join(WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(words))
    return {"text": text, "label": "good" if number % 2 else "bad"}


if __name__ == "__main__":
    main()
