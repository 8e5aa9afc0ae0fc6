"""Checkpoints that are broken, foreign or meddled with: always one sentence, before anything is used."""

import copy
import io
import pickle
import re
from pathlib import Path

import helpers
import numpy as np
import pytest
import torch
from helpers import LIGHT, SMALL
from PIL import Image

from eosvos.errors import UserError
from eosvos.meta.checkpoint import load_checkpoint, read_checkpoint
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.meta.stored import LATER
from eosvos.training.resume import check_resumable
from eosvos.training.train import train
from eosvos.training.trainer import make_trainer

# Even smaller, for every entry of its checkpoints is tried.
TINY = (
    *SMALL,
    LIGHT,
    "segmenter.channels=4",
    "segmenter.dilations=[1]",
    "backbone.width=4",
    "backbone.fpn_channels=8",
    "dataset.test.num_videos=1",
    "meta.batch_size=1",
    "meta.inner_steps=1",
)
WRONG = (None, "text", [], torch.zeros(1))
# Entries that may have any text.
TEXTS = ("best_model_path", "dirpath", "kth_best_model_path", "last_model_path", "monitor", "name")
TEXTS += ("pytorch-lightning_version",)
BROKEN = "is broken, or no checkpoint of eosvos: "


def config(output, *overrides):
    return helpers.config(*TINY, *overrides, output=output)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    """The last checkpoint of each stage."""
    folder = tmp_path_factory.mktemp("run")
    train(config(folder, "iterations=2", "val_every=1", "parent.steps=1", "parent.batch_size=1"))
    return {
        "parent": folder / "checkpoints" / "parent-last.ckpt",
        "meta": folder / "checkpoints" / "last.ckpt",
    }


@pytest.fixture(scope="module")
def content(saved):
    """What the last checkpoint of each stage holds."""
    return {stage: torch.load(path, weights_only=True) for stage, path in saved.items()}


def paths(node, prefix=()):
    """The paths of all entries of nested dicts and lists, from the root down."""
    items = (
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    )
    for key, value in items:
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


def changed(content, path, value=None, delete=False):
    """A copy of nested dicts and lists with one entry that is another, or gone; tensors are shared."""
    key, *rest = path
    if isinstance(content, tuple):
        return tuple(changed(list(content), path, value, delete))
    copied = copy.copy(content)
    if rest:
        copied[key] = changed(content[key], rest, value, delete)
    elif delete:
        del copied[key]
    else:
        copied[key] = value
    return copied


def refusal(act, path):
    """What is said of a file that is refused, or None if it is taken."""
    try:
        act(path)
    except UserError as error:
        message = str(error)
    else:
        return None
    assert message.startswith(f"checkpoint={path}"), message
    assert "\n" not in message
    for foreign in ("weights_only", "miniz", "PytorchStreamReader", "Error", "<class"):
        assert foreign not in message.removeprefix(f"checkpoint={path}")
    return message


def test_a_checkpoint_holds_plain_values_only(saved):
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(read_checkpoint(saved["meta"])[0]["eosvos"])


