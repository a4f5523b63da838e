"""The files of a session, identified by relative path and content, with the status of each.

A path is unique in its session. Adding the same content for it again changes nothing; different content is refused.
Only :meth:`SessionUploads.add_files` reads from the disk, and never while the store is locked.

Change here: the accepted paths, and the recorded properties of a file.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Required, TypedDict

from scanstore.db.arguments import check_choice, check_integer, check_list, check_path, check_text, uuid_of
from scanstore.db.bulk import Writer
from scanstore.db.domain import Domain, reads
from scanstore.db.files import refused, refusing
from scanstore.db.pagination import listed
from scanstore.db.paths import IN_CLOUD, below, is_junction, kept_in_cloud, lies_in
from scanstore.db.rows import Removed, Rows, read, remove
from scanstore.db.state_machine import UPLOAD_STATUSES
from scanstore.db.uuids import uuid7s
from scanstore.db.values import dump_json, format_time, pack_hash, utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, NotFound, shown
from scanstore.leases.engine import LAST_ERROR
from scanstore.sessions.models import FileUpload, Session, Upload, check_open, session_key, session_status

if TYPE_CHECKING:
    from scanstore.db.words import UploadMark, UploadStatus

UNKNOWN_TYPE = "application/octet-stream"
READ_AT_ONCE = 1 << 20
LONGEST_PATH, LONGEST_NAME, LONGEST_TYPE = 500, 255, 100  # characters

# the statuses from which each status can be reached
MOVES: dict[UploadMark, tuple[UploadStatus, ...]] = {
    "processing": ("uploaded", "error"),
    "completed": ("processing",),
    "error": ("processing",),
}
COLUMNS = (
    "id", "analysis_session_id", "file_name", "file_path", "file_size", "file_type", "sha256", "created_at",
    "updated_at",
)  # fmt: skip
ACCEPTED = ("file_path", "file_size", "file_type", "file_name", "sha256")


class Added(NamedTuple):
    """The added files, and the files that the session already had with the same content."""

    added: int
    unchanged: int


class UploadRecord(TypedDict, total=False):
    """A file to be added; ``file_path`` is relative, with slashes, and ``file_size`` in bytes."""

    file_path: Required[str]
    file_size: Required[int]
    sha256: str | bytes | None
    file_type: str | None
    file_name: str | None


class _File(NamedTuple):
    name: str
    path: str
    size: int
    type: str
    sha256: bytes | None


class SessionUploads(Domain):
    """The files of sessions, ``store.sessions.uploads``."""

    def add(self, session: Session, files: Iterable[UploadRecord]) -> Added:
        """Add files to a session. Atomic.

        A file is a mapping with ``file_path`` (relative, with slashes) and ``file_size`` (bytes), and optionally
        ``sha256`` (hexadecimal text or bytes), ``file_type`` (default: by the name's ending) and ``file_name``
        (default: the end of the path). A file that the session already has, with the same sha256 or, without one, the
        same size, stays unchanged. Idempotent.

        Raises InvalidArgument, also for a path that leads out of its folder, Conflict for an existing path with other
        content, NotFound, and IllegalMove for a finished session.
        """
        key = session_key(session)
        given = [checked_file(each) for each in check_list(files, "files")]
        with self.db.atomic():
            check_open(self.db, key)
            known: dict[str, tuple[bytes | None, int]] = {
                path: (sha256, size)
                for path, sha256, size in self.db.execute_sql(
                    "SELECT file_path, sha256, file_size FROM file_uploads"
                    " WHERE analysis_session_id = ? AND file_path IN (SELECT value FROM json_each(?))",
                    (key, dump_json([each.path for each in given])),
                ).fetchall()
            }
            new = []
            for each in given:
                if each.path not in known:
                    known[each.path] = (each.sha256, each.size)
                    new.append(each)
                elif not _same(known[each.path], (each.sha256, each.size)):
                    raise Conflict(
                        f"session {key} has {each.path!r} already, with another content; remove that upload first, or"
                        " add this one by another path"
                    )
            now = format_time(utcnow())
            Writer(self.db, FileUpload, COLUMNS, converted=True).write(
                (own, key, each.name, each.path, each.size, each.type, each.sha256, now, now)
                for own, each in zip(uuid7s(len(new)), new, strict=True)
            )
        return Added(len(new), len(given) - len(new))

    def add_files(
        self,
        session: Session,
        root: str | os.PathLike[str],
        *,
        paths: Iterable[str | os.PathLike[str]] | None = None,
    ) -> Added:
        """Add files of a folder ``root``, given by paths relative to it (default: all, except links).

        Reads their size, sha256 and type first, then works like :meth:`add`. Raises InvalidArgument for a path that is
        not a regular file or leads out of ``root``, also through a link, and NotFound for a missing or unreadable file.
        """
        base = check_path(root, "root")
        if not os.path.isdir(base):
            raise NotFound(f"{base!r} is no folder; give the one that holds the files")
        if isinstance(paths, str | os.PathLike):
            raise InvalidArgument(f"paths is {shown(paths)}; give a list of paths")
        paths = None if paths is None else check_list(paths, "paths")
        session_status(self.db, session_key(session))
        relative = _below(base) if paths is None else (_relative(each) for each in paths)
        return self.add(session, [_measured(base, path) for path in relative])

    def mark(self, upload: Upload, status: UploadMark, *, error: str | None = None) -> FileUpload:
        """Set the status of a file to ``processing``, ``completed`` or ``error``, with the error, and return it.

        A file with the status ``error`` can be processed again. Setting the same status again changes nothing.
        Completed files and files with errors count as processed. Raises InvalidArgument, NotFound, and IllegalMove for
        a status that cannot follow the current one.
        """
        key = _upload_key(upload)
        to = check_choice(status, "status", tuple(MOVES))
        if error is not None and to != "error":
            raise InvalidArgument(f"an upload that is {to} has no error; leave it out, or give status 'error'")
        text = None if error is None else check_text(error, "error")[:LAST_ERROR]
        with self.db.atomic():
            row = self._upload(key)
            if row.upload_status == to:
                return row
            if row.upload_status not in MOVES[to]:
                raise IllegalMove(f"upload {key} is {row.upload_status} and cannot become {to}; {_remedy(row, to)}")
            self.db.execute_sql(
                "UPDATE file_uploads SET upload_status = ?, error_message = ?, updated_at = ? WHERE id = ?",
                (to, text, format_time(utcnow()), key),
            )
            return self._upload(key)

    @reads
    def list(
        self,
        session: Session,
        *,
        status: UploadStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[FileUpload]:
        """List the files of a session by path, optionally of a status. Raises NotFound, InvalidArgument."""
        key = session_key(session)
        query = FileUpload.select().where(FileUpload.session == key).order_by(FileUpload.file_path)
        if status is not None:
            query = query.where(FileUpload.upload_status == check_choice(status, "status", UPLOAD_STATUSES))
        rows = listed(query, limit=limit, offset=offset, sort=sort)
        if not rows:
            session_status(self.db, key)  # raises NotFound
        return rows

    @reads
    def get(self, upload: Upload) -> FileUpload:
        """Return an upload. Raises NotFound, InvalidArgument."""
        return self._upload(_upload_key(upload))

    @reads
    def find(self, upload: Upload) -> FileUpload | None:
        """Return an upload, or None if there is no such upload. Raises InvalidArgument."""
        rows = read(self.db, FileUpload, "id = ?", (_upload_key(upload),))
        return rows[0] if rows else None

    def remove(self, upload: Upload) -> Removed:
        """Remove a file from its session, and return the number of removed rows by table. Atomic. Raises NotFound."""
        key = _upload_key(upload)
        with self.db.atomic():
            removed = remove(self.db, "file_uploads", "id = ?", (key,))
            if not removed:
                raise _no_upload(key)
            return removed

    def _upload(self, key: str) -> FileUpload:
        rows = read(self.db, FileUpload, "id = ?", (key,))
        if not rows:
            raise _no_upload(key)
        return rows[0]


def _upload_key(upload: FileUpload | str | uuid.UUID) -> str:
    return uuid_of(upload, "an upload", FileUpload)


def _no_upload(key: str) -> NotFound:
    return NotFound(f"no upload {key}; store.sessions.uploads.list(session) lists the uploads of a session")


def _remedy(row: FileUpload, to: str) -> str:
    if row.upload_status == "completed" and to == "processing":
        return "remove it and add it again to process it again"
    return "mark it as processing first"


def _same(one: tuple[bytes | None, int], other: tuple[bytes | None, int]) -> bool:
    """Whether two contents are equal as far as their recorded properties show."""
    return one[1] == other[1] and (None in (one[0], other[0]) or one[0] == other[0])


# Arguments for a file


def checked_file(given: object) -> _File:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{shown(given)} is no file; give a mapping with file_path and file_size")
    unknown = [str(name) for name in given if name not in ACCEPTED]
    if unknown:
        raise InvalidArgument(f"a file has no {', '.join(unknown)}; it may have {', '.join(ACCEPTED)}")
    path = _relative(given.get("file_path"))
    name = given.get("file_name")
    kind = given.get("file_type")
    return _File(
        check_text(path.rpartition("/")[2] if name is None else name, "file_name", LONGEST_NAME),
        path,
        check_integer(given.get("file_size"), "file_size", most=2**63 - 1),
        _type_of(path) if kind is None else check_text(kind, "file_type", LONGEST_TYPE),
        _sha256(given.get("sha256")),
    )


def _sha256(value: Any) -> bytes | None:
    if value is None:
        return None
    packed = pack_hash(value)
    if not isinstance(packed, bytes) or len(packed) != 32:
        raise InvalidArgument(f"sha256 is {shown(value)}; give 64 hexadecimal digits, or 32 bytes")
    return packed


def _type_of(path: str) -> str:
    import mimetypes

    return mimetypes.guess_type(path, strict=False)[0] or UNKNOWN_TYPE


def _relative(path: object) -> str:
    """Return a normalised relative path that stays below its folder."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InvalidArgument(f"file_path is {shown(path)}; give a relative path, such as 'docs/report.pdf'")
    if os.sep == "\\" and isinstance(path, os.PathLike):
        text = text.replace("\\", "/")
    if text.startswith("/") or "\\" in text or re.match("[A-Za-z]:", text):
        raise InvalidArgument(f"file_path {text!r} must be relative and have slashes, such as 'docs/report.pdf'")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise InvalidArgument(f"file_path {text!r} leads out of its folder; give a path below it, without '..'")
    whole = "/".join(parts)
    if len(whole) > LONGEST_PATH:
        raise InvalidArgument(f"file_path has {len(whole)} characters; give at most {LONGEST_PATH}")
    if check_text(whole, "file_path") != whole:
        raise InvalidArgument(f"file_path {text!r} begins or ends with a blank; leave it out")
    return whole


# Files on disk


def _below(base: str) -> Iterator[str]:
    for folder, names, files in os.walk(base):
        with refusing(folder, "read"):
            names[:] = sorted(name for name in names if not is_junction(os.lstat(os.path.join(folder, name))))
        for name in sorted(files):
            full = os.path.join(folder, name)
            with refusing(full, "read"):
                regular = stat.S_ISREG(os.lstat(full).st_mode)
            if regular:
                yield _relative(below(full, base) or full)


def _measured(base: str, path: str) -> UploadRecord:
    """Return the properties of a file in a folder."""
    full, top = os.path.realpath(os.path.join(base, path)), os.path.realpath(base)
    if not lies_in(full, top):
        raise InvalidArgument(f"file_path {path!r} is a link that leads out of {base!r}; copy the file there")
    if kept_in_cloud(full):
        raise InvalidArgument(f"{path!r} in {base!r} is {IN_CLOUD}; download it and add it again")
    digest, size = hashlib.sha256(), 0
    try:
        if not stat.S_ISREG(os.stat(full).st_mode):  # reading a pipe could block forever
            raise InvalidArgument(f"{path!r} in {base!r} is no regular file")
        with open(full, "rb") as file:
            while block := file.read(READ_AT_ONCE):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise refused(error, f"{path!r} in {base!r}", "read") from None
    return {"file_path": path, "file_size": size, "sha256": digest.digest()}
