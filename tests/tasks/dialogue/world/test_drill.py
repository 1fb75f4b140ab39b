from random import Random

from tasks.dialogue.world.drill import recall, repetition


def test_every_recalled_word_stood_beside_its_key() -> None:
    rng = Random(0)
    for _ in range(200):
        row = recall(rng)
        listed = row["text"][: row["answers"][0][0]]
        for start, end in row["answers"]:
            answer = row["text"][start:end].strip()
            key = row["text"][:start].rsplit("\n", 1)[1].rstrip(":")
            beside = listed[: listed.index(key)].replace("(", "")
            # The fetched word is the nearest one of its kind before the key.
            last = [word for word in beside.replace(".", " ").replace(")", " ").split() if word][
                -3:
            ]
            assert any(word.startswith(answer) for word in last), row["text"]


def test_repetition_repeats_and_only_the_repeated_half_counts() -> None:
    row = repetition(Random(1), 5)
    first = row["text"][: row["unread"]]
    assert row["text"] == f"{first}\n{first}"
