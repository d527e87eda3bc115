"""What golden.py must know of a model family: its classes, its special tokens, its tensors, how its tokenizer is stored.

The byte-level vocabularies are made from a list of words, each merged from left to right, and not trained: trainers break ties
at random. Bytes that no word contains stand as they are, so every text can be encoded. Unigram vocabularies are lists of pieces with
scores made up, in the pipelines that transformers gives to ALBERT and XLM-R.
"""

import copy
import json
import unicodedata
from dataclasses import dataclass

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from transformers import (
    AlbertConfig, AlbertForMaskedLM, AlbertTokenizer, BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM,
    ElectraConfig, ElectraForMaskedLM, GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForMaskedLM, XLMRobertaConfig,
    XLMRobertaForMaskedLM, XLMRobertaTokenizer,
    OPTConfig, OPTForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, ModernBertConfig,
    ModernBertForMaskedLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

import template


@dataclass
class Family:
    config: type
    model: type
    special: dict  # what the template's names stand for
    start: list  # tokens before a text
    end: list  # tokens behind a text
    causal: bool
    tied: list  # names that a tied checkpoint does not store

    def form(self, tokenizer):
        """Start ids, end ids, the ids of the template's special names; None where the family has none or it takes no row."""
        ids = lambda names: [tokenizer.token_to_id(name) for name in names]
        special = {name: tokenizer.token_to_id(token) for name, token in self.special.items()}
        return template.Form(ids(self.start), ids(self.end), special, self.causal)


BERT_SPECIAL = {"MASK": "[MASK]", "SEP": "[SEP]", "CLS": "[CLS]"}, ["[CLS]"], ["[SEP]"], False
ROBERTA_SPECIAL = {"MASK": "<mask>", "SEP": "</s>", "CLS": "<s>"}, ["<s>"], ["</s>"], False
FAMILIES = {
    "bert": Family(BertConfig, BertForMaskedLM, *BERT_SPECIAL, ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]),
    "roberta": Family(RobertaConfig, RobertaForMaskedLM, *ROBERTA_SPECIAL, ["lm_head.decoder.weight", "lm_head.decoder.bias"]),
    "xlm-roberta": Family(XLMRobertaConfig, XLMRobertaForMaskedLM, *ROBERTA_SPECIAL, ["lm_head.decoder.weight", "lm_head.decoder.bias"]),
    "albert": Family(AlbertConfig, AlbertForMaskedLM, *BERT_SPECIAL, ["predictions.decoder.weight", "predictions.decoder.bias"]),
    "electra": Family(ElectraConfig, ElectraForMaskedLM, *BERT_SPECIAL, ["generator_lm_head.weight"]),
    "distilbert": Family(DistilBertConfig, DistilBertForMaskedLM, *BERT_SPECIAL, ["vocab_projector.weight"]),
    "gpt2": Family(GPT2Config, GPT2LMHeadModel, {}, [], [], True, ["lm_head.weight"]),
    "opt": Family(OPTConfig, OPTForCausalLM, {}, ["</s>"], [], True, ["lm_head.weight"]),
    "llama": Family(LlamaConfig, LlamaForCausalLM, {}, ["<s>"], [], True, ["lm_head.weight"]),
    "mistral": Family(MistralConfig, MistralForCausalLM, {}, ["<s>"], [], True, ["lm_head.weight"]),
    "qwen2": Family(Qwen2Config, Qwen2ForCausalLM, {}, [], [], True, ["lm_head.weight"]),
    "qwen3": Family(Qwen3Config, Qwen3ForCausalLM, {}, [], [], True, ["lm_head.weight"]),
    "gpt_neox": Family(GPTNeoXConfig, GPTNeoXForCausalLM, {}, [], [], True, ["lm_head.weight"]),
    "modernbert": Family(ModernBertConfig, ModernBertForMaskedLM, {"MASK": "[MASK]", "SEP": "[SEP]", "CLS": "[CLS]"}, ["[CLS]"], ["[SEP]"],
                         False, ["decoder.weight"]),
}


