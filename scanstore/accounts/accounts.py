"""Accounts: users with their addresses and roles, logins, and the lockout after failed logins.

All rows that have an owner refer to this table of users. Only hashes of passwords are stored
(:mod:`scanstore.accounts.passwords`). Change here: the columns of an account, and the effects of a login.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from scanstore.accounts.models import User, UserKey, checked_email, folded, given_user, unknown, user_key
from scanstore.db.arguments import check_bool
from scanstore.db.domain import Domain, long, reads
from scanstore.db.pagination import listed
from scanstore.db.rows import Removed, Rows, remove
from scanstore.db.uuids import uuid7
from scanstore.db.values import utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, shown
from scanstore.settings import Settings

MAX_FAILURES = 5  # consecutive; the setting "auth.max_failures" overrides it
LOCKOUT = 900  # seconds; the setting "auth.lockout_seconds" overrides it


class Accounts(Domain):
    """Users, their passwords and logins. Every ``user`` argument accepts a row, an id or an address."""

    # -- users ------------------------------------------------------------------------------------------------

    def add(
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
        row: dict[str, Any] = {
            "id": str(uuid7()),
            "email": checked_email(email),
            "email_key": folded(email),
            "full_name": _name(full_name),
            "role": _role(role),
            "hashed_password": "",
        }
        if password is not None or hashed_password is not None:
            row["hashed_password"] = _hash_of(password, hashed_password)
        with self.db.atomic():
            self._check_free(row["email_key"])
            User.insert(row).execute()
            return self.get(row["id"])

    @reads
    def get(self, user: UserKey) -> User:
        """Return a user. Addresses are compared case-insensitively. Raises NotFound, InvalidArgument."""
        row = self.find(user)
        if row is None:
            raise unknown(user)
        return row

    @reads
    def find(self, user: UserKey) -> User | None:
        """Return a user, or None if there is no such user. Raises InvalidArgument."""
        column, value = given_user(user)
        row: User | None = User.get_or_none(User._meta.fields[column] == value)
        return row

    @reads
    def list(
        self,
        *,
        active: bool | None = None,
        role: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[User]:
        """List users by address: all, only active or inactive ones, or those of a role. Raises InvalidArgument."""
        query = User.select().order_by(User.email_key)
        if active is not None:
            query = query.where(User.is_active == check_bool(active, "active"))
        if role is not None:
            query = query.where(User.role == _role(role))
        return listed(query, limit=limit, offset=offset, sort=sort)

    def update(
        self,
        user: UserKey,
        *,
        email: str | None = None,
        full_name: str | None = None,
        role: str | None = None,
    ) -> User:
        """Change the given columns and return the row; an empty ``full_name`` removes it. Atomic.

        Raises InvalidArgument, NotFound, and Conflict if the address is taken.
        """
        columns: dict[str, Any] = {}
        if email is not None:
            columns["email"] = checked_email(email)
        if full_name is not None:
            columns["full_name"] = _name(full_name)
        if role is not None:
            columns["role"] = _role(role)
        with self.db.atomic():
            row = self.get(user)
            if email is not None:
                self._check_free(folded(email), but=row.id)
            return self._set(row.id, **columns)

    def remove(self, user: UserKey) -> Removed:
        """Remove a user and their prompts, and return the number of removed rows by table. Atomic.

        Raises NotFound, and IllegalMove if the user has sessions or audits. Deactivate such a user instead.
        """
        with self.db.atomic():
            row = self.get(user)
            for what, sql in THEIRS.items():
                count = self.db.execute_sql(sql, (row.id,)).fetchone()[0]
                if count:
                    raise IllegalMove(
                        f"user {row.email} has {what} ({count}); deactivate the account instead, or remove those first:"
                        " store.accounts.deactivate (scanstore users deactivate)"
                    )
            prompts = remove(self.db, "configurations", "user_id = ?", (row.id,))
            return Removed(prompts | remove(self.db, "users", "id = ?", (row.id,)))

    # -- logging in ----------------------------------------------------------------------------------------------

    def set_password(self, user: UserKey, password: str | None = None, *, hashed_password: str | None = None) -> User:
        """Set a password or a ready-made hash, as in :meth:`add`, and end a lockout. Raises NotFound, InvalidArgument.

        A deactivated user stays deactivated.
        """
        hashed = _hash_of(password, hashed_password)
        return self._set(user_key(self.db, user), hashed_password=hashed, failed_logins=0, locked_until=None)

    def deactivate(self, user: UserKey) -> User:
        """Refuse further logins of this user. Their data stays. Idempotent. Raises NotFound."""
        return self._set(user_key(self.db, user), is_active=False)

    def activate(self, user: UserKey) -> User:
        """Allow logins of this user again, and end a lockout. Idempotent. Raises NotFound."""
        return self._set(user_key(self.db, user), is_active=True, failed_logins=0, locked_until=None)

    @long
    def authenticate(
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
        from scanstore.accounts import passwords  # start-up: hashes are rarely needed

        if not isinstance(email, str) or not isinstance(password, str):
            raise InvalidArgument("an address and a password are text; give both")
        most = self._setting("max_failures", max_failures, MAX_FAILURES)
        seconds = self._setting("lockout_seconds", lockout_seconds, LOCKOUT)
        if self.db.in_sqlite_transaction():
            raise IllegalMove(
                "a transaction is open, and a failed login counts even if it is rolled back; leave it first"
            )
        while True:
            row = self._of_address(email)
            hashed = "" if row is None else row.hashed_password
            fits, renewed = passwords.verified(password, hashed)  # takes long, so it runs outside a transaction
            with self.db.atomic():
                now = self._of_address(email)
                if now is None or not now.is_active or now.locked:
                    self._pretend()
                    return None
                if now.hashed_password != hashed:
                    continue  # another login has renewed the hash, or the password was changed
                if fits:
                    columns = {"hashed_password": renewed or hashed, "last_login_at": utcnow()}
                    return self._set(now.id, failed_logins=0, locked_until=None, **columns)
                failures = 1 if now.locked_until else now.failed_logins + 1
                locked = utcnow() + timedelta(seconds=seconds) if 0 < most <= failures else None
                self._set(now.id, failed_logins=failures, locked_until=locked)
                return None

    def _pretend(self) -> None:
        """Write as much as a failed login does, so that the time of the commit reveals nothing."""
        version = self.db.execute_sql("PRAGMA user_version").fetchone()[0]
        self.db.execute_sql(f"PRAGMA user_version = {int(version)}").fetchall()

    def _setting(self, name: str, given: object, default: int) -> Any:
        value = Settings(self.db).get(f"auth.{name}", default) if given is None else given
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10**9:
            raise InvalidArgument(f"{name} is {shown(value)}; give a number of at least 0 (setting 'auth.{name}')")
        return value

    # -- statements --------------------------------------------------------------------------------------------------

    def _of_address(self, email: str) -> User | None:
        row: User | None = User.get_or_none(User.email_key == folded(email))
        return row

    def _set(self, key: str, **columns: Any) -> User:
        if columns:
            User.update(columns).where(User.id == key).execute()
        return self.get(key)

    def _check_free(self, key: str, *, but: str | None = None) -> None:
        other = User.get_or_none(User.email_key == key)
        if other is not None and other.id != but:
            raise Conflict(f"the address {other.email} is that of user {other.id}; give another")


# The rows that refer to a user
THEIRS = {
    "sessions": "SELECT count(*) FROM analysis_sessions WHERE user_id = ?",
    "audits": "SELECT count(*) FROM audit_tasks WHERE user_id = ?",
    "prompts with results": """
        SELECT count(DISTINCT c.id) FROM configurations AS c JOIN analysis_results AS r ON r.configuration_id = c.id
         WHERE c.user_id = ?""",
}


# Arguments


def _hash_of(password: str | None, hashed_password: str | None) -> str:
    from scanstore.accounts import passwords  # start-up: hashes are rarely needed

    if (password is None) == (hashed_password is None):
        raise InvalidArgument("give either password or hashed_password")
    return passwords.hashed(password) if password is not None else passwords.checked_hash(hashed_password)


def _name(full_name: object) -> str | None:
    if full_name is None:
        return None
    if not isinstance(full_name, str) or len(full_name.strip()) > 255 or not full_name.isprintable():
        raise InvalidArgument(f"full_name is {shown(full_name)}; give one line of at most 255 characters")
    return full_name.strip() or None


def _role(role: object) -> str:
    if not isinstance(role, str) or not 1 <= len(role.strip()) <= 50 or not role.isprintable():
        raise InvalidArgument(f"role is {shown(role)}; give a word of at most 50 characters")
    return role.strip()
