"""What owners do to people and look at: links that set passwords, other names, usage of a month, the audit log."""

import json
import sqlite3
import zipfile

import allerac
from test_people import CHAT, PASSWORD, add, box, good, owner, page, refused  # noqa: F401 (box and owner are fixtures)


def secret_of(url: str) -> str:
    return url.split("#password=")[1]


def test_a_link_sets_a_password_once(box, owner):
    add(owner, "lena")
    made = good(owner.post("/v1/admin/people/lena/password_link", json={}), 201)
    assert made["url"].startswith(f"{box.url}/#password=allerac-password-")
    link = secret_of(made["url"])
    with page(box) as browser:
        assert good(browser.post("/auth/password", json={"link": link}))["name"] == "lena"
        told = refused(browser.post("/auth/password/set", json={"link": link, "password": "short"}), 400, "invalid_value")
        assert "10 to 64" in told
        done = browser.post("/auth/password/set", json={"link": link, "password": PASSWORD})
        assert good(done) == {"name": "lena", "signed_in": True}
        assert good(browser.get("/v1/account"))["person"]["name"] == "lena"
        # Used, replaced, forged, and none at all.
        refused(browser.post("/auth/password", json={"link": link}), 404, "not_found")
        refused(browser.post("/auth/password/set", json={"link": link, "password": PASSWORD}), 404, "not_found")
        first = good(owner.post("/v1/admin/people/lena/password_link", json={}), 201)["url"]
        good(owner.post("/v1/admin/people/lena/password_link", json={"expires_in_seconds": 60}), 201)
        for shut in (secret_of(first), link[:-1] + "A", "", "sk-allerac-x"):
            refused(browser.post("/auth/password", json={"link": shut}), 404, "not_found")
        refused(browser.post("/auth/password", json={}), 400, "invalid_body")
    with page(box) as other:
        good(other.post("/auth/login", json={"name": "lena", "password": PASSWORD}))
        foreign = {"origin": "http://evil.example"}
        refused(other.post("/auth/password", json={"link": link}, headers=foreign), 403, "foreign_origin")


def test_who_makes_links_is_who_rules(box, owner):
    add(owner, "adam", role="admin")
    add(owner, "mia")
    keys = {name: good(owner.post("/v1/admin/keys", json={"user": name}), 201)["secret"] for name in ("adam", "mia")}
    with box.http(keys["mia"]) as mia:
        refused(mia.post("/v1/admin/people/adam/password_link", json={}), 403, "owner_only")
    with box.http(keys["adam"]) as adam:
        good(adam.post("/v1/admin/people/mia/password_link", json={}), 201)
        name = good(owner.get("/v1/account"))["person"]["name"]
        message = refused(adam.post(f"/v1/admin/people/{name}/password_link", json={}), 403, "role_not_allowed")
        assert "only an owner" in message
        refused(adam.post(f"/v1/admin/people/{name}", json={"name": "serf"}), 403, "role_not_allowed")
    for never in (0, -1, 8 * 86400, "x"):
        refused(owner.post("/v1/admin/people/mia/password_link", json={"expires_in_seconds": never}), 400, "invalid_value")
    refused(owner.post("/v1/admin/people/zoe/password_link", json={}), 404, "not_found")


def test_another_name_keeps_everything(box, owner, tmp_path):
    add(owner, "kim", role="child", plan="starter")
    key = good(owner.post("/v1/admin/keys", json={"user": "kim"}), 201)["secret"]
    with box.http(key) as kim:
        good(kim.post("/v1/chat/completions", json=CHAT))
    used = good(owner.get("/v1/admin/people/kim"))["month"]["used"]
    assert used > 0
    refused(owner.post("/v1/admin/people/kim", json={"name": "mia"}), 409, "name_taken")
    refused(owner.post("/v1/admin/people/kim", json={"name": ""}), 400, "invalid_value")
    renamed = good(owner.post("/v1/admin/people/kim", json={"name": " Kimberly ", "plan": "personal"}))
    assert (renamed["name"], renamed["plan"], renamed["month"]["used"]) == ("Kimberly", "personal", used)
    refused(owner.get("/v1/admin/people/kim"), 404, "not_found")
    with box.http(key) as kim:
        assert good(kim.get("/v1/account"))["person"]["name"] == "Kimberly"
    assert box.cli("users", "rename", "Kimberly", "kimmy").stdout == "Kimberly is called kimmy now\n"
    assert box.cli("users", "rename", "kimmy", "mia", check=False).returncode != 0
    # Somebody else has the first name now; what they do is not told of kimmy.
    add(owner, "kim")
    good(owner.post("/v1/admin/people/kim", json={"hours": "08:00-09:00"}))
    file = tmp_path / "kimmy.zip"
    box.cli("users", "export", "kimmy", "--output", str(file))
    with zipfile.ZipFile(file) as archive:
        person = json.loads(archive.read("person.json"))
        told = [json.loads(line) for line in archive.read("audit.jsonl").splitlines()]
    assert (person["name"], person["passkeys"], person["identities"]) == ("kimmy", [], [])
    acts = [(entry["action"], entry["subject"]) for entry in told if entry["action"].startswith("user.")]
    assert acts == [
        ("user.add", "kim"),
        ("user.change", "kim"),
        ("user.rename", "kim"),
        ("user.rename", "Kimberly"),
    ]