def test_a_file_that_is_cut_off_anywhere_is_refused(saved, tmp_path):
    whole = saved["meta"].read_bytes()
    path = tmp_path / "cut.ckpt"
    lengths = {0, 1, 2, 4, 5, 100, len(whole) - 1, len(whole) - 22, len(whole) - 100}
    for length in lengths | set(range(0, len(whole), len(whole) // 40)):
        path.write_bytes(whole[:length])
        assert BROKEN in str(refusal(load_checkpoint, path)), length


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


def test_files_of_other_kinds_are_refused_and_not_run(saved, tmp_path):
    witness = tmp_path / "witness"
    picture, zipped = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture, "png")
    np.savez(zipped, a=np.zeros(3))
    files = {"text": b"not a checkpoint", "picture": picture.getvalue(), "zip": zipped.getvalue()}
    files["pickle"] = pickle.dumps(Hostile(witness))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    saves = {"list": [1, 2], "tensor": torch.ones(2), "bare": {"conv.weight": torch.ones(2)}}
    saves |= {"foreign": {"state_dict": {}, "epoch": 3, "hyper_parameters": {}}, "hostile": Hostile(witness)}
    saves |= {"nested": changed(torch.load(saved["meta"]), ["eosvos", "model"], Hostile(witness))}
    for name, value in saves.items():
        torch.save(value, tmp_path / name)
    (tmp_path / "folder").mkdir()
    for name in [*files, *saves, "folder"]:
        message = str(refusal(load_checkpoint, tmp_path / name))
        assert BROKEN in message, name
        assert ("could run code" in message) == (name in ("text", "picture", "pickle", "hostile", "nested"))
    assert not witness.exists()
    with pytest.raises(UserError, match=r"gone\.ckpt: there is no such file"):
        load_checkpoint(tmp_path / "gone.ckpt")


def test_every_entry_of_another_kind_or_missing_is_refused_or_does_no_harm(content, tmp_path):
    path = tmp_path / "changed.ckpt"
    ours = {key: content["meta"][key] for key in ("state_dict", "eosvos", "eosvos_run", "iteration")}
    # Of the weights, some stand for all.
    weights = [("state_dict", name) for name in list(ours["state_dict"])[::10]]
    configuration = list(paths({"eosvos": ours["eosvos"]}))[1:]
    for entry in [*((name,) for name in ours), *weights, *configuration]:
        needed = len(entry) == 1 or entry[0] == "state_dict" or entry[1] in ("format", "stage", "finetune")
        needed |= entry[:2] == ("eosvos", "model") and entry[2:3] not in (("segmenter",), ("backbone",))
        needed &= ".".join(map(str, entry)) not in LATER
        torch.save(changed(ours, entry, delete=True), path)
        assert refusal(load_checkpoint, path) or not needed, entry
        for wrong in WRONG:
            torch.save(changed(ours, entry, wrong), path)
            refusal(load_checkpoint, path)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        (["iteration"], "text", "iteration is not of the kind"),
        (["iteration"], True, "iteration is not of the kind"),
        (["eosvos"], "text", "eosvos is not of the kind"),
        (["eosvos", "model"], "text", "eosvos.model is not of the kind"),
        (["eosvos", "model", "inner_lr", "init"], "text", "eosvos.model.inner_lr.init is not as it must be"),
        (["eosvos", "model", "inner_lr", "init"], float("nan"), r"eosvos.model.inner_lr.init is .* finite"),
        (["eosvos", "model", "inner_lr", "new"], 1, r"eosvos.model.inner_lr.new is .* not permitted"),
        (
            ["eosvos", "model", "order"],
            "third_order",
            "eosvos.model.order is .* 'second_order'",
        ),
        (
            ["eosvos", "model", "segmenter", "loss"],
            "mine",
            "eosvos.model.segmenter.loss is .* 'dice'",
        ),
        (["eosvos", "model", "segmenter"], {}, "eosvos.model.segmenter is not .* no _target_"),
        (["eosvos", "model", "backbone", "width"], 12, r"state_dict: .* is not of the kind"),
        (["eosvos", "finetune", "online"], None, "eosvos.finetune.online is not as it must be"),
        (["eosvos", "stage"], "third", "eosvos.stage is not as it must be .*'meta'"),
        (["state_dict", "new"], torch.ones(1), "state_dict: new is unknown"),
    ],
)
def test_what_is_wrong_is_named(content, tmp_path, entry, value, said):
    torch.save(changed(content["meta"], entry, value), tmp_path / "changed.ckpt")
    message = str(refusal(load_checkpoint, tmp_path / "changed.ckpt"))
    assert re.search(BROKEN + said, message), message


def test_another_format_and_other_targets_have_sentences_of_their_own(content, tmp_path):
    path = tmp_path / "changed.ckpt"
    for entry, value, said in (
        (["eosvos", "format"], 2, "another version"),
        (["eosvos", "model", "segmenter", "_target_"], "os.system", "'os.system'.* is refused"),
        (["eosvos", "model", "backbone", "_target_"], ["os.system"], "is refused"),
    ):
        torch.save(changed(content["meta"], entry, value), path)
        with pytest.raises(UserError, match=said):
            load_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["module", "compute_update"])
def test_weights_and_rates_that_are_not_finite_are_refused(content, tmp_path, part, value):
    names = [name for name in content["meta"]["state_dict"] if f"gbml.{part}." in name]
    broken = content["meta"]["state_dict"][names[-1]].clone()
    broken.view(-1)[0] = value
    torch.save(changed(content["meta"], ["state_dict", names[-1]], broken), tmp_path / "nan.ckpt")
    assert f"{names[-1]} is NaN or infinite" in str(refusal(load_checkpoint, tmp_path / "nan.ckpt"))


