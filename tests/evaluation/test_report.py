"""Tables: means over objects, errors over videos, and what is written of them."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eosvos.evaluation.metrics import ObjectScore, Statistics
from eosvos.evaluation.report import ReportRow, mean_and_error, report_table, sequence_table, write_report
from eosvos.evaluation.results import SequenceRecord


def record(name: str, *values: tuple[float, float], seconds: float = 1.0) -> SequenceRecord:
    scores = tuple(
        ObjectScore(number, Statistics(j, 1.0, 0.0), Statistics(f, 1.0, 0.0), (j,), (f,))
        for number, (j, f) in enumerate(values, start=1)
    )
    return SequenceRecord(name, 10, scores or None, seconds, seconds / 10)


BEFORE = ReportRow("before", (record("dog", (0.2, 0.4)), record("cats", (0.4, 0.2), seconds=3.0)))
AFTER = ReportRow("after", (record("dog", (0.7, 0.8)), record("cats", (0.9, 0.8))))


def shown(table) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


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
    text = shown(report_table([BEFORE, AFTER], title="synthetic, test"))
    lines = {line.split()[1]: line for line in text.splitlines() if "±" in line}
    assert "synthetic, test" in text
    assert "0.300 ± 0.100" in lines["before"]
    assert "0.800 ± 0.100" in lines["after"]
    assert "2.000" in lines["before"]


def test_without_ground_truth_scores_are_dashes_and_seconds_stay():
    row = ReportRow("test-dev", (record("a"), record("b")))
    assert row.figures()["J"] is None
    text = shown(report_table([row]))
    assert "1.000" in text
    assert "-" in text
    assert "nan" not in text.lower()
    assert "None" not in text


def test_sequence_table_has_a_line_a_sequence_and_dashes_for_missing_ones():
    partly = ReportRow("partly", AFTER.records[:1])
    text = shown(sequence_table([BEFORE, partly]))
    (dog,) = [line for line in text.splitlines() if "dog" in line]
    (cats,) = [line for line in text.splitlines() if "cats" in line]
    assert "0.200 / 0.400" in dog
    assert "0.700 / 0.800" in dog
    assert "0.400 / 0.200" in cats
    assert cats.split("│")[-2].strip() == "-"


def test_report_files(tmp_path):
    write_report(tmp_path / "report", [BEFORE, AFTER, ReportRow("hidden", (record("x"),))])
    rows = json.loads((tmp_path / "report/report.json").read_text())
    assert [row["name"] for row in rows] == ["before", "after", "hidden"]
    assert rows[1]["J"] == pytest.approx(0.8)
    assert rows[2]["J"] is None
    restored = tuple(SequenceRecord.from_json(one) for one in rows[0]["records"])
    assert ReportRow("before", restored) == BEFORE

    with open(tmp_path / "report/report.csv") as file:
        lines = list(csv.DictReader(file))
    assert lines[0]["name"] == "before"
    assert lines[0]["J"] == "0.300"
    assert lines[0]["J SE"] == "0.100"
    assert lines[2]["F"] == ""
    assert lines[2]["videos"] == "1"

    text = (tmp_path / "report/report.md").read_text()
    table, by_sequence = text.split("\n\n")
    assert table.splitlines()[0].startswith("|")
    assert set(table.splitlines()[1]) <= set("|-: ")
    assert "| dog" in by_sequence


def test_an_empty_report_is_written_too(tmp_path):
    write_report(tmp_path, [ReportRow("nothing", ())])
    (row,) = json.loads((tmp_path / "report.json").read_text())
    assert row["videos"] == 0
    assert row["s/frame"] is None
