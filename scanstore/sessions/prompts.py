"""Prompts: every version that was ever saved stays as it was, and one of each user and type is the default.

A result says which version it was made with, so a version is never changed: a correction is a new one, and to go back
is one more with the old words. Change here: what a prompt is and which one is meant when none is named.
:class:`scanstore.sessions.sessions.Sessions` has these methods.
"""

from __future__ import annotations

import uuid
from typing import Any

from scanstore.accounts.models import User, known_user
from scanstore.db.domain import Domain, reads
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.sessions.models import Configuration


class Prompts(Domain):
    """The prompts of users: versions from 1 up for each type, such as "summary"."""

    def save_prompt(
        self, user: User | str | uuid.UUID, config_type: str, content: str, *, default: bool = False
    ) -> Configuration:
        """Save a prompt as the next version of its type, and return that; atomic.

        The first of a type becomes its default, a later one with ``default``. When the latest version has the same
        content it is returned and no other is added, so doing it twice is harmless. Raises NotFound for the user,
        InvalidArgument for a type or content that is empty.
        """
        kind, text = _kind(config_type), _content(content)
        with self.db.atomic():
            return self._save(known_user(self.db, user), kind, text, default)

    def restore_prompt(
        self, user: User | str | uuid.UUID, config_type: str, version: int, *, default: bool = False
    ) -> Configuration:
        """Save the content of an old version again, as :meth:`save_prompt` does, and return the version that has it.

        Raises NotFound, InvalidArgument.
        """
        wanted = _version(version)
        with self.db.atomic():
            row = self.prompt(user, config_type, wanted)
            return self._save(row.user_id, row.config_type, row.prompt_content, default)

    def default_prompt(self, user: User | str | uuid.UUID, config_type: str, version: int) -> Configuration:
        """Make a version the default of its type, in place of the one before; atomic, idempotent.

        Raises NotFound, InvalidArgument.
        """
        wanted = _version(version)
        with self.db.atomic():
            return self._make_default(self.prompt(user, config_type, wanted))

    @reads
    def prompt(self, user: User | str | uuid.UUID, config_type: str, version: int | None = None) -> Configuration:
        """The default version of a user's prompt, or the one of that number. Raises NotFound, InvalidArgument.

        When none is the default, which only those who write rows themselves bring about, the latest is meant.
        """
        kind, wanted = _kind(config_type), None if version is None else _version(version)
        key = known_user(self.db, user)
        query = Configuration.select().where(Configuration.user == key, Configuration.config_type == kind)
        if wanted is not None:
            query = query.where(Configuration.version == wanted)
        row: Configuration | None = query.order_by(
            Configuration.is_default.desc(), Configuration.version.desc()
        ).first()
        if row is None:
            number = "" if wanted is None else f"version {wanted} of "
            raise NotFound(
                f"no {number}prompt {kind!r} of user {key}; see what there is with store.sessions.prompts (scanstore"
                " prompts list), or save one with store.sessions.save_prompt"
            )
        return row

    @reads
    def prompts(self, user: User | str | uuid.UUID, config_type: str | None = None) -> list[Configuration]:
        """All versions of a user's prompts, or those of one type: by type, the newest first. Raises NotFound."""
        query = Configuration.select().where(Configuration.user == known_user(self.db, user))
        if config_type is not None:
            query = query.where(Configuration.config_type == _kind(config_type))
        return list(query.order_by(Configuration.config_type, Configuration.version.desc()))

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


def _kind(config_type: object) -> str:
    if not isinstance(config_type, str) or not 1 <= len(config_type.strip()) <= 50 or not config_type.isprintable():
        raise InvalidArgument(f"config_type is {shown(config_type)}; give a word of at most 50 characters")
    return config_type.strip()


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
