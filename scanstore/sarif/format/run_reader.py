"""Reads one run and its results: the mapping from SARIF to scanstore's tuples.

A result refers to rules, files, messages and flow steps by their index in the run. This module resolves these
references, so that the returned result is self-contained. Change here: which members are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from scanstore.sarif.format.execution import Execution
from scanstore.sarif.format.parts import (
    NOTHING,
    Bad,
    Copies,
    RuleKey,
    as_dict,
    as_list,
    as_text,
    cwe_words,
    extent,
    filled,
    member,
    read_rule,
    read_vcs,
    rule_key,
    shown,
    taxon,
    texts,
)
from scanstore.sarif.format.uris import Outside, Places, address
from scanstore.sarif.format.vocabulary import (
    BASE,
    BASELINE_STATES,
    KINDS,
    LEVELS,
    SCORE,
    SEVERITIES,
    SEVERITY,
    STATE,
    UNSCORED,
    Artifact,
    Lost,
    Result,
    Rule,
    Run,
    SarifProblem,
    cwe_in,
    score_of,
    severity_of,
    unscored,
)

_RESULT_TAKEN = frozenset(
    "ruleId ruleIndex rule kind level message locations guid partialFingerprints fingerprints codeFlows"
    " relatedLocations suppressions baselineState".split()
)
_RESULT_PLAIN = frozenset("ruleId ruleIndex rule kind level message locations guid partialFingerprints".split())
_RESULT_KEPT = frozenset(
    "analysisTarget correlationGuid occurrenceCount stacks graphs graphTraversals rank attachments hostedViewerUri"
    " workItemUris provenance fixes taxa webRequest webResponse properties".split()
)
_RUN_TAKEN = frozenset(
    "tool artifacts results originalUriBaseIds logicalLocations threadFlowLocations"
    " externalPropertyFileReferences".split()
)
_RUN_KEPT = frozenset(
    "invocations conversion language versionControlProvenance graphs automationDetails runAggregates baselineGuid"
    " redactionTokens defaultEncoding defaultSourceLanguage newlineSequences columnKind taxonomies addresses"
    " translations policies webRequests webResponses specialLocations properties".split()
)
_SIMPLE_LOCATION = {"physicalLocation"}
_SIMPLE_PLACE = {"artifactLocation", "region"}
_SIMPLE_ARTIFACT = {"uri", "uriBaseId", "index"}
_SIMPLE_REGION = {"startLine", "startColumn", "endLine", "endColumn", "snippet"}
_SIMPLE_SNIPPET = {"text"}
_REGIONS = ("region", "contextRegion")
_NESTS = (dict, list)
_COUNTED = {"startLine", "startColumn", "endLine", "endColumn"}
_BEGINS = {"startLine", "charOffset", "byteOffset"}


class Head(NamedTuple):
    """The members of a run except its results, and the rules that its results name.

    In ``members``, the results are replaced by their number, by None if they are null, or by False if they are not a
    list.
    """

    members: dict[str, object]
    artifacts: list[tuple[str | None, str | None, Artifact] | None]  # uri, base, the rest; None: not usable
    used: set[RuleKey]
    unread: list[str]  # members that could not be read


class _Named(NamedTuple):
    """The shared values of all results that name their rule in the same way."""

    rule_id: str | None
    rule: Rule | None  # the tool's description of the rule
    component: int  # the index of the tool component that describes it
    level: str
    severity: str | None  # from the rule's score, if it has one
    cwe: Sequence[str]


_Place = tuple[str | None, int | None, int | None, int | None, int | None, str | None, Sequence[object]]
_NOWHERE: _Place = (None, None, None, None, None, None, ())


def lost_run(index: int, head: Head, reason: str) -> Lost:
    """Describe a run that cannot be used."""
    name = as_dict(as_dict(head.members.get("tool")).get("driver")).get("name")
    results = head.members.get("results")
    tool = name.strip() if isinstance(name, str) and name.strip() else None
    return Lost(index, tool, f"the run cannot be used: {reason}", results if type(results) is int else None)


def _unread(head: Head, tool: Mapping[str, object], external: bool) -> Iterator[str]:
    """Return the unread parts of a run, because of which its content may be misleading."""
    for name in head.unread:
        yield f"its {name:.80} cannot be read"
    if head.members.get("results", 0) is None:
        yield "its results are null: the tool did not get as far as looking"
    elif "results" not in head.members:
        yield "it has no list of results: the tool did not look for any"
    if external or head.members.get("externalPropertyFileReferences"):
        yield "parts of it are in other files, which are not read"
    components = [as_dict(tool.get("driver")), *as_list(tool.get("extensions"))]
    if not isinstance(tool.get("extensions"), list | None) or not all(
        isinstance(one, dict) and isinstance(one.get("rules"), list | None) for one in components
    ):
        yield "the rules of the tool cannot be read"


class RunReader:
    """A run, with the context to read its results. Raises Bad if the run cannot be used at all."""

    def __init__(
        self,
        index: int,
        head: Head,
        problems: list[SarifProblem],
        root: str | os.PathLike[str] | None,
        *,
        external: bool = False,
    ) -> None:
        self._at = f"$.runs[{index}]"
        self._problems = problems
        self._members = members = head.members
        if members.get("results") is False:
            raise Bad("", "has results that cannot be read")
        if members.get("externalPropertyFileReferences"):
            self._problem(".externalPropertyFileReferences", "external properties are not supported; left out")
        tool = as_dict(members.get("tool"))
        driver = as_dict(tool.get("driver"))
        name = driver.get("name")
        if not isinstance(name, str) or not name.strip():
            raise Bad(".tool.driver.name", f"is {shown(name)}; it must name the tool")
        self._components = [driver, *map(as_dict, as_list(tool.get("extensions")))]
        paths = [".tool.driver", *(f".tool.extensions[{n}]" for n in range(len(self._components) - 1))]
        self._rules = [self._component(*each) for each in zip(self._components, paths, strict=True)]
        self._by_id: dict[str, tuple[Rule, int]] = {}
        for at, rules in enumerate(self._rules):
            for rule in rules:
                if rule is not None:
                    self._by_id.setdefault(rule.id, (rule, at))
        self._found: dict[RuleKey, _Named] = {}

        bases = as_dict(members.get("originalUriBaseIds"))
        self._places = Places(bases, root)
        self._copies = Copies()
        self._locations: dict[tuple[object, ...], tuple[str | None, str | None]] = {}
        self._artifacts = head.artifacts
        artifacts = [found for found in map(self._placed, head.artifacts) if found is not None]

        execution = Execution(members, self._configured)
        self._levels = execution.levels
        used: set[str] = set()
        for key in head.used:
            with suppress(Bad):
                told = self._looked_up(key)
                used.update(filter(None, (told.rule_id, told.rule and told.rule.id)))
        automation = as_dict(members.get("automationDetails"))
        count = members.get("results")
        self.run = Run(
            run_index=index,
            tool=name.strip(),
            tool_version=as_text(driver.get("version")) or as_text(driver.get("semanticVersion")),
            rules={rule_id: rule for rule_id, (rule, _) in self._by_id.items()},
            artifacts=artifacts,
            base_ids=bases,
            complete=any(rule_id not in used for rule_id in self._by_id),
            successful=execution.successful,
            failed_files=self._failed(execution),
            results=count if type(count) is int else None,
            automation_id=as_text(automation.get("id")),
            vcs=read_vcs(members.get("versionControlProvenance")),
            properties=self._rest(tool),
            used=frozenset(used | (execution.on - execution.off)),
            off=frozenset(execution.off - used),
            unsure=execution.unsure,
            failed_rules=sorted(execution.failed_rules),
            doubts=tuple(dict.fromkeys([*_unread(head, tool, external), *execution.doubts])),
        )

    def result(self, number: int, raw: object) -> Result:
        """Convert a decoded result. Raises Bad.

        This runs for each result of a report. So values of a rule or a file are looked up once, and rare members only
        if there are more than the common ones.
        """
        if type(raw) is not dict:
            raise Bad("", f"is {shown(raw)}; it must be an object")
        get = raw.get
        path = f"{self._at}.results[{number}]"
        key = rule_key(raw)
        told = self._found.get(key)
        if told is None:
            told = self._found[key] = self._looked_up(key)
        kind = get("kind", "fail")
        if kind != "fail" and kind not in KINDS:
            raise Bad(".kind", f"is {shown(kind)}; it must be one of {', '.join(KINDS)}")
        level = get("level")
        if level is None:
            level = told.level if kind == "fail" else "none"
        elif not isinstance(level, str) or (level := level.lower()) not in LEVELS:
            raise Bad(".level", f"is {shown(level)}; it must be one of {', '.join(LEVELS)}")
        plain = _RESULT_PLAIN.issuperset(raw)
        message: Any = get("message")
        text = message.get("text") if type(message) is dict and len(message) == 1 else None
        if type(text) is not str:
            plain = False
            text = self._message(message, told.rule, told.component)
            if text is None:
                raise Bad(".message", "is missing" if message is None else "holds no text")
        given = get("locations")
        self._lost_place = False
        uri, start, start_column, end, end_column, snippet, locations = self._place(given, path) if given else _NOWHERE
        if self._lost_place:  # the finding at this location may wrongly appear to be missing
            self.run.unsure.add(told.rule_id or "")
        severity = told.severity or LEVELS[level]
        cwe, state, suppressions = told.cwe, None, None
        rest = fingerprints = NOTHING
        flows: list[object] = []
        related: list[object] = []
        if not plain:
            rest, bag = self._more(raw, path)
            if isinstance(message.get("markdown"), str):
                markdown = self._message({**message, "text": None}, told.rule, told.component)
                rest = {**rest, "message": {"markdown": markdown}}
            own = bag.get(SEVERITY)
            if own is not None or STATE in bag:
                bag = {key: value for key, value in bag.items() if key not in (SEVERITY, STATE)}
                rest = {**rest, "properties": bag} if bag else {k: v for k, v in rest.items() if k != "properties"}
            if own in SEVERITIES:
                severity = own
            elif SCORE in bag and (score := score_of(bag)):
                severity = severity_of(level, score)
            elif unscored(bag):
                self._problems.append(SarifProblem(f"{path}.properties.{SCORE}", f"is {shown(bag[SCORE])}; {UNSCORED}"))
            state = get("baselineState")
            if state is not None and state not in BASELINE_STATES:
                raise Bad(".baselineState", f"is {shown(state)}; it must be one of {', '.join(BASELINE_STATES)}")
            fingerprints = texts(raw, "fingerprints")
            if "taxa" in raw or "tags" in bag or "cwe" in bag:
                cwe = self._cwe(raw, told.rule, bag)
            if "codeFlows" in raw:
                flows = self._kept(raw, "codeFlows", path)
            if "relatedLocations" in raw:
                related = self._kept(raw, "relatedLocations", path)
            if "suppressions" in raw:
                suppressions = self._suppressions(raw, path)
        return Result(
            told.rule_id,
            text,
            severity,
            level,
            kind,
            uri,
            start,
            start_column,
            end,
            end_column,
            snippet,
            fingerprints,
            texts(raw, "partialFingerprints"),
            None,  # the line hash, which is one of the fingerprints
            as_text(get("guid")),
            cwe,
            flows,
            related,
            locations,
            suppressions,
            state,
            rest,
            self.run.run_index,
            number,
            path,
        )

    def _place(self, given: Any, path: str) -> _Place:
        """Return the first location, and all locations if they contain more."""
        for one in given if type(given) is list else [None]:
            if type(one) is not dict:
                raise Bad(".locations", "is no array of objects")
        first = given[0]
        physical = member(first, "physicalLocation", ".locations[0]")
        artifact = member(physical, "artifactLocation", ".locations[0].physicalLocation")
        region = member(physical, "region", ".locations[0].physicalLocation")
        snippet = member(region, "snippet", ".locations[0].physicalLocation.region")
        uri, reason = self._located(artifact, ".locations[0].physicalLocation.artifactLocation")
        if reason is not None:
            self._lost_place = True
            self._problems.append(
                SarifProblem(f"{path}.locations[0].physicalLocation.artifactLocation.uri", reason + "; no path is kept")
            )
        locations: list[object] = []
        if (
            len(given) > 1
            or not _SIMPLE_LOCATION.issuperset(first)
            or not _SIMPLE_PLACE.issuperset(physical)
            or not _SIMPLE_ARTIFACT.issuperset(artifact)
            or not _SIMPLE_REGION.issuperset(region)
            or not _SIMPLE_SNIPPET.issuperset(snippet)
        ):
            locations = self._settled(given, "", path, quiet=len(given) == 1)
        return uri, *extent(region), as_text(snippet.get("text")), locations

    # -- members of the run

    def _component(self, component: dict[str, object], path: str) -> list[Rule | None]:
        rules: list[Rule | None] = []
        given = component.get("rules")
        if given is not None and not isinstance(given, list):
            self._problem(path + ".rules", f"is {shown(given)}; it must be an array")
        for number, raw in enumerate(as_list(given)):
            rule = read_rule(raw) if isinstance(raw, dict) else None
            if rule is None:
                self._problem(f"{path}.rules[{number}]", "has no id; left out")
            elif unscored(bag := as_dict(as_dict(raw).get("properties"))):
                self._problem(f"{path}.rules[{number}].properties.{SCORE}", f"is {shown(bag[SCORE])}; {UNSCORED}")
            rules.append(rule)
        return rules

    def _placed(self, found: tuple[str | None, str | None, Artifact] | None) -> Artifact | None:
        """Return a file that the run lists. Files outside the tree, such as libraries, are ignored."""
        if found is None or found[0] is None:
            return None
        try:
            return found[2]._replace(path=self._places.path(found[0], found[1]))
        except Outside:
            return None

    def _failed(self, execution: Execution) -> list[str]:
        """Return the files on which the tool failed. If one cannot be identified, the whole run is in doubt."""
        paths: set[str] = set()
        for artifact in execution.failed:
            path = reason = None
            with suppress(Bad):
                path, reason = self._located(artifact, "")
            if path is not None:
                paths.add(path)
            elif reason is not None:  # it may be in the tree, because the report does not state the root
                execution.doubts.append(f"the tool failed on {reason}; if it is of the tree, give its root (--root)")
            else:
                execution.doubts.append("the tool failed on a file whose address cannot be read")
        return sorted(paths)

    def _configured(self, descriptor: Mapping[str, object]) -> str | None:
        """Return the id of the rule that a reference to a descriptor names, or None."""
        name, index, guid = descriptor.get("id"), descriptor.get("index"), descriptor.get("guid")
        component = as_dict(descriptor.get("toolComponent")).get("index")
        at = 0 if component in (None, -1) else component + 1 if type(component) is int else -1
        rules = self._rules[at] if 0 <= at < len(self._rules) else []
        if type(index) is int and 0 <= index < len(rules) and rules[index] is not None:
            return rules[index].id  # type: ignore[union-attr]
        if isinstance(name, str) and name:
            return name
        known = (rule for rule in rules if rule is not None and rule.properties.get("guid") == guid)
        found = next(known, None) if isinstance(guid, str) else None
        return None if found is None else found.id

    def _rest(self, tool: dict[str, object]) -> dict[str, object]:
        """Return the members of the run that are stored for export."""
        rest: dict[str, object] = {}
        unknown: dict[str, object] = {}
        for key, value in self._members.items():
            if key in _RUN_KEPT:
                try:
                    rest[key] = self._settled(value, key, self._at, quiet=True)
                except Bad as bad:
                    self._problem("." + key + bad.args[0], bad.args[1] + "; left out")
            elif key not in _RUN_TAKEN:
                unknown[key] = value
        if unknown:
            rest["properties"] = {**unknown, **as_dict(rest.get("properties"))}
        driver = {k: v for k, v in self._components[0].items() if k not in ("name", "version", "rules")}
        extensions = [{k: v for k, v in one.items() if k != "rules"} for one in self._components[1:] if one.get("name")]
        kept = {k: v for k, v in tool.items() if k not in ("driver", "extensions")}
        kept.update({k: v for k, v in (("driver", driver), ("extensions", extensions)) if v})
        return {**rest, "tool": kept} if kept else rest

    def _problem(self, path: str, reason: str) -> None:
        self._problems.append(SarifProblem(self._at + path, reason))

    # -- members of a result

    def _looked_up(self, key: RuleKey) -> _Named:
        """Resolve the reference of a result to its rule. Raises Bad."""
        name, index, component = key
        at = 0 if component is None or component == -1 else component + 1
        if not 0 <= at < len(self._rules):
            raise Bad(".rule.toolComponent.index", f"is {component}; the tool has {len(self._rules) - 1} extensions")
        rule = None
        if index is not None and index != -1:
            if not 0 <= index < len(self._rules[at]):
                raise Bad(".ruleIndex", f"is {index}; the tool has {len(self._rules[at])} rules")
            rule = self._rules[at][index]
            name = name or (rule and rule.id)
        stem = name
        while rule is None and stem:  # the description of the rule a/b may be that of a
            rule, at = self._by_id.get(stem, (None, at))
            stem = stem.rpartition("/")[0]
        if rule is None:
            return _Named(name, None, at, "warning", None, [])
        score = rule.security_severity
        level = self._levels.get(rule.id) or rule.level or "warning"
        return _Named(name, rule, at, level, severity_of("none", score) if score else None, rule.cwe)

    def _message(self, message: object, rule: Rule | None, component: int) -> str | None:
        """Return the text of a message with its arguments, or None."""
        if not isinstance(message, dict):
            return None
        text = message.get("text")
        markdown = text is None and "markdown" in message
        if markdown:
            text = message.get("markdown")
        key, arguments = message.get("id"), message.get("arguments")
        if isinstance(text, str) and not arguments:
            return text
        if text is None and isinstance(key, str):
            for strings in (
                as_dict(rule.properties.get("messageStrings")) if rule else NOTHING,
                as_dict(self._components[component].get("globalMessageStrings")),
                as_dict(self._components[0].get("globalMessageStrings")),
            ):
                if key in strings:
                    text = as_dict(strings[key]).get("text")
                    break
            else:
                raise Bad(".message.id", f"is {key!r:.80}, which the tool does not define")
        if not isinstance(text, str):
            return None
        if "text" not in message and not markdown:
            self._copies.take(len(text), ".message")
        return filled(text, as_list(arguments), self._copies)

    def _located(self, artifact: dict[str, object], path: str) -> tuple[str | None, str | None]:
        """Return the path of an `artifactLocation`, or None with the reason if it names a file."""
        uri, base, index = artifact.get("uri"), artifact.get("uriBaseId"), artifact.get("index")
        try:
            known = self._locations.get((uri, base, index))
        except TypeError:
            raise Bad(path, "has an address that is no text") from None
        if known is not None:
            return known
        if not (isinstance(uri, str | None) and isinstance(base, str | None) and isinstance(index, int | None)):
            raise Bad(path, "has an address that is no text")
        if index is not None and index != -1:
            if not 0 <= index < len(self._artifacts):
                raise Bad(path + ".index", f"is {index}; the run has {len(self._artifacts)} artifacts")
            found = self._artifacts[index]
            if uri is None and found is not None:
                uri, base = found[:2]
        try:
            known = (None if uri is None else self._places.path(uri, base)), None
        except Outside as reason:
            known = None, f"{uri!r:.200} {reason}"
        self._locations[artifact.get("uri"), artifact.get("uriBaseId"), index] = known
        return known

    def _kept(self, raw: dict[str, object], key: str, path: str) -> list[object]:
        value = raw.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Bad("." + key, f"is {shown(value)}; it must be an array")
        if not all(isinstance(one, dict) for one in value):
            raise Bad("." + key, "holds something that is no object")
        kept: list[object] = self._settled(value, "", path)
        return kept

    def _settled(self, value: object, key: str, path: str, quiet: bool = False) -> Any:
        """Return a SARIF value with all references to arrays of the run resolved."""
        if type(value) is list:
            return [self._settled(one, key, path, quiet) if type(one) in _NESTS else one for one in value]
        if type(value) is not dict or key == "properties":
            return value
        if key in ("artifactLocation", "analysisTarget"):
            uri, reason = self._located(value, "")
            if reason is not None and not quiet:
                self._problems.append(SarifProblem(path, f"names {reason}; no path is kept"))
            rest = {k: v for k, v in value.items() if k not in _SIMPLE_ARTIFACT}
            return rest if uri is None else {**rest, "uri": address(uri), "uriBaseId": BASE}
        if key == "message" and "text" in value:
            if len(value) == 1:
                return value
        elif key == "message" and "id" in value:
            text = self._message(value, None, 0)
            return {"text": text or ""}
        if key in ("associatedRule", "descriptor", "rule"):
            return {k: v for k, v in value.items() if k != "index"}
        if "index" in value and key in ("locations", "logicalLocations") and (index := value["index"]) is not None:
            name = "threadFlowLocations" if key == "locations" else key
            known = as_list(self._members.get(name))
            if type(index) is not int or not -1 <= index < len(known):
                raise Bad("", f"points to {name}[{shown(index)}]; the run has {len(known)} of them")
            found = as_dict(known[index]) if index >= 0 else NOTHING
            value = {k: v for k, v in {**found, **value}.items() if k not in ("index", "parentIndex")}
            with self._copies.of(found):
                return self._inner(value, path, quiet)
        return self._inner(value, path, quiet)

    def _inner(self, value: dict[str, object], path: str, quiet: bool) -> dict[str, object]:
        kept = {k: self._settled(v, k, path, quiet) if type(v) in _NESTS else v for k, v in value.items()}
        for key in _REGIONS:
            if key in kept:
                region = as_dict(kept[key])
                kept[key] = region = {
                    k: v for k, v in region.items() if k not in _COUNTED or (type(v) is int and v > 0)
                }
                if _BEGINS.isdisjoint(region):
                    del kept[key]
        return kept

    def _more(self, raw: dict[str, object], path: str) -> tuple[dict[str, object], dict[str, object]]:
        """Return the members of a result without a field, and its property bag."""
        bag = member(raw, "properties", "")
        rest: dict[str, object] = {}
        unknown: dict[str, object] = {}
        for key in raw:
            if key in _RESULT_TAKEN:
                continue
            if key not in _RESULT_KEPT:
                unknown[key] = raw[key]
            elif key != "properties":
                rest[key] = self._settled(raw[key], key, path)
        if unknown:
            bag = {**unknown, **bag}
        if bag:
            rest["properties"] = bag
        return rest, bag

    def _cwe(self, raw: dict[str, object], rule: Rule | None, bag: dict[str, object]) -> list[str]:
        words = [*as_list(bag.get("tags")), *cwe_words(bag.get("cwe"))]
        for reference in map(as_dict, as_list(raw.get("taxa"))):
            words += taxon(reference, as_list(self._members.get("taxonomies")))
        return list(dict.fromkeys([*(rule.cwe if rule else ()), *cwe_in(words)]))

    def _suppressions(self, raw: dict[str, object], path: str) -> list[dict[str, object]] | None:
        given = raw.get("suppressions")
        if given is None:
            return None
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise Bad(".suppressions", "is no array of objects")
        kept: list[dict[str, object]] = self._settled(given, "", path) if given else []
        return kept
