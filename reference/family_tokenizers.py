"""Small tokenizers in the shapes of LLaMA 2, Mistral, LLaMA 3, Qwen2, GPT-NeoX and ModernBERT.

Each has the normalizer, pre-tokenizer, post-processor, decoder and added tokens that the published tokenizer.json of its
family has; vocabulary and merges are trained on the given sentences. Two things that training would not give are put in by hand: runs of
`▁` as merges (SentencePiece learns them, they make indents), and words without merges where the file says `ignore_merges`.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# How text is cut; the digits stand for themselves or, in LLaMA 3, in threes from the left.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MORE = ["In 2024 there were 123456 people, 1000 more than in 1999.", "if x == 1:\n    return [10, 100]\n\n", "It's what they'll say; we've heard it."] * 12
UNMERGED = ["unbelievable", "Ġunbelievable", "ĠKorea's"]


def sentencepiece_bpe(corpus):
    """BPE over characters with `<0xEA>` for those that it does not know."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    # Not every character of the corpus: the others fall back to bytes.
    tok.train_from_iterator(corpus + MORE, trainers.BpeTrainer(
        vocab_size=520, limit_alphabet=150, special_tokens=special, show_progress=False))
    model = json.loads(tok.to_str())["model"]
    runs = ["▁" * n for n in (2, 4, 8)]
    vocab = model["vocab"] | {run: len(model["vocab"]) + i for i, run in enumerate(runs)}
    merges = [(run[: len(run) // 2],) * 2 for run in runs] + [tuple(pair) for pair in model["merges"]]
    tok = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tok


def llama2(corpus):
    tok = sentencepiece_bpe(corpus)
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tok


def mistral(corpus):
    """As the files of later versions: the mark of a word is the pre-tokenizer's, and instructions have tokens."""
    tok = sentencepiece_bpe(corpus)
    tok.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tok.add_special_tokens(["[INST]", "[/INST]"])
    return tok


def byte_level_bpe(corpus, size, pre_tokenizer, normalizer=None, **model):
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizer
    tok.train_from_iterator(corpus + MORE, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    trained = json.loads(tok.to_str())["model"]
    vocab, merges = trained["vocab"], [tuple(pair) for pair in trained["merges"]]
    if model.get("ignore_merges"):
        vocab |= {word: len(vocab) + i for i, word in enumerate(w for w in UNMERGED if w not in vocab)}
    out = Tokenizer(models.BPE(vocab, merges, **model))
    out.normalizer, out.pre_tokenizer, out.decoder = tok.normalizer, tok.pre_tokenizer, decoders.ByteLevel()
    return out


def split(digits, trim_offsets):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT % digits), "isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim_offsets, use_regex=False)])


def llama3(corpus):
    tok = byte_level_bpe(corpus, 480, split("{1,3}", True), ignore_merges=True)
    tok.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    begin = tok.token_to_id("<|begin_of_text|>")
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", begin)])])
    return tok


def qwen2(corpus):
    """Qwen3 has the same, with more added tokens, some of which are no special ones."""
    tok = byte_level_bpe(corpus, 480, split("", False), normalizers.NFC())
    tok.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok.add_tokens([AddedToken(t, normalized=False) for t in ("<tool_call>", "</tool_call>", "<think>", "</think>")])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return tok


def spaces():
    """Runs of spaces, the longest first, as added tokens that are no special ones."""
    return [AddedToken(" " * n, normalized=True) for n in (8, 4, 3, 2)]


def gpt_neox(corpus):
    tok = byte_level_bpe(corpus, 480, pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    tok.add_special_tokens(["<|endoftext|>", "<|padding|>"])
    tok.add_tokens(spaces())
    tok.post_processor = processors.ByteLevel(trim_offsets=True)
    return tok


def modernbert(corpus):
    tok = byte_level_bpe(corpus, 480, pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    tok.add_special_tokens(["<|padding|>", "<|endoftext|>"])
    tok.add_tokens(spaces() + [AddedToken("|||EMAIL_ADDRESS|||", normalized=True)])
    tok.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", AddedToken("[MASK]", lstrip=True)])
    ids = [(name, tok.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ids)
    return tok


def roles(bos=None, eos=None, unk=None, pad=None, **more):
    named = {"bos_token": bos, "eos_token": eos, "unk_token": unk, "pad_token": pad}
    return {key: value for key, value in named.items() if value} | more


# Name: how to make it, and its tokenizer_config.json.
FAMILIES = {
    "llama-2": (llama2, roles("<s>", "</s>", "<unk>", tokenizer_class="LlamaTokenizer", legacy=False, add_bos_token=True, add_eos_token=False)),
    "mistral": (mistral, roles("<s>", "</s>", "<unk>", tokenizer_class="LlamaTokenizer", legacy=False, add_bos_token=True, add_eos_token=False)),
    "llama-3": (llama3, roles("<|begin_of_text|>", "<|end_of_text|>", tokenizer_class="PreTrainedTokenizerFast")),
    "qwen2": (qwen2, roles(None, "<|im_end|>", None, "<|endoftext|>", tokenizer_class="Qwen2Tokenizer", add_prefix_space=False)),
    "gpt-neox": (gpt_neox, roles("<|endoftext|>", "<|endoftext|>", "<|endoftext|>", tokenizer_class="GPTNeoXTokenizer", add_prefix_space=False)),
    "modernbert": (modernbert, roles(None, None, "[UNK]", "[PAD]", tokenizer_class="PreTrainedTokenizerFast",
                                     cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")),
}


def write(folder, corpus):
    """tokenizer.json and tokenizer_config.json of each, below `folder`."""
    for name, (make, config) in FAMILIES.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        make(corpus).save(str(place / "tokenizer.json"), pretty=False)
        (place / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
