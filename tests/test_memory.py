import os
import subprocess
import sys

import pytest

from polyscale import memory

glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc only"
)

# A block of 64 MiB is taken, filled and given back twice; printed are the pages that the second time takes anew.
FAULTS = """
import resource
from polyscale.memory import keep_freed_memory

print(keep_freed_memory())
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"\\1") * 2**26
    del block
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults * resource.getpagesize())
"""


def run(script, **settings):
    chosen = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=chosen | settings
    )
    return done.stdout.split()


@glibc
def test_a_freed_block_is_used_again():
    is_set, again = run(FAULTS)
    assert is_set == "True"
    assert int(again) < 2**22


@glibc
@pytest.mark.parametrize(
    "chosen",
    [{"POLYSCALE_MALLOC": "system"}, {"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=1"}],
)
def test_the_users_choice_counts(chosen):
    is_set, again = run(FAULTS, **chosen)
    assert is_set == "False"
    assert int(again) >= 2**26


def test_import_leaves_the_allocator_alone():
    script = "import sys, polyscale\npolyscale.load\n"
    assert run(script + "print('polyscale.memory' in sys.modules)") == ["False"]


def test_a_command_sets_it(monkeypatch):
    from polyscale.cli import main

    called = []
    monkeypatch.setattr("polyscale.memory.keep_freed_memory", lambda: called.append(True))
    main(["--version"])
    assert called == [True]


def test_the_memory_that_is_free_is_known_on_linux():
    free = memory.available_memory()
    assert free is None or 2**20 < free < 2**50


def test_a_control_group_is_the_machine_s_end(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\n")
    names = str(tmp_path / "memory.max"), str(tmp_path / "memory.current"), "inactive_file"
    assert memory._left_of(*names) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_of(*names) is None
