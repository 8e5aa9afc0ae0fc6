"""`python -m eosvos.compare RUN RUN ...`: paired differences between runs, sequence by sequence."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from rich import box
from rich.table import Table

from eosvos.config.messages import user_errors
from eosvos.console import say
from eosvos.errors import UserError
from eosvos.evaluation.cells import cell_text, markdown, new_table, number_text, with_spread
from eosvos.evaluation.provenance import recorded
from eosvos.evaluation.records import MEASURES, csv_text
from eosvos.evaluation.reports import reported_rows
from eosvos.writing import check_writable, whole_file, write_whole

NOT_OF_THE_METHOD = ("seed", "output", "results", "overwrite", "resume", "logger")
"""Settings in which runs of one setting may differ."""
OF_THE_METHOD = ("precision", "matmul_precision")
"""What of the trainer counts: the rest is hardware, and what is shown."""


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone: folders, and averaged [J, F, J&F] of each sequence (0..1)."""

    folders: tuple[Path, ...]
    scores: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        """The folders, in a row."""
        return ", ".join(map(str, self.folders))


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m eosvos.compare",
        description="Compare the first run with each other one, on the sequences that all have in common; "
        "runs that differ in their seed alone are averaged.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--out", type=Path, help="a folder for compare.md, compare.csv and compare.png")
    options = parser.parse_args(arguments)
    with user_errors():
        compare(options.runs, options.out)


def compare(runs: Sequence[Path], out: Path | None = None) -> None:
    """Print the tables of differences, and write them and a plot into a folder; raises UserError."""
    if out is not None:
        check_writable(out, "--out")
        _check_plots()
    settings = read_settings(runs)
    say(differences_table(settings, box.ROUNDED), sequences_table(settings, box.ROUNDED))
    if out is not None:
        tables = (differences_table(settings, box.MARKDOWN), sequences_table(settings, box.MARKDOWN))
        write_whole(out / "compare.md", "\n".join(map(markdown, tables)).encode())
        write_whole(out / "compare.csv", csv_text(_lines(settings)).encode())
        plot(settings, out / "compare.png")


def read_settings(runs: Sequence[Path]) -> list[Setting]:
    """The settings of some runs, the first run's first, on the sequences that all runs have scores of."""
    groups: dict[str, dict[Path, dict[str, np.ndarray]]] = {}
    for run in dict.fromkeys(runs):
        scores = _scores(run)
        groups.setdefault(_method(run), {})[run] = scores
    if len(groups) < 2:
        raise UserError(f"{', '.join(map(str, runs))} differ in nothing but the seed: name two settings")
    every = [scores for group in groups.values() for scores in group.values()]
    common = [name for name in every[0] if all(name in scores for scores in every)]
    if not common:
        raise UserError(f"{', '.join(map(str, runs))} have no scored sequence in common: compare others")
    return [
        Setting(tuple(group), {name: np.mean([one[name] for one in group.values()], 0) for name in common})
        for group in groups.values()
    ]


def paired_difference(setting: Setting, reference: Setting) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean difference of J, F and J&F over sequences, [3], and its standard error; None of one sequence."""
    pairs = np.array([setting.scores[name] - reference.scores[name] for name in reference.scores])
    error = pairs.std(0, ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else None
    return pairs.mean(0), error


def differences_table(settings: Sequence[Setting], style: box.Box) -> Table:
    """A line a setting: means over sequences, and differences to the first ± their standard errors."""
    differences = [f"difference of {name}" for name in MEASURES]
    title = f"{len(settings[0].scores)} sequences" if style is box.ROUNDED else None
    table = new_table(("runs", *MEASURES, *differences), title, style)
    for setting in settings:
        means = np.mean(list(setting.scores.values()), 0)
        cells = ["-"] * len(MEASURES)
        if setting is not settings[0]:
            found, errors = paired_difference(setting, settings[0])
            spreads = [None] * len(MEASURES) if errors is None else errors
            cells = [with_spread(*pair) for pair in zip(found, spreads, strict=True)]
        table.add_row(cell_text(setting.name, style), *map(number_text, means), *cells)
    return table


def sequences_table(settings: Sequence[Setting], style: box.Box) -> Table:
    """A line a sequence: J&F of the first setting, and the others' differences to it."""
    first, *others = settings
    titles = [f"difference of {setting.name}" for setting in others]
    table = new_table(("sequence", f"J&F of {first.name}", *titles), None, style)
    for name, scores in first.scores.items():
        cells = [number_text((setting.scores[name] - scores)[2]) for setting in others]
        table.add_row(cell_text(name, style), number_text(scores[2]), *cells)
    return table


