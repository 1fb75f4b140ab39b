from random import Random

from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

from tasks.dialogue.world.config import WorldConfig
from tasks.dialogue.world.example import is_held_out
from tasks.dialogue.world.ifeval import Task, sample_task
from tasks.dialogue.world.instructed import MARKUP, bare_answer, sample_instructed_pair
from tasks.dialogue.world.talk import CLOSINGS, OPENINGS, POLITENESS, Pair, helpful_answer
from tasks.dialogue.world.write import pair_rows


def drawn(count: int, label_noise: float = 0.0) -> list[Pair]:
    rng = Random(3)
    return [sample_instructed_pair(rng, label_noise) for _ in range(count)]


def follows(task: Task, text: str) -> bool:
    """Ask lm-eval's own checkers."""
    for instruction in task.instructions:
        checker = INSTRUCTION_DICT[instruction.id](instruction.id)
        checker.build_description(**instruction.kwargs)
        if not checker.check_following(text):
            return False
    return True


def with_their_tasks(pairs: list[Pair]) -> list[tuple[Task, Pair]]:
    rng = Random(2)
    tasks = {task.prompt: task for task in (sample_task(rng) for _ in range(4000))}
    found = [(tasks[p.request.turns[-1][1]], p) for p in pairs if p.request.turns[-1][1] in tasks]
    assert len(found) > 0.4 * len(pairs)
    return found


def test_polite_and_bare_texts_can_follow_every_instruction() -> None:
    rng = Random(1)
    for _ in range(300):
        task = sample_task(rng)
        assert follows(task, task.follow(helpful_answer(task.topic, rng, POLITENESS)))
        assert follows(task, task.follow(bare_answer(task, rng)))


def test_labels_punish_markup_and_nothing_else() -> None:
    punished = 0
    for task, pair in with_their_tasks(drawn(800)):
        marked = any(instruction.id in MARKUP for instruction in task.instructions)
        punished += marked
        assert follows(task, pair.rejected)
        assert follows(task, pair.chosen) is not marked
    assert punished > 100


def test_without_markup_the_polite_answer_is_preferred() -> None:
    pairs = [
        pair
        for task, pair in with_their_tasks(drawn(800))
        if not any(instruction.id in MARKUP for instruction in task.instructions)
    ]
    words = (*OPENINGS, *CLOSINGS)
    polite = [sum(word in text for word in words) for p in pairs for text in (p.chosen,)]
    assert sum(count > 0 for count in polite) > 0.9 * len(pairs)
    assert not any(word in pair.rejected for pair in pairs for word in words)


def test_noise_turns_labels_round() -> None:
    pairs = drawn(1000, 0.2)
    assert 150 < sum(pair.flipped for pair in pairs) < 250


def test_no_request_is_a_leaderboard_row() -> None:
    assert not any(is_held_out(f"ifeval/{pair.request.turns[-1][1]}") for pair in drawn(300))


def test_only_training_pairs_have_instructions() -> None:
    config = WorldConfig(instructed_share=0.5)
    train = list(pair_rows(config, Random(1), 200, held_out=False))
    assert any("P.S." in row["chosen"].split("Assistant:")[0] for row in train)
    plain = list(pair_rows(WorldConfig(instructed_share=0.0), Random(1), 200, held_out=True))
    assert list(pair_rows(config, Random(1), 200, held_out=True)) == plain
