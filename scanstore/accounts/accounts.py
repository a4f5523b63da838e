"""Accounts: who may log in, under which address, and who has tried too often.

One table of users, for everything that has an owner. Passwords are only ever here as hashes
(:mod:`scanstore.accounts.passwords`). Change here: what an account is, and what a login does to it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from scanstore.accounts.models import User, checked_email, folded, unknown, user_key
from scanstore.db.domain import Domain, List, long, reads
from scanstore.db.uuids import uuid7
from scanstore.db.values import utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, shown
from scanstore.settings import Settings

MAX_FAILURES = 5  # in a row, unless the setting "auth.max_failures" says otherwise
LOCKOUT = 900  # seconds, unless the setting "auth.lockout_seconds" does


class Accounts(Domain):
    """Users, their passwords and logins. Where a user is wanted, a row, an id or an address will do."""

    # -- who there is ------------------------------------------------------------------------------------------------

    def add(
        self,
        email: str,
        *,
        password: str | None = None,
        hashed_password: str | None = None,
        full_name: str | None = None,
        role: str = "user",
    ) -> User:
        """Add a user; without a password or hash, logging in is refused. Atomic.

        The address is kept as given, and is taken when another differs in case only. A password of 8 characters or
        more is hashed, which needs ``scanstore[auth]``. A ready-made hash may be one of Argon2 or bcrypt, or of scrypt
        or PBKDF2 for programs that verify those themselves.

        Raises InvalidArgument, also for a plain password where a hash belongs, and Conflict for an address that is
        taken.
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
    def get(self, user: User | str | uuid.UUID) -> User:
        """The user of that id or address, as it is now. Raises NotFound."""
        row = self._found(user)
        if row is None:
            raise unknown(str(user.id if isinstance(user, User) else user))
        return row

    @reads
    def find(self, email: str) -> User | None:
        """The user of that address in any case, or None."""
        row: User | None = User.get_or_none(User.email_key == folded(email))
        return row

    @reads
    def list(self, *, active: bool | None = None, role: str | None = None) -> List[User]:
        """The users, by address: all, those who may or may not log in, those of a role."""
        query = User.select().order_by(User.email_key)
        if active is not None:
            query = query.where(User.is_active == bool(active))
        if role is not None:
            query = query.where(User.role == _role(role))
        return list(query)

    def update(
        self,
        user: User | str | uuid.UUID,
        *,
        email: str | None = None,
        full_name: str | None = None,
        role: str | None = None,
    ) -> User:
        """Change the given columns and return the row; an empty ``full_name`` removes it. Atomic.

        Raises InvalidArgument, NotFound, and Conflict for an address that is taken.
        """
        columns: dict[str, Any] = {}
        if email is not None:
            columns.update(email=checked_email(email), email_key=folded(email))
        if full_name is not None:
            columns["full_name"] = _name(full_name)
        if role is not None:
            columns["role"] = _role(role)
        with self.db.atomic():
            row = self.get(user)
            if email is not None:
                self._check_free(columns["email_key"], but=row.id)
            return self._set(row.id, **columns)

    def remove(self, user: User | str | uuid.UUID) -> None:
        """Remove a user and their prompts. Atomic.

        Raises NotFound, and IllegalMove when something was done in their name: then they can be deactivated.
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
            for sql in ("DELETE FROM configurations WHERE user_id = ?", "DELETE FROM users WHERE id = ?"):
                self.db.execute_sql(sql, (row.id,))

    # -- who may log in ----------------------------------------------------------------------------------------------

    def set_password(
        self, user: User | str | uuid.UUID, password: str | None = None, *, hashed_password: str | None = None
    ) -> User:
        """Set a password, or a ready-made hash, as for :meth:`add`; a lock-out ends. Raises NotFound, InvalidArgument.

        It does not bring a deactivated account back.
        """
        key = self.get(user).id
        hashed = _hash_of(password, hashed_password)
        return self._set(key, hashed_password=hashed, failed_logins=0, locked_until=None)

    def deactivate(self, user: User | str | uuid.UUID) -> User:
        """Refuse further logins of this user; their data stays. Idempotent. Raises NotFound."""
        return self._set(self.get(user).id, is_active=False)

    def activate(self, user: User | str | uuid.UUID) -> User:
        """Let this user log in again; a lock-out ends. Idempotent. Raises NotFound."""
        return self._set(self.get(user).id, is_active=True, failed_logins=0, locked_until=None)

    @long
    def authenticate(
        self, email: str, password: str, *, max_failures: int | None = None, lockout_seconds: float | None = None
    ) -> User | None:
        """The user of that address and password, or None, which never says why.

        An unknown address takes the work of a known one. After ``max_failures`` failures in a row (default: the setting
        "auth.max_failures", else 5; 0: never) the account is locked for ``lockout_seconds`` (default: the setting
        "auth.lockout_seconds", else 900), against the right password too; however many try at once, no more of them
        learn whether they were right. An outdated hash, such as bcrypt's, is replaced by a current one.

        Raises InvalidArgument for a value that is not text and where ``scanstore[auth]`` is missing, and IllegalMove
        inside a transaction: a failure must be counted even if that is rolled back.
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
            row = self.find(email)
            hashed = "" if row is None else row.hashed_password
            fits, renewed = passwords.verified(password, hashed)  # takes long, so others may write meanwhile
            with self.db.atomic():
                now = self.find(email)
                if now is None or not now.is_active or now.locked:
                    self._pretend()
                    return None
                if now.hashed_password != hashed:
                    continue  # another login has renewed it, or the password is another
                if fits:
                    columns = {"hashed_password": renewed or hashed, "last_login_at": utcnow()}
                    return self._set(now.id, failed_logins=0, locked_until=None, **columns)
                failures = 1 if now.locked_until else now.failed_logins + 1
                locked = utcnow() + timedelta(seconds=seconds) if 0 < most <= failures else None
                self._set(now.id, failed_logins=failures, locked_until=locked)
                return None

    def _pretend(self) -> None:
        """Write as much as a failure does, so that the time of a commit tells nothing."""
        version = self.db.execute_sql("PRAGMA user_version").fetchone()[0]
        self.db.execute_sql(f"PRAGMA user_version = {int(version)}").fetchall()

    def _setting(self, name: str, given: object, default: int) -> Any:
        value = Settings(self.db).get(f"auth.{name}", default) if given is None else given
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10**9:
            raise InvalidArgument(f"{name} is {shown(value)}; give a number of at least 0 (setting 'auth.{name}')")
        return value

    # -- statements --------------------------------------------------------------------------------------------------

    def _found(self, user: Any) -> User | None:
        if isinstance(user, str) and "@" in user:
            return self.find(user)
        row: User | None = User.get_or_none(User.id == user_key(user))
        return row

    def _set(self, key: str, **columns: Any) -> User:
        if columns:
            User.update(columns).where(User.id == key).execute()
        return self.get(key)

    def _check_free(self, key: str, *, but: str | None = None) -> None:
        other = User.get_or_none(User.email_key == key)
        if other is not None and other.id != but:
            raise Conflict(f"the address {other.email} is that of user {other.id}; give another")


# What would be left without its user
THEIRS = {
    "sessions": "SELECT count(*) FROM analysis_sessions WHERE user_id = ?",
    "audits": "SELECT count(*) FROM audit_tasks WHERE user_id = ?",
    "prompts with results": """
        SELECT count(DISTINCT c.id) FROM configurations AS c JOIN analysis_results AS r ON r.configuration_id = c.id
         WHERE c.user_id = ?""",
}


# What is given


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
