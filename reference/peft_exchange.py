"""Adapters between ptune and real PEFT, both ways.

`python reference/peft_exchange.py --fixtures [NAME ...]` writes `crates/ptune/tests/golden/peft/`: adapters that PEFT saved over tiny models of other
golden cases, each with `answers.json`: the model, texts, label words (none for a classifier), and PEFT's logits behind each text.

`python reference/peft_exchange.py --check PTUNE [NAME ...]` takes the program, trains an adapter for each of `EXPORTS`, exports it and
loads it with PEFT, and imports what PEFT saves for each of `IMPORTS`; it prints the largest difference of a logit for each (of logits about
their mean over the labels, since ptune prints probabilities). The same script runs under PEFT 0.10 with transformers 4.46.
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
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

GOLDEN = pathlib.Path(__file__).parent.parent / "crates/ptune/tests/golden"
TEXTS = ["Rain", "The cat sleeps in the red room", "It was a fine city"]
WORDS = ["yes", "no", "maybe", "fine", "city", "good", "bad", "red", "film"]
LABELS = ["sun", "rain", "snow"]
TOKENS = 4
LIMIT = 2e-5
# Whether a prompt's config can name modules to save, and so a pooler.
POOLERS = tuple(map(int, peft.__version__.split(".")[:2])) >= (0, 17)


class Base:
    """A model of the golden cases as a language model or as a classifier, and how ptune makes tokens for it."""

    def __init__(self, name, classifier, scene):
        name, _, pooler = name.partition("+")
        self.path, self.classifier = GOLDEN / name / "model", classifier
        config = json.loads((self.path / "config.json").read_text())
        if "rope_type" in config.get("rope_parameters", {}):  # transformers 4 looks for its turns elsewhere
            config |= {"rope_theta": config["rope_parameters"]["rope_theta"], "rope_scaling": config["rope_parameters"]}
            if config["rope_parameters"]["rope_type"] == "default":
                config["rope_scaling"] = None
            self.path = self.copy(scene / f"{name} model")
            (self.path / "config.json").write_text(json.dumps(config))
        if pooler:  # the golden models have none
            self.path = self.copy(scene / f"{name} with pooler")
            weights = load_file(self.path / "model.safetensors")
            torch.manual_seed(1)
            width = config["hidden_size"]
            weights |= {"bert.pooler.dense.weight": torch.randn(width, width) / 4, "bert.pooler.dense.bias": torch.randn(width) / 4}
            save_file(weights, self.path / "model.safetensors", {"format": "pt"})
        self.masked = config["model_type"] in ("bert", "roberta", "albert", "electra", "distilbert", "modernbert")
        special = json.loads((self.path / "tokenizer_config.json").read_text())
        as_text = {key: value["content"] for key, value in special.items() if isinstance(value, dict) and "content" in value}
        self.tokenizer = AutoTokenizer.from_pretrained(self.path, **as_text)

    def copy(self, to):
        return shutil.copytree(self.path, to, dirs_exist_ok=True)

    def model(self):
        auto = AutoModelForMaskedLM if self.masked else AutoModelForCausalLM
        extra = {}
        if self.classifier:
            auto, extra = AutoModelForSequenceClassification, {"num_labels": len(LABELS)}
        # sdpa of 4.46 forgets a scale.
        return auto.from_pretrained(self.path, torch_dtype=torch.float32, attn_implementation="eager", **extra).eval()

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def word_ids(self):
        """Words that are one token here, at most five, and their ids."""
        known = (self.tokenizer.decode([i]).strip() for i in range(self.tokenizer.vocab_size))
        words = [*WORDS, *(word for word in known if word.isalpha() and word.isascii())]
        ids = {word: self.encode(" " + word) for word in words}
        return [(word, i[0]) for word, i in ids.items() if len(i) == 1][:5]

    def ids_of(self, text):
        """As ptune makes them of ` {text} is` or ` {text} is [MASK]`: each piece alone, with a space in front."""
        t = self.tokenizer
        if self.masked:
            mask = [] if self.classifier else [t.mask_token_id]
            return [t.cls_token_id, *self.encode(" " + text), *self.encode(" is"), *mask, t.sep_token_id]
        alone = self.encode("a")
        start = t.encode("a")[:-len(alone)]
        return [*start, *self.encode(" " + text), *self.encode(" is")]

    def logits(self, model, task=None):
        """[texts, labels] of each text alone: padding is PEFT's own trouble."""
        extra = {} if task is None else {"task_ids": torch.tensor([task])}
        rows = []
        for text in TEXTS:
            ids = torch.tensor([self.ids_of(text)])
            with torch.no_grad():
                out = model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits[0]
            if not self.classifier:
                out = out[-2 if self.masked else -1, [i for _, i in self.word_ids()]]
            rows.append(out.tolist())
        return rows

    def run_file(self, scene, template, more):
        """A run file of ptune with the same question."""
        words = LABELS if self.classifier else [word for word, _ in self.word_ids()]
        rows = [json.dumps({"text": text, "label": word}) for text, word in zip(TEXTS, words)]
        (scene / "rows.jsonl").write_text("\n".join(rows))
        text = f'model = "{self.path}"\ncompute = "f32"\n[data]\ntrain = "rows.jsonl"\n[task]\ntemplate = "{template}"\n'
        if self.classifier:
            text += f'head = "classifier"\nlabels = {json.dumps(LABELS)}\n'
        else:
            text += "[task.verbalizer]\n" + "".join(f'{word} = ["{word}"]\n' for word in words)
        (scene / "run.toml").write_text(f"{text}{more}[train]\nsteps = 5\nlearning_rate = 0.01\n")
        return scene / "run.toml"

    def ptune_logits(self, program, adapter):
        """Of the labels, from their probabilities."""
        labels = LABELS if self.classifier else [word for word, _ in self.word_ids()]
        said = lambda text: json.loads(ptune(program, "predict", adapter, "--json", "--field", f"text={text}"))
        return [[math.log(said(text)["probabilities"][label]) for label in labels] for text in TEXTS]


