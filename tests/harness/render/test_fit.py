"""A result's notes fit a screen of 24 lines of 80 columns; what does not is in its JSON."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.render.fit import LINES, LONGEST, LongNote, fit_notes, lines_of, shown_notes
from harness.render.table import print_notes, table_files


def note(lines: int, word: str = "word") -> str:
    return " ".join([word] * (lines * 15))


def printed(result: dict[str, object]) -> list[str]:
    file = io.StringIO()
    print_notes(result, Console(width=80, file=file))
    return file.getvalue().splitlines()


def test_notes_that_fit_are_all_shown() -> None:
    found = fit_notes(["First.", "", note(3)])
    assert found == {"notes": ["First.", note(3)]}
    assert shown_notes({"id": "table1", **found}) == found["notes"]


def test_less_important_notes_make_room_and_short_ones_fill_it() -> None:
    found = fit_notes([note(10, "aaaa"), note(12, "bbbb"), note(2, "cccc"), "Last."])
    assert found["notes"] == [note(10, "aaaa"), note(12, "bbbb"), "Last."]
    assert found["more_notes"] == [note(2, "cccc")]
    shown = shown_notes({"id": "table1", **found})
    assert shown[-1] == "One more note is in table1.json, under more_notes."


def test_a_long_note_is_shown_in_its_short_form_and_kept_whole() -> None:
    long = LongNote(note(LONGEST + 1), "In short.")
    assert fit_notes([long, "End."]) == {
        "notes": ["In short.", "End."],
        "more_notes": [note(LONGEST + 1)],
    }
    fits = LongNote(note(LONGEST), "In short.")
    assert fit_notes([fits]) == {"notes": [note(LONGEST)]}
    # Where little room is left, it is as if it were long.
    found = fit_notes([note(21), fits])
    assert found == {"notes": [note(21), "In short."], "more_notes": [note(LONGEST)]}


@given(st.lists(st.tuples(st.text("ab ▲β", max_size=900), st.text("ab ", max_size=90))))
def test_no_notes_take_more_than_a_screen_and_none_is_lost(texts: list[tuple[str, str]]) -> None:
    notes = [LongNote(text.strip(), short.strip()) for text, short in texts]
    found = fit_notes(notes)
    assert sum(map(lines_of, shown_notes({"id": "winrate-summarization", **found}))) <= LINES
    kept = [*found["notes"], *found.get("more_notes", [])]
    assert all(text in kept for text in notes if text)


def test_the_bound_holds_for_what_the_terminal_prints() -> None:
    result = {"id": "table1", **fit_notes([note(5), note(7), note(30), note(9), note(4), "End."])}
    lines = printed(result)
    assert len(lines) <= LINES
    assert lines[-1].startswith("2 more notes are in table1.json")


def test_files_say_where_the_other_notes_are() -> None:
    table = {
        "id": "table9",
        "title": "Of nothing",
        "profile": "tiny",
        "columns": [],
        "column_labels": {},
        "rows": [],
        "significance": [],
        "baseline": "dpo",
        **fit_notes(["First.", note(25)]),
    }
    files = table_files(table)
    for name in ("table9.md", "table9.tex"):
        assert "First." in files[name]
        assert "word word" not in files[name]
        assert "One more note is in table9.json" in files[name]
