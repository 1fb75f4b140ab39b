"""A client for any OpenAI-compatible endpoint: vLLM, llama.cpp, TGI, transformers serve, OpenAI.

The key comes from the environment, SPARSEPO_ENDPOINT_KEY or else OPENAI_API_KEY. It is sent to the
endpoint and appears nowhere else: not in files, errors or replies.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sparsepo.errors import UserError, did_you_mean

KEY_VARIABLES = ("SPARSEPO_ENDPOINT_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key; the first that is set is used."""

Item = TypeVar("Item")
Result = TypeVar("Result")

_MALFORMED_TRIES = 2
"""How often a request is sent whose reply is not the JSON that was asked for."""
_NEWER_LIMIT = "max_completion_tokens"
_DETAIL = 200
"""Longest part of an endpoint's own message in an error, in characters."""


class EndpointError(UserError):
    """The endpoint cannot be used: no further request would succeed."""


class ReplyError(EndpointError):
    """The endpoint works, but has no usable reply to this one request."""


@dataclass(frozen=True)
class EndpointSettings:
    """Where requests go, and how fast."""

    url: str
    """Base URL, such as http://localhost:8000/v1."""
    model: str | None = None
    """The served model's name; None takes the only one that is served."""
    concurrency: int = 8
    """Most requests at the same time."""
    requests_per_minute: float | None = None
    """Most requests begun per minute; None sets no limit."""
    timeout: float = 120.0
    """Seconds of silence after which a request has failed."""
    retries: int = 6
    """How often a request is repeated after 408, 409, 429, 5xx, silence or a broken connection.

    It waits as long as Retry-After says, up to two minutes, or else 0.5, 1, 2, 4, 8, 8 … seconds.
    """


@dataclass(frozen=True)
class Completion:
    """One reply of the model."""

    text: str
    finish_reason: str
    """"stop", "length" or what else the endpoint says; "refusal" for a refusal marked as such."""
    prompt_tokens: int
    """As the endpoint counts them, 0 if it does not; of n samples, all but the first have 0."""
    completion_tokens: int
    """As the endpoint counts them, of all n samples in the first; 0 in the others."""