def plot(settings: Sequence[Setting], path: Path) -> None:
    """Draw each sequence's difference of J&F to the first setting, and the mean with its standard error."""
    from matplotlib.figure import Figure

    first, *others = settings
    figure = Figure(figsize=(8, 1 + 0.25 * len(first.scores)), layout="constrained")
    axes = figure.subplots()
    for number, setting in enumerate(others):
        values = [(setting.scores[name] - first.scores[name])[2] for name in first.scores]
        mean, error = paired_difference(setting, first)
        colour, figures = f"C{number}", with_spread(mean[2], None if error is None else error[2])
        axes.plot(values, list(first.scores), "o", color=colour, label=f"{setting.name}: {figures}")
        axes.axvline(mean[2], color=colour)
        if error is not None:
            axes.axvspan(mean[2] - error[2], mean[2] + error[2], color=colour, alpha=0.2)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set_xlabel(f"difference of J&F to {first.name}")
    figure.legend(loc="outside upper left")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _lines(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """A line for each sequence of each setting."""
    first, lines = settings[0], []
    for setting in settings:
        for name, scores in setting.scores.items():
            line: dict[str, Any] = {"runs": setting.name, "sequence": name}
            line |= {measure: float(score) for measure, score in zip(MEASURES, scores, strict=True)}
            changes = zip(MEASURES, scores - first.scores[name], strict=True)
            lines.append(line | {f"difference of {measure}": float(change) for measure, change in changes})
    return lines


def _scores(run: Path) -> dict[str, np.ndarray]:
    """J, F and J&F of each scored sequence of a run, as means over its objects; raises UserError."""
    try:
        found = {
            "/".join(filter(None, [row.get("dataset"), record["sequence"]])): _of_objects(record["scores"])
            for row in reported_rows(run)
            for record in row["records"]
            if record["scores"]
        }
    except OSError as error:
        raise UserError(
            f"{run} has no report.json ({error.strerror}): name a finished run's folder"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run}/report.json is no report of eosvos ({error}): run it anew") from None
    if not found:
        raise UserError(f"{run} has no scores: name a run whose test videos have masks to compare with")
    return found


def _of_objects(scores: Sequence[Mapping[str, Any]]) -> np.ndarray:
    j, f = np.mean([[score["region"]["mean"], score["boundary"]["mean"]] for score in scores], 0)
    return np.array([j, f, (j + f) / 2])


def _method(run: Path) -> str:
    """All settings of a run in which a run of another seed would not differ, as text; raises UserError."""
    try:
        config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    except OSError as error:
        raise UserError(f"{run} has no config.yaml ({error.strerror}): name the folder of a run") from None
    assert isinstance(config, dict)
    if config.get("resume"):
        # Its checkpoint is where it went on, not what it began with.
        config["checkpoint"] = recorded(run, "start")
    config["trainer"] = {key: config.get("trainer", {}).get(key) for key in OF_THE_METHOD}
    return OmegaConf.to_yaml({key: value for key, value in config.items() if key not in NOT_OF_THE_METHOD})


def _check_plots() -> None:
    """Raise UserError if there is nothing to plot with."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("--out draws a plot with matplotlib: uv pip install matplotlib") from None


if __name__ == "__main__":
    main()
