"""Checkpoints: how a learner comes out of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from eosvos.config.build import check_trusted
from eosvos.config.inference import Finetune
from eosvos.config.pretrained import FILES
from eosvos.digest import file_digest
from eosvos.errors import UserError
from eosvos.meta.exported import read_exported
from eosvos.meta.hub import fetch
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner, without_weights
from eosvos.meta.published import from_published, is_published
from eosvos.meta.stored import (
    ENTRIES,
    FORMAT,
    KEY,
    PREFIX,
    SETTINGS,
    Stored,
    misfits,
    refusal,
    refuse,
    stored,
)
from eosvos.models.weights import read_saved


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A learner from a checkpoint, and what the checkpoint says about it.

    `stage`: parent or meta; `iteration`: iterations done in it; `digest`: SHA-256 of its files; `settings`:
    what the run must be resumed with, empty where there is none to resume; `published`: whether the file is
    of the published layout.
    """

    learner: MetaLearner
    model: Model
    finetune: Finetune
    stage: Literal["parent", "meta"]
    iteration: int
    digest: str
    settings: dict[str, Any]
    published: bool


def read_checkpoint(path: Path, trusted: Sequence[str] = ()) -> tuple[dict[str, Any], Stored]:
    """What a checkpoint holds, on the CPU, and the configuration in it.

    Nothing in it is executed, and its configuration asks for nothing outside of eosvos and the `trusted`
    packages. Raises UserError if the file or folder is no checkpoint.
    """
    content = read_exported(path) if path.is_dir() else read_saved(path, refusal(path))
    if is_published(content):
        content = from_published(content, path)
    configuration = content.get(KEY) if isinstance(content, Mapping) else None
    if isinstance(configuration, Mapping):
        version = configuration.get("format")
        if type(version) is int and version != FORMAT:
            raise UserError(f"checkpoint={path} was written by another version of eosvos: train anew")
    refuse(refusal(path), misfits(content, ENTRIES))
    check_trusted(configuration, f"checkpoint={path}", trusted)
    return content, stored(cast(Mapping[str, Any], configuration), refusal(path))


def load_checkpoint(
    checkpoint: str | Path,
    device: str | torch.device = "cpu",
    changes: Mapping[str, Any] | None = None,
    trusted: Sequence[str] = (),
) -> LoadedCheckpoint:
    """The learner of a checkpoint, on a device.

    checkpoint: a file of train.py or of the published system (method, section 9), an exported folder, the
    name of weights that come with eosvos, or a repository of the Hugging Face Hub, hf://OWNER/NAME or
    hf://OWNER/NAME@REVISION. changes: new values of settings that do not depend on the weights, as
    {"segmenter.select": "score"}. trusted: packages beside eosvos whose networks the checkpoint may ask for.
    Raises UserError if it is broken or foreign, if weights or learning rates are not finite, or if its
    network has no such setting.
    """
    path = fetch(checkpoint)
    content, configuration = read_checkpoint(path, trusted)
    model = _changed(configuration.model, changes or {}, path)
    try:
        learner = build_learner(without_weights(model), seed=0)
    except UserError as error:
        raise UserError(f"checkpoint={path}: {error}") from None
    except Exception as error:  # What a network raises for what it cannot be made of.
        raise UserError(f"{refusal(path)}: no network can be built as it says") from error
    load_learner(learner, content["state_dict"], f"{refusal(path)}: state_dict", PREFIX)
    return LoadedCheckpoint(
        learner=learner.to(device),
        model=model,
        finetune=configuration.finetune,
        stage=configuration.stage,
        iteration=content["iteration"],
        digest=_digest(path),
        settings=content[SETTINGS],
        published=is_published(content),
    )


def _changed(model: Model, changes: Mapping[str, Any], path: Path) -> Model:
    """The model with other values of some settings, by the keys of the command line."""
    values = model.model_dump()
    for key, value in changes.items():
        *groups, name = key.removeprefix("meta.").split(".")
        part = values[groups[0]] if groups else values
        if name not in part:
            raise UserError(f"there is no key {key} in the network of checkpoint={path}: leave it out")
        part[name] = value
    return Model(**values)


def load_learner(learner: MetaLearner, state: Any, beginning: str, prefix: str = "") -> None:
    """Load a learner's weights and inner learning rates from a state dict ([...] by name), all finite.

    prefix: what its names begin with. Raises UserError, `beginning` with the reason, for anything else.
    """
    expected = {prefix + name: value for name, value in learner.state_dict().items()}
    refuse(beginning, misfits(state, expected))
    refuse(beginning, (f"{name} is unknown" for name in state if name not in expected))
    learner.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    rates = [lr.lr() for _, lr in learner.named_inner_lrs()]
    if not torch.nn.utils.get_total_norm(rates).isfinite():
        raise UserError(f"{beginning}: a learning rate is infinite")


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of an exported checkpoint's files one after the other, hexadecimal."""
    return file_digest(*([path / name for name in FILES] if path.is_dir() else [path])).hex()