class EndpointClient:
    """Sends requests; may be shared by threads.

    Raises:
        EndpointError: openai is not installed, the URL is unusable, a setting is out of range, the
            endpoint cannot be reached or refuses the key, or does not serve the model.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        _check(settings)
        self._openai = _import_openai()
        self._where = settings.url
        self._timeout = settings.timeout
        self.settings = settings
        self._key, self._variable = _key_from_environment()
        local = _is_loopback(settings.url)
        self._client = self._openai.OpenAI(
            # The package insists on a key; servers without keys ignore it.
            api_key=self._key or "none",
            base_url=settings.url,
            timeout=settings.timeout,
            max_retries=settings.retries,
            # A proxy cannot reach this machine's own servers.
            http_client=self._openai.DefaultHttpxClient(trust_env=not local),
        )
        self._slots = threading.BoundedSemaphore(settings.concurrency)
        self._pace = _Pace(settings.requests_per_minute)
        self._chat_limit = "max_tokens"
        self.model = self._served_model(settings.model)
        """The served model's name."""

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float | None = 1.0,
        top_p: float | None = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
        n: int = 1,
        extra: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Continue a text (/completions).

        Args:
            prompt: the text.
            max_tokens: longest continuation, in tokens.
            temperature: 0 decodes greedily; None leaves it to the endpoint.
            top_p: nucleus sampling's share of probability, in (0, 1]; None as above.
            stop: texts that end a continuation; endpoints leave the one that ended it out.
            seed: for sampling, where the endpoint honours it.
            n: number of samples.
            extra: fields of the request beyond those that all endpoints know.

        Returns:
            The n samples, in the endpoint's order.

        Raises:
            ReplyError: the endpoint rejects this request, or its reply is not what was asked for.
            EndpointError: the endpoint refuses the key, or fails again and again.
        """
        body = _body(temperature, top_p, stop, seed, n) | {"max_tokens": max_tokens}
        create = self._client.completions.with_raw_response.create
        return self._send(
            lambda: create(
                model=self.model, prompt=prompt, extra_body=dict(extra or {}) or None, **body
            ),
            n,
            _completion_text,
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        temperature: float | None = 1.0,
        top_p: float | None = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
        n: int = 1,
    ) -> list[Completion]:
        """Answer chat messages (/chat/completions); see `complete`.

        Args:
            messages: `role` and `content` each, the last one a user's.
        """
        create: Any = self._client.chat.completions.with_raw_response.create
        body = _body(temperature, top_p, stop, seed, n)
        body |= {"model": self.model, "messages": [dict(message) for message in messages]}

        def send() -> Any:
            try:
                return create(**body, **{self._chat_limit: max_tokens})
            except self._openai.BadRequestError as error:
                # OpenAI's reasoning models know the limit by its newer name alone.
                if _NEWER_LIMIT not in str(error) or self._chat_limit == _NEWER_LIMIT:
                    raise
                self._chat_limit = _NEWER_LIMIT
                return create(**body, **{self._chat_limit: max_tokens})

        return self._send(send, n, _message_text)

    def each(
        self, call: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """Apply a function that sends requests to all items, several at a time.

        Args:
            call: sends the requests of one item.
            items: its arguments.

        Returns:
            An iterator over (position of the item, result) in the order in which they finish. After
            an error, what is under way is finished and returned before the error is raised, because
            it has been paid for.
        """
        failed: BaseException | None = None
        pending: dict[Future[Result], int] = {}
        positions = iter(range(len(items)))
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            while True:
                while failed is None and len(pending) < self.settings.concurrency:
                    position = next(positions, None)
                    if position is None:
                        break
                    pending[pool.submit(call, items[position])] = position
                if not pending:
                    break
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=pending.__getitem__):
                    position = pending.pop(future)
                    error = future.exception()
                    if error is None:
                        yield position, future.result()
                    else:
                        failed = failed or error
        if failed is not None:
            raise failed

    def _send(
        self, create: Callable[[], Any], n: int, text_of: Callable[[Any], tuple[str, str]]
    ) -> list[Completion]:
        for attempt in range(1, _MALFORMED_TRIES + 1):
            with self._slots:
                self._pace.wait()
                try:
                    reply = create().http_response.text
                except self._openai.OpenAIError as error:
                    raise self._explained(error) from None
            try:
                return self._read(reply, n, text_of)
            except (ValueError, TypeError, LookupError, AttributeError):
                if attempt == _MALFORMED_TRIES:
                    break
        raise ReplyError(
            f"The endpoint {self._where} answered something other than the JSON of its interface, "
            f"{_MALFORMED_TRIES} times; check what is served there."
        )

    def _read(
        self, reply: str, n: int, text_of: Callable[[Any], tuple[str, str]]
    ) -> list[Completion]:
        content = json.loads(reply, parse_constant=_refuse)
        choices = content["choices"]
        if len(choices) != n:
            raise ValueError("not as many samples as were asked for")
        usage = content.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        completions = []
        for choice in sorted(choices, key=lambda choice: int(choice.get("index") or 0)):
            text, reason = text_of(choice)
            completions.append(Completion(self._without_key(text), reason, *counts))
            counts = [0, 0]
        return completions

    def _served_model(self, wanted: str | None) -> str:
        """Return the name to ask for, which the endpoint has confirmed if it lists its models.

        Raises:
            EndpointError: it serves no such model, or several and none is wanted.
        """
        try:
            with self._slots:
                client = self._client.with_options(max_retries=min(2, self.settings.retries))
                reply = client.models.with_raw_response.list().http_response.text
        except self._openai.NotFoundError:
            if wanted is None:
                raise EndpointError(
                    f"The endpoint {self._where} does not list its models; check that the URL ends "
                    "as its documentation says (often in /v1), and name the model."
                ) from None
            return wanted
        except self._openai.OpenAIError as error:
            raise self._explained(error) from None
        try:
            served = [str(one["id"]) for one in json.loads(reply)["data"]]
        except (ValueError, TypeError, LookupError):
            raise EndpointError(
                f"What answers at {self._where} is not an OpenAI-compatible endpoint; check the "
                "URL, which often ends in /v1."
            ) from None
        if wanted in served:
            return str(wanted)
        listed = ", ".join(served[:10]) + (" …" if len(served) > 10 else "")
        if wanted is not None:
            hint = did_you_mean(wanted, served)
            raise EndpointError(
                f"The endpoint {self._where} does not serve {wanted!r}.{hint} "
                f"It serves: {listed or 'nothing'}."
            )
        if len(served) != 1:
            raise EndpointError(
                f"Name the model: the endpoint {self._where} serves {listed or 'nothing'}."
            )
        return served[0]

    def _explained(self, error: Exception) -> EndpointError:
        """Turn an exception of the package into a sentence."""
        where = f"The endpoint {self._where}"
        kinds = self._openai
        status = getattr(error, "status_code", None)
        said = self._said(error)
        if status in (401, 403):
            if self._variable is None:
                names = " or ".join(KEY_VARIABLES)
                return EndpointError(f"{where} wants a key; set {names} in the environment.")
            return EndpointError(f"{where} refuses the key in {self._variable}; set another one.")
        if status in (400, 413, 422):
            return ReplyError(f"{where} rejects a request (status {status}){said}.")
        if status == 404:
            return EndpointError(f"{where} has no such path or model{said}; check the URL.")
        if status == 429:
            return EndpointError(
                f"{where} asks to wait for longer than was waited{said}; run this again later, "
                "with fewer requests at a time or per minute."
            )
        if status is not None:
            return EndpointError(f"{where} fails with status {status}{said}; run this again later.")
        if isinstance(error, kinds.APITimeoutError):
            return EndpointError(
                f"{where} was silent for {self._timeout:g} seconds, {self.settings.retries + 1} "
                "times; check the server, or allow it more time."
            )
        if isinstance(error, kinds.APIConnectionError):
            if type(error.__cause__).__name__ == "ConnectError":
                return EndpointError(f"{where} cannot be reached; check the URL and the server.")
            return EndpointError(f"{where} broke the connection again and again; check the server.")
        return EndpointError(f"{where} failed ({type(error).__name__}){said}.")

    def _said(self, error: Exception) -> str:
        """Return what the endpoint said, in brackets, or nothing."""
        body = getattr(error, "body", None)
        said = body.get("message") if isinstance(body, dict) else body
        if not isinstance(said, str) or not said.strip():
            return ""
        text = self._without_key(" ".join(said.split()))
        return f" ({text[:_DETAIL].rstrip('. ')})"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key and len(self._key) >= 8 else text


class _Pace:
    """Keeps requests from beginning faster than so many per minute."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 0.0 if per_minute is None else 60.0 / per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait until the next request may begin."""
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next)
            self._next = mine + self._gap
        if mine > now:
            time.sleep(mine - now)


