"""The model of a user, and the types that are accepted in its place."""

from __future__ import annotations

import unicodedata
import uuid
from typing import TYPE_CHECKING, Any

import peewee

from scanstore.db.arguments import check_string, check_text, uuid_of
from scanstore.db.database import Database
from scanstore.db.fields import Base, Identified, UTCField
from scanstore.db.rules import Rules
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

    __shown__ = "role: email, full_name | is_active, last_login_at"

    __secret__ = frozenset({"hashed_password"})
    __rules__ = Rules(
        held="deactivate the user: store.accounts.deactivate(user)",
        fixed={"email_key": "it follows from the email; set that"},
    )

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

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if new or "email" in names:
            self.email = checked_email(self.email)
            self.email_key = folded(self.email)
            names |= {"email", "email_key"}

    @classmethod
    def _prepare_update(cls, values: dict[str, Any]) -> None:
        if "email" in values and not isinstance(values["email"], peewee.Node):
            values["email"] = checked_email(values["email"])
            values["email_key"] = folded(values["email"])

    @property
    def locked(self) -> bool:
        """Whether the account is locked because of too many failed logins."""
        return self.locked_until is not None and bool(self.locked_until > utcnow())


UserKey = User | str | uuid.UUID  #: a row, an id or an address


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


def given_user(user: object) -> tuple[str, str]:
    """Return the column that identifies a user, ``id`` or ``email_key``, and its value, without a query.

    A user is given as a row, an id or an address. Raises InvalidArgument, WrongStore.
    """
    if isinstance(user, str) and "@" in user:
        return "email_key", folded(check_text(user, "email"))
    return "id", uuid_of(user, "a user", User, remedy=", or an address")


def user_key(db: Database, user: UserKey) -> str:
    """Return the id of an existing user, given as a row, an id or an address.

    Every call that expects a user uses this. Raises NotFound, InvalidArgument, WrongStore.
    """
    column, value = given_user(user)
    row = db.execute_sql(f"SELECT id FROM users WHERE {column} = ?", (value,)).fetchone()
    if row is None:
        raise unknown(user)
    return str(row[0])


def of_user(field: peewee.ForeignKeyField, user: UserKey) -> object:
    """Return the condition that a row belongs to a user, without a query. It holds for no row if the user is unknown.

    Raises InvalidArgument, WrongStore.
    """
    column, value = given_user(user)
    return field == (value if column == "id" else User.select(User.id).where(User.email_key == value))


def unknown(user: object) -> NotFound:
    name = user.id if isinstance(user, User) else user
    return NotFound(f"no user {name}; store.accounts.list() (scanstore users list) lists all users")