def test_what_the_box_was_used_for(box, owner):
    month = good(owner.get("/v1/admin/usage"))
    by_person = {row["user"]: row for row in month["used"]}
    assert month["months"] == [month["month"]]
    # Whatever it is called by now.
    assert by_person["kimmy"]["model"] == allerac.MODEL
    assert (by_person["kimmy"]["requests"], by_person["kimmy"]["completion_tokens"]) == (1, 2)
    assert by_person["kimmy"]["prompt_tokens"] + 2 == good(owner.get("/v1/admin/people/kimmy"))["month"]["used"]
    for never in ("2020-01", "now", "2026-11'--"):
        refused(owner.get("/v1/admin/usage", params={"month": never}), 400, "invalid_value")
    refused(owner.get("/v1/admin/usage", params={"year": "2026"}), 400, "invalid_value")


def test_the_audit_log_is_searched_and_verified(box, owner):
    found = lambda **params: [
        (entry["action"], entry["subject"]) for entry in good(owner.get("/v1/admin/audit_logs", params=params))["data"]
    ]
    assert found(action="user.rename") == [("user.rename", "Kimberly"), ("user.rename", "kim")]
    assert ("user.add", "lena") in found(about="LENA", limit=100)
    assert found(about="lena", action="session.") == [("session.open", "lena")] * 2
    assert found(about="%") == []
    first = good(owner.get("/v1/admin/audit_logs", params={"action": "user.", "limit": 2}))
    assert (len(first["data"]), first["has_more"]) == (2, True)
    rest = good(owner.get("/v1/admin/audit_logs", params={"action": "user.", "limit": 100, "after": first["last_id"]}))
    assert all(int(entry["id"]) < int(first["last_id"]) for entry in rest["data"])
    whole = good(owner.get("/v1/admin/audit_logs/verification"))
    last = good(owner.get("/v1/admin/audit_logs", params={"limit": 1}))["data"][0]
    assert (whole["whole"], str(whole["entries"]), whole["head"]) == (True, last["id"], last["hash"])

    # The export is what `allerac audit verify` reads.
    file = box.data.parent / "audit.jsonl"
    file.write_bytes(owner.get("/v1/admin/audit_logs/export").raise_for_status().content)
    noted = f"{whole['entries']}:{whole['head']}"
    assert "the audit log is whole" in box.cli("audit", "verify", "--file", str(file), "--noted", noted).stdout

    # Whoever has the file in hand is found out.
    with sqlite3.connect(box.data / "ledger.db") as books:
        guards = books.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'").fetchall()
        for name, _ in guards:
            books.execute(f"DROP TRIGGER {name}")
        subject = books.execute("SELECT subject FROM audit WHERE id = 2").fetchone()[0]
        books.execute("UPDATE audit SET subject = 'nobody' WHERE id = 2")
    broken = good(owner.get("/v1/admin/audit_logs/verification"))
    assert (broken["whole"], broken["head"]) == (False, None)
    assert "entry 2 was changed" in broken["problem"]
    with sqlite3.connect(box.data / "ledger.db") as books:
        books.execute("UPDATE audit SET subject = ? WHERE id = 2", [subject])
        for _, sql in guards:
            books.execute(sql)
    assert good(owner.get("/v1/admin/audit_logs/verification"))["whole"]


def test_requests_are_noted_where_that_is_wanted(box, owner):
    switch = lambda wanted: good(owner.post("/v1/admin/audit_logs/requests", json={"requests": wanted}))
    asked = {"model": allerac.MODEL, "prompt": "A secret question", "max_tokens": 2}
    noted = lambda: good(owner.get("/v1/admin/audit_logs", params={"action": "request"}))["data"]
    for wanted, count in ((True, 1), (False, 1)):
        assert switch(wanted) == {"requests": wanted}
        good(owner.post("/v1/completions", json=asked))
        assert len(noted()) == count
    assert (noted()[0]["detail"]["completion_tokens"], noted()[0]["detail"]["model"]) == (2, allerac.MODEL)
    assert "secret question" not in owner.get("/v1/admin/audit_logs/export").raise_for_status().content.decode()
    refused(owner.post("/v1/admin/audit_logs/requests", json={}), 400, "invalid_body")


def test_whether_the_books_add_up_is_asked_over_the_api(box, owner):
    told = good(owner.get("/v1/admin/ledger/verification"))
    assert (told["adds_up"], told["open"], told["differences"]) == (True, 0, [])
    with sqlite3.connect(box.data / "ledger.db") as books:
        account, month, used = books.execute("SELECT account, month, used FROM balances WHERE used > 0").fetchone()
        books.execute("UPDATE balances SET used = used + 1 WHERE account = ? AND month = ?", [account, month])
    off = good(owner.get("/v1/admin/ledger/verification"))
    assert (off["adds_up"], [(row["what"], row["books"], row["journal"]) for row in off["differences"]]) == (False, [("used", used + 1, used)])
    with sqlite3.connect(box.data / "ledger.db") as books:
        books.execute("UPDATE balances SET used = used - 1 WHERE account = ? AND month = ?", [account, month])
    assert good(owner.get("/v1/admin/ledger/verification"))["adds_up"]


def test_auditors_look_and_members_do_not(box, owner):
    add(owner, "aud", role="auditor")
    add(owner, "max")
    keys = {name: good(owner.post("/v1/admin/keys", json={"user": name}), 201)["secret"] for name in ("aud", "max")}
    for path in ("/v1/admin/usage", "/v1/admin/audit_logs/verification", "/v1/admin/teams", "/v1/admin/plans", "/v1/admin/alerts", "/v1/admin/upstreams"):
        with box.http(keys["aud"]) as auditor:
            good(auditor.get(path))
        with box.http(keys["max"]) as member:
            refused(member.get(path), 403, "owner_only")
