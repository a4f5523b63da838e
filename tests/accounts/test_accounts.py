"""Accounts: one for each address, passwords that nobody sees, and logins that give nothing away."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import argon2
import bcrypt
import pytest
from click.testing import CliRunner, Result
from stressing import LONG

from scanstore import Conflict, IllegalMove, InvalidArgument, NotFound, ReadOnly, Store, WrongStore
from scanstore.accounts import passwords
from scanstore.accounts.models import folded, user_key
from scanstore.cli import main
from scanstore.db.values import utcnow
from scanstore.models import User

ADA, RIGHT, WRONG = "Ada@Example.org", "correct horse", "battery staple"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing that takes no time; nothing here depends on how much it takes."""
    monkeypatch.setattr(passwords, "_hasher", lambda: CHEAP)


@pytest.fixture
def ada(store: Store) -> User:
    return store.accounts.add(ADA, password=RIGHT, full_name="Ada Lovelace")


def login(store: Store, password: str = RIGHT, **options: Any) -> bool:
    return store.accounts.authenticate(ADA, password, **options) is not None


# -- who there is ------------------------------------------------------------------------------------------------


def test_a_user_has_the_fields_and_defaults_of_the_documents(store: Store) -> None:
    user = User.get_by_id(User.create(email=ADA).id)
    assert (user.email, user.email_key, user.hashed_password) == (ADA, "ada@example.org", "")
    assert (user.full_name, user.role, user.is_active) == (None, "user", True)
    assert user.created_at.tzinfo is not None and user.updated_at == user.created_at
    raw = "INSERT INTO users (id, email, email_key, hashed_password) VALUES (?, 'b@c', 'b@c', '')"
    store.database.execute_sql(raw, ("0" * 8 + "-0000-4000-8000-" + "0" * 12,))
    other = store.accounts.get("b@c")
    assert (other.role, other.is_active, other.failed_logins) == ("user", True, 0)
    assert store.check() == []


def test_a_user_is_found_by_row_id_and_address(store: Store, ada: User) -> None:
    for given in (ada, ada.id, uuid.UUID(ada.id), ADA, " ada@EXAMPLE.org "):
        assert store.accounts.get(given).id == ada.id
        assert store.accounts.find(given) == ada
    for missing in ("bob@example.org", str(uuid.uuid4()), uuid.uuid4()):
        with pytest.raises(NotFound, match="no user .*scanstore users list"):
            store.accounts.get(missing)
        assert store.accounts.find(missing) is None
    for wrong in ("ada", "", 5, True, None, b"x"):
        for call in (store.accounts.get, store.accounts.find, store.accounts.activate, store.accounts.remove):
            with pytest.raises(InvalidArgument, match="is not a user; give a row or its id, a UUID, or an address"):
                call(wrong)  # type: ignore[arg-type]
    assert user_key(store.database, ada) == user_key(store.database, ADA) == ada.id
    with pytest.raises(NotFound, match="no user"):
        user_key(store.database, uuid.uuid4())
    with Store(":memory:") as other, pytest.raises(WrongStore):
        other.accounts.get(ada)


def calls_about_a_user(store: Store) -> list[Callable[[Any], object]]:
    """Each call that expects a user, of every domain, without those that remove it."""
    store.accounts.get(ADA)
    accounts, sessions, audits = store.accounts, store.sessions, store.audits
    return [
        accounts.get, accounts.find, accounts.deactivate, accounts.activate, accounts.update,
        lambda user: accounts.set_password(user, RIGHT),
        lambda user: sessions.add(user, "contracts"), lambda user: sessions.list(user=user),
        lambda user: sessions.stats(user=user),
        lambda user: sessions.prompts.add(user, "summary", "Short."), lambda user: sessions.prompts.list(user),
        lambda user: sessions.prompts.list(user, type="other"), lambda user: sessions.prompts.get(user, "summary"),
        lambda user: sessions.prompts.find(user, "summary"), lambda user: sessions.prompts.restore(user, "summary", 1),
        lambda user: sessions.prompts.set_default(user, "summary", 1),
        lambda user: audits.add(user, "a.pdf", 1), lambda user: audits.list(user=user),
        lambda user: audits.list(user=user, queue="other"), lambda user: audits.stats(user=user),
    ]  # fmt: skip


def test_every_call_accepts_a_user_by_row_id_and_address(store: Store, ada: User) -> None:
    store.accounts.add("bob@x.org")
    for call in calls_about_a_user(store):
        for given in (ada, ada.id, uuid.UUID(ada.id), " ada@EXAMPLE.org "):
            call(given)
    for given in (ada, ADA):
        assert [row.user_id for row in store.sessions.list(user=given)] == [ada.id] * 4
        assert [row.user_id for row in store.audits.list(user=given)] == [ada.id] * 4
        assert len(store.sessions.prompts.list(given)) == 1
        assert sum(store.sessions.stats(user=given).sessions.values()) == store.audits.stats(user=given).tasks["queued"]
    assert store.sessions.list(user="bob@x.org") == [] == store.audits.list(user="bob@x.org")
    assert store.check() == []