PROMPT = {"task_type": "CAUSAL_LM", "num_virtual_tokens": TOKENS}
QV = ["query", "value"]
LORA = '[backbone]\nmode = "lora"\nlora_rank = 3\nlora_alpha = 5.0\nlora_targets = {}\n'


def imports():
    """Name, model, whether a classifier, config of PEFT; of every method that this PEFT has."""
    gpt = lambda name, config: (name, "gpt2_mlp", False, config)
    yield gpt("prompt_tuning", peft.PromptTuningConfig(**PROMPT))
    yield gpt("p_tuning_mlp", peft.PromptEncoderConfig(encoder_hidden_size=8, **PROMPT))
    yield gpt("p_tuning_lstm", peft.PromptEncoderConfig(encoder_reparameterization_type="LSTM", encoder_hidden_size=8, **PROMPT))
    yield gpt("prefix", peft.PrefixTuningConfig(**PROMPT))
    yield gpt("prefix_projected", peft.PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=8, **PROMPT))
    yield "prefix_llama", "llama_mlp", False, peft.PrefixTuningConfig(**PROMPT)
    yield gpt("multitask", peft.MultitaskPromptTuningConfig(num_tasks=3, num_ranks=2, **PROMPT))
    if hasattr(peft, "CPTConfig"):
        kinds = {"cpt_token_ids": [1, 2, 3, 4], "cpt_mask": [1] * 4, "cpt_tokens_type_mask": [1, 2, 3, 4]}
        yield gpt("cpt", peft.CPTConfig(**PROMPT, **kinds))
    if hasattr(peft, "CartridgeConfig"):
        yield gpt("cartridge", peft.CartridgeConfig(**PROMPT))
    lora = lambda **more: peft.LoraConfig(**{"r": 3, "lora_alpha": 5, **more})
    yield "lora_bert", "mlp_words", False, lora(target_modules=["query", "value", "intermediate.dense"])
    yield "lora_gpt2", "gpt2_mlp", False, lora(
        task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"], use_rslora=True, fan_in_fan_out=True,
        rank_pattern={"mlp.c_proj": 2}, alpha_pattern={"h.1.mlp.c_proj": 9}, layers_to_transform=[0, 1], layers_pattern="h")
    yield "lora_llama", "llama_mlp", False, lora(task_type="CAUSAL_LM", target_modules=r".*\.(q_proj|v_proj|gate_proj|down_proj)")
    labels = {"task_type": "SEQ_CLS", "num_virtual_tokens": TOKENS}
    yield "cls_p_tuning_gpt2", "gpt2_mlp", True, peft.PromptEncoderConfig(encoder_hidden_size=8, **labels)
    yield "cls_prefix_llama", "llama_mlp", True, peft.PrefixTuningConfig(**labels)
    yield "cls_prefix_roberta", "roberta_embedding", True, peft.PrefixTuningConfig(**labels)
    if POOLERS:
        yield "cls_prefix_bert", "mlp_words", True, peft.PrefixTuningConfig(**labels, modules_to_save=["pooler"])
    yield "cls_prefix_bert_frozen", "mlp_words+pooler", True, peft.PrefixTuningConfig(**labels)
    head = lambda name, model, targets, **more: (
        f"cls_lora_{name}", model, True, lora(task_type="SEQ_CLS", target_modules=targets, **more))
    yield head("bert", "mlp_words", ["query", "value"], modules_to_save=["pooler"])
    yield head("bert_frozen", "mlp_words+pooler", ["query", "value"])
    yield head("bert_all", "mlp_words+pooler", "all-linear")
    yield head("roberta", "roberta_embedding", ["query", "value"])
    yield head("albert", "albert_embedding", ["query", "value"], modules_to_save=["pooler"])
    yield head("electra", "electra_mlp", ["query", "value"])
    yield head("distilbert", "distilbert_mlp", ["q_lin", "v_lin"])
    yield head("gpt2", "gpt2_mlp", ["c_attn"], fan_in_fan_out=True)
    yield head("llama", "llama_mlp", ["q_proj", "v_proj"])


