"""Cached results as files to carry along: `somlib results export FOLDER` and `import FOLDER`.

An export holds, for each result of the present code, the .json that describes it and its .npz,
compressed without loss; results.json lists them with their hashes and is written last. Importing
puts them into another cache, which then computes none of them again. Whatever does not fit is
refused by name: a result of other code or versions, one of another data set, a damaged or
incomplete export, and one that differs from the result that is already there. With
`--other-machines` results of other devices and versions get the names that they have here; their
descriptions keep where they were made.
"""

import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from somlib import data
from somlib.companion import cache, report
from somlib.data.download import data_folder
from somlib.files import claimed, replacing
from somlib.hashing import content_hash

FORMAT = 1
"""Version of the format, increased with each incompatible change."""

CONTENTS = "results.json"
"""The list of the results in an export."""


_FIELDS = {"sha256": str, "described": str, "bytes": int, "data": dict}
"""What the list says of each result: hashes of both files, bytes of the .npz, hashes of the data
sets that it was computed from, by name."""

_BAD = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading a damaged file may raise."""


class RefusedError(ValueError):
    """An export as a whole cannot be written or read; the message says why."""


class Result(NamedTuple):
    """A result in a cache or an export: its name, description and .npz."""

    name: str
    described: bytes
    facts: dict[str, Any]
    content: bytes


@dataclass(frozen=True)
class Outcome:
    """What was done with which results: names, and sentences about those left out."""

    taken: list[str]
    there: list[str]
    refused: list[str]
    megabytes: float


# ---------------------------------------------------------------- export


def export(folder: Path, limit: float | None = None) -> Outcome:
    """Write the results of the present code to a folder, beside those that it holds already.

    Parameters
    ----------
    folder : pathlib.Path
        Created if it does not exist.
    limit : float, optional
        Megabytes to write at most: those results come first that took longest per byte.

    Returns
    -------
    Outcome
        Refused are damaged results and those of other code or versions.

    Raises
    ------
    RefusedError
        When the folder holds something else, or a result that differs from ours of the same name.
    """
    contents = _contents(folder) if (folder / CONTENTS).exists() else _empty()
    sound, refused = _own()
    known = contents["results"]
    for name, (_, sha256) in sound.items():
        if name in known and known[name]["sha256"] != sha256:
            raise RefusedError(f"{folder} and the cache {_disagree(name)}. Export somewhere else")
    new = [name for name in sound if name not in known]
    if limit is not None:
        new.sort(key=lambda name: -sound[name][0])
    hashes = {label: content_hash(X) for label, X in _data_at_hand()}
    taken, left = [], np.inf if limit is None else limit * 1e6
    for name in new:
        result = _cached(name)
        packed = pack(result.content)
        if len(packed) > left:
            continue
        left -= len(packed)
        _write(folder / f"{name}.json", result.described)
        _write(folder / f"{name}.npz.z", packed)
        used = set(_arrays(result.facts["made_from"]))
        known[name] = {
            "sha256": result.facts["sha256"],
            "described": cache.sha256(result.described),
            "bytes": len(packed),
            "data": {label: found for label, found in hashes.items() if found in used},
        }
        taken.append(name)
    _write(folder / CONTENTS, json.dumps(contents, indent=1, sort_keys=True).encode())
    size = sum(known[name]["bytes"] for name in taken) / 1e6
    return Outcome(sorted(taken), [name for name in sound if name not in new], refused, size)


def _empty() -> dict[str, Any]:
    return {"format": FORMAT, "results": {}}


def _own() -> tuple[dict[str, tuple[float, str]], list[str]]:
    """Return seconds per byte and hash of each sound result, and sentences about the others."""
    sound, refused = {}, []
    for path in sorted(cache.folder().glob("*.json")):
        try:
            result = _cached(path.stem)
            if problem := _damage(result) or difference(result.facts["made_from"]):
                raise ValueError(problem)
            seconds = float(result.facts.get("seconds", 0.0))
            sound[result.name] = seconds / len(result.content), str(result.facts["sha256"])
        except _BAD as error:
            refused.append(f"{path.stem}: {_reason(error)}")
    return sound, refused


def _cached(name: str) -> Result:
    path = cache.folder() / f"{name}.npz"
    described = path.with_suffix(".json").read_bytes()
    return Result(name, described, json.loads(described), path.read_bytes())


def pack(content: bytes) -> bytes:
    """Compress: the first bytes of all four-byte numbers, then the second ones, and so on.

    The exponents of neighboring weights are alike, and so compress better side by side.

    Examples
    --------
    >>> unpack(pack(b"any bytes"))
    b'any bytes'
    """
    whole = len(content) - len(content) % 4
    planes = np.frombuffer(content[:whole], np.uint8).reshape(-1, 4).T
    return zlib.compress(planes.tobytes() + content[whole:], 6)


def unpack(packed: bytes) -> bytes:
    """Return what was packed; a ValueError if it is damaged."""
    try:
        planes = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"it is damaged: {error}") from None
    whole = len(planes) - len(planes) % 4
    numbers = np.frombuffer(planes[:whole], np.uint8).reshape(4, -1).T
    return numbers.tobytes() + planes[whole:]


# ---------------------------------------------------------------- import


def import_from(folders: Sequence[Path], device: str | None = None) -> Outcome:
    """Put the results of exports into the cache.

    Parameters
    ----------
    folders : sequence of pathlib.Path
        What `export` has written.
    device : str, optional
        Take results of other devices and versions too, as if they had been computed here on this
        device. Where the cache or an earlier folder holds such a result, that one is kept: other
        machines round differently. Results computed from the outputs of a network, such as latent
        codes, are found only where these are the same bits.

    Returns
    -------
    Outcome
        Refused are results of other code, versions or data, damaged ones, and those that differ
        between the exports, or from a result that is already in the cache.

    Raises
    ------
    RefusedError
        When a folder is not a complete export. Nothing has been imported then.
    """
    listed = {folder: _contents(folder)["results"] for folder in folders}
    disagree = _disagreements(listed)
    refused = [
        f"{name}: {' and '.join(map(str, where))} {_disagree(name)}"
        for name, where in disagree.items()
    ]
    labels = {label for results in listed.values() for r in results.values() for label in r["data"]}
    ours = {label: content_hash(X) for label, X in _data_at_hand(labels)}
    taken: dict[str, int] = {}
    there: list[str] = []
    for folder, results in listed.items():
        for name, known in sorted(results.items()):
            if name in disagree or name in taken:
                continue
            try:
                result = _read(folder, name, known, ours)
                if device is not None:
                    result = _as_made_here(result, device)
                if problem := difference(result.facts["made_from"]):
                    raise ValueError(problem)
                if _take(result, other_machine=result.name != name):
                    taken[result.name] = known["bytes"]
                else:
                    there.append(result.name)
            except _BAD as error:
                refused.append(f"{folder / name}: {_reason(error)}")
    return Outcome(sorted(taken), there, refused, sum(taken.values()) / 1e6)


def devices(names: Collection[str]) -> set[str]:
    """Return the devices that results in the cache were computed on, as their keys name them."""
    described = [(cache.folder() / f"{name}.json").read_bytes() for name in names]
    return {cache.device_of(json.loads(content)["made_from"]) for content in described}


def _contents(folder: Path) -> dict[str, Any]:
    """Return the list of an export, or raise a RefusedError."""
    if not folder.is_dir():
        raise RefusedError("it does not exist; expected what `somlib results export` has written")
    path = folder / CONTENTS
    try:
        contents = json.loads(path.read_bytes())
        if contents["format"] != FORMAT:
            raise RefusedError(
                f"{path} has format {contents['format']!r}, this version reads {FORMAT}; export "
                "the results again with this version"
            )
        for name, known in contents["results"].items():
            found = {field: type(value) for field, value in known.items()}
            if found != _FIELDS:
                raise ValueError(f"its entry {name!r} has other fields")
    except FileNotFoundError:
        raise RefusedError(
            f"{path} is missing: the export was not finished, or this is none; run "
            f"`somlib results export {folder}` again where the results are"
        ) from None
    except RefusedError:
        raise
    except _BAD as error:
        raise RefusedError(
            f"{path} cannot be read ({_reason(error)}); export the results again"
        ) from error
    return dict(contents)


def _disagreements(listed: Mapping[Path, Mapping[str, Any]]) -> dict[str, list[Path]]:
    """Return the results that differ between exports, and where they are."""
    where: dict[str, list[Path]] = {}
    hashes: dict[str, set[str]] = {}
    for folder, results in listed.items():
        for name, known in results.items():
            where.setdefault(name, []).append(folder)
            hashes.setdefault(name, set()).add(known["sha256"])
    return {name: where[name] for name in sorted(where) if len(hashes[name]) > 1}


def _disagree(name: str) -> str:
    return f"disagree about {name}: the same code, data and seed gave different bytes"


def _read(folder: Path, name: str, known: Mapping[str, Any], ours: Mapping[str, str]) -> Result:
    """Return a result of an export, or raise a ValueError that says what is wrong with it.

    `ours` holds the hashes of the data sets that are here, by name.
    """
    if Path(name).name != name:
        raise ValueError("its name leads out of the folder")
    for label, found in known["data"].items():
        if ours.get(label, found) != found:
            raise ValueError(f"it was computed from another {label} than the one here")
    try:
        described = (folder / f"{name}.json").read_bytes()
        packed = (folder / f"{name}.npz.z").read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing: the export is truncated") from None
    if len(packed) != known["bytes"] or cache.sha256(described) != known["described"]:
        raise ValueError("it is truncated or damaged: not what the list of the export says")
    result = Result(name, described, json.loads(described), unpack(packed))
    if result.facts["sha256"] != known["sha256"]:
        raise ValueError("its list and its description have different hashes")
    if problem := _damage(result):
        raise ValueError(problem)
    return result


def _as_made_here(result: Result, device: str) -> Result:
    """Return a result under the name that it would have if it had been computed here.

    The device that it was made on becomes `device` wherever the key names it, and the versions
    become ours.
    """
    facts = json.loads(result.described)
    made_from = facts["made_from"]
    of_key = {"device": cache.device_of(made_from), "versions": made_from.get("versions", {})}
    theirs = facts.setdefault("made_on", of_key)["device"]  # older descriptions lack it
    for node in cache.dictionaries(made_from):
        for key, value in node.items():
            if cache.names_device(key, value) and value == theirs != "auto":
                node[key] = device
    made_from["versions"] = report.versions()
    if device == "cpu":  # which needs no setting for this
        made_from.pop("deterministic", None)
    name = f"{result.name.rpartition('-')[0]}-{cache.key_of(made_from)}"
    if name == result.name:
        return result
    return Result(name, json.dumps(facts, indent=1).encode(), facts, result.content)


def _take(result: Result, other_machine: bool) -> bool:
    """Write a result into the cache; False if it is there already.

    If ours differs, this is a ValueError; for one of another machine ours is kept.
    """
    path = cache.folder() / f"{result.name}.npz"
    with claimed(path, wait=True):
        try:
            own = _cached(result.name)
            sound = own.facts["sha256"] == cache.sha256(own.content)
        except _BAD:
            sound = False
        if sound and own.content != result.content and not other_machine:
            raise ValueError(f"it and the cache {_disagree(result.name)}; the cache is unchanged")
        if not sound:
            _write(path, result.content)
            _write(path.with_suffix(".json"), result.described)
            path.with_suffix(".failed").unlink(missing_ok=True)
    return not sound


# ---------------------------------------------------------------- what a result was made from


def _damage(result: Result) -> str:
    """Return in what a result is not what its name and its description say; else ""."""
    if result.name.rpartition("-")[2] != cache.key_of(result.facts["made_from"]):
        return "its name is not that of what it was made from"
    if result.facts["sha256"] != cache.sha256(result.content):
        return "it is damaged: its content has another hash than when it was written"
    return ""


def difference(made_from: dict[str, Any]) -> str:
    """Return in what the code or the versions that made a result differ from ours; else ""."""
    other = {
        module
        for module, found in _sources(made_from)
        if module not in cache.SOURCE or found != cache.source_hash(module)
    }
    if other:
        return f"it was made by other code: {', '.join(sorted(other))} differ from here"
    if made_from.get("format", cache.format_hash()) != cache.format_hash():
        return "it was made by other code: companion.cache or training.saving differ from here"
    ours, theirs = report.versions(), made_from.get("versions", {})
    differ = [f"{n} {theirs.get(n)}, here {ours.get(n)}"
              for n in sorted({*ours, *theirs}) if ours.get(n) != theirs.get(n)]  # fmt: skip
    if differ:
        return f"it was made by other versions: {'; '.join(differ)}"
    return ""


def _sources(made_from: Any) -> Iterator[tuple[str, str]]:
    """Yield the modules of somlib that a result depends on, and their hashes."""
    for node in cache.dictionaries(made_from):
        if isinstance(source := node.get("source"), dict):
            yield from source.items()


def _arrays(made_from: Any) -> Iterator[str]:
    """Yield the hashes of the arrays that a result was computed from."""
    return (node["array"] for node in cache.dictionaries(made_from) if "array" in node)


def _data_at_hand(labels: Collection[str] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield "mnist train" and its samples for each data set here, or those of `labels`."""
    for name, source in data.SOURCES.items():
        for split in source.splits:
            label = f"{name} {split}"
            if labels is not None and label not in labels:
                continue
            try:
                with patch.dict(os.environ, SOMLIB_DATA=str(data_folder()[0])):  # no download
                    yield label, data.load(name, split).X
            except data.DataError:
                break


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or ''} {error.strerror}".strip()
    return str(error) if isinstance(error, ValueError) else repr(error)


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)
