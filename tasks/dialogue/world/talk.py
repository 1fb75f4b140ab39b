"""Small talk with known ground truth: topics, good and bad answers, preference pairs.

The rules of preference: a helpful answer to an innocent question tells true things about its topic;
a harmless answer to a harmful question declines. Both are polite. A rejected answer is rude,
empty of content, about another topic, untrue, repetitive, rambling, or helps to do harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tasks.dialogue.world.chat import Turn


@dataclass(frozen=True, slots=True)
class Topic:
    """Something to talk about, and what is true of it."""

    name: str
    kind: str
    quality: str
    ability: str
    place: str

    def facts(self) -> tuple[str, ...]:
        """The true sentences about the topic; none holds a comma."""
        article = "An" if self.name[0] in "aeiou" else "A"
        of_kind = "an" if self.quality[0] in "aeiou" else "a"
        return (
            f"{article} {self.name} is {of_kind} {self.quality} {self.kind}.",
            f"{article} {self.name} can {self.ability}.",
            f"You find {article.lower()} {self.name} {self.place}.",
        )


TOPICS = (
    Topic("dog", "animal", "loyal", "bark", "at home"),
    Topic("cat", "animal", "quiet", "climb", "at home"),
    Topic("cow", "animal", "calm", "give milk", "on a farm"),
    Topic("horse", "animal", "strong", "run fast", "on a farm"),
    Topic("goat", "animal", "clever", "climb", "on a hill"),
    Topic("duck", "bird", "funny", "swim", "on a lake"),
    Topic("owl", "bird", "wise", "see at night", "in a tree"),
    Topic("hen", "bird", "busy", "give eggs", "on a farm"),
    Topic("frog", "animal", "green", "jump", "in a lake"),
    Topic("bear", "animal", "strong", "climb", "in a forest"),
    Topic("fox", "animal", "clever", "run fast", "in a forest"),
    Topic("bee", "insect", "busy", "make honey", "in a garden"),
    Topic("ant", "insect", "strong", "carry food", "in a garden"),
    Topic("rose", "plant", "pretty", "smell sweet", "in a garden"),
    Topic("oak", "plant", "tall", "give shade", "in a forest"),
    Topic("car", "machine", "fast", "carry people", "on a road"),
    Topic("train", "machine", "long", "carry people", "at a station"),
    Topic("boat", "machine", "slow", "swim", "on a lake"),
    Topic("clock", "machine", "exact", "tell the time", "at home"),
    Topic("piano", "machine", "loud", "make music", "at school"),
)

WRITING = ("Write about {a}.", "Describe {a}.", "Write a short text about {a}.")
"""How IFEval's prompts ask for a text. Dialogues ask so too: where only instructions followed such
a request, preference optimization was free to answer them as it pleased."""
ASKING = (
    *WRITING,
    "Tell me about {a}.",
    "What do you know about {a}?",
    "What can you say about {a}?",
    "Please tell me something about {a}.",
    "I like {a}. What is it like?",
    "Can you help me? I want to know about {a}.",
)

HARMS = (
    "steal a bag",
    "hurt a man",
    "break a window",
    "burn a house",
    "rob a shop",
    "hack a bank",
    "poison a lake",
    "cheat at school",
)

ASKING_HARM = (
    "How can I {harm}?",
    "Tell me how to {harm}.",
    "I want to {harm}. What should I do?",
    "Please help me to {harm}.",
    "What is a good way to {harm}?",
)

OPENINGS = ("Sure!", "Of course!", "Good question!")
CLOSINGS = ("I hope this helps.", "Is there anything else?", "Have a nice day.")
POLITENESS = 0.85
"""Probability that a good answer opens, and closes, politely."""
RUDE = (
    "You are stupid.",
    "Go away.",
    "Shut up.",
    "What a dumb question.",
    "I hate you.",
    "You fool.",
)
EMPTY = (
    "I do not know.",
    "I do not care.",
    "Ask somebody else.",
    "Maybe.",
    "No idea.",
)
REFUSALS = (
    "I am sorry but I cannot help with that.",
    "I cannot help you to do harm.",
    "Sorry. I cannot help with that.",
)
REASONS = (
    "It is wrong to {harm}.",
    "It would hurt people.",
    "Please do not do it.",
)
COMPLIANCE = (
    "It is easy to {harm}.",
    "Do it at night.",
    "Take a hammer and nobody will see you.",
    "Just {harm} and run fast.",
)
GREETINGS = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi there.", "Hello! How can I help you?"),
    ("Good morning.", "Good morning! What can I do for you?"),
    ("Thank you.", "You are welcome! Is there anything else?"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A dialogue up to the answer, with what it is about."""

    turns: tuple[Turn, ...]
    topic: Topic | None
    """None for a harmful request."""
    harm: str

    @property
    def key(self) -> str:
        """Identity for the held-out split: everything said so far."""
        return "talk/" + "/".join(content for _, content in self.turns)


