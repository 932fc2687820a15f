"""What owners have their box do with itself: over the API, by the command line, and by the page of emergencies."""

import contextlib
import json
import re
import socket
import subprocess

import allerac
import httpx
import pytest
from steward import BINARY as STEWARD
from steward import System
from test_people import PASSWORD, add, good, page, refused

RESET = "/v1/admin/system/factory_reset"
BACK = "/v1/admin/system/back"
ERASE = "erase everything"


@pytest.fixture
def system(tmp_path):
    with System(tmp_path / "system") as system:
        yield system


@pytest.fixture
def box(tmp_path, system):
    status = tmp_path / "status.json"
    told = {"version": "0.1.0.7", "notice": "version 0.1.0.8 is new here and being tried", "previous": "0.1.0.6", "entries": []}
    status.write_text(json.dumps(told))
    arguments = ("--steward", str(system.socket), "--system-status", str(status))
    with allerac.Server(allerac.data_dir(tmp_path / "data"), arguments=arguments) as server:
        yield server


@pytest.fixture
def owner(box):
    with box.http(box.claim("olga")) as client:
        yield client


def actions(owner) -> list[str]:
    entries = good(owner.get("/v1/admin/audit_logs", params={"action": "system."}))["data"]
    return [entry["action"] for entry in reversed(entries)]


def test_an_owner_restarts_updates_and_reads_the_log(box, owner, system):
    assert good(owner.get("/v1/admin/system")) == {
        "object": "system",
        "is_box": True,
        "version": "0.1.0.7",
        "notice": "version 0.1.0.8 is new here and being tried",
        "previous": "0.1.0.6",
    }
    assert good(owner.post("/v1/admin/system/check"))["found"] == "version 0.1.0.9 is there"
    told = refused(owner.post("/v1/admin/system/update"), 409, "refused_by_system")
    assert told.startswith("the box was not told where updates come from; plug in a stick")
    (system.root / "var/lib/allerac-update/source").write_text("https://updates.example.org\n")
    assert owner.post("/v1/admin/system/update").status_code == 202
    assert owner.post("/v1/admin/system/restart").status_code == 202
    log = owner.get("/v1/admin/system/logs")
    assert (log.text, log.headers["content-type"]) == (
        "2026-11-22T05:00:00+0000 kernel: Linux\n",
        "text/plain; charset=utf-8",
    )
    assert system.called() == [
        "allerac update check",
        "systemctl --no-block start allerac-update.service",
        "systemctl --no-block reboot",
        "journalctl --quiet --no-pager --output=short-iso --lines 20000",
    ]
    assert actions(owner) == ["system.check", "system.update", "system.update", "system.restart", "system.logs"]


def test_a_factory_reset_asks_for_words_and_the_password(box, owner, system):
    good(owner.post("/v1/account/password", json={"password": PASSWORD}), 204)
    assert "erase everything" in refused(owner.post(RESET, json={"confirm": "yes", "password": PASSWORD}), 400, "invalid_value")
    refused(owner.post(RESET, json={"confirm": ERASE}), 400, "missing_required_parameter")
    refused(owner.post(RESET, json={"confirm": ERASE, "password": "not that one"}), 403, "wrong_password")
    refused(owner.post(RESET, json={"password": PASSWORD}), 400, "invalid_body")
    assert (system.called(), actions(owner)) == ([], [])
    assert owner.post(RESET, json={"confirm": ERASE, "password": PASSWORD}).status_code == 202
    assert system.called() == [
        "bootctl set-oneshot allerac_0.1.0.7.efi@factory-reset",
        "systemctl --no-block reboot",
    ]
    assert actions(owner) == ["system.factory_reset"]


def test_nobody_but_an_owner_commands_the_box(box, owner, system):
    add(owner, "adam", role="admin")
    add(owner, "aud", role="auditor")
    keys = {name: good(owner.post("/v1/admin/keys", json={"user": name}), 201)["secret"] for name in ("adam", "aud")}
    for key in keys.values():
        with box.http(key) as other:
            assert good(other.get("/v1/admin/system"))["version"] == "0.1.0.7"
            refused(other.get("/v1/admin/system/logs"), 403, "owner_only")
            for act, body in {"check": {}, "update": {}, "restart": {}, "back": {}, "factory_reset": {"confirm": ERASE}}.items():
                refused(other.post(f"/v1/admin/system/{act}", json=body), 403, "owner_only")
    with page(box) as stranger:
        refused(stranger.post(RESET, json={"confirm": ERASE}), 401, "invalid_api_key")
    assert system.called() == []


