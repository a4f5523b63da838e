"""Prompts: saved versions never change, and each user has one default version per type.

A result refers to the version that produced it, so a version never changes. To correct a prompt, add a new version; to
go back, add the old text as another version. Change here: the columns of a prompt, and the choice of the default
version. The calls are ``store.sessions.prompts``.
"""

from __future__ import annotations

from typing import Any

from scanstore.accounts.models import UserKey, of_user, user_key
from scanstore.db.arguments import check_bool
from scanstore.db.domain import Domain, reads
from scanstore.db.pagination import listed
from scanstore.db.rows import Rows
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.sessions.models import Configuration


class Prompts(Domain):
    """The prompts of users. Versions count from 1 for each type, such as "summary"."""

    def add(self, user: UserKey, config_type: str, content: str, *, default: bool = False) -> Configuration:
        """Save a prompt as the next version of its type, and return it. Atomic.

        The first version of a type becomes its default; a later one does with ``default``. If the latest version has
        the same content, it is returned and none is added. Idempotent. Raises NotFound for an unknown user,
        InvalidArgument for an empty type or content.
        """
        kind, text = _kind(config_type), _content(content)
        check_bool(default, "default")
        with self.db.atomic():
            return self._save(user_key(self.db, user), kind, text, default)

    def restore(self, user: UserKey, config_type: str, version: int, *, default: bool = False) -> Configuration:
        """Save the content of an old version as a new one, like :meth:`add`, and return the new version.

        Raises NotFound, InvalidArgument.
        """
        wanted = _version(version)
        check_bool(default, "default")
        with self.db.atomic():
            row = self.get(user, config_type, version=wanted)
            return self._save(row.user_id, row.config_type, row.prompt_content, default)

    def set_default(self, user: UserKey, config_type: str, version: int) -> Configuration:
        """Make a version the default of its type. Atomic and idempotent.

        Raises NotFound, InvalidArgument.
        """
        wanted = _version(version)
        with self.db.atomic():
            return self._make_default(self.get(user, config_type, version=wanted))

    @reads
    def get(self, user: UserKey, config_type: str, *, version: int | None = None) -> Configuration:
        """Return the default version of a user's prompt, or the version with this number.

        Without a default, which occurs only if rows are written directly, returns the latest version. Raises NotFound,
        InvalidArgument.
        """
        row = self.find(user, config_type, version=version)
        if row is None:
            number = "" if version is None else f"version {version} of "
            raise NotFound(
                f"no {number}prompt {_kind(config_type)!r} of user {user_key(self.db, user)};"
                " store.sessions.prompts.list(user) (scanstore prompts list) lists the prompts of a user,"
                " store.sessions.prompts.add adds one"
            )
        return row

    @reads
    def find(self, user: UserKey, config_type: str, *, version: int | None = None) -> Configuration | None:
        """Return the same as :meth:`get`, or None if the user has no such prompt.

        Raises NotFound for an unknown user, InvalidArgument.
        """
        kind, wanted = _kind(config_type), None if version is None else _version(version)
        key = user_key(self.db, user)
        query = Configuration.select().where(Configuration.user == key, Configuration.config_type == kind)
        if wanted is not None:
            query = query.where(Configuration.version == wanted)
        row: Configuration | None = query.order_by(
            Configuration.is_default.desc(), Configuration.version.desc()
        ).first()
        return row

    @reads
    def list(
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
        query = Configuration.select().where(of_user(Configuration.user, user))
        if type is not None:
            query = query.where(Configuration.config_type == _kind(type, "type"))
        query = query.order_by(Configuration.config_type, Configuration.version.desc())
        rows = listed(query, limit=limit, offset=offset, sort=sort)
        if not rows:
            user_key(self.db, user)  # raises NotFound
        return rows

    def _save(self, user: str, kind: str, text: str, default: bool) -> Configuration:
        mine = (Configuration.user == user, Configuration.config_type == kind)
        row: Configuration | None = Configuration.select().where(*mine).order_by(Configuration.version.desc()).first()
        first = row is None
        if row is None or row.prompt_content != text:
            version = 1 if row is None else row.version + 1
            row = Configuration.create(user=user, config_type=kind, prompt_content=text, version=version)
        return self._make_default(row) if default or first else row

    def _make_default(self, row: Configuration) -> Configuration:
        if not row.is_default:
            others = (Configuration.user == row.user_id, Configuration.config_type == row.config_type)
            Configuration.update(is_default=False).where(*others, Configuration.is_default == True).execute()  # noqa: E712
            Configuration.update(is_default=True).where(Configuration.id == row.id).execute()
        fresh: Configuration = Configuration.get_by_id(row.id)
        return fresh


def _kind(value: object, what: str = "config_type") -> str:
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= 50 or not value.isprintable():
        raise InvalidArgument(f"{what} is {shown(value)}; give a word of at most 50 characters")
    return value.strip()


def _content(content: Any) -> str:
    if not isinstance(content, str) or not content.strip() or "\0" in content:
        raise InvalidArgument("content of a prompt must be text that is not empty")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"content of a prompt holds an invalid character, at place {error.start}") from None
    return content


def _version(version: object) -> int:
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**31:
        raise InvalidArgument(f"version is {shown(version)}; give a whole number from 1 up")
    return version
