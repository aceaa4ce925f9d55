import errno
import os
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Field, ValidationError, model_validator

from polyscale.config import Config, dump_yaml, import_path, is_import_path, load_config, read_yaml, validate
from polyscale.errors import UserError
from polyscale.files import check_folder, remove_leftovers, write_atomically


class Light(Config):
    kind: Literal["light"] = "light"
    channels: int = 64


class Deep(Config):
    kind: Literal["deep"] = "deep"
    rates: tuple[int, ...] = (12, 24)


class Optimizer(Config):
    lr: float = 0.1
    nesterov: bool = False


class Run(Config):
    name: str = "run"
    scales: tuple[float, ...] = (0.5, 1.0)
    optimizer: Optimizer = Optimizer()
    head: Annotated[Light | Deep, Field(discriminator="kind")] = Light()


class Required(Config):
    root: Path


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="a.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-3", 0.005),
        ("1e5", 1e5),
        ("1E+2", 100.0),
        ("-2.5e-1", -0.25),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("-3", -3),
        ("+4", 4),
        ("0", 0),
        ("0x10", 16),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026-01-02", "2026-01-02"),
        ("e5", "e5"),
        ("1e", "1e"),
        ('"5e-3"', "5e-3"),
    ],
)
def test_yaml_scalars_read_as_a_person_would(write, text, value):
    read = read_yaml(write(f"x: {text}\n"))["x"]
    assert read == value
    assert type(read) is type(value)


def test_number_in_exponent_form_reaches_a_float_field(write):
    assert load_config(Run, [write("optimizer: {lr: 5e-3}")]).optimizer.lr == 0.005


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Run().name = "other"


def test_a_key_given_twice_is_refused_with_its_line(write):
    path = write("name: a\nscales: [1]\nname: b\n")
    with pytest.raises(UserError, match=r"a\.yaml line 3: .*'name' is given twice"):
        read_yaml(path)


def test_a_nested_key_given_twice_is_refused(write):
    with pytest.raises(UserError, match="'lr' is given twice"):
        read_yaml(write("optimizer:\n  lr: 1\n  lr: 2\n"))


def test_anchors_and_merge_keys_still_work(write):
    content = read_yaml(write("a: &base {lr: 5e-3, nesterov: true}\nb:\n  <<: *base\n  lr: 1\n"))
    assert content["b"] == {"lr": 1, "nesterov": True}


@pytest.mark.parametrize(
    ("text", "value"), [("!!str 5", "5"), ("!!int 5", 5), ('!!int "5"', 5), ("!!float 5.", 5.0), ("!!bool true", True)]
)
def test_a_tag_that_fits_is_read(write, text, value):
    assert read_yaml(write(f"x: {text}\n")) == {"x": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!bool x", "!!bool 'x' is not a plain value; leave the tag out"),
        ("!!timestamp foo", "!!timestamp 'foo' is not a plain value"),
        ("!!timestamp 2026-01-02", "is not a plain value"),
        ("!!int foo", "!!int 'foo' is not a plain value"),
        ("!!int 1_0", "!!int '1_0' is not a plain value"),
        ("!!float x", "!!float 'x' is not a plain value"),
        ("!!binary eA==", "!!binary 'eA==' is not a plain value"),
        ("!mine [1]", "!mine is not a plain value"),
        ("!!python/object/apply:os.getcwd []", "is not a plain value"),
        ("9" * 5000, "a number of 5000 digits is too long"),
        ("-" + "9" * 5000, "a number of 5001 digits is too long"),
        ("0x" + "f" * 5000, "is too long"),
        ("{? [1] : 2}", "a key is a word or a number"),
        ("{<<: 3}", "<< merges a mapping or a list of mappings"),
    ],
)
def test_what_is_no_plain_value_is_one_line_with_file_line_and_key(write, text, message):
    for path in (write(f"name: x\nrun:\n  - seed: {text}\n"),):
        with pytest.raises(UserError, match=message) as caught:
            read_yaml(path)
        assert str(caught.value).startswith(f"{path} line 3, key run.0.seed: ")
        assert len(str(caught.value)) < 300
    with pytest.raises(UserError, match=message) as caught:
        load_config(Run, [], [f"name={text}"])


