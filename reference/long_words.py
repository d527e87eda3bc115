"""Label words of several tokens, written a second time: the score of a word is the sum of its tokens' log-probabilities.

masked  a sequence for each number of tokens that some word has, with so many [MASK]; a word is read there, token by token
causal  a sequence for each word: the text, and behind it the word without its last token; a row predicts the token behind it

A label's score is the mean over its words. The logits that a word reads come back in the order of ptune's answer rows: masked, by
number of masks; causal, the row before the answer, then the rows that only one word has, word after word.
"""

import torch

import template
from prompt_encoder import answer_logits


def encode(pieces, example, tokenizer, form, max_tokens, label_words):
    """[(ids, first answer row)]: masked, one for each length of a word; causal, the text alone."""
    lengths = sorted({len(word) for words in label_words for word in words})
    longest = lengths[-1]
    if form.causal:
        return [template.encode(pieces, example, tokenizer, form, max_tokens, longest=longest)]
    return [template.encode(pieces, example, tokenizer, form, max_tokens, masks=k, longest=longest) for k in lengths]


def flat(sequences, label_words, causal):
    """All ids of an example and its answer rows, as ptune lays them out."""
    ids, rows = [], []
    lengths = sorted({len(word) for words in label_words for word in words})
    if causal:
        (text, last), = sequences
        beginnings = [word[:-1] for words in label_words for word in words]
        ids = text + [token for word in beginnings for token in word]
        return ids, list(range(last, len(ids)))
    for k, (sequence, first) in zip(lengths, sequences):
        rows += range(len(ids) + first, len(ids) + first + k)
        ids += sequence
    return ids, rows


def score(model, sequences, label_words, prompt, causal):
    """Scores [labels], logits [answer rows, vocab], and the rows that replaced pseudo tokens (one tensor a sequence)."""
    log = lambda logits, word: logits.log_softmax(-1)[torch.arange(len(word)), word].sum()
    if causal:
        (text, last), = sequences
        first, places = answer_logits(model, text, slice(last, last + 1), prompt)
        logits, scores = [first], []
        for words in label_words:
            of_words = []
            for word in words:
                # The places are one tensor for all words, as the text is read once.
                read, _ = answer_logits(model, text + word[:-1], slice(last, last + len(word)), prompt, places)
                logits.append(read[1:])
                of_words.append(log(read, word))
            scores.append(torch.stack(of_words).mean())
        return torch.stack(scores), torch.cat(logits), [places]
    lengths = sorted({len(word) for words in label_words for word in words})
    logits, places = zip(*(answer_logits(model, ids, slice(first, first + k), prompt) for k, (ids, first) in zip(lengths, sequences)))
    by_length = dict(zip(lengths, logits))
    scores = [torch.stack([log(by_length[len(word)], word) for word in words]).mean() for words in label_words]
    return torch.stack(scores), torch.cat(logits), list(places)
