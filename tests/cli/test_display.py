import io
import re

import pytest

from polyscale.cli import display


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (12_000, "3 h 20 min")]
)
def test_duration(seconds, text):
    assert display.duration(seconds) == text


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(capsys, clock):
    with display.progress_bar("reading", "files") as update:
        for done in range(1, 26):
            clock(1)
            update(done, 50)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "reading: 10 of 50, 1.0 files/s, 40 s left",
        "reading: 20 of 50, 1.0 files/s, 30 s left",
        "reading: 25 files in 25 s",
    ]


def test_short_work_says_nothing(capsys, clock):
    with display.progress_bar("reading") as update:
        clock(5)
        update(10, 10)
    assert capsys.readouterr().err == ""


def test_what_was_done_before_does_not_count_as_speed(capsys, clock):
    bar = display.open_bar("training", "crops", factor=8, done=100)
    bar.update(100, 200)
    clock(10)
    bar.update(110, 200, "loss 0.5")
    assert capsys.readouterr().err == "training: 110 of 200, 8.0 crops/s, 1 min 30 s left, loss 0.5\n"


def test_on_a_terminal_a_bar_is_drawn(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    bar = display.open_bar("training [x]", "crops")
    bar.update(3, 4, "loss [0.5]")
    with bar.pause():
        print("aside", file=terminal)
    bar.close()
    shown = terminal.getvalue()
    for part in ("training [x]", "3/4", "loss [0.5]", "aside"):
        assert part in shown


def test_a_bar_is_taken_away_when_the_work_fails(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(RuntimeError), display.progress_bar("reading"):
        raise RuntimeError
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is shown again


def test_a_table_has_numbers_to_the_right_and_is_never_cut(capsys):
    names = [f"a column with a long name {number}" for number in range(8)]
    display.print_table(
        "Scores", ["class", *names], [["road", *[12.345] * 8], ["sky [b]", 1_000, *[None] * 7]], "a note"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Scores"
    assert all(name in lines[1] for name in names)
    assert lines[3].split() == ["road", *["12.3"] * 8]
    assert lines[4].split() == ["sky", "[b]", "1000", *["-"] * 7]
    first = len(lines[1].split(names[0])[0] + names[0])
    assert lines[3][:first].endswith("12.3")
    assert lines[5] == "a note"


def test_on_a_narrow_terminal_no_word_is_broken(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    names = ["fused", "scale 0.5", "scale 1", "scale 2"]
    names += ["average of probabilities", "average of logits", "constant attention 0.5"]
    display.print_table("IoU", ["class", *names], [["traffic sign", *[100.0] * 7], ["vegetation", *[12.3] * 7]])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert {"probabilities", "attention", "logits"} <= set(words)
    rows = [line.split() for line in lines[-3:-1]]
    assert rows == [["traffic", "sign", *["100.0"] * 7], ["vegetation", *["12.3"] * 7]]


def test_formatted_numbers_are_numbers_too(capsys):
    display.print_table("T", ["what", "count"], [["a", "1,234"], ["b", "5 %"], ["c", "-"]])
    rows = [line.rstrip() for line in capsys.readouterr().out.splitlines()[3:6]]
    assert len({len(row) for row in rows}) == 1


def test_names_in_tables_and_warnings_cannot_steer_the_terminal(capsys):
    from polyscale.cli import _format_warning
    from polyscale.data.left_out import PartialImageWarning

    display.print_table("\x1b[2J", ["\x1b[1m", "[red]x"], [["\x1b[31mroad", "a\nb"]], "\x1b[0m")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b[31mroad" in shown
    assert "[red]x" in shown
    warning = _format_warning(PartialImageWarning("\x1b]0;x\x07.png has two pages"), PartialImageWarning, "", 1)
    assert warning == "warning: \\x1b]0;x\\x07.png has two pages\n"
