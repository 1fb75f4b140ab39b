"""The client of OpenAI-compatible endpoints, against a server that misbehaves."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sparsepo.errors import UserError
from tasks.models.endpoint import (
    Completion,
    EndpointClient,
    EndpointError,
    EndpointSettings,
    ReplyError,
)
from tests.endpoint_server import Body, Reply, chat_reply, completion_reply, endpoint

KEY = "sk-a-key-that-nobody-has"
ASKED = [{"role": "user", "content": "A or B?"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("SPARSEPO_ENDPOINT_KEY", KEY)


def client(url: str, **settings: Any) -> EndpointClient:
    return EndpointClient(EndpointSettings(url, **{"retries": 1, "timeout": 5.0, **settings}))


def in_turn(*replies: Reply) -> Callable[[str, Body], Reply]:
    """Give the replies one after another, and the last one for ever."""
    left = list(replies)
    return lambda path, body: left.pop(0) if len(left) > 1 else left[0]


def test_completions_have_all_settings_and_come_in_order() -> None:
    with endpoint(in_turn(completion_reply(" one", " two"))) as server:
        found = client(server.url).complete(
            "Say", max_tokens=4, temperature=0.5, top_p=0.9, stop=["\n"], seed=3, n=2
        )
    assert found == [Completion(" one", "stop", 7, 4), Completion(" two", "stop", 0, 0)]
    (request,) = server.requests
    assert request == (
        "/v1/completions",
        {
            "model": "judge",
            "prompt": "Say",
            "max_tokens": 4,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["\n"],
            "seed": 3,
            "n": 2,
        },
    )
    assert server.keys == [f"Bearer {KEY}"] * 2


def test_chat_leaves_out_what_is_not_given() -> None:
    with endpoint(in_turn(chat_reply("A"))) as server:
        (found,) = client(server.url).chat(ASKED, max_tokens=1, temperature=None, top_p=None)
    assert found == Completion("A", "stop", 11, 3)
    body = {"model": "judge", "messages": ASKED, "max_tokens": 1}
    assert server.requests == [("/v1/chat/completions", body)]


def test_the_newer_name_of_the_limit_is_used_where_the_model_asks_for_it() -> None:
    def answer(path: str, body: Body) -> Reply:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Reply({"error": {"message": message}}, status=400)
        return chat_reply("A")

    with endpoint(answer) as server:
        asking = client(server.url)
        assert [asking.chat(ASKED, max_tokens=9)[0].text for _ in range(2)] == ["A", "A"]
    assert ["max_completion_tokens" in body for _, body in server.requests] == [False, True, True]


@pytest.mark.parametrize(
    "trouble",
    [
        Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.01"}),
        Reply({"error": {"message": "oops"}}, 503, {"Retry-After": "0.01"}),
        Reply(raw=b'{"choices": [', status=200),
        Reply({"choices": []}),
        chat_reply(float("nan")),
        chat_reply(None),
    ],
    ids=["429", "503", "malformed", "no choices", "NaN", "null"],
)
def test_a_passing_trouble_costs_one_more_request(trouble: Reply) -> None:
    with endpoint(in_turn(trouble, chat_reply("A"))) as server:
        (found,) = client(server.url).chat(ASKED, max_tokens=1)
    assert found.text == "A"
    assert len(server.requests) == 2


def test_a_connection_that_ends_half_way_is_tried_again() -> None:
    broken = chat_reply("a long answer")
    broken.cut = True
    with endpoint(in_turn(broken, chat_reply("A"))) as server:
        assert client(server.url).chat(ASKED, max_tokens=1)[0].text == "A"
    assert len(server.requests) == 2


def test_the_time_that_retry_after_names_is_waited() -> None:
    busy = Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "1.2"})
    waited: list[float] = []
    with endpoint(in_turn(busy, chat_reply("A"))) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", waited.append)
        assert client(server.url).chat(ASKED, max_tokens=1)[0].text == "A"
    assert 1.2 in waited


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply({"error": {"message": f"bad key {KEY}"}}, 401), "refuses the key in SPARSEPO"),
        (
            Reply({"error": {"message": f"{KEY} is busy\n\nwait"}}, 429, {"Retry-After": "0.01"}),
            "asks to wait",
        ),
        (Reply({"error": {"message": "later"}}, 429, {"Retry-After": "9999"}), "run this again"),
        (Reply({"error": {"message": f"{KEY} broke"}}, 500, {"Retry-After": "0.01"}), "status 500"),
        (Reply({"error": {"message": "no model"}}, 404), "no such path or model"),
        (Reply({"error": {"message": f"too long {KEY}"}}, 400), "rejects a request"),
        (Reply(raw=b"<html>\n</html>"), "other than the JSON"),
        (Reply(raw=b'{"choices": [{"message": {"content": NaN}}]}'), "other than the JSON"),
        (Reply(silent=True), "was silent for 0.2 seconds"),
    ],
    ids=["key", "429", "long wait", "500", "404", "400", "html", "NaN", "silence"],
)
def test_each_lasting_trouble_is_one_line_without_the_key(
    reply: Reply, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with endpoint(in_turn(reply)) as server:
        asking = client(server.url, timeout=0.2)
        with pytest.raises(UserError) as raised:
            asking.chat(ASKED, max_tokens=1)
    message = str(raised.value)
    assert words in message and message.endswith(".")
    assert "\n" not in message
    assert KEY not in message and KEY not in caplog.text
    assert isinstance(raised.value, ReplyError) == ("rejects" in words or "JSON" in words)


def test_a_broken_connection_is_not_called_unreachable() -> None:
    broken = chat_reply("a long answer")
    broken.cut = True
    with endpoint(in_turn(broken)) as server:
        asking = client(server.url, retries=0)
        with pytest.raises(EndpointError, match="broke the connection"):
            asking.chat(ASKED, max_tokens=1)


def test_nothing_listens() -> None:
    with endpoint(in_turn(chat_reply("A"))) as server:
        pass
    with pytest.raises(EndpointError, match="cannot be reached"):
        client(server.url, retries=0)


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSEPO_ENDPOINT_KEY")
    with endpoint(in_turn(Reply({"error": {"message": "key?"}}, 401))) as server:
        asking = client(server.url)
        with pytest.raises(EndpointError, match="SPARSEPO_ENDPOINT_KEY or OPENAI_API_KEY"):
            asking.chat(ASKED, max_tokens=1)


def test_the_other_variable_is_the_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-second-choice")
    with endpoint(in_turn(chat_reply("A"))) as server:
        client(server.url)
        monkeypatch.delenv("SPARSEPO_ENDPOINT_KEY")
        client(server.url)
    assert server.keys == [f"Bearer {KEY}", "Bearer sk-second-choice"]


def test_a_key_that_is_echoed_is_not_kept() -> None:
    with endpoint(in_turn(chat_reply(f"your key is {KEY}"))) as server:
        assert client(server.url).chat(ASKED, max_tokens=9)[0].text == "your key is [key]"


def test_a_refusal_is_marked() -> None:
    with endpoint(in_turn(chat_reply(None, refusal="I cannot judge this."))) as server:
        (found,) = client(server.url).chat(ASKED, max_tokens=9)
    assert (found.text, found.finish_reason) == ("I cannot judge this.", "refusal")


@pytest.mark.parametrize(
    ("models", "wanted", "words"),
    [
        (["judge-7b"], "judge-7", "does not serve 'judge-7'. Did you mean 'judge-7b'?"),
        ([], None, "serves nothing"),
        (["a", "b"], None, "Name the model: "),
    ],
)
def test_the_served_model_is_checked(models: list[str], wanted: str | None, words: str) -> None:
    with endpoint(in_turn(chat_reply("A")), models) as server:
        with pytest.raises(EndpointError) as raised:
            client(server.url, model=wanted)
        assert words in str(raised.value)
        assert server.requests == []


def test_the_only_model_needs_no_name() -> None:
    with endpoint(in_turn(chat_reply("A")), ["the-one"]) as server:
        assert client(server.url).model == "the-one"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "localhost:8000"}, "is not the URL"),
        ({"url": "http://me:secret@localhost/v1"}, "leave keys and passwords out"),
        ({"url": "http://localhost/v1?key=secret"}, "leave keys and passwords out"),
        ({"url": "http://localhost/v1", "concurrency": 0}, "concurrency"),
        ({"url": "http://localhost/v1", "timeout": float("nan")}, "timeout"),
        ({"url": "http://localhost/v1", "requests_per_minute": 0.0}, "requests_per_minute"),
        ({"url": "http://localhost/v1", "retries": -1}, "retries"),
    ],
)
def test_unusable_settings_are_refused_before_a_request(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as raised:
        EndpointClient(EndpointSettings(**settings))
    assert "secret" not in str(raised.value)


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match="needs the package openai"):
        client("http://localhost/v1")


def test_no_more_requests_at_a_time_than_allowed() -> None:
    with endpoint(lambda path, body: completion_reply("x")) as server:
        asking = client(server.url, concurrency=3)
        running, most = 0, 0
        lock = threading.Lock()

        def call(prompt: str) -> str:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            text = asking.complete(prompt, max_tokens=1)[0].text
            with lock:
                running -= 1
            return text

        found = dict(asking.each(call, [str(number) for number in range(20)]))
    assert found == dict.fromkeys(range(20), "x")
    assert most == 3


def test_what_is_under_way_is_returned_before_an_error() -> None:
    def answer(path: str, body: Body) -> Reply:
        if body["prompt"] == "1":
            return Reply({"error": {"message": "no"}}, 401)
        return completion_reply(body["prompt"])

    found: dict[int, str] = {}
    with endpoint(answer) as server:
        asking = client(server.url, concurrency=4)
        replies = asking.each(
            lambda prompt: asking.complete(prompt, max_tokens=1)[0].text,
            [str(number) for number in range(1000)],
        )
        with pytest.raises(EndpointError, match="refuses the key"):
            found.update(replies)
        answered = {body["prompt"] for _, body in server.requests} - {"1"}
    assert {str(position) for position in found} == answered
    assert len(answered) < 1000


def test_requests_begin_no_faster_than_the_rate() -> None:
    waited: list[float] = []
    with endpoint(in_turn(chat_reply("A"))) as server:
        asking = client(server.url, requests_per_minute=60.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tasks.models.endpoint.time.sleep", waited.append)
            for _ in range(3):
                asking.chat(ASKED, max_tokens=1)
    assert len(waited) == 2
    assert 1.0 < waited[1] <= 2.0