def byte_level(words, first, last):
    """A byte-level BPE: the tokens `first`, the bytes, the beginnings of the words, the tokens `last`."""
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocab = {token: i for i, token in enumerate([*first, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    merges = []
    for word in words:
        (letters, _), = pre.pre_tokenize_str(word)
        for i in range(1, len(letters)):
            if letters[:i + 1] not in vocab:
                vocab[letters[:i + 1]] = len(vocab)
                merges.append((letters[:i], letters[i]))
    for token in last:
        vocab[token] = len(vocab)
    tokenizer = Tokenizer(BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre
    return tokenizer, merges


def write_byte_level(directory, case, tokenizer, merges):
    """tokenizer.json (which stores padding to 40 and truncation to 8), or vocab.json with merges.txt."""
    roberta, family = case["family"] == "roberta", FAMILIES[case["family"]]
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    if roberta:
        names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>",
                 "pad_token": "<pad>", "mask_token": {"content": "<mask>", "lstrip": True}}
    if case["family"] == "opt":
        names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
    if family.start == ["<s>"] and not roberta:
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": case["tokenizer"] != "json"}
    if family.start == ["[CLS]"]:
        names = {f"{name.lower()}_token": f"[{name}]" for name in ("CLS", "SEP", "MASK", "PAD", "UNK")}
    settings = {"tokenizer_class": "RobertaTokenizer" if roberta else "GPT2Tokenizer", "add_prefix_space": False, **names}
    write_json(directory / "tokenizer_config.json", settings)
    vocab = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    if case["tokenizer"] != "json":
        (directory / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
        lines = "".join(f"{a} {b}\n" for a, b in merges)
        (directory / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
        return
    tokenizer = copy.deepcopy(tokenizer)
    specials = [token for token in vocab if token[0] in "<[" and len(token) > 1]
    tokenizer.add_special_tokens(specials)
    if family.start == ["<s>"]:
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])])
    if roberta:
        tokenizer.post_processor = RobertaProcessing(("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), add_prefix_space=False)
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)


def write_wordpiece(directory, case, tokenizer, vocab):
    """tokenizer.json (which stores padding to 40 and truncation to 8), or vocab.txt."""
    cased = case["tokenizer"] == "vocab-cased"
    write_json(directory / "tokenizer_config.json", {
        "tokenizer_class": "BertTokenizer", "do_lower_case": not cased, "strip_accents": None, "tokenize_chinese_chars": True,
        "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
        "model_max_length": case["shape"]["max_position_embeddings"]})
    if case["tokenizer"] != "json":
        (directory / "vocab.txt").write_text("".join(token + "\n" for token in vocab), encoding="utf-8")
        return
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_special_tokens(vocab[:5])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(directory / "tokenizer.json"))


def unigram(family, pieces):
    """A tokenizer of transformers with the family's special tokens and these pieces."""
    albert = family == "albert"
    specials = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"] if albert else ["<s>", "<pad>", "</s>", "<unk>"]
    # ALBERT's pipeline takes Hangul apart.
    pieces = [unicodedata.normalize("NFKD", piece) if albert else piece for piece in pieces]
    letters = sorted({letter for piece in pieces for letter in piece} - set(pieces))
    vocab = [(token, 0.0) for token in specials] + [(piece, -4.0 - 0.01 * i) for i, piece in enumerate(pieces)]
    vocab += [(letter, -9.0 - 0.01 * i) for i, letter in enumerate(letters)] + ([] if albert else [("<mask>", 0.0)])
    return (AlbertTokenizer if albert else XLMRobertaTokenizer)(vocab=vocab)


def write_unigram(directory, tokenizer):
    """tokenizer.json, which stores padding to 40 and truncation to 8, and tokenizer_config.json."""
    tokenizer.save_pretrained(str(directory))
    backend = Tokenizer.from_file(str(directory / "tokenizer.json"))
    backend.enable_padding(length=40)
    backend.enable_truncation(8)
    backend.save(str(directory / "tokenizer.json"), pretty=False)


def write_json(path, value):
    """One line a key."""
    lines = (f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
