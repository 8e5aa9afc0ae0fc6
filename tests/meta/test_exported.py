"""Exported checkpoints: the same network in a folder, found by path, by name, or on the Hugging Face Hub."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from helpers import LIGHT, SMALL, config
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

import eosvos
from eosvos import Predictor, convert_checkpoint, load_checkpoint, push_to_hub
from eosvos.config import pretrained
from eosvos.config.inference import Finetune
from eosvos.convert import main
from eosvos.errors import UserError
from eosvos.training.train import train

ONE_STEP = (*SMALL, "iterations=1", "val_every=1", "meta.batch_size=1", "dataset.test.num_videos=1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of train.py: a Mask R-CNN, and a network with one shared learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    for name, *overrides in (("mask_rcnn",), ("light", LIGHT, "meta.inner_lr.level=single")):
        train(config(*ONE_STEP, *overrides, output=folder / name))
    return {name: folder / name / "checkpoints" / "last.ckpt" for name in ("mask_rcnn", "light")}


@pytest.fixture
def exported(saved, tmp_path) -> Path:
    convert_checkpoint(saved["light"], tmp_path / "exported")
    return tmp_path / "exported"


def masks(predictor: Predictor) -> torch.Tensor:
    """What a predictor makes of a made video, [T, H, W]."""
    frames = np.random.default_rng(0).integers(0, 255, (3, 32, 48, 3), np.uint8)
    mask = np.zeros((32, 48), int)
    mask[8:24, 10:30] = 1
    return torch.stack(list(predictor.segment_frames(frames, mask)))


@pytest.mark.parametrize("network", ["mask_rcnn", "light"])
def test_the_export_gives_the_same_masks(saved, tmp_path, network):
    said = convert_checkpoint(saved[network], tmp_path / "exported")
    assert re.fullmatch(rf"{tmp_path}/exported: \d+ tensors, [\d,]+ values, \d\.\d MiB", said)
    assert {file.name for file in (tmp_path / "exported").iterdir()} == {"config.json", "model.safetensors"}
    ours, theirs = (load_checkpoint(path) for path in (saved[network], tmp_path / "exported"))
    for name, value in ours.learner.state_dict().items():
        assert torch.equal(theirs.learner.state_dict()[name], value), name
    assert (theirs.model, theirs.finetune, theirs.stage) == (ours.model, ours.finetune, ours.stage)
    assert theirs.iteration == ours.iteration == 1
    before, after = (
        masks(Predictor.from_pretrained(path)) for path in (saved[network], tmp_path / "exported")
    )
    assert torch.equal(before, after)


def test_weights_are_moved_toward_those_of_another_and_learning_rates_are_not(saved, tmp_path, capsys):
    other = ("iterations=1", "val_every=1", "meta.batch_size=1", "dataset.test.num_videos=1", "seed=5")
    train(config(*SMALL, *other, LIGHT, "meta.inner_lr.level=single", output=tmp_path / "other"))
    goal = tmp_path / "other" / "checkpoints" / "last.ckpt"
    main([str(saved["light"]), str(tmp_path / "moved"), "--toward", str(goal), "0.25"])
    ours, goals, moved = (
        load_checkpoint(path).learner for path in (saved["light"], goal, tmp_path / "moved")
    )
    for a, b, c in zip(*(one.weights() for one in (ours, goals, moved)), strict=True):
        assert torch.allclose(c, 0.75 * a + 0.25 * b, atol=1e-6)
        assert not torch.equal(a, b)
    assert all(map(torch.equal, ours.inner_lrs(), moved.inner_lrs()))
    with pytest.raises(UserError, match=r"checkpoint=\S+ does not fit the network"):
        convert_checkpoint(saved["light"], tmp_path / "no", toward=(saved["mask_rcnn"], 0.5))
    with pytest.raises(UserError, match=r"^1\.5 is no share of the way to checkpoint="):
        convert_checkpoint(saved["light"], tmp_path / "no", toward=(goal, 1.5))
    with pytest.raises(SystemExit):
        main([str(saved["light"]), str(tmp_path / "no"), "--toward", str(goal), "half"])
    assert "'half' is no number from 0 to 1" in capsys.readouterr().err


def test_a_predictor_takes_the_checkpoints_finetuning_or_another(exported):
    assert Predictor.from_pretrained(exported).finetune == load_checkpoint(exported).finetune
    predictor = Predictor.from_pretrained(str(exported), Finetune(steps=2), seed=3)
    assert (predictor.finetune.steps, predictor.seed) == (2, 3)


def test_half_precision_takes_half_the_room_and_is_computed_with_in_full(saved, tmp_path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    convert_checkpoint(saved["mask_rcnn"], whole)
    convert_checkpoint(saved["mask_rcnn"], half, half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    exact, rounded = (load_checkpoint(folder).learner for folder in (whole, half))
    for (name, value), there in zip(exact.state_dict().items(), rounded.state_dict().values(), strict=True):
        assert there.dtype == torch.float32
        assert torch.equal(there, value.half().float()), name
    # Learning rates are far above the smallest that 16 bits hold.
    for (name, rate), (_, there) in zip(exact.named_inner_lrs(), rounded.named_inner_lrs(), strict=True):
        torch.testing.assert_close(there.lr(), rate.lr(), rtol=2**-8, atol=0, msg=name)


def test_what_does_not_fit_into_half_precision_is_refused(exported, saved, tmp_path):
    content = torch.load(saved["light"], weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = content["state_dict"][name].clone().fill_(1e5)
    torch.save(content, tmp_path / "large.ckpt")
    with pytest.raises(UserError, match=r"large\.ckpt: \S+ has values too large for 16 bits"):
        convert_checkpoint(tmp_path / "large.ckpt", tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()


def damaged(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("config.json", None, "there is no config.json in it"),
        ("model.safetensors", None, "there is no model.safetensors in it"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"\xff\xfe", "config.json cannot be read"),
        ("config.json", b"[" * 100_000, "config.json cannot be read"),
        ("config.json", b"[]", "what it holds is not of the kind"),
        ("config.json", b"{}", "eosvos is missing"),
        ("model.safetensors", b"text", "it is cut off, or no file of tensors"),
    ],
)
def test_damaged_folders_are_refused(exported, name, change, said):
    damaged(exported, name, change)
    with pytest.raises(
        UserError, match=f"^checkpoint={exported} is broken, or no checkpoint of eosvos: {said}"
    ):
        load_checkpoint(exported)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        (("format",), 3, "written by another version"),
        (("model", "segmenter", "_target_"), "os.system", "'os.system'.* is refused"),
        (("model", "segmenter", "channels"), 16, "is not of the kind that belongs there"),
        (("finetune", "steps"), -1, r"eosvos\.finetune\.steps is not as it must be"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(exported, entry, value, said):
    configuration = json.loads((exported / "config.json").read_text())
    node = configuration["eosvos"]
    for key in entry[:-1]:
        node = node[key]
    node[entry[-1]] = value
    (exported / "config.json").write_text(json.dumps(configuration))
    with pytest.raises(UserError, match=said):
        load_checkpoint(exported)


def test_the_digest_is_of_both_files(exported):
    before = load_checkpoint(exported).digest
    (exported / "config.json").write_text((exported / "config.json").read_text() + "\n")
    assert load_checkpoint(exported).digest != before


def test_nothing_is_written_over(exported, saved):
    before = (exported / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="exported is there already: choose another name"):
        convert_checkpoint(saved["mask_rcnn"], exported)
    assert (exported / "model.safetensors").read_bytes() == before


def test_the_command(saved, tmp_path, capsys):
    main([str(saved["mask_rcnn"]), str(tmp_path / "out"), "--half"])
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'out'}: ")
    assert load_checkpoint(tmp_path / "out").iteration == 1
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "out"), str(tmp_path / "out.model")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "out.model: the published layout is of one network, with segmenter." in said
    assert said.count("\n") == 1


def test_weights_that_come_with_eosvos_have_names(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "PACKAGE", tmp_path / "weights")
    with pytest.raises(UserError, match=r"no weights of that name: there are none$"):
        config("checkpoint=small")
    (tmp_path / "weights").mkdir()
    exported.rename(tmp_path / "weights" / "small")
    assert config("checkpoint=small").checkpoint == "small"
    named = load_checkpoint("small")
    assert named.digest == load_checkpoint(tmp_path / "weights" / "small").digest
    for act in (load_checkpoint, Predictor.from_pretrained, lambda name: config(f"checkpoint={name}")):
        with pytest.raises(
            UserError, match=r"checkpoint=smal: there is no such file, .* did you mean small\?"
        ):
            act("smal")
    # A name means the same in every folder.
    monkeypatch.chdir(tmp_path)
    Path("small").mkdir()
    assert load_checkpoint("small").digest == named.digest
    with pytest.raises(UserError, match=r"there is no config\.json in it"):
        load_checkpoint("./small")


class FakeHub:
    """Repositories as folders, behind the calls of huggingface_hub that eosvos makes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, name: str, exist_ok: bool) -> None:
        (self.root / name).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, repo_id: str, folder_path: Path) -> None:
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, name: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert allow_patterns == ["config.json", "model.safetensors"]
        if (revision != "v1" and revision is not None) or not (self.root / name).is_dir():
            raise HfHubHTTPError(
                "not found", response=SimpleNamespace(status_code=404, headers={}, request=None)
            )
        return str(self.root / name)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """The folder of a hub that is not the real one."""
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake.root


