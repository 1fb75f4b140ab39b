"""`python -m sparsepo inspect`: the command, and its page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparsepo import POConfig, POTrainer
from sparsepo.analysis.maps import SCHEMA, ModelMaps, PairMap, ResponseMap, token_maps
from sparsepo.analysis.page import render_page
from sparsepo.analysis.quantities import COLOURS, INK, QUANTITIES
from sparsepo.analysis.trained import load_trained
from sparsepo.cli import inspect as inspect_command
from sparsepo.cli.main import main
from tests.browser import Browser, require_browser
from tests.small_models import small_model, small_tokenizer, text_pairs

METHODS = ("dpo", "tdpo1", "sparsepo-common", "sparsepo-independent", "simpo")
HOSTILE = '</script><script>alert(1)</script><img src="http://example.org/x.png" onerror=alert(2)>'


def train(start: Path, output: Path, method: str) -> Path:
    config = POConfig(
        output_dir=str(output), method=method, max_steps=4, learning_rate=3e-3, use_cpu=True,
        per_device_train_batch_size=4, report_to="none", disable_tqdm=True, save_strategy="no",
        # So few steps leave each mask between its zeros and its largest values.
        method_args={"mask_learning_rate": "policy"} if method.startswith("sparsepo") else {},
    )  # fmt: skip
    trainer = POTrainer(str(start), args=config, train_dataset=text_pairs(16))
    trainer.train()
    trainer.save_model(str(output))
    return output


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "start"
    small_model("gpt2").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(start: Path) -> dict[str, Path]:
    return {name: train(start, start.parent / name, name) for name in METHODS}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in text_pairs(6)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(*arguments: object) -> int:
    return main(["inspect", *map(str, arguments)])


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="maps">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, captured.err
    assert "Traceback" not in captured.err + captured.out
    assert errors[0].endswith((".", ").")), errors[0]
    return errors[0]


# What it writes


def test_the_page_holds_the_maps_of_every_model(
    models: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "heatmap.html"
    chosen = ["dpo", "sparsepo-independent"]
    flags = [word for name in chosen for word in ("--model", models[name])]
    assert run(*flags, "--data", data, "--pairs", 4, "--out", out) == 0
    written = data_of(out.read_text())
    assert written["document"]["schema"] == SCHEMA
    assert [model["method"] for model in written["document"]["models"]] == chosen
    assert [q["field"] for q in written["quantities"]] == [q.field for q in QUANTITIES]
    expected = token_maps(load_trained(models["dpo"]), text_pairs(4)).maps
    pairs = written["document"]["models"][0]["pairs"]
    assert [pair["pair_id"] for pair in pairs] == [f"pairs:{i}" for i in range(4)]
    for pair, own in zip(pairs, expected.pairs, strict=True):
        assert pair["chosen"]["tokens"] == list(own.chosen.tokens)
        assert pair["chosen"]["rewards"] == pytest.approx(own.chosen.rewards, rel=1e-5)
    assert names(out.parent) == ["heatmap.html"]
    assert f"Saved to {out}" in capsys.readouterr().err
    assert out.stat().st_mode & 0o777 == data.stat().st_mode & 0o777


def test_a_pair_that_is_typed(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "one.json"
    typed = ("--prompt", "the cat", "--chosen", " sat on it", "--rejected", " was lost")
    assert run("--model", models["dpo"], *typed, "--out", out) == 0
    plain = json.loads(out.read_text())["models"][0]["pairs"][0]
    assert plain["chosen"]["text"] == " sat on it<|endoftext|>"
    assert run("--model", models["dpo"], *typed, "--chat", "--out", out) == 0
    chat = json.loads(out.read_text())["models"][0]["pairs"][0]
    assert chat["prompt"].endswith("<|assistant|>\n") and "<|user|>\nthe cat" in chat["prompt"]


def test_models_of_one_method_are_told_apart(models: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(models["dpo"], tmp_path / "other")
    out = tmp_path / "maps.json"
    typed = ("--prompt", "the", "--chosen", " cat", "--rejected", " dog")
    assert run("--model", models["dpo"], "--model", other, *typed, "--out", out) == 0
    labels = [model["label"] for model in json.loads(out.read_text())["models"]]
    assert labels == [f"DPO, {models['dpo']}", f"DPO, {other}"]


def test_a_model_trained_elsewhere(
    models: dict[str, Path], start: Path, data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(models["dpo"], tmp_path / "elsewhere")
    (folder / "method.json").unlink()
    out = tmp_path / "maps.json"
    words = ("--model", folder, "--data", data, "--out", out, "--reference", start)
    assert run(*words, "--method", "dpo", "--set", "beta=0.5") == 0
    model = json.loads(out.read_text())["models"][0]
    own = token_maps(load_trained(models["dpo"]), text_pairs(1)).maps.pairs[0]
    assert model["beta"] == 0.5
    found = model["pairs"][0]["chosen"]["rewards"]
    assert found == pytest.approx([5 * value for value in own.chosen.rewards or ()])


def test_a_failure_leaves_what_was_there(
    models: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page" / "heatmap.html"
    out.parent.mkdir()
    out.write_text("before")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    assert run("--model", models["dpo"], "--data", data, "--out", out) == 2
    assert out.read_text() == "before"
    assert names(out.parent) == ["heatmap.html"]


def test_ctrl_c_says_that_nothing_was_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect_command, "inspect", interrupted)
    assert run("--model", "x", "--data", "y", "--out", tmp_path / "z.html") == 130
    assert "nothing was written" in capsys.readouterr().err


# What a user can fix

TYPED = ["--prompt", "the", "--chosen", " cat", "--rejected", " dog"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["--data", "--prompt, --chosen and --rejected"]),
        (TYPED[:4], ["Give --rejected"]),
        ([*TYPED, "--data", "x.jsonl"], ["--prompt is only for a pair without --data"]),
        (["--data", "x.jsonl", "--chat"], ["--chat is only for a pair without --data"]),
        ([*TYPED[:2], "--chosen", " \n", *TYPED[4:]], ["--chosen is empty"]),
        ([*TYPED[:4], "--rejected", " cat"], ["are the same"]),
        ([*TYPED, "--pairs", "0"], ["--pairs must be at least 1"]),
        ([*TYPED, "--pairs", "many"], ["invalid int value"]),
        (["--data", "missing.jsonl"], ["missing.jsonl"]),
        ([*TYPED, "--set", "max_length"], ["--set takes key=value"]),
        ([*TYPED, "--set", "max_lenght=5"], ["Did you mean 'max_length'?"]),
        ([*TYPED, "--set", "beta=0.5"], ["Unknown option 'beta'", "taken from training"]),
        ([*TYPED, "--set", "max_length=0"], ["max_length must be a whole number of at least 1"]),
        ([*TYPED, "--set", "max_prompt_length=null", "--set", "use_cpu=2"], ["true or false"]),
        ([*TYPED, "--set", "attention=fast"], ["attention must be one of auto, eager"]),
        ([*TYPED, "--set", "load_in_4bit=true", "--set", "load_in_8bit=true"], ["exclude"]),
        ([*TYPED, "--method", "dpo"], ["already records the method", "leave out --method"]),
        ([*TYPED, "--method", "dop"], ["Unknown method 'dop'"]),
        ([*TYPED, "--reference", "nowhere/at-all"], ["'nowhere/at-all'"]),
        (
            [*TYPED[:2], "--chosen", " good" * 200, *TYPED[4:]],
            ["No pair is left", "longer than the context"],
        ),
    ],
)
def test_mistakes_are_one_plain_line(
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    parts: list[str],
) -> None:
    out = tmp_path / "heatmap.html"
    assert run("--model", models["dpo"], *words, "--out", out) == 2
    error = error_of(capsys)
    for part in parts:
        assert part in error
    assert not names(tmp_path)


def test_masks_are_written_for_another_training_run(
    start: Path, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    masks, output = tmp_path / "masks.jsonl", tmp_path / "model"
    model = models["sparsepo-independent"]
    assert run("--model", model, "--data", data, "--out", masks) == 0
    maps = tmp_path / "maps.json"
    assert run("--model", model, "--data", data, "--out", maps) == 0
    rows = list(map(json.loads, masks.read_text().splitlines()))
    pairs = json.loads(maps.read_text())["models"][0]["pairs"]
    assert len(rows) == len(pairs) == 6
    for row, pair in zip(rows, pairs, strict=True):
        assert row["pair_id"] == pair["pair_id"]
        for name in ("reward_mask", "kl_mask"):
            assert row[name] == {side: pair[side][name] for side in ("chosen", "rejected")}
    words = ["--model", start, "--data", data, "--output", output, "--method"]
    settings = ["mask_kind=given", f"token_masks={masks}", "max_steps=1", "use_cpu=true"]
    command = [*words, "sparsepo-independent", "--set", *settings]
    assert main(["train", *map(str, command)]) == 0
    assert json.loads((output / "method.json").read_text())["hyper_parameters"]["mask_kind"] == (
        "given"
    )


def test_masks_are_one_models_own(
    models: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "masks.jsonl"
    two = ("--model", models["sparsepo-common"], "--model", models["dpo"])
    assert run(*two, "--data", data, "--out", out) == 2
    assert "holds the masks of one model; give --model once" in error_of(capsys)
    assert run("--model", models["dpo"], "--data", data, "--out", out) == 2
    assert "has no masks; give a model that a masked method trained" in error_of(capsys)
    assert not out.exists()


def test_where_nothing_can_be_written(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", models["dpo"], *TYPED, "--out")
    assert run(*words, tmp_path / "page.pdf") == 2
    assert "must end in .html" in error_of(capsys)
    (tmp_path / "folder.html").mkdir()
    assert run(*words, tmp_path / "folder.html") == 2
    assert "is a folder" in error_of(capsys)
    (tmp_path / "file").write_text("")
    assert run(*words, tmp_path / "file" / "page.html") == 2
    assert "Nothing can be written" in error_of(capsys)


def test_folders_that_training_did_not_write(
    start: Path, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert run("--model", start, *TYPED, "--out", out) == 2
    assert "contains no method.json" in error_of(capsys)
    assert run("--model", start, "--method", "dpo", *TYPED, "--out", out) == 2
    assert "--reference" in error_of(capsys)
    broken = shutil.copytree(models["sparsepo-common"], tmp_path / "broken")
    (broken / "masks.safetensors").unlink()
    assert run("--model", broken, *TYPED, "--out", out) == 2
    assert "masks.safetensors" in error_of(capsys)
    assert not out.exists()


# The page


def with_text(maps: ModelMaps, text: str) -> ModelMaps:
    """Return maps whose texts all hold some text."""

    def response(given: ResponseMap) -> ResponseMap:
        tokens = (text, "\n", "", *given.tokens[3:])
        return replace(given, tokens=tokens, text="".join(tokens))

    def pair(given: PairMap) -> PairMap:
        return replace(
            given,
            pair_id=given.pair_id + text,
            prompt=text,
            chosen=response(given.chosen),
            rejected=response(given.rejected),
        )

    return replace(
        maps, label=text, model=text, reference=text, pairs=tuple(pair(p) for p in maps.pairs)
    )


@pytest.fixture(scope="module")
def maps(models: dict[str, Path]) -> list[ModelMaps]:
    pairs = [pair for pair in text_pairs(8) if len(pair.rejected) > 12][:4]
    return [token_maps(load_trained(models[name]), pairs).maps for name in METHODS]


def test_text_stays_text_in_the_source(maps: list[ModelMaps]) -> None:
    page = render_page([with_text(maps[0], HOSTILE)], title=HOSTILE)
    assert HOSTILE not in page and "<img" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert data_of(page)["document"]["models"][0]["pairs"][0]["prompt"] == HOSTILE


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_dark_text_is_readable_on_every_colour() -> None:
    """WCAG 2.1 asks for a contrast of 7 for its highest level; https://www.w3.org/TR/WCAG21/."""
    for colour in COLOURS.values():
        assert (luminance(colour) + 0.05) / (luminance(INK) + 0.05) >= 7


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(require_browser(), tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture
def opened(browser: Browser, maps: list[ModelMaps], tmp_path: Path) -> Browser:
    file = tmp_path / "heatmap.html"
    file.write_text(render_page(maps))
    browser.open(file)
    return browser


def shown(browser: Browser, panel: int, side: str) -> list[str]:
    """Return the texts of a panel's tokens that have an extent on the page."""
    texts: list[str] = browser.value(
        f"[...document.querySelectorAll('.panel')[{panel}]"
        f".querySelectorAll('[aria-label^={side}] .token')]"
        ".filter(t => t.getClientRects().length && t.getClientRects()[0].width > 0)"
        ".map(t => t.textContent)"
    )
    return texts


def tooltip(browser: Browser) -> dict[str, str]:
    rows: list[tuple[str, str]] = browser.value(
        "document.getElementById('tooltip').hidden ? [] : [...document.querySelectorAll("
        "'#tooltip tr')].map(row => [...row.children].map(cell => cell.innerText))"
    )
    return dict(rows)


def select(browser: Browser, control: str, index: int) -> None:
    browser.value(
        f"{{ const s = document.getElementById('{control}'); s.selectedIndex = {index};"
        " s.dispatchEvent(new Event('change')); }"
    )


def rgb(name: str) -> tuple[int, ...]:
    return tuple(int(COLOURS[name][i : i + 2], 16) for i in (1, 3, 5))


def colours_of(browser: Browser, panel: int, side: str) -> list[list[int]]:
    found: list[str] = browser.value(
        f"[...document.querySelectorAll('.panel')[{panel}]"
        f".querySelectorAll('[aria-label^={side}] .token')].map(t => t.style.background)"
    )
    return [[int(part) for part in re.findall(r"\d+", colour)] for colour in found]


def close_to(text: str, value: float) -> bool:
    # The page shows small values with three digits.
    return float(text.replace("−", "-")) == pytest.approx(value, rel=5e-3, abs=1e-9)


def test_every_token_of_every_method_is_seen(opened: Browser, maps: list[ModelMaps]) -> None:
    for number, pair_map in enumerate(maps[0].pairs):
        select(opened, "pair", number)
        assert opened.value("document.getElementById('prompt').textContent") == pair_map.prompt
        for panel, model in enumerate(maps):
            pair = model.pairs[number]
            assert shown(opened, panel, "chosen") == list(pair.chosen.tokens)
            assert shown(opened, panel, "rejected") == list(pair.rejected.tokens)
    assert not opened.errors


@pytest.mark.parametrize("panel", range(len(METHODS)))
def test_pointing_at_a_token_shows_its_numbers(
    opened: Browser, maps: list[ModelMaps], panel: int
) -> None:
    response = maps[panel].pairs[0].rejected
    token = f".panel:nth-child({panel + 1}) [aria-label^=rejected] .token:nth-child(2)"
    assert tooltip(opened) == {}
    opened.point_at(token)
    opened.until("!document.getElementById('tooltip').hidden")
    found = tooltip(opened)
    name = opened.value("document.querySelector('#tooltip .name').textContent")
    assert response.tokens[1] in name and str(response.token_ids[1]) in name
    for label, values in {
        "log π": response.policy_logps,
        "log π_ref": response.ref_logps,
        "log-ratio r": response.log_ratios,
        "KL k": response.kl,
        "mask m_u": response.reward_mask,
        "mask m_d": response.kl_mask,
        "reward β·m_u·r": response.masked_rewards,
        "KL β·m_d·k": response.masked_kl,
        "contribution": response.contributions,
    }.items():
        if values is None:
            assert found[label] == "none"
        else:
            assert close_to(found[label], values[1]), (label, found[label], values[1])
    box = opened.value(
        "(r => [r.left, r.top, innerWidth - r.right, innerHeight - r.bottom])"
        "(document.getElementById('tooltip').getBoundingClientRect())"
    )
    assert min(box) >= 0
    # The same token is framed under the other methods.
    assert opened.value("document.querySelectorAll('.token.same').length") == len(METHODS) - 1
    opened.point_at("h1")
    opened.until("document.getElementById('tooltip').hidden")


def test_the_keyboard_reaches_tokens(opened: Browser, maps: list[ModelMaps]) -> None:
    opened.value("document.querySelector('[aria-label^=chosen] .token').focus()")
    response = maps[0].pairs[0].chosen
    for place in (0, 1, 2):
        assert close_to(tooltip(opened)["log π"], response.policy_logps[place])
        opened.press("ArrowRight")
    opened.press("End")
    assert close_to(tooltip(opened)["log π"], response.policy_logps[-1])
    opened.press("Escape")
    assert tooltip(opened) == {}


def test_colours_follow_the_quantity(opened: Browser, maps: list[ModelMaps]) -> None:
    panel = METHODS.index("sparsepo-independent")
    pair = maps[panel].pairs[0]
    opened.value("document.getElementById('shared').click()")
    seen = set()
    for index, quantity in enumerate(QUANTITIES):
        select(opened, "quantity", index)
        colours = colours_of(opened, panel, "chosen") + colours_of(opened, panel, "rejected")
        values = [*getattr(pair.chosen, quantity.field), *getattr(pair.rejected, quantity.field)]
        seen.add(str(colours))
        largest = max(map(abs, values))
        for value, colour in zip(values, colours, strict=True):
            ends = ("positive" if value > 0 else "negative") if quantity.signed else "high"
            share = abs(value) / largest
            for found, zero, end in zip(colour, rgb("zero"), rgb(ends), strict=True):
                assert found == pytest.approx(zero + share * (end - zero), abs=1)
    # The log-ratio and the KL have the same colours with and without the factor β.
    assert len(seen) == len(QUANTITIES) - 2
    off = opened.value(
        f"document.querySelectorAll('.panel')[{panel}].querySelectorAll('.token.off').length"
    )
    masks = (*(pair.chosen.kl_mask or ()), *(pair.rejected.kl_mask or ()))
    assert off == sum(value == 0 for value in masks) > 0


def test_one_scale_for_all_methods_compares_them(opened: Browser, maps: list[ModelMaps]) -> None:
    select(opened, "quantity", [quantity.field for quantity in QUANTITIES].index("masked_rewards"))
    largest = [
        max(abs(v) for r in (m.pairs[0].chosen, m.pairs[0].rejected) for v in r.masked_rewards)
        if m.pairs[0].chosen.masked_rewards
        else None
        for m in maps
    ]
    ends = "[...document.querySelectorAll('.scale')].map(s => s.lastChild.textContent)"
    known = [size for size in largest if size is not None]
    assert [float(end) for end in opened.value(ends)] == pytest.approx(
        [max(known)] * len(known), rel=1e-3
    )
    opened.value("document.getElementById('shared').click()")
    assert [float(end) for end in opened.value(ends)] == pytest.approx(known, rel=1e-3)
    assert "no token reward" in opened.value("document.querySelector('.note').textContent")


def test_pairs_are_chosen_by_buttons_too(opened: Browser, maps: list[ModelMaps]) -> None:
    assert opened.value("document.getElementById('previous').disabled")
    for pair in maps[0].pairs[1:]:
        opened.value("document.getElementById('next').click()")
        assert shown(opened, 0, "chosen") == list(pair.chosen.tokens)
    assert opened.value("document.getElementById('next').disabled")


def test_no_request_leaves_the_page(opened: Browser) -> None:
    opened.point_at(".token")
    select(opened, "pair", 1)
    assert len(opened.requests) == 1 and opened.requests[0].startswith("file://")
    # Even what its own code does not ask for is refused by the page's policy.
    opened.value(
        "{ window.refused = [];"
        " const note = event => refused.push(event.effectiveDirective);"
        " document.addEventListener('securitypolicyviolation', note);"
        " new Image().src = 'http://127.0.0.1:9/image';"
        " fetch('http://127.0.0.1:9/fetch').catch(() => 0);"
        " const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        " document.body.append(s); }"
    )
    opened.until("refused.length === 3")
    assert sorted(opened.value("refused")) == ["connect-src", "img-src", "script-src-elem"]
    assert opened.value("window.ran") is None


