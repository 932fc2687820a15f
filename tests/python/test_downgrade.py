"""An older version on the data of a newer one, which left the ways back in the files."""

import contextlib
import sqlite3

import pytest

import allerac
from test_start import fails

FILES = ["ledger.db", "objects.db"]


def shape(data, file: str, statements: str):
    """Does to a file what only another version of the program does."""
    with contextlib.closing(sqlite3.connect(data / file)) as connection:
        connection.executescript(statements)


def make_newer(data, file: str, way: str):
    """A column with something in it, which a version that comes after this one knows."""
    with contextlib.closing(sqlite3.connect(data / file)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    statements = f"""
        CREATE TABLE novelties (name TEXT);
        INSERT INTO novelties VALUES ('new');
        PRAGMA user_version = {version + 1};
    """
    shape(data, file, statements)
    with contextlib.closing(sqlite3.connect(data / file)) as connection:
        connection.execute("INSERT INTO ways_back VALUES (?, ?)", (version + 1, way))
        connection.commit()


@pytest.fixture
def used(tmp_path):
    """A data directory with a key and something in the books, and what is kept."""
    server = allerac.Server(allerac.data_dir(tmp_path / "data"))
    with server:
        key = server.create_key()
        client = server.client(key)
        client.completions.create(model=allerac.MODEL, prompt="1, 2, 3,", max_tokens=4, temperature=0)
        kept = client.responses.create(model=allerac.MODEL, input="Hi", max_output_tokens=4)
        assert server.stop() == 0
    return server, key, server.cli("ledger", "verify", "--json").stdout, kept.id


@pytest.mark.parametrize("files", [FILES, ["ledger.db"], ["objects.db"]])
def test_data_of_a_newer_version_are_taken_back(used, files):
    server, key, books, kept = used
    for file in files:
        make_newer(server.data, file, "DROP TABLE novelties;")
    status, text = fails(server)
    assert status == 1
    assert "a newer version of allerac wrote" in text and "`allerac downgrade`" in text

    said = server.cli("downgrade").stdout.splitlines()
    assert [line.endswith(": 1 changes of a newer version were taken back") for line in said] == [
        file in files for file in FILES
    ]
    assert all(line.endswith(": nothing to do") for line in server.cli("downgrade").stdout.splitlines())
    assert server.cli("ledger", "verify", "--json").stdout == books
    with server:
        assert server.client(key).responses.retrieve(kept).id == kept


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (None, "left no way back"),
        ("DROP TABLE nowhere;", "no such table: nowhere"),
        ("DROP TABLE novelties; DROP TABLE nowhere;", "no such table: nowhere"),
    ],
)
def test_without_a_way_nothing_changes(used, way, words):
    server, *_ = used
    make_newer(server.data, "ledger.db", way or "")
    if way is None:
        shape(server.data, "ledger.db", "DELETE FROM ways_back")
    before = dump(server.data / "ledger.db")
    done = server.cli("downgrade", check=False)
    assert done.returncode == 1 and words in done.stderr
    assert dump(server.data / "ledger.db") == before


def dump(path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_not_while_a_server_runs(used):
    server, *_ = used
    with server:
        done = server.cli("downgrade", check=False)
        assert done.returncode == 4 and "another allerac server uses" in done.stderr
