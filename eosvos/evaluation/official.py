"""J and F by the official DAVIS tool, the package davis2017, which is no part of eosvos."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eosvos.config.data import Davis
from eosvos.errors import UserError
from eosvos.evaluation.metrics import ObjectScore, Statistics
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.results import ResultsFolder

INSTALL = "pip install git+https://github.com/davisvideochallenge/davis2017-evaluation"


def official_tool() -> Any:
    """The class DAVISEvaluation of the official tool; raises UserError where it is not installed."""
    try:
        from davis2017.evaluation import DAVISEvaluation
    except ImportError as error:
        raise UserError(
            f"evaluator=davis2017 needs the official DAVIS tool ({error}): install it, {INSTALL}, or leave "
            "evaluator out"
        ) from error
    return DAVISEvaluation


def check_official(test: Mapping[str, Any]) -> None:
    """Raise UserError unless the official tool is here and reads the data set `test`, as it is configured."""
    settings = {key: value for key, value in test.items() if key != "_target_"}
    if test["_target_"] != Davis.target or not Davis(**settings).has_official_scores:
        raise UserError(
            "evaluator=davis2017 scores DAVIS 2017 alone (split train or val; 480p), without short_side: "
            "choose such videos for dataset.test, or leave evaluator out"
        )
    official_tool()


def official_records(
    test: Mapping[str, Any], folder: ResultsFolder, records: Sequence[SequenceRecord]
) -> list[SequenceRecord]:
    """The records with the scores that the official tool gives to the masks in a results folder.

    Its tables become those of the tool, too. The tool counts objects from 1 on, without gaps, and gives no
    scores of single frames. Raises UserError if it fails.
    """
    tool, names = official_tool(), [record.sequence for record in records]
    try:
        evaluation = tool(test["root"], "semi-supervised", test["split"], sequences=names)
        scores = _scores(evaluation.evaluate(str(folder.root)))
    # It ends the program where it does not like a mask.
    except (Exception, SystemExit) as error:
        raise UserError(
            f"the official DAVIS tool cannot score {folder.root} ({type(error).__name__}: {error}): mend the "
            "tool, or leave evaluator out; what is segmented is kept"
        ) from error
    scored = [replace(record, scores=tuple(scores[record.sequence])) for record in records]
    folder.write_tables(scored)
    return scored


def _scores(measures: Mapping[str, Mapping[str, Any]]) -> dict[str, list[ObjectScore]]:
    """The scores of each sequence's objects, from what `DAVISEvaluation.evaluate` returns."""
    scores: dict[str, list[ObjectScore]] = defaultdict(list)
    for position, key in enumerate(measures["J"]["M_per_object"]):
        sequence, _, object_id = key.rpartition("_")
        region, boundary = (
            Statistics(*(float(measures[measure][column][position]) for column in "MRD")) for measure in "JF"
        )
        scores[sequence].append(ObjectScore(int(object_id), region, boundary, (), ()))
    return scores
