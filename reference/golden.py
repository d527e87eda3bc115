"""Writes the golden cases: `python reference/golden.py [CASE ...]`. Rerunning gives the same bytes.

For each case a random tiny model (f32, dropout off) is built, and ten full-batch updates of its prompt encoder are made with
PyTorch. What a case directory holds stands in README.md beside this file. Every number is computed a second time in f64 from
the same initial values; the largest differences are recorded, so that a tolerance can be told from noise.
"""

import copy
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

import long_words
import template
from families import FAMILIES, byte_level, unigram, write_byte_level, write_json, write_unigram, write_wordpiece
from golden_cases import BYTE_LEVEL_SPECIAL, BYTE_LEVEL_WORDS, CASES, HANGUL, LATIN, UNIGRAM_PIECES
from prompt_encoder import PromptEncoder, answer_logits, label_scores, learning_rate

TREE = pathlib.Path(__file__).parent.parent / "crates/ptune/tests/golden"
STEPS = 10


def is_norm(module):
    """Whether it is a layer norm or an RMS norm."""
    return isinstance(module, torch.nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")


def stored_name(case, name):
    """The name of a parameter in the files of the hub."""
    if case["family"] == "gpt_neox":
        return name.replace("lm_head.", "embed_out.")
    return name.removeprefix("transformer.") if case.get("old_names") else name


def random_model(case, vocab):
    """A model whose every parameter matters: no zero bias, no unit scale, no zero padding row."""
    family = FAMILIES[case["family"]]
    config = family.config(vocab_size=vocab, initializer_range=0.2, architectures=[family.model.__name__], **case["shape"])
    config._attn_implementation = "eager"
    model = family.model(config).eval()
    scales = {name + ".weight" for name, module in model.named_modules() if is_norm(module)}
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape) * 0.2
            p.copy_(noise + 1.0 if name in scales else noise)
            if case.get("coarse"):
                p.copy_(p.bfloat16())
    return model.requires_grad_(False)


def write_model(directory, case, model):
    """config.json and model.safetensors as the hub has them."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in model.config.to_dict().items() if (not k.startswith("_") or k == "_remove_final_layer_norm") and v is not None}
    write_json(directory / "config.json", dict(sorted(config.items())))
    tied = FAMILIES[case["family"]].tied if model.config.tie_word_embeddings else []
    weights = {k: v for k, v in model.state_dict().items() if k not in tied}
    weights = {stored_name(case, k): v for k, v in weights.items()}
    if case.get("old_names"):
        # As OpenAI's own file has them: no prefix, and the causal mask of every block among the weights.
        n = model.config.n_positions
        for i in range(model.config.n_layer):
            weights[f"h.{i}.attn.bias"] = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
            weights[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file({k: weights[k].contiguous() for k in sorted(weights)}, directory / "model.safetensors", metadata={"format": "pt"})


def make_tokenizer(case):
    """The tokenizer, its vocabulary as a list, and what writes it into a directory."""
    if case["tokenizer"] == "unigram":
        tokenizer = unigram(case["family"], UNIGRAM_PIECES)
        return tokenizer.backend_tokenizer, tokenizer.convert_ids_to_tokens(range(len(tokenizer))), \
            lambda directory: write_unigram(directory, tokenizer)
    if case["family"] not in BYTE_LEVEL_SPECIAL:
        cased = case["tokenizer"] == "vocab-cased"
        vocab = HANGUL if cased else LATIN
        tokenizer = template.wordpiece(vocab, lowercase=not cased)
        return tokenizer, vocab, lambda directory: write_wordpiece(directory, case, tokenizer, vocab)
    first, last = BYTE_LEVEL_SPECIAL[case["family"]]
    tokenizer, merges = byte_level(BYTE_LEVEL_WORDS, first, last)
    vocab = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return tokenizer, vocab, lambda directory: write_byte_level(directory, case, tokenizer, merges)


class AdamWHf(torch.optim.Optimizer):
    """The AdamW of transformers before version 5: eps on the uncorrected root, decay after the step."""

    def __init__(self, groups, **defaults):
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (b1, b2), eps = group["betas"], group["eps"]
            for p in group["params"]:
                state = self.state[p]
                t = state["t"] = state.get("t", 0) + 1
                m = state.setdefault("m", torch.zeros_like(p)).mul_(b1).add_(p.grad, alpha=1 - b1)
                v = state.setdefault("v", torch.zeros_like(p)).mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                p.addcdiv_(m, v.sqrt() + eps, value=-group["lr"] * (1 - b2**t) ** 0.5 / (1 - b1**t))
                p.mul_(1 - group["lr"] * group["weight_decay"])


OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamw_hf": AdamWHf}


def is_head(name):
    """Whether a parameter is the language-model head's own."""
    return name.startswith(("cls.", "lm_head.", "head.", "decoder.", "predictions.", "generator_", "vocab_"))


