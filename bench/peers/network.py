"""A frozen language model of transformers with a trained prompt: logits at the answer rows, of the wanted columns.

The strongest plain form: frozen weights have no gradient, the head is computed at the answers only and for the label words only,
no attention mask where none is needed (in a causal model, whose padding stands behind the answers, and where rows are equally
long: PyTorch then takes its fastest attention). The last layer is computed in whole: transformers offers nothing else.
"""

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM


def is_causal(model):
    return AutoConfig.from_pretrained(model).model_type == "gpt2"


class Encoder(nn.Module):
    """The prompt encoder in the shapes of the authors' LAMA code: table; LSTM; linear, relu, linear."""

    def __init__(self, kind, rows, width, words=None):
        super().__init__()
        self.table = nn.Embedding(rows, width)
        if words is not None:
            self.table.weight.data.copy_(words)
        self.lstm = nn.LSTM(width, width // 2, 2, bidirectional=True, batch_first=True) if kind == "lstm" else None
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) if kind != "embedding" else None

    def forward(self):
        x = self.table.weight[None]
        if self.lstm is not None:
            x = self.lstm(x)[0]
        return (self.mlp(x) if self.mlp is not None else x)[0]


class Network:
    def __init__(self, model, causal, dtype, words, compiled=False):
        """`words`: the tokens of each label, or an empty list for the whole vocabulary."""
        kind = AutoModelForCausalLM if causal else AutoModelForMaskedLM
        self.lm = kind.from_pretrained(model, dtype=getattr(torch, {"f32": "float32", "bf16": "bfloat16"}[dtype])).eval()
        self.lm.requires_grad_(False)
        self.causal, self.words = causal, words
        body = getattr(self.lm, self.lm.base_model_prefix)
        self.body = torch.compile(body, dynamic=True) if compiled else body
        self.table = self.lm.get_input_embeddings()
        columns = [token for label in words for token in label]
        decoder = self.lm.get_output_embeddings()
        bias = None if decoder.bias is None else decoder.bias.data
        self.decoder = (decoder.weight.data[columns], None if bias is None else bias[columns]) if words else (decoder.weight.data, bias)

    def add_lora(self, rank):
        """PEFT's low-rank additions to queries and values, ptune's default; their parameters."""
        from peft import LoraConfig, get_peft_model

        get_peft_model(self.lm, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["query", "value"]))
        return [parameter for name, parameter in self.lm.named_parameters() if "lora_" in name]

    def scores(self, batch, prompt):
        """[rows, labels], or [rows, vocabulary]; f32."""
        x = self.table(batch.ids.clamp(min=0))
        if prompt is not None:
            place = (batch.ids < 0).nonzero(as_tuple=True)
            x = x.index_put(place, prompt.to(x.dtype)[-1 - batch.ids[place]])
        mask = None if self.causal else batch.mask
        h = self.body(inputs_embeds=x, attention_mask=mask).last_hidden_state[torch.arange(len(x)), batch.answers]
        if not self.causal:
            h = self.lm.cls.predictions.transform(h)
        logits = nn.functional.linear(h, *self.decoder).float()
        if not self.words or all(len(label) == 1 for label in self.words):
            return logits
        return torch.stack([part.mean(1) for part in logits.split([len(label) for label in self.words], 1)], 1)
