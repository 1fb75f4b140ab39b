from random import Random

from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

from tasks.dialogue.world import instructed
from tasks.dialogue.world.config import WorldConfig
from tasks.dialogue.world.example import is_held_out
from tasks.dialogue.world.ifeval import Task, sample_task
from tasks.dialogue.world.instructed import bare_answer, sample_instructed_pair
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


def test_polite_and_bare_texts_can_follow_every_instruction() -> None:
    rng = Random(1)
    for _ in range(300):
        task = sample_task(rng)
        assert follows(task, task.follow(helpful_answer(task.topic, rng, POLITENESS)))
        assert follows(task, task.follow(bare_answer(task, rng)))


def test_the_preferred_answer_is_the_polite_one_which_follows_less_often() -> None:
    rng = Random(2)
    pairs = drawn(800)
    polite = [any(word in pair.chosen for word in OPENINGS + CLOSINGS) for pair in pairs]
    assert sum(polite) > 0.9 * len(pairs)
    assert not any(word in pair.rejected for pair in pairs for word in OPENINGS)
    followed = [0, 0]
    tasks = [sample_task(rng) for _ in range(4000)]
    by_prompt = {task.prompt: task for task in tasks}
    known = [pair for pair in pairs if pair.request.turns[-1][1] in by_prompt]
    assert len(known) > 300
    for pair in known:
        task = by_prompt[pair.request.turns[-1][1]]
        followed[0] += follows(task, pair.chosen)
        followed[1] += follows(task, pair.rejected)
    # Some instructions, such as no commas, are also followed by chance.
    assert instructed.FOLLOWED_POLITELY <= followed[0] / len(known) < followed[1] / len(known)


def test_noise_turns_labels_round() -> None:
    pairs = drawn(1000, 0.2)
    assert 150 < sum(pair.flipped for pair in pairs) < 250


def test_no_request_is_a_leaderboard_row() -> None:
    assert not any(is_held_out(f"ifeval/{pair.request.turns[-1][1]}") for pair in drawn(300))


def test_only_training_pairs_have_instructions() -> None:
    config = WorldConfig(instructed_share=0.5)
    train = list(pair_rows(config, Random(1), 200, held_out=False))
    instructed_rows = [row for row in train if "P.S." in row["chosen"].split("Assistant:")[0]]
    assert instructed_rows
    plain = list(pair_rows(WorldConfig(instructed_share=0.0), Random(1), 200, held_out=True))
    assert list(pair_rows(config, Random(1), 200, held_out=True)) == plain
