"""Files of the published system: read as they are, refused in one sentence, and written again."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from formula_network import check_evaluation, check_training
from helpers import SMALL, command_line, config
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.errors import UserError
from eosvos.evaluation.evaluate import evaluate
from eosvos.evaluation.start import with_checkpoint
from eosvos.meta import published
from eosvos.meta.checkpoint import LoadedCheckpoint, load_checkpoint
from eosvos.meta.convert import convert_checkpoint
from eosvos.meta.model import Model, build_learner
from eosvos.training.train import train

TINY = "segmenter.head_norm=false"


def save(path: Path, state: Any, **others: Any) -> Path:
    """Write a file as the published system's torch did."""
    content = {"meta_optim_state_dict": state, "meta_iter": 1234, "meta_epoch": 5, "vis_win_names": {}}
    torch.save(content | others, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def layout(goldens: Path) -> dict[str, list[int]]:
    """The shape of each tensor of a published file, in its order."""
    content = json.loads((goldens / "published_state_dict_layout.json").read_text())
    return {name: shape for name, shape, _ in content["layout"]}


@pytest.fixture(scope="module")
def file(layout: dict[str, list[int]], formula_state: dict[str, Tensor], tmp_path_factory) -> Path:
    """A published file with weights from formulas, and random learning rates."""
    by_name = {"model_init_" + name.replace(".", "-"): value for name, value in formula_state.items()}
    generator = torch.Generator().manual_seed(0)
    state = {
        name: by_name[name] if name in by_name else torch.rand(shape, generator=generator) / 1000
        for name, shape in layout.items()
    }
    return save(tmp_path_factory.mktemp("published") / "last_meta_iter.model", state)


@pytest.fixture(scope="module")
def loaded(file: Path) -> LoadedCheckpoint:
    return load_checkpoint(file)


def test_the_layout_is_that_of_a_published_file(layout):
    with torch.device("meta"):
        learner = build_learner(published.NETWORK, seed=0)
    values = learner.state_dict()
    names = published.published_names(learner)
    assert [(name, list(values[own].shape)) for name, own in names.items()] == list(layout.items())


def test_the_published_networks_numbers_come_out_of_its_file(loaded, file, goldens):
    """At its own sizes it segments, and at the size of the picture it trains, as the published system did."""
    golden = json.loads((goldens / "mask_rcnn.json").read_text())
    check_evaluation(loaded.learner.segmenter, golden["results"]["default/tv04"], {"eval_extend": "extend"})
    sizes = {"min_size": 128, "max_size": 160, "rpn_samples": 10**6, "roi_samples": 10**6}
    small = load_checkpoint(file, changes={f"segmenter.{key}": value for key, value in sizes.items()})
    check_training(small.learner.segmenter, golden["all_samples_native"]["tv04"]["train"], 1e-5, 5e-3)


def test_its_learning_rates_and_all_else(loaded, file):
    state = torch.load(file, weights_only=True)["meta_optim_state_dict"]
    rates = [value for name, value in state.items() if name.startswith("log_init_lr_")]
    for (name, rate), expected in zip(loaded.learner.named_inner_lrs(), rates, strict=True):
        assert torch.equal(rate.lr(), expected), name
    assert loaded.published
    assert (loaded.stage, loaded.iteration, loaded.finetune) == ("meta", 1234, Finetune())
    assert loaded.model.segmenter["variant"] == "published"
    assert loaded.model.backbone["name"] == "resnet50"
    assert not loaded.model.inner_lr.log


def test_it_is_written_again_bit_for_bit(file, layout, tmp_path):
    said = convert_checkpoint(file, tmp_path / "again.model")
    assert "402 tensors, 44,066,513 values, 168.1 MiB" in said
    there, again = (torch.load(path, weights_only=True) for path in (file, tmp_path / "again.model"))
    assert list(again["meta_optim_state_dict"]) == list(layout)
    for name, value in there["meta_optim_state_dict"].items():
        assert torch.equal(again["meta_optim_state_dict"][name], value), name
    assert again["meta_iter"] == 1234
    assert again.keys() == there.keys()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Makes the published network a tiny one; the state of a file of it."""
    model = Model.of(config(*SMALL, TINY))
    model = model.model_copy(update={"inner_lr": published.NETWORK.inner_lr})
    monkeypatch.setattr(published, "NETWORK", model)
    learner = build_learner(model, seed=0)
    state = learner.state_dict()
    return {name: state[own] for name, own in published.published_names(learner).items()}


RATE = "log_init_lr_backbone-fpn-inner_blocks-0-weight"
WEIGHT = "model_init_roi_heads-mask_head-mask_fcn2-bias"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop(WEIGHT), rf"does not fit the network: {WEIGHT} is missing \(1 of"),
        (lambda s: s.update({RATE: s[RATE][:3]}), rf"{RATE} \[16, 1, 1, 1\] is \[3, 1, 1, 1\] there"),
        (lambda s: s.update({RATE: s[RATE].int()}), rf"{RATE} .* is \[16, 1, 1, 1\] torch.int32 there"),
        (lambda s: s.update({WEIGHT: "text"}), f"{WEIGHT} is missing"),
        (lambda s: s.update({WEIGHT: s[WEIGHT] / 0}), f"NaN or infinite values in {WEIGHT}"),
        (lambda s: s.update({RATE: s[RATE] * torch.nan}), f"NaN or infinite values in {RATE}"),
        (lambda s: s.update({RATE: s[RATE].log()}), f"{RATE} has negative values: .* not their logarithms"),
        (lambda s: s.update({"model_init_more": s[WEIGHT]}), "model_init_more is unknown"),
        (lambda s: s.clear(), "is missing"),
    ],
)
def test_files_of_other_networks_are_refused(tiny, tmp_path, change, said):
    change(tiny)
    path = save(tmp_path / "other.model", tiny)
    with pytest.raises(UserError, match=f"checkpoint={path}, of the published layout,") as error:
        load_checkpoint(path)
    assert re.search(said, str(error.value)), error.value
    assert "\n" not in str(error.value)


def test_a_full_disk_is_said(tiny, tmp_path, small_disk):
    file, disk = save(tmp_path / "there.model", tiny), small_disk("64k")
    with pytest.raises(UserError, match=r"out\.model cannot be written \(No space left.*make room"):
        convert_checkpoint(file, disk / "out.model")
    assert not list(disk.iterdir())


def test_entries_of_other_kinds_are_refused(tiny, tmp_path):
    for state, others in (
        (None, {}),
        ([tiny], {}),
        (tiny, {"meta_iter": "text"}),
        (tiny, {"meta_iter": None}),
    ):
        with pytest.raises(UserError, match=r"checkpoint=\S+other\.model"):
            load_checkpoint(save(tmp_path / "other.model", state, **others))


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return open, (str(self.witness), "w")


def test_hostile_files_are_not_run(tiny, tmp_path):
    hostile = Hostile(tmp_path / "witness")
    (tmp_path / "pickle.model").write_bytes(pickle.dumps({"meta_optim_state_dict": hostile}))
    save(tmp_path / "state.model", hostile)
    save(tmp_path / "beside.model", tiny, vis_win_names=hostile)
    save(tmp_path / "within.model", tiny | {WEIGHT: hostile})
    for name in ("pickle", "state", "beside", "within"):
        with pytest.raises(UserError, match=rf"{name}\.model is broken.*could run code, and is not read$"):
            load_checkpoint(tmp_path / f"{name}.model")
    assert not (tmp_path / "witness").exists()


def test_cut_files_are_refused(tiny, tmp_path):
    whole = save(tmp_path / "whole.model", tiny).read_bytes()
    for length in {0, 1, 100, len(whole) - 1, *range(0, len(whole), len(whole) // 20)}:
        (tmp_path / "cut.model").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.model is broken") as error:
            load_checkpoint(tmp_path / "cut.model")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("half", [False, True])
def test_there_and_back_through_a_folder(tiny, tmp_path, half):
    file = save(tmp_path / "there.model", tiny)
    convert_checkpoint(file, tmp_path / "folder", half=half)
    convert_checkpoint(tmp_path / "folder", tmp_path / "back.model")
    back = torch.load(tmp_path / "back.model", weights_only=True)
    assert back["meta_iter"] == 1234
    for name, value in back["meta_optim_state_dict"].items():
        assert value.dtype == torch.float32
        assert torch.equal(value, tiny[name].half().float() if half else tiny[name]), name


def test_another_network_has_no_published_layout(tmp_path, tiny):
    model = load_checkpoint(save(tmp_path / "file.model", tiny)).model
    for key, value in (("segmenter.min_size", 64), ("inner_lr.max_grad_norm", 1.0), ("train_encoder", False)):
        part, _, name = key.rpartition(".")
        values = model.model_dump()
        (values[part] if part else values)[name] = value
        with pytest.raises(UserError, match=rf"out\.model: .*{key}=\S+ and not {value}: write a folder"):
            published.to_published(tmp_path / "out.model", Model(**values), {}, 1)


def test_it_is_evaluated_and_trained_on(tiny, tmp_path, capsys):
    """As on the command line, which says what it has read."""
    file = save(tmp_path / "file.model", tiny)
    small = (*SMALL, "dataset.test.num_videos=1", f"checkpoint={file}")
    [row] = evaluate(config(*small, entry="evaluate", output=tmp_path / "evaluation"))
    assert row.name == "1 steps"
    said = capsys.readouterr().out
    assert f"checkpoint={file}: the published network (segmenter.variant=published), " in said
    assert "inner learning rates after 1234 meta iterations" in said
    transfer = config(
        *small,
        "iterations=1",
        "val_every=1",
        "meta.batch_size=1",
        "meta.outer.inner_lr.lr=0",
        output=tmp_path / "run",
    )
    result = train(transfer)
    trained = dict(result.learner.named_inner_lrs())
    for name, rate in load_checkpoint(file).learner.named_inner_lrs():
        assert torch.equal(rate.lr(), trained[name].lr()), name
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").iteration == 1
    with pytest.raises(UserError, match=r"file\.model holds no interrupted run: leave resume=true out"):
        train(transfer.model_copy(update={"resume": True, "output": str(tmp_path / "rest")}))


def test_the_command_line_may_not_make_it_another_network(tiny, tmp_path):
    file = save(tmp_path / "file.model", tiny)
    wrong = (*SMALL, f"checkpoint={file}", "segmenter.variant=torchvision")
    with (
        command_line(*wrong, entry="evaluate"),
        pytest.raises(UserError, match=r"segmenter\.variant cannot be changed .*, which has published"),
    ):
        with_checkpoint(config(*wrong, entry="evaluate"))
