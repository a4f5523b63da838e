"""Passwords: the only module that knows what hashes them, ``argon2-cffi`` and ``bcrypt``, an extra that is loaded when
first needed.

New hashes are Argon2id with the parameters that the library recommends; those of bcrypt, which others have made, verify
too. Change here: which passwords are taken, and how they are hashed.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from scanstore.errors import InvalidArgument

SHORTEST = 8  # characters
LONGEST = 1024  # bytes
BCRYPT_BYTES = 72  # what bcrypt takes of a password
ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$(?:v=\d+\$)?m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
OTHERS = re.compile(r"\$(?:scrypt|bcrypt-sha256|pbkdf2(?:-sha\d+)?|yescrypt|7|y|gy|5|6)\$[!-~]{20,}")
WITHOUT = "pip install 'scanstore[auth]', or give hashed_password"


def checked(password: Any) -> str:
    """Return a password that may be set; raise InvalidArgument, never with the password in it."""
    if not isinstance(password, str):
        raise InvalidArgument(f"password is of type {type(password).__name__}; give text")
    if not password.strip() or "\0" in password or _bytes(password) is None:
        raise InvalidArgument("password is empty, blank or holds what is no character; give another")
    if len(password) < SHORTEST:
        raise InvalidArgument(f"password has {len(password)} characters; give at least {SHORTEST}")
    if len(password.encode()) > LONGEST:
        raise InvalidArgument(f"password has {len(password.encode())} bytes; give at most {LONGEST}")
    return password


def checked_hash(hashed: Any) -> str:
    """Return a hash that may be stored; raise InvalidArgument for what looks like none, such as a plain password."""
    if isinstance(hashed, str) and len(hashed) <= 255:
        if any(kind.fullmatch(hashed) for kind in (ARGON2, BCRYPT, OTHERS)):
            return hashed
    raise InvalidArgument(
        "hashed_password is no hash that is known ($argon2id$…, $2b$…, $scrypt$…, $pbkdf2-sha256$…);"
        " a plain password is never stored: give password, and it is hashed"
    )


def hashed(password: str) -> str:
    """Hash a password. Raises InvalidArgument for one that may not be set, and where the library is missing."""
    return str(_hasher().hash(checked(password)))


def verified(password: str, hashed: str) -> tuple[bool, str | None]:
    """Whether the password is the one of this hash, and a new hash to keep when this one is outdated.

    A hash that is empty, or of a kind that cannot be verified here, takes the work of a current one and never fits.
    """
    given = _bytes(password) or b""
    if 0 < len(given) <= LONGEST and b"\0" not in given:
        if BCRYPT.fullmatch(hashed):
            return _by_bcrypt(password, given, hashed)
        if ARGON2.fullmatch(hashed):
            outdated = (fits := _by_argon2(password, hashed)) and _hasher().check_needs_rehash(hashed)
            return fits, str(_hasher().hash(password)) if outdated else None
    _by_argon2("x", _nobodys())
    return False, None


def _by_argon2(password: str, hashed: str) -> bool:
    hasher = _hasher()
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return bool(hasher.verify(hashed, password))
    except (VerificationError, InvalidHashError):
        return False


def _by_bcrypt(password: str, given: bytes, hashed: str) -> tuple[bool, str | None]:
    try:
        import bcrypt
    except ImportError as error:
        raise _missing("bcrypt") from error
    try:
        fits = bcrypt.checkpw(given[:BCRYPT_BYTES], hashed.encode())
    except ValueError:  # a cost that there is not
        return False, None
    # What bcrypt never looked at may be wrong, so it must not become part of the new hash.
    return fits, str(_hasher().hash(password)) if fits and len(given) <= BCRYPT_BYTES else None


def _nobodys() -> str:
    """A hash of today's parameters that no password is known for, made without the work of hashing."""
    hasher = _hasher()
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${'A' * 22}${'A' * 43}"


def _bytes(password: str) -> bytes | None:
    try:
        return password.encode()
    except UnicodeEncodeError:
        return None


@cache
def _hasher() -> Any:
    try:
        import argon2
    except ImportError as error:
        raise _missing("argon2-cffi") from error
    return argon2.PasswordHasher()


def _missing(library: str) -> InvalidArgument:
    return InvalidArgument(f"passwords cannot be hashed or verified without the {library} library; {WITHOUT}")
