from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparsepo.errors import DivergedError, UserError
from sparsepo.types import Message
from tasks.models.generation import generate_responses, sample_ids
from tasks.models.generation_settings import GenerationSettings, resolve_backend

PROMPTS: list[list[Message]] = [
    [{"role": "user", "content": "A dog?"}],
    [
        {"role": "user", "content": "A dog?"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Why do you bark at me?"},
    ],
    [{"role": "user", "content": "No"}],
]


def texts(*args: Any, **options: Any) -> list[str]:
    return generate_responses(*args, **options).texts


def test_sampling_depends_on_the_seed_alone(model_dir: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = texts(model_dir, PROMPTS, max_new_tokens=12, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert texts(model_dir, PROMPTS, max_new_tokens=12, seed=3) == first
    assert texts(model_dir, PROMPTS, max_new_tokens=12, seed=4) != first


def test_left_padding_changes_no_greedy_answer(model_dir: Path) -> None:
    together = texts(model_dir, PROMPTS, max_new_tokens=10, temperature=0)
    alone = [texts(model_dir, [prompt], max_new_tokens=10, temperature=0)[0] for prompt in PROMPTS]
    assert together == alone
    assert len(set(together)) > 1


def test_greedy_answer_continues_the_chat_template(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    text = tokenizer.apply_chat_template(PROMPTS[0], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text)["input_ids"]
    expected: list[int] = []
    while len(expected) < 6:
        with torch.no_grad():
            following = int(model(torch.tensor([ids + expected])).logits[0, -1].argmax())
        if following == tokenizer.eos_token_id:
            break
        expected.append(following)
    answer = texts(model_dir, PROMPTS[:1], max_new_tokens=6, temperature=0)[0]
    assert answer == tokenizer.decode(expected)


def test_progress_counts_batches_and_order_is_kept(model_dir: Path) -> None:
    seen: list[tuple[int, int]] = []
    answers = texts(
        model_dir,
        PROMPTS,
        max_new_tokens=4,
        temperature=0,
        settings=GenerationSettings(batch_size=2),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 3), (3, 3)]
    assert answers == texts(model_dir, PROMPTS, max_new_tokens=4, temperature=0)


def test_plain_text_is_continued_after_one_bos(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    ids = [tokenizer.bos_token_id, *tokenizer("A dog can")["input_ids"]]
    with torch.no_grad():
        best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
    (answer,) = texts(model_dir, ["A dog can"], max_new_tokens=1, temperature=0)
    assert answer == tokenizer.decode([best], skip_special_tokens=True)


def test_samples_of_a_prompt_stand_together(model_dir: Path) -> None:
    prompts = ["A dog", "Why?"]
    greedy = texts(model_dir, prompts, max_new_tokens=5, temperature=0)
    thrice = texts(model_dir, prompts, samples=3, max_new_tokens=5, temperature=0)
    assert thrice == [greedy[0]] * 3 + [greedy[1]] * 3
    seen: list[tuple[int, int]] = []
    texts(
        model_dir,
        prompts,
        samples=3,
        temperature=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 2)]  # the same response is found once
    sampled = texts(model_dir, prompts, samples=6, max_new_tokens=8)
    assert len(set(sampled[:6])) > 1


def test_a_response_ends_at_a_stop_text(model_dir: Path) -> None:
    (whole,) = texts(model_dir, ["A dog"], max_new_tokens=16, temperature=0)
    before, stop, after = whole.partition("bark")
    assert after
    (short,) = texts(model_dir, ["A dog"], max_new_tokens=16, temperature=0, stop=[stop, "never"])
    assert short == before + stop


def test_response_as_long_as_the_context_is_refused(model_dir: Path) -> None:
    with pytest.raises(UserError, match="context of 96"):
        texts(model_dir, PROMPTS, max_new_tokens=96)


def test_token_ids_end_with_their_eos_and_nothing_behind_it(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir).eval()
    eos = tokenizer.eos_token_id
    assert tokenizer.pad_token_id == eos
    prompts = [tokenizer("A dog")["input_ids"]] * 200
    sampled = sample_ids(model, prompts, tokenizer, max_new_tokens=30, batch_size=200, seed=5).ids
    ended = [ids for ids in sampled if eos in ids]
    assert 0 < len(ended) < len(sampled)
    assert all(ids.count(eos) == 1 and ids[-1] == eos for ids in ended)
    assert all(len(ids) == 30 for ids in sampled if eos not in ids)
    # The same draws, as text.
    texts = tokenizer.batch_decode(sampled, skip_special_tokens=True)
    assert all("endoftext" not in text for text in texts)


def test_arguments_of_the_template_reach_every_prompt(model_dir: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    template = str(tokenizer.chat_template)
    templates = {"asked": template + "{% if short %}bark{% endif %}", "always": template + "bark"}
    for name, text in templates.items():
        folder = tmp_path / name
        AutoModelForCausalLM.from_pretrained(model_dir).save_pretrained(folder)
        tokenizer.chat_template = text
        tokenizer.save_pretrained(folder)
    greedy = {"max_new_tokens": 8, "temperature": 0.0}
    asked = texts(tmp_path / "asked", PROMPTS, **greedy, chat_template_kwargs={"short": True})
    assert asked == texts(tmp_path / "always", PROMPTS, **greedy)
    assert asked != texts(tmp_path / "asked", PROMPTS, **greedy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.5}, "The temperature must be 0 or a positive number, not -0.5"),
        ({"temperature": float("nan")}, "The temperature must be"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"samples": 0}, "at least 1 sample of a prompt, not 0"),
        ({"stop": ["x", ""]}, "empty stop text"),
    ],
)
def test_settings_out_of_range(model_dir: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        texts(model_dir, PROMPTS, **options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "generation.batch_size must be at least 1"),
        ({"concurrency": -1}, "generation.concurrency must be at least 1"),
        ({"backend": "endpoint"}, "set generation.endpoint=URL"),
        ({"backend": "transformers", "endpoint": "http://x/v1"}, "generation.endpoint has no effe"),
        ({"model": "served"}, "generation.model has no effect"),
        ({"backend": "vllm"}, "pip install vllm"),
    ],
)
def test_backends_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_backend(GenerationSettings(**settings), "cpu")