# Name, model, whether a classifier, template, keys of the run file, what to export it as.
EXPORTS = [
    ("prompt tuning", "gpt2_mlp", False, "[P*4] {text} is", '[prompt]\nencoder = "embedding"\n', "prompt-tuning"),
    ("p-tuning, mlp", "gpt2_mlp", False, "[P*4] {text} is", '[prompt]\nencoder = "mlp"\nshapes = "peft"\n', "p-tuning"),
    ("p-tuning, lstm", "gpt2_mlp", False, "[P*4] {text} is", '[prompt]\nencoder = "lstm"\n', "p-tuning"),
    ("prompt as prefix", "gpt2_mlp", False, "[P*4] {text} is", '[prompt]\nencoder = "lstm"\n', "prefix-tuning"),
    ("prefix", "gpt2_mlp", False, " {text} is", "[prompt]\nprefix_tokens = 4\n", None),
    ("prefix, LLaMA", "llama_mlp", False, " {text} is", "[prompt]\nprefix_tokens = 4\n", None),
    ("LoRA, BERT", "mlp_words", False, "{text} is", LORA.format(["query", "value", "output", "down"]), None),
    ("LoRA, RoBERTa", "roberta_embedding", False, " {text} is", LORA.format(QV), None),
    ("LoRA, ALBERT", "albert_embedding", False, "{text} is", LORA.format(["query", "up"]), None),
    ("LoRA, ELECTRA", "electra_mlp", False, "{text} is", LORA.format(QV), None),
    ("LoRA, DistilBERT", "distilbert_mlp", False, "{text} is", LORA.format(["key", "down"]), None),
    ("LoRA, ModernBERT", "modernbert_mlp", False, "{text} is", LORA.format(["query", "value", "gate"]), None),
    ("LoRA, GPT-2", "gpt2_mlp", False, " {text} is", LORA.format(["query", "value", "down"]) + "lora_rslora = true\n", None),
    ("LoRA, OPT", "opt_mlp", False, " {text} is", LORA.format(["query", "up"]), None),
    ("LoRA, GPT-NeoX", "neox_mlp", False, " {text} is", LORA.format(QV), None),
    ("LoRA, LLaMA", "llama_mlp", False, " {text} is", LORA.format(["query", "value", "gate"]), None),
    ("LoRA, Mistral", "mistral_embedding", False, " {text} is", LORA.format(QV), None),
    ("LoRA, Qwen2", "qwen2_embedding", False, " {text} is", LORA.format(QV), None),
    ("LoRA, Qwen3", "qwen3_embedding", False, " {text} is", LORA.format(QV), None),
    ("labels, prompt tuning, GPT-2", "gpt2_mlp", True, "[P*4] {text} is", '[prompt]\nencoder = "embedding"\n', None),
    ("labels, prompt as prefix, GPT-2", "gpt2_mlp", True, "[P*4] {text} is", "", "prefix-tuning"),
    ("labels, P-tuning, GPT-NeoX", "neox_mlp", True, "[P*4] {text} is", '[prompt]\nencoder = "lstm"\n', None),
    ("labels, prefix, GPT-2", "gpt2_mlp", True, " {text} is", "[prompt]\nprefix_tokens = 4\n", None),
    ("labels, prefix, LLaMA", "llama_mlp", True, " {text} is", "[prompt]\nprefix_tokens = 4\n", None),
    ("labels, prefix, RoBERTa", "roberta_embedding", True, " {text} is", "[prompt]\nprefix_tokens = 4\n", None),
    ("labels, prefix, ELECTRA", "electra_mlp", True, "{text} is", "[prompt]\nprefix_tokens = 4\n", None),
    ("labels, LoRA, BERT", "mlp_words", True, "{text} is", LORA.format(QV), None),
    ("labels, LoRA, BERT's pooler", "mlp_words+pooler", True, "{text} is", LORA.format(QV), None),
    ("labels, LoRA, RoBERTa", "roberta_embedding", True, " {text} is", LORA.format(QV), None),
    ("labels, LoRA, ALBERT", "albert_embedding", True, "{text} is", LORA.format(QV), None),
    ("labels, LoRA, ELECTRA", "electra_mlp", True, "{text} is", LORA.format(QV), None),
    ("labels, LoRA, DistilBERT", "distilbert_mlp", True, "{text} is", LORA.format(QV), None),
    ("labels, LoRA, GPT-2", "gpt2_mlp", True, " {text} is", LORA.format(QV), None),
    ("labels, LoRA, OPT", "opt_mlp", True, " {text} is", LORA.format(QV), None),
    ("labels, LoRA, LLaMA", "llama_mlp", True, " {text} is", LORA.format(QV), None),
]
if POOLERS:
    EXPORTS.append(("labels, prefix, BERT", "mlp_words", True, "{text} is", "[prompt]\nprefix_tokens = 4\n", None))


