"""What a GGUF file's header says, and files that cannot be loaded: one plain sentence each."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sparsepo import UserError
from sparsepo.training import gguf
from sparsepo.training.gguf import check_memory, check_whole, read_header
from sparsepo.training.loading import load_policy
from tests.small_gguf import write_gguf
from tests.small_models import CONTEXT, small_model, small_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(file, small_model("llama"), small_tokenizer())
    return file


def test_the_header_says_what_the_model_is(whole: Path) -> None:
    header = check_whole(whole)
    config = small_model("llama").config
    assert header.architecture == "llama"
    assert header.of_model("block_count") == config.num_hidden_layers
    assert header.of_model("context_length") == CONTEXT
    assert header.of_model("nothing of this name") is None
    assert header.parameters == sum(w.numel() for w in small_model("llama").state_dict().values())
    assert header.lengths["tokenizer.ggml.tokens"] == len(small_tokenizer())
    assert header.tensors["token_embd.weight"] == (config.hidden_size, config.vocab_size)


def test_a_file_is_whole_to_its_last_byte(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    ends = gguf._needed_bytes(read_header(whole), whole)
    file = tmp_path / "part.gguf"
    file.write_bytes(content[:ends])
    check_whole(file)
    file.write_bytes(content[: ends - 1])
    with pytest.raises(UserError, match=r"^'\S+part\.gguf' is cut short; download or copy it aga"):
        check_whole(file)


@pytest.mark.parametrize("size", range(4, 2000, 97))
def test_a_header_that_ends_anywhere_is_cut_short(whole: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "part.gguf"
    file.write_bytes(whole.read_bytes()[:size])
    with pytest.raises(UserError, match="is cut short"):
        read_header(file)


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a wheel", b"<html>"])
def test_other_files_are_no_gguf_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "page.gguf"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"^'\S+page\.gguf' is not a GGUF file; download it again"):
        read_header(file)


@pytest.mark.parametrize("version", [1, 4, 3 << 24])
def test_other_versions_are_named(whole: Path, tmp_path: Path, version: int) -> None:
    file = tmp_path / "old.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<I", version) + whole.read_bytes()[8:])
    with pytest.raises(UserError, match=f"is a GGUF file of version {version}, or of a big-endian"):
        read_header(file)


def test_an_absurd_length_is_no_endless_loop(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[16:24] = struct.pack("<Q", 1 << 60)
    file = tmp_path / "odd.gguf"
    file.write_bytes(content)
    with pytest.raises(UserError, match="is cut short"):
        read_header(file)


def test_weights_of_a_type_from_the_future_are_named(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    place = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    assert struct.unpack_from("<I", content, place) == (0,)
    content[place : place + 4] = struct.pack("<I", 9_999)
    file = tmp_path / "new.gguf"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"does not know \(number 9999\); upgrade gguf"):
        check_whole(file)


def test_a_model_larger_than_memory_is_said_before_it_is_loaded(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = read_header(whole)
    needed = 3 * 4 * header.parameters
    monkeypatch.setattr(gguf, "available_bytes", lambda: needed)
    check_memory(whole, header)
    monkeypatch.setattr(gguf, "available_bytes", lambda: needed - 1)
    check_memory(whole, header, "bfloat16")
    with pytest.raises(
        UserError, match=r"^Loading '\S+' takes about 0\.0 GB of memory, and 0\.0 G"
    ):
        check_memory(whole, header)
    monkeypatch.setattr(
        "transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: pytest.fail("loaded")
    )
    with pytest.raises(UserError, match="choose a smaller model"):
        load_policy(str(whole))
    # Where memory is not known, nothing is refused.
    monkeypatch.setattr(gguf, "available_bytes", lambda: None)
    check_memory(whole, header)


def test_the_memory_of_this_machine_is_known_on_linux() -> None:
    free = gguf.available_bytes()
    assert free is None or 0 < free < 1 << 50


def test_an_architecture_that_transformers_cannot_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "odd.gguf"
    write_gguf(file, small_model("llama"), small_tokenizer(), "unheard-of")
    with pytest.raises(UserError) as refused:
        load_policy(str(file))
    assert str(refused.value).startswith(
        f"transformers cannot read the architecture 'unheard-of' of '{file}' from a GGUF file; give"
    )
    assert "\n" not in str(refused.value)
