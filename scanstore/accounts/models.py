"""The model of a user, and the types that are accepted in its place."""

from __future__ import annotations

import unicodedata
import uuid
from typing import TYPE_CHECKING

import peewee

from scanstore.db.arguments import check_string
from scanstore.db.database import Database
from scanstore.db.fields import Base, Identified, UTCField
from scanstore.db.values import utcnow
from scanstore.errors import InvalidArgument, NotFound, shown

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref


class _Hash(peewee.TextField):
    """A password hash. Any other text, such as a plain password, raises InvalidArgument."""

    def db_value(self, value: object) -> object:
        if value == "" or isinstance(value, peewee.Node):
            return value
        from scanstore.accounts.passwords import checked_hash  # start-up: hashes are rarely needed

        return checked_hash(value)


class User(Identified):
    """One account. ``email_key`` is the case-folded address, which is unique.

    A user without a ``hashed_password`` cannot log in.
    """

    __secret__ = frozenset({"hashed_password"})

    if TYPE_CHECKING:
        sessions = Backref[Base]()
        configurations = Backref[Base]()
        tasks = Backref[Base]()

    email = peewee.TextField()
    email_key = peewee.TextField(unique=True)
    hashed_password = _Hash(default="")
    full_name = peewee.TextField(null=True)
    role = peewee.TextField(default="user")
    is_active = peewee.BooleanField(default=True)
    failed_logins = peewee.IntegerField(default=0)
    locked_until = UTCField(null=True)
    last_login_at = UTCField(null=True)

    class Meta:
        table_name = "users"

    def save(self, force_insert: bool = False, only: object = None) -> int:
        """Write the fields that were changed since the row was read. With an address, its folded form is written too.

        Raises InvalidArgument for an invalid address.
        """
        if any(field.name == "email" for field in self.dirty_fields):
            self.email = checked_email(self.email)
            self.email_key = folded(self.email)
        return super().save(force_insert=force_insert, only=only)

    @property
    def locked(self) -> bool:
        """Whether the account is locked because of too many failed logins."""
        return self.locked_until is not None and bool(self.locked_until > utcnow())


def checked_email(email: object) -> str:
    """Return a valid address: one @ with text on both sides, no blanks. Raises InvalidArgument."""
    if isinstance(email, str):
        plain = unicodedata.normalize("NFKC", email.strip())
        name, _, host = plain.partition("@")
        one = email.count("@") == plain.count("@") == 1
        if one and name and host and " " not in plain and plain.isprintable() and len(email.strip()) <= 255:
            return email.strip()
    raise InvalidArgument(f"email is {shown(email)}; give an address like ada@example.org, of at most 255 characters")


def folded(email: object) -> str:
    """Return the same text for addresses that differ only in case or in Unicode normalisation."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", check_string(email, "email").strip()).casefold())


def user_key(user: User | str | uuid.UUID) -> str:
    """Return the id of a user, given as a row or an id, without a query. Raises InvalidArgument, WrongStore."""
    if isinstance(user, User):
        user.check_home()
        return str(user.id)
    try:
        return str(user if isinstance(user, uuid.UUID) else uuid.UUID(user))
    except (ValueError, AttributeError, TypeError):
        raise InvalidArgument(
            f"{shown(user)} is not a user; give a row, an id (a UUID) or, to accounts, an address"
        ) from None


def known_user(db: Database, user: User | str | uuid.UUID) -> str:
    """Return the id of an existing user. Raises NotFound, InvalidArgument, WrongStore."""
    key = user_key(user)
    if db.execute_sql("SELECT 1 FROM users WHERE id = ?", (key,)).fetchone() is None:
        raise unknown(key)
    return key


def unknown(key: str) -> NotFound:
    return NotFound(f"no user {key}; store.accounts.list() (scanstore users list) shows those that there are")