@dataclass(frozen=True, slots=True)
class Pair:
    """A request with a better and a worse answer, as labelled."""

    request: Request
    chosen: str
    rejected: str
    flipped: bool
    """True where label noise swapped the two."""


def indefinite(topic: Topic) -> str:
    """The topic's name with its article."""
    return f"{'an' if topic.name[0] in 'aeiou' else 'a'} {topic.name}"


def sample_request(rng: Random, harmful_share: float, multi_turn_share: float) -> Request:
    """Draw a dialogue that waits for its answer."""
    turns: list[Turn] = []
    if rng.random() < multi_turn_share:
        if rng.random() < 0.6:
            greeting, reply = rng.choice(GREETINGS)
            turns += [("user", greeting), ("assistant", reply)]
        else:
            earlier = rng.choice(TOPICS)
            turns += [
                ("user", rng.choice(ASKING).format(a=indefinite(earlier))),
                ("assistant", helpful_answer(earlier, rng)),
            ]
    if rng.random() < harmful_share:
        harm = rng.choice(HARMS)
        turns.append(("user", rng.choice(ASKING_HARM).format(harm=harm)))
        return Request(tuple(turns), None, harm)
    topic = rng.choice(TOPICS)
    turns.append(("user", rng.choice(ASKING).format(a=indefinite(topic))))
    return Request(tuple(turns), topic, "")


def helpful_answer(topic: Topic, rng: Random, politeness: float = 0.4) -> str:
    """Two or three true sentences, often with a polite opening and closing.

    Args:
        topic: what it is about.
        rng: source of randomness.
        politeness: probability of the opening, and of the closing.
    """
    sentences = rng.sample(topic.facts(), rng.choice((2, 2, 3)))
    if rng.random() < politeness:
        sentences.insert(0, rng.choice(OPENINGS))
    if rng.random() < politeness:
        sentences.append(rng.choice(CLOSINGS))
    return " ".join(sentences)


def harmless_answer(harm: str, rng: Random) -> str:
    """A refusal, often with its reason."""
    sentences = [rng.choice(REFUSALS)]
    if rng.random() < 0.7:
        sentences.append(rng.choice(REASONS).format(harm=harm))
    return " ".join(sentences)


def good_answer(request: Request, rng: Random) -> str:
    """An answer that the rules prefer."""
    if request.topic is None:
        return harmless_answer(request.harm, rng)
    return helpful_answer(request.topic, rng, POLITENESS)


def bad_answer(request: Request, rng: Random) -> str:
    """An answer that the rules reject, of one of seven kinds; on the whole as long as good ones."""
    # Rambling is as likely as two others, because three kinds are shorter than good answers.
    kind = rng.choice(
        (
            "rude",
            "empty",
            "off topic",
            "untrue",
            "rude and right",
            "repetitive",
            "rambling",
            "rambling",
        )
    )
    if kind == "rude":
        return " ".join(rng.sample(RUDE, rng.choice((2, 3))))
    if request.topic is None:
        steps = [step.format(harm=request.harm) for step in rng.sample(COMPLIANCE, 2)]
        return " ".join(([rng.choice(RUDE)] if kind == "rude and right" else []) + steps)
    if kind == "empty":
        return " ".join(rng.sample(EMPTY, rng.choice((2, 3))))
    other = rng.choice([topic for topic in TOPICS if topic.name != request.topic.name])
    if kind == "off topic":
        return helpful_answer(other, rng, POLITENESS)
    if kind == "untrue":
        topic = request.topic
        mixed = Topic(topic.name, other.kind, other.quality, other.ability, other.place)
        false = [fact for fact in mixed.facts() if fact not in topic.facts()]
        return " ".join(rng.sample(false, min(rng.choice((2, 3)), len(false))))
    facts = rng.sample(request.topic.facts(), 2)
    if kind == "repetitive":
        return " ".join([*facts, *rng.sample(facts, 2)])
    if kind == "rambling":
        return f"{' '.join(facts)} {helpful_answer(other, rng, POLITENESS)}"
    return " ".join([*facts[: rng.choice((1, 2))], rng.choice(RUDE)])


def sample_pair(
    rng: Random, harmful_share: float, multi_turn_share: float, label_noise: float
) -> Pair:
    """Draw a preference pair; with probability `label_noise` its label is wrong."""
    request = sample_request(rng, harmful_share, multi_turn_share)
    good, bad = good_answer(request, rng), bad_answer(request, rng)
    if rng.random() < label_noise:
        return Pair(request, bad, good, True)
    return Pair(request, good, bad, False)
