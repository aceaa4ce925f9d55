"""Damage for files: bytes of any file, and values, lines and members where the format is known."""

import io
import json
import random
import re
import struct
import zipfile
import zlib
from typing import Any, Literal

__all__ = ["Form", "mutate"]

Form = Literal["bytes", "png", "zip", "safetensors", "onnx", "json", "lines", "text"]
"""How a file is built, which decides how its inner parts are reached."""

_NUMBERS = (0, 1, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**53, 2**64, 10**400),
    *("", " ", "a", "../../victim", "/etc/passwd", "a\nb", "a\0b", "\x1b[31m", "\ud800", "NaN", "x" * 5000, "ü", "0"),
    *([], {}, [None], [[1]], {"a": 1}, {"../a": None}, [0.0, 1.0], [1, 0.5], ["a"], [0] * 300, [[[[]]]]),
)
_WORDS = (
    *("", "~", "null", "true", "-1", "0", "1e999", ".nan", "9" * 400, "1:30", "0x", "[", "{", "}", "]", '"', "'", "&a"),
    *("*a", "!!python/object:os.system", "!!int x", "!!binary x", "- - -", "a: b: c", "<<: 1", "../../x", "/dev/zero"),
    *("é", "\x00", "\x1b[2J", "\ud800", "A" * 5000, "&amp;", "<x>", "<!ENTITY a 'b'>", "1,2;3", ";;;", "NaN", "inf"),
    *("[" * 3000, "{a: " * 500, "\t", "%YAML 9", "#", "|", ">", "?", ": ", "-1e-400", "1e308,1e308;-1e308,0;5,5"),
)


