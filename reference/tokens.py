"""Small tokenizers and golden token ids for the template rules.

Run:   python reference/tokens.py [--train]          (versions: reference/requirements.txt)
Writes crates/ptune/tests/golden/tokens.json, which crates/ptune/tests/tokens.rs compares with the library, and lines.json
beside it: 200 lines of English and Korean and the ids that transformers gives them. With --train
it first trains crates/ptune/tests/fixtures/tokenizers/*/ anew; the trainers break ties at random, so the files then
differ from run to run, and so do the ids.

The tokenizers are trained on the sentences below. The template rules are written down a second time here, on top of
Hugging Face tokenizers and in another way than the library: the parser is one regular expression, a continuation is
found by comparing the pieces of the joined and the separate text, WordPiece continues with a second model whose word
starts are the `##` entries.

In a golden row a pseudo token of prompt row k is -1 - k.
"""
import json
import re
import string
import sys
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertTokenizer, GPT2Tokenizer

import family_tokenizers
ROOT = Path(__file__).resolve().parent.parent / "crates" / "ptune" / "tests"
FIXTURES = ROOT / "fixtures" / "tokenizers"

SENTENCES = """
The capital of France is Paris, and the capital of Korea is Seoul.
The film was excellent, and the story was never boring.
A boring film is a long evening; a good film is a short one.
She bought the red bicycle because the blue one was too expensive.
He did not like the film: it was terrible, he said.
Nobody knows the answer, but everybody asks the question.
Is the museum open on Mondays? No, it is closed.
The train to Busan leaves at seven and arrives before noon.
It rained for three days, so the harvest was late.
Their house is older than the bridge across the river.
The teacher's question wasn't difficult; we couldn't answer it.
Yes, the premise entails the hypothesis. No, it does not.
A great capital is not always a great city.
The doctor works in the hospital near the old market.
Wonderful music was playing in the crowded restaurant.
The unbelievable news travelled faster than the letters.
The producer of the telephone is a company in Japan.
Cats are playing in the garden while the dogs are sleeping.
The café on the corner sells naïve paintings and crème brûlée.
Reading, writing and walking are the pleasures of the retired teacher.
The weather in Berlin was cold, in Rome warm, in Oslo colder.
I think that the answer is right, although it is not complete.
The river flows through Germany, Austria, Hungary and Serbia.
Good questions deserve good answers; bad questions do too.
The capital of Germany is Berlin. The capital of Japan is Tokyo.
""".strip().splitlines()
KOREAN = """
프랑스의 수도는 파리입니다.
대한민국의 수도는 서울입니다.
독일의 수도는 베를린이고 일본의 수도는 도쿄입니다.
이 영화는 정말 재미있었습니다.
그 영화는 지루하고 길었습니다.
오늘은 날씨가 좋아서 공원에 갔습니다.
어제는 비가 와서 집에 있었습니다.
저는 아침마다 커피를 마십니다.
선생님의 질문은 어렵지 않았습니다.
부산으로 가는 기차는 일곱 시에 출발합니다.
그 식당의 음식은 맛있고 값이 쌉니다.
서울은 대한민국의 수도이자 가장 큰 도시입니다.
학교는 강 옆에 있고 도서관은 산 아래에 있습니다.
동생은 책을 읽고 형은 음악을 듣습니다.
""".strip().splitlines()
CORPUS = (SENTENCES + KOREAN) * 4
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
GPT2_SPECIAL = "<|endoftext|>"


# --- the tokenizers --------------------------------------------------------------------------------------------------

def wordpiece(lowercase):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=900, min_frequency=3, special_tokens=BERT_SPECIAL, show_progress=False))
    tok.decoder = decoders.WordPiece()
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tok


def byte_level():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=900, special_tokens=ROBERTA_SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tok


def unigram(pre_tokenizer):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(re_spaces(), " ")])
    tok.pre_tokenizer = pre_tokenizer
    tok.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=500, special_tokens=ROBERTA_SPECIAL, unk_token="<unk>", show_progress=False))
    tok.decoder = decoders.Metaspace()
    return tok