def _import_openai() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError:
        raise EndpointError(
            "An endpoint needs the package openai; run python -m pip install 'openai>=3.51,<4'."
        ) from None


def _check(settings: EndpointSettings) -> None:
    parts = urlsplit(settings.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointError(
            f"{settings.url!r} is not the URL of an endpoint, such as http://localhost:8000/v1."
        )
    if parts.username or parts.password or parts.query:
        raise EndpointError(
            "The URL of an endpoint is recorded with the results; leave keys and passwords out of "
            f"it, and set {KEY_VARIABLES[0]} in the environment."
        )
    for name in ("concurrency", "timeout", "requests_per_minute"):
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise EndpointError(f"{name} of an endpoint must be above 0, not {value}.")
    if settings.retries < 0:
        raise EndpointError(f"retries of an endpoint cannot be negative, as {settings.retries} is.")


def _key_from_environment() -> tuple[str | None, str | None]:
    for name in KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if key:
            if not key.isascii() or not key.isprintable():
                raise EndpointError(
                    f"The key in {name} has characters that no key has; set it again."
                )
            return key, name
    return None, None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _body(
    temperature: float | None, top_p: float | None, stop: Sequence[str], seed: int | None, n: int
) -> dict[str, Any]:
    given = {
        "temperature": temperature,
        "top_p": top_p,
        "stop": list(stop) or None,
        "seed": seed,
        "n": None if n == 1 else n,
    }
    return {name: value for name, value in given.items() if value is not None}


def _completion_text(choice: Mapping[str, Any]) -> tuple[str, str]:
    if not isinstance(choice["text"], str):
        raise TypeError("the text is none")
    return choice["text"], str(choice.get("finish_reason") or "stop")


def _message_text(choice: Mapping[str, Any]) -> tuple[str, str]:
    message = choice["message"]
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        return message["refusal"], "refusal"
    text, reason = message["content"], str(choice.get("finish_reason") or "stop")
    if text is None and reason in ("length", "content_filter"):
        # The limit was spent on reasoning that is not shown, or the text was withheld.
        return "", reason
    if not isinstance(text, str):
        raise TypeError("the content is no text")
    return text, reason


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