def test_going_back_gives_the_version_up(box, owner, system):
    told = refused(owner.post(BACK, json={}), 409, "refused_by_system")
    assert told == "there is no version to go back to; there is one after the first update"
    # What did not work is no place to go back to.
    (system.boot / "allerac_0.1.0.8+0-3.efi").touch()
    refused(owner.post(BACK, json={}), 409, "refused_by_system")
    (system.boot / "allerac_0.1.0.6.efi").touch()
    assert owner.post(BACK, json={}).status_code == 202
    names = sorted(file.name for file in system.boot.iterdir())
    assert names == ["allerac_0.1.0.6.efi", "allerac_0.1.0.7+0-1.efi", "allerac_0.1.0.8+0-3.efi"]
    assert system.called() == ["systemctl --no-block reboot"]


def test_a_version_is_kept_where_the_box_cannot_restart(box, owner, system):
    (system.boot / "allerac_0.1.0.6.efi").touch()
    system.program("systemctl", does='echo "Call to Reboot failed: no" >&2; exit 1')
    assert refused(owner.post(BACK, json={}), 409, "refused_by_system") == "Call to Reboot failed: no"
    assert sorted(file.name for file in system.boot.iterdir()) == ["allerac_0.1.0.6.efi", "allerac_0.1.0.7.efi"]


def test_what_the_system_refuses_is_told(box, owner, system):
    system.program("bootctl", does='echo "Failed to write EFI variable: No space left on device" >&2; exit 1')
    told = refused(owner.post(RESET, json={"confirm": ERASE}), 409, "refused_by_system")
    assert told == "Failed to write EFI variable: No space left on device"
    assert not any("reboot" in call for call in system.called())


