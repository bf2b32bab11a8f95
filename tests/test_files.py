import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from somlib import files
from somlib.files import PARTIAL_PREFIX, InUseError, claimed, remove_partials, replacing, same

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")


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


def test_names_of_any_length_have_room(tmp_path):
    target = tmp_path / ("n" * 240 + ".txt")
    with replacing(target) as partial:
        partial.write_text("done")
        assert partial.suffix == ".txt"
    assert target.read_text() == "done"


# ------------------------------------------------------------------ a rename over whatever is there


@contextmanager
def special(kind, folder):
    """Make something that is no ordinary file, and return its path."""
    path = folder / "special"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            yield path
        return
    elif "device" in kind:
        # one of its own: if it were replaced after all, by root, the machine would lose it
        device = folder / "null" if "link" in kind else path
        try:
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root may make a device")
        if device != path:
            path.symlink_to(device)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a folder":
        path.symlink_to(folder)
    else:
        path = f"{path}/"
    yield path


@posix
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "it is a pipe or a device"),
        ("socket", "it is a pipe or a device"),
        ("device", "it is a pipe or a device"),
        ("link to a device", "it is a pipe or a device"),
        ("folder", "it is a folder; name a file"),
        ("link to a folder", "it is a folder; name a file"),
        ("trailing slash", "it is a folder; name a file"),
    ],
)
def test_what_is_no_file_is_refused_before_any_work_and_stays(kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with special(kind, tmp_path) as path:
        before = os.lstat(path) if os.path.lexists(path) else None
        began = False
        with pytest.raises(OSError, match=f"cannot write to .*: {message}"), replacing(path):
            began = True
        assert not began
        assert (os.lstat(path) if os.path.lexists(path) else None) == before


@posix
@pytest.mark.parametrize("target", ["there.txt", "folder/there.txt", "new/not yet.txt"])
def test_a_link_stays_and_its_target_changes(target, tmp_path):
    (tmp_path / "folder").mkdir()
    if "there" in target:
        (tmp_path / target).write_text("old")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "another").symlink_to("link")
    with replacing(tmp_path / "another") as partial:
        partial.write_text("new")
        assert partial.parent == (tmp_path / target).parent
    assert (tmp_path / target).read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "another").is_symlink()
    assert not list(tmp_path.rglob(PARTIAL_PREFIX + "*"))


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_permissions_stay(mode, tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(mode)
    with replacing(tmp_path / "a") as partial:
        partial.write_text("new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_write_protected_file_is_kept(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o444)
    if os.access(tmp_path / "a", os.W_OK):
        pytest.skip("this user may write everything")
    with pytest.raises(PermissionError, match="it is write-protected"), replacing(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"
    (tmp_path / "a").chmod(0o644)


@posix
def test_one_file_is_recognised_by_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "hard").hardlink_to("a")
    (tmp_path / "soft").symlink_to("a")
    (tmp_path / "dangling").symlink_to("absent")
    for name in ("a", "./a", tmp_path / "a", "hard", "soft"):
        assert same("a", name)
    assert same("absent", "dangling")
    assert same("absent", "./absent")
    assert not same("a", "b")
    assert not same("a", "absent")


# ------------------------------------------------------------------ names that processes share


@contextmanager
def another_process(block, path):
    """Let another process stay inside `with {block}(path)`, until it is killed."""
    code = (
        f"import sys, time\nfrom somlib.files import *\n"
        f"with {block}(sys.argv[1]):\n    print(flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_unfinished_files_of_a_process_that_lives_are_not_removed(tmp_path):
    with another_process("replacing", tmp_path / "a.txt") as process:
        assert remove_partials(tmp_path) == 0
        (partial,) = tmp_path.iterdir()
        assert partial.name.startswith(PARTIAL_PREFIX)
        with replacing(tmp_path / "b.txt"):
            assert remove_partials(tmp_path) == 0
        process.kill()
        process.wait()
        assert remove_partials(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_who_comes_second_is_told_who_is_at_work_and_a_kill_leaves_no_claim(tmp_path):
    path = tmp_path / "a.npz"
    with another_process("claimed", path) as process:
        who = f"a.npz is being made by process {process.pid} on {socket.gethostname()} since 2"
        with pytest.raises(InUseError, match=who), claimed(path):
            pass
        with claimed(tmp_path / "b.npz"):
            assert remove_partials(tmp_path) == 0
        process.kill()
        process.wait()
        with claimed(path):
            pass
    assert not list(tmp_path.iterdir())


def test_who_waits_comes_next_and_says_so_when_it_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.0)
    path = tmp_path / "a.npz"
    with another_process("claimed", path) as process:
        threading.Timer(0.3, process.kill).start()
        said = pytest.warns(UserWarning, match=f"a.npz is being made by process {process.pid}.*wai")
        with said, claimed(path, wait=True):
            pass
    assert process.returncode == -signal.SIGKILL or os.name == "nt"


def test_where_no_claim_can_be_made_work_goes_on(tmp_path):
    (tmp_path / "file").touch()
    began = False
    with claimed(tmp_path / "file" / "a.npz"):
        began = True
    assert began


@posix
def test_threads_that_write_at_the_same_time_leave_the_umask_alone(tmp_path, monkeypatch):
    current, real = [0o027], os.umask

    def slow_umask(new):  # as os.umask, with time for another thread in between
        old, current[0] = current[0], new
        time.sleep(0.001)
        return old

    def write(number):
        with replacing(tmp_path / f"{number}.txt") as partial:
            partial.write_text("done")

    monkeypatch.setattr(os, "umask", slow_umask)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(os, "umask", real)
    assert current == [0o027]
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o640}
