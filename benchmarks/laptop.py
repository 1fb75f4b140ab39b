"""`python -m benchmarks.laptop`: the two real models of a laptop, trained with LoRA and sampled.

Three comparisons, on SmolLM2 135M and Gemma 3 270M, at the lengths of HH and TL;DR: a step and its
peak of memory against TRL's with the same adapters, a step against the matrix products that it
consists of, and the generation engine against `model.generate`. Models come from --smollm2 and
--gemma (a folder or GGUF file); without them, random weights of the same shape take their place,
which the card says. Needs `pip install -e .[benchmark]`. --name writes a card to benchmarks/cards/.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.card import hardware, library_versions, name_of
from benchmarks.measure import WARM_UP, Measurement, Worker
from benchmarks.process import BenchmarkError
from benchmarks.shapes import Shape, write_pairs, write_tokenizer
from sparsepo.errors import UserError

CARDS = Path(__file__).parent / "cards"
SYSTEMS = ("ours:dpo", "ours:sparsepo-common", "trl:dpo")
PEER = "trl:dpo"
RANK = 16
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONTEXT = 1024


@dataclass(frozen=True)
class LaptopModel:
    """A model that a laptop trains, and its configuration where its weights are not at hand."""

    name: str
    title: str
    vocabulary: int
    pairs: int
    """Pairs per step, for which TRL's trainer and this one fit into 16 GB together."""
    config: dict[str, Any]
    """Options of transformers' AutoConfig."""


MODELS = (
    LaptopModel(
        "smollm2",
        "SmolLM2 135M",
        49152,
        4,
        {
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100000.0,
        },
    ),
    LaptopModel(
        "gemma",
        "Gemma 3 270M",
        262144,
        2,
        {
            "model_type": "gemma3_text",
            "hidden_size": 640,
            "intermediate_size": 2048,
            "num_hidden_layers": 18,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 512,
        },
    ),
)

LENGTHS = {"hh": ("HH 120+120", 120, 120), "tldr": ("TL;DR 350+40", 350, 40)}


@dataclass(frozen=True)
class Prompts:
    """What is sampled."""

    title: str
    prompts: int
    samples: int
    lengths: tuple[int, int]
    new_tokens: int


WORK = (
    Prompts("dialogues of all lengths", 48, 1, (20, 220), 48),
    Prompts("summaries, 8 samples of each post", 6, 8, (350, 350), 40),
)
BATCH = 48


@dataclass
class Shares:
    """A step's seconds, and those of its matrix products alone, round by round."""

    label: str
    system: str
    step: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    """Of projections and head."""
    with_attention: list[float] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)

    def share(self, products: Sequence[float]) -> float:
        """Return the products' median share of the step."""
        return statistics.median(
            alone / step for alone, step in zip(products, self.step, strict=True)
        )


@dataclass
class Samples:
    """Response tokens per second, by round."""

    model: str
    title: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Speed of the engine relative to `generate`."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