def test_hostile_text_does_nothing_but_stand_there(
    browser: Browser, maps: list[ModelMaps], tmp_path: Path
) -> None:
    file = tmp_path / "heatmap.html"
    file.write_text(render_page([with_text(model, HOSTILE) for model in maps], title=HOSTILE))
    browser.open(file)
    tokens = shown(browser, 0, "chosen")
    assert tokens[:3] == [HOSTILE, "⏎\n", "▯"]
    browser.point_at(".token")
    assert HOSTILE in browser.value("document.querySelector('#tooltip .name').textContent")
    assert browser.value("document.querySelector('h1').textContent") == HOSTILE
    assert browser.value("document.images.length") == 0
    assert len(browser.requests) == 1 and not browser.errors
    # A word of any length is broken rather than clipped.
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.value(wide) <= 0


@pytest.mark.parametrize("width", [360, 800, 1400, 2400])
def test_nothing_is_clipped_at_any_width(
    browser: Browser, maps: list[ModelMaps], tmp_path: Path, width: int
) -> None:
    file = tmp_path / "heatmap.html"
    file.write_text(render_page(maps))
    browser.open(file, width=width)
    outside = (
        "[...document.querySelectorAll('.token, h1, h2, h3, .facts, select, .scale > *')].filter("
        "e => [...e.getClientRects()].some(r => r.left < 0 || r.right > innerWidth)).length"
    )
    assert browser.value(outside) == 0
    overlapping = (
        "(p => p.some((a, i) => p.slice(i + 1).some(b => a.left < b.right && b.left < a.right"
        " && a.top < b.bottom && b.top < a.bottom)))"
        "([...document.querySelectorAll('.panel')].map(e => e.getBoundingClientRect()))"
    )
    assert browser.value(overlapping) is False


def test_a_pair_that_one_model_left_out(
    browser: Browser, maps: list[ModelMaps], tmp_path: Path
) -> None:
    short = replace(maps[1], pairs=maps[1].pairs[1:], skipped={"a reason": 1})
    file = tmp_path / "heatmap.html"
    file.write_text(render_page([maps[0], short]))
    browser.open(file)
    assert shown(browser, 1, "chosen") == []
    note = browser.value("document.querySelectorAll('.panel')[1].innerText")
    assert "left out" in note and "1 a reason" in note
    select(browser, "pair", 1)
    assert shown(browser, 1, "chosen") == list(maps[1].pairs[1].chosen.tokens)
