"""The choices that --help lists."""

from helpers import compose
from hydra.utils import get_class
from omegaconf import OmegaConf

from eosvos.config.help import CONF, GROUPS, options, options_table


def test_groups_are_the_folders_of_conf():
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*GROUPS, "hydra"}


def test_parts_of_options_are_no_options(tmp_path, monkeypatch):
    (tmp_path / "dataset").mkdir()
    for name in ("_part", "whole"):
        (tmp_path / "dataset" / f"{name}.yaml").write_text("# what it is for\n")
    monkeypatch.setattr("eosvos.config.help.CONF", tmp_path)
    assert options("dataset") == {"whole": "what it is for"}


def test_table_has_every_option_and_fits_a_terminal():
    table = options_table()
    for group in GROUPS:
        for name in options(group):
            assert f" {name} " in table
    assert max(map(len, table.splitlines())) <= 110


def test_table_of_some_groups():
    table = options_table("trainer")
    assert table.splitlines()[0].startswith("  trainer=")
    assert "dataset=" not in table


def test_help_names_existing_keys():
    for entry in ("train", "evaluate"):
        cfg = compose("dataset=davis2016", "dataset.root=x", entry=entry)
        text = OmegaConf.load(CONF / f"{entry}.yaml").hydra.help.template
        for line in text.split("Keys that are often set")[1].split("Examples")[0].splitlines()[1:]:
            for word in line.split("  ")[1].split() if line.strip() else ():
                key = word.split("=")[0]
                if "." in key and not key.startswith("hydra"):
                    parent, _, leaf = key.rpartition(".")
                    assert leaf in OmegaConf.select(cfg, parent), key


def test_targets_exist():
    for name in ("csv", "tensorboard", "wandb"):
        cfg = compose(f"logger={name}")
        assert get_class(cfg.logger[name]._target_)
