import errno
import os
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from polyscale.cli import main
from polyscale.cli.errors import explain
from polyscale.errors import UserError
from polyscale.files import write_atomically


def system_error(number, *names):
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("scale 3 is\n not allowed"), "scale 3 is not allowed"),
        (ValueError("bad"), "bad"),
        (ValueError(), "ValueError without a message; --debug shows where"),
        (system_error(errno.ENOENT, "a.png"), "a.png: no such file or folder; check the path"),
        (system_error(errno.EACCES, "a.png"), "a.png: permission denied; choose a path that you may read and write"),
        (system_error(errno.ENOSPC, "a.png"), "a.png: the disk is full; free some space or choose another folder"),
        (system_error(errno.ENOSPC), "the disk is full; free some space or choose another folder"),
        (system_error(errno.EISDIR, "a"), "a: Is a directory; --debug shows where"),
        (OSError("odd"), "odd"),
        (
            RuntimeError("Could not determine home directory."),
            "a path begins with ~ and a name, but there is no such user; give the whole path",
        ),
        (ModuleNotFoundError("No module named 'x'; pip install x", name="x"), "No module named 'x'; pip install x"),
    ],
)
def test_what_a_user_can_change_is_one_line(error, line):
    assert explain(error) == line


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        KeyError("x"),
        AssertionError(),
        TypeError("x"),
        ModuleNotFoundError("x", name="polyscale.x"),
    ],
)
def test_our_own_errors_are_left_alone(error):
    assert explain(error) is None


def test_a_full_disk_is_told_whatever_library_met_it():
    from safetensors import SafetensorError

    for error in (
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/7"),
    ):
        assert explain(error) == "the disk is full; free some space or choose another folder"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_real_full_disk():
    with pytest.raises(OSError, match="No space") as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert "the disk is full" in explain(caught.value)


def test_a_full_disk_is_told_with_the_file_that_was_being_written(tmp_path):
    path = tmp_path / "scores.json"
    with pytest.raises(UserError) as caught, write_atomically(path):
        raise system_error(errno.ENOSPC)
    assert str(path) in explain(caught.value)
    assert "free some space" in explain(caught.value)


def test_too_little_memory_says_what_to_make_smaller():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory"), caught.value):
        assert "smaller crop or batch" in (explain(error) or "")


def test_a_batch_too_small_for_batch_norm_says_what_to_make_larger():
    with pytest.raises(ValueError, match="1 value") as caught:
        torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
    assert "augment.crop" in explain(caught.value)


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("a.png is damaged; replace it")


def test_an_error_from_a_loaders_process_is_as_short_as_at_home():
    with pytest.raises(UserError, match="Original Traceback") as caught:
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert explain(caught.value) == "a.png is damaged; replace it"


class Killed:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_loader_process_that_the_system_ended_is_told():
    with pytest.raises(RuntimeError) as info:
        next(iter(DataLoader(Killed(), num_workers=1)))
    assert "mostly for lack of memory; choose fewer training.num_workers" in explain(info.value)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "data", "--epochs", "3"], "such as training.epochs=10; see polyscale train --help"),
        (["attend", "a", "b", "--epochs", "3"], "such as epochs=12; see polyscale attend --help"),
    ],
)
def test_a_setting_that_is_given_as_an_option_is_shown_as_key_and_value(arguments, hint, capsys):
    assert main(arguments) == 2
    assert hint in capsys.readouterr().err
