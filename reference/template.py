"""The template language, written a second time: a parser and an encoder for WordPiece and byte-level BPE, independent of ptune's.

Pieces: plain text, {field|modifier|...}, [P*n "words" @name], [MASK], [SEP], [CLS]; "[[" and "{{" stand for one bracket.
Every piece is encoded alone. Text or a field value that touches what stands before it (no white space between) begins with a
continuation, "##x"; punctuation is never a continuation, as in any BERT tokenizer. In byte-level BPE the white space before a
piece is the leading space of its text, and nothing else is. In a causal model [MASK] takes no row and ends the template. Pseudo row k is the id -1 - k; rows are
numbered by first appearance, and places of one @name share their rows.

Not here: error messages, other tokenizer families. Label words of several tokens are in long_words.py.
"""

import re
import unicodedata
from dataclasses import dataclass, field

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram, WordPiece

SPECIALS = ("MASK", "SEP", "CLS")
PSEUDO = re.compile(r'P\*(\d+)(?:\s+"([^"]*)")?(?:\s+@(\w+))?$')


@dataclass
class Piece:
    kind: str  # text | field | pseudo | special
    text: str = ""  # the text, the field's name or the special token's name
    modifiers: list = field(default_factory=list)
    rows: list = field(default_factory=list)  # pseudo rows
    words: str = ""  # what they start from
    glued: bool = False  # touches the piece before it
    space: bool = False  # white space stands before it


@dataclass
class Form:
    """What a family puts around a text, its special tokens, and whether it answers behind the last row."""

    start: list
    end: list
    special: dict
    causal: bool


def parse(template):
    """The pieces of a template and the number of pseudo rows."""
    pieces, named, rows, text, i = [], {}, 0, "", 0
    space = None  # the start of the template touches nothing

    def flush():
        nonlocal text, space
        if text.strip():
            before = space or text[0].isspace()
            pieces.append(Piece("text", text.strip(), glued=space is False and not before, space=bool(before)))
            space = text[-1].isspace()
        elif text:
            space = True
        text = ""

    while i < len(template):
        c = template[i]
        if template[i : i + 2] in ("[[", "{{"):
            text, i = text + c, i + 2
        elif c in "[{":
            end = template.index("]" if c == "[" else "}", i)
            body, i = template[i + 1 : end], end + 1
            flush()
            if c == "{":
                name, *modifiers = body.split("|")
                pieces.append(Piece("field", name, modifiers, glued=space is False, space=bool(space)))
            elif body in SPECIALS:
                pieces.append(Piece("special", body, space=bool(space)))
            else:
                count, words, name = PSEUDO.match(body).groups()
                if name not in named or name is None:
                    named[name] = list(range(rows, rows + int(count)))
                    rows += int(count)
                assert len(named[name]) == int(count), "places of one name have one length"
                pieces.append(Piece("pseudo", rows=named[name], words=words or ""))
            space = False
        else:
            text, i = text + c, i + 1
    flush()
    return pieces, rows


def modify(value, modifiers):
    """no_punct drops trailing punctuation, lower_first lowers the first letter; shorten acts on tokens, later."""
    if "no_punct" in modifiers:
        value = value.rstrip()
        while value and unicodedata.category(value[-1]).startswith("P"):
            value = value[:-1].rstrip()
    if "lower_first" in modifiers:
        value = value[:1].lower() + value[1:]
    return value


def wordpiece(directory_vocab, lowercase=True, strip_accents=None):
    """A BERT tokenizer without post-processing, from a list of tokens."""
    vocab = {token: i for i, token in enumerate(directory_vocab)}
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def continuation(tokenizer, word):
    """Greedy longest match of one word in which the first token, too, carries the ## of a continuation."""
    ids, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            token = tokenizer.token_to_id("##" + word[start:end])
            if token is not None:
                break
        else:
            return [tokenizer.token_to_id("[UNK]")]
        ids, start = ids + [token], end
    return ids


def encode_text(tokenizer, text, glued, space):
    """The ids of one piece of text, encoded alone."""
    if isinstance(tokenizer.model, Unigram):
        assert not glued, "a continuation of SentencePiece is not written down here"
    if not isinstance(tokenizer.model, WordPiece):
        return tokenizer.encode((" " if space else "") + text.strip(), add_special_tokens=False).ids if text.strip() else []
    words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    ids = []
    for i, (word, _) in enumerate(words):
        punctuation = len(word) == 1 and not word.isalnum()
        if i == 0 and glued and not punctuation:
            ids += continuation(tokenizer, word)
        else:
            ids += [token.id for token in tokenizer.model.tokenize(word)]
    return ids


def encode(pieces, example, tokenizer, form, max_tokens=None, masks=1, longest=1):
    """The ids of one example with the family's tokens around, and the (first) row of the answer. `masks` is how often [MASK] stands
    there; `longest`, the tokens of the longest label word, counts whatever `masks` is."""
    parts, around = [], len(form.start) + (longest - 1 if form.causal else len(form.end) + longest - masks)
    for piece in pieces:
        if piece.kind == "pseudo":
            parts.append((piece, [-1 - row for row in piece.rows]))
        elif piece.kind == "special":
            parts.append((piece, [] if form.causal and piece.text == "MASK" else [form.special[piece.text]] * (masks if piece.text == "MASK" else 1)))
        else:
            text = piece.text if piece.kind == "text" else modify(str(example[piece.text]), piece.modifiers)
            parts.append((piece, encode_text(tokenizer, text, piece.glued, piece.space)))
    while max_tokens is not None and sum(len(ids) for _, ids in parts) + around > max_tokens:
        longest = max((ids for piece, ids in reversed(parts) if "shorten" in piece.modifiers), key=len)  # the last of equals
        longest.pop()
    ids = form.start + [token for _, part in parts for token in part]
    if form.causal:
        assert pieces[-1].text == "MASK", "nothing stands behind the answer of a causal model"
        return ids, len(ids) - 1
    return ids + form.end, ids.index(form.special["MASK"])
