import os
import subprocess
import sys

import pytest

from polyscale.cli import main
from polyscale.errors import UserError


@pytest.fixture
def stand_in(monkeypatch):
    """Put a function in the place of all commands; it is given the arguments."""

    def put(function):
        monkeypatch.setattr("polyscale.cli.app.app", lambda arguments, **_: function(arguments))

    return put


def raising(error):
    def command(_):
        raise error

    return command


def test_help_is_shown_without_loading_anything_heavy():
    script = (
        "import sys\nfrom polyscale.cli import main\nstatus = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'timm', 'PIL', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "print('loaded', sorted(heavy), status)"
    )
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert "evaluate" in shown
    assert shown.endswith("loaded [] 0\n")


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "data", "data check", "data draw"])
def test_each_command_explains_itself(capsys, command):
    assert main([*command.split(), "--help"]) == 0
    assert f"Usage: polyscale {command} " in capsys.readouterr().out


def test_no_argument_shows_the_help(capsys):
    for arguments, usage in (([], "Usage: polyscale "), (["data"], "Usage: polyscale data ")):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out.startswith(usage)
        assert captured.err == ""


def test_version(capsys):
    import polyscale

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"polyscale {polyscale.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "No such command 'nothing'; see polyscale --help"),
        (["data", "check"], "Missing argument 'DATA'; see polyscale data check --help"),
        (["data", "draw", "x", "--train", "many"], "Invalid value for '--train'"),
        (["data", "draw", "x", "--colour"], "No such option"),
        (
            ["data", "draw", "x", "--size", "big"],
            "--size must be HEIGHTxWIDTH in pixels, got 'big'; for example 256x512",
        ),
        (["data", "check", "no/such/data"], "no such data set: no/such/data"),
        (["evaluate", "no.safetensors", "data"], "no.safetensors"),
        (["evaluate", "x", "y", "--scales", "0.5,2"], "--scales must contain 1"),
        (["predict", "no.safetensors", "no.png", "--out", "x"], "no.png"),
        (["train", "no.yaml"], "no such file: no.yaml"),
        (["train"], "no data or recipe given"),
        (["train", "--resume"], "no data or recipe given"),
    ],
)
def test_bad_input_is_one_line_and_status_two(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_shows_the_traceback_wherever_it_stands(capsys, place):
    arguments = ["data", "check", "no/such/data"]
    arguments.insert(place, "--debug")
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.splitlines()[-1].startswith("error: no such data set")


def test_after_two_dashes_debug_is_a_plain_argument(stand_in):
    seen = []
    stand_in(seen.extend)
    assert main(["a", "--debug", "--", "--debug"]) == 0
    assert seen == ["a", "--", "--debug"]


def test_a_message_of_many_lines_becomes_one(capsys, stand_in):
    stand_in(raising(UserError("first\n  second\n\nthird")))
    assert main([]) == 2
    assert capsys.readouterr().err == "error: first second third\n"


def test_an_error_of_ours_is_not_hidden(stand_in):
    stand_in(raising(RuntimeError("ours")))
    with pytest.raises(RuntimeError, match="ours"):
        main([])


def test_an_interrupt_is_status_130(capsys, stand_in):
    stand_in(raising(KeyboardInterrupt()))
    assert main([]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_commands_status_is_the_programs(stand_in):
    stand_in(lambda _: 1)
    assert main([]) == 1


def test_warnings_of_libraries_are_hidden_and_others_are_not():
    script = (
        "import warnings\nfrom polyscale.cli import main\nmain(['--version'])\n"
        "import logging\nlogging.getLogger('PIL.TiffImagePlugin').error('from PIL')\n"
        "for module in ('torch.nn.functional', 'timm', 'PIL.TiffImagePlugin', 'torchy', 'mine'):\n"
        "    warnings.warn_explicit('from ' + module, UserWarning, 'x.py', 1, module=module)"
    )
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stderr
    assert "from mine" in shown
    assert "from torchy" in shown
    assert "from torch.nn" not in shown
    assert "from timm" not in shown
    assert "from PIL" not in shown


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "polyscale", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["a\x1b[31mred\x1b[0m.png", "a\rb", "a\x9b2Jb", "a\u202eb", "a\udcffb", "x" * 10_000])
def test_a_name_does_not_steer_the_terminal(stand_in, capsys, name):
    stand_in(raising(UserError(f"{name} cannot be read; give another")))
    assert main(["predict"]) == 2
    shown = capsys.readouterr().err
    assert shown.removesuffix("\n").isprintable()
    assert len(shown) <= 501
    assert shown.startswith("error: ")
    assert shown.endswith("cannot be read; give another\n")