def re_spaces():
    from tokenizers import Regex
    return Regex(" {2,}")


def bpe_prepend():
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Trained on words, run on whole texts, as SentencePiece's BPE is.
    tok.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=700, special_tokens=ROBERTA_SPECIAL + [f"<0x{b:02X}>" for b in range(256)], show_progress=False))
    tok.pre_tokenizer = None
    tok.decoder = decoders.Metaspace()
    return tok


def write_tokenizers():
    """Every tokenizer is opened again from what was written, so the golden ids are those of the files."""
    import sentencepieces  # which needs the library of that name, only here
    def save(name, tok, **config):
        folder = FIXTURES / name
        folder.mkdir(parents=True, exist_ok=True)
        tok.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    bert = dict(cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", pad_token="[PAD]", unk_token="[UNK]")
    roberta = dict(cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
                   mask_token={"content": "<mask>", "lstrip": True})
    uncased = wordpiece(lowercase=True)
    uncased.enable_padding(length=128, pad_id=0, pad_token="[PAD]")
    uncased.enable_truncation(12)
    save("wordpiece-uncased", uncased, **bert)
    # Cased: the old layout, vocab.txt and no tokenizer.json.
    folder = FIXTURES / "wordpiece-cased"
    folder.mkdir(parents=True, exist_ok=True)
    vocab = sorted(wordpiece(lowercase=False).get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(token + "\n" for token, _ in vocab), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}\n')
    save("byte-level", byte_level(), **roberta)
    write_gpt2()
    save("unigram", unigram(pre_tokenizers.Metaspace(prepend_scheme="always")), **roberta)
    save("unigram-old", unigram(pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])), **roberta)
    save("bpe-prepend", bpe_prepend(), **roberta)
    sentencepieces.write("albert", FIXTURES / "albert", CORPUS, 300)
    sentencepieces.write("xlm-roberta", FIXTURES / "xlm-roberta", CORPUS, 300)
    family_tokenizers.write(FIXTURES, CORPUS)