def test_a_rate_whose_logarithm_is_too_large_is_refused(content, tmp_path):
    name = next(name for name in content["meta"]["state_dict"] if "compute_update" in name)
    large = torch.full_like(content["meta"]["state_dict"][name], 100.0)
    torch.save(changed(content["meta"], ["state_dict", name], large), tmp_path / "large.ckpt")
    assert "a learning rate is infinite" in str(refusal(load_checkpoint, tmp_path / "large.ckpt"))


def resumption(stage, saved, folder, *overrides):
    """The trainer and module that a resumed run has."""
    settings = config(
        folder, "iterations=2", "val_every=1", "parent.steps=1", "parent.batch_size=1", *overrides
    )
    learner: MetaLearner = load_checkpoint(saved[stage]).learner
    if stage == "parent":
        return make_trainer(settings, stage, [], 1), ParentModule(learner, settings.parent)
    return make_trainer(settings, stage, [], 2), MetaModule(learner, settings.meta, 2)


@pytest.mark.parametrize("stage", ["parent", "meta"])
def test_all_that_a_resumed_run_needs_must_be_there(stage, saved, content, tmp_path):
    trainer, module = resumption(stage, saved, tmp_path)

    def act(path):
        check_resumable(path, trainer, module, trusted=[])

    path = tmp_path / "changed.ckpt"
    needed = {name: content[stage][name] for name in ("optimizer_states", "lr_schedulers", "callbacks")}
    needed["loops"] = {"fit_loop": content[stage]["loops"]["fit_loop"]}
    # One entry of each name stands for all; callbacks of other settings are others.
    stands_for = {
        (entry[0], len(entry), entry[-1] if isinstance(entry[-1], str) else "index"): entry
        for entry in paths(needed)
        if "best_k_models" not in entry[:-1]
    }
    entries = [entry for entry in stands_for.values() if entry[0] != "callbacks" or len(entry) > 2]
    if stage == "parent":
        entries = [entry for entry in entries if entry[2:3] == ("state",) and len(entry) == 5]
    else:
        entries += [(name,) for name in ("epoch", "global_step", "pytorch-lightning_version", *needed)]
        assert len(entries) > 50
    assert refusal(act, saved[stage]) is None
    for entry in entries:
        torch.save(changed(content[stage], entry, "text"), path)
        if entry[-1] not in TEXTS:
            assert BROKEN in str(refusal(act, path)), entry
        torch.save(changed(content[stage], entry, delete=True), path)
        assert BROKEN in str(refusal(act, path)), entry


def test_a_resumed_run_says_so_before_it_begins(saved, content, tmp_path):
    broken = tmp_path / "broken.ckpt"
    for entry, value in ((["optimizer_states"], []), (["loops", "fit_loop", "epoch_progress"], 7)):
        torch.save(changed(content["meta"], entry, value), broken)
        resumed = ("iterations=3", "parent.batch_size=1", f"checkpoint={broken}", "resume=true")
        with pytest.raises(UserError, match=f"broken.ckpt {BROKEN}{entry[0]}"):
            train(config(tmp_path / entry[0], *resumed))
        assert not (tmp_path / entry[0] / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("damage", ["cut", "text", "nan", "another"])
def test_a_broken_start_beside_the_checkpoint(saved, tmp_path, damage):
    whole = (saved["meta"].parent / "initialisation.pt").read_bytes()
    state = torch.load(io.BytesIO(whole), weights_only=True)
    first = next(iter(state))
    for name in ("last.ckpt", "initialisation.pt"):
        (tmp_path / name).write_bytes((saved["meta"].parent / name).read_bytes())
    if damage in ("cut", "text"):
        (tmp_path / "initialisation.pt").write_bytes(
            {"cut": whole[: len(whole) // 2], "text": b"text"}[damage]
        )
    else:
        wrong = state | {first: state[first] * float("nan")} if damage == "nan" else {"weight": state[first]}
        torch.save(wrong, tmp_path / "initialisation.pt")
    with pytest.raises(UserError, match=r"initialisation\.pt is broken, remove it"):
        train(
            config(
                tmp_path / "rest",
                "iterations=3",
                f"checkpoint={tmp_path / 'last.ckpt'}",
                "resume=true",
                "parent.steps=1",
                "parent.batch_size=1",
            )
        )


def test_the_state_of_another_optimizer_is_refused(saved, tmp_path):
    trainer, module = resumption("meta", saved, tmp_path, "meta/outer/optimizer=sgd")
    message = refusal(lambda path: check_resumable(path, trainer, module, trusted=[]), saved["meta"])
    assert f"{BROKEN}optimizer_states" in str(message)
