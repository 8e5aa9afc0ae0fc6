import pytest

from eosvos.data.__main__ import main


def test_a_sound_data_set(davis, capsys):
    assert main(["check", str(davis.root), "--layout", "davis2017"]) == 0
    assert capsys.readouterr().out == "2 sequences, 8 frames, 5 masks: no defects\n"


def test_every_defect_is_listed_also_what_headers_do_not_show(davis, labels, capsys):
    frame = davis.root / "JPEGImages/480p/cat/00001.jpg"
    frame.write_bytes(frame.read_bytes()[:-200])
    davis.mask("Annotations/480p/cat/00002.png", labels(1, size=(24, 31)))
    davis.mask("Annotations/480p/cat/00003.png", labels(1), "RGB")
    davis.mask("Annotations/480p/dog/00000.png", labels(0))
    (davis.root / "JPEGImages/480p/dog/00002.jpg").unlink()
    assert main(["check", str(davis.root), "--layout", "davis2017"]) == 1
    lines = capsys.readouterr().out.splitlines()
    for line, words in zip(
        lines,
        [
            "cat/00001.jpg cannot be read",
            "cat/00002.png is 31x24",
            "cat/00003.png is a colour image",
            "dog/00002.jpg is missing",
            "no mask of sequence dog",
            "2 sequences, 8 frames, 5 masks: 5 defects",
        ],
        strict=True,
    ):
        assert words in line


def test_a_missing_first_frame_is_one_defect(davis, capsys):
    (davis.root / "JPEGImages/480p/cat/00000.jpg").unlink()
    assert main(["check", str(davis.root), "--layout", "davis2017", "--sequences", "cat"]) == 1
    assert ": 1 defect\n" in capsys.readouterr().out


def test_what_cannot_be_listed_is_one_sentence(capsys):
    assert main(["check", "nowhere", "--layout", "youtube_vos"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_unknown_layouts_are_refused():
    with pytest.raises(SystemExit):
        main(["check", "x", "--layout", "coco"])


def test_the_real_misfit_is_found(shared, capsys):
    assert main(["check", str(shared / "videos/images"), "--layout", "folder"]) == 1
    first, summary = capsys.readouterr().out.splitlines()
    assert "masks/judo/00005.png is 853x480" in first
    assert summary == "2 sequences, 20 frames, 5 masks: 1 defect"
