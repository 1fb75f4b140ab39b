"""The parser and the settings that all command lines share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import cli as harness_cli
from sparsepo.cli import main as sparsepo_cli
from sparsepo.cli.options import key_values, split_assignment
from sparsepo.errors import UserError

TRAIN = ["train", "--model", "m", "--data", "d", "--method", "dpo", "--output", "o"]
INSPECT = ["inspect", "--model", "m", "--out", "o"]
RUN = ["run", "--table", "1"]


@pytest.mark.parametrize(
    ("parser", "command", "name"),
    [
        (sparsepo_cli.build_parser(), TRAIN, "settings"),
        (sparsepo_cli.build_parser(), INSPECT, "settings"),
        (harness_cli.build_parser(), RUN, "set"),
    ],
    ids=["train", "inspect", "run"],
)
def test_set_takes_one_item_or_several_and_may_be_repeated(
    parser: object, command: list[str], name: str
) -> None:
    items = ["--set", "a=1", "b=2", "--set", "c=x y"]
    options = parser.parse_args([*command, *items])  # type: ignore[attr-defined]
    assert getattr(options, name) == ["a=1", "b=2", "c=x y"]
    # What is before the command's other options is not swallowed by it.
    options = parser.parse_args([command[0], *items, *command[1:]])  # type: ignore[attr-defined]
    assert getattr(options, name) == ["a=1", "b=2", "c=x y"]


@pytest.mark.parametrize("main", [sparsepo_cli.main, harness_cli.main], ids=["sparsepo", "harness"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("tran", "Error: Unknown command 'tran'. "),
        ("{command} --pluginn x", "Error: Unknown option --pluginn. Did you mean '--plugin'? See "),
        # An option is not guessed from its beginning.
        ("{command} --plug=x", "Error: Unknown option --plug=x. Did you mean '--plugin'? See "),
        ("{command} --plugin", "Error: Argument --plugin: expected one argument; see "),
        ("{command} --set", "Error: Argument --set: expected at least one argument; see "),
    ],
)
def test_a_mistake_is_one_sentence_in_one_form(
    main: object, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = " ".join(TRAIN if main is sparsepo_cli.main else RUN)
    assert main(arguments.format(command=command).split()) == 2  # type: ignore[operator]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(message)
    assert shown.err.endswith(".\n")
    assert shown.err.count("\n") == 1


@given(st.from_regex(r"[a-z_.]+", fullmatch=True), st.text())
def test_the_first_equals_sign_parts_key_and_value(key: str, value: str) -> None:
    assert split_assignment(f" {key} ={value}", "a=1") == (key, value.strip())


@pytest.mark.parametrize("item", ["beta", "=1", " =1", ""])
def test_an_item_without_key_or_equals_sign_is_refused(item: str) -> None:
    with pytest.raises(
        UserError, match=r"^--set takes key=value, not .*; write --set beta=1, for example"
    ):
        key_values([item], "beta=1")


def test_values_are_json_where_they_can_be() -> None:
    items = ["a=1", "b=true", "c=null", 'd="1"', "e=x=y", "f=[1, 2]", "a=2"]
    expected = {"a": 2, "b": True, "c": None, "d": "1", "e": "x=y", "f": [1, 2]}
    assert key_values(items, "a=1") == expected
