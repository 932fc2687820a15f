"""Backups of a running box, to a folder and to a real S3-compatible store; what a person may ask for."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile

import httpx
import pytest

import allerac
from test_faults import SHORT

RECIPIENT = "age1ymw8wqs5t2jn57clayjngmcutefpqcjx4m3dm6n6ntdtnd0w496q988ee4"
IDENTITY = "AGE-SECRET-KEY-1PUQMXP9KRQ6M7VHCLA0HE9F4J3MJW6AFMHJA3WQ5ZPGYQNCK4LKSXF5GCM"


def spend(client):
    client.completions.create(**SHORT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def identity(tmp_path):
    path = tmp_path / "identity.txt"
    path.write_text(f"# box\n{IDENTITY}\n")
    return str(path)


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """moto's server: S3's protocol, with a bucket in it."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "NO_PROXY": "*"})
    url = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return httpx.put(f"{url}/boxes", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    allerac.wait_for("the store answers", answers, 60)
    yield url
    process.terminate()
    process.wait(timeout=20)


def restored(tmp_path, *arguments: str, name: str = "restored"):
    target = tmp_path / name
    done = allerac.cli("backup", "restore", *arguments, "--data-dir", str(target))
    return target, done.stdout


def test_a_box_under_load_comes_back_on_another_one(fresh, books, tmp_path, identity):
    key = fresh.create_key("anna", "--name", "laptop")
    with fresh.client(key) as client:
        spend(client)
        books.settled(1)
        file = client.files.create(file=("notes.txt", b"my notes"), purpose="user_data")
        stored = client.responses.create(model=allerac.MODEL, input="Hi", max_output_tokens=16)
    books.settled(2)
    stick = tmp_path / "stick"
    stick.mkdir()
    made = fresh.cli("backup", "create", "--to", str(stick), "--recipient", RECIPIENT, "--json")
    made = json.loads(made.stdout)
    assert made["manifest"]["models"] == [allerac.MODEL]
    listed = json.loads(allerac.cli("backup", "list", "--from", str(stick), "--json").stdout)
    assert [(row["of"], row["bytes"]) for row in listed] == [("allerac", made["bytes"])]
    verified = allerac.cli("backup", "verify", "--from", str(stick), "--identity", identity).stdout
    assert re.search(r"1 users, 2 settled requests, 1 entries of the audit log, \d+ objects; the books add up", verified)

    target, said = restored(tmp_path, "--from", str(stick), "--identity", identity)
    assert f"the model {allerac.MODEL} is not here: allerac models pull {allerac.MODEL}" in said
    allerac.data_dir(target)
    before = fresh.totals()
    with allerac.Server(target) as other:
        assert other.totals() == before
        with other.client(key) as client:
            assert client.files.content(file.id).content == b"my notes"
            assert client.responses.retrieve(stored.id).output_text == stored.output_text
            spend(client)
        # What is answered is settled a moment later.
        allerac.wait_for("it is settled", lambda: other.totals()["requests"] == before["requests"] + 1)
    # The server that the backup was made beside went on.
    with fresh.client(key) as client:
        spend(client)


def test_killed_at_any_moment_a_restore_leaves_the_old_or_the_new(tmp_path, identity):
    """Forty times killed: the data directory has the old people or the new ones, and all files of theirs."""
    old, new = tmp_path / "old", tmp_path / "new"
    allerac.cli("keys", "create", "--user", "olga", "--data-dir", str(old))
    allerac.cli("keys", "create", "--user", "nina", "--data-dir", str(new))
    backups = {}
    for name, data in (("olga", old), ("nina", new)):
        backups[name] = str(tmp_path / f"{name}.age")
        allerac.cli("backup", "create", "--to", backups[name], "--recipient", RECIPIENT, "--data-dir", str(data))
    now, seen = "olga", set()
    for round_ in range(40):
        wanted = "nina" if now == "olga" else "olga"
        command = [str(allerac.BINARY), "backup", "restore", backups[wanted], "--replace", "--identity", identity]
        process = subprocess.Popen([*command, "--data-dir", str(old)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(0.004 * (round_ % 20))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        users = json.loads(allerac.cli("users", "list", "--json", "--data-dir", str(old)).stdout)
        assert [user["user"] for user in users] in (["olga"], ["nina"])
        allerac.cli("ledger", "verify", "--data-dir", str(old))
        assert not (old / ".restore-ready").exists()
        seen.add(users[0]["user"] == wanted)
        now = users[0]["user"]
    assert False in seen, "no restore was interrupted early: this test says nothing"
    allerac.cli("backup", "restore", backups["nina"], "--replace", "--identity", identity, "--data-dir", str(old))
    assert "nina" in allerac.cli("users", "list", "--data-dir", str(old)).stdout


def test_what_cannot_be_is_refused_and_says_what_to_do(tmp_path, identity):
    data = tmp_path / "data"
    words = tmp_path / "words"
    words.write_text("correct horse\n")

    def refused(*arguments: str, code: int) -> str:
        done = allerac.cli("backup", *arguments, "--data-dir", str(data), check=False)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert "hint: " in done.stderr, done
        return done.stderr

    assert "there is no ledger" in refused("create", "--to", str(tmp_path), "--recipient", RECIPIENT, code=3)
    allerac.cli("keys", "create", "--user", "anna", "--data-dir", str(data))
    assert "no place for backups" in refused("create", "--recipient", RECIPIENT, code=2)
    assert "no passphrase is given" in refused("create", "--to", str(tmp_path / "x"), code=2)
    assert "no age recipient" in refused("create", "--to", str(tmp_path / "x"), "--recipient", "age1x", code=2)
    file = str(tmp_path / "box.age")
    allerac.cli("backup", "create", "--to", file, "--passphrase-file", str(words), "--data-dir", str(data))
    assert "is there already" in refused("create", "--to", file, "--recipient", RECIPIENT, code=4)
    assert "has data already" in refused("restore", file, "--passphrase-file", str(words), code=4)
    words.write_text("wrong horse\n")
    assert "does not open with this passphrase" in refused("verify", file, "--passphrase-file", str(words), code=1)
    assert "made with a passphrase" in allerac.cli("backup", "verify", file, "--identity", identity, check=False).stderr
    assert not (tmp_path / "x").exists()


def test_a_store_that_speaks_s3_gets_keeps_and_gives_them(s3, tmp_path, identity):
    (tmp_path / "id").write_text("test\n")
    (tmp_path / "key").write_text("secret\n")
    config = f"""
        name = "library"
        [backup]
        recipients = ["{RECIPIENT}"]
        every_minutes = 15
        keep_last = 2
        keep_daily = 0
        keep_weekly = 0
        keep_monthly = 0
        [backup.s3]
        endpoint = "{s3}"
        bucket = "boxes"
        prefix = "home/"
        access_key_file = "id"
        secret_key_file = "key"
        part_mib = 5
    """
    config_file = tmp_path / "data.toml"
    with allerac.Server(allerac.data_dir(tmp_path / "data"), config="") as server:
        key = server.create_key("anna")
        with server.client(key) as client:
            # More than one part: what does not compress.
            noise = os.urandom(11_000_000)
            file = client.files.create(file=("noise", noise), purpose="user_data")
        server.stop()
    server = allerac.Server(tmp_path / "data")
    server.config.write_text(config + allerac.COMMON_CONFIG)

    def listed():
        rows = allerac.cli("backup", "list", "--config", str(config_file), "--json").stdout
        return [row["name"] for row in json.loads(rows)]

    with server:
        names = allerac.wait_for("a backup is made by itself", listed, 30)
        assert len(names) == 1 and names[0].startswith("library-")
        doctor = server.cli("doctor", "--config", str(config_file), "--json", check=False).stdout
        check = next(check for check in json.loads(doctor)["checks"] if check["name"] == "backup")
        assert check["status"] == "ok" and "the last at" in check["detail"], check
    # Old ones of this box go, another box's stay; one more start finds that nothing is due.
    signed = {"headers": {"authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}}
    for name in ("library-20200101T000000Z", "library-20200102T000000Z", "other-20200101T000000Z"):
        httpx.put(f"{s3}/boxes/home/{name}.allerac-backup.age", content=b"x", **signed).raise_for_status()
    assert len(listed()) == 4
    target, _ = restored(tmp_path, names[0], "--config", str(config_file), "--identity", identity)
    allerac.data_dir(target)
    with allerac.Server(target) as other, other.client(key) as client:
        assert client.files.content(file.id).content == noise
    made = server.cli("backup", "create", "--config", str(config_file), "--json")
    assert json.loads(made.stdout)["backup"] in {f"{s3}/boxes/home/{name}" for name in listed()}
    missing = allerac.cli(
        "backup", "verify", names[0].replace("library", "nobody"), "--config", str(config_file), "--identity", identity, check=False
    )
    assert missing.returncode == 3 and "there is no backup nobody-" in missing.stderr
    config_file.write_text(config.replace('bucket = "boxes"', 'bucket = "nowhere"'))
    refused = allerac.cli("backup", "list", "--config", str(config_file), check=False)
    assert refused.returncode == 1 and "refused to list backups: 404 Not Found NoSuchBucket" in refused.stderr


def test_old_ones_go_and_a_missing_stick_is_noticed(tmp_path):
    stick = tmp_path / "stick"
    stick.mkdir()
    for name in ("library-20200101T000000Z", "library-20200102T000000Z", "other-20200101T000000Z"):
        (stick / f"{name}.allerac-backup.age").write_text("x")
    backup = f"""
        name = "library"
        [backup]
        folder = "{stick}"
        recipients = ["{RECIPIENT}"]
        keep_last = 1
        keep_daily = 2
        keep_weekly = 0
        keep_monthly = 0
        {allerac.COMMON_CONFIG}
    """
    server = allerac.Server(allerac.data_dir(tmp_path / "data"))
    server.config.write_text(backup)
    with server:
        allerac.wait_for("old ones are gone", lambda: not (stick / "library-20200101T000000Z.allerac-backup.age").exists(), 30)
        left = sorted(path.name.split("-2")[0] for path in stick.iterdir())
        assert left == ["library", "library", "other"]
        server.stop()
    for path in stick.iterdir():
        path.unlink()
    server = allerac.Server(tmp_path / "data")
    server.config.write_text(backup.replace("recipients", "other_disk = true\n        recipients"))
    with server:
        allerac.wait_for("the failure is told", lambda: "is on the same disk" in server.log, 30)
        doctor = server.cli("doctor", "--config", str(server.config), check=False).stdout
        assert re.search(r"BROKEN +backup .*is on the same disk as the data directory", doctor), doctor
        assert list(stick.iterdir()) == []


def test_a_person_gets_all_of_theirs_and_goes_without_a_trace_of_what_was_said(fresh, books, tmp_path):
    anna, kim = fresh.create_key("anna", "--name", "laptop"), fresh.create_key("kim")
    with fresh.client(anna) as client:
        file = client.files.create(file=("notes.txt", b"my notes"), purpose="user_data")
        response = client.responses.create(model=allerac.MODEL, input="A secret word", max_output_tokens=8)
    with fresh.client(kim) as client:
        kept = client.files.create(file=("kim.txt", b"kim's"), purpose="user_data")
        spend(client)
    output = tmp_path / "anna.zip"
    fresh.cli("users", "export", "anna", "--output", str(output))
    with zipfile.ZipFile(output) as archive:
        person = json.loads(archive.read("person.json"))
        assert person["name"] == "anna" and [key["label"] for key in person["keys"]] == ["laptop"]
        usage = [json.loads(line) for line in archive.read("usage.jsonl").splitlines()]
        assert [(row["user"], row["model"], row["endpoint"]) for row in usage] == [("anna", allerac.MODEL, "responses")]
        assert [json.loads(line)["action"] for line in archive.read("audit.jsonl").splitlines()] == ["key.create"]
        assert archive.read(f"files/{file.id}.content") == b"my notes"
        of_response = [name for name in archive.namelist() if name.startswith(f"responses/{response.id}.")]
        assert b"A secret word" in b"".join(archive.read(name) for name in of_response)
        assert not any(kept.id in name for name in archive.namelist())
    # Anna gets the same by herself, and nobody with a key that is made for less.
    with fresh.http(anna) as http:
        answer = http.get("/v1/account/export").raise_for_status()
        assert answer.headers["content-disposition"] == 'attachment; filename="allerac.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as own, zipfile.ZipFile(output) as archive:
        assert own.testzip() is None
        assert {name: own.read(name) for name in own.namelist()} == {name: archive.read(name) for name in archive.namelist()}
    for bound in (("--scope", "account"), ("--model", "x*"), ("--expires", "2099-01-01")):
        with fresh.http(fresh.create_key("kim", *bound)) as http:
            refused = http.get("/v1/account/export")
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_is_bound"), bound
    again = fresh.cli("users", "export", "anna", "--output", str(output), check=False)
    assert again.returncode == 4 and "is there already" in again.stderr

    totals = fresh.totals()
    assert fresh.cli("users", "erase", "anna", check=False).returncode == 2
    erased = fresh.cli("users", "erase", "anna", "--yes").stdout
    nobody = re.search(r"stays under (erased-[0-9a-f]{8})", erased)[1]
    with fresh.http(anna) as http:
        assert http.get("/v1/models").status_code == 401
    assert fresh.totals() == totals
    assert {row["user"] for row in json.loads(fresh.cli("usage", "--by", "user", "--json").stdout)} == {nobody, "kim"}
    assert "the audit log is whole" in fresh.cli("audit", "verify").stdout
    fresh.cli("ledger", "verify")
    assert fresh.cli("users", "erase", "anna", "--yes", check=False).returncode == 3
    with fresh.client(kim) as client:
        assert client.files.content(kept.id).content == b"kim's"
    assert books.rows("SELECT count(*) FROM users WHERE name = 'anna'") == [(0,)]
    # Who comes under the same name learns nothing of her.
    time.sleep(1.1)
    with fresh.http(fresh.create_key("anna", "--name", "tablet")) as http:
        answer = http.get("/v1/account/export").raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        (entry,) = map(json.loads, archive.read("audit.jsonl").splitlines())
        assert (entry["action"], entry["detail"]["label"]) == ("key.create", "tablet")
    fresh.stop()
    assert (fresh.data / "kv-forget").exists()
    fresh.start()
    assert not (fresh.data / "kv-forget").exists()
    # Somebody new of that name is somebody else.
    with fresh.client(fresh.create_key("anna")) as client:
        assert client.files.list().data == []


def test_the_owner_stays(fresh):
    fresh.claim("olga")
    done = fresh.cli("users", "erase", "olga", "--yes", check=False)
    assert done.returncode == 4 and "the owner of the box cannot be erased" in done.stderr