def test_every_call_refuses_a_wrong_user_with_the_same_error(store: Store, ada: User) -> None:
    missing: tuple[Any, ...] = ("bob@x.org", str(uuid.uuid4()), uuid.uuid4(), "@", "a@b@c")
    for call in calls_about_a_user(store):
        for given in missing:
            if call == store.accounts.find:
                assert call(given) is None
                continue
            with pytest.raises(NotFound) as caught:
                call(given)
            assert str(caught.value) == (
                f"no user {given}; store.accounts.list() (scanstore users list) lists all users"
            )
        for given in ("ada", "", 5, True, b"x", ["a@b"], float("nan")):
            with pytest.raises(InvalidArgument) as refused:
                call(given)
            assert str(refused.value) == f"{given!r} is not a user; give a row or its id, a UUID, or an address"
        for given in ("a@\0", "a@\ud800"):
            with pytest.raises(InvalidArgument, match="email is"):
                call(given)
        with Store(":memory:") as other:
            stranger = other.accounts.add("a@b.c")
        with store.bound(), pytest.raises(WrongStore):
            call(stranger)
    assert store.sessions.list() == [] == store.audits.list()


def test_lists_have_a_window_and_an_order(store: Store, ada: User) -> None:
    store.accounts.add("bob@x.org", role="admin")
    store.accounts.add("cid@x.org")

    def names(**options: Any) -> str:
        return "".join(row.email[0].lower() for row in store.accounts.list(**options))

    assert (names(), names(limit=1), names(offset=1), names(limit=0)) == ("abc", "a", "bc", "")
    assert (names(sort="-email_key"), names(sort="id", limit=2)) == ("cba", "ab")
    store.accounts.deactivate(ada)
    assert (names(active=True), names(active=False), names(role="admin", active=True)) == ("bc", "a", "b")
    for options in ({"limit": -1}, {"offset": True}, {"sort": "hashed_password"}, {"active": "no"}, {"role": ""}):
        with pytest.raises(InvalidArgument, match=f"{next(iter(options))} is|cannot be sorted by"):
            names(**options)


def test_removing_counts_the_rows(store: Store, ada: User) -> None:
    store.sessions.prompts.add(ada, "summary", "one")
    store.sessions.prompts.add(ada, "summary", "two")
    assert store.accounts.remove(ADA) == {"configurations": 2, "users": 1}
    assert store.accounts.remove(store.accounts.add("bob@x.org")) == {"users": 1}
    with pytest.raises(NotFound):
        store.accounts.remove(ada)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Ada@Example.org", "ada@EXAMPLE.ORG"),
        ("stra\u00dfe@x.org", "STRASSE@x.org"),
        ("\ufb01re@x.org", "FIRE@x.org"),  # a ligature
        ("e\u0301a@x.org", "\u00c9A@x.org"),  # an accent of its own
        ("ada@x.org", "\uff21da@x.org"),  # full width
        ("tel@x.org", "\u2121@x.org"),  # one sign for three capitals
    ],
)
def test_an_address_is_taken_in_other_case_too(store: Store, first: str, second: str) -> None:
    user = store.accounts.add(f"  {first} ")
    assert user.email == first and folded(first) == folded(second)
    with pytest.raises(Conflict, match=f"the address {first} is that of user {user.id}; give another"):
        store.accounts.add(second)
    other = store.accounts.add("other@x.org")
    with pytest.raises(Conflict, match="give another"):
        store.accounts.update(other, email=second)
    with pytest.raises(Conflict):  # whoever writes rows by hand
        User.create(email=second)
    assert store.accounts.update(user, email=second).email == second  # its own
    assert len(store.accounts.list()) == 2 and store.check() == []


BAD_EMAILS = [
    "",
    "  ",
    "ada",
    "@",
    "a@",
    "@b",
    "a@b@c",
    "a b@c",
    "a@b\tc",
    "a@b\0",
    "a@b\u200b",
    "a\uff20b",
    "x@" + "y" * 254,
]


@pytest.mark.parametrize("email", [*BAD_EMAILS, None, 5, b"a@b"], ids=ascii)
def test_bad_addresses_are_refused(store: Store, ada: User, email: Any) -> None:
    with pytest.raises(InvalidArgument, match="give an address like"):
        store.accounts.add(email)
    if email is not None:
        with pytest.raises(InvalidArgument, match="give an address like"):
            store.accounts.update(ada, email=email)
    with pytest.raises(InvalidArgument):
        User.create(email=email)
    assert [user.email for user in store.accounts.list()] == [ADA]


