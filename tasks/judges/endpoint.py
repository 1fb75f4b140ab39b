"""A language model at an OpenAI-compatible endpoint as a judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.judges.base import Item, Judge, Verdict
from tasks.judges.prompt import VERSION, Task, question, read_answer
from tasks.judges.settings import JudgeSettings
from tasks.models.endpoint import EndpointClient, EndpointSettings, ReplyError

TRIES = 2
"""How often a question is asked whose answer is no verdict."""


class EndpointJudge(Judge):
    """Asks a served model in words; an answer without a verdict is asked for once more.

    Raises:
        EndpointError: the endpoint cannot be used.
    """

    def __init__(self, settings: JudgeSettings, task: Task) -> None:
        self._settings = settings
        self._task: Task = task
        self._client: EndpointClient | None = None

    @property
    def signature(self) -> dict[str, str]:
        """Return the model's name and how it is asked; where it is served does not count."""
        return {
            "kind": "endpoint",
            "model": str(self._settings.model),
            "task": self._task,
            "prompt": VERSION,
            "temperature": str(self._settings.temperature),
            "max_tokens": str(self._settings.max_tokens),
        }

    def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Verdict]]:
        """Ask about the items, several at a time; see the base class."""
        if items:
            # Nothing is connected to where every verdict is known.
            self._client = self._client or connect(self._settings)
            yield from self._client.each(self._ask, items)

    def _ask(self, item: Item) -> Verdict:
        assert self._client is not None
        asked, answered, words = 0, 0, ""
        for _ in range(TRIES):
            try:
                (reply,) = self._client.chat(
                    question(item, self._task),
                    max_tokens=self._settings.max_tokens,
                    temperature=self._settings.temperature,
                    top_p=None,
                )
            except ReplyError as error:
                words = str(error)
                continue
            asked, answered = asked + reply.prompt_tokens, answered + reply.completion_tokens
            words = reply.text.strip()
            whole = reply.finish_reason not in ("length", "refusal", "content_filter")
            preference = read_answer(words) if whole else None
            if preference is not None:
                return Verdict(preference, words, asked, answered)
            words = words or f"an empty answer ({reply.finish_reason})"
        return Verdict("failed", words, asked, answered)


def connect(settings: JudgeSettings) -> EndpointClient:
    """Return a client of the judge's endpoint, which has confirmed the model.

    Raises:
        EndpointError: the endpoint cannot be used.
    """
    return EndpointClient(
        EndpointSettings(
            url=str(settings.url),
            model=settings.model,
            concurrency=settings.concurrency,
            requests_per_minute=settings.requests_per_minute,
            timeout=settings.timeout,
            retries=settings.retries,
        )
    )
