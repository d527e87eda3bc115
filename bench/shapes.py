"""Writes random checkpoints of known shapes: python bench/shapes.py OUT --bert-tokenizer DIR --gpt2-tokenizer DIR [--only NAME ...]

Speed depends on shapes, not on what the numbers mean, so no trained model has to be downloaded. The tokenizer's files are
copied from the given directories; its vocabulary must fit that of the shape (30,522 of BERT, 50,257 of GPT-2). `--growth` also
writes the series of bench/growth.py, models that differ in one number: width-128 to width-1024 (4 layers), depth-1 to
depth-16 (width 384). Needs torch and transformers (reference/requirements.txt); seed 0, so the same bytes every time.
"""

import argparse
import pathlib
import shutil

import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt")
WIDTHS = (128, 256, 512, 768, 1024)
DEPTHS = (1, 2, 4, 8, 16)


def bert(width, layers):
    return BertConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width)


SHAPES = {"bert-base": bert(768, 12), "bert-large": bert(1024, 24), "gpt2": GPT2Config()}
GROWTH = {f"width-{width}": bert(width, 4) for width in WIDTHS} | {f"depth-{depth}": bert(384, depth) for depth in DEPTHS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--bert-tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--gpt2-tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--growth", action="store_true", help="also the series of bench/growth.py")
    parser.add_argument("--only", action="append", choices=[*SHAPES, *GROWTH], help="these shapes; may be repeated")
    arguments = parser.parse_args()
    everything = SHAPES | (GROWTH if arguments.growth else {})
    for name in arguments.only or everything:
        config = (SHAPES | GROWTH)[name]
        masked = config.model_type == "bert"
        torch.manual_seed(0)
        model = (BertForMaskedLM if masked else GPT2LMHeadModel)(config)
        model.save_pretrained(arguments.out / name)
        copy_tokenizer(arguments.bert_tokenizer if masked else arguments.gpt2_tokenizer, arguments.out / name)
        print(arguments.out / name)


def copy_tokenizer(source, target):
    there = [source / name for name in TOKENIZER_FILES if (source / name).exists()]
    if not there:
        raise SystemExit(f"{source} holds none of {', '.join(TOKENIZER_FILES)}")
    for file in there:
        shutil.copyfile(file, target / file.name)


if __name__ == "__main__":
    main()
