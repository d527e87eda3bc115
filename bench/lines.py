"""What compare.py measures: each line a run file, the sides that run it in turn, and the ratios that are read off.

A side is ptune or a peer at a precision, with the epochs that give it a few seconds. A ratio divides a number of one side by that of
another measured in the same alternation, and is held against the target of design.md, section 9.
"""

from dataclasses import dataclass, field

RTE = {"template": "[P*3] {hypothesis|no_punct} [P*3] [MASK] [P*3] {premise|shorten}", "rows": "rte"}
RTE_TEXT_FIRST = RTE | {"template": "{premise|shorten} {hypothesis} [P*9] [MASK]"}
RTE_MANUAL = RTE | {"template": "{hypothesis|no_punct} [MASK] {premise|shorten}"}
LORA = ["--set", "backbone.mode=lora"]
RTE_FRONT = RTE | {"template": "[P*3] {premise|shorten} [P*3] {hypothesis} [P*3] [MASK]"}
LAMA = {"template": "[P*3] {sub_label} [P*3] [MASK] [P*3]", "rows": "lama"}
LAMA_FRONT = LAMA | {"template": "[P*9] {sub_label} [MASK]"}
UNSHARED = ["--set", "task.template={nothing}[P*9] {sub_label} [MASK]"]  # the same tokens, but each row computes its own beginning
EQUAL = {"template": "[P*3] {text} [P*3] [MASK] [P*3]", "rows": "equal"}

TRAIN, EVAL, SORTED, MEMORY = "train_examples_per_s", "eval_examples_per_s", "eval_sorted_examples_per_s", "peak_rss_mb"
LINES_PER_S, FIRST_ANSWER = "lines_per_s", "first_answer_s"


@dataclass
class Side:
    """`program`: ptune or peer. `options` go to it as they are."""

    name: str
    program: str
    precision: str
    epochs: int = 1
    options: list = field(default_factory=list)


@dataclass
class Ratio:
    """ours over theirs; where less is better (`inverse`), theirs over ours. At least `target`; none where there is no target."""

    what: str
    ours: str
    theirs: str
    key: str = TRAIN
    target: float | None = None
    theirs_key: str | None = None
    inverse: bool = False


@dataclass
class Line:
    """`model` is a directory under --models, or the whole path of one for "small" (--small)."""

    name: str
    what: str
    model: str
    task: dict
    sides: list
    ratios: list
    kind: str = "bench"  # bench | lines | start
    batch: int = 8
    alternations: int = 5


def four(ours=2, theirs=1, evaluate=False):
    """Both programs in both precisions; `theirs` epochs of the peer, `ours` of ptune, which is faster."""
    options = [] if evaluate else ["--evaluate", "0"]
    return [
        Side("ptune f32", "ptune", "f32", ours),
        Side("peer f32", "peer", "f32", theirs, options),
        Side("ptune bf16", "ptune", "bf16", 2 * ours),
        Side("peer bf16", "peer", "bf16", theirs, options),
    ]


def training(target=None, default=None):
    return [
        Ratio("training, f32 both", "ptune f32", "peer f32", target=target),
        Ratio("training, bf16 both", "ptune bf16", "peer bf16", target=target),
        Ratio("training, bf16 / f32", "ptune bf16", "peer f32", target=default),
    ]


def against(key, what, theirs_key=None, equal=None, default=None, inverse=False):
    return [
        Ratio(f"{what}, f32 both", "ptune f32", "peer f32", key, equal, theirs_key, inverse),
        Ratio(f"{what}, bf16 both", "ptune bf16", "peer bf16", key, equal, theirs_key, inverse),
        Ratio(f"{what}, bf16 / f32", "ptune bf16", "peer f32", key, default, theirs_key, inverse),
    ]


PAD = Side("peer f32, all rows 256", "peer", "f32", 1, ["--pad", "256", "--evaluate", "0"])