def test_aliases_of_aliases_end_soon(write):
    nine = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10 if n else ['x'] * 10)}]" for n in range(9)]
    with pytest.raises(UserError, match=r"a.yaml line \d, key a\d[.\d]*: its aliases \(\*name\) unfold to too many"):
        load_config(Run, [write("\n".join(nine))])
    for endless in ("a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"):
        with pytest.raises(UserError, match=r"a\.yaml"):
            read_yaml(write(endless))


def test_long_lists_are_read(write):
    many = list(range(12_000))
    assert read_yaml(write(f"x: {many}"))["x"] == many


def test_merges_of_several_mappings_prefer_the_first(write):
    content = read_yaml(write("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  z: 3\n  <<: [*a, *b]\n"))
    assert content["c"] == {"x": 1, "y": 1, "z": 3}


def test_pipes_and_huge_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match=r"pipe\.yaml: it is a pipe or a device; name a file"):
        read_yaml(tmp_path / "pipe.yaml")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(UserError, match="it has 1000 MB, a configuration at most 4 MB"):
        read_yaml(tmp_path / "huge.yaml")


@pytest.mark.parametrize("value", [[0] * 10**6, {"a": {"b": "c" * 10**6}}, "x" * 10**6])
def test_a_wrong_value_of_any_size_gives_a_short_message(value):
    for _ in range(500):
        value = [value]
    with pytest.raises(UserError) as caught:
        validate(Run, {"name": value, "optimizer": {"lr": value}})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", ["a: [1, 2", "a: {b: c", "\tb: 1", "a: b: c", "x: !!python/object/apply:os.getcwd []", "[" * 2000]
)
def test_bad_yaml_is_one_line_that_names_the_file(write, text):
    with pytest.raises(UserError, match=r"a\.yaml") as caught:
        read_yaml(write(text))
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file: .*missing\.yaml"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="cannot read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Straße".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: it is not text in UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_a_file_that_is_no_mapping_is_refused(write):
    with pytest.raises(UserError, match="must hold keys and values, but holds a list"):
        load_config(Run, [write("- a\n- b\n")])


def test_later_files_win_and_mappings_merge(write):
    first = write("name: first\noptimizer: {lr: 1, nesterov: true}\nscales: [0.5, 1, 2]\n")
    second = write("optimizer: {lr: 2}\nscales: [1]\n", "b.yaml")
    empty = write("# nothing\n", "c.yaml")
    config = load_config(Run, [first, second, empty])
    assert config == Run(name="first", optimizer=Optimizer(lr=2, nesterov=True), scales=(1.0,))


def test_overrides_are_yaml_and_win(write):
    path = write("name: file\noptimizer: {nesterov: true}\n")
    config = load_config(Run, [path], ["optimizer.lr=5e-3", "scales=[1, 2]", "name=a=b"])
    assert config == Run(name="a=b", optimizer=Optimizer(lr=0.005, nesterov=True), scales=(1.0, 2.0))


@pytest.mark.parametrize("override", ["lr", "=1", " =1"])
def test_an_override_needs_key_and_value(override):
    with pytest.raises(UserError, match="not of the form key=value"):
        load_config(Run, [], [override])


def test_an_override_that_is_not_yaml_is_named():
    with pytest.raises(UserError, match=r"override 'scales=\[1'.* is not valid YAML"):
        load_config(Run, [], ["scales=[1"])


def test_a_changed_kind_drops_the_other_kinds_keys(write):
    light = write("head: {kind: light, channels: 32}\n")
    deep = write("head: {kind: deep}\n", "b.yaml")
    assert load_config(Run, [light, deep]).head == Deep()
    assert load_config(Run, [light], ["head.kind=light"]).head == Light(channels=32)


def test_overrides_that_change_a_kind_work_in_any_order(write):
    light = write("head: {kind: light, channels: 32}\n")
    for overrides in (["head.kind=deep", "head.rates=[6]"], ["head.rates=[6]", "head.kind=deep"]):
        assert load_config(Run, [light], overrides).head == Deep(rates=(6,))


def test_keys_under_an_unnamed_kind_are_not_lost_silently(write):
    unnamed = write("head: {channels: 32}\n")
    assert load_config(Run, [unnamed, write("head: {kind: light}\n", "b.yaml")]).head == Light(channels=32)
    with pytest.raises(UserError, match="unknown key 'head.channels'"):
        load_config(Run, [unnamed], ["head.kind=deep"])


def test_an_unknown_key_names_the_allowed_ones():
    with pytest.raises(UserError, match="unknown key 'epochs'; allowed here: name, scales, optimizer, head$"):
        validate(Run, {"epochs": 3})
    with pytest.raises(UserError, match=r"unknown key 'optimizer\.rate'; allowed here: lr, nesterov$"):
        validate(Run, {"optimizer": {"rate": 3}})


class Weighted(Config):
    weights: Literal["none"] | Annotated[tuple[float, ...], Field(min_length=1)] = "none"
    runs: tuple[Run, ...] = Field((), min_length=1)
    where: Path = Path()
    boost: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _never(self):
        raise ValueError("this never fits")


def test_messages_speak_of_yaml_and_not_of_python():
    def message(values):
        with pytest.raises(UserError) as caught:
            validate(Weighted, values)
        return str(caught.value)

    text = "weights: must be 'none' (not 'x'); weights: must be a list in brackets (not 'x')"
    assert message({"weights": "x"}) == text
    assert message({"runs": [{"nmae": 1}]}).startswith("unknown key 'runs.0.nmae' (did you mean 'name'?); allowed")
    assert "few" not in message({"runs": [{"nmae": 1}]})
    assert message({"runs": []}) == "runs: has too few entries (not [])"
    assert message({"where": None}) == "where: must be a path (not None)"
    assert message({"boost": {"bus:3": None}}).endswith("(not None); in YAML a space follows the colon")
    assert message({}) == "this never fits"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_is_a_file_is_told(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is a file; choose a folder"):
        check_folder(tmp_path / place)
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "folder")
    check_folder("new")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="may not be written"):
        check_folder(tmp_path / "new")


def test_several_unknown_keys_share_one_list_of_the_allowed_ones():
    with pytest.raises(UserError, match="^unknown key 'a'; unknown key 'b'; allowed here: name, [^;]*$"):
        validate(Run, {"a": 3, "b": 4})


def test_an_unknown_key_of_a_kind_names_that_kinds_keys():
    with pytest.raises(UserError, match="allowed here: kind, rates$"):
        validate(Run, {"head": {"kind": "deep", "channels": 3}})
    with pytest.raises(UserError, match="allowed here: kind, channels$"):
        validate(Run, {"head": {"kind": "light", "rates": [3]}})


def test_an_unknown_kind_names_the_allowed_ones():
    with pytest.raises(UserError, match="'light', 'deep'"):
        validate(Run, {"head": {"kind": "heavy"}})


def test_all_problems_come_in_one_line():
    with pytest.raises(UserError) as caught:
        validate(Run, {"optimizer": {"lr": "fast"}, "scales": 3, "nmae": "x"})
    message = str(caught.value)
    assert "optimizer.lr:" in message
    assert "'fast'" in message
    assert "scales: must be a list" in message
    assert "unknown key 'nmae'" in message
    assert "\n" not in message


def test_missing_key_and_infinite_number_are_told():
    with pytest.raises(UserError, match="key 'root' is missing"):
        validate(Required, {})
    with pytest.raises(UserError, match=r"optimizer\.lr: .*finite"):
        load_config(Run, [], ["optimizer.lr=.inf"])


def test_dumped_yaml_reads_back_equal(write):
    config = Run(name="Straße", scales=(0.25, 1.0), optimizer=Optimizer(lr=1e-5), head=Deep())
    path = write(dump_yaml(config.model_dump(mode="json")))
    assert load_config(Run, [path]) == config
    assert "Straße" in path.read_text(encoding="utf-8")


def test_dumped_text_that_looks_like_a_number_stays_text(write):
    values = {"a": "5e-3", "b": "on", "c": "010", "d": 5e-3, "e": 1e22, "f": "2026-01-02"}
    assert read_yaml(write(dump_yaml(values))) == values


class TestWriteAtomically:
    def test_writes_with_the_folders_made_and_the_usual_permissions(self, tmp_path):
        path = tmp_path / "new" / "folder" / "result.json"
        with write_atomically(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".json"
            temporary.write_text("{}")
            assert not path.exists()
        assert path.read_text() == "{}"
        assert os.listdir(path.parent) == ["result.json"]
        plain = tmp_path / "plain"
        plain.write_text("")
        assert path.stat().st_mode == plain.stat().st_mode

    def test_a_writer_with_a_private_file_of_its_own_does_not_make_the_result_private(self, tmp_path):
        with write_atomically(tmp_path / "weights") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        plain = tmp_path / "plain"
        plain.write_text("")
        assert (tmp_path / "weights").stat().st_mode == plain.stat().st_mode

    @pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), UserError("bad")])
    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, error):
        path = tmp_path / "result.json"
        path.write_text("old")
        with pytest.raises(type(error)), write_atomically(path) as temporary:
            temporary.write_text("half")
            raise error
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["result.json"]

    @pytest.mark.parametrize("failing", ["write", "flush"])
    def test_a_full_disk_is_one_line_and_leaves_the_old_file(self, tmp_path, monkeypatch, failing):
        message = r"cannot write .*result\.json: No space left on device; free some space"

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        path = tmp_path / "result.json"
        path.write_text("old")
        if failing == "flush":
            monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=message), write_atomically(path) as temporary:
            temporary.write_text("half")
            if failing == "write":
                full()
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["result.json"]

    def test_an_error_about_another_file_is_not_blamed_on_the_result(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="input"), write_atomically(tmp_path / "result") as temporary:
            temporary.write_bytes((tmp_path / "input").read_bytes())
        assert os.listdir(tmp_path) == []

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(UserError, match=r"cannot write .*choose a folder"),
            write_atomically(tmp_path / "file" / "x"),
        ):
            pytest.fail("the body must not run")

    def test_what_a_killed_process_left_can_be_removed(self, tmp_path):
        for name in ("state.pt", "log"):
            if (child := os.fork()) == 0:
                with write_atomically(tmp_path / name) as temporary:
                    temporary.write_text("half")
                    os._exit(9)
            os.waitpid(child, 0)
        others = {".hidden", ".mine.tmp.pt", "state.pt"}
        for name in others:
            (tmp_path / name).write_text("")
        assert len(os.listdir(tmp_path)) == 5
        remove_leftovers(tmp_path)
        assert set(os.listdir(tmp_path)) == others

    def test_the_names_limit_is_kept(self, tmp_path):
        path = tmp_path / ("ü" * 120 + ".png")
        with write_atomically(path) as temporary:
            temporary.write_text("x")
        assert path.read_text() == "x"