def test_there_and_back_through_the_hub(saved, hub):
    assert push_to_hub(saved["light"], "owner/name", half=True).startswith("hf://owner/name: ")
    assert {file.name for file in (hub / "owner" / "name").iterdir()} == {"config.json", "model.safetensors"}
    # Again, into the same repository.
    convert_checkpoint(saved["light"], "hf://owner/name")
    expected = masks(Predictor.from_pretrained(saved["light"]))
    for name in ("hf://owner/name", "hf://owner/name@v1"):
        assert config(f"checkpoint={name}").checkpoint == name
        assert torch.equal(masks(Predictor.from_pretrained(name)), expected)


def test_what_the_hub_does_not_have_is_said_in_a_sentence(saved, hub, monkeypatch):
    for name in ("owner", "owner/name/file", "own er/name", "owner/name@", ""):
        for act in (load_checkpoint, lambda name: push_to_hub(saved["light"], name.removeprefix("hf://"))):
            with pytest.raises(UserError, match="is no repository: write hf://OWNER/NAME"):
                act(f"hf://{name}")
    with pytest.raises(UserError, match="weights go to the main branch, leave @v1 out"):
        push_to_hub(saved["light"], "owner/name@v1")
    for name in ("hf://owner/absent", "hf://owner/absent@v2"):
        with pytest.raises(
            UserError, match=rf"^checkpoint={name} cannot be had \(the Hugging Face Hub answers 404\)"
        ):
            load_checkpoint(name)
    # Before version 1, what the library raises without a network is of this kind, too.
    no_answer = HfHubHTTPError.__new__(HfHubHTTPError)
    no_answer.response = None
    for error, said in (
        (no_answer, "the Hugging Face Hub cannot be reached"),
        (LocalTokenNotFoundError("long"), "you are not logged in"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("[Errno -2]"), "the Hugging Face Hub cannot be reached"),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(huggingface_hub, "HfApi", lambda fail=fail: SimpleNamespace(create_repo=fail))
        with pytest.raises(UserError, match=rf"^hf://owner/name cannot be written \({re.escape(said)}\)"):
            push_to_hub(saved["light"], "owner/name")


def test_without_a_network_the_real_library_ends_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"^checkpoint=hf://eosvos/absent cannot be had \(.* cannot be reached\): check"
    ):
        load_checkpoint("hf://eosvos/absent")


def test_the_public_names_are_there():
    assert {"convert_checkpoint", "push_to_hub"} <= set(eosvos.__all__)
    assert all(getattr(eosvos, name) is not None for name in eosvos.__all__)