LINES = [
    Line(
        "rte", "BERT-base, RTE, batch 8", "bert-base", RTE,
        [*four(1, 1, evaluate=True), PAD],
        [
            *training(3, 6),
            Ratio("training, bf16 / f32 padded to 256", "ptune bf16", PAD.name, target=8),
            *against(EVAL, "evaluation, padded", equal=2.5, default=6),
            *against(EVAL, "evaluation, sorted", theirs_key=SORTED),
            *against(MEMORY, "memory of training", equal=2, default=3, inverse=True),
        ],
    ),
    Line("equal", "BERT-base, 32 rows of 32 tokens, batch 32", "bert-base", EQUAL, four(3, 2), training(1.3), batch=32),
    Line("lama-8", "BERT-base, LAMA, batch 8", "bert-base", LAMA, four(1, 1), training(2)),
    Line("lama-32", "BERT-base, LAMA, batch 32", "bert-base", LAMA, four(1, 1), training(), batch=32),
    Line("gpt2-text-first", "GPT-2, RTE, text first, then 9 pseudo tokens", "gpt2", RTE_TEXT_FIRST, four(2, 1), training(5)),
    Line("gpt2-front", "GPT-2, RTE, pseudo tokens in front of each text", "gpt2", RTE_FRONT, four(1, 1), training()),
    Line(
        "gpt2-lama-front", "GPT-2, LAMA, 9 pseudo tokens in front, batch 32", "gpt2", LAMA_FRONT,
        [*four(2, 1), *(Side(f"ptune {p}, each row its own beginning", "ptune", p, 2, UNSHARED) for p in ("f32", "bf16"))],
        [
            *training(),
            Ratio("the shared beginning alone, f32", "ptune f32", "ptune f32, each row its own beginning", target=2.5),
            Ratio("the shared beginning alone, bf16", "ptune bf16", "ptune bf16, each row its own beginning", target=2.5),
        ],
        batch=32,
    ),
    Line("bert-large", "BERT-large, RTE, batch 8", "bert-large", RTE, four(1, 1), training(3, 6), alternations=3),
    Line(
        "small", "a small model, RTE, batch 8", "small", RTE,
        four(3, 2, evaluate=True),
        [*training(3, 6), *against(EVAL, "evaluation, sorted", theirs_key=SORTED), *against(MEMORY, "memory of training", equal=2, default=3, inverse=True)],
    ),
    Line(
        "small-lora", "the small model, RTE, batch 8, LoRA of rank 8 in queries and values under a manual template", "small", RTE_MANUAL,
        [
            Side("ptune f32", "ptune", "f32", 3, LORA),
            Side("peer f32", "peer", "f32", 2, ["--lora", "8", "--evaluate", "0"]),
            Side("ptune bf16", "ptune", "bf16", 6, LORA),
            Side("peer bf16", "peer", "bf16", 2, ["--lora", "8", "--evaluate", "0"]),
        ],
        [*training(), Ratio("memory of training, f32 both", "ptune f32", "peer f32", MEMORY, inverse=True)],
    ),
    Line(
        "lines", "10,000 JSON lines, two labels, the small model", "small", LAMA | {"verbalizer": {"place": ["place"], "person": ["person"]}},
        four(),
        against(LINES_PER_S, "lines answered, start included"),
        kind="lines",
    ),
    Line(
        "start", "from the start of the process to the first answer, BERT-base", "bert-base", RTE,
        [Side("ptune bf16", "ptune", "bf16"), Side("ptune f32", "ptune", "f32"), Side("peer f32", "peer", "f32")],
        [
            Ratio("time to the first answer, bf16 / f32", "ptune bf16", "peer f32", FIRST_ANSWER, 10, inverse=True),
            Ratio("time to the first answer, f32 both", "ptune f32", "peer f32", FIRST_ANSWER, 10, inverse=True),
        ],
        kind="start",
    ),
]