class Run:
    """Ten updates of one case in one precision: of the encoder, or with `full` of the model too."""

    def __init__(self, case, model, encoder, dtype, full=False):
        self.case, self.dtype, self.full = case, dtype, full
        self.model = copy.deepcopy(model).to(dtype)
        self.encoder = copy.deepcopy(encoder).to(dtype)
        self.losses, self.gradient_norms, self.rates = [], [], []
        self.tensors = {}

    def forward(self):
        """The loss over all examples, the prompt, each example's logits and its places of pseudo tokens."""
        case, prompt = self.case, self.encoder()
        if case["sequences"] is not None:
            score = lambda sequences: long_words.score(self.model, sequences, case["label_words"], prompt, case["causal"])
            scores, logits, places = zip(*map(score, case["sequences"]))
            self.scores = torch.stack(scores)
            return cross_entropy(self.scores, torch.tensor(case["gold"])), prompt, torch.cat(logits), sum(places, [])
        logits, places = zip(*(answer_logits(self.model, ids, row, prompt) for ids, row in zip(case["ids"], case["answer_rows"])))
        logits = torch.stack(logits)
        scores = logits
        if case["label_words"] is not None:
            scores = torch.stack([label_scores(row, case["label_words"]) for row in logits])
        return cross_entropy(scores, torch.tensor(case["gold"])), prompt, logits, places

    def record_first(self):
        """Logits, prompt and every gradient before the first update."""
        loss, prompt, logits, places = self.forward()
        names, parameters = zip(*self.encoder.named_parameters())
        gradients = torch.autograd.grad(loss, [prompt, *places, *parameters])
        for name, p, g in zip(names, parameters, gradients[1 + len(places):]):
            self.tensors["encoder." + name] = p.detach().clone()
            self.tensors["encoder_grad." + name] = g
        self.tensors |= {"logits": logits.detach(), "prompt": prompt.detach().clone(), "prompt.grad": gradients[0],
                         "pseudo.grad": torch.cat(gradients[1:1 + len(places)])}
        if self.case["sequences"] is not None:
            self.tensors["scores"] = self.scores.detach()

    def named_parameters(self):
        """Of the model, a tied one by the name that a checkpoint has for it."""
        tied = FAMILIES[self.case["family"]].tied if self.model.config.tie_word_embeddings else []
        return [(name, p) for name, p in self.model.named_parameters(remove_duplicate=False) if name not in tied]

    def groups(self, o):
        """Parameter groups with their highest rates; in the model, biases and the weights of norms do not decay."""
        groups = [dict(params=list(self.encoder.parameters()), lr=o["lr"], weight_decay=o["weight_decay"])]
        norms = {name + ".weight" for name, module in self.model.named_modules() if is_norm(module)}
        for name, p in self.named_parameters() if self.full else []:
            decay = 0.0 if name in norms or name.endswith("bias") else o["backbone_weight_decay"]
            groups.append(dict(params=[p], lr=o["head_lr" if is_head(name) else "backbone_lr"], weight_decay=decay))
        return groups

    def train(self):
        self.record_first()
        o = self.case["optimizer"]
        self.model.requires_grad_(self.full)
        optimizer = OPTIMIZERS[o["kind"]](self.groups(o), betas=(0.9, 0.999), eps=1e-8)
        highest = [group["lr"] for group in optimizer.param_groups]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for step in range(STEPS):
            rate = learning_rate(o, step, STEPS)
            for group, lr in zip(optimizer.param_groups, highest):
                group["lr"] = lr * rate / o["lr"]
            optimizer.zero_grad()
            loss = self.forward()[0]
            loss.backward()
            if self.full and step == 0:
                self.tensors |= {"model_grad." + stored_name(self.case, name): p.grad.clone()
                                 for name, p in self.named_parameters() if p.grad is not None}
            norm = torch.nn.utils.clip_grad_norm_(parameters, o["clip_norm"] or float("inf"))
            optimizer.step()
            self.losses.append(loss.item())
            self.gradient_norms.append(norm.item())
            self.rates.append(rate)
        for name, p in self.encoder.named_parameters():
            self.tensors["encoder_final." + name] = p.detach().clone()
        return self


def noise(single, double):
    """Largest max|a-b| / max|b| of f32 against f64: of the losses, and per group of tensors."""
    worst = {"losses": max(abs(a - b) / abs(b) for a, b in zip(single.losses, double.losses))}
    for name, b in double.tensors.items():
        group = name if name.split(".")[0] in ("prompt", "pseudo") else name.split(".")[0]
        if b.abs().max() < 1e-12:
            continue  # a key's bias shifts all scores of a row alike: its gradient is 0 but for rounding
        difference = ((single.tensors[name].double() - b).abs().max() / b.abs().max()).item()
        worst[group] = max(worst.get(group, 0.0), difference)
    return {k: float(f"{v:.2e}") for k, v in worst.items() if k != "encoder"}


