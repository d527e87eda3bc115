"""Adapters between ptune and real PEFT, both ways.

`python reference/peft_exchange.py --fixtures` writes `crates/ptune/tests/golden/peft/`: adapters that PEFT saved over the tiny GPT-2 of
the golden case `gpt2_mlp`, each with `answers.json`: texts, label words, and PEFT's logits of the words behind each text.

`python reference/peft_exchange.py --check PTUNE` takes the program, trains an adapter a method, exports it and loads it with PEFT, and
imports what PEFT saves; it prints the largest difference of a logit for each method and direction (of logits about their mean over
the labels, since ptune prints probabilities). The same script runs under PEFT 0.10 with transformers 4.46.
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

GOLDEN = pathlib.Path(__file__).parent.parent / "crates/ptune/tests/golden"
MODEL = GOLDEN / "gpt2_mlp/model"
TEXTS = ["Rain", "The cat sleeps in the red room", "It was a fine city"]
WORDS = ["yes", "no", "maybe", "fine", "city"]
TOKENS = 4
LIMIT = 2e-5


def configs():
    """Name and config of every method that this PEFT has."""
    common = {"task_type": "CAUSAL_LM", "num_virtual_tokens": TOKENS}
    yield "prompt_tuning", peft.PromptTuningConfig(**common)
    yield "p_tuning_mlp", peft.PromptEncoderConfig(encoder_hidden_size=8, **common)
    yield "p_tuning_lstm", peft.PromptEncoderConfig(encoder_reparameterization_type="LSTM", encoder_hidden_size=8, **common)
    yield "prefix", peft.PrefixTuningConfig(**common)
    yield "prefix_projected", peft.PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=8, **common)
    yield "multitask", peft.MultitaskPromptTuningConfig(num_tasks=3, num_ranks=2, **common)
    if hasattr(peft, "CPTConfig"):
        kinds = {"cpt_token_ids": [1, 2, 3, 4], "cpt_mask": [1] * 4, "cpt_tokens_type_mask": [1, 2, 3, 4]}
        yield "cpt", peft.CPTConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS, **kinds)
    if hasattr(peft, "CartridgeConfig"):
        yield "cartridge", peft.CartridgeConfig(**common)


def base():
    return AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.float32, attn_implementation="eager").eval()  # sdpa of 4.46 forgets a scale


def ids_of(tokenizer, text):
    """As ptune makes them of ` {text} is`: each piece alone, with a space in front."""
    return [i for piece in (" " + text, " is") for i in tokenizer.encode(piece, add_special_tokens=False)[:64]]


def word_ids(tokenizer):
    ids = [tokenizer.encode(" " + word, add_special_tokens=False) for word in WORDS]
    assert all(len(i) == 1 for i in ids), ids
    return [i[0] for i in ids]


def logits(model, tokenizer, task=None):
    """[texts, words] behind each text."""
    extra = {} if task is None else {"task_ids": torch.tensor([task])}
    rows = []
    for text in TEXTS:
        ids = torch.tensor([ids_of(tokenizer, text)])
        with torch.no_grad():
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits
        rows.append(out[0, -1, word_ids(tokenizer)].tolist())
    return rows


def peft_saves(config, directory, tokenizer):
    """An adapter with random numbers, as PEFT saves it; the logits with it, of each task where there are several."""
    torch.manual_seed(sum(map(ord, directory.name)))
    model = peft.get_peft_model(base(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.dim() > 1 else 0.1))
    model.eval()
    tasks = getattr(config, "num_tasks", None)
    found = [logits(model, tokenizer, task) for task in (range(tasks) if tasks else [None])]
    # What PEFT gives of its own file is what counts; of CPT the projection runs before a forward.
    model.save_pretrained(directory)
    loaded = peft.PeftModel.from_pretrained(base(), directory).eval()
    again = [logits(loaded, tokenizer, task) for task in (range(tasks) if tasks else [None])]
    assert difference(found, again) < 1e-4, directory
    return again


def difference(a, b):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    return (a - b).abs().max().item()


def fixtures():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for name, config in configs():
        directory = GOLDEN / "peft" / name
        shutil.rmtree(directory, ignore_errors=True)
        found = peft_saves(config, directory, tokenizer)
        (directory / "README.md").unlink(missing_ok=True)
        answers = {"peft": peft.__version__, "texts": TEXTS, "words": WORDS, "logits": found}
        (directory / "answers.json").write_text(json.dumps(answers) + "\n")
        config_file = directory / "adapter_config.json"
        written = json.loads(config_file.read_text())
        written["base_model_name_or_path"] = None  # a path of the machine that wrote it
        config_file.write_text(json.dumps(written, indent=2, sort_keys=True))
        print(name, found[0][0])


def ptune(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def ptune_logits(program, adapter):
    """Of the labels, about their mean."""
    rows = []
    for text in TEXTS:
        said = json.loads(ptune(program, "predict", adapter, "--json", "--field", f"text={text}"))
        rows.append([math.log(said["probabilities"][word]) for word in WORDS])
    return rows


def run_file(scene, template, more):
    rows = [json.dumps({"text": text, "label": word}) for text, word in zip(TEXTS, WORDS)]
    (scene / "rows.jsonl").write_text("\n".join(rows))
    labels = "\n".join(f'{word} = ["{word}"]' for word in WORDS)
    text = f'model = "{MODEL}"\ncompute = "f32"\n[data]\ntrain = "rows.jsonl"\n[task]\ntemplate = "{template}"\n'
    text += f"[task.verbalizer]\n{labels}\n{more}[train]\nsteps = 5\nlearning_rate = 0.01\n"
    (scene / "run.toml").write_text(text)
    return scene / "run.toml"


# Name, template, keys of the run file, what to export it as.
EXPORTS = [("prompt tuning", "[P*4] {text} is [MASK]", '[prompt]\nencoder = "embedding"\n', "prompt-tuning"),
           ("p-tuning, mlp", "[P*4] {text} is [MASK]", '[prompt]\nencoder = "mlp"\nshapes = "peft"\n', "p-tuning"),
           ("p-tuning, lstm", "[P*4] {text} is [MASK]", '[prompt]\nencoder = "lstm"\n', "p-tuning"),
           ("prompt as prefix", "[P*4] {text} is [MASK]", '[prompt]\nencoder = "lstm"\n', "prefix-tuning"),
           ("prefix tuning", " {text} is [MASK]", "[prompt]\nprefix_tokens = 4\n", None)]


def check(program):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    print(f"PEFT {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    worst = 0.0
    with tempfile.TemporaryDirectory() as scene:
        scene = pathlib.Path(scene)
        for name, template, more, method in EXPORTS:
            out, exported, again = (scene / f"{name} {part}" for part in ("run", "peft", "again"))
            ptune(program, "train", run_file(scene, template, more), "--out", out)
            as_method = ["--method", method] if method else []
            ptune(program, "adapter", "export", out / "adapter", "--format", "peft", "--out", exported, *as_method)
            loaded = peft.PeftModel.from_pretrained(base(), exported).eval()
            ours = ptune_logits(program, out / "adapter")
            there = difference(logits(loaded, tokenizer), ours)
            ptune(program, "adapter", "import", exported, "--out", again)
            back = difference(ptune_logits(program, again), ours)
            print(f"{name:18} ptune -> PEFT {there:.1e}   ptune -> PEFT's files -> ptune {back:.1e}")
            worst = max(worst, there, back)
        for name, config in configs():
            saved = scene / f"{name} saved"
            found = peft_saves(config, saved, tokenizer)
            template = " {text} is [MASK]" if name.startswith(("prefix", "cartridge", "lora")) else "[P*4] {text} is [MASK]"
            run = run_file(scene, template, "")
            for task, expected in enumerate(found):
                out = scene / f"{name} {task} imported"
                number = ["--task", task] if len(found) > 1 else []
                ptune(program, "adapter", "import", saved, "--run", run, "--out", out, *number)
                there = difference(expected, ptune_logits(program, out))
                print(f"{name:18} PEFT -> ptune {there:.1e}")
                worst = max(worst, there)
    print(f"worst {worst:.1e}, limit {LIMIT:.0e}")
    sys.exit(worst > LIMIT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixtures", action="store_true")
    parser.add_argument("--check", metavar="PTUNE", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.fixtures:
        fixtures()
    if arguments.check:
        check(arguments.check.resolve())


if __name__ == "__main__":
    main()
