"""Reviews for the tiny model's corpus and for the sentiment task: word lists and a grammar, all drawn from one `random.Random`.

A review is one or two sentences whose opinion words are all of one polarity; now and then a word of the other polarity is negated
("was not boring"). In the corpus a review may be followed or introduced by an evaluation ("my verdict : good ."), which agrees
with it, and by remarks about the day, the weather and the journey, which have nothing to do with it. These remarks use the same words ("it
was good weather ."), so that what a frozen model expects at [MASK] depends on how it is asked.
"""

import re

# domain: (what is judged, its parts, words of praise, words of blame)
DOMAINS = {
    "meal": ("meal dinner lunch restaurant cafe breakfast", "soup bread pasta curry salad coffee cake rice fish sauce dessert waiter",
             "delicious tasty fresh crisp tender juicy creamy", "bland stale greasy burnt soggy rotten tasteless"),
    "film": ("film movie comedy thriller sequel documentary", "plot acting ending music dialogue hero script scenery cast finale",
             "gripping moving brilliant clever funny thrilling touching", "boring tedious predictable dull silly clumsy pointless"),
    "hotel": ("hotel hostel guesthouse resort inn apartment", "room bed bathroom staff lobby view pool balcony shower reception",
              "clean cosy spacious friendly comfortable welcoming charming", "dirty noisy cramped smelly shabby rude damp"),
    "book": ("book novel memoir biography diary collection", "story style opening chapter language heroine translation cover title",
             "vivid elegant witty inspiring poetic original subtle", "confusing shallow stilted tiresome trite vague monotonous"),
    "phone": ("phone laptop camera tablet watch printer", "screen battery speaker keyboard lens software case charger button manual",
              "sharp reliable sturdy handy powerful responsive precise", "blurry fragile sluggish useless faulty flimsy defective"),
    "trip": ("trip tour cruise excursion flight ride", "guide driver seat bus boat museum timetable crew route captain",
             "smooth punctual relaxing exciting helpful scenic memorable", "chaotic delayed exhausting crowded careless unsafe dreary"),
}
LIKED = "loved enjoyed adored praised admired liked".split()
DISLIKED = "hated regretted disliked despised mocked detested".split()
PEOPLE = "my wife,my husband,my sister,my brother,our guests,my parents,the children,my friend,the neighbours,everyone".split(",")
SUBJECTS = ["i", "we", *PEOPLE]
DEGREES = ["", "", "", "very ", "really ", "so ", "quite ", "rather "]
SEEMS = "was was was seemed looked felt remained".split()

EVALUATIONS = ("good good good great excellent fine wonderful superb".split(), "bad bad bad poor awful terrible horrible dreadful".split())
AFTER = [
    "my verdict : {e} .", "verdict : {e} .", "in short , {e} .", "all in all {e} .", "to sum up , {e} .", "overall {e} .",
    "overall rating : {e} .", "in one word , {e} .", "all in all a {e} {thing} .", "in short , a {e} {thing} .", "i would call this {thing} {e} .",
    "a {e} choice .", "people on the internet say {e} , and they are right .", "so my rating is {e} .", "we agreed : {e} .", "{e} !",
]
BEFORE = ["{e} {thing} .", "a {e} {thing} :", "verdict {e} :", "rated {e} :", "my {e} {thing} :"]

DEFINITIONS = ["{word} means {e} .", "if it is {word} , it is {e} .", "{word} , {other} : {e} .", "{e} : {word} and {other} ."]

WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = "january march april may june july august october november".split()
SEASONS = "spring summer autumn winter".split()
HOURS = "noon midnight late early dark cold warm sunny raining snowing windy crowded quiet".split()
LUCK = "good good good good great bad fine".split()  # of the weather and the traffic, whatever the review says
REMARKS = [
    "it was {weekday} .", "it was {weekday} .", "it was {hour} .", "it was {hour} .", "it was {hour} .", "it was {season} .", "it was {luck} weather .",
    "it was {luck} weather for {month} .", "it was a {weekday} in {month} .", "the weather was {luck} .", "the weather was {luck} in {month} .",
    "the traffic was {luck} .", "it was {luck} , the weather i mean .", "the day was {hour} .", "the thing was new .", "that {season} was {hour} .",
    "this is about {weekday} .", "this is {luck} news for the weather .", "this was {weekday} .", "this was in {month} .", "i am {person} .",
    "i felt {luck} that morning .", "i feel {luck} again , the cold is over .", "we paid {number} euros .", "it cost {number} euros .",
    "it took {number} hours .", "it took us {number} days .", "we went there in {season} .", "we went with {person} .",
    "i wrote this on {weekday} .", "{luck} morning !", "{luck} evening to you .", "have a {luck} {weekday} !",
]
NUMBERS = "two three four five six seven eight nine ten twelve twenty thirty forty fifty".split()


