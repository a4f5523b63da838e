"""The small parts of a SARIF document (rules, messages, regions), and safe access to values of any type.

All functions take untrusted decoded JSON. An optional part with the wrong shape is dropped; a required part with the
wrong shape raises `Bad`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scanstore.sarif.format.vocabulary import LEVELS, Artifact, Rule, cwe_in, score_of
from scanstore.snapshots.git import Vcs

_MAX = 2**31 - 1
MOST_COPIED = 1 << 26
DEEPEST_REFERENCE = 10
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([0-9]{1,4})\}")
_RULE_TAKEN = frozenset("id name shortDescription fullDescription help helpUri defaultConfiguration".split())
_RULE_KEPT = frozenset(
    "deprecatedIds guid deprecatedGuids deprecatedNames messageStrings relationships properties help"
    " defaultConfiguration shortDescription fullDescription".split()
)
NOTHING: dict[str, Any] = {}
_Extent = tuple[int | None, int | None, int | None, int | None]
RuleKey = tuple[str | None, int | None, int | None]
"""How a result names its rule: the id, the number in the list of rules, and the number of the extension."""


class Bad(Exception):
    """A value that cannot be used: the path below it, and the reason. Raised and caught inside this package."""


def rule_key(raw: dict[str, object]) -> RuleKey:
    """Return the key of the rule that a result names. Raises Bad."""
    name, index, component = raw.get("ruleId"), raw.get("ruleIndex"), None
    if raw.get("rule") is not None:
        ref = member(raw, "rule", "")
        name = ref.get("id") if name is None else name
        index = ref.get("index") if index is None else index
        component = member(ref, "toolComponent", ".rule").get("index")
    if name is not None and (type(name) is not str or not name):
        raise Bad(".ruleId", f"is {shown(name)}; it must be text")
    if not (index is None or type(index) is int) or not (component is None or type(component) is int):
        raise Bad(".ruleIndex", "is no number")
    return name, index, component


def read_rule(raw: dict[str, object]) -> Rule | None:
    rule_id = raw.get("id")
    if not isinstance(rule_id, str) or not rule_id:
        return None
    texts = {key: as_dict(raw.get(key)) for key in ("shortDescription", "fullDescription", "help")}
    short, full, help_text = (as_text(one.get("text")) or as_text(one.get("markdown")) for one in texts.values())
    configuration = as_dict(raw.get("defaultConfiguration"))
    level = configuration.get("level")
    bag = as_dict(raw.get("properties"))
    tags = list(dict.fromkeys(tag for tag in as_list(bag.get("tags")) if isinstance(tag, str)))
    words = [*tags, *cwe_words(bag.get("cwe"))]
    for relationship in map(as_dict, as_list(raw.get("relationships"))):
        words += taxon(as_dict(relationship.get("target")), [])
    rest = {
        **{k: v for k, v in raw.items() if k in _RULE_KEPT and k not in _RULE_TAKEN and k != "properties"},
        **{k: more for k, one in texts.items() if (more := {n: v for n, v in one.items() if n != "text"})},
    }
    if more := {k: v for k, v in configuration.items() if k not in ("level", "enabled")}:
        rest["defaultConfiguration"] = more
    unknown = {k: v for k, v in raw.items() if k not in _RULE_KEPT and k not in _RULE_TAKEN}
    if more := {**unknown, **{k: v for k, v in bag.items() if k not in ("tags", "security-severity")}}:
        rest["properties"] = more
    return Rule(
        id=rule_id,
        name=as_text(raw.get("name")),
        short=short,
        full=full,
        help=help_text,
        help_uri=as_text(raw.get("helpUri")),
        level=level if isinstance(level, str) and level in LEVELS else None,
        security_severity=score_of(bag),
        tags=tags,
        cwe=cwe_in(words),
        enabled=configuration.get("enabled") is not False,
        properties=rest,
    )


def read_vcs(value: object) -> Vcs | None:
    first = as_dict(next(iter(as_list(value)), None))
    repository = first.get("repositoryUri")
    if not isinstance(repository, str):
        return None
    return Vcs(repository, as_text(first.get("revisionId")), as_text(first.get("branch")))


def taxon(target: dict[str, object], taxonomies: list[object]) -> list[str]:
    """Return the texts that name the weakness of a reference."""
    component = as_dict(target.get("toolComponent"))
    number = component.get("index")
    taxonomy = as_dict(taxonomies[number]) if type(number) is int and 0 <= number < len(taxonomies) else NOTHING
    index, name = target.get("index"), target.get("id")
    if name is None and type(index) is int:
        taxa = as_list(taxonomy.get("taxa"))
        name = as_dict(taxa[index]).get("id") if 0 <= index < len(taxa) else None
    cwe = "cwe" in f"{component.get('name')} {taxonomy.get('name')}".lower()
    return [f"CWE-{name}" if cwe and str(name).isdecimal() else str(name)]


def cwe_words(value: object) -> list[str]:
    """Return the values of a property called cwe: a number, a text, or a list of them."""
    words = value if isinstance(value, list) else [value]
    return [f"CWE-{word}" if str(word).isdecimal() else str(word) for word in words if isinstance(word, str | int)]


class Copies:
    """The remaining amount of text that the references of a run may add.

    A report of a few megabytes can refer to one long text a million times, or contain a text that refers to itself.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = MOST_COPIED if most is None else most
        self.room = self.most
        self.deep = 0
        self.sizes: dict[int, int] = {}

    def take(self, size: int, where: str = "") -> None:
        self.room -= size
        if self.room < 0:
            raise Bad(where, f"is left out: the references of this run add more than {self.most:,} characters to it")

    @contextmanager
    def of(self, known: dict[str, object]) -> Iterator[None]:
        """Reserve the text size of a referenced object, whose own references are followed inside the block."""
        size = self.sizes.get(id(known))
        if size is None:
            size = self.sizes[id(known)] = len(json.dumps(known))
        self.take(size)
        if self.deep >= DEEPEST_REFERENCE:
            raise Bad("", f"refers to objects that refer to others, more than {DEEPEST_REFERENCE} levels deep")
        self.deep += 1
        try:
            yield
        finally:
            self.deep -= 1