def test_elsewhere_there_is_no_system_to_command(tmp_path):
    with allerac.Server(allerac.data_dir(tmp_path / "data")) as server, server.http(server.claim("olga")) as owner:
        assert good(owner.get("/v1/admin/system"))["is_box"] is False
        told = refused(owner.post(RESET, json={"confirm": ERASE}), 409, "not_a_box")
        assert told.startswith("this server does not run on a box of Allerac's image")
        refused(owner.get("/v1/admin/system/logs"), 409, "not_a_box")
    done = subprocess.run([str(allerac.BINARY), "system", "restart", "--steward", str(tmp_path / "none")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: this server does not run on a box of Allerac's image\nhint: whoever")


def test_the_command_line_does_the_same(system):
    def run(*command: str) -> subprocess.CompletedProcess:
        line = [str(allerac.BINARY), "system", *command, "--steward", str(system.socket)]
        return subprocess.run(line, capture_output=True, text=True, timeout=30)

    assert run("logs").stdout == "2026-11-22T05:00:00+0000 kernel: Linux\n"
    assert run("restart").stdout == "the box restarts\n"
    back = run("back")
    assert (back.returncode, back.stderr) == (
        4,
        "error: there is no version to go back to\nhint: there is one after the first update\n",
    )
    assert run("reset").returncode == 2
    system.called()
    assert run("reset", "--erase-everything").stdout == "the box erases everything and restarts\n"
    assert system.called()[0] == "bootctl set-oneshot allerac_0.1.0.7.efi@factory-reset"


class Emergency:
    """The page, its real process on a free port."""

    def __init__(self, folder, system: System):
        self.screen = folder / "screen"
        command = [str(STEWARD), "emergency", "--listen", "127.0.0.1:0", "--steward", str(system.socket), "--screen", str(self.screen)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.url = self.process.stderr.readline().split()[-1]
        self.shown = json.loads(self.screen.read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, **form: str) -> httpx.Response:
        return httpx.post(self.url, data=form, timeout=30)


@pytest.fixture
def emergency(tmp_path, system):
    said = "error: the ledger is damaged: file is not a database"
    system.program("journalctl", does=f'echo "{said}"')
    with Emergency(tmp_path, system) as emergency:
        system.called()
        yield emergency


def test_the_emergency_page_says_what_is_wrong_to_all_and_the_log_to_who_reads_the_screen(emergency, system):
    answer = httpx.get(f"{emergency.url}/chat")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "a file in which this box keeps its books is damaged" in answer.text.lower()
    assert "not a database" not in answer.text and "<script" not in answer.text
    assert emergency.shown["says"] in answer.text.replace("&amp;", "&")
    for path in ("/healthz", "/readyz", "/v1/models", "/claim"):
        answer = httpx.get(emergency.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "box_in_trouble")
    assert emergency.ask(act="logs", code="AAAA-AAAA").status_code == 403
    assert emergency.ask(act="logs").status_code == 400
    saved = emergency.ask(act="logs", code=emergency.shown["code"].lower())
    assert saved.status_code == 200 and "not a database" in saved.text
    assert saved.headers["content-disposition"] == 'attachment; filename="allerac.log"'
    assert emergency.screen.stat().st_mode & 0o777 == 0o600


def test_the_emergency_page_starts_goes_back_and_erases(emergency, system):
    code = emergency.shown["code"]
    assert re.fullmatch("[2-9A-HJ-NP-Z]{4}-[2-9A-HJ-NP-Z]{4}", code)
    acts = lambda: [call for call in system.called() if not call.startswith(("systemctl show", "journalctl"))]
    assert emergency.ask(act="start", code=code).status_code == 200
    assert acts() == ["systemctl reset-failed allerac.service", "systemctl --no-block start allerac.service"]
    refused_back = emergency.ask(act="back", code=code)
    assert refused_back.status_code == 409 and "there is no version to go back to" in refused_back.text
    assert emergency.ask(act="factory_reset", code=code).status_code == 400
    assert emergency.ask(act="restart", code=code).status_code == 400
    assert acts() == []
    assert emergency.ask(act="factory_reset", code=code, confirm="Erase everything").status_code == 200
    assert acts() == ["bootctl set-oneshot allerac_0.1.0.7.efi@factory-reset", "systemctl --no-block reboot"]


def test_guessing_the_code_is_slow(emergency):
    statuses = [emergency.ask(act="logs", code=f"AAAA-AAA{number}").status_code for number in range(2, 10)]
    assert statuses == [403] * 8
    assert [emergency.ask(act="logs", code="x").status_code for _ in range(3)] == [403, 403, 429]
    assert emergency.ask(act="logs", code=emergency.shown["code"]).status_code == 429
    # The owner at another device is not kept out.
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=transport) as elsewhere:
        assert elsewhere.post(emergency.url, data={"act": "logs", "code": emergency.shown["code"]}).status_code == 200


HALF_A_FORM = (
    "POST / HTTP/1.1\r\nHost: box\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    "Content-Length: 100\r\n\r\nact="
)


@pytest.mark.parametrize("sent", ["", HALF_A_FORM])
def test_who_sends_no_whole_request_is_not_waited_for(emergency, sent):
    """More connections than the page serves at once, on which nothing is sent, or half a form."""
    url = httpx.URL(emergency.url)
    with contextlib.ExitStack() as connections:
        for _ in range(100):
            half = socket.create_connection((url.host, url.port), source_address=("127.0.0.2", 0))
            connections.enter_context(half)
            with contextlib.suppress(OSError):  # Those beyond what one address may have are closed at once.
                half.sendall(sent.encode())
        assert httpx.get(emergency.url, timeout=5).status_code == 503


def test_a_damaged_ledger_is_told_as_such(tmp_path):
    """What the page recognises is what the server really says."""
    data = allerac.data_dir(tmp_path / "data")
    (data / "ledger.db").write_bytes(b"not a database " * 1000)
    command = [str(allerac.BINARY), "serve", "--listen", "127.0.0.1:0", "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert any(line.startswith("error: ") and "damaged" in line for line in done.stderr.splitlines()), done.stderr
