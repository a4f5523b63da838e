"""The store for asyncio: every method of :class:`~scanstore.store.Store` as a coroutine."""

# Written by tests/support/async_stub.py; do not edit.

import builtins
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, BinaryIO, Literal, Unpack, overload

import peewee

from scanstore.accounts.models import User, UserKey
from scanstore.aio.calls import AsyncCall as AsyncCall
from scanstore.aio.domains import AsyncDomain as AsyncDomain
from scanstore.aio.running import Running
from scanstore.analysis.calls import Call, Usage
from scanstore.analysis.drafts import AddedDrafts, DraftJudgement
from scanstore.analysis.lifecycle import AnalysisConfig, Progress, Rerun
from scanstore.analysis.models import Analyzer, DraftFinding, ModelCall, VerifiedFinding, Vote
from scanstore.analysis.policies import Policy
from scanstore.audits.audits import AuditId, AuditStats, ResultId
from scanstore.audits.models import Analysis, AnalysisFinding, AuditEvent, Task
from scanstore.audits.policies import AuditPolicy
from scanstore.db.database import Database
from scanstore.db.fields import Base
from scanstore.db.generic_fields import JsonValue
from scanstore.db.migrations import MigrationNames, Step
from scanstore.db.pagination import Page
from scanstore.db.progress import ProgressCallback
from scanstore.db.rows import Removed, Rows
from scanstore.db.words import (
    AnalysisStep,
    AuditSeverity,
    AuditStatus,
    AuditVerdict,
    CallStatus,
    ChangeAction,
    ChangeField,
    ChangeStatus,
    ChunkStatus,
    CycleKind,
    DraftStatus,
    FindingState,
    FindingStatus,
    GraphDirection,
    GraphFormat,
    JobStatus,
    LibraryKind,
    NamedKind,
    NameMatch,
    PlanDecision,
    PlanStatus,
    PruneKind,
    ReferenceType,
    ReportFormat,
    ResultStatus,
    ReviewVerdict,
    Risk,
    ScanStatus,
    SearchKind,
    SessionStatus,
    SessionTaskStatus,
    Severity,
    SymbolChangeFilter,
    SymbolType,
    UploadMark,
    UploadStatus,
    VerifiedStatus,
)
from scanstore.findings.listing import FindingDiff
from scanstore.findings.models import Finding, FindingEvent, Sighting, Suppression
from scanstore.indexing.facts import Indexer
from scanstore.indexing.languages import Language
from scanstore.jobs.models import Job, ScheduledTask
from scanstore.jobs.schedules import ScheduledRun
from scanstore.jobs.worker import Worked
from scanstore.leases.queue import Recovered, State, Stop
from scanstore.library.library import LibraryStats, Named
from scanstore.library.models import (
    NamedRecord,
    Performer,
    Row,
    Scene,
    SceneRecord,
    StoredScene,
    Studio,
    SyncCounts,
    SyncRun,
    Tag,
)
from scanstore.library.sync import Sync
from scanstore.llm.configs import ModelChanges, ModelColumns
from scanstore.llm.models import ModelConfig
from scanstore.maintenance.backup import Backup, Restored
from scanstore.maintenance.compaction import Compacted
from scanstore.maintenance.dump import File, Loaded, Transferred
from scanstore.maintenance.health import Problem, Stats
from scanstore.maintenance.merge.merge import MergeResult
from scanstore.maintenance.pruning import Pruned
from scanstore.maintenance.repair.repair import Repaired
from scanstore.plans.applying import Applied, Reverted
from scanstore.plans.models import AnalysisPlan, PlanChange
from scanstore.plans.plans import Reviewed
from scanstore.plans.preview import Preview
from scanstore.plans.proposals import Proposal, ProposalRecord, Proposed
from scanstore.sarif.exporting import Dumped
from scanstore.sarif.sarif import ImportResult
from scanstore.search import Hit
from scanstore.sessions.models import (
    AnalysisResult,
    AnalysisSession,
    AnalysisTask,
    Configuration,
    FileUpload,
    Result,
    ResultRecord,
    Session,
    Upload,
)
from scanstore.sessions.models import Task as Task_models
from scanstore.sessions.sessions import SessionStats
from scanstore.sessions.uploads import Added, UploadRecord
from scanstore.settings import _D, _T, Setting
from scanstore.snapshots.ctags_import import LoadedTags
from scanstore.snapshots.models import Scan, ScanFile, ScanFileChunk
from scanstore.snapshots.recorder import Recorder
from scanstore.snapshots.scans import FileDiff, Summary, Target
from scanstore.store import Store, _Row
from scanstore.symbols.breaking import Breakage
from scanstore.symbols.comparison import SymbolDiff
from scanstore.symbols.cycles import ImportCycle
from scanstore.symbols.graph import Edge, Reached
from scanstore.symbols.models import ImportRelation, Symbol, SymbolLike, SymbolReference
from scanstore.symbols.renames import RenamePlace
from scanstore.symbols.tests_of import ReachingTest

class _AsyncSlot:
    """A slot of a model, held inside its ``with`` block; see ``store.llm.slot``."""

    model: str

    async def heartbeat(self, *, lease: float = 600.0) -> None:
        """Hold the slot for ``lease`` seconds from now on. Raises LeaseLost if another worker has got it."""

class _AsyncSync:
    """A run as a context manager: starts on entry, completes on exit, and fails on an exception, which is re-raised."""

    kind: LibraryKind
    take_over: bool
    id: int
    since: datetime | None
    started_at: datetime

    async def heartbeat(self) -> None:
        """Show that the run is active. Each write with ``run=`` does this too, so call it only if there is none for an
        hour.

        Raises IllegalMove if the run has ended, for example because another process took it over.
        """

    async def prune_unseen(self, *, dry_run: bool = True) -> list[str]:
        """Remove the rows that this run did not see, with their links, unless ``dry_run``. Return their ids, in order.
        Atomic.

        Call this only after a full listing, because a listing of changes does not contain the unchanged rows. Rows that
        others wrote since the run began count as seen, and so do the rows of rejected records that have an id. Changes
        that were proposed for a removed scene stay. Raises IllegalMove if the run saw no row, or has ended.
        """