def test_the_loader_leaves_other_yaml_users_alone():
    assert yaml.safe_load("x: on") == {"x": True}


@pytest.mark.parametrize("text", ["no colon", "a:b:c", "a.b:c.d", ":b", "a:", "a b:c", "../a:b", "a..b:c", "hf-hub:x"])
def test_what_is_no_import_path_is_told_and_not_imported(text):
    assert not is_import_path(text)
    with pytest.raises(UserError, match="is no import path; write package.module:Name"):
        import_path(text)


def test_an_import_path_gives_the_object():
    assert import_path("polyscale.config:Config") is Config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": 1}, r"unknown key 'nmae' \(did you mean 'name'\?\); allowed here: name, scales"),
        ({"optimizer": {"nestrov": 1}}, r"optimizer\.nestrov' \(did you mean 'nesterov'\?\); allowed here: lr"),
        ({"nesterov": True}, r"'nesterov' \(did you mean 'optimizer\.nesterov'\?\); allowed here"),
        ({"quite_other": True}, "unknown key 'quite_other'; allowed here"),
        ({"head": {"kind": "ligth"}}, r"\(did you mean 'light'\?\)"),
        ({"x" * 10**5: 1}, "unknown key 'x{100}';"),
    ],
)
def test_a_misspelt_key_or_name_gets_the_nearest(values, message):
    with pytest.raises(UserError, match=message):
        validate(Run, values)


def test_a_misspelt_choice_gets_the_nearest():
    with pytest.raises(UserError, match=r"\(did you mean 'none'\?\) \(not 'nnoe'\)"):
        validate(Weighted, {"weights": "nnoe"})