def peft_saves(base, config, directory):
    """An adapter with random numbers, as PEFT saves it; the logits with it, of each task where there are several."""
    torch.manual_seed(sum(map(ord, directory.name)))
    model = peft.get_peft_model(base.model(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.dim() > 1 else 0.1))
    model.eval()
    tasks = getattr(config, "num_tasks", None)
    answers = lambda model: [base.logits(model, task) for task in (range(tasks) if tasks else [None])]
    found = answers(model)
    # What PEFT gives of its own file is what counts; of CPT the projection runs before a forward.
    model.save_pretrained(directory)
    again = answers(peft.PeftModel.from_pretrained(base.model(), directory).eval())
    assert difference(found, again) < 1e-4, directory
    return again


def difference(a, b):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    return (a - b).abs().max().item()


def fixtures(scene, wanted):
    for name, model, classifier, config in imports():
        if not wanted(name) or "+" in model:
            continue
        base = Base(model, classifier, scene)
        directory = GOLDEN / "peft" / name
        shutil.rmtree(directory, ignore_errors=True)
        found = peft_saves(base, config, directory)
        (directory / "README.md").unlink(missing_ok=True)
        words = [] if classifier else [word for word, _ in base.word_ids()]
        answers = {"peft": peft.__version__, "model": model, "texts": TEXTS, "words": words, "logits": found}
        (directory / "answers.json").write_text(json.dumps(answers) + "\n")
        config_file = directory / "adapter_config.json"
        written = json.loads(config_file.read_text())
        written["base_model_name_or_path"] = None  # a path of the machine that wrote it
        if isinstance(written.get("target_modules"), list):
            written["target_modules"].sort()  # a set to PEFT
        config_file.write_text(json.dumps(written, indent=2, sort_keys=True))
        print(name, found[0][0])


