"""The sentiment figures from nothing to their files, with models that learn next to nothing."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness.commands.draw import redraw
from harness.commands.run import run_experiment
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from sparsepo.errors import UserError
from tasks.sentiment.world import ReviewWorldConfig, review_rows, write_review
from tests.small_sentiment import SMALL


@pytest.fixture
def run(tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a figure; `recorder` then knows what was made."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    # Whoever commits while the test runs must not change what is compared.
    monkeypatch.setattr("harness.domains.common.provenance._git", lambda *arguments: "0" * 40)

    def run(figure: str, methods: str | None = None, *more: str, seeds: int = 1) -> dict[str, Any]:
        recorder.made_stages.clear()
        request = RunRequest(
            methods=tuple(methods.split(",")) if methods else None,
            seeds=seeds,
            assignments=(*SMALL, *more),
            workers=1,
            out=tmp_path / "out",
            store=tmp_path / "store",
        )
        return run_experiment(EXPERIMENTS[figure], request, recorder)

    return run


def test_the_figures_share_their_stages(run: Any, recorder: Any, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "tiny"
    figure = run("figure2", "sft,sparsepo-independent,simpo", seeds=2)
    assert json.loads((folder / "figure2" / "figure2.json").read_text()) == figure
    assert {path.name for path in (folder / "figure2").iterdir()} == {
        *(f"figure2.{kind}" for kind in ("json", "md", "csv", "tex", "png", "pdf")),
        "figure2.samples.jsonl.gz",
        "timings.json",
    }
    assert not any("cache" in name for name in recorder.made_stages)
    methods = {entry["method"]: entry for entry in figure["methods"]}
    sft = methods["sft"]["points"]
    assert len(sft) == 1
    for name, settings in (("sparsepo-independent", 2), ("simpo", 1)):
        points = methods[name]["points"]
        starts = [point for point in points if point["step"] == 0]
        assert len(starts) == settings
        assert {point["seeds"] for point in points} == {2}
        assert len({point["step"] for point in points}) >= 2
        for start in starts:
            # Every method begins with SFT's reward, at KL 0.
            assert start["reward"] == sft[0]["reward"]
            assert start["kl"]["mean"] == pytest.approx(0.0, abs=1e-3)
        assert any(abs(point["kl"]["mean"]) > 1e-3 for point in points if point["step"])
    assert figure["columns"] == ["reward_1", "reward_2", "reward_5", "reward_10", "hypervolume"]
    for row in figure["rows"]:
        for value in row["values"].values():
            low, high = value["ci95"]
            assert low <= value["mean"] <= high
            assert (value["n"], value["seeds"]) == (12, 2)

    # Another budget is computed from what there is, and drawing runs nothing.
    figure = run("figure2", "sft,sparsepo-independent,simpo", "evaluation.kl_budgets=3", seeds=2)
    assert recorder.made_stages == []
    assert figure["columns"] == ["reward_3", "hypervolume"]
    picture = folder / "figure2" / "figure2.png"
    before = picture.read_bytes()
    picture.unlink()
    redraw(folder / "figure2" / "figure2.json")
    assert picture.read_bytes() == before

    # The masks' dynamics need DPO's runs and the labels beside what there is.
    figure = run("figure3", seeds=2)
    made = recorder.made_stages
    assert not any(name.startswith("sparsepo-independent") for name in made)
    assert sum(name.startswith("dpo β") for name in made) == 4
    assert "tokens that decide seed 42" in made
    assert {panel["response"] for panel in figure["panels"]} == {"chosen"}
    assert [panel["quantity"] for panel in figure["panels"]] == [
        "sparsity/reward",
        "sparsity/kl",
        "kl",
    ]
    assert {series["beta"] for series in figure["panels"][0]["series"]} == {0.1, 1.0}
    assert {entry["score"] for entry in figure["ranking"]} == {
        "random",
        "expected",
        "log_ratios",
        "reward_mask",
        "kl_mask",
    }
    assert 0 < figure["deciding_tokens"] < figure["tokens"]

    # The same masks over the rejected responses need nothing more, and have no table.
    rejected = run("figure7", seeds=2)
    assert recorder.made_stages == []
    assert {panel["response"] for panel in rejected["panels"]} == {"rejected"}
    for own, other in zip(rejected["panels"], figure["panels"], strict=True):
        assert own["quantity"] == other["quantity"]
        assert own["series"] != other["series"]
    assert {path.name for path in (folder / "figure7").iterdir()} == {
        "figure7.json",
        "figure7.png",
        "figure7.pdf",
        "timings.json",
    }

    # So do the heat maps.
    figure = run("figure1")
    assert recorder.made_stages == ["token maps"]
    assert {path.suffix for path in (folder / "figure1").iterdir()} == {
        ".json",
        ".png",
        ".pdf",
        ".html",
        ".gz",
    }
    (model,) = figure["maps"]["models"]
    assert model["label"] == "DPO"
    figure = run("figure4", "sparsepo-independent,dpo")
    assert recorder.made_stages == ["token maps"]
    assert [model["method"] for model in figure["maps"]["models"]] == [
        "sparsepo-independent",
        "dpo",
    ]
    # Figure 9 shows the other response of the same pair, from the same maps.
    other = run("figure9", "sparsepo-independent,dpo")
    assert recorder.made_stages == []
    assert (figure["responses"], other["responses"]) == (["chosen"], ["rejected"])
    assert (figure["maps"], figure["pair_id"]) == (other["maps"], other["pair_id"])
    picture, rejected_picture = (folder / name / f"{name}.png" for name in ("figure4", "figure9"))
    assert picture.read_bytes() != rejected_picture.read_bytes()
    # The run whose maps these are began as the reference: nothing of the place it lies in is kept.
    assert str(tmp_path) not in (folder / "figure4" / "figure4.json").read_text()


def test_real_rows_in_place_of_the_worlds(run: Any, recorder: Any, tmp_path: Path) -> None:
    reviews = tmp_path / "movie_sentences.jsonl"
    with reviews.open("w") as file:
        for row in review_rows(ReviewWorldConfig(train_reviews=250), "train"):
            file.write(json.dumps({"text": row["text"].lower(), "label": row["label"]}) + "\n")
    small = ("base.context=64",)
    figure = run("figure2", "sft,dpo", f"data.reviews={reviews}", *small)
    assert "reviews" in recorder.made_stages
    data = figure["provenance"]["data"]
    assert data["train"]["rows"] == 32
    assert figure["provenance"]["settings"]["po"]["max_length"] == 64

    rng = Random(0)
    pairs = tmp_path / "imdb_po_pairs.jsonl"
    with pairs.open("w") as file:
        for index in range(120):
            texts = [write_review(ReviewWorldConfig(), rng).text for _ in range(2)]
            chosen, rejected = ({"text": t, "score": 2.0 - i} for i, t in enumerate(texts))
            row = {"prompt": f"review {index} .", "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(row) + "\n")
    figure = run("figure2", "sft,dpo", f"data.pairs={pairs}", *small)
    assert "samples" not in recorder.made_stages
    assert "reviews" not in recorder.made_stages
    assert "corpus" in recorder.made_stages
    assert figure["provenance"]["data"]["train"]["used"] == 32
    assert figure["rows"][0]["values"]["reward_1"]["n"] == 12


@pytest.mark.parametrize(
    ("figure", "methods", "change", "message"),
    [
        ("figure4", "dpo", "sweep.map_beta=3", "not among sweep.beta"),
        ("figure2", "dpo", "methods.dpo.beta=3", "set sweep.beta"),
        ("figure2", "dpo", "sweep.beta=1,1", "different values"),
        ("figure2", "dpo", "evaluation.steps=0", "at least 1"),
        ("figure2", "dpo", "data.test_prompts=1", "at least 2"),
        ("figure2", "dpo", "data.reviews=absent.jsonl", "does not exist"),
        ("figure2", "dpo", "data.pairs=absent.jsonl", "does not exist"),
        ("figure2", "dpo", "model.sentiment=absent.jsonl", "does not exist"),
        ("figure2", "dpo", "sampling.new_tokens=64", "leaves no room for a prompt"),
        ("figure4", "simpo", "data.test_pairs=6", "no token rewards to show"),
        ("figure3", "sft", "data.test_pairs=6", "has no masks to show"),
    ],
)
def test_mistakes_are_found_and_named(
    run: Any, figure: str, methods: str, change: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(figure, methods, change)
