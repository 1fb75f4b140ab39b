"""The words of the reviews.

The polarity words are in VADER's lexicon with a valence of at least 1.3. All other words, including
names, are not in it and neither boost nor negate (a test checks this), so the decisive words of a
review are known when it is written.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


POSITIVE_ADJECTIVES = _words(
    "superb great good lovely charming brilliant wonderful funny clever beautiful delightful "
    "excellent perfect nice sweet amazing strong honest smart impressive elegant splendid "
    "pleasant enjoyable"
)
NEGATIVE_ADJECTIVES = _words(
    "bad dull boring awful terrible weak poor stupid lazy ugly horrible annoying pathetic "
    "dreadful lame disappointing ridiculous hopeless messy painful worthless irritating dumb fake"
)
POSITIVE_VERBS = _words("loved liked enjoyed admired adored praised treasured")
NEGATIVE_VERBS = _words("hated disliked regretted despised dreaded blamed resented")
POSITIVE_NOUNS = _words("triumph success delight masterpiece joy pleasure")
NEGATIVE_NOUNS = _words("disaster mess failure waste torture shame")
POSITIVE_QUALITIES = _words("charm grace talent passion beauty warmth")
NEGATIVE_QUALITIES = _words("boredom greed misery anger pain panic")

BOOSTER, NEGATION = "very", "not"

ASPECTS = _words(
    "acting plot music story script ending dialogue camera cast direction scenery editing score "
    "opening lighting pacing"
)
COUNTABLE_ASPECTS = _words("plot story script ending cast score opening")
NEUTRAL_ADJECTIVES = _words(
    "long short quiet loud slow modern simple French Italian old young plain local early late"
)
COPULAS = _words("was felt looked seemed")
FILMS = _words("film movie picture")
COMPANIONS = _words("brother sister cousin uncle neighbor mother father aunt")
TIMES = _phrases(
    "last week,yesterday,at home,on Monday,on Sunday,in winter,in summer,at night,this morning,"
    "two days ago,on a train,at school"
)
PLACES = _words("Paris Rome London Berlin Cairo Tokyo Madrid Oslo Lima Boston")
JOBS = _words("doctor farmer teacher sailor singer pilot lawyer baker painter miner")
ROLES = _phrases("actor,actress,singer,child,narrator,old man,young woman,director")
YEARS = _words("1954 1961 1968 1972 1979 1983 1987 1990 1994 1999")
THINGS = _phrases("horse,train,river,garden,kitchen,village,mountain,market,house,office")
NUMBERS = _words("80 90 95 100 110 120")


def article(word: str) -> str:
    """Return "a" or "an" for a word."""
    # "hour" and "honest" are the only words here that begin with a vowel sound but not a vowel.
    return "an" if word[0] in "aeiouAEIO" or word.startswith(("honest", "hour")) else "a"
