"""What a run must not take the place of in its folder, and what it asks before it begins."""

import json

import pytest
from hydra import compose, initialize_config_dir

from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.errors import UserError
from eosvos.sweep.checks import prepare


def composed(folder, *overrides, entry="train"):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(entry, overrides=[f'output="{folder}"', *overrides])


@pytest.mark.parametrize("name", ["config.yaml", "report.md", "checkpoints"])
def test_files_of_another_project_are_not_replaced_even_with_overwrite(tmp_path, name):
    (tmp_path / name).write_text("mine")
    for overrides in ([], ["overwrite=true"]):
        with pytest.raises(UserError, match=f"another run or project, {name} without .*, or move it away"):
            prepare(composed(tmp_path, *overrides))


def test_a_run_of_eosvos_is_replaced_with_overwrite(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"command": ["train.py"]}))
    with pytest.raises(UserError, match="set overwrite=true"):
        prepare(composed(tmp_path))
    prepare(composed(tmp_path, "overwrite=true"))


def test_evaluation_resumes_nothing(tmp_path):
    (tmp_path / "last.ckpt").write_text("")
    resumed = [f'checkpoint="{tmp_path}/last.ckpt"', "resume=true"]
    with pytest.raises(UserError, match=r"resume=true goes on with training.*: leave it out"):
        prepare(composed(tmp_path / "run", *resumed, entry="evaluate"), training=False)


@pytest.mark.parametrize("part", ["val", "test"])
def test_endless_videos_are_no_list_to_evaluate_on(tmp_path, part):
    with pytest.raises(UserError, match=f"dataset.{part} must be a list of videos"):
        prepare(composed(tmp_path / "run", f"dataset.{part}.num_videos=null"))


@pytest.mark.parametrize("key", ["checkpoint", "segmenter.weights"])
def test_a_file_whose_name_is_too_long_is_not_there(tmp_path, key):
    with pytest.raises(UserError, match="there is no such file"):
        prepare(composed(tmp_path / "run", f"{key}={'x' * 300}"))


def test_results_of_its_own_do_not_stop_a_run_that_is_resumed(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "manifest.json").write_text('{"tables": []}')
    last = tmp_path / "run/checkpoints/last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    (tmp_path / "run/config.yaml").write_text(f"results: {results}")
    resumed = (f'results="{results}"', f'checkpoint="{last}"')
    with pytest.raises(UserError, match=r"holds another run|holds results"):
        prepare(composed(tmp_path / "run", *resumed))
    prepare(composed(tmp_path / "run", *resumed, "resume=true"))
    (tmp_path / "run/config.yaml").write_text("results: null")
    with pytest.raises(UserError, match="holds results"):
        prepare(composed(tmp_path / "run", *resumed, "resume=true"))
