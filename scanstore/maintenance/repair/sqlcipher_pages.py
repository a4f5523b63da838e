"""SQLCipher's pages, read without SQLCipher, which refuses a file at the first damaged page.

The format is that of https://www.zetetic.net/sqlcipher/design/ in version 4: each page is encrypted by itself with
AES-256 in CBC mode, and ends with its initialisation vector and a HMAC-SHA512 of both and of the page's number. The
keys are made of the passphrase and the salt, the first bytes of the file. A page that does not have its HMAC is not
read: its content has changed since it was written.

Change here: our knowledge of the format. Nothing in this file writes.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from scanstore.errors import InvalidArgument
from scanstore.maintenance.repair.sqlite_pages import SQLITE, Nonsense

try:
    from cryptography.hazmat.primitives.ciphers import Cipher as _Cipher
    from cryptography.hazmat.primitives.ciphers import algorithms, modes
except ImportError as missing:
    raise InvalidArgument(
        "to repair an encrypted store takes cryptography, which is not installed; pip install 'scanstore[encryption]'"
    ) from missing

SALT = 16  #: bytes in front of the first page
_VECTOR = 16
_RAW = re.compile(r"[xX]'([0-9a-fA-F]{64})([0-9a-fA-F]{32})?'")


class Cipher:
    """What turns the pages of one file into those of a plain one: `size` bytes each, of which `usable` are content."""

    size = 4096
    usable = 4096 - _VECTOR - 64

    def __init__(self, key: str, salt: bytes) -> None:
        given = _RAW.fullmatch(key)  # SQLCipher takes such a one as it is
        if given is None:
            secret = hashlib.pbkdf2_hmac("sha512", key.encode(), salt, 256_000, 32)
        else:
            secret, salt = bytes.fromhex(given[1]), bytes.fromhex(given[2] or "") or salt
        seal = bytes(byte ^ 0x3A for byte in salt)
        self._seal = hmac.new(hashlib.pbkdf2_hmac("sha512", secret, seal, 2, 32), digestmod="sha512")
        self._cipher = algorithms.AES256(secret)

    def page(self, number: int, data: bytes) -> bytes:
        """Return the page as it would be in a plain file; raises Nonsense when its checksum is wrong."""
        begin, end = SALT if number == 1 else 0, self.usable + _VECTOR
        seal = self._seal.copy()
        seal.update(data[begin:end] + number.to_bytes(4, "little"))
        if not hmac.compare_digest(seal.digest(), data[end:]):
            raise Nonsense
        content, vector = data[begin : self.usable], data[self.usable : end]
        plain = _Cipher(self._cipher, modes.CBC(vector)).decryptor().update(content)
        return (SQLITE if number == 1 else b"") + plain + data[self.usable :]