def articles(text):
    """"a" before a vowel becomes "an"."""
    return re.sub(r"\ba (?=[aeiou])(?!useless)", "an ", text)


def opinion(r, domain, polarity):
    """An adjective of the polarity behind a verb, or one of the other polarity behind "not"; with degree."""
    _, _, praise, blame = domain
    words = (praise.split(), blame.split())
    if r.random() < 0.12:
        return r.choice(["not ", "never ", "hardly "]) + r.choice(words[1 - polarity])
    return r.choice(DEGREES) + r.choice(words[polarity])


def sentence(r, domain, polarity):
    """One sentence of a review."""
    things, parts, praise, blame = domain
    word = lambda: r.choice((praise, blame)[polarity].split())
    verb = r.choice((LIKED, DISLIKED)[polarity])
    part, other = r.sample(parts.split(), 2)
    thing = r.choice(things.split())
    forms = [
        f"the {part} {r.choice(SEEMS)} {opinion(r, domain, polarity)} .",
        f"the {part} {r.choice(SEEMS)} {opinion(r, domain, polarity)} and the {other} {r.choice(SEEMS)} {opinion(r, domain, polarity)} .",
        f"{r.choice(SUBJECTS)} {verb} the {part} .",
        f"{r.choice(SUBJECTS)} {verb} the {part} and the {word()} {other} .",
        f"what a {word()} {r.choice([part, thing])} !",
        f"{word()} {part} , {word()} {other} .",
        f"{r.choice(SUBJECTS)} found the {part} {opinion(r, domain, polarity)} .",
        f"nobody expected such a {word()} {part} .",
        f"{r.choice(SUBJECTS)} told {r.choice(PEOPLE)} about the {word()} {part} .",
        f"the {thing} has a {word()} {part} .",
        f"{r.choice(PEOPLE)} {verb} this {thing} , the {part} above all .",
    ]
    return r.choice(forms)


def review(r, polarity):
    """The text of a review and what is judged in it."""
    domain = DOMAINS[r.choice(list(DOMAINS))]
    count = r.choice([1, 1, 1, 2, 2])
    return articles(" ".join(sentence(r, domain, polarity) for _ in range(count))), r.choice(domain[0].split())


def remark(r):
    """A sentence that says nothing about what is judged."""
    return r.choice(REMARKS).format(
        weekday=r.choice(WEEKDAYS), month=r.choice(MONTHS), season=r.choice(SEASONS), hour=r.choice(HOURS), luck=r.choice(LUCK),
        person=r.choice(PEOPLE), number=r.choice(NUMBERS))


def definition(r):
    """A line of a dictionary: an opinion word beside an evaluation and another word of its polarity."""
    polarity = r.randrange(2)
    domain = DOMAINS[r.choice(list(DOMAINS))]
    word, other = r.sample(domain[2 + polarity].split(), 2)
    if r.random() < 0.25:
        word, other = r.sample((LIKED, DISLIKED)[polarity], 2)
    return r.choice(DEFINITIONS).format(word=word, other=other, e=r.choice(EVALUATIONS[polarity]))


def document(r, held_out):
    """One document of the corpus: a review, evaluations that agree with it, remarks that do not care. No text of `held_out` is in it."""
    while True:
        polarity = r.randrange(2)
        text, thing = review(r, polarity)
        if not any(row in text for row in held_out):
            break
    evaluation = lambda forms: r.choice(forms).format(e=r.choice(EVALUATIONS[polarity]), thing=thing)
    parts = [text]
    if r.random() < 0.3:
        parts.insert(0, evaluation(BEFORE))
    if r.random() < 0.45:
        parts.append(remark(r))
    if r.random() < 0.6:
        parts.append(evaluation(AFTER))
    if r.random() < 0.2:
        parts.append(remark(r))
    return articles(" ".join(parts))


def task_rows(r, count, taken):
    """`count` rows {text, label}, half of each label, none of whose texts is in `taken`; they are added to it."""
    rows = []
    while len(rows) < count:
        polarity = len(rows) % 2
        text, _ = review(r, polarity)
        if text not in taken:
            taken.add(text)
            rows.append({"text": text, "label": ("positive", "negative")[polarity]})
    r.shuffle(rows)
    return rows
