"""A folder that only one process at a time may write to."""

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from keras_kd.errors import ConfigurationError, Notice
from keras_kd.locks import locked

HOLDER = """
import sys, pathlib
sys.path.insert(0, sys.argv[2])
from keras_kd.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run" / ".state" / "lock"


def test_a_second_holder_is_rejected_with_the_name_of_the_first(file):
    mine = re.escape(f"process {os.getpid()} on {socket.gethostname()} is using this folder.")
    with locked(file), pytest.raises(ConfigurationError, match=mine), locked(file):
        pass
    with locked(file):
        pass
    assert file.read_text() == ""


def test_shared_holders_block_only_exclusive_ones(file):
    with locked(file, shared=True), locked(file, shared=True):
        with pytest.raises(ConfigurationError, match="is using this folder"), locked(file):
            pass


def test_a_crash_releases_it(file):
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", HOLDER, str(file), root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(ConfigurationError, match=f"process {process.pid} on "), locked(file):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    with locked(file):
        pass


def test_it_is_released_if_the_work_fails(file):
    with pytest.raises(ZeroDivisionError), locked(file):
        raise ZeroDivisionError
    with locked(file):
        pass


def test_a_file_system_without_locks_is_reported(file, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(Notice, match="The file system has no file locks"), locked(file):
        pass
