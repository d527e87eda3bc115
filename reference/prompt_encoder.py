"""Prompt encoders in the shapes of the LAMA code, with PyTorch's names and its default initialisation.

embedding  rows = Embedding(rows, d)
mlp        Embedding -> Linear(d, d) -> ReLU -> Linear(d, d)
lstm       Embedding -> LSTM(d, d/2, 2 layers, both directions) -> Linear(d, d) -> ReLU -> Linear(d, d)

Parameter names are those of the golden files: embedding.weight, lstm.weight_ih_l0 ..., mlp.0.weight ... mlp.2.bias.
"""

import torch
from torch import nn


class PromptEncoder(nn.Module):
    """`rows` pseudo tokens of width `hidden`; forward gives [rows, hidden]."""

    def __init__(self, kind, rows, hidden):
        super().__init__()
        assert kind in ("embedding", "mlp", "lstm")
        self.embedding = nn.Embedding(rows, hidden)
        self.lstm = nn.LSTM(hidden, hidden // 2, 2, bidirectional=True, batch_first=True) if kind == "lstm" else None
        self.mlp = None
        if kind != "embedding":
            self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    def forward(self):
        x = self.embedding.weight
        if self.lstm is not None:
            x = self.lstm(x[None])[0][0]
        return x if self.mlp is None else self.mlp(x)


def answer_logits(model, ids, answer, prompt):
    """Logits [vocab] at the answer row of one example. Negative ids are rows of `prompt`; they replace the word embedding.

    Gives the replaced rows [places, hidden] as well, so that the gradient of each place can be asked for."""
    ids = torch.tensor(ids)
    words = model.get_input_embeddings()(ids.clamp(min=0))
    places = ids < 0
    rows = prompt[-1 - ids[places]]
    x = words.masked_scatter(places[:, None], rows) if places.any() else words
    hidden = model.base_model(inputs_embeds=x[None]).last_hidden_state[0, answer]
    head = model.cls if hasattr(model, "cls") else model.lm_head
    return head(hidden), rows


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