def test_ids_have_to_be_as_many_as_prompts(model_dir: Path) -> None:
    with pytest.raises(ValueError, match="3 prompts have 1 ids"):
        texts(model_dir, PROMPTS, prompt_ids=["a"])


def test_long_prompts_and_unfinished_responses_are_counted(model_dir: Path) -> None:
    prompts = ["A dog can bark. " * 30, "Why?", "me " * 200]
    found = generate_responses(model_dir, prompts, samples=4, max_new_tokens=20, seed=1)
    assert found.truncated_prompts == 2
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    sampled = sample_ids(
        AutoModelForCausalLM.from_pretrained(model_dir).eval(),
        [tokenizer("A dog")["input_ids"]] * 200,
        tokenizer,
        max_new_tokens=30,
        seed=5,
    )
    assert sampled.unfinished == sum(tokenizer.eos_token_id not in ids for ids in sampled.ids)
    assert 0 < sampled.unfinished < 200
    # What is left of a long prompt is its end.
    room = 96 - 20
    ids = [tokenizer.bos_token_id, *tokenizer(prompts[0])["input_ids"]]
    (short,) = sample_ids(
        AutoModelForCausalLM.from_pretrained(model_dir).eval(),
        [[ids[0], *ids[1 - room :]]],
        tokenizer,
        max_new_tokens=20,
        temperature=0,
    ).ids
    greedy = texts(model_dir, prompts[:1], max_new_tokens=20, temperature=0)
    assert greedy == [tokenizer.decode(short, skip_special_tokens=True)]
    stopped = generate_responses(model_dir, ["A dog"], max_new_tokens=20, stop=["e", "a", " "])
    assert stopped.unfinished == 0


def test_a_model_of_nan_is_an_error(model_dir: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = torch.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(DivergedError, match="lower learning rate"):
            sample_ids(
                model,
                [[5, 6]],
                AutoTokenizer.from_pretrained(model_dir),
                max_new_tokens=3,
                temperature=temperature,
            )


def test_adapters_answer_as_they_do_in_their_model(model_dir: Path, tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir)
    torch.manual_seed(0)
    adapted: Any = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False))
    folder = tmp_path / "adapters"
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(folder)
    found = texts(folder, PROMPTS, max_new_tokens=12, temperature=0)
    whole = tmp_path / "whole"
    adapted.merge_and_unload().save_pretrained(whole)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(whole)
    assert found == texts(whole, PROMPTS, max_new_tokens=12, temperature=0)
    assert found != texts(model_dir, PROMPTS, max_new_tokens=12, temperature=0)
