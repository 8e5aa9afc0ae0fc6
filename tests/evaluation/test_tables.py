"""Tables: means over objects, errors over videos, and what is written of them."""

import csv
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eosvos.evaluation.metrics import ObjectScore, Statistics
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.tables import Row, mean_and_error, rows_table, sequence_table, write_report


def record(name: str, *values: tuple[float, float], seconds: float = 1.0) -> SequenceRecord:
    scores = tuple(
        ObjectScore(number, Statistics(j, 1.0, 0.0), Statistics(f, 1.0, 0.0), (j,), (f,))
        for number, (j, f) in enumerate(values, start=1)
    )
    return SequenceRecord(name, 10, len(scores) or 2, scores or None, seconds, seconds / 10)


BEFORE = Row("before", (record("dog", (0.2, 0.4)), record("cats", (0.4, 0.2), seconds=3.0)))
AFTER = Row("after", (record("dog", (0.7, 0.8)), record("cats", (0.9, 0.8))))


def shown(table) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_names_go_on_in_the_next_line_where_a_table_is_narrow():
    names = "dataset.train.augment.copy_paste=0.25", "dataset.train.augment.copy_paste=0.5"
    narrow = Console(width=60, file=io.StringIO())
    narrow.print(rows_table([Row(name, BEFORE.records) for name in names]))
    columns = [line.split("│")[1].strip() for line in narrow.file.getvalue().splitlines() if "│" in line]
    assert "".join(columns).endswith("".join(names))


def cells(table) -> list[list[str]]:
    """The heading and the lines of a shown table."""
    lines = (re.split("[│┃]", line) for line in shown(table).splitlines())
    return [[cell.strip() for cell in line[1:-1]] for line in lines if len(line) > 1]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_error_of_one_object_a_video_is_the_usual_standard_error(values):
    mean, error = mean_and_error([[value] for value in values])
    assert mean == pytest.approx(np.mean(values))
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10))
def test_error_of_as_many_objects_in_each_video_is_that_of_the_video_means(videos):
    mean, error = mean_and_error(videos)
    means = np.mean(videos, axis=1)
    assert mean == pytest.approx(np.mean(means))
    assert error == pytest.approx(np.std(means, ddof=1) / math.sqrt(len(means)), abs=1e-12)


def test_the_mean_is_over_objects_not_videos():
    mean, error = mean_and_error([[1.0, 1.0, 1.0], [0.0]])
    assert mean == 0.75
    # Deviations of the videos' sums: 3 * 0.25 and -0.75; n / (n - 1) = 2.
    assert error == pytest.approx(math.sqrt(2 * 2 * 0.75**2) / 4)


def test_nothing_to_average():
    assert mean_and_error([]) == (None, None)
    assert mean_and_error([[0.5, 0.7]]) == (pytest.approx(0.6), None)


def test_figures_of_a_row():
    figures = BEFORE.figures()
    assert figures["J"] == pytest.approx(0.3)
    assert figures["J SE"] == pytest.approx(0.1)
    assert figures["J&F"] == pytest.approx(0.3)
    assert figures["J&F SE"] == pytest.approx(0.0)
    assert figures["s/adaptation"] == 2.0
    assert figures["s/frame"] == pytest.approx(0.2)
    assert figures["videos"] == 2


def test_table_shows_every_row_with_errors():
    text = shown(rows_table([BEFORE, AFTER], title="synthetic, test"))
    lines = {line.split()[1]: line for line in text.splitlines() if "±" in line}
    assert "synthetic, test" in text
    assert "0.300 ± 0.100" in lines["before"]
    assert "0.800 ± 0.100" in lines["after"]
    assert "2.000" in lines["before"]


def test_without_ground_truth_tables_show_what_is_known():
    row = Row("test-dev", (record("a"), record("b", seconds=3.0)))
    assert row.figures()["J"] is None
    heading, line = cells(rows_table([row]))
    assert heading == ["", "s/adaptation", "s/frame", "objects", "masks", "only segmented"]
    assert line == ["test-dev", "2.000", "0.200", "4", "20", "2"]
    heading, first, second = cells(sequence_table([row]))
    assert heading == ["sequence", "frames", "objects", "test-dev: s/frame"]
    assert [first, second] == [["a", "10", "2", "0.100"], ["b", "10", "2", "0.300"]]