@dataclass
class Found:
    """Everything that a run measures."""

    weights: dict[str, str] = field(default_factory=dict)
    """Model → where its weights are from."""
    steps: list[Measurement] = field(default_factory=list)
    shares: list[Shares] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laptop", description=__doc__)
    for model in MODELS:
        parser.add_argument(f"--{model.name}", metavar="MODEL", help="folder or GGUF file")
    names = ",".join(model.name for model in MODELS)
    parser.add_argument("--models", default=names, help=f"of {names}")
    parser.add_argument("--shapes", default=",".join(LENGTHS), help=f"of {','.join(LENGTHS)}")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="systems to measure")
    parser.add_argument("--parts", default="steps,samples", help="of steps,samples")
    parser.add_argument("--rounds", type=int, default=3, help="measured steps per system")
    parser.add_argument("--pairs", type=int, help="pairs per step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads per process")
    parser.add_argument("--name", help="of the card to write to benchmarks/cards")
    parser.add_argument("--out", type=Path, default=CARDS, help="folder for the card")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, 2 for an error that the user can fix."""
    arguments = build_parser().parse_args(argv)
    words = [word if "/" not in word else Path(word).name for word in (argv or sys.argv[1:])]
    command = shlex.join(["python", "-m", "benchmarks.laptop", *words])
    found, before, failed = Found(), os.getloadavg()[0], False
    try:
        run(arguments, found)
    except (BenchmarkError, UserError) as error:
        print(f"\nError: {error}", file=sys.stderr)
        if not found.steps and not found.samples:
            return 2
        # What was measured before is not lost.
        failed, command = True, command + "  # stopped by an error"
    except KeyboardInterrupt:
        command += "  # stopped early"
    card = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "hardware": hardware("cpu", arguments.threads),
        "versions": library_versions(),
        "load": [before, os.getloadavg()[0]],
        **asdict(found),
    }
    print(page(card, found))
    if arguments.name:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{arguments.name}.json").write_text(json.dumps(card, indent=1) + "\n")
        (arguments.out / f"{arguments.name}.md").write_text(page(card, found))
    return 2 if failed else 0


def run(arguments: argparse.Namespace, found: Found) -> None:
    """Measure what the command line asks for.

    Args:
        arguments: the parsed command line.
        found: filled as the measurements end.

    Raises:
        BenchmarkError: an unknown name, or a system that cannot be measured.
        UserError: a model cannot be loaded.
    """
    models = {model.name: model for model in MODELS}
    systems = arguments.systems.split(",")
    parts = arguments.parts.split(",")
    for given, known in (
        (arguments.models.split(","), models),
        (arguments.shapes.split(","), LENGTHS),
        (parts, ("steps", "samples")),
    ):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise BenchmarkError(f"Unknown name '{unknown[0]}'; choose from {', '.join(known)}.")
    peers = "steps" in parts and any(system.startswith("trl") for system in systems)
    if peers and find_spec("trl") is None:
        raise BenchmarkError(
            "TRL is not installed; run python -m pip install -e .[benchmark], or exclude its "
            "systems with --systems."
        )
    for name in arguments.models.split(","):
        model = models[name]
        if arguments.pairs:
            model = replace(model, pairs=arguments.pairs)
        source = getattr(arguments, name)
        found.weights[model.title] = "its own" if source else "random"
        with tempfile.TemporaryDirectory() as folder:
            say(f"{model.title}: weights")
            write_laptop_model(model, source, Path(folder))
            for lengths in arguments.shapes.split(",") if "steps" in parts else ():
                measure_steps(model, lengths, systems, Path(folder), arguments, found)
            if "samples" in parts:
                measure_samples(model, Path(folder), arguments, found)
    say("")


def say(text: str) -> None:
    """Show what is being done, on one line of the terminal."""
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def write_laptop_model(model: LaptopModel, source: str | None, folder: Path) -> None:
    """Save a model, with a tokenizer of made-up words, so that texts have exact lengths.

    Args:
        model: which one.
        source: folder or GGUF file of its weights; None for random ones.
        folder: where to.

    Raises:
        UserError: the source cannot be read, or holds another model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from sparsepo.training.loading import load_policy

    loaded: Any
    if source:
        loaded = load_policy(source, dtype="float32")
        config = loaded.config
        wanted = {"vocab_size": model.vocabulary, **model.config}
        for option in ("vocab_size", "hidden_size", "num_hidden_layers"):
            if getattr(config, option, None) != wanted[option]:
                raise UserError(
                    f"'{source}' is not {model.title}: its {option} is "
                    f"{getattr(config, option, None)} instead of {wanted[option]}; give that model "
                    f"in --{model.name}."
                )
    else:
        end = model.vocabulary - 1
        special: dict[str, Any] = dict.fromkeys(
            ("bos_token_id", "eos_token_id", "pad_token_id"), end
        )
        config = AutoConfig.for_model(
            vocab_size=model.vocabulary,
            tie_word_embeddings=True,
            max_position_embeddings=8192,
            **special,
            **model.config,
        )
        torch.manual_seed(0)
        loaded = AutoModelForCausalLM.from_config(config)
    # Nothing but made-up words is read, so no real end of sequence cuts a response short.
    loaded.config.eos_token_id = loaded.generation_config.eos_token_id = model.vocabulary - 1
    loaded.config.pad_token_id = loaded.generation_config.pad_token_id = model.vocabulary - 1
    loaded.save_pretrained(folder)
    write_tokenizer(model.vocabulary, CONTEXT, folder)
    del loaded
    gc.collect()