def mutate(data: bytes, form: Form, rng: random.Random) -> bytes:
    """A damaged copy of a file.

    Args:
        data: a sound file.
        form: how it is built; a third of the copies is damaged without regard to it.
        rng: decides everything.
    """
    if form == "bytes" or rng.random() < 1 / 3:
        return _bytes(data, rng)
    match form:
        case "png":
            return _png(data, rng)
        case "zip":
            return _zip(data, rng)
        case "safetensors":
            return _safetensors(data, rng)
        case "onnx":
            return _onnx(data, rng)
        case "json":
            return _json(data, rng)
        case "lines":
            lines = data.split(b"\n")
            at = rng.choice([number for number, line in enumerate(lines) if line.strip()])
            lines[at] = rng.choice((_json, _bytes))(lines[at], rng)
            return b"\n".join(lines)
        case _:
            return _text(data, rng)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        size = len(found)
        if not size:
            break
        # Headers stand at the beginning, and are short.
        at = rng.randrange(min(size, 64)) if rng.random() < 0.3 else rng.randrange(size)
        end = min(size, at + rng.choice((1, 2, 4, 8, 40, 400)))
        match rng.randrange(9):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at] = rng.randrange(256)
            case 2:
                number = struct.pack(rng.choice(("<I", ">I")), rng.choice(_NUMBERS))
                found[at : at + 4] = number
            case 3:
                found[at : at + 2] = struct.pack(rng.choice(("<H", ">H")), rng.choice(_NUMBERS) & 0xFFFF)
            case 4:
                del found[at:end]
            case 5:
                found[at:at] = found[at:end] * rng.randrange(1, 4)
            case 6:
                found[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
            case 7:
                del found[at:]
            case _:
                other = rng.randrange(size)
                found[at:end] = found[other : other + end - at]
    return bytes(found)


def _png(data: bytes, rng: random.Random) -> bytes:
    """One chunk is damaged; lengths and checksums are right again, so that readers look at what is inside."""
    chunks = []
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + length]])
        at += 12 + length
    match rng.randrange(5):
        case 0:
            rng.shuffle(chunks)
        case 1:
            chunks.insert(rng.randrange(len(chunks)), list(rng.choice(chunks)))
        case 2:
            del chunks[rng.randrange(len(chunks))]
        case _:
            chosen = rng.choice(chunks)
            chosen[1] = _bytes(chosen[1], rng)
    parts = [data[:8]]
    for kind, body in chunks:
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def _zip(data: bytes, rng: random.Random) -> bytes:
    """One member is damaged, removed or renamed; the archive around it is sound."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    match rng.randrange(6):
        case 0:
            del members[at]
        case 1:
            members[at] = (rng.choice(("x", "../x", "a/b/data.pkl", "\u00fc", name + "x")), content)
        case _:
            members[at] = (name, _bytes(content, rng))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return made.getvalue()


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header is damaged, and its length told rightly; or the facts in it."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    facts = header.get("__metadata__", {})
    if "polyscale" in facts and rng.random() < 0.6:
        facts["polyscale"] = _json(facts["polyscale"].encode(), rng).decode(errors="replace")
        changed = json.dumps(header).encode()
    else:
        changed = _json(json.dumps(header).encode(), rng)
    return len(changed).to_bytes(8, "little") + changed + body


def _onnx(data: bytes, rng: random.Random) -> bytes:
    """A graph whose nodes, weights, outputs or facts are changed; the file around it is sound."""
    import onnx

    model = onnx.load_from_string(data)
    graph, number = model.graph, rng.choice((-1, 0, 1, 7, 2**31, 2**62))
    node, weights = rng.choice(graph.node), rng.choice(graph.initializer)
    match rng.randrange(9):
        case 0 | 1 | 2:
            facts = next(entry for entry in model.metadata_props if entry.key == "polyscale")
            facts.value = _json(facts.value.encode(), rng).decode(errors="replace")
        case 3:
            node.op_type = rng.choice((rng.choice(graph.node).op_type, "", "If", "Exp", "ConstantOfShape", "\x1b[31m"))
        case 4 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(("", rng.choice(graph.initializer).name, "images"))
        case 5 if weights.dims:
            weights.dims[rng.randrange(len(weights.dims))] = number
        case 6 if weights.raw_data:
            weights.raw_data = _bytes(weights.raw_data, rng)
        case 7:
            weights.data_location = onnx.TensorProto.EXTERNAL
            weights.ClearField("raw_data")
            for key, value in (("location", rng.choice(("/etc/passwd", "../x", "a.onnx"))), ("offset", str(number))):
                entry = weights.external_data.add()
                entry.key, entry.value = key, value
        case _:
            for attribute in node.attribute:
                attribute.i = number
                if attribute.ints:
                    attribute.ints[0] = number
    made: bytes = model.SerializeToString()
    return made


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [here] if here else []
    for key, inner in items:
        found += _places(inner, (*here, key))
    return found


def _json(data: bytes, rng: random.Random) -> bytes:
    """Values are replaced, removed, added, doubled or moved; or the text is damaged."""
    try:
        value = json.loads(data)
    except ValueError:
        return _text(data, rng)
    if rng.random() < 0.2:
        return _text(data, rng)
    if rng.random() < 0.03:
        return json.dumps(rng.choice(_VALUES)).encode(errors="surrogatepass")
    for _ in range(rng.choice((1, 1, 2))):
        places = _places(value)
        if not places:
            break
        place = rng.choice(places)
        inner = value
        for key in place[:-1]:
            inner = inner[key]
        key = place[-1]
        match rng.randrange(6):
            case 0:
                del inner[key]
            case 1 if isinstance(inner, list):
                inner.insert(key, json.loads(json.dumps(inner[key])))
            case 1 if isinstance(inner, dict):
                inner[rng.choice(("extra", "", "\n", "id", "name", "../x"))] = inner.pop(key)
            case 2:
                other = value
                for step in rng.choice(places):
                    other = other[step] if isinstance(other, dict | list) and _has(other, step) else other
                inner[key] = json.loads(json.dumps(other)) if len(json.dumps(other)) < 20_000 else None
            case _:
                inner[key] = rng.choice(_VALUES)
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")


def _has(value: Any, step: Any) -> bool:
    return step in value if isinstance(value, dict) else isinstance(step, int) and step < len(value)


def _text(data: bytes, rng: random.Random) -> bytes:
    """Words and lines are replaced, removed, doubled, moved or cut off."""
    text = data.decode(errors="replace")
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        words = list(re.finditer(r"[^\s,:;={}\[\]\"'<>/]+|[,:;={}\[\]\"'<>/]", text))
        if not words:
            break
        word, at = rng.choice(words), rng.randrange(len(lines))
        match rng.randrange(7):
            case 0 | 1 | 2:
                text = text[: word.start()] + rng.choice(_WORDS) + text[word.end() :]
            case 3:
                text = text[: word.start()] + text[word.end() :]
            case 4:
                lines.insert(at, rng.choice(lines))
                text = "\n".join(lines)
            case 5:
                lines[at] = rng.choice(("", "  ")) + lines[at].lstrip() if rng.random() < 0.7 else ""
                text = "\n".join(lines)
            case _:
                text = text[: word.start()]
    return text.encode(errors="surrogatepass")
