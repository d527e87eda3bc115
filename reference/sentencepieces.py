"""Small SentencePiece models in the shapes of ALBERT's and XLM-R's, as transformers converts them to tokenizer.json.

The normalisation rules (a `precompiled_charsmap`) are a few of NFKC's: full-width letters, ligatures, the ellipsis, spaces of other
widths, and the Hangul of the corpus put together again, which ALBERT's pipeline takes apart (NFKD) before it drops accents.
"""

import json
import pathlib
import tempfile
import unicodedata

import sentencepiece
from transformers import AlbertTokenizer, XLMRobertaTokenizer

OTHERS = {"\u3000": " ", "\u00a0": " ", "\u200b": "", "\u2026": "...", "\ufb01": "fi", "\u2122": "TM"}


def rules(corpus):
    """Lines `code points <tab> code points`, in hexadecimal."""
    pairs = dict(OTHERS)
    pairs |= {chr(0xFF00 + i): chr(0x20 + i) for i in range(1, 95)}
    pairs |= {unicodedata.normalize("NFD", c): c for text in corpus for c in text if "\uac00" <= c <= "\ud7a3"}
    points = lambda text: " ".join(f"{ord(c):X}" for c in text)
    return "".join(f"{points(a)}\t{points(b)}\n" for a, b in sorted(pairs.items()))


def train(corpus, file, size, **ids):
    """Writes a Unigram model of SentencePiece."""
    with tempfile.TemporaryDirectory() as folder:
        table = pathlib.Path(folder) / "rules.tsv"
        table.write_text(rules(corpus), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_prefix=str(pathlib.Path(folder) / "m"), vocab_size=size, model_type="unigram",
            normalization_rule_tsv=str(table), character_coverage=1.0, num_threads=1, minloglevel=2, **ids)
        file.write_bytes((pathlib.Path(folder) / "m.model").read_bytes())


def plain(text):
    """What ALBERT's pipeline makes of a text before its SentencePiece sees it."""
    text = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(c for c in text if not unicodedata.combining(c)).lower())


def write(name, folder, corpus, size):
    """tokenizer.json and tokenizer_config.json of `albert` or `xlm-roberta`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as source:
        source = pathlib.Path(source)
        if name == "albert":
            train([plain(text) for text in corpus], source / "spiece.model", size, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                  control_symbols="[CLS],[SEP],[MASK]")
            tokenizer = AlbertTokenizer.from_pretrained(str(source))
        else:
            train(corpus, source / "sentencepiece.bpe.model", size)
            tokenizer = XLMRobertaTokenizer.from_pretrained(str(source))
        tokenizer.save_pretrained(str(folder))
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")), ensure_ascii=False) + "\n", encoding="utf-8")
