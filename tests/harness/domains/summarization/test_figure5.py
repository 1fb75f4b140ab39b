"""Figure 5 from nothing to its files, with models so small that nothing is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.draw import redraw
from harness.commands.run import run_experiment
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.summarization.pipeline import NO_NLI
from harness.domains.summarization.profile import PROFILES
from harness.domains.summarization.results import NO_TRUTH
from sparsepo.errors import UserError
from tests.small_summarization import SMALL

FILES = {f"figure5.{kind}" for kind in ("json", "md", "csv", "tex", "png", "pdf")}
SAMPLES = "figure5.samples.jsonl.gz"


@pytest.fixture
def run(tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an experiment; `recorder` then knows what was made."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    # Whoever commits while the test runs must not change what is compared.
    monkeypatch.setattr("harness.domains.common.provenance._git", lambda *arguments: "0" * 40)

    def run(
        methods: str, *more: str, experiment: str = "figure5", profile: str = "tiny"
    ) -> dict[str, Any]:
        recorder.made_stages.clear()
        request = RunRequest(
            profile=profile,
            methods=tuple(methods.split(",")),
            seeds=1,
            assignments=(*(SMALL if profile == "tiny" else ()), *more),
            workers=1,
            out=tmp_path / "out",
            store=tmp_path / "store",
        )
        return run_experiment(EXPERIMENTS[experiment], request, recorder)

    return run


def test_cold_warm_and_drawn_again(run: Any, recorder: Any, tmp_path: Path) -> None:
    result = run("sft,dpo")
    folder = tmp_path / "out" / "tiny" / "figure5"
    assert json.loads((folder / "figure5.json").read_text()) == result
    assert {path.name for path in folder.iterdir()} == FILES | {SAMPLES, "timings.json"}
    parts = {part["metric"]: part for part in (result, *result["parts"])}
    assert set(parts) == {*result["panels"], *result["beyond"], "matched"}
    assert result["missing"] == {}
    for name in result["panels"]:
        columns = [f"{name}_0", f"{name}_1"]
        assert parts[name]["columns"] == columns
        for row in parts[name]["rows"]:
            for column in columns:
                low, high = row["values"][column]["ci95"]
                least, most = result["bounds"][column]
                assert least <= low <= row["values"][column]["mean"] <= high <= most
                assert row["values"][column]["seeds"] == 1
    # One greedy summary stands for all samples, which are then the same.
    for row in parts["self_bleu"]["rows"]:
        assert row["values"]["self_bleu_0"]["mean"] == pytest.approx(100.0)
    for name, compared in (("rougeL", ["rougeL_0", "rougeL_1"]), ("edna", ["edna_1"])):
        assert [entry["column"] for entry in parts[name]["significance"]] == compared
    assert result["sampled"]["posts"]["responses"] == 2 * (5 + 5 * 2)
    assert result["nli"]["rows"]["held_out"] == 40
    assert all(m["signature"] for m in result["metrics"] if m["id"] in result["panels"])
    assert "coverage" in (folder / "figure5.md").read_text().lower()

    assert run("sft,dpo") == result
    assert recorder.made_stages == []
    picture = folder / "figure5.png"
    before = picture.read_bytes()
    picture.unlink()
    redraw(folder / "figure5.json")
    assert picture.read_bytes() == before

    # Another method is trained, and nothing else is made again but what has all of them.
    run("sft,dpo,simpo")
    assert set(recorder.made_stages) == {
        "simpo seed 42",
        "summaries of simpo seed 42",
        "scores of simpo seed 42",
        "metrics against the truth seed 42",
    }


def real_pairs(file: Path, words: int = 4) -> Path:
    """Write pairs that are not of the world."""
    rows = [
        {
            "prompt": f"The cat number {i} {'really ' * words}ate my lunch.\n\nTL;DR:",
            "chosen": f" A cat ate lunch {i}.",
            "rejected": " Dogs bark.",
        }
        for i in range(60)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_real_posts_have_no_truth(run: Any, tmp_path: Path) -> None:
    file = real_pairs(tmp_path / "pairs.jsonl")
    result = run("sft,dpo", f"data.tldr={file}", "base.context=96", "sampling.new_tokens=8")
    assert set(result["missing"]) == {
        "edna",
        "summac",
        "coverage",
        "faithfulness",
        "preference",
    }
    assert result["missing"]["edna"]["reason"] == NO_NLI
    assert result["missing"]["coverage"]["reason"] == NO_TRUTH
    assert result["correlations"] is None
    assert any("Missing, not zero: EDNA" in note for note in result["notes"])
    data = result["provenance"]["data"]
    assert data["train"]["used"] + data["test"]["used"] == 60


def test_posts_of_training_pairs_are_not_summarized_and_not_judged(tmp_path: Path) -> None:
    from harness.domains.summarization.work.pairs import make_pairs
    from harness.domains.summarization.work.prompts import make_prompts
    from harness.graph.stages import StageContext

    folder = tmp_path / "tldr"
    folder.mkdir()
    real_pairs(folder / "train.jsonl")
    post = "The cat number 7 really really really really ate my lunch."
    rated = [
        {"post": text, "responses": ["A cat.", "A dog."], "rewards": [7, 1]}
        for text in (post, f" {post}\n", "Another post.")
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rated))
    posts = [
        {"title": "Lunch", "subreddit": "cats", "post": text, "summary": "A cat."}
        for text in (post, "A post of its own.")
    ]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in posts))

    def run(
        name: str, function: Any, config: dict[str, Any], inputs: dict[str, Path], **files: Path
    ) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        function(
            StageContext(
                name=name,
                work=tmp_path / name,
                config=config,
                inputs=inputs,
                files=files,
                threads=1,
                progress=lambda *_: None,
            )
        )
        return tmp_path / name

    config = {
        "subsets": {"tldr": None},
        "train_pairs": None,
        "test_pairs": None,
        "longest_difference": 100,
        "seed": 0,
    }
    made = run("pairs", make_pairs, config, {}, tldr=folder)
    report = json.loads((made / "report.json").read_text())
    assert (report["train"]["used"], report["test"]["used"]) == (60, 1)
    assert report["test"]["subsets"]["tldr"]["skipped"] == {"post in the training pairs": 2}
    assert report["test"]["subsets"]["tldr"]["kept"] == 1
    settings = {"source": None, "prompts": None}
    read = run("posts", make_prompts, settings, {"pairs": made}, prompts=tmp_path / "posts.jsonl")
    report = json.loads((read / "report.json").read_text())
    assert report == {
        "rows": 2,
        "kept": 1,
        "skipped": {"post in the training pairs": 1},
        "used": 1,
    }
    (folder / "test.jsonl").write_text(json.dumps(rated[0]) + "\n")
    with pytest.raises(UserError, match="post of every held-out pair is in the training pairs"):
        run("pairs", make_pairs, config, {}, tldr=folder)


def test_the_paper_profile_trains_gpt_j_by_qlora() -> None:
    profile = PROFILES["paper"]()
    assert profile.model.summarization == "CarperAI/openai_summarize_tldr_sft"
    training = profile.po
    assert training.load_in_4bit
    assert (training.lora_r, training.lora_alpha, training.lora_dropout) == (64, 16, 0.1)
    targets = {"q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"}
    assert training.lora_targets is not None and set(training.lora_targets.split("+")) == targets
    assert (training.learning_rate, training.epochs, training.batch_size) == (1e-4, 1, 256)


def test_win_rates_use_the_worlds_truth(run: Any) -> None:
    result = run("sft,dpo", experiment="winrate-summarization")
    values = {row["method"]: row["values"] for row in result["rows"]}
    for row in values.values():
        assert 0.0 <= row["win_chosen"]["mean"] <= 100.0
    assert values["dpo"]["win_chosen"]["n"] == 4


def test_win_rates_of_real_posts_are_judged_by_a_reward_model_trained_on_them(
    run: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "tldr"
    folder.mkdir()
    real_pairs(folder / "train.jsonl", words=90)
    rated = [
        {"post": f"Post {i}.", "responses": ["A cat.", "A dog.", "Rain."], "rewards": [2, 7, 1]}
        for i in range(9)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rated))
    result = run(
        "sft,dpo",
        f"data.tldr={folder}",
        "base.context=96",
        "sampling.new_tokens=8",
        experiment="winrate-summarization",
    )
    judge = result["judge"]
    assert (judge["kind"], judge["model"]) == ("reward", "trained")
    (report,) = judge["trained"]
    assert (report["pairs"], report["truncated"], report["held_out"]) == (60, 60, 9)
    assert judge["labelled"]["comparisons"] == 9 and judge["labelled"]["failed"] == 0
    assert "kappa_rules" not in judge
    # Each pair counts in both orders, and rewards are hardly ever equal.
    assert judge["kappa"]["mean"] == pytest.approx(2 * report["accuracy"] - 1)
    note = next(note for note in result["notes"] if note.startswith("Judge:"))
    assert "60 of them without the beginning of the prompt" in note
    assert f"{100 * report['accuracy']:.1f} % of 9 held-out pairs" in note
    with pytest.raises(UserError, match="embedded world's prompts only"):
        run(
            "sft,dpo",
            f"data.tldr={folder}",
            "judge.kind=rules",
            experiment="winrate-summarization",
        )


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.tldr=missing.jsonl", "data.tldr: missing.jsonl does not exist"),
        ("data.prompts=missing.jsonl", "data.prompts: missing.jsonl does not exist"),
        ("data.sft=missing.jsonl", "data.sft: missing.jsonl does not exist"),
        ("data.tldr_rated=missing.jsonl", "data.tldr_rated: missing.jsonl does not exist"),
        ("data.tldr_rated=world", "are not mixed"),
        ("model.nli=missing.bin/x/y", "model.nli: missing.bin/x/y does not exist"),
        ("model.encoder=/", "model.encoder: / is not a model folder"),
        ("model.summarization=/", "model.summarization: / is not a model folder"),
        ("sampling.samples=1", "must be at least 2 for self-BLEU"),
        ("sampling.temperatures=0,0", "names a temperature twice"),
        ("sampling.temperatures=-1", "none below 0"),
        ("sampling.seed=3", "decided by each chain's seed"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(
    run: Any, recorder: Any, assignment: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run("sft,dpo", assignment)
    assert recorder.made_stages == []


def test_summaries_for_sft_are_refused_where_there_is_none(run: Any) -> None:
    with pytest.raises(UserError, match=r"data\.sft has no effect"):
        run("dpo", "data.sft=x/y", profile="paper")