@pytest.mark.parametrize(
    "wrong",
    [
        {"full_name": 5},
        {"full_name": "x" * 256},
        {"role": ""},
        {"role": " "},
        {"role": "x" * 51},
        {"role": 1},
        {"role": "\ud800"},
        {"full_name": "a\0b"},
    ],
)
def test_bad_names_and_roles_are_refused(store: Store, ada: User, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        store.accounts.add("b@x.org", **wrong)
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        store.accounts.update(ada, **wrong)
    assert len(store.accounts.list()) == 1 and store.accounts.get(ada).full_name == "Ada Lovelace"


def test_update_changes_what_is_given(store: Store, ada: User) -> None:
    row = store.accounts.update(ada, email="ada@x.org", role="admin")
    assert (row.email, row.email_key, row.role, row.full_name) == ("ada@x.org", "ada@x.org", "admin", "Ada Lovelace")
    assert store.accounts.update(row, full_name="").full_name is None
    assert store.accounts.update(row).role == "admin"
    row.email = " Again@X.org"
    row.save()
    assert row.email == "Again@X.org" and User.get(User.email.contains("again")) == row == User.get(
        User.email == row.email
    )
    assert store.accounts.get("again@x.org").id == ada.id
    assert store.check() == []


def test_lists(store: Store, ada: User) -> None:
    bob = store.accounts.add("bob@x.org", role="admin")
    store.accounts.deactivate(bob)
    names = lambda **which: [user.email for user in store.accounts.list(**which)]  # noqa: E731
    assert names() == [ADA, "bob@x.org"]
    assert names(active=True) == [ADA] and names(active=False) == ["bob@x.org"]
    assert names(role="admin") == ["bob@x.org"] and names(role="admin", active=True) == []


def test_a_user_with_work_cannot_be_removed_and_can_be_deactivated(store: Store, ada: User) -> None:
    session = store.sessions.add(ada, "first")
    task = store.audits.add(ada, "report.pdf", 10)
    prompt = store.sessions.prompts.add(ada, "summary", "Summarise.")
    with pytest.raises(IllegalMove, match="has sessions .1.; deactivate the account instead"):
        store.accounts.remove(ada)
    store.accounts.deactivate(ada)
    assert store.sessions.get(session.id).user_id == ada.id
    store.sessions.remove(session)
    with pytest.raises(IllegalMove, match="has audits .1.; deactivate"):
        store.accounts.remove(ADA)
    with pytest.raises(Conflict):  # whoever deletes rows by hand
        ada.delete_instance()
    with pytest.raises(Conflict):
        store.database.execute_sql("DELETE FROM users")
    assert store.accounts.get(ada).id == ada.id and list(ada.configurations) == [prompt]
    assert list(ada.tasks) == [task] and list(ada.sessions) == []
    store.audits.remove(task)
    store.accounts.remove(ada)
    assert store.accounts.list() == [] and store.check() == []
    with pytest.raises(NotFound):
        store.accounts.remove(ada)


def test_a_user_whose_prompt_others_have_used_stays(store: Store, ada: User) -> None:
    prompt = store.sessions.prompts.add(ada, "summary", "Summarise.")
    session = store.sessions.add(store.accounts.add("bob@x.org"), "first")
    store.sessions.results.add(session, analysis_type="summary", result_content="x", configuration=prompt)
    with pytest.raises(IllegalMove, match="has prompts with results .1.; deactivate"):
        store.accounts.remove(ada)
    store.sessions.remove(session)
    store.accounts.remove(ada)
    assert store.check() == []


# -- passwords ---------------------------------------------------------------------------------------------------

BAD_PASSWORDS = ["", "short", "1234567", " " * 20, "\t\n" * 8, "12345678\0", "\ud800" * 8, "x" * 1025, "é" * 513]


@pytest.mark.parametrize("password", [*BAD_PASSWORDS, 12345678, b"12345678", ["12345678"]], ids=ascii)
def test_bad_passwords_are_refused_and_not_repeated(store: Store, ada: User, password: Any) -> None:
    before = ada.hashed_password
    for use in (
        lambda: store.accounts.add("b@x.org", password=password),
        lambda: store.accounts.set_password(ada, password),
    ):
        with pytest.raises(InvalidArgument, match="password") as caught:
            use()
        assert len(str(password)) < 8 or str(password) not in str(caught.value)
    assert store.accounts.get(ada).hashed_password == before and len(store.accounts.list()) == 1


@pytest.mark.parametrize("password", ["12345678", "é" * 512, "x" * 1024, "  spaces are kept  ", "パスワードです。"])
def test_any_other_password_will_do(store: Store, password: str) -> None:
    store.accounts.add(ADA, password=password)
    assert login(store, password) and not login(store, password + " ")


HASHES = [
    HASH,
    "$2b$12$" + "a" * 53,
    "$2a$04$" + "." * 53,
    "$2y$10$" + "Z" * 53,
    "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
    "$pbkdf2-sha256$29000$N2YMIWQsBWBMae09x1jrPQ$1t8iyB2A.WF/Z5JZv.lfCIhXXN33N23OSgQYThBYRfk",
]
NO_HASHES = [
    "correct horse", "", "$", "$2b$", "$2b$12$short", "$argon2id$", "$argon2id$hunter2", "hunter2$2b$", "$1$x",
    "$scrypt$", "$scrypt$a b c d e f g h i j k l m n", "$2b$12$" + "a" * 53 + "\n", "$5$" + "x" * 300, 5, b"$2b$",
]  # fmt: skip


@pytest.mark.parametrize("hashed", HASHES, ids=lambda h: h[:8])
def test_ready_made_hashes_are_taken(store: Store, hashed: str) -> None:
    user = store.accounts.add(ADA, hashed_password=hashed)
    assert store.accounts.get(user).hashed_password == hashed
    assert not login(store) and store.accounts.get(user).hashed_password == hashed


@pytest.mark.parametrize("plain", NO_HASHES, ids=ascii)
def test_plain_text_is_never_stored_as_a_hash(store: Store, ada: User, plain: Any) -> None:
    before = ada.hashed_password
    row = store.accounts.get(ada)
    row.hashed_password = plain
    uses: list[Callable[[], Any]] = [
        lambda: store.accounts.add("b@x.org", hashed_password=plain),
        lambda: store.accounts.set_password(ada, hashed_password=plain),
    ]
    if plain != "":  # by hand: nobody can log in
        uses += [
            lambda: User.create(email="b@x.org", hashed_password=plain),
            lambda: User.update(hashed_password=plain).execute(),
            row.save,
        ]
    for use in uses:
        with pytest.raises(InvalidArgument, match="hashed_password is no hash that is known") as caught:
            use()
        assert "hunter2" not in str(caught.value) and "horse" not in str(caught.value)
    assert store.accounts.get(ada).hashed_password == before and len(store.accounts.list()) == 1


def test_either_a_password_or_a_hash(store: Store, ada: User) -> None:
    for use in (
        lambda: store.accounts.add("b@x.org", password=RIGHT, hashed_password=HASH),
        lambda: store.accounts.set_password(ada, RIGHT, hashed_password=HASH),
        lambda: store.accounts.set_password(ada),
    ):
        with pytest.raises(InvalidArgument, match="give either password or hashed_password"):
            use()


def test_the_hash_is_shown_nowhere(store: Store, ada: User, caplog: pytest.LogCaptureFixture) -> None:
    assert ada.hashed_password.startswith("$argon2id$") and RIGHT not in ada.hashed_password
    with caplog.at_level(logging.DEBUG, "scanstore"):
        assert login(store) and not login(store, WRONG)
    with pytest.raises(Conflict) as caught:
        store.accounts.add(ADA, password=RIGHT)
    for text in (repr(ada), str(ada), json.dumps(ada.to_dict()), caplog.text, str(caught.value)):
        assert "$argon2" not in text and RIGHT not in text
    assert "hashed_password" not in ada.to_dict()
    assert ada.to_dict(secrets=True)["hashed_password"] == ada.hashed_password


@pytest.mark.parametrize("library", ["argon2", "bcrypt"])
def test_without_the_library_only_hashes_are_taken(
    store: Store, ada: User, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    hashed = CHEAP.hash(RIGHT) if library == "argon2" else bcrypt.hashpw(RIGHT.encode(), bcrypt.gensalt(4)).decode()
    store.accounts.add("b@x.org", hashed_password=hashed)
    monkeypatch.undo()
    passwords._hasher.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    uses: list[Callable[[], Any]] = [lambda: store.accounts.authenticate("b@x.org", RIGHT)]
    if library == "argon2":
        uses += [
            lambda: store.accounts.add("c@x.org", password=RIGHT),
            lambda: store.accounts.set_password(ada, RIGHT),
            lambda: store.accounts.authenticate("nobody@x.org", RIGHT),
        ]
    for use in uses:
        with pytest.raises(InvalidArgument, match=r"pip install 'scanstore\[auth\]', or give hashed_password"):
            use()
    assert store.accounts.add("d@x.org", hashed_password=HASH).hashed_password == HASH
    assert [user.email for user in store.accounts.list()] == [ADA, "b@x.org", "d@x.org"]
    assert all(user.failed_logins == 0 for user in store.accounts.list())
    passwords._hasher.cache_clear()


def test_the_library_is_loaded_when_it_is_needed(db_path: Path) -> None:
    code = """
import sys
from scanstore import Store
with Store(sys.argv[1]) as store:
    store.accounts.add("a@b", hashed_password=sys.argv[2])
    store.accounts.list()
    print({"argon2", "bcrypt"} & set(sys.modules))
    store.accounts.set_password("a@b", "correct horse")
    print({"argon2", "bcrypt"} & set(sys.modules))
"""
    out = subprocess.run([sys.executable, "-c", code, db_path, HASH], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["set()", "{'argon2'}"]


# -- logins ------------------------------------------------------------------------------------------------------


def test_a_login(store: Store, ada: User) -> None:
    user = store.accounts.authenticate(" ADA@example.org", RIGHT)
    assert user is not None and user.id == ada.id
    assert user.last_login_at is not None and utcnow() - user.last_login_at < timedelta(seconds=30)
    assert user.hashed_password == ada.hashed_password
    for password in (WRONG, RIGHT.upper(), RIGHT + " ", "", " ", "\0", "\ud800", "x" * 5000):
        assert not login(store, password, max_failures=0)
    assert store.accounts.authenticate("bob@example.org", RIGHT) is None
    assert store.accounts.authenticate("no address", RIGHT) is None
    for wrong in ((None, RIGHT), (ADA, None), (ADA, RIGHT.encode()), (5, RIGHT)):
        with pytest.raises(InvalidArgument, match="are text"):
            store.accounts.authenticate(*wrong)  # type: ignore[arg-type]
    assert store.check() == []


def test_nobody_logs_in_without_a_password_or_when_deactivated(store: Store, ada: User) -> None:
    store.accounts.add("b@x.org")
    assert store.accounts.authenticate("b@x.org", "") is None
    assert store.accounts.authenticate("b@x.org", RIGHT) is None
    assert not store.accounts.deactivate(ada).is_active and not store.accounts.deactivate(ada).is_active
    assert not login(store)
    store.accounts.set_password(ada, RIGHT)
    assert not login(store)
    assert store.accounts.activate(ada).is_active and login(store)


def test_every_failure_takes_the_work_of_a_login(store: Store, ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """One verification with today's parameters, and one commit that writes something, whatever the reason."""
    store.accounts.add("empty@x.org")
    store.accounts.add("other@x.org", hashed_password=HASHES[-1])
    store.accounts.deactivate(store.accounts.add("off@x.org", password=RIGHT))
    locked = store.accounts.add("locked@x.org", password=RIGHT)
    User.update(locked_until=utcnow() + timedelta(hours=1)).where(User.id == locked.id).execute()
    costs: list[argon2.Parameters] = []

    class Watched(argon2.PasswordHasher):
        def verify(self, hash: Any, password: Any) -> Any:
            costs.append(argon2.extract_parameters(hash))
            return super().verify(hash, password)

    watched = Watched(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: watched)
    log = Path(store.path + "-wal")
    for email, password in [
        (ADA, RIGHT), (ADA, WRONG), (ADA, ""), (ADA, "x" * 5000), ("nobody@x.org", RIGHT), ("empty@x.org", RIGHT),
        ("other@x.org", RIGHT), ("off@x.org", RIGHT), ("off@x.org", WRONG), ("locked@x.org", RIGHT), ("", RIGHT),
    ]:  # fmt: skip
        store.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        before = log.stat().st_size
        costs.clear()
        found = store.accounts.authenticate(email, password)
        assert (found is not None) == ((email, password) == (ADA, RIGHT))
        assert [(c.type, c.memory_cost, c.time_cost, c.parallelism) for c in costs] == [(argon2.Type.ID, 8, 1, 1)], (
            email
        )
        assert log.stat().st_size > before, email


def test_the_account_is_locked_after_some_failures(store: Store, ada: User) -> None:
    for n in range(1, 5):
        assert not login(store, WRONG)
        assert store.accounts.get(ada).failed_logins == n and not store.accounts.get(ada).locked
    assert not login(store, WRONG)
    row = store.accounts.get(ada)
    assert row.locked and abs(row.locked_until - utcnow() - timedelta(seconds=900)) < timedelta(seconds=30)
    assert not login(store) and not login(store, WRONG)
    assert store.accounts.get(ada).failed_logins == 5 and store.accounts.get(ada).locked_until == row.locked_until
    assert store.accounts.authenticate("bob@example.org", RIGHT) is None

    User.update(locked_until=utcnow() - timedelta(seconds=1)).execute()
    assert not login(store, WRONG)
    assert store.accounts.get(ada).failed_logins == 1 and store.accounts.get(ada).locked_until is None
    assert login(store)
    assert store.accounts.get(ada).failed_logins == 0
    assert store.check() == []


def test_a_login_that_goes_well_forgets_the_failures(store: Store, ada: User) -> None:
    for _ in range(3):
        for _ in range(4):
            assert not login(store, WRONG)
        assert login(store)


def test_a_new_password_and_activation_end_a_lock_out(store: Store, ada: User) -> None:
    for end in (lambda: store.accounts.set_password(ada, RIGHT), lambda: store.accounts.activate(ada)):
        assert not login(store, WRONG, max_failures=1) and not login(store)
        end()
        assert store.accounts.get(ada).failed_logins == 0 and login(store)


def test_how_many_failures_can_be_set(store: Store, ada: User) -> None:
    store.settings["auth.max_failures"], store.settings["auth.lockout_seconds"] = 2, 60
    assert not login(store, WRONG) and not login(store, WRONG) and not login(store)
    assert store.accounts.get(ada).locked_until - utcnow() < timedelta(seconds=61)
    store.accounts.activate(ada)
    for _ in range(10):
        assert not login(store, WRONG, max_failures=0)
    assert not store.accounts.get(ada).locked and login(store)
    assert not login(store, WRONG, max_failures=1, lockout_seconds=0) and login(store)  # locked for no time
    for wrong in ({"max_failures": -1}, {"max_failures": True}, {"lockout_seconds": "x"}, {"lockout_seconds": -1}):
        with pytest.raises(InvalidArgument, match=f"{next(iter(wrong))} is .*at least 0"):
            login(store, **wrong)
    store.settings["auth.max_failures"] = "many"
    with pytest.raises(InvalidArgument, match="setting 'auth.max_failures'"):
        login(store)


def _try_often(path: str, barrier: Any) -> None:
    passwords._hasher = lambda: CHEAP  # type: ignore[assignment]
    with Store(path) as store:
        barrier.wait()
        for _ in range(20):
            assert store.accounts.authenticate(ADA, WRONG, max_failures=1000) is None


def test_no_failure_of_two_processes_is_lost(store: Store, ada: User) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_try_often, args=(store.path, barrier)) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
        assert each.exitcode == 0
    assert store.accounts.get(ada).failed_logins == 40
    assert store.check() == []


@pytest.mark.parametrize("meanwhile", ["failures", "deactivated", "password", "removed"])
def test_what_happens_while_a_password_is_verified_counts(
    store: Store, ada: User, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """However many try at once: after the last failure that is allowed, nobody learns that they were right."""
    real = passwords.verified

    def slow(password: str, hashed: str) -> tuple[bool, str | None]:
        outcome = real(password, hashed)
        monkeypatch.setattr(passwords, "verified", real)
        if meanwhile == "failures":
            for _ in range(5):
                assert not login(store, WRONG)
        elif meanwhile == "deactivated":
            store.accounts.deactivate(ada)
        elif meanwhile == "password":
            store.accounts.set_password(ada, WRONG)
        else:
            store.accounts.remove(ada)
        return outcome

    monkeypatch.setattr(passwords, "verified", slow)
    assert not login(store)
    if meanwhile == "failures":
        assert store.accounts.get(ada).failed_logins == 5
    if meanwhile == "password":
        assert store.accounts.get(ada).failed_logins == 1 and login(store, WRONG)


def test_two_logins_at_once_may_both_renew_a_hash(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bcrypt.hashpw(RIGHT.encode(), bcrypt.gensalt(4)).decode()
    user = store.accounts.add(ADA, hashed_password=made)
    real = passwords.verified

    def slow(password: str, hashed: str) -> tuple[bool, str | None]:
        outcome = real(password, hashed)
        monkeypatch.setattr(passwords, "verified", real)
        assert login(store) and store.accounts.get(user).hashed_password != made
        return outcome

    monkeypatch.setattr(passwords, "verified", slow)
    assert login(store) and store.accounts.get(user).failed_logins == 0


def test_no_lock_is_held_while_a_password_is_verified(
    store: Store, ada: User, db_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = passwords.verified

    def writing(password: str, hashed: str) -> tuple[bool, str | None]:
        with Store(db_path, timeout=0.1) as other:
            other.settings["x"] = 1
        return real(password, hashed)

    monkeypatch.setattr(passwords, "verified", writing)
    assert login(store) and store.settings["x"] == 1


def test_a_login_is_not_part_of_a_transaction(store: Store, ada: User) -> None:
    with store.transaction(), pytest.raises(IllegalMove, match="counts even if it is rolled back; leave it first"):
        login(store)
    with pytest.raises(RuntimeError), store.transaction():
        store.accounts.add("b@x.org")
        raise RuntimeError
    assert store.accounts.find("b@x.org") is None


def test_a_read_only_store_cannot_count(store: Store, ada: User, db_path: Path) -> None:
    store.close()
    with Store(db_path, read_only=True) as store:
        assert store.accounts.get(ADA).id == ada.id
        with pytest.raises(ReadOnly):
            login(store)


# -- old hashes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["2b", "2a", "2y"])
def test_a_hash_of_bcrypt_verifies_and_is_replaced(store: Store, prefix: str) -> None:
    made = bcrypt.hashpw(RIGHT.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", f"${prefix}$", 1)
    user = store.accounts.add(ADA, hashed_password=made)
    assert not login(store, WRONG) and store.accounts.get(user).hashed_password == made
    assert login(store) and store.accounts.get(user).hashed_password.startswith("$argon2id$")
    assert login(store) and not login(store, WRONG)


def test_of_a_long_password_bcrypt_has_seen_72_bytes_only(store: Store) -> None:
    long = "é" * 36 + "the rest"  # 72 bytes and some
    made = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    store.accounts.add(ADA, hashed_password=made)
    assert login(store, long) and login(store, "é" * 36 + "another")
    # Nobody knows which is right, so none of them becomes the only one.
    assert store.accounts.get(ADA).hashed_password == made
    assert login(store, "é" * 36) and store.accounts.get(ADA).hashed_password != made


def test_a_hash_of_bcrypt_with_an_impossible_cost_never_fits(store: Store) -> None:
    store.accounts.add(ADA, hashed_password="$2b$03$" + "a" * 53)
    assert not login(store)


# -- hashes that ask for too much --------------------------------------------------------------------------------


def argon(memory: int, passes: int = 1, lanes: int = 1) -> str:
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${'A' * 22}${'A' * 43}"


REST = "aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
MODEST = [
    argon(1 << 20, 4), argon(65536, 64), argon(8, 524288), argon(512, 1, 64), "$2b$16$" + "a" * 53,
    f"$scrypt$ln=20,r=8,p=4${REST}", f"$pbkdf2-sha256$10000000${REST}", f"$pbkdf2-sha512$i=10000000,l=64${REST}",
    f"$pbkdf2$131000${REST}", f"$6$rounds=10000000${REST}", f"$5${REST}", f"$bcrypt-sha256$v=2,t=2b,r=16${REST}",
    f"$bcrypt-sha256$2b,12${REST}", f"$y$j9T${REST}", f"$gy$jFT${REST}", f"$7$C6..../....{REST}",
]  # fmt: skip
EXCESSIVE = [
    argon(2**32 - 1), argon((1 << 20) + 1), argon(1 << 20, 5), argon(8, 2**32 - 1), argon(8192, 1, 65),
    argon(9**99), argon(8).replace("id$v=19", "i").replace("t=1", "t=99999999"), argon(8).replace("m=8", "m=٩٩٩٩٩٩٩"),
    "$2b$17$" + "a" * 53, "$2y$31$" + "a" * 53, "$2a$99$" + "a" * 53,
    f"$scrypt$ln=21,r=8,p=1${REST}", f"$scrypt$ln=10,r=8,p=9999999${REST}", f"$scrypt$ln=99999999999,r=1,p=1${REST}",
    f"$pbkdf2-sha256$10000001${REST}", f"$pbkdf2-sha1$i=4294967295${REST}", f"$pbkdf2$99999999${REST}",
    f"$6$rounds=999999999${REST}", f"$5$rounds=10000001${REST}",
    f"$bcrypt-sha256$v=2,t=2b,r=31${REST}", f"$bcrypt-sha256$2a,17${REST}",
    f"$y$jMT${REST}", f"$y$jzT${REST}", f"$gy$j9z${REST}", f"$7$K6..../....{REST}", f"$7$Czzzzz/....{REST}",
]  # fmt: skip


def verifies_nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("a hash that asks for too much was verified")


def put(store: Store, hashed: Any) -> None:
    """Store a hash behind the back of every check."""
    store.database.execute_sql("UPDATE users SET hashed_password = ?", (hashed,))


@pytest.mark.parametrize("hashed", MODEST, ids=lambda h: h[:34])
def test_a_hash_within_the_limits_is_taken(store: Store, hashed: str) -> None:
    assert store.accounts.add(ADA, hashed_password=hashed).hashed_password == hashed


@pytest.mark.parametrize("hashed", EXCESSIVE, ids=lambda h: ascii(h[:34]))
def test_a_hash_that_asks_for_too_much_is_stored_by_no_call(store: Store, ada: User, hashed: str) -> None:
    before = store.accounts.get(ada).hashed_password
    for call in (
        lambda: store.accounts.add("b@c", hashed_password=hashed),
        lambda: store.accounts.set_password(ada, hashed_password=hashed),
        lambda: User.create(email="b@c", hashed_password=hashed),
        lambda: User.insert(email="b@c", email_key="b@c", hashed_password=hashed).execute(),
        lambda: User.insert_many([{"email": "b@c", "email_key": "b@c", "hashed_password": hashed}]).execute(),
        lambda: User.update(hashed_password=hashed).execute(),
        lambda: User.update({User.hashed_password: hashed}).execute(),
        lambda: User.bulk_update([changed(ada, hashed)], [User.hashed_password]),
        lambda: changed(ada, hashed).save(),
    ):
        with pytest.raises(InvalidArgument, match="hashed_password asks for .*; at most 1,024 MiB.*smaller parameters"):
            call()
    assert store.accounts.get(ada).hashed_password == before and len(store.accounts.list()) == 1


def changed(user: User, hashed: str) -> User:
    row = User.get_by_id(user.id)
    row.hashed_password = hashed
    return row


@pytest.mark.parametrize("hashed", EXCESSIVE if LONG else EXCESSIVE[::3], ids=lambda h: ascii(h[:34]))
def test_a_hash_that_asks_for_too_much_is_neither_loaded_nor_merged(
    store: Store, ada: User, hashed: str, tmp_path: Path
) -> None:
    put(store, hashed)
    file = tmp_path / "dump.jsonl"
    store.dump(file, include_secrets=True)
    with Store(tmp_path / "new.db") as new:
        with pytest.raises(InvalidArgument, match=r"line \d+: hashed_password asks for "):
            new.load(file)
        with pytest.raises(InvalidArgument, match="user 'Ada@Example.org' in the other store asks for "):
            new.merge(store)
        assert new.accounts.list() == []
        assert new.load(file, accounts=False).left_out == {"users": 1} and new.check() == []


@pytest.mark.parametrize("hashed", [*EXCESSIVE, "$argon2id$v=19$m=8,t=1,p=1$" + "A" * 300], ids=lambda h: ascii(h[:34]))
def test_a_hash_that_asks_for_too_much_is_never_verified(
    store: Store, ada: User, hashed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(bcrypt, "checkpw", verifies_nothing)
    monkeypatch.setattr(passwords, "_by_argon2", lambda _, given: bool(asked.append(given)))
    for value in (hashed, hashed.encode()):
        if len(hashed) <= 255:  # longer ones do not pass the schema
            put(store, value)
            assert not login(store)
        assert passwords.verified(RIGHT, hashed) == (False, None)
    assert set(asked) == {passwords._nobodys()}  # a current hash's work is done all the same


def test_a_hash_in_bytes_is_no_way_around_the_limits(store: Store, ada: User, tmp_path: Path) -> None:
    put(store, argon(2**32 - 1).encode())
    store.dump(tmp_path / "dump.jsonl", include_secrets=True)
    with Store(tmp_path / "new.db") as new:
        with pytest.raises(InvalidArgument, match="asks for 4,194,303 MiB of memory"):
            new.load(tmp_path / "dump.jsonl")
        with pytest.raises(InvalidArgument, match="asks for 4,194,303 MiB of memory"):
            new.merge(store)


def test_outdated_parameters_are_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    user = store.accounts.add(ADA, password=RIGHT)
    assert login(store) and store.accounts.get(user).hashed_password == user.hashed_password
    monkeypatch.setattr(passwords, "_hasher", lambda: argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    assert not login(store, WRONG) and store.accounts.get(user).hashed_password == user.hashed_password
    assert login(store)
    assert argon2.extract_parameters(store.accounts.get(user).hashed_password).time_cost == 2 and login(store)


def test_the_parameters_are_those_that_the_library_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    passwords._hasher.cache_clear()
    recommended = argon2.profiles.RFC_9106_LOW_MEMORY
    assert argon2.extract_parameters(passwords.hashed(RIGHT)) == recommended
    assert argon2.extract_parameters(passwords._nobodys()) == recommended


# -- the command line --------------------------------------------------------------------------------------------

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(*args: str, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, ("users", *args), prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield invoke
    if os.path.exists("scanstore.db"):
        with Store() as store:
            assert store.check() == []


def test_users_come_and_go(run: Run) -> None:
    assert run("add", ADA, "--name", "Ada").stdout == f"Added {ADA}: no password\n"
    piped = run("add", "bob@x.org", "--role", "admin", "--password-stdin", input=f"{RIGHT}\n")
    assert piped.stdout == "Added bob@x.org: active\n"
    lines = [line.split() for line in run("list").stdout.splitlines()]
    assert lines == [
        [ADA, "Ada", "user", "no", "password", "never", "logged", "in"],
        ["bob@x.org", "admin", "active", "never", "logged", "in"],
    ]
    assert run("deactivate", "BOB@x.org").stdout == "User bob@x.org: deactivated\n"
    found = json.loads(run("list", "--deactivated", "--json").stdout)
    assert [user["email"] for user in found] == ["bob@x.org"]
    assert "$argon2" not in str(found) and "hashed_password" not in found[0]
    assert [user["email"] for user in json.loads(run("list", "--role", "user", "--json").stdout)] == [ADA]
    assert run("activate", found[0]["id"]).stdout == "User bob@x.org: active\n"
    with Store() as store:
        assert store.accounts.authenticate("bob@x.org", RIGHT) is not None
        for _ in range(5):
            store.accounts.authenticate("bob@x.org", WRONG)
    assert "locked until" in run("list").stdout
    assert run("remove", "bob@x.org").stdout == "Removed user bob@x.org\n"
    assert json.loads(run("remove", ADA, "--json").stdout) == {"removed": ADA}
    assert run("list").stderr == "no users here; add one with: scanstore users add EMAIL\n"


def test_passwords_are_asked_for_and_not_shown(run: Run) -> None:
    told = run("add", ADA, "--password", "--json", input=f"{RIGHT}\n{RIGHT}\n")
    assert json.loads(told.stdout)["email"] == ADA and RIGHT not in told.output and "Password:" in told.stderr
    told = run("passwd", ADA, input=f"{WRONG}\nother\n{WRONG}\n{WRONG}\n")
    assert told.stdout == f"Set the password of {ADA}: active\n" and WRONG not in told.output
    with Store() as store:
        assert login(store, WRONG)
    run("passwd", ADA, "--password-stdin", input=f"  {RIGHT} \r\nsecond line\n")
    with Store() as store:
        assert login(store, f"  {RIGHT} ") and not login(store, RIGHT)


def test_bad_usage_of_users_is_one_line(run: Run) -> None:
    run("add", ADA)
    for args, message in (
        (("add", "ada@EXAMPLE.org"), f"the address {ADA} is that of user"),
        (("add", "ada"), "give an address like"),
        (("passwd", "nobody@x.org"), "no user nobody@x.org"),
        (("deactivate", "ada"), "'ada' is not a user"),
        (("passwd", ADA, "--password-stdin"), "password is empty"),
    ):
        result = run(*args, code=1, input="")
        assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert "not text" in run("passwd", ADA, "--password-stdin", code=1, input=b"\xff" * 9).stderr
    both = run("add", "b@x.org", "--password", "--password-stdin", code=2)
    assert "not both" in both.stderr
    run("add", "b@x.org", "--password", "secret word", code=2)  # an argument would be seen by others