def measure_steps(
    model: LaptopModel,
    lengths: str,
    systems: Sequence[str],
    folder: Path,
    arguments: argparse.Namespace,
    found: Found,
) -> None:
    """Take steps of every system in turn, then compare ours with their matrix products."""
    title, prompt, response = LENGTHS[lengths]
    config = model.config
    shape = Shape(
        model.name,
        f"{model.title}, {title}",
        config["model_type"],
        config["num_hidden_layers"],
        config["hidden_size"],
        config["num_attention_heads"],
        model.vocabulary,
        prompt,
        response,
        model.pairs,
    )
    rounds = arguments.rounds
    # The recorded step, and one beside each time that the products are computed alone.
    steps = WARM_UP + 2 * rounds + 1
    order = random.Random(0)
    taken: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    workers: list[Worker] = []
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "pairs.jsonl"
        write_pairs(shape, steps * shape.pairs, file)
        try:
            for system in systems:
                say(f"{shape.title}: starting {system}")
                name = system.replace(":", "_")
                spec = {
                    "system": system,
                    "device": "cpu",
                    "dtype": "float32",
                    "threads": arguments.threads,
                    "model": str(folder),
                    "lora_r": RANK,
                    "lora_targets": PROJECTIONS,
                    "pairs": str(file),
                    "cache": str(Path(place) / f"cache-{name}"),
                    "output": str(Path(place) / f"output-{name}"),
                    "batch_size": shape.pairs,
                    "steps": steps,
                }
                workers.append(Worker(system, spec, Path(place)))
                workers[-1].ready()
            for step in range(WARM_UP + rounds):
                for worker in order.sample(workers, len(workers)):
                    say(f"{shape.title}: step {step + 1} of {WARM_UP + rounds}, {worker.system}")
                    taken[worker.system].append(worker.step())
            found.steps.append(
                Measurement(
                    shape,
                    shape.title,
                    {name: [s["seconds"] for s in own[WARM_UP:]] for name, own in taken.items()},
                    {name: own[-1]["peak"] for name, own in taken.items()},
                    {n: own[-1]["sparsity"] for n, own in taken.items() if "sparsity" in own[-1]},
                )
            )
            # One at a time, because what is recorded takes several times the memory of a step.
            workers.sort(key=lambda worker: worker.system.startswith("ours"))
            while workers:
                worker = workers[0]
                if worker.system.startswith("ours"):
                    say(f"{shape.title}: products of {worker.system}")
                    found.shares.append(_shares(worker, shape.title, rounds))
                worker.close()
                workers.remove(worker)
        finally:
            for worker in workers:
                worker.close()


def _shares(worker: Worker, label: str, rounds: int) -> Shares:
    shares = Shares(label, worker.system)
    worker.ask("record")
    worker.ask("products")  # to warm up
    for _ in range(rounds):
        shares.step.append(worker.step()["seconds"])
        alone = worker.ask("products")
        shares.products.append(alone["products"])
        shares.with_attention.append(alone["with_attention"])
        shares.flops = alone["flops"]
    return shares


