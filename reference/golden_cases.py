"""The golden cases: one model shape, template, verbalizer, encoder and optimiser each. What a case is there for stands in `about`.

`tokenizer` says in which form the vocabulary is stored: "json" is a tokenizer.json that also stores padding and truncation (a
reader has to switch both off), "unigram" the same of SentencePiece's kind, "vocab" a vocab.txt with tokenizer_config.json, "merges" vocab.json and merges.txt with it.
`coarse` rounds the weights to bf16, so that they take less room packed. `family` is bert unless a case says otherwise.
"""

PUNCTUATION = list(".,?!:;'\"()-")
ENGLISH = """the a an is are was in of and not it to he she film movie soup tea room book good great bad poor fine yes no true
false maybe paris rome oslo madrid cairo lima france italy norway spain egypt peru capital city located sings red blue sleeps loved
hated long short slow fast story ending question answer cat dog rain""".split()
PIECES = "##s ##ed ##ing ##er ##ly ##ness ##ful ##un ##able".split()
KOREAN = """영화 음식 국물 맛 이 정말 너무 최고 최악 좋 나쁘 커피 서울 ##은 ##는 ##이 ##의 ##을 ##입니다 ##입 ##니다 ##다 ##고 ##지만 ##요
##네 식당 비싸""".split()
LETTERS = list("abcdefghijklmnopqrstuvwxyz")

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PUNCTUATION, *ENGLISH, *PIECES]
LATIN = [*VOCABULARY, *LETTERS, *("##" + c for c in LETTERS)]
HANGUL = [*VOCABULARY, *KOREAN, "S", "##S"]

# Pieces of a Unigram vocabulary; their letters are pieces too.
UNIGRAM_PIECES = [*("▁" + word for word in """the a is was in of and not it he she film soup tea good great bad fine yes no maybe true paris
rome oslo lima capital city slow story 영화 맛 최고 최악 좋""".split()), "ing", "er", "입니다", *PUNCTUATION]

# Byte-level BPE: a space in front is part of the token.
BYTE_LEVEL_WORDS = [*(" " + word for word in """the a is was in of and not it he film soup tea good bad fine yes no maybe paris rome
oslo lima capital city""".split()), "the", "ing", "s", " 영화", " 맛", "입니다", " 최고", " 최악", "좋"]
BYTE_LEVEL_SPECIAL = {"roberta": (["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"]), "gpt2": ([], ["<|endoftext|>"]),
                      "opt": (["<s>", "<pad>", "</s>", "<unk>"], []),
                      "llama": (["<unk>", "<s>", "</s>"], []), "mistral": (["<unk>", "<s>", "</s>"], []),
                      "qwen2": ([], ["<|endoftext|>"]), "qwen3": ([], ["<|endoftext|>"]), "gpt_neox": (["<|endoftext|>"], []),
                      "modernbert": ([], ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])}


def optimizer(kind="adamw", lr=5e-3, weight_decay=0.0, schedule="constant", decay=None, warmup_steps=0, clip_norm=None):
    """One optimiser; decay only with schedule "exponential", where each of the ten steps counts as an epoch."""
    return dict(kind=kind, lr=lr, weight_decay=weight_decay, schedule=schedule, decay=decay, warmup_steps=warmup_steps,
                clip_norm=clip_norm)


def full(kind="adamw", lr=5e-3, backbone_lr=1e-3, head_lr=2e-3, backbone_weight_decay=0.1, **others):
    """The optimiser of a case whose model is trained too."""
    return dict(optimizer(kind, lr, **others), backbone_lr=backbone_lr, head_lr=head_lr,
                backbone_weight_decay=backbone_weight_decay)


def shape(hidden=32, layers=2, heads=4, inner=64, act="gelu", eps=1e-12, positions=48):
    """The sizes of one model."""
    return dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner, hidden_act=act,
                layer_norm_eps=eps, max_position_embeddings=positions)


def gpt2_shape(hidden=16, layers=2, heads=2, positions=48, **more):
    """The sizes of one GPT-2."""
    return dict(n_embd=hidden, n_layer=layers, n_head=heads, n_positions=positions, bos_token_id=None, eos_token_id=None, **more)


