"""Answers that are texts, in PyTorch: loss, prompt gradient, ten updates, and what transformers generates.

`python reference/text_answers.py` writes crates/ptune/tests/golden/gpt2_text from the model of gpt2_embedding (it has none of its own): the
rows of a prompt are a plain table, the loss is the mean over all answer tokens of the batch and their ends, as transformers takes it
of labels that are not -100. `generated` are the greedy tokens behind each question, at most NEW, by transformers' own generate and its
cache; with the table that ten updates have made.
"""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

import template
from families import FAMILIES, write_json
from golden import TREE
from golden_cases import rows

STEPS, RATE, NEW, MAX_TOKENS = 10, 0.05, 12, 44
TEMPLATE = "[P*3] {premise|shorten} ? [P*2] the answer [MASK]"
EXAMPLES = rows("premise answer",
                ("Rain", "yes"),
                ("The cat and the dog sleeps in the long room, the film was slow, the story was short and the ending was not good",
                 "a good film of the city"),
                ("국물이 너무 좋다", "정말 최고입니다"),
                ("Tea", "he sings, it was in Rome"))


def embedded(model, ids, prompt):
    """The input rows of a sequence: word embeddings, and rows of the prompt at negative ids."""
    words = model.get_input_embeddings().weight
    return torch.stack([prompt[-1 - i] if i < 0 else words[i] for i in ids])


def loss_of(model, examples, prompt):
    """The logits of all answer rows, and transformers' own loss over padded rows."""
    longest = max(len(question) + len(answer) for question, answer in examples)
    inputs, labels, mask, logits = [], [], [], []
    for question, answer in examples:
        x = embedded(model, question + answer, prompt)
        padding = longest - len(x)
        inputs.append(torch.cat([x, torch.zeros(padding, x.shape[1], dtype=x.dtype)]))
        labels.append([-100] * len(question) + answer + [-100] * padding)
        mask.append([1] * len(x) + [0] * padding)
    out = model(inputs_embeds=torch.stack(inputs), attention_mask=torch.tensor(mask), labels=torch.tensor(labels))
    for row, (question, answer) in zip(out.logits, examples):
        logits.append(row[len(question) - 1 : len(question) + len(answer) - 1])
    return out.loss, torch.cat(logits)


def train(model, examples, prompt):
    """Ten updates by AdamW; the losses, and the first logits and gradient."""
    prompt = prompt.clone().requires_grad_()
    optimizer = torch.optim.AdamW([prompt], lr=RATE, weight_decay=0.0)
    losses, first = [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss, logits = loss_of(model, examples, prompt)
        loss.backward()
        if step == 0:
            first = {"logits": logits.detach(), "prompt.grad": prompt.grad.clone()}
        optimizer.step()
        losses.append(loss.item())
    return losses, {**first, "prompt.final": prompt.detach()}


def main():
    torch.set_num_threads(1)
    torch.manual_seed(61)
    source = TREE / "gpt2_embedding" / "model"
    model = GPT2LMHeadModel(GPT2Config(**json.loads((source / "config.json").read_text()))).eval().requires_grad_(False)
    missing, unexpected = model.load_state_dict(load_file(source / "model.safetensors"), strict=False)
    assert not missing and not unexpected
    tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
    end = tokenizer.token_to_id("<|endoftext|>")
    pieces, count = template.parse(TEMPLATE)
    form = FAMILIES["gpt2"].form(tokenizer)
    answers = [template.encode_text(tokenizer, row["answer"], False, True) for row in EXAMPLES]
    longest = max(map(len, answers))  # every question leaves room for it
    questions = [template.encode(pieces, row, tokenizer, form, MAX_TOKENS, longest=longest + 1)[0] for row in EXAMPLES]
    assert any(len(question) == MAX_TOKENS - longest for question in questions), "one is cut"
    examples = [(question, answer + [end]) for question, answer in zip(questions, answers)]

    prompt = torch.randn(count, model.config.n_embd) * 0.3
    losses, tensors = train(model, examples, prompt)
    double, exact = train(model.double(), examples, prompt.double())
    noise = {k: float(f"{((v - exact[k]).abs().max() / exact[k].abs().max()).item():.2e}") for k, v in tensors.items()}
    noise["losses"] = float(f"{max(abs(a - b) / b for a, b in zip(losses, double)):.2e}")
    model.float()
    generated = []
    for question, _ in examples:
        inputs = embedded(model, question, tensors["prompt.final"])[None]
        out = model.generate(inputs_embeds=inputs, attention_mask=torch.ones(1, inputs.shape[1], dtype=torch.long), do_sample=False,
                             max_new_tokens=NEW, eos_token_id=end, pad_token_id=end)
        generated.append(out[0].tolist())
    directory = TREE / "gpt2_text"
    directory.mkdir(exist_ok=True)
    save_file({"prompt": prompt, **{k: tensors[k].contiguous() for k in sorted(tensors)}}, directory / "golden.safetensors")
    write_json(directory / "case.json", {
        "about": "GPT-2, answers of different lengths, English and Korean, one question cut to leave room for the longest",
        "model": "gpt2_embedding", "template": TEMPLATE, "max_tokens": MAX_TOKENS, "answer_tokens": longest, "examples": EXAMPLES,
        "target": "answer", "learning_rate": RATE, "ids": [question + answer[:-1] for question, answer in examples],
        "answers": [answer for _, answer in examples], "losses": losses, "noise_f32_against_f64": noise,
        "most_new": NEW, "generated": generated})
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}, f32 against f64 {noise}")


if __name__ == "__main__":
    main()
