"""Mounts that only this process and its children see, for tests of disks that say no.

They need a user namespace and a mount namespace, which some machines forbid: containers without the
capability, Ubuntu 24.04 and newer for programs that AppArmor does not know.
"""

import ctypes
import os
import traceback
from collections.abc import Callable
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384


def forbidden() -> str:
    """Why this process may not have mounts of its own; empty where it may. A child tries it."""

    def attempt() -> None:
        enter()
        _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV)

    return _in_child(attempt)


def enter() -> None:
    """Move to namespaces of our own, as the same user with root's rights over mounts.

    Raises:
        OSError: the machine forbids it.
        ValueError: this process has threads.
    """
    user, group = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def make_read_only(folder: Path, *but: Path) -> None:
    """Nothing below `folder` may be written to any more, save what is below one of `but`."""
    for path in (folder, *but):  # these upon the first, where they lie below it
        if path.exists():
            _mount(str(path), str(path), "", MS_BIND | MS_REC)
    locked = os.statvfs(folder).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)  # these must stay
    _mount("", str(folder), "", MS_REMOUNT | MS_BIND | MS_RDONLY | locked)


def mount_small(folder: Path, size: int) -> None:
    """A file system of so many bytes at `folder`, for this process alone: it ends with it."""
    os.unshare(os.CLONE_NEWNS)
    _mount("tmpfs", str(folder), "tmpfs", MS_NOSUID | MS_NODEV, f"size={size}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = (word.encode(errors="surrogateescape") for word in (source, target, kind))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(*words, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _in_child(act: Callable[[], None]) -> str:
    """The last line of the error that `act` ends with in a forked process; empty without one."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            os.write(write, traceback.format_exc().strip().splitlines()[-1].encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said
