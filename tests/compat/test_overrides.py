"""What eosvos overrides or reads of other projects is still there, under the same names and parameters."""

import importlib
import inspect
import sys
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from helpers import command_line
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from learn2learn.optim import ParameterUpdate
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from torch import nn

from eosvos.compat import learn2learn, lightning, torchvision_04, torchvision_waits
from eosvos.config.search import Search
from eosvos.models import mask_rcnn, roi_heads

CLASSES = [
    one
    for module in (learn2learn, lightning, torchvision_04, torchvision_waits, roi_heads, mask_rcnn)
    for one in vars(module).values()
    if inspect.isclass(one) and one.__module__ == module.__name__
]
FOREIGN = ("torchvision.", "learn2learn.", "pytorch_lightning.", "lightning_fabric.")


def overridden():
    """(our class, base class of another project, name) of every method that we override."""
    for one in CLASSES:
        for base in one.__mro__[1:]:
            if not base.__module__.startswith(FOREIGN):
                continue
            for name, method in vars(one).items():
                if inspect.isfunction(method) and inspect.isfunction(vars(base).get(name)):
                    yield pytest.param(one, base, name, id=f"{base.__module__}.{base.__name__}.{name}")


@pytest.mark.parametrize(
    ("ours", "base", "name"), [case for case in overridden() if case.values[2] != "__init__"]
)
def test_an_overridden_method_takes_what_the_original_takes(ours, base, name):
    original, mine = (inspect.signature(getattr(one, name)).parameters for one in (base, ours))
    takes_all = any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in mine.values())
    missing = [one for one, p in original.items() if one not in mine and p.default is p.empty]
    assert takes_all or not missing
    extra = [one for one, p in mine.items() if one not in original and p.default is p.empty]
    assert takes_all or not [one for one in extra if mine[one].kind not in (mine[one].VAR_KEYWORD,)]


def test_there_is_something_overridden():
    assert len(list(overridden())) >= 8


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("torchvision.models.detection.roi_heads.RoIHeads", "assign_targets_to_proposals"),
        ("torchvision.models.detection.roi_heads", "expand_boxes"),
        ("torchvision.models.detection.rpn.RegionProposalNetwork", "_get_top_n_idx"),
        ("torchvision.ops.poolers", "_convert_to_roi_format"),
        ("torchvision.models.detection.anchor_utils.AnchorGenerator", "grid_anchors"),
        ("torchvision.models.detection._utils", "BoxCoder"),
        ("torchvision.models._utils", "IntermediateLayerGetter"),
        ("pytorch_lightning.loggers.csv_logs.ExperimentWriter", "save"),
        ("hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "split_arguments"),
    ],
)
def test_what_is_called_of_other_projects_is_there(owner, name):
    import pkgutil

    assert callable(getattr(pkgutil.resolve_name(owner), name))


def test_hydra_finds_the_sweeper_of_eosvos():
    found = {f"{one.__module__}.{one.__name__}" for one in Plugins.instance().discover(Sweeper)}
    assert Search.target in found
    assert Plugins.is_in_toplevel_plugins_module(Search.target)


@pytest.mark.parametrize("package", ["lightning_fabric", "pytorch_lightning"])
def test_lightning_starts_the_processes_of_a_job_by_repeating_its_command(package, monkeypatch):
    """`python -m eosvos.commands COMMAND JOB.yaml`, and words for Hydra, which it does not read."""
    launcher = importlib.import_module(f"{package}.strategies.launchers.subprocess_script")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="eosvos.commands"))
    monkeypatch.setattr(sys, "argv", ["commands.py", "train", "job.yaml"])
    with command_line("hydra.mode=MULTIRUN"):
        line, _ = launcher._hydra_subprocess_cmd(local_rank=1)
    assert line[:5] == [sys.executable, "-m", "eosvos.commands", "train", "job.yaml"]


def test_learn2learn_keeps_the_transform_of_each_parameter():
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3), requires_grad=False)]
    update = ParameterUpdate(parameters, lambda p: nn.Identity() if p.requires_grad else None)
    assert isinstance(learn2learn.transform_of(update, 0), nn.Identity)
    assert learn2learn.transform_of(update, 1) is None


def test_lightning_checkpoints_have_the_counters_that_are_written(tmp_path):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def training_step(self, batch, batch_idx):
            return self.weight

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer = pl.Trainer(max_steps=2, enable_checkpointing=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.zeros(4, 1)))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    before = _keys(checkpoint["loops"])
    lightning.count_iterations(checkpoint, 7)
    assert _keys(checkpoint["loops"]) == before
    assert checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 7


def test_lightning_writes_rows_through_the_writer_that_is_replaced(tmp_path):
    writer = ExperimentWriter(str(tmp_path))
    writer.log_metrics({"a": 1.0}, step=0)
    assert writer.metrics == [{"a": 1.0, "step": 0}]
    assert writer.metrics_file_path.startswith(str(tmp_path))


def _keys(node):
    return {key: _keys(value) for key, value in node.items()} if isinstance(node, dict) else None