def roberta_shape(hidden=16, layers=2, heads=2, inner=24, act="gelu", positions=50, **more):
    """The sizes of one RoBERTa: the first pad_token_id + 1 entries of its position table belong to no row."""
    return dict(shape(hidden, layers, heads, inner, act, 1e-5, positions), type_vocab_size=1, pad_token_id=1, **more)


def llama_shape(hidden=12, layers=2, heads=4, kv=2, inner=20, positions=64, rope=None, **more):
    """The sizes of one LLaMA, or of its kin."""
    rope = dict(rope_type="default", rope_theta=10000.0) if rope is None else rope
    return dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=inner,
                max_position_embeddings=positions, rope_parameters=rope, bos_token_id=None, eos_token_id=None, **more)


def neox_shape(hidden=12, layers=2, heads=2, inner=20, share=0.5, act="gelu", positions=64, **more):
    """The sizes of one GPT-NeoX."""
    return dict(shape(hidden, layers, heads, inner, act, 1e-5, positions), bos_token_id=None, eos_token_id=None,
                rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=share), **more)


def modernbert_shape(hidden=12, layers=4, heads=2, inner=10, positions=64, **more):
    """The sizes of one ModernBERT."""
    return dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner, pad_token_id=None,
                bos_token_id=None, eos_token_id=None, cls_token_id=None, sep_token_id=None, max_position_embeddings=positions, **more)
def albert_shape(hidden=16, width=8, layers=4, heads=2, inner=24, groups=2, inner_groups=2, act="gelu_new", **more):
    """The sizes of one ALBERT; `width` is that of its word vectors."""
    return dict(shape(hidden, layers, heads, inner, act), embedding_size=width, num_hidden_groups=groups, inner_group_num=inner_groups,
                **more)


def opt_shape(hidden=16, layers=2, heads=2, inner=24, act="relu", positions=48, **more):
    """The sizes of one OPT."""
    return dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, ffn_dim=inner, activation_function=act,
                max_position_embeddings=positions, word_embed_proj_dim=hidden, **more)


def distilbert_shape(hidden=16, layers=2, heads=2, inner=24, act="gelu", positions=48, **more):
    """The sizes of one DistilBERT."""
    return dict(dim=hidden, n_layers=layers, n_heads=heads, hidden_dim=inner, activation=act, max_position_embeddings=positions, **more)


def rows(names, *values):
    """Examples from tuples."""
    return [dict(zip(names.split(), value)) for value in values]


FACTS = rows("subject object", ("France", "paris"), ("Italy", "rome"), ("The long red Norway", "oslo"), ("Peru", "lima"))
PAIRS = rows("premise hypothesis label",
             ("The cat sleeps in the red room.", "The cat is in the room.", "entailment"),
             ("He loved the slowness of the café", "She hated the short story!", "not_entailment"),
             ("Soup", "Tea, tea and rain", "entailment"))
REVIEWS = rows("text label", ("The soup was good and the tea was fine", "positive"), ("A slow film", "negative"),
               ("I hated it", "negative"), ("Great story , great ending!", "positive"), ("Book", "positive"))
UNEVEN = rows("premise hypothesis label",
              ("Rain", "yes", "0"),
              ("The cat and the dog sleeps in the long room, the film was slow, the story was short and the ending was not good; "
               "she loved it and he hated it: the soup was fine", "Is it unfastable?", "1"),
              ("It was a fine city", "The capital of Egypt is Cairo and the capital of Spain is Madrid...", "2"),
              ("Tea", "he sings", "1"))

