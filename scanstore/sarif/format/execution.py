"""The execution of a run as its report states it: success, failures, disabled rules.

Whether a finding is fixed, and whether a gate passes, depends on this. A value that cannot be read is therefore a doubt
about the run, never a success. Change here: which statements of a tool mean that it failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from scanstore.sarif.format.parts import as_dict, as_list, shown
from scanstore.sarif.format.vocabulary import LEVELS, SEVERITIES

NOTIFICATIONS = ("toolExecutionNotifications", "toolConfigurationNotifications")
FindRule = Callable[[Mapping[str, object]], str | None]
"""Returns the id of the rule that a reference names, None when there is no such rule."""


class Execution:
    """The invocations of a run. ``successful`` is the tool's own statement, None if it has none.

    ``doubts`` are reasons why the run as a whole is unreliable. ``failed`` has the addresses of files, and
    ``failed_rules`` the ids of rules, on which the tool failed. ``on``, ``off`` and ``levels`` come from rule
    configuration overrides; ``unsure`` are rules that did not run everywhere.
    """

    def __init__(self, members: Mapping[str, object], rule: FindRule) -> None:
        self.successful: bool | None = None
        self.doubts: list[str] = []
        self.failed: list[dict[str, object]] = []
        self.failed_rules: set[str] = set()
        self.off: set[str] = set()
        self.levels: dict[str, str] = {}
        self.on: set[str] = set()
        for invocation in self._invocations(members):
            self._outcome(invocation)
            for key in NOTIFICATIONS:
                self._notifications(invocation, key, rule)
            self._overrides(invocation, rule)
        # If one invocation enables a rule and another one disables it, the rule ran only in a part of the tree.
        self.unsure = self.failed_rules | (self.off & self.on)

    def _invocations(self, members: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        given = members.get("invocations")
        if given is not None and not isinstance(given, list):
            self.doubts.append(f"its invocations are {shown(given)}, which cannot be read")
        for one in as_list(given):
            if isinstance(one, dict):
                yield one
            else:
                self.doubts.append(f"an invocation is {shown(one)}, which cannot be read")
        converter = as_dict(members.get("conversion")).get("invocation")
        if isinstance(converter, dict):
            yield converter
        elif converter is not None:
            self.doubts.append(f"the invocation of its converter is {shown(converter)}, which cannot be read")

    def _outcome(self, invocation: Mapping[str, object]) -> None:
        """Record whether an invocation succeeded. The exit code counts only without an explicit statement, because many
        tools exit with a non-zero code when they find something.
        """
        told, code = invocation.get("executionSuccessful"), invocation.get("exitCode")
        reason = next(
            (
                f"the tool was ended: {name} is {shown(invocation[name])}"
                for name in ("exitSignalName", "exitSignalNumber", "processStartFailureMessage")
                if invocation.get(name) not in (None, "", 0)
            ),
            None,
        )
        if told is False:
            reason = "the tool says that it failed" + (f" (exit code {shown(code)})" if code else "")
        elif told is not None and told is not True:
            reason = f"executionSuccessful is {shown(told)}, neither true nor false"
        elif told is None and code not in (None, 0) and reason is None:
            reason = f"the tool ended with exit code {shown(code)} and does not say that it succeeded"
        if reason is not None:
            self.doubts.append(reason)
            self.successful = False
        elif told is True and self.successful is None:
            self.successful = True

    def _notifications(self, invocation: Mapping[str, object], key: str, rule: FindRule) -> None:
        given = invocation.get(key)
        if given is not None and not isinstance(given, list):
            self.doubts.append(f"{key} is {shown(given)}, which cannot be read")
        for one in as_list(given):
            level = as_dict(one).get("level", "warning")
            if not isinstance(one, dict) or not isinstance(level, str | None):
                self.doubts.append(f"one of {key} cannot be read")
            elif (level or "").lower() == "error":
                self._error(one, rule)

    def _error(self, notification: Mapping[str, object], rule: FindRule) -> None:
        """Record an error. An error that names files or a rule applies to these; any other error applies to the whole
        run.
        """
        files = []
        for location in map(as_dict, as_list(notification.get("locations"))):
            artifact = as_dict(as_dict(location.get("physicalLocation")).get("artifactLocation"))
            if artifact:
                files.append(artifact)
        named = notification.get("associatedRule")
        about = rule(named) if isinstance(named, dict) else None
        if files:
            self.failed += files
        elif about is not None:
            self.failed_rules.add(about)
        else:
            said = as_dict(notification.get("message")).get("text")
            detail = f": {said.strip()[:200]}" if isinstance(said, str) and said.strip() else ""
            self.doubts.append(f"the tool reports an error{detail}")

    def _overrides(self, invocation: Mapping[str, object], rule: FindRule) -> None:
        given = invocation.get("ruleConfigurationOverrides")
        if given is not None and not isinstance(given, list):
            self.doubts.append(f"ruleConfigurationOverrides is {shown(given)}, which cannot be read")
        for one in map(as_dict, as_list(given)):
            configuration, descriptor = one.get("configuration"), one.get("descriptor")
            about = rule(descriptor) if isinstance(descriptor, dict) else None
            if about is None or not isinstance(configuration, dict):
                self.doubts.append("a rule configuration override cannot be read, or names no rule of the tool")
                continue
            enabled, level = configuration.get("enabled", True), configuration.get("level")
            (self.on if enabled is True else self.off).add(about)
            if isinstance(level, str) and level.lower() in LEVELS:
                words = (level.lower(), self.levels.get(about, "none"))
                self.levels[about] = min(words, key=lambda word: SEVERITIES.index(LEVELS[word]))