def ptune(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def exports(program, scene, wanted):
    """What ptune trains, in PEFT; the largest difference."""
    worst = 0.0
    for name, model, classifier, template, more, method in EXPORTS:
        if not wanted(name):
            continue
        try:
            base = Base(model, classifier, scene)
            base.model()
        except (ValueError, KeyError) as unknown:
            print(f"{name:31} not in this transformers: {str(unknown)[:60]}")
            continue
        out, exported, again = (scene / f"{name} {part}" for part in ("run", "peft", "again"))
        template += "" if classifier else " [MASK]"
        ptune(program, "train", base.run_file(scene, template, more), "--out", out)
        as_method = ["--method", method] if method else []
        ptune(program, "adapter", "export", out / "adapter", "--format", "peft", "--out", exported, *as_method)
        loaded = peft.PeftModel.from_pretrained(base.model(), exported).eval()
        ours = base.ptune_logits(program, out / "adapter")
        there = difference(base.logits(loaded), ours)
        without = difference(base.logits(base.model()), ours)
        assert without > 1e-3, f"{name}: the adapter changes nothing"
        ptune(program, "adapter", "import", exported, "--out", again)
        back = difference(base.ptune_logits(program, again), ours)
        print(f"{name:31} ptune -> PEFT {there:.1e}   ptune -> PEFT's files -> ptune {back:.1e}")
        worst = max(worst, there, back)
    return worst


def saved(program, scene, wanted):
    """What PEFT saves, in ptune; the largest difference."""
    worst = 0.0
    for name, model, classifier, config in imports():
        if not wanted(name):
            continue
        base = Base(model, classifier, scene)
        directory = scene / f"{name} saved"
        found = peft_saves(base, config, directory)
        front = name.removeprefix("cls_").startswith(("prompt", "p_tuning", "multitask", "cpt"))
        template = ("[P*4] " if front else "" if base.masked else " ") + "{text} is" + ("" if classifier else " [MASK]")
        run = base.run_file(scene, template, "")
        for task, expected in enumerate(found):
            out = scene / f"{name} {task} imported"
            number = ["--task", task] if len(found) > 1 else []
            ptune(program, "adapter", "import", directory, "--run", run, "--out", out, *number)
            there = difference(expected, base.ptune_logits(program, out))
            print(f"{name:31} PEFT -> ptune {there:.1e}")
            worst = max(worst, there)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixtures", action="store_true")
    parser.add_argument("--check", metavar="PTUNE", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only those that begin so")
    arguments = parser.parse_args()
    wanted = lambda name: not arguments.names or name.startswith(tuple(arguments.names))
    with tempfile.TemporaryDirectory() as scene:
        scene = pathlib.Path(scene)
        if arguments.fixtures:
            fixtures(scene, wanted)
        if arguments.check:
            print(f"PEFT {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
            program = arguments.check.resolve()
            worst = max(exports(program, scene, wanted), saved(program, scene, wanted), 0.0)
            print(f"worst {worst:.1e}, limit {LIMIT:.0e}")
            sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