def encoder_keys(case):
    """The encoder's shapes and sizes, where they are not those of the LAMA code."""
    names = {"shapes": "shapes", "h": "encoder_hidden_size", "n": "encoder_layers"}
    return {names[k]: v for k, v in case.get("encoder_shape", {}).items()}


def write_full(name, case, model, encoder):
    """The same case with the model trained too: its gradients in a file, the rest for case.json."""
    case = {**case, "optimizer": case["full"]}
    single = Run(case, model, encoder, torch.float32, full=True).train()
    double = Run(case, model, encoder, torch.float64, full=True).train()
    (TREE / name).mkdir(parents=True, exist_ok=True)
    gradients = {k: v.contiguous() for k, v in sorted(single.tensors.items()) if k.startswith("model_grad.")}
    save_file(gradients, TREE / name / "full.safetensors")
    for run in (single, double):
        run.tensors = {k: v for k, v in run.tensors.items() if k.startswith("model_grad.")}
    print(f"{name}, full: loss {single.losses[0]:.4f} -> {single.losses[-1]:.4f}, f32 against f64 {noise(single, double)}")
    return {"full": {"optimizer": case["full"], "learning_rates": single.rates, "losses": single.losses,
                     "gradient_norms": single.gradient_norms, "noise_f32_against_f64": noise(single, double)}}


def write_case(name, case):
    torch.manual_seed(case["seed"])
    case = {"family": "bert", **case}
    tokenizer, vocab, write_tokenizer = make_tokenizer(case)
    model = random_model(case, len(vocab))
    pieces, rows = template.parse(case["template"])
    encoder = PromptEncoder(case["encoder"], rows, model.get_input_embeddings().embedding_dim, **case.get("encoder_shape", {}))

    form = FAMILIES[case["family"]].form(tokenizer)
    mask = next(piece for piece in pieces if piece.text == "MASK")
    tokens = lambda word: template.encode_text(tokenizer, word, mask.glued, mask.space)
    def token(word):
        """The one token of a word at the answer."""
        id, = tokens(word)
        return id
    words, target = case["verbalizer"], [example[case["target"]] for example in case["examples"]]
    label_words = None if words is None else [[tokens(w) for w in words[label]] for label in words]
    gold = [token(t) if words is None else list(words).index(t) for t in target]
    long, sequences = words is not None and any(len(w) > 1 for of_label in label_words for w in of_label), None
    if long:
        sequences = [long_words.encode(pieces, e, tokenizer, form, case["max_tokens"], label_words) for e in case["examples"]]
        ids, answers = zip(*(long_words.flat(s, label_words, form.causal) for s in sequences))
    else:
        ids, answers = zip(*(template.encode(pieces, e, tokenizer, form, case["max_tokens"]) for e in case["examples"]))
        label_words = None if words is None else [[id for id, in of_label] for of_label in label_words]
    case = {**case, "ids": ids, "answer_rows": answers, "label_words": label_words, "gold": gold, "sequences": sequences,
            "causal": form.causal}

    single = Run(case, model, encoder, torch.float32).train()
    double = Run(case, model, encoder, torch.float64).train()
    full = write_full(name, case, model, encoder) if "full" in case else {}
    directory = TREE / name
    write_model(directory / "model", case, model)
    write_tokenizer(directory / "model")
    save_file({k: single.tensors[k].clone() for k in sorted(single.tensors)}, directory / "golden.safetensors")
    keys = ("about", "template", "max_tokens", "target", "examples", "verbalizer", "encoder", "optimizer")
    write_json(directory / "case.json", {
        **{k: case[k] for k in keys}, **encoder_keys(case), "steps": STEPS, "prompt_rows": rows, "ids": ids, "answer_rows": answers,
        "tokens": [" ".join(vocab[i] if i >= 0 else f"<{-1 - i}>" for i in row) for row in ids],
        "label_words": label_words, "gold": gold, "learning_rates": single.rates, "losses": single.losses,
        "gradient_norms": single.gradient_norms, "noise_f32_against_f64": noise(single, double), **full})
    return name, single, noise(single, double)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or CASES:
        name, run, worst = write_case(chosen, CASES[chosen])
        size = sum(f.stat().st_size for f in (TREE / name).rglob("*") if f.is_file())
        print(f"{name}: {size} bytes, loss {run.losses[0]:.4f} -> {run.losses[-1]:.4f}, f32 against f64 {worst}")
