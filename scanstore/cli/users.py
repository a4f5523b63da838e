"""`scanstore users`: accounts and their passwords."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import Misuse, basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, listing, tell, window
from scanstore.cli.streams import secret

if TYPE_CHECKING:
    from scanstore.accounts.models import User


@group
def users() -> None:
    """Manage accounts."""


def _state(user: User) -> str:
    if not user.is_active:
        return "deactivated"
    if user.locked:
        return f"locked until {user.locked_until:%Y-%m-%d %H:%M} UTC"
    return "active" if user.hashed_password else "no password"


def _login(user: User) -> str:
    return f"last login {user.last_login_at:%Y-%m-%d %H:%M} UTC" if user.last_login_at else "never logged in"


COLUMNS: Columns[User] = (
    "email",
    Column("name", "full_name"),
    "role",
    Column("state", _state),
    Column("login", _login, key="last_login_at"),
)


def _told(user: User, what: str) -> None:
    tell(user, f"{what} {user.email}: {_state(user)}")


STDIN = click.option("--password-stdin", is_flag=True, help="Read it from the first line of standard input.")


@users.command()
@click.argument("email")
@click.option("--name", metavar="TEXT", help="The full name.")
@click.option("--role", default="user", show_default=True, metavar="ROLE", help="The role of the user.")
@click.option("--password", is_flag=True, help="Ask for a password. Without one, logging in is refused.")
@STDIN
@basic_options
@kept()
def add(email: str, name: str | None, role: str, password: bool, password_stdin: bool) -> None:
    """Add a user. Creates the store if it is missing.

    A password is never an argument, because other users could see it. It needs at least 8 characters, and the extra
    scanstore[auth].

    \b
    Example:
      scanstore users add ada@example.org --name "Ada Lovelace" --password
      scanstore users add bob@example.org --role admin --password-stdin < secret.txt
    """
    if password and password_stdin:
        raise Misuse("give --password or --password-stdin, not both")
    given = secret("Password", piped=password_stdin) if password or password_stdin else None
    with open_store(create=True) as store:
        _told(store.accounts.add(email, password=given, full_name=name, role=role), "Added")


@users.command("list")
@click.option("--active/--deactivated", default=None, help="Only active or deactivated users.")
@click.option("--role", metavar="ROLE", help="Only users with this role.")
@rows_options("email", "name", "role", "state", "login")
@basic_options
def list_(active: bool | None, role: str | None) -> None:
    """List the users, by address.

    \b
    Example:
      scanstore users list
      scanstore users list --active --role admin
    """
    with open_store() as store:
        found = store.accounts.list(active=active, role=role, **window(parts.models.User, COLUMNS))
        listing(found, COLUMNS, none("users", "add one with: scanstore users add EMAIL"))


@users.command()
@click.argument("user")
@STDIN
@basic_options
@kept()
def passwd(user: str, password_stdin: bool) -> None:
    """Set the password of USER, an address or an id. The command asks for it without showing it. A lockout ends.

    \b
    Example:
      scanstore users passwd ada@example.org
      scanstore users passwd ada@example.org --password-stdin < secret.txt
    """
    with open_store(write=True) as store:
        row = store.accounts.get(user)  # an unknown user is refused before the password is asked for
        given = secret("Password", piped=password_stdin)
        _told(store.accounts.set_password(row, given), "Set the password of")


@users.command()
@click.argument("user")
@basic_options
@kept()
def deactivate(user: str) -> None:
    """Deactivate USER, who can no longer log in. Their data stays.

    \b
    Example:
      scanstore users deactivate ada@example.org
    """
    with open_store(write=True) as store:
        _told(store.accounts.deactivate(user), "User")


@users.command()
@click.argument("user")
@basic_options
@kept()
def activate(user: str) -> None:
    """Activate USER, who can log in again. A lockout ends.

    \b
    Example:
      scanstore users activate ada@example.org
    """
    with open_store(write=True) as store:
        _told(store.accounts.activate(user), "User")


@users.command()
@click.argument("user")
@basic_options
@kept()
def remove(user: str) -> None:
    """Remove USER, who must have no sessions or audits.

    \b
    Example:
      scanstore users remove ada@example.org
    """
    with open_store(write=True) as store:
        store.accounts.remove(user)
        tell({"removed": user}, f"Removed user {user}")
