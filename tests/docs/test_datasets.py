"""What docs/datasets.md says of several data sets works as it stands there."""

import re

import pytest
from helpers import ROOT, prepared
from small_videos import davis, stills, youtube_vos

PAGE = (ROOT / "docs/datasets.md").read_text()
SECTION = PAGE.split("## Several data sets")[1].split("\n## ")[0]
COMMANDS = re.findall(r"^    python train\.py (.*)$", SECTION, flags=re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    davis(tmp_path / "DAVIS", 40)
    youtube_vos(tmp_path / "YTVOS", 60)
    stills(tmp_path / "STILLS", 80)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "names"), [*zip(COMMANDS, (["davis2017", "youtube_vos"], ["new", "old"]), strict=True)]
)
def test_commands(here, command, names):
    few = ["dataset.youtube_vos.held_out=2"] if "youtube_vos" in names else []
    _, videos = prepared(*command.split(), *few)
    assert [one.name for one in videos.train] == list(videos.val) == list(videos.test) == names
    assert all(len(of_set) == 2 for of_set in videos.val.values())


def test_a_file_with_videos_and_pictures(here):
    [(name, text)] = re.findall(r"```yaml\n# (\S+)\n(.*?)```", SECTION, flags=re.DOTALL)
    path = here / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    roots = ("dataset.davis2017.root=DAVIS", "dataset.stills.root=STILLS")
    _, videos = prepared(f"hydra.searchpath=[file://{here}/conf]", "dataset=ours", *roots)
    found = [(one.name, one.weight, one.frame_window) for one in videos.train]
    assert found == [("davis2017", 3, 10), ("stills", 1, None)]
    assert list(videos.val) == ["davis2017"]
    assert not any(video.still for video in videos.selection)