class AsyncStoreScans(AsyncDomain):
    """Record, analyse, list, compare and remove scans."""

    async def record(
        self,
        path: str | os.PathLike[str],
        *,
        target: str | None = None,
        name: str | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_size: int | None = 5000000,
        jobs: int | None = None,
        indexers: Sequence[Indexer] = (),
        roots: Iterable[str | os.PathLike[str]] = (),
        ctags: str | os.PathLike[str] | BinaryIO | None = None,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> Scan:
        """Record a snapshot of the tree (or the one file) at ``path`` and return its completed scan.

        :func:`scanstore.indexing.walk.walk` finds the files; ``include`` and ``exclude`` are patterns in the syntax of
        ``.gitignore``, ``max_size`` is in bytes (None: no limit). Known content is not indexed again. ``target`` is the
        name of the scanned tree (default: the absolute path), ``jobs`` is the number of processes (default: one per
        core, fewer for small trees). ``indexers`` take precedence over the built-in ones. ``roots`` are folders
        of the tree from which its Python modules are named and imported, such as ``api``; folders that the imports of
        the tree show need not be given. ``ctags`` is a universal-ctags JSON file, or an open file, with symbols of
        other languages. The file itself is not recorded;
        the result of the import is in the scan's ``options["ctags"]`` (files, symbols, outside, broken).

        ``progress`` is called in this thread with the finished files, all files, and the path of the last one. An
        exception of it ends the scan, and recorded files stay.

        Files are committed in small batches, so that the next call continues after a crash. A file that cannot be read
        or parsed is recorded with its error. Raises NotFound for a missing path, before the scan starts. An interrupted
        scan becomes ``cancelled`` or ``failed``.
        """

    async def add(self, target: str, *, name: str | None = None, root: str | os.PathLike[str] | None = None) -> Scan:
        """Add a scan for your own parser: call ``store.symbols.record_file`` for each file, then ``finish``.

        Raises InvalidArgument.
        """

    async def finish(self, scan: Scan | int) -> Scan:
        """Complete a scan: resolve its references and make it the latest of its target. Atomic. Can be repeated after
        more files were recorded. Raises IllegalMove for a failed or cancelled scan.
        """

    async def rename_target(self, target: str, new: str) -> Target:
        """Rename a target, with all its scans and findings, and return it. Atomic.

        The next scan must name it, because the default target of a tree is its path. Raises NotFound, Conflict if there
        is a target of the new name, and InvalidArgument.
        """

    async def recorder(self, scan: Scan | int) -> Recorder:
        """Return the writer of one scan's files."""

    async def get(self, scan: Scan | int) -> Scan:
        """Read the scan with this id. Raises NotFound, InvalidArgument."""

    async def find(self, scan: Scan | int) -> Scan | None:
        """Read the scan with this id, or return None. Raises InvalidArgument."""

    async def list(
        self,
        *,
        target: str | None = None,
        status: ScanStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Scan]:
        """List scans, newest first, optionally of one target or status. Raises InvalidArgument."""

    async def latest(self, target: str | None = None) -> Scan:
        """Return the latest completed scan of a tree, of one target or of all; without one, the latest of reports.

        Raises NotFound if there is neither. Queries without a target do not use the latest scan of all targets: they
        raise Ambiguous if the store has several.
        """

    async def targets(self, *, limit: int | None = None, offset: int = 0) -> Rows[Target]:
        """List the targets of this store by name, including those without a completed scan."""

    async def summary(self, scan: Scan | int | None = None, *, target: str | None = None) -> Summary:
        """Return the counts of a scan (default: the latest of the target), with its unreadable files."""

    async def diff(self, a: Scan | int, b: Scan | int | None = None) -> FileDiff:
        """Return the changes of files from scan ``a`` to scan ``b`` (default: the latest of the same target)."""

    async def analyze(
        self, scan: Scan | int | None = None, *, target: str | None = None, **config: Unpack[AnalysisConfig]
    ) -> Scan:
        """Start the analysis of a recorded scan (default: the latest of the target), so that its chunks can be claimed.

        One transaction.

        ``config`` holds columns of ScanConfig: ``analysis_mode`` (``primary_verifiers``, or ``primary_only``: the scan
        completes without waiting for drafts), ``primary_analyzer`` (a model), ``scope`` (``full``, or ``changed``:
        chunks of the target's previous scan are skipped), ``scanner_concurrency``, ``verifier_concurrency``,
        ``enricher_concurrency``, ``max_retries``, ``retry_delay`` (seconds), ``max_lost`` (leases that a row may lose
        without failing), ``pause_after`` (consecutive errors; None: never). Every process of a pipeline may call this:
        a started analysis takes the given settings and keeps the others. Raises IllegalMove for an incomplete scan.
        """

    async def pause(self, scan: Scan | int, *, reason: str | None = None) -> Scan:
        """Lease no more rows until :meth:`resume`. Leased rows can still be completed. Raises IllegalMove."""

    async def resume(self, scan: Scan | int) -> Scan:
        """Resume a paused analysis, or a cancelled or failed one of a recorded scan. Raises IllegalMove."""

    async def cancel(self, scan: Scan | int, *, reason: str | None = None) -> Scan:
        """Cancel an analysis. Leased rows can still be completed. Raises IllegalMove."""

    async def rerun(self, scan: Scan | int, *, to: AnalysisStep = "scan", failed_only: bool = False) -> Rerun:
        """Run a step of an analysis and the steps after it again. Atomic. Return the number of rows that are pending
        again.

        ``to`` is ``scan`` (all chunks), ``verify`` (all judged drafts, in a new round; earlier votes are kept) or
        ``enrich`` (all verified findings except those that later votes revoked). ``failed_only`` selects only failed
        rows. No rows are deleted: repeated drafts are merged, and a finding that is published again is updated and
        keeps its status. Cached answers are reused. Leased rows stay with their workers. Raises IllegalMove while the
        scan is running.
        """

    async def set_risk(self, scan: Scan | int, risk: Risk, patterns: Iterable[str]) -> int:
        """Set the risk of the files that match patterns in the syntax of ``.gitignore``. Return their number.

        Chunks of ``high`` files are claimed first, those of ``low`` files last. Atomic.
        """

    async def progress(self, scan: Scan | int | None = None, *, target: str | None = None) -> Progress:
        """Return the progress of the analysis of a scan (default: the latest of the target).

        The cost does not depend on the size of the scan.
        """

    async def remove(self, scan: Scan | int) -> Removed:
        """Remove a scan, its analysis, and exactly the facts that no remaining scan uses, in one transaction.

        Return the number of removed rows by table. Cached answers stay, and an analysis of the same content reuses
        them. Unused interned names are removed afterwards, which reads all facts; to remove many scans, use
        ``store.prune``, which does this only once. Raises NotFound, InvalidArgument.
        """

class AsyncSymbols(AsyncDomain):
    """Symbols of a scan, and the references between them."""

    async def record_file(
        self,
        scan: Scan | int,
        path: str,
        content_hash: str | bytes,
        *,
        symbols: Iterable[object] = (),
        references: Iterable[object] = (),
        imports: Iterable[object] = (),
        chunks: Iterable[object] = (),
        indexer: str = "custom/1",
        line_count: int = 0,
    ) -> ScanFile:
        """Record the facts that your own parser found in one file; see :mod:`scanstore.indexing.records` for the
        fields.

        Rows are dicts or objects with these attributes, in any iterable. Atomic and idempotent: if the same path,
        content hash and ``indexer`` were recorded before, the stored facts are used and the given rows are not read.
        Raises InvalidArgument, which names the invalid row, and then writes nothing.
        """

    async def load_ctags(self, scan: Scan | int, file: str | os.PathLike[str] | BinaryIO) -> LoadedTags:
        """Add the symbols of a universal-ctags JSON file (``ctags --output-format=json --fields='*' -R``) to a scan.

        Files with symbols keep them; skipped files stay skipped. Invalid lines are reported and do not stop the import.
        Finish the scan afterwards, or do both with ``store.scans.record(path, ctags=file)``. Raises NotFound for a
        missing file, InvalidArgument for another format. Nothing is written then.
        """

    async def find(
        self,
        name: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        match: NameMatch = "exact",
        symbol_type: SymbolType | None = None,
        file: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Symbol]:
        """Find symbols by name. The list is empty if none matches, or if the store has no scan.

        ``match`` is ``exact`` (name, qualified name, or the name by which code imports it: ``json.JSONEncoder`` finds
        ``json.encoder.JSONEncoder``), ``prefix`` (of name or qualified name), or ``contains`` (anywhere in the
        qualified name, case-insensitive). Classes and functions come before variables and modules.
        """

    async def get(self, symbol: SymbolLike, *, scan: Scan | int | None = None, target: str | None = None) -> Symbol:
        """Return the symbol for an id, a qualified or plain name, or a row with an ``id``.

        Raises NotFound, and Ambiguous (with ``candidates``) if a name matches several symbols.
        """

    async def list(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        file: str | None = None,
        symbol_type: SymbolType | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Symbol]:
        """List all symbols of a scan, or of one of its files, by file and line."""

    async def references(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        reference_type: ReferenceType | None = None,
        guesses: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[SymbolReference]:
        """List every reference to a symbol, by file and line. ``guesses=False`` leaves out guesses.

        Several definitions of one name in a file count as one symbol, such as the signatures of an overloaded function.
        """

    async def rename_preview(
        self,
        symbol: SymbolLike,
        new: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[RenamePlace]:
        """List the places that a rename of a symbol must change, then those that it may have to change.

        Nothing is changed. The first rows, with ``sure``, are the definitions, also those of overriding methods, and
        the trusted references that spell the name. The others are guesses, unresolved references with the same last
        name, base classes outside the tree, and strings, comments and attributes of unknown objects. Text is read from
        the files of the tree that have not changed since the scan.

        Raises InvalidArgument if the new name is no identifier, a keyword, or used in a scope where it would replace
        the old one.
        """

    def edges(
        self, scan: Scan | int | None = None, *, target: str | None = None, reference_type: ReferenceType | None = None
    ) -> AsyncGenerator[Edge]:
        """Stream every reference of a scan, by file and line, with its target and resolution. One with several targets
        is given for each of them.
        """

    def export(
        self,
        format: GraphFormat,
        *,
        root: SymbolLike | None = None,
        depth: int | None = 2,
        direction: GraphDirection = "callees",
        guesses: bool = False,
        imports: bool = False,
        scan: Scan | int | None = None,
        target: str | None = None,
    ) -> AsyncGenerator[str]:
        """Stream the call graph as lines of ``dot``, ``graphml`` or ``mermaid``: symbols that call or are called.

        ``root`` limits the graph to symbols up to ``depth`` calls away from it (None: any), in the ``direction``
        ``callers``, ``callees`` or ``both``, with all calls between them. With ``imports``, the graph shows which file
        imports which, and ``root`` is the path of a file. The same tree gives the same lines. Raises InvalidArgument
        and NotFound immediately.
        """

    async def imports(
        self,
        file: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ImportRelation]:
        """List the import statements of a file, by line. Raises NotFound for a file that the scan does not have."""

    async def importers(
        self,
        file: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> builtins.list[str]:
        """List the files that import a file, sorted. Raises NotFound for a file that the scan does not have."""

    async def import_cycles(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        only: CycleKind | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[ImportCycle]:
        """List groups of files that import each other, largest first, with the import that closes each cycle.

        The ``kind`` is ``runtime``; ``lazy`` if the cycle needs an import inside a function; ``typing`` if it needs one
        under ``if TYPE_CHECKING``. ``only`` gives the cycles of one kind.
        """

    async def unresolved_imports(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ImportRelation]:
        """List imports of missing modules of this tree. Imports of modules outside the tree are not included."""

    async def coverage(self, *, scan: Scan | int | None = None) -> Rows[Language]:
        """Return the recorded facts (symbols, references, imports) by language, the most files first.

        An empty result of a query about symbols proves absence only for languages whose ``recorded`` includes the facts
        of the query. Files that ``failed`` or were ``skipped`` have no facts.
        """

    async def unreferenced(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        symbol_types: Iterable[SymbolType] = ("class", "function", "method"),
        ignore: Iterable[str] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Symbol]:
        """List symbols that seem unused: no reference resolves to them and no file mentions their name.

        This is a hint, not a proof, because names created at run time are not found. Tests, overrides of base classes
        outside the tree, decorated functions that may be registered, and names that a framework calls
        (:mod:`scanstore.symbols.frameworks`) are left out. ``ignore`` adds patterns of names or qualified names, such
        as ``visit_*``. Symbols of files whose references are not recorded are left out too; ``coverage`` lists their
        languages.
        """

    async def diff(
        self,
        a: Scan | int,
        b: Scan | int | None = None,
        *,
        public: bool = False,
        paths: Iterable[str] = (),
        symbol_types: Iterable[SymbolType] = (),
        changes: Iterable[SymbolChangeFilter] = (),
    ) -> SymbolDiff:
        """Return the changes of symbols from scan ``a`` to scan ``b`` (default: the latest of the same target).

        ``public`` leaves out names that importers do not use, ``paths`` are patterns of files such as ``src/**``, and
        ``changes`` are ``added``, ``removed``, ``changed``, ``moved`` or kinds of change. Empty filters choose all.
        """

    async def breaking(
        self,
        a: Scan | int,
        b: Scan | int | None = None,
        *,
        paths: Iterable[str] = (),
        symbol_types: Iterable[SymbolType] = (),
    ) -> Rows[Breakage]:
        """Return the changes from scan ``a`` to ``b`` that importers notice, by name. Only public names are compared.

        Rows of the kind ``not_compared`` are files that could not be compared: without any rows, nothing breaks.
        """

    async def callers(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = 1,
        guesses: bool = False,
        overrides: bool = False,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the functions, methods and modules that call a symbol, up to ``depth`` calls away (None: any), nearest
        first.

        ``overrides`` adds the callers of what a method overrides and of what overrides it; ``through`` names the called
        method. ``file`` keeps the callers in matching files: one or several patterns such as ``tests/**``, as in a
        ``.gitignore``.
        """

    async def callees(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = 1,
        guesses: bool = False,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the symbols of the tree that a symbol calls, up to ``depth`` calls away (None: any), nearest first."""

    async def impact(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = True,
        overrides: bool = True,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List all symbols that depend on a symbol by calls, uses and base classes, with their distance.

        A class includes its constructor, a decorator reaches the functions that it decorates, and a method reaches
        those that it overrides and that override it, unless ``overrides`` is false. ``exact`` is false if the shortest
        path contains a guess. ``file`` keeps the symbols in matching files, as in ``callers``.
        """

    async def subclasses(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the classes that inherit from a class, directly or not."""

    async def bases(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the classes of the tree that a class inherits from, directly or not."""

    async def tests_of(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = True,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[ReachingTest]:
        """List the tests that reach a symbol, nearest first, each with its path to the symbol.

        Tests are found as pytest and unittest find them. The path follows calls, uses, base classes, overrides,
        fixtures and set-up methods. ``exact`` is false if it contains a guess. ``file`` keeps the tests in matching
        files, as in ``callers``. A test that reaches the symbol by a name created at run time is not found.
        """

class AsyncModels(AsyncDomain):
    """Model configurations by name, with their slots, calls and answers."""

    def call(
        self,
        model: str | int | ModelConfig,
        *,
        purpose: str,
        scan: Scan | int | None = None,
        chunk: ScanFileChunk | int | None = None,
        draft: DraftFinding | VerifiedFinding | int | None = None,
        analyzer: Analyzer | int | None = None,
        prompt: str | None = None,
        keep: bool = False,
    ) -> AbstractAsyncContextManager[Call]:
        """Record one call of a model: ``with store.llm.call(model, purpose="analysis", chunk=chunk) as call:``.

        In the block, set ``call.response`` and, if known, ``call.prompt_tokens``, ``call.completion_tokens`` and
        ``call.cost``. The row is written at the start and at the end of the block. A call with a response is
        ``answered``, even if a later step fails; otherwise it is ``failed``. With ``keep``, ``prompt`` and response are
        stored with the call, compressed. With ``analyzer``, the response to a chunk or draft is cached for
        :meth:`answer`, in the same transaction.

        Raises NotFound, InvalidArgument (rows of different scans; an analyzer of another model), and IllegalMove inside
        a transaction. Invalid values of the call raise when the block ends, after the valid ones were recorded.
        """

    async def calls(
        self,
        scan: Scan | int | None = None,
        *,
        purpose: str | None = None,
        status: CallStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ModelCall]:
        """List calls, newest first, without their prompts and responses; :meth:`get_call` reads these."""

    async def get_call(self, call: ModelCall | int) -> ModelCall:
        """Return one call, with ``prompt_text`` and ``response_text`` if they were stored.

        Raises NotFound, InvalidArgument.
        """

    async def usage(self, scan: Scan | int | None = None) -> Rows[Usage]:
        """Sum up calls, tokens, cost and seconds by model and purpose, of one scan or of all scans."""

    async def analyzer(
        self, model: str | int | ModelConfig, /, *, prompt: str | None = None, **parameters: object
    ) -> Analyzer:
        """Return the analyzer for a model with a prompt and parameters. The same arguments always give the same
        analyzer.

        ``prompt`` is the template (default: the model's ``analysis_prompt_template``). ``parameters`` are all other
        values that influence an answer, as JSON. A different model, ``max_tokens``, template or parameter gives a
        different analyzer. Use one analyzer per question: verifying and enriching a draft are two questions.
        """

    async def answer(self, analyzer: Analyzer | int, subject: object) -> str | None:
        """Return the analyzer's answer about the content of a chunk or draft, from any scan, or None.

        ``subject`` is a row or an id (one of 2**24 or more is a chunk's); a verified finding must be
        given as a row. Raises NotFound.
        """

    async def ask(
        self,
        analyzer: Analyzer | int,
        subject: object,
        function: Callable[
            [], str | tuple[str, Mapping[str, object]] | Coroutine[Any, Any, str | tuple[str, Mapping[str, object]]]
        ],
        *,
        purpose: str | None = None,
        timeout: float | None = None,
        keep: bool = False,
        lease: float = 600.0,
        stop: Stop | None = None,
    ) -> str:
        """Return the analyzer's answer about a chunk or draft: the cached one, or the result of ``function()``.

        The function is called in a slot of the model and inside a call, which caches the answer. It returns the
        response, or a tuple of the response and a mapping with any of ``prompt_tokens``, ``completion_tokens`` and
        ``cost``. Its exceptions are recorded and re-raised. ``purpose`` is by default "analysis" for chunks,
        "verification" for drafts and "enrichment" for verified findings.

        When several threads or processes ask the same question at the same time, one calls the function and the others
        wait for its answer, without a slot or a transaction. If that worker fails or dies, or after ``lease`` seconds
        without an answer, the next one calls the function.

        Raises NoSlot after waiting ``timeout`` seconds for a slot or another worker's answer (None: no limit, 0: do not
        wait), or when ``stop`` (a ``threading.Event``) is set. Raises LeaseLost, without calling the function, if the
        subject is leased to the caller and that lease is about to expire. Raises NotFound, and IllegalMove inside a
        transaction.
        """

    async def remove_answers(self, analyzer: Analyzer | int) -> Removed:
        """Remove the cached answers of an analyzer, so that its questions are asked again.

        Return the number of removed rows by table. Raises NotFound, InvalidArgument.
        """

    async def add(self, name: str, **columns: Unpack[ModelColumns]) -> ModelConfig:
        """Add a model. Raises InvalidArgument for an unknown column or an invalid value, Conflict for an
        existing name.
        """

    async def ensure(self, name: str, **columns: Unpack[ModelColumns]) -> ModelConfig:
        """Return the model with this name unchanged, or add it with these columns. Raises InvalidArgument."""

    async def get(self, model: str | int | ModelConfig) -> ModelConfig:
        """Read the model with this name or id. Raises NotFound, InvalidArgument."""

    async def find(self, model: str | int | ModelConfig) -> ModelConfig | None:
        """Read the model with this name or id, or return None. Raises InvalidArgument."""

    async def list(self, *, limit: int | None = None, offset: int = 0, sort: str | None = None) -> Rows[ModelConfig]:
        """List all models by name."""

    async def update(self, model: str | int | ModelConfig, **columns: Unpack[ModelChanges]) -> ModelConfig:
        """Change columns of a model and return it. A new ``max_concurrent`` applies to waiting workers immediately.

        Raises NotFound, InvalidArgument for an unknown column or an invalid value, Conflict if another model has the
        name.
        """

    async def remove(self, model: str | int | ModelConfig) -> Removed:
        """Remove a model and return the number of removed rows by table. Its calls stay, under its name.

        Raises NotFound, and Conflict if it has voted.
        """

    def slot(
        self, model: str | int | ModelConfig, *, timeout: float | None = None, lease: float = 600.0
    ) -> AbstractAsyncContextManager[_AsyncSlot]:
        """Hold one of the ``max_concurrent`` slots of a model: ``with store.llm.slot(model):``.

        At most ``max_concurrent`` blocks run at once, over all threads and processes of the store. Others wait in order
        of arrival, up to ``timeout`` seconds (None: no limit, 0: do not wait). The slots of a dead process become free
        immediately; on another machine, ``lease`` seconds after they were taken or ``slot.heartbeat()`` was called.
        Raises NoSlot after the timeout, NotFound, and IllegalMove inside a transaction.
        """

class AsyncChunks(AsyncDomain):
    """The chunks of scans whose analysis was started (``store.scans.analyze``)."""

    async def complete(
        self,
        chunk: ScanFileChunk | int,
        *,
        worker: str | None = None,
        drafts: Iterable[Mapping[str, object]] = (),
        analyzer: Analyzer | int | None = None,
        call: Call | None = None,
        source: str | None = None,
        window: int = 5,
        strict: bool | None = None,
    ) -> ScanFileChunk:
        """Complete a claimed chunk with its drafts, in one transaction; return the chunk.

        Each draft is a mapping with ``title``, ``vulnerability_type``, ``severity`` and more, see
        :meth:`scanstore.analysis.drafts.Drafts.add`. A draft that is equivalent to an existing one is merged with it.
        With ``analyzer`` the result is cached for all chunks with the same text. ``call`` is the model call that gave
        the answer, if it is still open. ``source`` is the name of the reporter (default: the analyzer's model).
        Idempotent.

        With ``analyzer`` or ``call`` the drafts are the answer of a model, and one bad draft does not lose the others:
        values such as ``"**High**"`` or ``"90%"`` are converted (:mod:`scanstore.analysis.model_drafts`), and a draft
        that cannot be stored is set aside. The chunk's ``set_aside`` lists these with the reasons; they are also logged
        and noted as the ``error`` of the call, which then keeps its response. ``strict=True`` refuses an invalid draft
        instead, which is the default without an analyzer and a call.

        Raises LeaseLost if the chunk is not, or no longer, leased to the worker, and InvalidArgument for an invalid
        draft if ``strict``. Nothing is written then.
        """

    async def reuse(self, scan: Scan | int, analyzer: Analyzer | int) -> int:
        """Complete every pending chunk whose text this analyzer has reviewed before, and return their number.

        Needs no claim and no model call. The cached drafts get the current line numbers. Each transaction completes a
        few hundred chunks. Idempotent.
        """

    async def list(
        self,
        scan: Scan | int,
        *,
        status: ChunkStatus | None = None,
        file: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ScanFileChunk]:
        """List the chunks of a scan by file, optionally of one status or file."""

    async def text(self, chunk: ScanFileChunk | int, *, root: str | os.PathLike[str] | None = None) -> str:
        """Return the source text of a chunk, read from the scanned tree or from the tree at ``root``.

        Raises NotFound if the file is missing or has changed since the scan.
        """

    async def claim(
        self, scope: Scan | int | None = None, *, worker: str | None = None, limit: int = 1, lease: float = 600.0
    ) -> Rows[ScanFileChunk]:
        """Lease up to ``limit`` rows of a scope, or of all, for ``lease`` seconds; one transaction.

        Rows of a higher priority come first, then older ones. An empty list means that nothing can be claimed now, not
        that all is done: see :meth:`state`. Each row is leased to one worker (default: this process), and when that
        process ends or the time is up, to the next. Raises InvalidArgument, and NotFound for an unknown scope.
        """

    def work(
        self,
        scope: Scan | int | None = None,
        *,
        worker: str | None = None,
        lease: float = 600.0,
        wait: bool = True,
        stop: Stop | None = None,
    ) -> AsyncGenerator[ScanFileChunk]:
        """Claim one row after the other until nothing is left to do or ``stop`` is set (a ``threading.Event``).

        Waits while others hold the last rows or a retry is not due, since those may become free; with ``wait=False`` it
        yields the available rows and ends. The loop's body completes or fails each row; a row that it has not settled
        is released when the loop is left.
        """

    async def heartbeat(
        self, item: ScanFileChunk | int, *, worker: str | None = None, lease: float | None = None
    ) -> ScanFileChunk:
        """Extend the lease to ``lease`` seconds from now (default: as claimed); return the row.

        Raises LeaseLost when the row is not leased to the worker any more, and NotFound.
        """

    async def fail(
        self, item: ScanFileChunk | int, error: str | BaseException, *, retry: bool = True, worker: str | None = None
    ) -> ScanFileChunk:
        """Give a leased row back with an error; return it: it waits for its next try, or has failed. One transaction.

        The next try is due after two seconds, doubled with each retry; when the retries are used up, or with
        ``retry=False``, the row fails for good. Raises InvalidArgument, LeaseLost, NotFound.
        """

    async def release(self, item: ScanFileChunk | int, *, worker: str | None = None) -> ScanFileChunk:
        """Give a leased row back unchanged, to be claimed by anyone; return it. Raises LeaseLost, NotFound."""

    async def retry(self, *items: ScanFileChunk | int) -> Rows[ScanFileChunk]:
        """Let rows that failed for good wait again, with all their tries; return them. One transaction.

        Raises NotFound, and IllegalMove for a row that did not fail; nothing is changed then.
        """

    async def recover(self, scope: Scan | int | None = None) -> Recovered:
        """Free leases that expired or whose process ended, of one scope or of all; return how many there were.

        Claims do it too when they need it, as does opening a store. A row that lost too many leases fails.
        """

    async def state(self, scope: Scan | int | None = None) -> State:
        """Return how many rows are ready, delayed, leased, done, failed, and skipped or cancelled.

        Of one scope or of all, with the time at which the next row is due. Rows whose lease has expired count as ready.
        ``state().finished`` says that nothing is left to do, which an empty claim does not. Raises NotFound for an
        unknown scope.
        """

    async def get(self, item: ScanFileChunk | int) -> ScanFileChunk:
        """Return the current row. Raises NotFound, and InvalidArgument for a value that is not an id."""

    async def find(self, item: ScanFileChunk | int) -> ScanFileChunk | None:
        """Return the current row, or None if it is missing."""

class AsyncDrafts(AsyncDomain):
    """Draft findings: report, claim, vote and judge."""

    async def add(
        self,
        scan: Scan | int,
        drafts: Iterable[Mapping[str, object]],
        *,
        source: str | ModelConfig | None = None,
        window: int = 5,
        chunk: ScanFileChunk | int | None = None,
        strict: bool = True,
    ) -> AddedDrafts:
        """Add drafts from a rule or a person, merged with existing ones. Return a row for each, in order.

        A draft is a mapping with ``title``, ``vulnerability_type``, ``severity`` and ``file_path``, and optionally
        ``line_number``, ``end_line``, ``snippet``, ``reason``, ``cwe``, ``confidence`` (per cent), ``auto_detected``
        and ``source``. The argument ``source`` is the reporter of drafts that do not name one. Equivalent reports
        within ``window`` lines become one draft. With ``chunk``, the drafts belong to a chunk of the scan, and need no
        ``file_path``. Atomic and idempotent.

        Raises InvalidArgument, which names the draft. With ``strict=False``, for the answer of a model, values are
        converted where possible, and a draft that cannot be stored is set aside: the ``set_aside`` of the returned list
        has these with the reasons, and they are logged; see :meth:`Chunks.complete`.
        """

    async def skip(self, draft: DraftFinding | int, reason: str) -> DraftFinding:
        """Exclude a pending draft from the verification, with a reason. Atomic and idempotent.

        Raises IllegalMove if the draft is leased or finished.
        """

    async def record_votes(
        self,
        draft: DraftFinding | int,
        votes: Iterable[Mapping[str, object]],
        *,
        policy: Policy = ...,
        worker: str | None = None,
        strict: bool = True,
    ) -> DraftJudgement:
        """Record votes on a draft and judge it by all votes of the current round, in one transaction.

        A vote is a mapping with ``model`` (name, id or row) and ``decision`` (verified, rejected, weakness or abstain),
        and optionally ``confidence`` (per cent), ``severity``, ``reason``, ``attack_vector``, ``data_flow``. A model
        has one vote per round; its last one counts. When ``policy`` reaches a verdict, the draft gets that status. A
        verified draft gets its only verified finding. If it is verified again after ``store.scans.rerun(scan,
        to="verify")``, that verified finding is updated and enriched again. If it is no longer verified, the verified
        finding is removed, or fails if it was published; its finding, if still open, becomes a false positive until the
        draft is verified again.

        Without a verdict, the votes are stored and the draft keeps its status. A pending draft can be judged without a
        claim. With ``strict=False``, for answers of models, values such as ``"**Verified**"`` or ``"90%"`` are
        converted, unknown keys are ignored, and a confidence or severity that cannot be read is left out; a decision is
        never guessed. Idempotent. Raises LeaseLost if the draft was claimed and is no longer leased to the worker,
        IllegalMove if it was judged, failed or skipped, NotFound, InvalidArgument. Nothing is written then.
        """

    async def votes(
        self, draft: DraftFinding | int, *, round: int | None = None, limit: int | None = None, offset: int = 0
    ) -> Rows[Vote]:
        """List the votes on a draft, of one round or of all, with their models, by round and time.

        Raises NotFound if the draft does not exist.
        """

    async def list(
        self,
        scan: Scan | int,
        *,
        status: DraftStatus | None = None,
        severity: Severity | None = None,
        file: str | None = None,
        chunk: ScanFileChunk | int | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[DraftFinding]:
        """Drafts of a scan, the most severe first and then by file and line; of one status, severity, file or chunk.

        Raises InvalidArgument for an unknown status or severity.
        """

    async def claim(
        self, scope: Scan | int | None = None, *, worker: str | None = None, limit: int = 1, lease: float = 600.0
    ) -> Rows[DraftFinding]:
        """Lease up to ``limit`` rows of a scope, or of all, for ``lease`` seconds; one transaction.

        Rows of a higher priority come first, then older ones. An empty list means that nothing can be claimed now, not
        that all is done: see :meth:`state`. Each row is leased to one worker (default: this process), and when that
        process ends or the time is up, to the next. Raises InvalidArgument, and NotFound for an unknown scope.
        """

    def work(
        self,
        scope: Scan | int | None = None,
        *,
        worker: str | None = None,
        lease: float = 600.0,
        wait: bool = True,
        stop: Stop | None = None,
    ) -> AsyncGenerator[DraftFinding]:
        """Claim one row after the other until nothing is left to do or ``stop`` is set (a ``threading.Event``).

        Waits while others hold the last rows or a retry is not due, since those may become free; with ``wait=False`` it
        yields the available rows and ends. The loop's body completes or fails each row; a row that it has not settled
        is released when the loop is left.
        """

    async def heartbeat(
        self, item: DraftFinding | int, *, worker: str | None = None, lease: float | None = None
    ) -> DraftFinding:
        """Extend the lease to ``lease`` seconds from now (default: as claimed); return the row.

        Raises LeaseLost when the row is not leased to the worker any more, and NotFound.
        """

    async def fail(
        self, item: DraftFinding | int, error: str | BaseException, *, retry: bool = True, worker: str | None = None
    ) -> DraftFinding:
        """Give a leased row back with an error; return it: it waits for its next try, or has failed. One transaction.

        The next try is due after two seconds, doubled with each retry; when the retries are used up, or with
        ``retry=False``, the row fails for good. Raises InvalidArgument, LeaseLost, NotFound.
        """

    async def release(self, item: DraftFinding | int, *, worker: str | None = None) -> DraftFinding:
        """Give a leased row back unchanged, to be claimed by anyone; return it. Raises LeaseLost, NotFound."""

    async def retry(self, *items: DraftFinding | int) -> Rows[DraftFinding]:
        """Let rows that failed for good wait again, with all their tries; return them. One transaction.

        Raises NotFound, and IllegalMove for a row that did not fail; nothing is changed then.
        """

    async def recover(self, scope: Scan | int | None = None) -> Recovered:
        """Free leases that expired or whose process ended, of one scope or of all; return how many there were.

        Claims do it too when they need it, as does opening a store. A row that lost too many leases fails.
        """

    async def state(self, scope: Scan | int | None = None) -> State:
        """Return how many rows are ready, delayed, leased, done, failed, and skipped or cancelled.

        Of one scope or of all, with the time at which the next row is due. Rows whose lease has expired count as ready.
        ``state().finished`` says that nothing is left to do, which an empty claim does not. Raises NotFound for an
        unknown scope.
        """

    async def get(self, item: DraftFinding | int) -> DraftFinding:
        """Return the current row. Raises NotFound, and InvalidArgument for a value that is not an id."""

    async def find(self, item: DraftFinding | int) -> DraftFinding | None:
        """Return the current row, or None if it is missing."""

class AsyncVerified(AsyncDomain):
    """Verified findings. A worker claims one, enriches it, and completes it with :meth:`Findings.publish`."""

    async def list(
        self,
        scan: Scan | int,
        *,
        status: VerifiedStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[VerifiedFinding]:
        """List the verified findings of a scan by severity and then age, optionally of one status.

        Raises InvalidArgument for an unknown status.
        """

    async def claim(
        self, scope: Scan | int | None = None, *, worker: str | None = None, limit: int = 1, lease: float = 600.0
    ) -> Rows[VerifiedFinding]:
        """Lease up to ``limit`` rows of a scope, or of all, for ``lease`` seconds; one transaction.

        Rows of a higher priority come first, then older ones. An empty list means that nothing can be claimed now, not
        that all is done: see :meth:`state`. Each row is leased to one worker (default: this process), and when that
        process ends or the time is up, to the next. Raises InvalidArgument, and NotFound for an unknown scope.
        """

    def work(
        self,
        scope: Scan | int | None = None,
        *,
        worker: str | None = None,
        lease: float = 600.0,
        wait: bool = True,
        stop: Stop | None = None,
    ) -> AsyncGenerator[VerifiedFinding]:
        """Claim one row after the other until nothing is left to do or ``stop`` is set (a ``threading.Event``).

        Waits while others hold the last rows or a retry is not due, since those may become free; with ``wait=False`` it
        yields the available rows and ends. The loop's body completes or fails each row; a row that it has not settled
        is released when the loop is left.
        """

    async def heartbeat(
        self, item: VerifiedFinding | int, *, worker: str | None = None, lease: float | None = None
    ) -> VerifiedFinding:
        """Extend the lease to ``lease`` seconds from now (default: as claimed); return the row.

        Raises LeaseLost when the row is not leased to the worker any more, and NotFound.
        """

    async def fail(
        self, item: VerifiedFinding | int, error: str | BaseException, *, retry: bool = True, worker: str | None = None
    ) -> VerifiedFinding:
        """Give a leased row back with an error; return it: it waits for its next try, or has failed. One transaction.

        The next try is due after two seconds, doubled with each retry; when the retries are used up, or with
        ``retry=False``, the row fails for good. Raises InvalidArgument, LeaseLost, NotFound.
        """

    async def release(self, item: VerifiedFinding | int, *, worker: str | None = None) -> VerifiedFinding:
        """Give a leased row back unchanged, to be claimed by anyone; return it. Raises LeaseLost, NotFound."""

    async def retry(self, *items: VerifiedFinding | int) -> Rows[VerifiedFinding]:
        """Let rows that failed for good wait again, with all their tries; return them. One transaction.

        Raises NotFound, and IllegalMove for a row that did not fail; nothing is changed then.
        """

    async def recover(self, scope: Scan | int | None = None) -> Recovered:
        """Free leases that expired or whose process ended, of one scope or of all; return how many there were.

        Claims do it too when they need it, as does opening a store. A row that lost too many leases fails.
        """

    async def state(self, scope: Scan | int | None = None) -> State:
        """Return how many rows are ready, delayed, leased, done, failed, and skipped or cancelled.

        Of one scope or of all, with the time at which the next row is due. Rows whose lease has expired count as ready.
        ``state().finished`` says that nothing is left to do, which an empty claim does not. Raises NotFound for an
        unknown scope.
        """

    async def get(self, item: VerifiedFinding | int) -> VerifiedFinding:
        """Return the current row. Raises NotFound, and InvalidArgument for a value that is not an id."""

    async def find(self, item: VerifiedFinding | int) -> VerifiedFinding | None:
        """Return the current row, or None if it is missing."""

class AsyncStoreFindings(AsyncDomain):
    """Publish, list, compare and triage findings. This is ``store.findings``."""

    async def publish(
        self,
        verified: VerifiedFinding | int,
        *,
        worker: str | None = None,
        title: str | None = None,
        severity: Severity | None = None,
        cwe: str | int | None = None,
        vulnerability_details: str = "",
        proof_of_concept: str = "",
        remediation_steps: str = "",
        references: str | Iterable[str] = "",
        cvss_score: float | None = None,
        cvss_vector: str | None = None,
    ) -> Finding:
        """Publish a verified finding as a finding and complete it, in one transaction. Return the finding.

        File, lines, snippet and type come from the draft and its votes, as do title, CWE and severity unless given.
        ``references`` may be a list, which is stored one per line. ``cvss_score`` is 0 to 10, by default the base score
        of ``cvss_vector`` (version 2, 3 or 4; needs ``scanstore[cvss]``).

        A finding of an earlier scan of the target is recognised and updated (:mod:`scanstore.findings.tracking`).
        Publishing again updates the finding and keeps its ``status``, except that a false positive set by votes alone,
        not by a person, is reopened. A pending verified finding can be published without a claim. Raises LeaseLost if
        the worker's lease is lost, IllegalMove if the verified finding has failed or is leased to another worker,
        NotFound, InvalidArgument.
        """

    async def list(
        self,
        scan: Scan | int | None = None,
        *,
        status: FindingStatus | None = None,
        severity: Severity | None = None,
        file: str | None = None,
        state: FindingState | None = None,
        tool: str | None = None,
        rule: str | None = None,
        cwe: str | int | None = None,
        suppressed: bool | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Finding]:
        """List the findings of a target, of all tools, or only those of one scan with the values of that scan.

        The target can be omitted if the store has only one. Findings are sorted by severity, file and line. The
        ``state`` of each compares it with the previous run of its tools (:meth:`baseline`), or is its state in the
        scan: ``new``, ``unchanged``, ``updated``, ``reopened``, ``fixed``, and, without a scan, ``not_checked``. Fixed
        findings are listed only with ``state="fixed"``. Filter by status, severity, file, state, tool, rule or CWE
        (``"CWE-79"`` or 79); ``suppressed`` selects only findings with, or without, an active suppression. Raises
        InvalidArgument for an unknown word, Ambiguous without scan and target if the store has several targets,
        NotFound.
        """

    async def sightings(
        self, finding: Finding | int, *, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[Sighting]:
        """List the sightings of a finding, the oldest scan first. Raises NotFound."""

    async def diff(self, a: Scan | int, b: Scan | int | None = None) -> FindingDiff:
        """Compare the findings of a target between scan ``a`` and scan ``b`` (default: :meth:`latest` of the target).

        All scans up to ``b`` are taken into account. ``not_checked`` findings existed in ``a`` and are not known to be
        fixed, because ``b`` did not check for them. The most severe come first. Raises InvalidArgument for scans of
        different targets.
        """

    async def baseline(self, scan: Scan | int) -> Scan | None:
        """Return the scan to compare this one with: the latest before the last run of the target's tools.

        Searches back from the scan to the first repeated tool, so that new findings do not depend on which tool ran
        last. Returns None if no tool has run twice. Raises NotFound.
        """

    async def troubles(self, target: str | None = None, *, scan: Scan | int | None = None) -> builtins.list[str]:
        """Return the reasons why findings may be missing, such as failed tools or skipped results.

        Uses the latest run of each tool of a target (default: the only target), or the runs of one scan. Empty if the
        tools report complete runs. Raises NotFound, Ambiguous.
        """

    async def latest(self, target: str | None = None, *, before: Scan | int | None = None) -> Scan:
        """Return the latest scan in which a tool ran, or else the latest completed scan, of one target or of all.

        With ``before``, a scan, return the latest earlier scan of its target in which a tool ran. Raises NotFound if
        there is no such scan. Lists, diffs and reports without a target do not use the latest scan of all
        targets: they raise Ambiguous if the store has several.
        """

    async def get(self, finding: Finding | int) -> Finding:
        """Read the finding with this id. Raises NotFound, InvalidArgument."""

    async def find(self, finding: Finding | int) -> Finding | None:
        """Read the finding with this id, or return None. Raises InvalidArgument."""

    async def triage(
        self, finding: Finding | int, status: FindingStatus, *, by: str | None = None, reason: str | None = None
    ) -> Finding:
        """Set the status of a finding and record the event, in one transaction. Return the finding.

        Allowed are ``open`` to ``confirmed``, ``false_positive``, ``ignored`` or ``fixed``, ``confirmed`` to the last
        three, and any status back to ``open``. Setting the current status again changes nothing, and its reason is not
        saved. One exception: a false positive set by votes alone becomes a decision of the person, which later votes do
        not reverse. ``by`` is the name of the person (default: $SCANSTORE_USER). Raises IllegalMove for other
        transitions, NotFound, and InvalidArgument for an unknown status.
        """

    async def comment(self, finding: Finding | int, text: str, *, by: str | None = None) -> FindingEvent:
        """Add a comment to the history of a finding. Raises NotFound, and InvalidArgument for an empty one."""

    async def history(
        self, finding: Finding | int, *, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[FindingEvent]:
        """List all decisions and comments about a finding, the oldest first. Raises NotFound."""

    async def suppress(
        self,
        finding: Finding | int | None = None,
        *,
        rule: str | None = None,
        tool: str | None = None,
        path: str | None = None,
        target: str | None = None,
        reason: str,
        by: str | None = None,
        expires: datetime | None = None,
    ) -> Suppression:
        """Hide one finding, or the findings of a rule, and record the event, in one transaction.

        A suppression of a ``rule`` applies to findings of ``tool`` (None: any), in files that match ``path``, a pattern
        in the syntax of ``.gitignore`` (None: everywhere), of ``target`` (optional if the store has only one). After
        ``expires``, an aware time, the suppression hides nothing and is shown as expired.

        Each scope has one active suppression: a new one lifts the previous one, and an equal active one is returned
        unchanged. Raises NotFound, InvalidArgument.
        """

    async def unsuppress(self, suppression: Suppression | int, *, by: str | None = None) -> Suppression:
        """Lift a suppression and return it. The row is kept, with the person who lifted it. Idempotent.

        Raises NotFound, InvalidArgument.
        """

    async def suppressions(
        self,
        target: str | None = None,
        *,
        active: bool | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Suppression]:
        """List suppressions, optionally of one target, the oldest first.

        ``active=True`` selects active ones, ``active=False`` expired and lifted ones. Raises NotFound for an unknown
        target.
        """

    async def suppressed(self, findings: Iterable[Finding | int]) -> dict[int, Suppression]:
        """Return the suppression of each of these findings, by finding id. The finding is hidden unless it has
        ``expired``.

        If several match, an unexpired one is preferred, then the narrowest, then the latest. Uses a few statements for
        any number of findings.
        """

class AsyncSarif(AsyncDomain):
    """SARIF 2.1.0: load reports into a target, and write the findings of a scan."""

    async def load(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        target: str | None = None,
        root: str | os.PathLike[str] | None = None,
        scan: Scan | int | None = None,
        scope: Iterable[str] | None = None,
        severities: Mapping[str, Severity] | None = None,
        strict: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> ImportResult:
        """Record the results of a report as known or new findings of ``target``. Atomic.

        The report becomes a new scan of the target, or a part of ``scan``. ``root`` is the folder that the tool
        scanned: the lines and symbols of its files help to recognise moved findings. Files outside it are never read.
        If the tool scanned only some files, ``scope`` has patterns for them, in the syntax of ``.gitignore``; findings
        in other files are not checked. Findings that are missing from the report are fixed, unless the tool failed,
        some of its results could not be used, or they belong to another category (the automation id of a run up to its
        last slash). Decisions of people stay unchanged. ``severities`` are the severities of rules, which count before
        those of the report: ``{"bandit:B101": "info"}``, also ``"B101"`` for any tool and ``"bandit:*"`` for the other
        rules of one.

        Loading the same file again with the same ``scope`` and the same effect of ``severities`` only records another
        run of the tool, if it is still the latest report of its tools and categories and none of its findings was
        marked as fixed since; otherwise it becomes a new scan. An identical result of another report of the same
        ``scan``, tool and category is recorded once. ``file`` is a path or an open binary file. An unusable result is
        skipped and reported as a problem. The report of a failed tool, or an unusable run, is recorded with its
        ``troubles``. With ``strict``, reports with troubles or problems are refused.

        ``progress`` is called in this thread with the finished results and all results. Each counts twice: when it is
        read, and when it is recorded. The total grows with each run. An exception of it cancels the work, and nothing
        is written. It must not write to this store, which is locked. Raises InvalidArgument, with nothing written, for
        a file that is not complete SARIF 2.1.0, NotFound for an unknown scan, IllegalMove for a failed one.
        """

    async def dump(
        self,
        scan: Scan | int | None,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        target: str | None = None,
        only: Iterable[FindingState] | None = None,
        github: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> Dumped:
        """Write the findings of a scan as SARIF 2.1.0: one run for each of its reports, and one for the store's own
        findings.

        Each result has the values of that scan, with its state relative to the previous scan; fixed findings are
        ``absent``. Without a scan, the file contains all findings of a target (by default the only one of the store),
        like ``store.findings.list()``. ``only`` selects states: new, unchanged, updated, reopened, fixed, and, without
        a scan, not_checked. With ``github`` the file keeps within the limits of that host, without fixed findings, and
        the omissions are returned. The same findings give the same bytes. A file at a path is replaced at the end.
        ``progress`` is called in this thread with the written results and all results; an exception of it cancels the
        work, and the file stays as it was.

        Raises NotFound, Ambiguous, and InvalidArgument for an unknown state.
        """

class AsyncSearch(AsyncDomain):
    """``store.search(text)``: search findings and symbols by words, the best matches first."""

    async def __call__(
        self,
        text: str,
        *,
        kind: SearchKind | None = None,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = 20,
        marks: tuple[str, str] = ...,
        progress: ProgressCallback | None = None,
    ) -> Rows[Hit]:
        """Search findings and symbols, or one ``kind`` of them, for all words of a text, the best matches first.

        If no entry has all words, entries with any of them match. Words match in any case, with or without accents, and
        in other English forms. ``"two words"`` matches a phrase, ``inj*`` the beginning of a word, and ``-word``
        excludes a word. Names match as written and by their parts: ``parse http`` finds ``parseHTTPBody`` and
        ``http_parse``. All other characters separate words, so any text is valid; a text without words finds nothing.
        The first 64 words count. If more than 2,000 rows of a kind match, the newest 2,000 are ranked.

        Findings are searched in all targets, in one target, or in one scan; symbols in the latest scan of every target,
        of one target, or in one scan. New entries are indexed first, which writes to the store and takes seconds for
        100,000 findings or symbols. Meanwhile ``progress`` is called in this thread, between transactions, with the
        indexed findings and files and all that are to be indexed, a number that may grow. An exception of it cancels
        the search; the next one indexes the rest. Raises InvalidArgument, NotFound for an unknown scan or target,
        ReadOnly if new entries cannot be indexed.
        """

class AsyncLibrary(AsyncDomain):
    """The library: sync it from records, query it, and export it as records."""

    async def upsert_scenes(
        self,
        records: Iterable[SceneRecord | StoredScene],
        *,
        run: Sync | _AsyncSync | SyncRun | int | None = None,
        strict: bool = False,
    ) -> SyncCounts:
        """Write scenes from records, with their performers, tags and studios. Return the counts of scenes and links.

        A record is ``{"id", "title", "paths", "organized", "details", "created_date", "scene_date", "studio",
        "performers", "tags"}``, of which only the id is required. Absent fields stay unchanged; None or ``[]`` clears a
        field (except ``created_date``). Studio, performers and tags are ``{"id", "name"}``, which are added or renamed,
        or the id of a known row. Times are aware datetimes, ISO text, or plain dates. ``scene_date`` may also be a
        month or a year, such as ``2006-08`` and ``2014``.

        Records are streamed, and each batch of 2,000 is checked and then written in one transaction. Writing the same
        records again changes only ``last_synced``. A record is rejected if a value is invalid, if it names an unknown
        id without a name, or if another tag has the name of its tag. The other records of its batch are written, and
        the counts have ``rejected``, the number of such records, and ``rejections``, the first 100 of them as ``(id,
        reason)``.

        If ``strict``, the first rejected record raises instead. Its batch is not written, but earlier batches stay.
        Raises InvalidArgument and NotFound, with the index and the id of the record, or Conflict. IllegalMove is
        raised for a run that has ended or is of another kind.
        """

    async def upsert_performers(
        self,
        records: Iterable[NamedRecord],
        *,
        run: Sync | _AsyncSync | SyncRun | int | None = None,
        strict: bool = False,
    ) -> SyncCounts:
        """Write performers, ``{"id", "name"}``, in batches of 10,000, with the guarantees of `upsert_scenes`."""

    async def upsert_tags(
        self,
        records: Iterable[NamedRecord],
        *,
        run: Sync | _AsyncSync | SyncRun | int | None = None,
        strict: bool = False,
    ) -> SyncCounts:
        """Write tags, like `upsert_performers`. Tags of one batch may swap their names.

        With ``run`` they may swap names in any order: a tag that the run has not seen yet gives up a name that another
        tag gets. Until its own record comes, or ``run.prune_unseen`` removes it, it is named ``name (id)``.
        """

    async def upsert_studios(
        self,
        records: Iterable[NamedRecord],
        *,
        run: Sync | _AsyncSync | SyncRun | int | None = None,
        strict: bool = False,
    ) -> SyncCounts:
        """Write studios, like `upsert_performers`."""

    def sync(self, kind: LibraryKind, *, take_over: bool = False) -> AbstractAsyncContextManager[_AsyncSync]:
        """Return a context manager for a sync of scenes, performers, tags or studios. ``run.since`` is the watermark.

        The watermark is the start of the last run that completed and rejected no record, or None. Entering raises
        IllegalMove while another run of the kind is active. A run whose process has ended counts as failed, and so does
        a run of another machine or container after an hour without a write or ``run.heartbeat()``, or immediately with
        ``take_over``. Raises InvalidArgument.
        """

    async def runs(
        self, kind: LibraryKind | None = None, *, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[SyncRun]:
        """List sync runs, the newest first, optionally of one kind. ``sort`` as in `list`. Raises InvalidArgument."""

    @overload
    async def get(self, kind: Literal["scene"], key: Scene | str) -> Scene:
        """Return the scene, performer, tag or studio with this id. Raises NotFound, InvalidArgument."""

    @overload
    async def get(self, kind: Literal["performer"], key: Performer | str) -> Performer:
        """Return the scene, performer, tag or studio with this id. Raises NotFound, InvalidArgument."""

    @overload
    async def get(self, kind: Literal["tag"], key: Tag | str) -> Tag:
        """Return the scene, performer, tag or studio with this id. Raises NotFound, InvalidArgument."""

    @overload
    async def get(self, kind: Literal["studio"], key: Studio | str) -> Studio:
        """Return the scene, performer, tag or studio with this id. Raises NotFound, InvalidArgument."""

    @overload
    async def get(self, kind: LibraryKind, key: Row | str) -> Row:
        """Return the scene, performer, tag or studio with this id. Raises NotFound, InvalidArgument."""

    @overload
    async def find(
        self, kind: Literal["scene"], what: str, *, limit: int | None = None, offset: int = 0
    ) -> Rows[Scene]:
        """Return the rows of a kind with this id, or with exactly this name or title, by id. Raises InvalidArgument."""

    @overload
    async def find(
        self, kind: Literal["performer"], what: str, *, limit: int | None = None, offset: int = 0
    ) -> Rows[Performer]:
        """Return the rows of a kind with this id, or with exactly this name or title, by id. Raises InvalidArgument."""

    @overload
    async def find(self, kind: Literal["tag"], what: str, *, limit: int | None = None, offset: int = 0) -> Rows[Tag]:
        """Return the rows of a kind with this id, or with exactly this name or title, by id. Raises InvalidArgument."""

    @overload
    async def find(
        self, kind: Literal["studio"], what: str, *, limit: int | None = None, offset: int = 0
    ) -> Rows[Studio]:
        """Return the rows of a kind with this id, or with exactly this name or title, by id. Raises InvalidArgument."""

    @overload
    async def find(self, kind: LibraryKind, what: str, *, limit: int | None = None, offset: int = 0) -> Sequence[Row]:
        """Return the rows of a kind with this id, or with exactly this name or title, by id. Raises InvalidArgument."""

    async def list(
        self,
        *,
        performer: Performer | str | None = None,
        tag: Tag | str | None = None,
        studio: Studio | str | None = None,
        organized: bool | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Scene]:
        """List scenes by id, optionally with a performer, tag or studio, and organized or not.

        ``sort`` is ``id``, ``scene_date`` or ``studio``, with ``-`` before it for the reverse order. Scenes without a
        date come first. Raises InvalidArgument.
        """

    async def names(self, kind: NamedKind, *, limit: int | None = None, offset: int = 0) -> Rows[Named]:
        """List performers, tags or studios by name, each with its number of scenes. Raises InvalidArgument."""

    def records(self, scenes: Iterable[Scene | str] | None = None) -> AsyncGenerator[StoredScene]:
        """Yield scenes, all by id or the given ones, as nested records for `upsert_scenes`. Missing ids are skipped.

        They are read in batches of 1,000, each in the current state of the library.
        """

    async def stats(self) -> LibraryStats:
        """Return the counts of the library."""

    async def remove(self, kind: LibraryKind, *keys: Row | str) -> Removed:
        """Remove rows of a kind, given as rows or ids, with their links. Return the number of removed rows by table.
        Atomic.

        The scenes of a removed studio stay, without a studio. Changes that were proposed for a removed scene stay.
        Raises NotFound for an unknown id, and InvalidArgument. Nothing is removed then.
        """

class AsyncPlans(AsyncDomain):
    """Plans: ``add``, ``propose``, ``submit``, ``review``, ``apply``, ``revert``."""

    async def add(
        self, name: str, *, description: str | None = None, metadata: Mapping[str, object] | None = None
    ) -> AnalysisPlan:
        """Add a plan and return it. Fill it with :meth:`propose`, and start the review with :meth:`submit`.

        Names need not be unique. Raises InvalidArgument.
        """

    async def propose(
        self,
        plan: AnalysisPlan | int,
        target: Scene | Finding | str | int,
        field: ChangeField,
        action: ChangeAction,
        *,
        proposed: object,
        current: object = ...,
        confidence: float | None = None,
    ) -> PlanChange:
        """Propose a change to a scene (by its id, a text) or a finding (by its id, a number), and return it.

        Fields of scenes: ``performers`` and ``tags`` (``add``, ``remove`` or ``set``, with ids of known rows),
        ``studio`` (an id or None), ``title``, ``details``, ``date``, ``organized`` (``set`` or ``update``, which are
        the same). Fields of findings: ``severity``, ``status``, ``remediation``.

        ``current`` is the value that the proposal is based on (default: the current value). ``confidence`` is 0 to 1. A
        repeated proposal (same target, field, action and value) returns the existing change.

        Raises InvalidArgument, NotFound for an unknown target, performer, tag or studio, and IllegalMove for a plan
        that is applied, cancelled or reverted.
        """

    async def propose_many(self, plan: AnalysisPlan | int, proposals: Iterable[Proposal | ProposalRecord]) -> Proposed:
        """Propose many changes in one transaction, like :meth:`propose`.

        Each is a :class:`Proposal`, or a mapping with ``scene`` or ``finding``, ``field``, ``action``, ``proposed`` and
        optionally ``current`` and ``confidence``. All are checked before any SQL. An error names the index of the
        proposal, from 0.
        """

    async def submit(self, plan: AnalysisPlan | int) -> AnalysisPlan:
        """Submit a plan for review. Raises IllegalMove if it is already submitted."""

    async def cancel(self, plan: AnalysisPlan | int) -> AnalysisPlan:
        """Cancel a plan. Raises IllegalMove if a change was applied, or the plan is finished."""

    async def remove(self, plan: AnalysisPlan | int) -> Removed:
        """Remove a plan with its changes, and return the number of removed rows by table.

        Applied values stay and can no longer be reverted. Raises NotFound, and IllegalMove while the plan is being
        applied or reverted.
        """

    async def get(self, plan: AnalysisPlan | int) -> AnalysisPlan:
        """Return a plan as it is now, with its counts. Raises NotFound, and InvalidArgument for a wrong id."""

    async def find(self, plan: AnalysisPlan | int | str) -> AnalysisPlan | None:
        """Return the plan with this id, or the latest one with this name, with its counts; None if there is none.

        Raises InvalidArgument for a value that is neither.
        """

    async def list(
        self, *, status: PlanStatus | None = None, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[AnalysisPlan]:
        """List plans with their counts, the latest first, optionally of one status, in one statement.

        ``sort`` names another column, as for ``store.page``. Raises InvalidArgument.
        """

    async def changes(
        self,
        plan: AnalysisPlan | int,
        *,
        status: ChangeStatus | None = None,
        field: ChangeField | None = None,
        scene: Scene | str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[PlanChange]:
        """List the changes of a plan in the order of applying, optionally of one status, field or scene.

        ``sort`` names another column, as for ``store.page``. Raises NotFound and InvalidArgument.
        """

    async def preview(
        self,
        plan: AnalysisPlan | int,
        *,
        status: ChangeStatus | None = None,
        scene: Scene | str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Preview]:
        """Return the values of each scene and finding before and after applying, in the order of the changes.

        Includes pending and approved changes, or only those of one ``status``. ``limit`` and ``offset`` count scenes
        and findings. Changes nothing. Raises NotFound and InvalidArgument.
        """

    async def review(
        self,
        plan: AnalysisPlan | int,
        decision: PlanDecision,
        *,
        ids: Iterable[PlanChange | int] | None = None,
        field: ChangeField | None = None,
        scene: Scene | str | None = None,
        min_confidence: float | None = None,
        by: str | None = None,
    ) -> Reviewed:
        """``approve``, ``reject`` or ``reset`` the changes of a plan that match all filters; without filters, all
        changes.

        The last decision counts. Applied, failed, skipped and reverted changes cannot be reviewed again: they are
        ignored, or raise an error if they are among the ``ids``. ``ids=[]`` selects nothing. A change without a
        confidence never matches ``min_confidence``. ``by`` is saved as the reviewer (default: ``$SCANSTORE_USER``).
        Atomic.

        Raises InvalidArgument, IllegalMove for a plan that is not in review, NotFound for a change of another plan.
        """

    async def retry(
        self, plan: AnalysisPlan | int, *, ids: Iterable[PlanChange | int] | None = None
    ) -> Rows[PlanChange]:
        """Approve failed and skipped changes again, all of a plan or those of ``ids``, and return them. Atomic.

        An applied plan goes back to review. Raises IllegalMove for other plans and changes, NotFound.
        """

    async def apply(
        self,
        plan: AnalysisPlan | int,
        *,
        ids: Iterable[PlanChange | int] | None = None,
        handler: Callable[[PlanChange], object] | None = None,
        force: bool = False,
        lease: float = 600.0,
        progress: Callable[[int, int], object] | None = None,
    ) -> Applied:
        """Apply the approved changes of a plan, or those of ``ids``, in order, in short transactions.

        You can kill this call at any moment and repeat it: each change is applied completely or not at all, and the
        next call continues. Without ``force``, a change is ``skipped`` with a conflict if the current value is neither
        the expected nor the proposed one. It is ``failed`` if its target is missing. The other changes are still
        applied. ``ids=[]`` applies nothing.

        A ``handler`` is called with each change, outside any transaction, before the change is recorded, for example to
        change a remote system. It gets a PlanChange whose ``value`` is the new value of the field. An exception makes
        the change ``failed``. If the process is killed while a handler runs, the next call runs it again, so the remote
        system should use ``change.key`` to ignore repetitions; ``change.tries`` counts the attempts. After Ctrl-C the
        change stays approved.

        Only one process or thread can apply a plan at a time; IllegalMove names the other one. After ``lease`` seconds
        without a write, a process on another machine loses the plan. ``progress`` is called in this thread, between
        transactions, with the processed changes and all changes; an exception of it ends the call, and the changes so
        far stay applied. Also raises IllegalMove for a plan that is not in review or is
        already applied, and for ``ids`` that are not approved; NotFound.
        """

    async def revert(
        self,
        plan: AnalysisPlan | int,
        *,
        handler: Callable[[PlanChange], object] | None = None,
        force: bool = False,
        lease: float = 600.0,
        progress: Callable[[int, int], object] | None = None,
    ) -> Reverted:
        """Revert the applied changes of a plan in reverse order, each with exactly its own effect.

        Values that have changed since are kept and counted, unless with ``force``; such changes stay ``applied``.
        Otherwise like :meth:`apply`; a ``handler`` gets changes whose ``undoing`` is true.
        """

class AsyncJobs(AsyncDomain):
    """Jobs of all types: queued, claimed, watched, cancelled. A scope is a type of jobs, or several."""

    async def enqueue(
        self,
        type: str,
        *,
        unique: str | None = None,
        parent: Job | str | uuid.UUID | None = None,
        scenes: Iterable[Scene | str] = (),
        run_at: datetime | None = None,
        priority: int = 0,
        meta: Mapping[str, object] | None = None,
        exclusive_group: str | None = None,
        max_retries: int = 3,
        max_lost: int = 10,
        queue: str = "default",
    ) -> Job:
        """Add a job. Atomic, or part of the caller's transaction.

        If an unfinished job has the key ``unique``, that job is returned and nothing is added. ``meta`` is the job's
        input, a JSON object. The job is not claimed before ``run_at``. Jobs with a higher ``priority`` are claimed
        first, and only one job of an ``exclusive_group`` runs at a time. The job fails after ``max_retries`` failures,
        or when more than ``max_lost`` leases are lost because workers die or hang. It becomes a child of ``parent``,
        which must not be cancelled, and is linked to ``scenes``.

        Raises InvalidArgument, NotFound for an unknown parent or scene, IllegalMove for a cancelled parent, and
        Conflict if an unfinished job of another type has the key.
        """

    async def cancel(self, job: Job | str | uuid.UUID) -> Job:
        """Cancel a job and its children, in any status, and return it. Atomic.

        A pending job becomes ``cancelled`` immediately. A running job becomes ``cancelling``: its worker's next
        heartbeat says so, and any report of the worker, the end of its process or of its lease makes it ``cancelled``.
        Cancelling it again meanwhile changes nothing. The ``error`` of a child names the job that it was cancelled
        with.

        Raises InvalidArgument, NotFound, and IllegalMove if the job and all its children are finished.
        """

    async def retry(self, *items: Job | str | uuid.UUID) -> Rows[Job]:
        """Let failed or cancelled jobs wait again, with all their retries, and return them. Atomic.

        The children that were cancelled together with a job are retried with it. Children that failed, or were
        cancelled on their own, stay as they are.

        Raises InvalidArgument, NotFound, IllegalMove for a job that did not fail and was not cancelled and for one with
        a child that is still being cancelled, and Conflict if another unfinished job has the unique key. Nothing is
        changed then.
        """

    async def prune(
        self, *, older_than: timedelta | str | None = None, keep_last: int | None = None, dry_run: bool = True
    ) -> int:
        """Remove finished jobs, each with all its children or not at all, and return their number. Atomic.

        The newest ``keep_last`` jobs without a parent are kept, as are jobs that ended less than ``older_than`` ago (a
        timedelta, or text such as ``30d``), and jobs that rows of the user's own tables refer to. With ``dry_run`` the
        jobs are only counted, as in ``store.prune``. Raises InvalidArgument if neither ``keep_last`` nor
        ``older_than`` is given.
        """

    async def find(self, item: Job | str | uuid.UUID | None = None, *, unique: str | None = None) -> Job | None:
        """Return the job with this id, or the unfinished job with the key ``unique``; None if there is none.

        Give one of the two. Raises InvalidArgument.
        """

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        type: str | None = None,
        parent: Job | str | uuid.UUID | None = None,
        scene: Scene | str | None = None,
        queue: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Job]:
        """List jobs, the newest first, optionally of a status, type, parent, scene or queue.

        Results are left out, because they may be large: ``job.result`` reads one when it is used, in the current store,
        and :meth:`get` reads all columns. ``sort`` names another column, as for ``store.page``. Raises InvalidArgument.
        """

    async def children(self, job: Job | str | uuid.UUID, *, limit: int | None = None, offset: int = 0) -> Rows[Job]:
        """List the children of a job, the oldest first, without their results, as :meth:`list` does.

        Raises NotFound and InvalidArgument.
        """

    async def state(self, scope: str | Iterable[str] | None = None, *, queue: str | None = None) -> State:
        """Return the number of jobs that are ready, delayed, leased, completed, failed and cancelled (``skipped``), and
        when the next is due: of all jobs, of some types, of a queue, or of some types in a queue.

        ``state().finished`` says that no job is left to do. Raises InvalidArgument.
        """

    async def wait(
        self, job: Job | str | uuid.UUID, *, timeout: float | None = None, poll: float = 0.1, stop: Stop | None = None
    ) -> Job:
        """Wait until a job is finished, at most ``timeout`` seconds or until ``stop`` is set, and return its current
        row.

        Raises NotFound, and IllegalMove inside a transaction, which would never see the job finish.
        """

    async def claim(
        self,
        scope: str | Iterable[str] | None = None,
        *,
        worker: str | None = None,
        limit: int = 1,
        lease: float = 600.0,
        queue: str = "default",
    ) -> Rows[Job]:
        """Lease up to ``limit`` jobs of these types (default: any) in a queue, see :meth:`LeasedWork.claim`.

        Jobs of an ``exclusive_group`` of which one runs are passed over.
        """

    def work(
        self,
        scope: str | Iterable[str] | None = None,
        *,
        worker: str | None = None,
        lease: float = 600.0,
        wait: bool = True,
        stop: Stop | None = None,
        queue: str = "default",
    ) -> AsyncGenerator[Job]:
        """Claim jobs of these types (default: any) in a queue, one after the other, until nothing is left to do or
        ``stop`` is set, see :meth:`LeasedWork.work`.
        """

    async def start(self, job: Job | str | uuid.UUID, *, worker: str | None = None, lease: float = 600.0) -> Job:
        """Lease this one job, out of turn. Raises NotFound, and IllegalMove when it cannot be claimed now."""

    async def heartbeat(
        self,
        item: Job | str | uuid.UUID,
        *,
        progress: float | None = None,
        processed: int | None = None,
        total: int | None = None,
        message: str | None = None,
        worker: str | None = None,
        lease: float | None = None,
    ) -> Job:
        """Extend the lease to ``lease`` seconds from now (default: as claimed) and say how far the job is; return it.

        Its status is ``running``, or ``cancelling`` or ``cancelled`` when its worker should end; its progress is kept
        all the same. ``progress`` is in per cent and, without it, follows from ``processed`` of ``total`` items; it
        never goes back, until the job is claimed again. Raises InvalidArgument, LeaseLost when the job is not leased to
        the worker any more, NotFound; a finished job is never changed.
        """

    async def complete(self, job: Job | str | uuid.UUID, *, result: object = None, worker: str | None = None) -> Job:
        """End a job that went well and keep its result, any JSON value; return it.

        One that is being cancelled ends as ``cancelled``, with its result. Doing it twice is harmless. Raises
        InvalidArgument for a result that is not JSON, LeaseLost, NotFound; nothing is changed then.
        """

    async def recover(self, scope: str | Iterable[str] | None = None, *, queue: str | None = None) -> Recovered:
        """Free leases that expired or whose process ended: of all jobs, of some types, of a queue, or of some types in
        a queue. Return their number.

        Jobs that were being cancelled are cancelled. Claims and opening a store do the same when needed. Raises
        InvalidArgument.
        """

    async def run_worker(
        self,
        handlers: Mapping[str, Callable[[Job], object]],
        *,
        worker: str | None = None,
        types: Iterable[str] | None = None,
        queue: str = "default",
        lease: float = 600.0,
        poll: float = 0.5,
        until_empty: bool = False,
        stop: Stop | None = None,
        ended: Callable[[Job], None | Coroutine[Any, Any, None]] | None = None,
    ) -> Worked:
        """Claim jobs one after another, call the handler of each job's type, and return the number of jobs by outcome.

        A handler is called with the claimed job, outside any transaction and with this store current. Its return value,
        a JSON value, becomes the job's result. An exception becomes its error, and the job is retried. While the
        handler runs, the lease is extended. The handler may finish the job itself (``job.mark_failed(error,
        retry=False)``), and should return when ``job.update_progress()`` is False. Jobs of other types are not claimed.

        Runs until ``stop`` (a ``threading.Event``) is set or, in the main thread, until SIGINT or SIGTERM: the running
        handler is finished first, unless the signal is repeated. With ``until_empty`` it ends as soon as no job can be
        claimed; delayed jobs are left. Polls for jobs every ``poll`` seconds. ``ended`` is called with each job after
        its end.

        Every job runs at least once: if its worker dies, another worker gets it. Raises InvalidArgument.
        """

    async def fail(
        self, item: Job | str | uuid.UUID, error: str | BaseException, *, retry: bool = True, worker: str | None = None
    ) -> Job:
        """Give a leased row back with an error; return it: it waits for its next try, or has failed. One transaction.

        The next try is due after two seconds, doubled with each retry; when the retries are used up, or with
        ``retry=False``, the row fails for good. Raises InvalidArgument, LeaseLost, NotFound.
        """

    async def release(self, item: Job | str | uuid.UUID, *, worker: str | None = None) -> Job:
        """Give a leased row back unchanged, to be claimed by anyone; return it. Raises LeaseLost, NotFound."""

    async def get(self, item: Job | str | uuid.UUID) -> Job:
        """Return the current row. Raises NotFound, and InvalidArgument for a value that is not an id."""

class AsyncSchedules(AsyncDomain):
    """Scheduled tasks by name, and their due runs."""

    async def add(
        self,
        name: str,
        task_type: str,
        schedule: str,
        *,
        timezone: str = "UTC",
        config: Mapping[str, object] | None = None,
        enabled: bool = True,
    ) -> ScheduledTask:
        """Add a task that creates a job of ``task_type`` with the input ``config`` at the times of ``schedule``.

        ``schedule`` is a cron expression of five fields, evaluated in ``timezone``, a name like Europe/Berlin. Raises
        InvalidArgument for an invalid schedule or one that never matches, and Conflict for an existing name.
        """

    async def get(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Return the task with this name or id. Raises NotFound, and InvalidArgument for a value that is neither."""

    async def find(self, task: str | int | ScheduledTask) -> ScheduledTask | None:
        """Return the task with this name or id, or None. Raises InvalidArgument for a value that is neither."""

    async def list(
        self, *, enabled: bool | None = None, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[ScheduledTask]:
        """List all tasks by name, or only enabled or disabled ones.

        ``sort`` names another column, as for ``store.page``. Raises InvalidArgument.
        """

    async def update(
        self,
        task: str | int | ScheduledTask,
        *,
        name: str | None = None,
        task_type: str | None = None,
        schedule: str | None = None,
        timezone: str | None = None,
        config: Mapping[str, object] | None = None,
        enabled: bool | None = None,
    ) -> ScheduledTask:
        """Change the given settings and return the task. With a new schedule, the next run is computed from now.

        Raises NotFound, InvalidArgument, and Conflict if another task has the name.
        """

    async def enable(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Enable a task from its next time on, without the missed runs. Idempotent. Raises NotFound."""

    async def disable(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Disable a task until it is enabled again. Idempotent. Raises NotFound."""

    async def remove(self, task: str | int | ScheduledTask) -> Removed:
        """Remove a task, and return the number of removed rows by table. Its jobs stay. Raises NotFound."""

    async def due(self, *, now: datetime | None = None) -> Rows[ScheduledTask]:
        """Return the due tasks for the caller to run, and advance each to its next time. The longest due come first.

        Each run is returned to only one process. Several missed runs count as one. If the caller dies, its returned
        runs are lost; ``run_due`` stores a job instead.

        Tasks with a time zone that this machine does not know are skipped with a warning in the log. Raises
        InvalidArgument if no other task is due.
        """

    async def run_due(self, *, now: datetime | None = None) -> Rows[ScheduledRun]:
        """Enqueue a job for each due task and advance the task to its next time. The longest due come first.

        Each task is one transaction, and each run becomes one job, even with several processes. Several missed runs
        count as one. The task's name is the job's ``unique`` key: while the task's previous job is unfinished, the run
        is skipped. Then ``started`` is false, ``last_job`` is that job, and ``last_run`` stays.

        If an unrelated unfinished job has the task's name as its key, the run has an ``error`` that names both, and the
        task stays due. A job is unrelated if the task did not enqueue it and its type or input differs from the task's.

        Raises the same errors as ``due``.
        """

class AsyncSettings(AsyncDomain):
    """Values by name: ``store.settings["page_size"] = 50``. Each call is atomic. Iterating yields the sorted names."""

    async def __getitem__(self, key: str) -> JsonValue:
        """Return the value with this name. Raises NotFound."""

    @overload
    async def get(self, key: str, default: None = None) -> JsonValue:
        """Return the value with this name, or ``default``.

        With ``type`` (bool, int, float, str, list or dict), a stored value of another type raises InvalidArgument,
        which names the type. A whole number is accepted as float; true and false are not numbers.
        """

    @overload
    async def get(self, key: str, default: _D) -> JsonValue | _D:
        """Return the value with this name, or ``default``.

        With ``type`` (bool, int, float, str, list or dict), a stored value of another type raises InvalidArgument,
        which names the type. A whole number is accepted as float; true and false are not numbers.
        """

    @overload
    async def get(self, key: str, default: _T, *, type: type[_T]) -> _T:
        """Return the value with this name, or ``default``.

        With ``type`` (bool, int, float, str, list or dict), a stored value of another type raises InvalidArgument,
        which names the type. A whole number is accepted as float; true and false are not numbers.
        """

    @overload
    async def get(self, key: str, default: None = None, *, type: type[_T]) -> _T | None:
        """Return the value with this name, or ``default``.

        With ``type`` (bool, int, float, str, list or dict), a stored value of another type raises InvalidArgument,
        which names the type. A whole number is accepted as float; true and false are not numbers.
        """

    def __aiter__(self) -> AsyncGenerator[str]: ...
    async def keys(self) -> builtins.list[str]:
        """Return the sorted names. ``dict(store.settings)`` uses this."""

    async def values(self) -> builtins.list[JsonValue]:
        """Return all values, sorted by name."""

    async def items(self) -> builtins.list[tuple[str, JsonValue]]:
        """Return all names with their values, sorted by name, from one snapshot."""

    async def list(self, *, limit: int | None = None, offset: int = 0, sort: str | None = None) -> Rows[Setting]:
        """List settings with their descriptions and times, by name. Raises InvalidArgument."""

    async def to_dict(self) -> dict[str, JsonValue]:
        """Return all values by name, from one snapshot."""

    async def set(self, key: str, value: object, *, description: str | None = None) -> None:
        """Set a JSON value under a name. Without ``description``, the old one stays.

        Idempotent. Raises InvalidArgument for an empty name and for a value without a JSON form.
        """

    @overload
    async def ensure(self, key: str, default: _T, *, type: type[_T], description: str | None = None) -> _T:
        """Set a value under a name unless it exists, and return the stored value.

        Idempotent, so that scripts can call it at the start. Raises InvalidArgument, also if the default or the stored
        value is not of ``type``.
        """

    @overload
    async def ensure(self, key: str, default: object, *, description: str | None = None) -> JsonValue:
        """Set a value under a name unless it exists, and return the stored value.

        Idempotent, so that scripts can call it at the start. Raises InvalidArgument, also if the default or the stored
        value is not of ``type``.
        """

    async def remove(self, key: str) -> Removed:
        """Remove a setting, and return the number of removed rows by table. Raises NotFound, InvalidArgument."""

    @overload
    async def pop(self, key: str) -> JsonValue:
        """Remove a setting and return its value. If it is missing, return ``default``; without one, raise NotFound."""

    @overload
    async def pop(self, key: str, default: _D) -> JsonValue | _D:
        """Remove a setting and return its value. If it is missing, return ``default``; without one, raise NotFound."""

    async def replace(self, key: str, old: object, new: object) -> bool:
        """Set a value if the current value is ``old``. Return whether it was; False if the setting is missing.

        Values are compared as JSON: the order of an object's keys does not matter, and 1, 1.0 and true differ.
        """

    @overload
    async def update(self, key: str, function: Callable[[_T], _T], *, default: _T = ..., type: type[_T]) -> _T:
        """Set a value to ``function(value)``, and return it. No write of another process is lost.

        If the value has changed meanwhile, ``function`` is called again with the new value, finally under the write
        lock, so it should have no side effects. A missing value starts with ``default``. Raises NotFound without a
        default, InvalidArgument for a value without a JSON form.
        """

    @overload
    async def update(self, key: str, function: Callable[[JsonValue], object], *, default: object = ...) -> JsonValue:
        """Set a value to ``function(value)``, and return it. No write of another process is lost.

        If the value has changed meanwhile, ``function`` is called again with the new value, finally under the write
        lock, so it should have no side effects. A missing value starts with ``default``. Raises NotFound without a
        default, InvalidArgument for a value without a JSON form.
        """

class AsyncAccounts(AsyncDomain):
    """Users, their passwords and logins. Every ``user`` argument accepts a row, an id or an address."""

    async def add(
        self,
        email: str,
        *,
        password: str | None = None,
        hashed_password: str | None = None,
        full_name: str | None = None,
        role: str = "user",
    ) -> User:
        """Add a user. Without a password or hash, the user cannot log in. Atomic.

        The address is stored as given, but compared case-insensitively. A password needs at least 8 characters and is
        hashed, which needs ``scanstore[auth]``. A ready-made hash may be of Argon2 or bcrypt, or of scrypt or PBKDF2
        for programs that verify those themselves.

        Raises InvalidArgument, also for a plain password in place of a hash, and Conflict if the address is taken.
        """

    async def get(self, user: UserKey) -> User:
        """Return a user. Addresses are compared case-insensitively. Raises NotFound, InvalidArgument."""

    async def find(self, user: UserKey) -> User | None:
        """Return a user, or None if there is no such user. Raises InvalidArgument."""

    async def list(
        self,
        *,
        active: bool | None = None,
        role: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[User]:
        """List users by address: all, only active or inactive ones, or those of a role. Raises InvalidArgument."""

    async def update(
        self, user: UserKey, *, email: str | None = None, full_name: str | None = None, role: str | None = None
    ) -> User:
        """Change the given columns and return the row; an empty ``full_name`` removes it. Atomic.

        Raises InvalidArgument, NotFound, and Conflict if the address is taken.
        """

    async def remove(self, user: UserKey) -> Removed:
        """Remove a user and their prompts, and return the number of removed rows by table. Atomic.

        Raises NotFound, and IllegalMove if the user has sessions or audits. Deactivate such a user instead.
        """

    async def set_password(
        self, user: UserKey, password: str | None = None, *, hashed_password: str | None = None
    ) -> User:
        """Set a password or a ready-made hash, as in :meth:`add`, and end a lockout. Raises NotFound, InvalidArgument.

        A deactivated user stays deactivated.
        """

    async def deactivate(self, user: UserKey) -> User:
        """Refuse further logins of this user. Their data stays. Idempotent. Raises NotFound."""

    async def activate(self, user: UserKey) -> User:
        """Allow logins of this user again, and end a lockout. Idempotent. Raises NotFound."""

    async def authenticate(
        self, email: str, password: str, *, max_failures: int | None = None, lockout_seconds: float | None = None
    ) -> User | None:
        """Return the user with this address and password, or None without a reason.

        An unknown address takes as long as a known one. After ``max_failures`` consecutive failures (default: the
        setting "auth.max_failures", else 5; 0: never) the account is locked for ``lockout_seconds`` (default: the
        setting "auth.lockout_seconds", else 900), even for the correct password. The limit also holds for simultaneous
        attempts. An outdated hash, such as bcrypt's, is replaced by a current one.

        Raises InvalidArgument for a value that is not text or if ``scanstore[auth]`` is not installed, and IllegalMove
        inside a transaction, because a rollback would lose the count of failures.
        """

class AsyncSessionUploads(AsyncDomain):
    """The files of sessions, ``store.sessions.uploads``."""

    async def add(self, session: Session, files: Iterable[UploadRecord]) -> Added:
        """Add files to a session. Atomic.

        A file is a mapping with ``file_path`` (relative, with slashes) and ``file_size`` (bytes), and optionally
        ``sha256`` (hexadecimal text or bytes), ``file_type`` (default: by the name's ending) and ``file_name``
        (default: the end of the path). A file that the session already has, with the same sha256 or, without one, the
        same size, stays unchanged. Idempotent.

        Raises InvalidArgument, also for a path that leads out of its folder, Conflict for an existing path with other
        content, NotFound, and IllegalMove for a finished session.
        """

    async def add_files(
        self, session: Session, root: str | os.PathLike[str], *, paths: Iterable[str | os.PathLike[str]] | None = None
    ) -> Added:
        """Add files of a folder ``root``, given by paths relative to it (default: all, except links).

        Reads their size, sha256 and type first, then works like :meth:`add`. Raises InvalidArgument for a path that is
        not a regular file or leads out of ``root``, also through a link, and NotFound for a missing or unreadable file.
        """

    async def mark(self, upload: Upload, status: UploadMark, *, error: str | None = None) -> FileUpload:
        """Set the status of a file to ``processing``, ``completed`` or ``error``, with the error, and return it.

        A file with the status ``error`` can be processed again. Setting the same status again changes nothing.
        Completed files and files with errors count as processed. Raises InvalidArgument, NotFound, and IllegalMove for
        a status that cannot follow the current one.
        """

    async def list(
        self,
        session: Session,
        *,
        status: UploadStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[FileUpload]:
        """List the files of a session by path, optionally of a status. Raises NotFound, InvalidArgument."""

    async def get(self, upload: Upload) -> FileUpload:
        """Return an upload. Raises NotFound, InvalidArgument."""

    async def find(self, upload: Upload) -> FileUpload | None:
        """Return an upload, or None if there is no such upload. Raises InvalidArgument."""

    async def remove(self, upload: Upload) -> Removed:
        """Remove a file from its session, and return the number of removed rows by table. Atomic. Raises NotFound."""

class AsyncSessionTasks(AsyncDomain):
    """The tasks of sessions, ``store.sessions.tasks``: added, claimed, completed with a result. A scope is a session.

    A claim without a session starts with the oldest session. The first claim changes a session from ``created`` to
    ``processing``.
    """

    async def add(
        self,
        session: Session,
        task_type: str,
        *,
        task_id: str | None = None,
        priority: int = 0,
        max_retries: int = 3,
        max_lost: int = 10,
    ) -> AnalysisTask:
        """Add a task to an open session. Atomic.

        ``task_id`` is the caller's own id of the task (default: the id of the row). If the session has a task of this
        type with this ``task_id``, that task is returned unchanged. Tasks with a higher ``priority`` are claimed first.
        A task fails for good after ``max_retries`` failures, or when more than ``max_lost`` leases are lost because
        workers die or hang.

        Raises InvalidArgument, NotFound, IllegalMove for a finished session, and Conflict if another task has this
        ``task_id``.
        """

    async def claim(
        self,
        scope: Session | None = None,
        *,
        worker: str | None = None,
        limit: int = 1,
        lease: float = 600.0,
        types: str | Iterable[str] | None = None,
    ) -> Rows[AnalysisTask]:
        """Lease up to ``limit`` tasks, of one session or of all, optionally of certain ``types``.

        See :meth:`LeasedWork.claim`.
        """

    async def heartbeat(
        self, item: Task_models, *, progress: float | None = None, worker: str | None = None, lease: float | None = None
    ) -> AnalysisTask:
        """Extend the lease to ``lease`` seconds from now (default: as claimed), and return the task.

        A cancelled task is returned unchanged, and its worker should stop. ``progress`` is in per cent and never
        decreases until the task is claimed again. Raises InvalidArgument, NotFound, and LeaseLost if the task is no
        longer leased to the worker.
        """

    async def complete(
        self, task: Task_models, *, result: Mapping[str, object] | None = None, worker: str | None = None
    ) -> AnalysisTask:
        """Complete a task, optionally with a result, and return the task. Atomic.

        A result is a mapping with ``result_content`` and optionally ``analysis_type`` (default: the type of the task),
        ``file_name``, ``score`` (0 to 100, at most two decimals) and ``configuration``, the prompt version that
        produced it. Afterwards, it is ``task.result``. Repeating the call with the same result is harmless.

        Raises InvalidArgument, NotFound, LeaseLost if the task is no longer leased to the worker, and IllegalMove if
        it was completed with another result. Nothing is changed then.
        """

    async def cancel(self, task: Task_models) -> AnalysisTask:
        """Cancel an unfinished task, and return it. Its worker's next heartbeat returns it with the status
        ``cancelled``, and later reports of that worker are refused. Raises NotFound, IllegalMove.
        """

    async def find(self, item: Task_models) -> AnalysisTask | None:
        """Return the task with this id or ``task_id``, or None if there is no such task. Raises InvalidArgument."""

    async def list(
        self,
        session: Session,
        *,
        status: SessionTaskStatus | None = None,
        type: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisTask]:
        """List the tasks of a session, the oldest first, optionally of a status or a type. Raises NotFound,
        InvalidArgument.
        """

    def work(
        self,
        scope: Session | None = None,
        *,
        worker: str | None = None,
        lease: float = 600.0,
        wait: bool = True,
        stop: Stop | None = None,
    ) -> AsyncGenerator[AnalysisTask]:
        """Claim one row after the other until nothing is left to do or ``stop`` is set (a ``threading.Event``).

        Waits while others hold the last rows or a retry is not due, since those may become free; with ``wait=False`` it
        yields the available rows and ends. The loop's body completes or fails each row; a row that it has not settled
        is released when the loop is left.
        """

    async def fail(
        self,
        item: AnalysisTask | str | uuid.UUID,
        error: str | BaseException,
        *,
        retry: bool = True,
        worker: str | None = None,
    ) -> AnalysisTask:
        """Give a leased row back with an error; return it: it waits for its next try, or has failed. One transaction.

        The next try is due after two seconds, doubled with each retry; when the retries are used up, or with
        ``retry=False``, the row fails for good. Raises InvalidArgument, LeaseLost, NotFound.
        """

    async def release(self, item: AnalysisTask | str | uuid.UUID, *, worker: str | None = None) -> AnalysisTask:
        """Give a leased row back unchanged, to be claimed by anyone; return it. Raises LeaseLost, NotFound."""

    async def retry(self, *items: AnalysisTask | str | uuid.UUID) -> Rows[AnalysisTask]:
        """Let rows that failed for good wait again, with all their tries; return them. One transaction.

        Raises NotFound, and IllegalMove for a row that did not fail; nothing is changed then.
        """

    async def recover(self, scope: Session | None = None) -> Recovered:
        """Free leases that expired or whose process ended, of one scope or of all; return how many there were.

        Claims do it too when they need it, as does opening a store. A row that lost too many leases fails.
        """

    async def state(self, scope: Session | None = None) -> State:
        """Return how many rows are ready, delayed, leased, done, failed, and skipped or cancelled.

        Of one scope or of all, with the time at which the next row is due. Rows whose lease has expired count as ready.
        ``state().finished`` says that nothing is left to do, which an empty claim does not. Raises NotFound for an
        unknown scope.
        """

    async def get(self, item: AnalysisTask | str | uuid.UUID) -> AnalysisTask:
        """Return the current row. Raises NotFound, and InvalidArgument for a value that is not an id."""

class AsyncSessionResults(AsyncDomain):
    """The results of sessions, ``store.sessions.results``. ``tasks.complete`` adds the result of a task."""

    async def add(
        self, session: Session, *, status: ResultStatus = "completed", **result: Unpack[ResultRecord]
    ) -> AnalysisResult:
        """Add a result without a task. Takes the values of ``tasks.complete``; ``analysis_type`` is required.

        Raises InvalidArgument, NotFound, and IllegalMove for a finished session.
        """

    async def get(self, result: Result) -> AnalysisResult:
        """Return a result. Raises NotFound, InvalidArgument."""

    async def find(self, result: Result) -> AnalysisResult | None:
        """Return a result, or None if there is no such result. Raises InvalidArgument."""

    async def list(
        self,
        session: Session,
        *,
        type: str | None = None,
        status: ResultStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisResult]:
        """List the results of a session, the oldest first, optionally of a type or status. Raises NotFound,
        InvalidArgument.
        """

class AsyncPrompts(AsyncDomain):
    """The prompts of users. Versions count from 1 for each type, such as "summary"."""

    async def add(self, user: UserKey, config_type: str, content: str, *, default: bool = False) -> Configuration:
        """Save a prompt as the next version of its type, and return it. Atomic.

        The first version of a type becomes its default; a later one does with ``default``. If the latest version has
        the same content, it is returned and none is added. Idempotent. Raises NotFound for an unknown user,
        InvalidArgument for an empty type or content.
        """

    async def restore(self, user: UserKey, config_type: str, version: int, *, default: bool = False) -> Configuration:
        """Save the content of an old version as a new one, like :meth:`add`, and return the new version.

        Raises NotFound, InvalidArgument.
        """

    async def set_default(self, user: UserKey, config_type: str, version: int) -> Configuration:
        """Make a version the default of its type. Atomic and idempotent.

        Raises NotFound, InvalidArgument.
        """

    async def get(self, user: UserKey, config_type: str, *, version: int | None = None) -> Configuration:
        """Return the default version of a user's prompt, or the version with this number.

        Without a default, which occurs only if rows are written directly, returns the latest version. Raises NotFound,
        InvalidArgument.
        """

    async def find(self, user: UserKey, config_type: str, *, version: int | None = None) -> Configuration | None:
        """Return the same as :meth:`get`, or None if the user has no such prompt.

        Raises NotFound for an unknown user, InvalidArgument.
        """

    async def list(
        self,
        user: UserKey,
        *,
        type: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Configuration]:
        """List the prompts of a user, all or of one type: by type, the newest version first.

        Raises NotFound, InvalidArgument.
        """

class AsyncSessions(AsyncDomain):
    """Sessions of all users, with their files, tasks and results, and the prompts of users."""

    @property
    def uploads(self) -> AsyncSessionUploads:
        """The files of sessions."""

    @property
    def tasks(self) -> AsyncSessionTasks:
        """The tasks of sessions."""

    @property
    def results(self) -> AsyncSessionResults:
        """The results of sessions."""

    @property
    def prompts(self) -> AsyncPrompts:
        """The prompts of users, in versions."""

    async def add(self, user: UserKey, name: str) -> AnalysisSession:
        """Add a session. Raises InvalidArgument, NotFound, and IllegalMove for a deactivated user."""

    async def start(self, session: Session) -> AnalysisSession:
        """Start a created session. The first claim of its tasks does this too. Raises NotFound, IllegalMove."""

    async def complete(self, session: Session) -> AnalysisSession:
        """Complete a session whose tasks are all finished, including failed ones, and return it. It cannot be reopened.

        Raises NotFound, and IllegalMove while tasks are pending or leased, or if the session is not open.
        """

    async def fail(self, session: Session) -> AnalysisSession:
        """Fail a session, cancel its unfinished tasks, and return it. Atomic.

        Raises NotFound, IllegalMove.
        """

    async def cancel(self, session: Session) -> AnalysisSession:
        """Cancel a session and its unfinished tasks, and return it. Atomic. Raises NotFound, IllegalMove."""

    async def reopen(self, session: Session) -> AnalysisSession:
        """Reopen a failed or cancelled session, and return it. Its failed and cancelled tasks become pending with all
        their retries; completed tasks stay completed. Atomic. Raises NotFound, IllegalMove.
        """

    async def remove(self, session: Session) -> Removed:
        """Remove a session with its files, results and tasks, and return the number of removed rows by table. Atomic.

        Later calls of the workers of its tasks raise NotFound. Raises NotFound.
        """

    async def get(self, session: Session) -> AnalysisSession:
        """Return a session. Raises NotFound, InvalidArgument."""

    async def find(self, session: Session) -> AnalysisSession | None:
        """Return a session, or None if there is no such session. Raises InvalidArgument."""

    async def list(
        self,
        *,
        user: UserKey | None = None,
        status: SessionStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisSession]:
        """List sessions, the newest first, optionally of a user or status. Raises NotFound, InvalidArgument."""

    async def stats(self, *, user: UserKey | None = None) -> SessionStats:
        """Return counts of sessions, of all users or one. Raises NotFound."""

class AsyncAudits(AsyncDomain):
    """Audits of documents: queued, worked on, judged, reviewed, and their trail. A scope is the name of a queue."""

    async def add(
        self,
        user: UserKey,
        original_filename: str,
        file_size: int,
        *,
        file_path: str | None = None,
        priority: int = 0,
        max_retries: int = 3,
        max_lost: int = 10,
        queue: str = "default",
        by: str | None = None,
    ) -> Task:
        """Queue a document of a user for an audit. ``file_size`` is in bytes, ``file_path`` its location.

        Audits with a higher ``priority`` are claimed first. An audit fails after ``max_retries`` failures, or when more
        than ``max_lost`` leases are lost because workers die or hang. ``by`` is the author of the event (default:
        $SCANSTORE_USER, else the address of the user). Atomic. Raises InvalidArgument, NotFound.
        """

    async def remove(self, audit: AuditId) -> Removed:
        """Remove an audit with its analysis, its findings and its trail. Atomic.

        Returns the number of removed rows by table. Raises NotFound, and IllegalMove while the audit is leased.
        """

    async def cancel(self, audit: AuditId, *, by: str | None = None, reason: str | None = None) -> Task:
        """Cancel a queued or leased audit, and return it. The next call of its worker raises LeaseLost.

        ``by`` is the author of the event (default: $SCANSTORE_USER, else "unknown"). Raises NotFound, and IllegalMove
        if the audit is finished.
        """

    async def retry(self, *items: AuditId, by: str | None = None) -> Rows[Task]:
        """Let audits that failed for good wait again, with all their tries; return them. One transaction.

        ``by`` is the author of the event (default: $SCANSTORE_USER, else "unknown"). Raises NotFound, and IllegalMove
        for an audit that did not fail; nothing is changed then.
        """

    async def complete(
        self,
        audit: AuditId,
        *,
        analysis: Mapping[str, object],
        findings: Iterable[Mapping[str, object]] = (),
        policy: AuditPolicy = ...,
        worker: str | None = None,
    ) -> Task:
        """Complete an audit with its analysis, its findings and the verdict of ``policy``. Atomic.

        Returns the audit; the result is ``audit.analysis``.

        ``analysis`` has ``equipment_type`` and ``test_type`` and may have ``equipment_tag``, ``confidence_score``
        (0 to 1), ``extraction_result`` and ``validation_result`` (any JSON). Each finding has ``severity`` (critical,
        major, minor, info), ``rule_id`` and ``message``, and may have ``evidence`` (any JSON) and ``remediation``.

        Only the worker with the lease can complete an audit; an unclaimed audit can be completed directly. Repeating
        the call with the same values is harmless. Raises InvalidArgument, NotFound, LeaseLost, and IllegalMove if the
        audit has a different analysis, has failed or was cancelled. Nothing is changed then.
        """

    async def review(
        self, analysis: ResultId, verdict: ReviewVerdict, *, reason: str, by: str | None = None
    ) -> Analysis:
        """Record a person's decision about an analysis, ``approved`` or ``rejected``, with a reason. Return the
        analysis.

        ``by`` is the person (default: $SCANSTORE_USER, else "unknown"). This requires the machine verdict ``review``,
        and can be repeated to change the decision. ``machine_verdict`` stays. Repeating the same decision by the same
        person changes nothing. Atomic. Raises NotFound, InvalidArgument,
        and IllegalMove if the machine approved or rejected the audit.
        """

    async def list(
        self,
        *,
        user: UserKey | None = None,
        status: AuditStatus | None = None,
        verdict: AuditVerdict | None = None,
        queue: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Task]:
        """List audits, the newest first, optionally of a user, status, verdict or queue.

        Raises NotFound for an unknown user, InvalidArgument.
        """

    async def analysis(self, audit: ResultId) -> Analysis:
        """Return the analysis, given the audit or the analysis. Raises NotFound."""

    async def analyses(self, audits: Iterable[AuditId]) -> dict[str, Analysis]:
        """Return the analyses of several audits by audit id. Audits without an analysis are left out."""

    async def findings(
        self,
        audit: ResultId,
        *,
        severity: AuditSeverity | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisFinding]:
        """List the findings of an audit in their original order, all or of one severity.

        Raises NotFound, InvalidArgument.
        """

    async def trail(self, audit: ResultId, *, page: int = 1, per_page: int = 50) -> Page[AuditEvent]:
        """Return a page of the events of an audit, the oldest first, with their total. Raises NotFound."""

    async def stats(self, *, user: UserKey | None = None) -> AuditStats:
        """Return counts of audits, of all users or one. Raises NotFound."""

    async def claim(
        self, scope: str | None = None, *, worker: str | None = None, limit: int = 1, lease: float = 600.0
    ) -> Rows[Task]:
        """Lease up to ``limit`` rows of a scope, or of all, for ``lease`` seconds; one transaction.

        Rows of a higher priority come first, then older ones. An empty list means that nothing can be claimed now, not
        that all is done: see :meth:`state`. Each row is leased to one worker (default: this process), and when that
        process ends or the time is up, to the next. Raises InvalidArgument, and NotFound for an unknown scope.
        """

    def work(
        self,
        scope: str | None = None,
        *,
        worker: str | None = None,
        lease: float = 600.0,
        wait: bool = True,
        stop: Stop | None = None,
    ) -> AsyncGenerator[Task]:
        """Claim one row after the other until nothing is left to do or ``stop`` is set (a ``threading.Event``).

        Waits while others hold the last rows or a retry is not due, since those may become free; with ``wait=False`` it
        yields the available rows and ends. The loop's body completes or fails each row; a row that it has not settled
        is released when the loop is left.
        """

    async def heartbeat(
        self, item: Task | str | uuid.UUID, *, worker: str | None = None, lease: float | None = None
    ) -> Task:
        """Extend the lease to ``lease`` seconds from now (default: as claimed); return the row.

        Raises LeaseLost when the row is not leased to the worker any more, and NotFound.
        """

    async def fail(
        self, item: Task | str | uuid.UUID, error: str | BaseException, *, retry: bool = True, worker: str | None = None
    ) -> Task:
        """Give a leased row back with an error; return it: it waits for its next try, or has failed. One transaction.

        The next try is due after two seconds, doubled with each retry; when the retries are used up, or with
        ``retry=False``, the row fails for good. Raises InvalidArgument, LeaseLost, NotFound.
        """

    async def release(self, item: Task | str | uuid.UUID, *, worker: str | None = None) -> Task:
        """Give a leased row back unchanged, to be claimed by anyone; return it. Raises LeaseLost, NotFound."""

    async def recover(self, scope: str | None = None) -> Recovered:
        """Free leases that expired or whose process ended, of one scope or of all; return how many there were.

        Claims do it too when they need it, as does opening a store. A row that lost too many leases fails.
        """

    async def state(self, scope: str | None = None) -> State:
        """Return how many rows are ready, delayed, leased, done, failed, and skipped or cancelled.

        Of one scope or of all, with the time at which the next row is due. Rows whose lease has expired count as ready.
        ``state().finished`` says that nothing is left to do, which an empty claim does not. Raises NotFound for an
        unknown scope.
        """

    async def get(self, item: Task | str | uuid.UUID) -> Task:
        """Return the current row. Raises NotFound, and InvalidArgument for a value that is not an id."""

    async def find(self, item: Task | str | uuid.UUID) -> Task | None:
        """Return the current row, or None if it is missing."""

class AsyncStore(Running):
    """A :class:`~scanstore.store.Store` for asyncio, with the same options.

    ``async with AsyncStore("scan.db") as store:`` opens and closes it. Await the methods, as in ``await
    store.symbols.find("x")``. Read streams with ``async for``, and enter blocks such as ``store.transaction()`` with
    ``async with``. Names, results and errors are those of Store. Callbacks that may run long, such as the handlers of
    ``store.jobs.run_worker``, may be coroutine functions.

    Up to ``readers`` calls read at the same time. A cancelled call that has not started never runs. A started call is
    finished before the next one, so no call is half-written. Cancelling a worker, or another call that works item by
    item, stops it after the current item and cancels the coroutine that it awaits. A cancelled transaction is rolled
    back. Returned rows do not load related rows; query these through the store.
    """

    @property
    def scans(self) -> AsyncStoreScans:
        """Snapshots of source trees."""

    @property
    def symbols(self) -> AsyncSymbols:
        """Symbols, references and imports of the snapshots."""

    @property
    def llm(self) -> AsyncModels:
        """Language models: configurations, slots, calls, costs and cached answers."""

    @property
    def chunks(self) -> AsyncChunks:
        """Chunks of files, the units of review."""

    @property
    def drafts(self) -> AsyncDrafts:
        """Reported drafts, and the votes on them."""

    @property
    def verified(self) -> AsyncVerified:
        """Drafts that the votes confirmed, before they are published."""

    @property
    def findings(self) -> AsyncStoreFindings:
        """Findings: tracked across scans, listed, compared and triaged."""

    @property
    def sarif(self) -> AsyncSarif:
        """SARIF: load reports of other tools, and write findings for them."""

    @property
    def search(self) -> AsyncSearch:
        """Search findings and symbols by words: ``store.search("sql injection login")``."""

    @property
    def library(self) -> AsyncLibrary:
        """Scenes, performers, tags and studios of a synced media library."""

    @property
    def plans(self) -> AsyncPlans:
        """Proposed changes, which are reviewed, applied and reverted."""

    @property
    def jobs(self) -> AsyncJobs:
        """Background jobs: add, claim, watch and cancel them."""

    @property
    def schedules(self) -> AsyncSchedules:
        """Scheduled jobs, by cron expressions."""

    @property
    def settings(self) -> AsyncSettings:
        """Values by name: ``store.settings["page_size"]``."""

    @property
    def accounts(self) -> AsyncAccounts:
        """Users: accounts with logins, and the owners of rows."""

    @property
    def sessions(self) -> AsyncSessions:
        """Analysis sessions: their files, prompts, tasks and results."""

    @property
    def audits(self) -> AsyncAudits:
        """Audits of documents: findings with evidence, verdicts, and an append-only trail."""

    async def report(
        self,
        scan: Scan | int | None = None,
        *,
        target: str | None = None,
        format: ReportFormat = "text",
        baseline: Scan | int | None = None,
    ) -> str:
        """Return a report of findings as "text", "json", "csv", "markdown" or "html" (one self-contained file).

        It covers a scan (default: the latest of ``target`` in which a tool ran) and the changes since ``baseline``
        (default: the previous one of the same target). The target can be omitted if the store has only one. Raises
        NotFound, Ambiguous, InvalidArgument.
        """

    async def page(
        self,
        model: type[_Row],
        *where: peewee.Node,
        sort: str | None = None,
        page: int = 1,
        per_page: int = 50,
        heavy: bool = False,
    ) -> Page[_Row]:
        """Return a page of the rows that match all conditions: ``store.page(Finding, Finding.severity == "high")``.

        Sorted by the key, the newest first, or by an indexed column: ``sort="created_at"``, or ``sort="-created_at"``
        for descending order. The order of equal rows is stable. Large columns, such as texts and JSON, are None unless
        ``heavy``; secrets always are. Raises InvalidArgument.
        """

    async def counts(self, model: type[Base], by: str, *where: peewee.Node) -> dict[object, int]:
        """Return the number of rows for each value of a column: ``store.counts(Job, "status")``.

        Sorted by value. Raises InvalidArgument.
        """

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager for one transaction, which commits on exit and rolls back on any exception.

        The outermost transaction takes the write lock immediately and waits up to the store's timeout (then Busy).
        Nested ones are savepoints. All statements inside must run in this thread and task.
        """

    async def recover(self) -> Recovered:
        """Free the rows, slots, model calls and pending questions of dead processes, and expired leases. Return the
        number of rows that are pending again, and of rows that failed because they lost too many leases.

        A scan whose process died while it recorded files is marked as failed, one hour after its last file. Opening a
        store calls this if anything was lost.
        """

    async def check(self, *, fix: bool = False, progress: Callable[[int, int], object] | None = None) -> Rows[Problem]:
        """Look for damage and inconsistent rows. Return one problem per kind, or an empty list.

        With ``fix``, counters and search indexes are rebuilt, unused rows are removed, and lost rows are freed.
        Repaired problems are listed as ``fixed``. Recorded facts and decisions are never changed. ``progress`` is
        called in this thread with the finished and all checks; with ``fix``, the checks after the repair are added to
        the total. Raises ReadOnly.
        """

    async def stats(self) -> Stats:
        """Return the number of rows and bytes per table, and the growth by the latest scans."""

    async def prune(
        self,
        *,
        older_than: timedelta | str | None = None,
        keep_last: int | None = None,
        dry_run: bool = True,
        what: PruneKind | Iterable[PruneKind] = ("scans", "jobs"),
        progress: ProgressCallback | None = None,
    ) -> Pruned:
        """Remove old rows. With ``dry_run``, only return the rows that the same call without it would remove.

        ``what`` selects any of: "scans" (finished scans with the facts that no other scan uses), "jobs" (finished
        jobs), "calls" (prompts and responses of model calls; their costs stay) and "answers" (cached answers). Only
        rows finished longer than ``older_than`` ago are removed (a timedelta, or text such as "90d"). The newest
        ``keep_last`` scans of each target, and jobs, stay. The latest scan of a target always stays, and so do findings
        with decisions of people.

        Each scan is removed in its own transaction, so that others can write, and unused names at the end. Idempotent.
        ``progress`` is called in this thread, between transactions, with the removed rows (scans, jobs, calls, answers)
        and all that are to be removed. An exception of it cancels the rest.

        Raises InvalidArgument, also if neither ``older_than`` nor ``keep_last`` is given.
        """

    async def rekey(self, key: str | None) -> None:
        """Encrypt the store with another key, or decrypt it, and close it. Open it again with the new key.

        Needs `scanstore[encryption]` and free space for a copy. Atomic. Raises Busy while the store is open elsewhere,
        IllegalMove inside a transaction, InvalidArgument, DiskFull, Damaged.
        """

    async def dump(
        self,
        file: File,
        *,
        include_secrets: bool = False,
        tables: Iterable[str] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Transferred:
        """Write all rows as JSON Lines to a path or an open binary file. The same content gives the same bytes.

        The dump is a consistent snapshot, even while others write. Memory stays constant. API keys and password hashes
        are null unless ``include_secrets``. ``progress`` is called in this thread, between batches, with the written
        rows and all rows, which are counted before. An exception of it cancels the dump, and no file is written. Raises
        InvalidArgument, MissingFolder, StorageError.
        """

    async def load(
        self, file: File, *, accounts: bool = True, progress: Callable[[int, int], object] | None = None
    ) -> Loaded:
        """Fill this empty store with a dump of this or an older schema. Atomic.

        The result lists the accounts with their roles, and the scanned folders outside the current folder: check them
        before you trust the dump. With ``accounts=False``, accounts and the rows that belong to them are skipped and
        counted.

        ``progress`` is called in this thread, between batches, with the bytes that were read and all bytes. The total
        is 0 for a pipe; a dump of an older schema is read twice, and counts twice. An exception of it cancels the work,
        and nothing is loaded. It must not write to this store, which is locked.

        Raises InvalidArgument, which names the line, NewerSchema, NotFound, and IllegalMove if the store has rows.
        """

    async def merge(
        self,
        other: Store | Database | str | os.PathLike[str],
        *,
        timeout: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> MergeResult:
        """Merge another store into this one. Atomic and idempotent. The other store stays unchanged.

        If both stores have different values for the same row, this store keeps its value and the conflict is listed.
        The other store's scans of a common target come after this store's. ``timeout`` limits the time in seconds, by
        default 30 plus one per megabyte of the other store. ``progress`` is called in this thread, after each table,
        with the merged rows and all rows of the other store. An exception of it cancels the work, and nothing is
        merged. It must not write to this store, which is locked. Raises OutdatedSchema, ReadTimeout and the errors of
        opening a store.
        """

    async def backup(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        keep: int | None = None,
        verify: bool = True,
        progress: Callable[[int, int], object] | None = None,
    ) -> Backup:
        """Copy the committed content, while others read and write, to `path`, or to a file with a timestamp in its
        name, in `folder` or beside the store.

        The copy gets its name only when it is complete and verified. Only its owner may read it. With `keep`, only the
        newest `keep` copies with timestamps remain. `progress` is called in this thread with the copied pages and all
        pages; an exception of it cancels the backup, and no copy is left. Raises InvalidArgument, StorageError; see
        :func:`scanstore.maintenance.backup.backup`.
        """

    @staticmethod
    async def restore(
        backup: str | os.PathLike[str],
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = 5,
        key: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Restored:
        """Restore the store at `path` (default: as for opening) from a copy. The replaced file is kept beside it.

        Verifies the copy first. Atomic. `progress` is called in this thread with the copied pages and all pages; an
        exception of it, unless all are copied, cancels the work, and the old store stays. Raises Busy while the store
        is open; see :func:`scanstore.maintenance.backup.restore`.
        """

    @staticmethod
    async def repair(
        damaged: str | os.PathLike[str],
        new: str | os.PathLike[str],
        *,
        key: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Repaired:
        """Save the readable rows of a damaged store, or of its log alone, into a new store; see
        :func:`scanstore.maintenance.repair.repair.repair`. The result is `whole` only if every page was read and
        nothing is missing; otherwise it lists the pages and tables. With a `key`, the new store is encrypted too.
        `progress` is called in this thread with the pages that were read and all pages; an exception of it cancels the
        work, and nothing is left at `new`.
        """

    async def vacuum(self, *, progress: Callable[[int, int], object] | None = None) -> Compacted:
        """Rewrite the file without its free pages. Needs free space of twice its size. Atomic.

        ``progress`` is called in this thread with 0 and all pages before SQLite writes them, since it does not say how
        far it is, and with all pages afterwards. Raises DiskFull, Busy.
        """

    async def optimize(self, *, progress: Callable[[int, int], object] | None = None) -> Compacted:
        """Optimize the full-text indexes, update SQLite's statistics, and empty the log. Others can write meanwhile.

        ``progress`` is called in this thread with the finished and all steps. An exception of it cancels the rest.
        Raises Busy.
        """

    async def migrate_up(self, to: str | int | None = None) -> MigrationNames:
        """Apply pending migrations, up to and including `to`. Return their names. Atomic."""

    async def migrate_down(self, to: str | int | None = None, *, steps: int = 1) -> MigrationNames:
        """Roll back the last `steps` migrations, or all after `to`. Return their names. Atomic."""

    async def migrate_status(self) -> Rows[Step]:
        """Return every known migration and when it was applied."""
