"""The benchmark for GPUs runs where there is none, on a tiny network."""

import gpu
import pytest
import torch
from operations import SMALL

from eosvos.models.compiled import CompiledEncoder


def test_every_row_is_measured_in_every_column(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(gpu, "CompiledEncoder", lambda: CompiledEncoder("eager"))
    monkeypatch.setattr(gpu, "device_for", lambda _: torch.device("cpu"))
    for name, value in {"STEPS": 2, "ROUNDS": 1, "FRAMES": 3}.items():
        monkeypatch.setattr(gpu, name, value)
    keys = [
        *SMALL,
        "backbone.width=8",
        "backbone.fpn_channels=16",
        "finetune.steps=1",
        "finetune.online.steps=1",
        "finetune.batch_size=1",
        "finetune.short_side=null",
        "dataset.size=[32,48]",
    ]
    monkeypatch.setattr("sys.argv", ["gpu.py", *keys])
    gpu.main()
    first, second = capsys.readouterr().out.split("\n\n")
    header, *rows = first.splitlines()
    assert header.split() == ["CPU", "fp32", "TF32", "bf16"]
    assert len(rows) == 16
    _, *of_settings = second.splitlines()
    assert len(of_settings) == 2 * 4 + 2
    assert all(min(map(float, row.split()[2:6])) > 0 for row in of_settings[:8])
    assert float(of_settings[-1].split()[-1]) > 0
    assert rows[0].count("( 1.00)") == 3
    assert all(float(row[42:].split("(")[0]) > 0 for row in rows)
