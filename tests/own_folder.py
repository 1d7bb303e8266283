# SPDX-License-Identifier: Apache-2.0
"""Folders of tests that start servers: each has an owner, and goes when that is no more."""

import fcntl
import os
import pathlib
import random
import shutil


def own_folder(parent, kind):
    """A new folder KIND-….run in `parent`, and away with those of the kind whose owners are gone
    (killed): each owner holds a lock on its folder as long as it lives."""
    for old in pathlib.Path(parent).glob(f"{kind}-*.run"):
        handle = os.open(old, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
            print(f"removed {old.name}, left by a killed run")
        except BlockingIOError:
            pass
        finally:
            os.close(handle)
    folder = pathlib.Path(parent) / f"{kind}-{random.SystemRandom().randrange(16**8):08x}.run"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.set_inheritable(handle, False)
    return folder