def write_gpt2():
    """The pieces of byte-level in the old layout, vocab.json and merges.txt, with GPT-2's one special token."""
    model = json.loads((FIXTURES / "byte-level" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = [token for token in sorted(model["vocab"], key=model["vocab"].get) if token not in ROBERTA_SPECIAL] + [GPT2_SPECIAL]
    folder = FIXTURES / "gpt2"
    folder.mkdir(parents=True, exist_ok=True)
    vocab = json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    (folder / "vocab.json").write_text(vocab + "\n", encoding="utf-8")
    pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text("".join(line + "\n" for line in ["#version: 0.2", *pairs]), encoding="utf-8")
    names = {role: GPT2_SPECIAL for role in ("bos_token", "eos_token", "unk_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": False, **names}, indent=1) + "\n")


# --- what stands before a text ---------------------------------------------------------------------------------------

class Encoder:
    """Token ids of a text, given what stands before it: None (nothing), " ", or the character it is glued to."""

    def __init__(self, name):
        folder = FIXTURES / name
        if (folder / "tokenizer.json").exists():
            self.tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif name == "gpt2":
            self.tok = GPT2Tokenizer.from_pretrained(str(folder)).backend_tokenizer
        else:
            self.tok = BertTokenizer.from_pretrained(str(folder)).backend_tokenizer
        self.tok.no_padding()
        self.tok.no_truncation()
        self.tok.encode_special_tokens = True
        self.name = name
        self.special = {self.tok.token_to_id(t) for t in BERT_SPECIAL + ROBERTA_SPECIAL} - {None}
        names = BERT_SPECIAL if name.startswith("wordpiece") or name == "albert" else ROBERTA_SPECIAL
        pick = lambda *options: next(self.tok.token_to_id(o) for o in options if o in names)
        self.causal = name == "gpt2"
        if self.causal:
            self.cls = self.sep = self.mask = None
            self.unk = self.tok.token_to_id(GPT2_SPECIAL)
            return
        self.cls, self.sep, self.mask = pick("[CLS]", "<s>"), pick("[SEP]", "</s>"), pick("[MASK]", "<mask>")
        self.unk = self.tok.token_to_id("<unk>") if name == "albert" else pick("[UNK]", "<unk>")
        if name.startswith("wordpiece"):
            vocab = self.tok.get_vocab()
            inner = {t[2:]: i for t, i in vocab.items() if t.startswith("##")}
            self.continuing = models.WordPiece(
                {**inner, **{"##" + t: i for t, i in inner.items()}, "[UNK]": vocab["[UNK]"]}, unk_token="[UNK]")

    def __call__(self, text, before):
        """A special token that the model itself finds in a text (Unigram does) is unknown text."""
        return [self.unk if i in self.special else i for i in self.ids(text, before)]

    def ids(self, text, before):
        text = text.strip()
        if not text:
            return []
        plain = lambda t: self.tok.encode(t, add_special_tokens=False).ids
        if self.name.startswith("wordpiece"):
            return plain(text) if before in (None, " ") else self.glued_wordpiece(text, before, plain)
        if self.name in ("byte-level", "gpt2"):
            return plain(" " + text if before == " " else text)
        glued = before not in (None, " ")
        text = self.normalized(text)
        model = lambda t: [token.id for token in self.tok.model.tokenize(t)]
        if self.name == "bpe-prepend":
            return model(("" if glued else "▁") + text.replace(" ", "▁"))
        words = re.split(" " if self.name == "unigram" else r"\s+", text.strip())
        return [i for k, w in enumerate(words) for i in model(("" if glued and k == 0 else "▁") + w)]

    def normalized(self, text):
        return text if self.name == "bpe-prepend" else self.tok.normalizer.normalize_str(text)

    def glued_wordpiece(self, text, before, plain):
        words = lambda t: [w for w, _ in self.tok.pre_tokenizer.pre_tokenize_str(self.tok.normalizer.normalize_str(t))]
        alone, joined = words(text), words(before + text)
        if len(joined) == len(words(before)) + len(alone):
            return plain(text)
        return [t.id for t in self.continuing.tokenize(alone[0])] + [
            t.id for w in alone[1:] for t in self.tok.model.tokenize(w)]


# --- the template ----------------------------------------------------------------------------------------------------

PIECE = re.compile(r"""
    (?P<escape>\[\[|\{\{) | \{(?P<field>[^{}\[]*)\} | \[(?P<special>MASK|SEP|CLS)\]
    | \[P\*(?P<count>\d+)\s*(?:"(?P<words>[^"]*)")?\s*(?:@(?P<name>[\w-]+))?\s*\] | (?P<char>.)""", re.X | re.S)
MARKS = string.punctuation + "。、！？…「」『』“”’‘·．，；："


def pieces(template):
    """(space before, kind, value), text merged."""
    out, text, rows, named = [], "", 0, {}

    def flush():
        nonlocal text, space
        if text.strip():
            out.append((space or text[0].isspace(), "text", text.strip()))
            space = text[-1].isspace()
        else:
            space = space or bool(text)
        text = ""
    space = False
    for m in PIECE.finditer(template):
        if m["escape"] or m["char"]:
            text += m["escape"][0] if m["escape"] else m["char"]
            continue
        flush()
        if m["field"] is not None:
            name, *modifiers = [part.strip() for part in m["field"].split("|")]
            out.append((space, "field", (name, modifiers)))
        elif m["special"]:
            out.append((space, m["special"], None))
        else:
            count = int(m["count"])
            first = named.get(m["name"]) if m["name"] else None
            if first is None:
                first, rows = rows, rows + count
                if m["name"]:
                    named[m["name"]] = first
            out.append((space, "pseudo", range(first, first + count)))
        space = False
    flush()
    return out


def value(text, modifiers):
    text = text.strip()
    if "no_punct" in modifiers:
        while text and (text[-1] in MARKS or text[-1].isspace()):
            text = text[:-1]
    return text[:1].lower() + text[1:] if "lower_first" in modifiers else text


def row(encoder, template, fields, max_tokens):
    """(ids, answer), or None where there is no such row: it does not fit, or has what a causal model cannot answer.

    A causal model's template ends at [MASK], which takes no row; the answer is that of the row before."""
    segments, before, space = [], None, False
    parts, around = pieces(template), [] if encoder.causal else [encoder.cls]
    if encoder.causal:
        parts = parts[:[kind for _, kind, _ in parts].index("MASK")]
        if any(kind in ("SEP", "CLS") for _, kind, _ in parts):
            return None
    for piece_space, kind, body in parts:
        space = space or piece_space
        shorten = False
        if kind in ("text", "field"):
            text = body if kind == "text" else value(str(fields[body[0]]), body[1])
            shorten = kind == "field" and "shorten" in body[1]
            ids = encoder(text, " " if space else before)
            before = text[-1] if text else before
        elif kind == "pseudo":
            ids, before = [-1 - k for k in body], "x"
        elif kind == "MASK":
            ids, before = [encoder.mask], "x"
        else:
            ids, before = [encoder.sep if kind == "SEP" else encoder.cls], None
        space = space and not ids
        segments.append([kind, ids, shorten])
    while (size := 2 * len(around) + sum(len(ids) for _, ids, _ in segments)) > max_tokens:
        cuttable = [(len(ids), k) for k, (_, ids, shorten) in enumerate(segments) if shorten and ids]
        if not cuttable:
            return None
        segments[max(cuttable)[1]][1].pop()
    if encoder.causal:
        out = [i for _, ids, _ in segments for i in ids]
        return (out, len(out) - 1) if out else None
    out = [encoder.cls]
    for kind, ids, _ in segments:
        if kind == "MASK":
            answer = len(out)
        out += ids
    return out + [encoder.sep], answer


# --- the cases -------------------------------------------------------------------------------------------------------

FILM = {"text": "A boring film is a long evening.", "more": "The story, however, wasn't terrible!"}
CASES = [
    ("{sub}의 수도는 [MASK]입니다", {"sub": "프랑스"}, 64),
    ("{sub}의 수도는 [MASK]입니다.", {"sub": "France"}, 64),
    ("{sub}의 수도는 [MASK]입니다.", {"sub": "U.S.A."}, 64),
    ("{sub}의 수도는 [MASK] 입니다", {"sub": " 대한민국 "}, 64),
    ("[P*3] {sub} [P*3] 수도는 [MASK] [P*3]", {"sub": "독일"}, 64),
    ("[P*3]{sub}[P*3][MASK][P*3]", {"sub": "Germany and Japan"}, 64),
    ("The capital of {sub} is [MASK].", {"sub": "France"}, 64),
    (" {sub} is [MASK] .", {"sub": "Paris"}, 64),
    ("{sub} is [MASK] .", {"sub": "Paris"}, 64),
    ("({sub}) \"[MASK]\" un{sub}ing", {"sub": "walk"}, 64),
    ("{text}[SEP]{more}[SEP] [MASK]", FILM, 64),
    ("{text} [SEP] {more} [CLS] It was [MASK] . ", FILM, 64),
    ("[MASK]{text|lower_first}", FILM, 64),
    ("[MASK] , {text|lower_first|no_punct} ?", FILM, 64),
    ("{more|no_punct}? [MASK], {text|no_punct}", FILM, 64),
    ("{sub|no_punct}... [MASK]", {"sub": "정말 ?! 。"}, 64),
    ("[[note]] {{braces}} {text} } ] [MASK]", FILM, 64),
    ("[[MASK] is not [MASK]", {}, 64),
    ("{text} [MASK]", {"text": "the [MASK] and <mask> and [SEP] of </s> data"}, 64),
    ("{a} {b}{c}, [MASK]", {"a": "", "b": "one", "c": ""}, 64),
    ("x {a}{b} [MASK]", {"a": "", "b": "capital"}, 64),
    ("x {a}[MASK]", {"a": "  "}, 64),
    ("[P*2 @a] {text} [P*1] [MASK] [P*2 @a]", FILM, 64),
    ("[P*2 \"capital of\" @a]{sub}[P*3 \"in the garden\"] [MASK] [P*2 @a] [P*1]", {"sub": "Seoul"}, 64),
    ("{n} {yes} {f} [MASK]", {"n": 17, "yes": "true", "f": 1.5}, 64),
    ("{text}\t  [MASK]", {"text": "café crème\tnaïve  paintings\nof 中国and日本."}, 64),
    ("中{text}国 [MASK]", {"text": "capital"}, 64),
    ("{text}{more} [MASK]", {"text": "teach", "more": "ers' questions"}, 64),
    ("{text}{more} [MASK]", {"text": "teacher", "more": "'s question"}, 64),
    ("{text} [MASK]", {"text": "z" * 120 + " ☃ unknowable"}, 256),
    ("[MASK]" + "{text}", {"text": "☃snow"}, 64),
    ("[P*3] {text|shorten} [MASK] {more}", FILM, 24),
    ("[P*3] {text|shorten} [MASK] {more|shorten}", FILM, 16),
    ("{text|no_punct|shorten} ? [P*3] [MASK] , {more|shorten}", FILM, 14),
    ("{text|shorten} [MASK] {text|shorten}", FILM, 11),
    ("{text|shorten}[MASK]{more|shorten}", FILM, 3),
    ("{text|shorten} was [MASK]", FILM, 3),
    ("{text} [MASK]", FILM, 6),
]
# Label words: the token that a word would be at [MASK], null where it is not one known token.
ANSWERS = [(template, word)
           for template in ["It is [MASK]", "[MASK]입니다", "수도는[MASK]", "(\"[MASK]\")", "[P*1][MASK]", "{a} [SEP][MASK]"]
           for word in ["the", "Paris", "capital", "입니다", "s", "수도", "unbelievably", "☃", ".", ""]]
TEXTS = ["The capital of France", "수도는 파리입니다.", "'s question", ", and", "…", "ing", "中国", "teachers walking", "é", "  x  "]


ODD = [
    "ＦＵＬＬ width", "ﬁne … ﬁlm", "``so'' \"it\" is", "café ☃ 中国", "tab\tand\u3000wide space", "3.14 % of 1,000", "대한민국123",
    "가각갂", "ｱ ㅋㅋ", "a\u0301 e\u0301", "12345678 and 007", "<s>the</s> [MASK]", "<|endoftext|>the <|im_start|> [INST]",
    unicodedata.normalize("NFD", "대한민국의 수도"), "👩‍👩‍👧 🇰🇷 👍🏽!", "one\n\ntwo\r\n three", "if x == 1:\n        return  [10]", "don't WE'LL I'M she'D",
    "a    b  c \t d", "the▁x ▁ film", "<think>the</think>\n<tool_call>", "q\u0303\u0323 \u0301x \u1100\u1161", "हिन्दी мир عربي ½Ⅻ٣", "x\u00a0y\u200bz\ufeffw",
    "(a)==[b];//!!!...", "unbelievable|||EMAIL_ADDRESS|||", "1\n2\n\n\n3"]


def lines():
    """200 lines: the sentences, halves of them joined, other cases, odd characters inside."""
    out = SENTENCES + KOREAN
    for i in range(200 - len(out)):
        a, b, odd = out[i], out[(7 * i + 3) % 39], ODD[i % len(ODD)]
        kinds = [a.upper(), a[: len(a) // 2] + b[len(b) // 2:], a[: len(a) // 2] + " " + odd + b[-9:], a.replace(" ", ""), odd + b[5:17]]
        out = out + [kinds[i % 5][:48].strip()]
    return out


def write_lines():
    """The ids of whole lines by transformers, which reads each directory as its users do; the names of special tokens in a
    text are text. Of the families' tokenizers also what stands in front of a text (`begins`), and every fifth line behind a special
    token, with a space between (`spaced`) and without (`glued`)."""
    texts, out = lines(), {}
    flat = lambda rows: "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows) + "]"
    for folder in sorted(FIXTURES.iterdir()):
        family = folder.name in family_tokenizers.FAMILIES
        if not family and folder.name not in ("albert", "xlm-roberta"):
            encoder = Encoder(folder.name)
            hidden, unknown = encoder.special, encoder.unk
            ids = lambda text: encoder.tok.encode(text, add_special_tokens=False).ids
        else:
            tok = AutoTokenizer.from_pretrained(str(folder))
            # A vocabulary of SentencePiece lists its special tokens among its pieces, which are found in a text as well.
            hidden, unknown = set() if family else set(tok.all_special_ids), tok.unk_token_id
            ids = lambda text: tok(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        out[folder.name] = flat([[unknown if i in hidden else i for i in ids(text)] for text in texts])
        if family:
            # Behind a special token that is one here too: the text alone must not hold one.
            special = [token.content for token in tok.added_tokens_decoder.values() if token.special]
            plain = [text for text in texts if not any(token in text for token in special)][::5]
            mark = tok.eos_token or tok.sep_token
            behind = lambda text: tok(mark + text, add_special_tokens=False)["input_ids"][1:]
            begins = tok("x")["input_ids"]
            begins = begins[: begins.index(ids("x")[0])]
            rows = [{"text": text, "spaced": behind(" " + text), "glued": behind(text)} for text in plain]
            out[folder.name] = '{"begins": ' + json.dumps(begins) + ',\n"lines": ' + out[folder.name] + ',\n"behind": ' + flat(rows) + "}"
    body = ",\n".join(json.dumps(name) + ": " + part for name, part in {"lines": flat(texts), **out}.items())
    (ROOT / "golden" / "lines.json").write_text("{" + body + "}\n", encoding="utf-8")


def answer_before(template):
    out = None
    for space, kind, body in pieces(template):
        if kind == "MASK":
            return " " if space else out
        out = {"text": body[-1] if kind == "text" else None, "field": "x", "pseudo": "x"}.get(kind)


def main():
    if "--train" in sys.argv:
        write_tokenizers()
    golden = {}
    for folder in sorted(FIXTURES.iterdir()):
        if folder.name in family_tokenizers.FAMILIES:
            continue
        encoder = Encoder(folder.name)
        cases = []
        for template, fields, max_tokens in CASES:
            found = row(encoder, template, fields, max_tokens)
            expected = {"error": True} if found is None else {"ids": found[0], "answer": found[1]}
            cases.append({"template": template, "fields": fields, "max_tokens": max_tokens, **expected})
        answers = []
        for template, word in ANSWERS:
            ids = encoder(word, answer_before(template))
            token = ids[0] if len(ids) == 1 and ids[0] != encoder.unk else None
            answers.append({"template": template, "word": word, "token": token})
        texts = [{"text": t, "before": b, "ids": encoder(t, b)} for t in TEXTS for b in (None, " ", "x", "a", ".", "中", "요")]
        golden[folder.name] = {
            "special": {"cls": encoder.cls, "sep": encoder.sep, "mask": encoder.mask, "unk": encoder.unk},
            "vocab_size": max(encoder.tok.get_vocab().values()) + 1, "rows": cases, "answers": answers, "texts": texts}
    (ROOT / "golden").mkdir(exist_ok=True)
    out = "{" + ",\n".join(json.dumps(name) + ": {" + ",\n".join(
        json.dumps(key) + ": " + ("[\n" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in part) + "]"
                                  if isinstance(part, list) else json.dumps(part))
        for key, part in body.items()) + "}" for name, body in golden.items()) + "}\n"
    (ROOT / "golden" / "tokens.json").write_text(out, encoding="utf-8")
    write_lines()


if __name__ == "__main__":
    main()