CASES = {
    "lstm_verbalizer": dict(
        about="LSTM, pseudo tokens before, between and after the text, one word a label; tokenizer.json stores padding to 40",
        seed=11, shape=shape(layers=3), tokenizer="json", encoder="lstm", optimizer=optimizer(), max_tokens=None, target="label",
        template="[P*3] {premise} [P*2] [MASK] . {hypothesis|no_punct} ? [P*4]", examples=PAIRS,
        verbalizer={"entailment": ["yes"], "not_entailment": ["no"]}),
    "mlp_probing": dict(
        about="MLP, probing: cross-entropy over the whole vocabulary; AdamW with weight decay",
        seed=2, shape=shape(heads=2, eps=1e-5), tokenizer="vocab", encoder="mlp", optimizer=optimizer(weight_decay=0.1),
        max_tokens=None, target="object", template="[P*2] {subject} is located in [P*1] [MASK] .", examples=FACTS, verbalizer=None),
    "embedding_shared": dict(
        about="bare embedding, rows shared by @name, pseudo tokens next to each other, the same row twice in a text",
        seed=3, shape=shape(), tokenizer="vocab", encoder="embedding", optimizer=optimizer("adam", lr=2e-2), max_tokens=None,
        full=full("adam", clip_norm=1.0), target="label", template="[P*2][P*1 @a] {text} [P*1 @a] [P*2 @b] [MASK] [P*2 @b] .", examples=REVIEWS,
        verbalizer={"positive": ["good"], "negative": ["bad"]}),
    "lstm_uneven": dict(
        about="LSTM, tanh gelu, texts of 1 to 40 tokens of which one is shortened, Adam with coupled L2, clipping, linear warm-up",
        seed=4, shape=shape(act="gelu_new"), tokenizer="json", encoder="lstm", max_tokens=44, target="label",
        optimizer=optimizer("adam", lr=1e-2, weight_decay=0.05, schedule="linear", warmup_steps=3, clip_norm=1.0),
        template="[P*3] {hypothesis|no_punct|lower_first} ? [P*3] [MASK] , [P*3] {premise|shorten}", examples=UNEVEN,
        verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]}),
    "mlp_words": dict(
        about="MLP, relu, several words a label (a label's score is the mean raw logit of its words), exponential schedule in which "
              "each step counts as an epoch, [SEP] inside the template",
        seed=5, shape=shape(act="relu"), tokenizer="json", encoder="mlp", max_tokens=None, target="label",
        full=full("adamw_hf", clip_norm=1.0), optimizer=optimizer(lr=1e-2, schedule="exponential", decay=0.8),
        template="{text} [SEP] the answer [P*4] : [MASK]", examples=REVIEWS,
        verbalizer={"positive": ["good", "great", "fine"], "negative": ["bad", "poor"]}),
    "korean_glued": dict(
        about="Korean, cased: text glued to a field and to [MASK] continues the word; two words a label",
        seed=6, shape=shape(), tokenizer="vocab-cased", encoder="lstm", optimizer=optimizer(clip_norm=1.0), max_tokens=None,
        target="감정", template="{이름}의 맛은 [P*3] {글} 정말 [P*2] [MASK]입니다.",
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("식당", "비싸고 나쁘네요", "부정"), ("서울 식당", "최고네요!", "긍정")),
        verbalizer={"긍정": ["최고", "좋"], "부정": ["최악", "나쁘"]}),
    "lstm_one_row": dict(
        about="sizes that fill no vector register (hidden 36, 3 heads of 12, inner 50), one layer, one pseudo token, an unknown "
              "character, brackets escaped, AdamW with warm-up",
        seed=7, shape=shape(36, 1, 3, 50), tokenizer="json", encoder="lstm", max_tokens=None, target="object",
        full=full(schedule="linear", warmup_steps=2),
        optimizer=optimizer(weight_decay=0.01, schedule="linear", warmup_steps=2), verbalizer=None,
        template="([[x {{ {subject}) the capital is [P*1] [MASK]", examples=FACTS),
    "superglue_lstm": dict(
        about="LSTM in the shapes of the few-shot SuperGLUE code (the whole width a direction); an odd width",
        seed=8, shape=shape(15, 1, 3, 24), tokenizer="json", encoder="lstm", encoder_shape=dict(shapes="superglue"),
        optimizer=optimizer(), max_tokens=None, target="label",
        template="[P*2] {text} It was [P*1] [MASK] .", examples=REVIEWS, verbalizer={"positive": ["good"], "negative": ["bad"]}),
    "peft_mlp": dict(
        about="MLP in the shapes of PEFT: three linear layers, a hidden width of its own",
        seed=9, shape=shape(layers=1), tokenizer="vocab", encoder="mlp", encoder_shape=dict(shapes="peft", h=21),
        optimizer=optimizer(clip_norm=0.5), max_tokens=None, target="label",
        template="[P*4] {text} [MASK] .", examples=REVIEWS, verbalizer={"positive": ["good"], "negative": ["bad"]}),
    "peft_lstm": dict(
        about="LSTM in the shapes of PEFT: a hidden width of its own, three layers",
        seed=10, shape=shape(24, 1, 3, 40), tokenizer="vocab", encoder="lstm", encoder_shape=dict(shapes="peft", h=9, n=3),
        optimizer=optimizer("adam", lr=1e-2), max_tokens=None, target="object",
        template="{subject} is in [P*3] [MASK] .", examples=FACTS, verbalizer=None),
    "gpt2_lstm": dict(
        about="GPT-2, LSTM, pseudo tokens before, between and behind uneven texts, both shortened; vocab.json and merges.txt",
        family="gpt2", seed=21, shape=gpt2_shape(), tokenizer="merges", encoder="lstm", max_tokens=44, target="label",
        full=full("adamw_hf", schedule="linear", warmup_steps=1),
        optimizer=optimizer(clip_norm=1.0), template="[P*2] {premise|shorten} [P*2] {hypothesis|no_punct|shorten} ? [P*3] [MASK]",
        examples=UNEVEN, verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]}),
    "gpt2_mlp": dict(
        about="GPT-2, MLP, probing, heads of 8 in 24, three blocks, scores scaled by block, an inner width of its own, OpenAI's tensor "
              "names with the buffers of the causal mask; tokenizer.json",
        family="gpt2", seed=22, shape=gpt2_shape(24, 3, 3, n_inner=40, scale_attn_by_inverse_layer_idx=True), tokenizer="json",
        old_names=True, encoder="mlp", max_tokens=None, target="object", full=full(clip_norm=1.0), optimizer=optimizer(weight_decay=0.1),
        template="[P*1] {subject} is located in [P*2] [MASK]", examples=FACTS, verbalizer=None),
    "gpt2_embedding": dict(
        about="GPT-2, bare embedding, one block (first and last at once), shared rows, Korean glued to a field, an untied head, two words "
              "a label, unscaled scores, relu",
        family="gpt2", seed=23, tokenizer="merges", encoder="embedding", max_tokens=None, target="감정",
        shape=gpt2_shape(layers=1, tie_word_embeddings=False, scale_attn_weights=False, activation_function="relu"),
        full=full("adam"), optimizer=optimizer("adam", lr=2e-2), template="{이름}의 맛은 [P*2 @a] {글} 정말 [P*1][P*2 @a] [MASK]",
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("식당 soup", "비싸고 나쁘네요", "부정"), ("영화", "최고네요!", "긍정")),
        verbalizer={"긍정": ["최고", "good"], "부정": ["최악", "bad"]}),
    "roberta_lstm": dict(
        about="RoBERTa, LSTM, pseudo tokens before, between and after the text; tokenizer.json of its own",
        family="roberta", seed=31, shape=roberta_shape(positions=72), tokenizer="json", encoder="lstm", max_tokens=None, target="label",
        full=full("adamw_hf", clip_norm=1.0), optimizer=optimizer(schedule="linear", warmup_steps=2), template="[P*3] {premise} [P*2] [MASK] . {hypothesis|no_punct} ? [P*4]",
        examples=PAIRS, verbalizer={"entailment": ["yes"], "not_entailment": ["no"]}),
    "roberta_mlp": dict(
        about="RoBERTa, MLP, probing, uneven texts up to the last position, [SEP] inside the template, tanh gelu below a head that stays "
              "gelu, one block, heads of 8 in 24, an untied head with its own bias; vocab.json and merges.txt",
        family="roberta", seed=32, shape=roberta_shape(24, 1, 3, 40, "gelu_new", tie_word_embeddings=False), tokenizer="merges",
        encoder="mlp", max_tokens=48, target="label", full=full(weight_decay=0.1), optimizer=optimizer(lr=1e-2, schedule="exponential", decay=0.8),
        template="{premise|shorten} [SEP] the answer [P*3] : [MASK]", examples=rows(
            "premise label", *[(row["premise"], word) for row, word in zip(UNEVEN, ["yes", "no", "maybe", "no"])]), verbalizer=None),
    "roberta_embedding": dict(
        about="RoBERTa, bare embedding, Korean glued to a field and to the mask, padding token 5, two words a label",
        family="roberta", seed=33, tokenizer="merges", encoder="embedding", max_tokens=None, target="감정",
        shape={**roberta_shape(), "pad_token_id": 5, "max_position_embeddings": 72}, full=full(clip_norm=0.5), optimizer=optimizer("adam", lr=2e-2),
        template="{이름}의 맛은 [P*2] {글} 정말 [MASK]입니다 [P*1].",
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("soup", "나쁘네", "부정"), ("영화", "최고!", "긍정")),
        verbalizer={"긍정": ["최고", "good"], "부정": ["최악", "bad"]}),
    "albert_lstm": dict(
        about="ALBERT, LSTM, word vectors half as wide as the blocks, four layers of two blocks each that share two groups of weights, "
              "tanh gelu, pseudo tokens before, between and behind uneven texts; Unigram in ALBERT's pipeline",
        family="albert", seed=51, shape=albert_shape(), tokenizer="unigram", encoder="lstm", max_tokens=44, target="label",
        full=full("adamw_hf", clip_norm=1.0), optimizer=optimizer(schedule="linear", warmup_steps=2),
        template="[P*2] {hypothesis|no_punct|shorten} ? [P*2] [MASK] , [P*1] {premise|shorten}", examples=UNEVEN,
        verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]}),
    "albert_embedding": dict(
        about="ALBERT, bare embedding, probing, three layers that share two groups (the first has two), an untied decoder with a bias of its "
              "own, word vectors wider than the blocks, relu",
        family="albert", seed=52, tokenizer="unigram", encoder="embedding", max_tokens=None, target="object",
        shape=albert_shape(hidden=12, width=16, layers=3, groups=2, inner_groups=1, act="relu", tie_word_embeddings=False),
        full=full("adam"), optimizer=optimizer("adam", lr=2e-2), template="{subject} 영화 is in [P*3] [MASK] .", examples=FACTS,
        verbalizer=None),
    "electra_mlp": dict(
        about="ELECTRA's generator, MLP, word vectors half as wide as the blocks, tanh gelu below a head that stays gelu",
        family="electra", seed=53, shape=dict(roberta_shape(act="gelu_new"), embedding_size=8, type_vocab_size=2, pad_token_id=0),
        tokenizer="vocab", encoder="mlp", max_tokens=44, target="label", full=full("adamw_hf", clip_norm=1.0),
        optimizer=optimizer(schedule="linear", warmup_steps=2), verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]},
        template="[P*2] {hypothesis|no_punct|shorten} ? [P*2] [MASK] , [P*1] {premise|shorten}", examples=UNEVEN),
    "electra_embedding": dict(
        about="ELECTRA's generator, bare embedding, probing, one width for all (no projection), an untied decoder; tokenizer.json",
        family="electra", seed=54, shape=dict(roberta_shape(12, 1, 3, 20), embedding_size=12, pad_token_id=0, tie_word_embeddings=False),
        tokenizer="json", encoder="embedding", max_tokens=None, target="object", full=full("adam"),
        optimizer=optimizer("adam", lr=2e-2), template="{subject} is in [P*3] [MASK] .", examples=FACTS, verbalizer=None),
    "distilbert_mlp": dict(
        about="DistilBERT, MLP, no token types, gelu in blocks and head, several words a label",
        family="distilbert", seed=55, shape=distilbert_shape(), tokenizer="vocab", encoder="mlp", max_tokens=44, target="label",
        full=full("adamw_hf", clip_norm=1.0), optimizer=optimizer(schedule="linear", warmup_steps=2),
        template="[P*2] {hypothesis|no_punct|shorten} ? [P*2] [MASK] , [P*1] {premise|shorten}", examples=UNEVEN,
        verbalizer={"0": ["yes", "true"], "1": ["no"], "2": ["maybe"]}),
    "distilbert_embedding": dict(
        about="DistilBERT, bare embedding, probing, relu in blocks and head, an untied decoder, one block; tokenizer.json",
        family="distilbert", seed=56, tokenizer="json", encoder="embedding", max_tokens=None, target="object",
        shape=distilbert_shape(12, 1, 3, 20, "relu", tie_word_embeddings=False, sinusoidal_pos_embds=True), full=full("adam"),
        optimizer=optimizer("adam", lr=2e-2), template="{subject} is in [P*3] [MASK] .", examples=FACTS, verbalizer=None),
    "opt_lstm": dict(
        about="OPT, LSTM, pseudo tokens before, between and behind uneven texts, both shortened; a text begins with </s>",
        family="opt", seed=58, shape=opt_shape(), tokenizer="merges", encoder="lstm", max_tokens=44, target="label",
        full=full("adamw_hf", clip_norm=1.0), optimizer=optimizer(schedule="linear", warmup_steps=2),
        template="[P*2] {premise|shorten} [P*2] {hypothesis|no_punct|shorten} ? [P*3] [MASK]", examples=UNEVEN,
        verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]}),
    "opt_mlp": dict(
        about="OPT, MLP, Korean, text before the first pseudo token, gelu, an untied head, no norm behind the last block",
        family="opt", seed=59, tokenizer="merges", encoder="mlp", max_tokens=None, target="감정",
        shape=opt_shape(12, 1, 3, 20, "gelu", tie_word_embeddings=False, _remove_final_layer_norm=True), full=full("adam"),
        optimizer=optimizer("adam", lr=1e-2), template="{이름}의 맛은 {글} 정말 [P*3] [MASK]",
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("식당 soup", "비싸고 나쁘네요", "부정"), ("영화", "최고네요!", "긍정")),
        verbalizer={"긍정": ["최고", "good"], "부정": ["최악", "bad"]}),
    "xlmr_lstm": dict(
        about="XLM-R, LSTM, Korean among the texts, [SEP] inside the template; Unigram in XLM-R's pipeline",
        family="xlm-roberta", seed=57, shape=roberta_shape(positions=72), tokenizer="unigram", encoder="lstm", max_tokens=None, target="감정",
        full=full("adamw_hf", clip_norm=1.0), optimizer=optimizer(schedule="linear", warmup_steps=2),
        template="[P*2] {이름} 맛 [SEP] {글} [P*2] [MASK] .", verbalizer={"긍정": ["최고", "good"], "부정": ["최악", "bad"]},
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("식당 soup", "비싸고 나쁘네요", "부정"), ("영화", "최고!", "긍정"))),
    "long_words": dict(
        about="BERT, LSTM, label words of one, two and three tokens, three and two a label: a row for each number of masks, all cut alike",
        seed=45, shape=shape(), tokenizer="json", encoder="lstm", max_tokens=40, target="label", optimizer=optimizer(clip_norm=1.0),
        template="[P*3] {premise|shorten} [P*2] [MASK] . {hypothesis|no_punct} ? [P*1]", examples=UNEVEN,
        verbalizer={"0": ["yes", "goodness", "a fine story"], "1": ["not good", "the bad ending"], "2": ["maybe", "it is"]}),
    "long_words_korean": dict(
        about="Korean, cased, MLP, no label word of one token: two, three and four, with text glued to the masks",
        seed=42, shape=shape(layers=1), tokenizer="vocab-cased", encoder="mlp", max_tokens=None, target="감정",
        optimizer=optimizer("adam", lr=1e-2), template="{이름}의 맛은 [P*3] {글} 정말 [P*2] [MASK]입니다.",
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("식당", "비싸고 나쁘네요", "부정"), ("서울 식당", "최고네요!", "긍정")),
        verbalizer={"긍정": ["최고입니다", "정말 좋네요"], "부정": ["나쁘다", "너무 나쁘다"]}),
    "gpt2_long_words": dict(
        about="GPT-2, LSTM, label words of one to seven tokens, English and Korean: the text is read once, the words behind it; cut to fit",
        family="gpt2", seed=43, shape=gpt2_shape(), tokenizer="merges", encoder="lstm", max_tokens=48, target="label",
        optimizer=optimizer(clip_norm=1.0), template="[P*2] {premise|shorten} [P*1] {hypothesis|no_punct|shorten} ? [P*2] [MASK]",
        examples=UNEVEN, verbalizer={"0": ["yes", "최고입니다", "the good soup"], "1": ["나쁘", "not good"], "2": ["maybe"]}),
    "llama_mlp": dict(
        about="LLaMA, MLP, four query heads on two key heads wider than their share, rotary scaling llama3, biases everywhere, an untied "
              "head; the begin token from the post-processor of tokenizer.json, uneven texts",
        family="llama", coarse=True, seed=61, tokenizer="json", encoder="mlp", max_tokens=48, target="label", full=full("adamw_hf", clip_norm=1.0),
        shape=llama_shape(head_dim=6, attention_bias=True, mlp_bias=True, rope=dict(
            rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)),
        optimizer=optimizer(schedule="linear", warmup_steps=2), verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]},
        template="[P*2] {premise|shorten} [P*1] {hypothesis|no_punct} ? [P*2] [MASK]", examples=UNEVEN),
    "llama_embedding": dict(
        about="LLaMA, bare embedding, Korean, text before the pseudo tokens, tied head, no biases, linear rotary scaling, one key head; the "
              "begin token from add_bos_token beside vocab.json",
        family="llama", coarse=True, seed=62, tokenizer="merges", encoder="embedding", max_tokens=None, target="감정", optimizer=optimizer("adam", lr=2e-2),
        shape=llama_shape(kv=1, heads=3, tie_word_embeddings=True, rope=dict(rope_type="linear", rope_theta=10000.0, factor=2.5)),
        template="{이름}의 맛은 [P*2] {글} 정말 [MASK]", verbalizer={"긍정": ["최고", "good"], "부정": ["최악", "bad"]},
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("soup", "나쁘네", "부정"), ("영화", "최고!", "긍정"))),
    "mistral_embedding": dict(
        about="Mistral, bare embedding, a window of 7 on all layers, shorter than most rows, yarn",
        family="mistral", coarse=True, seed=63, tokenizer="json", encoder="embedding", max_tokens=48, target="label", full=full("adam"),
        shape=llama_shape(sliding_window=7, rope=dict(
            rope_type="yarn", rope_theta=50.0, factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=1.0), hidden=16),
        optimizer=optimizer("adam", lr=2e-2), verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]},
        template="[P*2] {premise|shorten} [P*1] {hypothesis|no_punct} ? [P*2] [MASK]", examples=UNEVEN),
    "qwen2_embedding": dict(
        about="Qwen2, bare embedding, biases of queries, keys and values, a tied head, a window of 6 from the second layer on; text first",
        family="qwen2", coarse=True, seed=64, tokenizer="json", encoder="embedding", max_tokens=48, target="label",
        full=full("adamw_hf", clip_norm=1.0),
        shape=llama_shape(hidden=16, layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=True),
        optimizer=optimizer("adam", lr=2e-2), verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]},
        template="{premise|shorten} [P*1] {hypothesis|no_punct} ? [P*2] [MASK]", examples=UNEVEN),
    "qwen2_mlp": dict(
        about="Qwen2, MLP, Korean, an untied head, a window of 5 on the first layer, heads wider than their share, yarn with all its options",
        family="qwen2", coarse=True, seed=70, tokenizer="merges", encoder="mlp", max_tokens=None, target="감정", optimizer=optimizer(),
        shape=llama_shape(head_dim=6, use_sliding_window=True, sliding_window=5, layer_types=["sliding_attention", "full_attention"], rope=dict(
            rope_type="yarn", rope_theta=200.0, factor=3.0, original_max_position_embeddings=20, beta_fast=5.0, beta_slow=0.5,
            attention_factor=1.3, truncate=False)),
        template="{이름}의 맛은 [P*2] {글} 정말 [MASK]", verbalizer={"긍정": ["최고", "good"], "부정": ["최악", "bad"]},
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("soup", "나쁘네", "부정"), ("영화", "최고!", "긍정"))),
    "mistral_mlp": dict(
        about="Mistral, MLP, a tied head, one key head wider than its share, no window (null), llama3's scaling",
        family="mistral", coarse=True, seed=71, tokenizer="merges", encoder="mlp", max_tokens=None, target="object", optimizer=optimizer(),
        shape=llama_shape(kv=1, heads=2, head_dim=8, sliding_window=None, tie_word_embeddings=True, rope=dict(
            rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)),
        template="{subject} 영화 is in [P*3] [MASK]", examples=FACTS, verbalizer=None),
    "qwen3_embedding": dict(
        about="Qwen3, bare embedding, a norm over each head, heads wider than their share, a window of 9 on the first layer, biases, an untied "
              "head",
        family="qwen3", coarse=True, seed=65, tokenizer="merges", encoder="embedding", max_tokens=48, target="label", full=full("adamw_hf", clip_norm=1.0),
        shape=llama_shape(head_dim=10, attention_bias=True, use_sliding_window=True, sliding_window=9,
                          layer_types=["sliding_attention", "full_attention"]),
        optimizer=optimizer("adam", lr=2e-2), verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]},
        template="[P*2] {premise|shorten} [P*1] {hypothesis|no_punct} ? [P*2] [MASK]", examples=UNEVEN),
    "neox_embedding": dict(
        about="GPT-NeoX, bare embedding, attention and MLP side by side, six numbers of each head of eight turned, an untied head",
        family="gpt_neox", coarse=True, seed=66, tokenizer="json", encoder="embedding", max_tokens=48, target="label", full=full("adamw_hf", clip_norm=1.0),
        shape=neox_shape(hidden=16, share=0.75), optimizer=optimizer("adam", lr=2e-2), verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]},
        template="[P*2] {premise|shorten} [P*1] {hypothesis|no_punct} ? [P*2] [MASK]", examples=UNEVEN),
    "neox_mlp": dict(
        about="GPT-NeoX, MLP, Korean, attention before the MLP, whole heads turned, no biases in the attention, a tied head, tanh gelu",
        family="gpt_neox", coarse=True, seed=67, tokenizer="merges", encoder="mlp", max_tokens=None, target="감정", optimizer=optimizer(),
        shape=neox_shape(share=1.0, act="gelu_new", use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True),
        template="{이름}의 맛은 [P*2] {글} 정말 [MASK]", verbalizer={"긍정": ["최고", "good"], "부정": ["최악", "bad"]},
        examples=rows("이름 글 감정", ("커피", "국물이 너무 좋다", "긍정"), ("soup", "나쁘네", "부정"), ("영화", "최고!", "긍정"))),
    "modernbert_embedding": dict(
        about="ModernBERT, bare embedding, a window of 6 (three to either side) on all but every third layer, two thetas, a tied head with a bias",
        family="modernbert", coarse=True, seed=68, tokenizer="json", encoder="embedding", max_tokens=48, target="label", full=full("adamw_hf", clip_norm=1.0),
        shape=modernbert_shape(local_attention=6, rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=500.0), sliding_attention=dict(rope_type="default", rope_theta=20.0))),
        optimizer=optimizer("adam", lr=2e-2), verbalizer={"0": ["yes"], "1": ["no"], "2": ["maybe"]},
        template="[P*2] {hypothesis|no_punct} ? [P*2] [MASK] , [P*1] {premise|shorten}", examples=UNEVEN),
    "modernbert_mlp": dict(
        about="ModernBERT, MLP, probing, Korean, biases everywhere, an untied head without one, silu in the blocks and tanh in the head",
        family="modernbert", coarse=True, seed=69, tokenizer="json", encoder="mlp", max_tokens=None, target="object", full=full("adam"),
        shape=modernbert_shape(layers=2, local_attention=4, layer_types=["sliding_attention", "full_attention"], attention_bias=True,
                               mlp_bias=True, norm_bias=True, classifier_bias=True, decoder_bias=False, tie_word_embeddings=False,
                               hidden_activation="silu", classifier_activation="tanh", classifier_pooling="mean"),
        optimizer=optimizer(), template="{subject} 영화 is in [P*3] [MASK] .", examples=FACTS, verbalizer=None),
}
