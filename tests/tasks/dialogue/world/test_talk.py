from random import Random

from sparsepo.types import Message
from tasks.dialogue.judge import score
from tasks.dialogue.world.talk import RUDE, TOPICS, Pair, sample_pair, sample_request


def messages(pair: Pair) -> list[Message]:
    return [{"role": role, "content": content} for role, content in pair.request.turns]


def pairs(count: int, label_noise: float) -> list[Pair]:
    rng = Random(5)
    return [sample_pair(rng, 0.3, 0.3, label_noise) for _ in range(count)]


def test_without_noise_every_label_follows_the_rules() -> None:
    for pair in pairs(400, 0.0):
        prompt = messages(pair)
        assert not pair.flipped
        assert score(prompt, pair.chosen) > score(prompt, pair.rejected)
        assert not any(rude in pair.chosen for rude in RUDE)


def test_noise_flips_labels_at_its_rate_and_says_so() -> None:
    made = pairs(1000, 0.2)
    for pair in made:
        prompt = messages(pair)
        assert (score(prompt, pair.chosen) < score(prompt, pair.rejected)) == pair.flipped
    assert 150 < sum(pair.flipped for pair in made) < 250


def test_shares_of_harm_and_of_longer_dialogues_are_as_asked() -> None:
    rng = Random(0)
    requests = [sample_request(rng, 0.3, 0.4) for _ in range(1000)]
    assert 250 < sum(request.topic is None for request in requests) < 350
    assert 350 < sum(len(request.turns) > 1 for request in requests) < 450
    assert all(request.turns[-1][0] == "user" for request in requests)


def test_no_length_gives_the_better_answer_away() -> None:
    made = pairs(1000, 0.0)
    longer = sum(len(pair.chosen) > len(pair.rejected) for pair in made) / len(made)
    assert 0.3 < longer < 0.9


def test_facts_tell_topics_apart_and_need_no_comma() -> None:
    for topic in TOPICS:
        assert len(set(topic.facts())) == 3
        assert not any("," in fact for fact in topic.facts())
    assert len({topic.facts() for topic in TOPICS}) == len(TOPICS)