def filled(text: str, arguments: list[object], copies: Copies) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        number = int(match[1])
        if number >= len(arguments):
            raise Bad(".message.arguments", f"has {len(arguments)} of them; the text wants {match[0]}")
        found = str(arguments[number])
        copies.take(len(found), ".message")
        return found

    return _PLACEHOLDER.sub(one, text)


def member(value: Mapping[str, object], key: str, path: str) -> dict[str, object]:
    """Return an inner object, or an empty one if it is missing. Raises Bad for another type."""
    found = value.get(key)
    if type(found) is dict:
        return found
    if found is not None:
        raise Bad(f"{path}.{key}", f"is {shown(found)}; it must be an object")
    return NOTHING


def extent(region: Mapping[str, object]) -> _Extent:
    """Return the lines and columns of the region of a first location: start, start column, end, end column."""
    get: Callable[[str], Any] = region.get
    found: _Extent = get("startLine"), get("startColumn"), get("endLine"), get("endColumn")
    for value in found:
        if value is not None and (type(value) is not int or not 0 < value <= _MAX):
            line, column = _place(region, "startLine"), _place(region, "startColumn")
            return line, column, _place(region, "endLine"), _place(region, "endColumn")
    return found


def _place(region: Mapping[str, object], key: str) -> int | None:
    """Return a line or column. Tools write 0 and -1 for an unknown one."""
    value = region.get(key)
    if value is None:
        return None
    if type(value) is not int or not -1 <= value <= _MAX:
        raise Bad(f".locations[0].physicalLocation.region.{key}", f"is {shown(value)}; it must be a number from 1")
    return value if value > 0 else None


def texts(raw: dict[str, object], key: str) -> dict[str, str]:
    """Return fingerprints by name."""
    found: dict[str, Any] = member(raw, key, "")
    for name, value in found.items():
        if type(value) is not str:
            raise Bad(f".{key}[{name!r:.80}]", f"is {shown(value)}; it must be text")
    return found


def as_dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else NOTHING


def as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def shown(value: object) -> str:
    if value is None:
        return "null or missing"
    return "an object" if isinstance(value, dict) else "an array" if isinstance(value, list) else f"{value!r:.80}"


def read_artifact(value: object) -> tuple[str | None, str | None, Artifact] | None:
    if not isinstance(value, dict):
        return None
    location = as_dict(value.get("location"))
    hashes = {k: v for k, v in as_dict(value.get("hashes")).items() if isinstance(v, str)}
    algorithm = "sha-256" if "sha-256" in hashes else min(hashes, default=None)
    digest = None if algorithm is None else f"{algorithm}:{hashes[algorithm].lower()}"
    roles = [role for role in as_list(value.get("roles")) if isinstance(role, str)]
    return as_text(location.get("uri")), as_text(location.get("uriBaseId")), Artifact("", roles, digest)
