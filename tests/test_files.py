import errno
import os
import stat

import pytest

from somlib.files import PARTIAL_PREFIX, remove_partials, replacing


def test_a_finished_file_takes_its_name_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "folder" / "a.txt"
    with replacing(target) as partial:
        assert partial.parent == target.parent
        assert partial.name.startswith(PARTIAL_PREFIX)
        partial.write_text("done")
        assert not target.exists()
    assert target.read_text() == "done"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_no_partial_one(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    with pytest.raises(ZeroDivisionError), replacing(target) as partial:
        partial.write_text(f"half of {1 / 0}")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_names_the_file_and_the_remedy_and_keeps_the_old_one(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail():
        with replacing(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        OSError, match=r"cannot write .*a\.txt: No space left.*free space"
    ) as caught:
        fail()
    assert caught.value.errno == errno.ENOSPC
    assert target.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("in the way")

    message = r"cannot write .*a\.txt.*Choose a folder"
    with pytest.raises(OSError, match=message), replacing(tmp_path / "file" / "a.txt"):
        pass


def test_finished_files_are_as_readable_as_ordinary_ones(tmp_path):
    with replacing(tmp_path / "a") as partial:
        partial.write_text("x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "b").stat().st_mode
    )


def test_left_overs_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / f"{PARTIAL_PREFIX}x").write_text("half")
    (tmp_path / "kept").write_text("whole")
    assert remove_partials(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["kept", "sub"]
