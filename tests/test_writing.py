import errno
import os
import subprocess
import sys
from contextlib import nullcontext

import pytest

from eosvos.errors import UserError
from eosvos.writing import alone_in, check_apart, check_writable, remove, whole_file, write_whole

HOLD = """
import sys
from pathlib import Path
from eosvos.writing import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_one_process_s_until_it_ends_however_it_does(tmp_path):
    line, pipes = (
        [sys.executable, "-c", HOLD, str(tmp_path)],
        {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE},
    )
    with subprocess.Popen(line, **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process is writing"), alone_in(tmp_path):
            pass
        process.kill()
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize(("number", "said"), [(errno.ENOLCK, None), (errno.EACCES, "is of another user")])
def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch, caplog, number, said):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(UserError, match=said) if said else nullcontext(), alone_in(tmp_path):
        assert "cannot be locked" in caplog.text


def _fail_half_way(path, error):
    with whole_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def test_a_file_is_written_with_its_folder_and_replaced_whole(tmp_path):
    path = tmp_path / "a/b.txt"
    write_whole(path, b"old")
    with whole_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["b.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, b"old")
    with pytest.raises(KeyError):
        _fail_half_way(path, KeyError())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, b"old")
    with pytest.raises(UserError, match=r"a\.txt cannot be written \(No space left on device\): make room"):
        _fail_half_way(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_in_the_way_of_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(UserError, match=r"b\.txt cannot be written .* choose another place"):
        write_whole(tmp_path / "a/b.txt", b"")
    with pytest.raises(UserError, match=r"results=.*b: .*a is a file, not a folder"):
        check_writable(tmp_path / "a/b", "results")
    with pytest.raises(UserError, match=r"results=.*a: .*a is a file, not a folder"):
        check_writable(tmp_path / "a", "results")


def test_whether_a_folder_can_be_written_is_known_without_making_it(tmp_path, monkeypatch):
    check_writable(tmp_path / "a/b", "results")
    assert not os.listdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != tmp_path)
    with pytest.raises(UserError, match=f"results=.*b: the folder {tmp_path} cannot be written"):
        check_writable(tmp_path / "a/b", "results")


@pytest.mark.parametrize("target", ["clip", "clip/out", "link", "clip/../clip"])
def test_nothing_is_written_where_files_are_read(tmp_path, target):
    (tmp_path / "clip").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "clip")
    with pytest.raises(UserError, match=r"results=X would write into .*clip, which is read from"):
        check_apart([tmp_path / "out", tmp_path / target], [tmp_path / "clip"], "results=X")
    check_apart([tmp_path / "clip-out", tmp_path], [tmp_path / "clip"], "results=X")


def test_files_are_deleted_with_what_an_interruption_left_of_them(tmp_path):
    for name in ("a.png", ".a.png.12", ".b.png.3", "c.png", ".c.png.4", ".a.png.x", "a.png.5"):
        (tmp_path / name).write_text("")
    remove([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "none/d.png"])
    assert sorted(os.listdir(tmp_path)) == [".a.png.x", ".c.png.4", "a.png.5", "c.png"]


def test_a_file_that_cannot_be_deleted_is_one_sentence(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png cannot be deleted \(.*\): choose another place"):
        remove([tmp_path / "a.png"])


def test_a_place_that_no_file_system_has_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"results=.*too long"):
        check_writable(tmp_path / ("x" * 300) / "in", "results")


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\): shorten the name"):
        write_whole(tmp_path / ("x" * 250), b"")