def test_only_videos_with_scores_count_as_scored():
    row = Row("after", (*AFTER.records, record("hidden")))
    assert (row.figures()["videos"], row.figures()["only segmented"]) == (2, 1)
    heading, line = cells(rows_table([row]))
    assert (heading[-2:], line[-2:]) == (["videos", "only segmented"], ["2", "1"])
    assert cells(sequence_table([row]))[-1] == ["hidden", "10", "2", "-"]
    assert cells(rows_table([AFTER]))[0][-1] == "videos"


def test_the_table_says_which_sequences_were_finished_before():
    dog, cats = AFTER.records
    _, *lines = cells(sequence_table([Row("after", (replace(dog, finished_before=True), cats))]))
    assert [line[0] for line in lines] == ["dog (finished before)", "cats"]


NAMES = (
    "clip [bold]",
    "[/red]",
    "[link=x]y[/link]",
    ":smile:",
    "a|b",
    "<b>",
    "`c`",
    "*d*",
    "e\\f",
    "two\nlines",
)


@pytest.mark.parametrize("name", NAMES)
def test_tables_show_names_as_they_are(name, tmp_path):
    row = Row(f"row {name}", (record(name, (0.5, 0.5)),))
    shown_name = name.replace("\n", " ")
    for table in (rows_table([row], title=f"title {name}"), sequence_table([row], title=f"title {name}")):
        text = shown(table)
        assert f"title {shown_name}" in text
        assert f"row {shown_name}" in text
    assert cells(sequence_table([row]))[1][0] == shown_name

    write_report(tmp_path, [row])
    report, by_sequence = (tmp_path / "report.md").read_text().split("\n\n")
    for table, columns in ((report, 7), (by_sequence, 4)):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        assert [len(line) for line in lines] == [columns] * 3
    name_cell = re.split(r"(?<!\\)\|", by_sequence.splitlines()[2])[1].strip()
    assert re.sub(r"\\(.)", r"\1", name_cell) == shown_name


def test_sequence_table_has_a_line_a_sequence_and_dashes_for_missing_ones():
    partly = Row("partly", AFTER.records[:1])
    text = shown(sequence_table([BEFORE, partly]))
    (dog,) = [line for line in text.splitlines() if "dog" in line]
    (cats,) = [line for line in text.splitlines() if "cats" in line]
    assert "0.200 / 0.400" in dog
    assert "0.700 / 0.800" in dog
    assert "0.400 / 0.200" in cats
    assert cats.split("│")[-2].strip() == "-"


def test_report_files(tmp_path):
    write_report(tmp_path / "report", [BEFORE, AFTER, Row("hidden", (record("x"),))])
    rows = json.loads((tmp_path / "report/report.json").read_text())
    assert [row["name"] for row in rows] == ["before", "after", "hidden"]
    assert rows[1]["J"] == pytest.approx(0.8)
    assert rows[2]["J"] is None
    restored = tuple(SequenceRecord.from_json(one) for one in rows[0]["records"])
    assert Row("before", restored) == BEFORE

    with open(tmp_path / "report/report.csv") as file:
        lines = list(csv.DictReader(file))
    assert lines[0]["name"] == "before"
    assert lines[0]["J"] == "0.300"
    assert lines[0]["J SE"] == "0.100"
    assert lines[2]["F"] == ""
    assert (lines[2]["videos"], lines[2]["only segmented"]) == ("0", "1")

    text = (tmp_path / "report/report.md").read_text()
    table, by_sequence = text.split("\n\n")
    assert table.splitlines()[0].startswith("|")
    assert set(table.splitlines()[1]) <= set("|-: ")
    assert "| dog" in by_sequence


def test_an_empty_report_is_written_too(tmp_path):
    write_report(tmp_path, [Row("nothing", ())])
    (row,) = json.loads((tmp_path / "report.json").read_text())
    assert row["videos"] == 0
    assert row["s/frame"] is None