def measure_samples(
    model: LaptopModel, folder: Path, arguments: argparse.Namespace, found: Found
) -> None:
    """Sample with the engine and `model.generate` in turn."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.sampling import generate
    from tasks.models.generation import sample_ids

    torch.set_num_threads(arguments.threads)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    draw = random.Random(0)
    for work in WORK:
        prompts = [
            [draw.randrange(1, model.vocabulary - 1) for _ in range(draw.randint(*work.lengths))]
            for _ in range(work.prompts)
        ]
        repeated = [prompt for prompt in prompts for _ in range(work.samples)]
        samples = Samples(model.title, work.title)
        found.samples.append(samples)
        for round_ in range(-1, arguments.rounds):
            say(f"{model.title}, {work.title}: round {max(0, round_) + 1} of {arguments.rounds}")
            new_tokens = work.new_tokens if round_ >= 0 else 2
            started = time.monotonic()
            ours = sample_ids(
                loaded,
                repeated,
                tokenizer,
                max_new_tokens=new_tokens,
                batch_size=BATCH,
                seed=round_ + 1,
            ).ids
            middle = time.monotonic()
            theirs = generate(loaded, repeated, new_tokens, round_ + 1, batch_size=BATCH)
            ended = time.monotonic()
            if round_ >= 0:  # the first one warms up
                samples.ours.append(sum(map(len, ours)) / (middle - started))
                samples.theirs.append(sum(map(len, theirs)) / (ended - middle))


def page(card: dict[str, Any], found: Found) -> str:
    """Return the card as a page."""
    machine = {**card["hardware"], **card["versions"]}
    facts = "; ".join(f"{name} {value}" for name, value in machine.items())
    weights = ", ".join(f"{title}: {source}" for title, source in found.weights.items())
    lines = [
        f"# Laptop benchmark, {card['date']}",
        "",
        "```",
        str(card["command"]),
        "```",
        "",
        f"{facts}; float32; load average {card['load'][0]:.1f} at the start and "
        f"{card['load'][1]:.1f} at the end. Weights: {weights}.",
        "",
    ]
    if found.steps:
        lines += [
            "## Steps",
            "",
            f"LoRA of rank {RANK} on all seven projections of each layer, random words of fixed "
            "lengths. One process per system; steps are taken in turn, each round on the same "
            "pairs. Time: median seconds of a whole step. Ratio: median over rounds [smallest, "
            "largest]. Memory: peak resident memory minus that of the process with only its "
            "libraries loaded.",
            "",
            f"| model and lengths | pairs | system | s/step | time / {name_of(PEER)} | MB "
            "| memory |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [row for measured in found.steps for row in _step_rows(measured)]
        lines.append("")
    if found.shares:
        lines += [
            "## Matrix products alone",
            "",
            "The products of one step (what a frozen weight does not need and what would be "
            "recomputed is not among them), recorded and computed again with nothing between "
            "them, in turn with whole steps. Share: median over rounds of their time over the "
            "step's.",
            "",
            "| model and lengths | system | s/step | projections and head, s | share "
            "| with attention, s | share | GFLOP/s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_share_row(shares) for shares in found.shares]
        lines.append("")
    if found.samples:
        lines += [
            "## Samples",
            "",
            f"The generation engine and `model.generate`, both in batches of {BATCH} of the same "
            "prompts, in turn, at temperature 1; no response ends early. Response tokens per "
            "second, median over rounds; ratio: median of the rounds' ratios [smallest, largest].",
            "",
            "| model | prompts | engine | generate | ratio |",
            "|---|---|---|---|---|",
        ]
        lines += [_sample_row(samples) for samples in found.samples if samples.ours]
        lines.append("")
    return "\n".join(lines)


def _step_rows(measured: Measurement) -> list[str]:
    rows = []
    for system in measured.seconds:
        ratio = memory = ""
        if PEER in measured.seconds and system != PEER:
            middle, low, high = measured.time_ratio(system, PEER)
            ratio = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
            memory = f"{measured.memory_ratio(system, PEER):.2f}"
        rows.append(
            f"| {measured.label} | {measured.shape.pairs} | {name_of(system)} "
            f"| {measured.median(system):.2f} | {ratio} "
            f"| {measured.peak_bytes[system] / 1e6:,.0f} | {memory} |"
        )
    return rows


def _share_row(shares: Shares) -> str:
    cells = [shares.label, name_of(shares.system), f"{statistics.median(shares.step):.2f}"]
    for seconds in (shares.products, shares.with_attention):
        cells += [f"{statistics.median(seconds):.2f}", f"{100 * shares.share(seconds):.0f} %"]
    rate = shares.flops[0] / statistics.median(shares.products) / 1e9
    return f"| {' | '.join([*cells, f'{rate:.0f}'])} |"


def _sample_row(samples: Samples) -> str:
    ratios = samples.ratios
    spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    return (
        f"| {samples.model} | {samples.title} | {statistics.median(samples.ours):,.0f} "
        f"| {statistics.median(samples.theirs):,.0f} | {spread} |"
    )


if __name__ == "__main__":
    sys.exit(main())
