"""Password hashing, with ``argon2-cffi`` and ``bcrypt`` of the extra ``auth``, which only this module imports, on first
use.

New hashes are Argon2id with the parameters that the library recommends. Existing bcrypt hashes verify too. A hash
contains the memory and time that its verification takes. Because a hash may come from an untrusted dump or store, a
hash above the limits below is neither stored nor verified. Change here: which passwords are accepted, how they are
hashed, and the limits.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from scanstore.errors import InvalidArgument

SHORTEST = 8  # characters
LONGEST = 1024  # bytes
BCRYPT_BYTES = 72  # bcrypt ignores the rest of a password
ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$(?:v=\d+\$)?m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
# Limits for verifying a hash. For comparison: the default Argon2id of this library takes 64 MiB and three passes.
MOST_MEMORY = 1 << 30  # bytes
MOST_WORK = 4 << 30  # bytes, over all passes
MOST_LANES = 64  # threads
MOST_ROUNDS = 10_000_000  # of PBKDF2 and SHA-crypt
MOST_BCRYPT = 16  # the binary logarithm of its rounds
LONGEST_HASH = 255  # characters
OTHERS = re.compile(r"\$(?:scrypt|bcrypt-sha256|pbkdf2(?:-sha\d+)?|yescrypt|7|y|gy|5|6)\$[!-~]{20,}")
MEMORY_HARD = re.compile(r"\$argon2(?:id|i|d)\$(?:v=\d+\$)?m=(\d+),t=(\d+),p=(\d+)")
SCRYPT = re.compile(r"\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)")
CRYPT_SCRYPT = re.compile(r"\$7\$([./0-9A-Za-z])([./0-9A-Za-z]{5})([./0-9A-Za-z]{5})")
YESCRYPT = re.compile(r"\$g?y\$[./0-9A-Za-z]([./0-9A-Za-z])([./0-9A-Za-z])")
BCRYPT_COST = re.compile(r"\$(?:2[aby]\$|bcrypt-sha256\$(?:v=\d+,t=2[aby],r=|2[aby],))(\d+)")
ROUNDS = re.compile(r"\$(?:pbkdf2(?:-sha\d+)?\$(?:i=)?|[56]\$rounds=)(\d+)")
DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # of crypt(5)
WITHOUT = "pip install 'scanstore[auth]', or give hashed_password"


def checked(password: object) -> str:
    """Return a valid password. Raises InvalidArgument, with a message that never contains the password."""
    if not isinstance(password, str):
        raise InvalidArgument(f"password is of type {type(password).__name__}; give text")
    if not password.strip() or "\0" in password or _bytes(password) is None:
        raise InvalidArgument("password is empty, blank or holds characters that are not valid Unicode; give another")
    if len(password) < SHORTEST:
        raise InvalidArgument(f"password has {len(password)} characters; give at least {SHORTEST}")
    if len(password.encode()) > LONGEST:
        raise InvalidArgument(f"password has {len(password.encode())} bytes; give at most {LONGEST}")
    return password


def checked_hash(hashed: object) -> str:
    """Return a valid hash. Raises InvalidArgument for a text that is not a hash, such as a plain password, and for a
    hash above the limits.
    """
    if isinstance(hashed, str) and len(hashed) <= LONGEST_HASH:
        if any(kind.fullmatch(hashed) for kind in (ARGON2, BCRYPT, OTHERS)):
            refuse_excess(hashed, "hashed_password")
            return hashed
    raise InvalidArgument(
        "hashed_password is no hash that is known ($argon2id$…, $2b$…, $scrypt$…, $pbkdf2-sha256$…);"
        " a plain password is never stored: give password, and it is hashed"
    )


def refuse_excess(hashed: object, what: str) -> None:
    """Raise InvalidArgument for a hash whose verification takes more memory or time than the limits. Accepts all other
    values.
    """
    if isinstance(hashed, bytes):  # SQLite stores bytes, and Peewee reads them as text
        hashed = hashed.decode("latin-1")
    found = excess(hashed) if isinstance(hashed, str) else None
    if found is not None:
        raise InvalidArgument(
            f"{what} asks for {found} to be verified; at most {MOST_MEMORY >> 20:,} MiB, {MOST_WORK >> 20:,} MiB over"
            f" all passes, {MOST_LANES} lanes, {MOST_ROUNDS:,} rounds and a cost of {MOST_BCRYPT} for bcrypt are"
            " accepted; hash the password with smaller parameters"
        )


def excess(hashed: str) -> str | None:
    """Return the cost of a hash that exceeds the limits, as text, or None. Never raises."""
    if len(hashed) > LONGEST_HASH:
        return f"{len(hashed):,} characters to be read"
    memory, passes, lanes = 0, 1, 1
    if found := MEMORY_HARD.match(hashed):
        memory, passes, lanes = (int(each) for each in found.groups())
        memory *= 1024
    elif found := SCRYPT.match(hashed):
        power, block, passes = (int(each) for each in found.groups())
        memory = block << min(power + 7, 99)
    elif found := CRYPT_SCRYPT.match(hashed):
        power, block, passes = (_number(each) for each in found.groups())
        memory = block << min(power + 7, 99)
    elif found := YESCRYPT.match(hashed):
        power, block = (_number(each) + 1 for each in found.groups())
        if max(power, block) > 48:  # the format continues with more digits
            return "more memory than can be read from it"
        memory = block << power + 7
    elif found := BCRYPT_COST.match(hashed):
        return f"a bcrypt cost of {int(found[1])}" if int(found[1]) > MOST_BCRYPT else None
    elif found := ROUNDS.match(hashed):
        return f"{int(found[1]):,} rounds" if int(found[1]) > MOST_ROUNDS else None
    if memory > MOST_MEMORY:
        return f"{memory >> 20:,} MiB of memory"
    if memory * passes > MOST_WORK:
        return f"{memory * passes >> 20:,} MiB over all passes"
    return f"{lanes:,} lanes" if lanes > MOST_LANES else None


def _number(digits: str) -> int:
    """Decode a number of crypt(5), lowest digit first."""
    return sum(DIGITS.index(digit) << 6 * place for place, digit in enumerate(digits))


def hashed(password: str) -> str:
    """Hash a password. Raises InvalidArgument for an invalid password, or if the library is missing."""
    return str(_hasher().hash(checked(password)))


def verified(password: str, hashed: str) -> tuple[bool, str | None]:
    """Return whether the password matches the hash, and a new hash if this one is outdated.

    An empty hash, one of an unsupported kind, or one above the limits never matches, and takes as long as a current
    one.
    """
    given = _bytes(password) or b""
    if excess(hashed) is None and 0 < len(given) <= LONGEST and b"\0" not in given:
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
    except ValueError:  # an invalid cost
        return False, None
    # bcrypt ignores the end of a long password. It may be wrong, so it must not become part of the new hash.
    return fits, str(_hasher().hash(password)) if fits and len(given) <= BCRYPT_BYTES else None


def _nobodys() -> str:
    """Return a hash with current parameters that matches no known password, without the cost of hashing."""
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
