"""Names that frameworks call or read, so that no reference to them proves nothing.

:data:`RULES` is the list that ``docs/symbols.md`` documents; add a rule here, or pass ``ignore=`` for a project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import NamedTuple


class FrameworkRule(NamedTuple):
    """Names that something else than the code of the tree uses.

    ``names`` and ``bases`` are patterns separated by spaces, ``*`` for any text. A name is a member of a class if
    ``bases`` is given: one of its base classes, direct or not, has a name that matches.
    """

    why: str
    names: str
    bases: str = ""
    kinds: str = "function method class variable"


RULES = (
    FrameworkRule("special methods of Python", "__*__"),
    FrameworkRule("ast.NodeVisitor, NodeTransformer and other visitors", "visit visit_* generic_visit depart_* leave_*",
         kinds="method"),
    FrameworkRule("unittest, and set-up of pytest",
         "setUp tearDown setUpClass tearDownClass asyncSetUp asyncTearDown setUpTestData setUpModule tearDownModule"
         " setup_method teardown_method setup_class teardown_class setup_function teardown_function setup_module"
         " teardown_module runTest load_tests"),
    FrameworkRule("results of unittest",
         "startTest stopTest startTestRun stopTestRun addError addFailure addSuccess addSkip addExpectedFailure"
         " addUnexpectedSuccess addSubTest addDuration", kinds="method"),
    FrameworkRule("hooks of pytest", "pytest_*", kinds="function method"),
    FrameworkRule("http.server", "do_GET do_POST do_PUT do_DELETE do_HEAD do_PATCH do_OPTIONS do_* log_message",
         "*RequestHandler"),
    FrameworkRule("socketserver and asyncio protocols",
         "handle setup finish connection_made connection_lost data_received datagram_received error_received"
         " eof_received pause_writing resume_writing", "*Handler *Protocol *Server"),
    FrameworkRule("files and streams of any class",
         "read read1 readinto readline readlines readall write writelines flush close closed fileno isatty seek"
         " seekable tell truncate readable writable detach getvalue", kinds="method variable"),
    FrameworkRule("html.parser", "handle_* unknown_decl", "*Parser"),
    FrameworkRule("threads and processes", "run", "*Thread *Process *Timer"),
    FrameworkRule("cmd.Cmd", "do_* help_* complete_* default emptyline precmd postcmd preloop postloop", "*Cmd"),
    FrameworkRule("logging", "emit format filter handle", "*Handler *Formatter *Filter *Adapter"),
    FrameworkRule("json", "default", "*Encoder"),
    FrameworkRule("argparse", "format_* error", "*Formatter *Parser *Action"),
    FrameworkRule("classes that frameworks look up by name", "Meta Config Media Params", kinds="class"),
    FrameworkRule("pydantic", "model_config model_post_init"),
    FrameworkRule("forms and models of Django", "clean_* validate_* get_*_display", "*Form *Serializer *Model",
         kinds="method"),
    FrameworkRule("members of enumerations", "*", "Enum IntEnum StrEnum Flag IntFlag ReprEnum", kinds="variable"),
    FrameworkRule("values of enumerations", "_missing_ _generate_next_value_ _ignore_ _order_"),
    FrameworkRule("fields of data classes and typed rows", "*",
         "NamedTuple TypedDict BaseModel BaseSettings Structure Struct Model Schema Protocol", kinds="variable"),
    FrameworkRule("ctypes", "_fields_ _pack_ _anonymous_ _as_parameter_ from_param", kinds="variable method"),
    FrameworkRule("notebooks", "_repr_*_ _ipython_*", kinds="method"),
    FrameworkRule("modules read by tools",
         "__version__ __all__ urlpatterns app_name default_app_config application handler404 handler500 pytestmark"
         " pytest_plugins collect_ignore collect_ignore_glob upgrade downgrade down_revision revision branch_labels"
         " depends_on", kinds="variable function"),
    FrameworkRule("hooks of distutils and PEP 517 builds",
         "build_wheel build_sdist build_editable get_requires_for_build_* prepare_metadata_for_build_*",
         kinds="function"),
)  # fmt: skip


class Patterns:
    """Whether a name matches one of several patterns."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._plain: set[str] = set()
        globs = []
        for each in patterns:
            if any(c in each for c in "*?["):
                globs.append(translate(re.sub(r"\*+", "*", each)))
            else:
                self._plain.add(each)
        self._glob = re.compile("|".join(globs)) if globs else None

    def __call__(self, name: str) -> bool:
        return name in self._plain or self._glob is not None and self._glob.match(name) is not None


class _Compiled(NamedTuple):
    names: Patterns
    bases: Patterns | None
    kinds: frozenset[str]


_COMPILED = [
    _Compiled(Patterns(rule.names.split()), Patterns(rule.bases.split()) if rule.bases else None,
              frozenset(rule.kinds.split()))
    for rule in RULES
]  # fmt: skip


def called_by_framework(name: str, kind: str, bases: Iterable[str]) -> bool:
    """Whether a rule fits a symbol, given the names of the base classes of its class."""
    known = [base.partition("[")[0].rpartition(".")[2] for base in bases]
    return any(
        kind in rule.kinds and rule.names(name) and (rule.bases is None or any(map(rule.bases, known)))
        for rule in _COMPILED
    )
