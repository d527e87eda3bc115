"""Writes `crates/ptune/tests/golden/rotary.json`: the frequencies and the factor that transformers makes of every kind of rotary
scaling, with each of its options, for a LLaMA with heads of 32. `python reference/rotary.py`; rerunning gives the same bytes."""

import json
import pathlib

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

GOLDEN = pathlib.Path(__file__).parent.parent / "crates/ptune/tests/golden"
YARN = dict(rope_type="yarn", rope_theta=500000.0, factor=4.0, original_max_position_embeddings=1024)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
KINDS = [
    dict(rope_type="linear", rope_theta=10000.0, factor=2.5),
    dict(LLAMA3, original_max_position_embeddings=1024), dict(LLAMA3, factor=32.0, high_freq_factor=2.0, original_max_position_embeddings=512),
    YARN, dict(YARN, beta_fast=16.0, beta_slow=2.0), dict(YARN, truncate=False), dict(YARN, attention_factor=0.7),
    dict(YARN, mscale=0.8, mscale_all_dim=0.4), dict(YARN, factor=0.5), dict(YARN, rope_theta=100.0, original_max_position_embeddings=4096),
]


def main():
    cases = []
    for rope in KINDS:
        config = LlamaConfig(hidden_size=64, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096, rope_parameters=dict(rope))
        frequencies, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, device="cpu")
        cases.append(dict(rope_parameters=rope, frequencies=frequencies.tolist(), factor=factor))
    lines = ",\n".join(json.dumps(case) for case in cases)
    (GOLDEN / "rotary.json").write_text("[" + lines + "]\n")


if __name__ == "__main__":
    main()
