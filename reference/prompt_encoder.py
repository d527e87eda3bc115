"""Prompt encoders in the shapes of the LAMA code, of the few-shot SuperGLUE code and of PEFT, with PyTorch's names and its
default initialisation. All have a table Embedding(rows, d); then come

lama       mlp   Linear(d, d) -> ReLU -> Linear(d, d)
           lstm  LSTM(d, d/2, 2 layers, both directions) -> Linear(d, d) -> ReLU -> Linear(d, d)
superglue  mlp   as lama
           lstm  LSTM(d, d, 2 layers, both directions) -> Linear(2d, d) -> ReLU -> Linear(d, d)
peft       mlp   Linear(d, h) -> ReLU -> Linear(h, h) -> ReLU -> Linear(h, d)
           lstm  LSTM(d, h, n layers, both directions) -> Linear(2h, 2h) -> ReLU -> Linear(2h, d)

Parameter names are those of the LAMA code and of PEFT: embedding.weight, lstm_head.weight_ih_l0 ..., mlp_head.0.weight ...
"""

import torch
from torch import nn


class PromptEncoder(nn.Module):
    """`rows` pseudo tokens of width `d`; forward gives [rows, d]. `h` and `n` are PEFT's encoder_hidden_size and
    encoder_num_layers."""

    def __init__(self, kind, rows, d, shapes="lama", h=None, n=2):
        super().__init__()
        assert kind in ("embedding", "mlp", "lstm") and shapes in ("lama", "superglue", "peft")
        h = {"lama": d // 2, "superglue": d, "peft": h or d}[shapes]
        self.embedding = nn.Embedding(rows, d)
        self.lstm_head = nn.LSTM(d, h, n, bidirectional=True, batch_first=True) if kind == "lstm" else None
        widths = {"embedding": [], "mlp": [d, h, h, d] if shapes == "peft" else [d, d, d],
                  "lstm": [2 * h, 2 * h, d] if shapes == "peft" else [2 * h, d, d]}[kind]
        linears = [layer for i, o in zip(widths, widths[1:]) for layer in (nn.Linear(i, o), nn.ReLU())]
        self.mlp_head = nn.Sequential(*linears[:-1]) if linears else None

    def forward(self):
        x = self.embedding.weight
        if self.lstm_head is not None:
            x = self.lstm_head(x[None])[0][0]
        return x if self.mlp_head is None else self.mlp_head(x)


def answer_logits(model, ids, answer, prompt, rows=None):
    """Logits [vocab] at the answer row of one example, or [rows, vocab] at a slice of rows. Negative ids are rows of `prompt`; they replace the word embedding.

    Gives the replaced rows [places, hidden] as well, so that the gradient of each place can be asked for."""
    ids = torch.tensor(ids)
    words = model.get_input_embeddings()(ids.clamp(min=0))
    places = ids < 0
    rows = prompt[-1 - ids[places]] if rows is None else rows
    x = words.masked_scatter(places[:, None], rows) if places.any() else words
    head = getattr(model, "cls", None) or getattr(model, "lm_head", None)
    if head is None:
        return model(inputs_embeds=x[None]).logits[0, answer], rows
    return head(model.base_model(inputs_embeds=x[None]).last_hidden_state[0, answer]), rows


def label_scores(logits, words):
    """Scores [labels]: the mean raw logit of each label's words. `words`: one list of token ids a label."""
    return torch.stack([logits[ids].mean() for ids in words])


def learning_rate(optimizer, step, steps):
    """The rate of update `step` (from 0) of `steps`."""
    rate, warm = optimizer["lr"], optimizer["warmup_steps"]
    if step < warm:
        return rate * step / warm
    if optimizer["schedule"] == "linear":
        return rate * (steps - step) / (steps - warm)
    if optimizer["schedule"] == "exponential":
        return rate * optimizer["decay"] ** step
    return rate
