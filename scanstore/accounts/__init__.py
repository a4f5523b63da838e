"""Accounts: users, logins with hashed passwords, and a limit on failed logins.

``accounts`` has the login rules, ``models`` the row of a user and its checks, ``passwords`` the hashing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.accounts.accounts import Accounts
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"accounts": ("Accounts",)},
    )

__all__ = ["Accounts"]
