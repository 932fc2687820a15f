"""Roles, sessions, second factors, invitations, teams and the administration, over real sockets."""

import base64
import hashlib
import hmac
import struct
import time

import httpx
import pytest

import allerac

PASSWORD = "correct horse battery"
CHAT = {"model": allerac.MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def totp(secret: str, at: float) -> str:
    """RFC 6238, independently of the server."""
    key = base64.b32decode(secret)
    digest = hmac.new(key, struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    offset = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[offset : offset + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A claimed server of the module's own."""
    with allerac.Server(allerac.data_dir(tmp_path_factory.mktemp("people") / "data")) as running:
        running.owner_key = running.claim()
        yield running


@pytest.fixture
def owner(box):
    with box.http(box.owner_key) as made:
        yield made


def page(box) -> httpx.Client:
    """A browser as far as the server sees one: it keeps cookies and says whose page it shows."""
    return httpx.Client(base_url=box.url, headers={"origin": box.url, "sec-fetch-site": "same-origin"}, timeout=120)


def refused(answer, status: int, code: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["error"]["code"]) == (status, code), answer.text
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]["message"]


def good(answer, status: int = 200):
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def add(owner, name: str, **fields) -> dict:
    return good(owner.post("/v1/admin/people", json={"name": name} | fields), 201)


def sign_in(box, owner, name: str) -> httpx.Client:
    """Adds somebody who is not there, gives them a password, and signs them in."""
    if owner.get(f"/v1/admin/people/{name}").status_code == 404:
        add(owner, name)
    good(owner.post(f"/v1/admin/people/{name}", json={"password": PASSWORD}))
    browser = page(box)
    good(browser.post("/auth/login", json={"name": name, "password": PASSWORD}))
    return browser


def test_a_child_is_bound_by_role_hours_and_models(box, owner):
    add(owner, "kid", role="child", plan="pro", models=["smol*"])
    key = good(owner.post("/v1/admin/keys", json={"user": "kid"}), 201)["secret"]
    with box.http(key) as kid:
        good(kid.post("/v1/chat/completions", json=CHAT))
        refused(kid.get("/v1/files"), 403, "role_not_allowed")
        refused(kid.post("/v1/account/keys", json={}), 403, "role_not_allowed")
        refused(kid.get("/v1/admin/people"), 403, "owner_only")
        # Hours that are not now, by the clock on this machine's wall: tomorrow's.
        shut = time.strftime("%a", time.localtime(time.time() + 2 * 86400)).lower()
        good(owner.post("/v1/admin/people/kid", json={"hours": f"{shut} 10:00-11:00", "models": ["other"]}))
        message = refused(kid.post("/v1/chat/completions", json=CHAT), 403, "outside_hours")
        assert "the next ones begin at 20" in message
        anthropic = kid.post("/v1/messages", json=CHAT, headers={"anthropic-version": "2023-06-01"})
        assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (403, "permission_error")
        assert good(kid.get("/v1/account"))["person"]["hours"] == f"{shut} 10:00-11:00"
        good(owner.post("/v1/admin/people/kid", json={"hours": ""}))
        refused(kid.post("/v1/chat/completions", json=CHAT), 403, "model_not_allowed")
        assert good(kid.get("/v1/models"))["data"] == []
    refused(owner.post("/v1/admin/keys", json={"user": "kid", "upstreams": ["all"]}), 400, "invalid_value")


def test_an_auditor_looks_and_changes_nothing(box, owner):
    add(owner, "audrey", role="auditor")
    key = good(owner.post("/v1/admin/keys", json={"user": "audrey"}), 201)["secret"]
    with box.http(key) as auditor:
        for path in ("people", "keys", "plans", "teams", "invitations", "sessions", "audit_logs"):
            assert good(auditor.get(f"/v1/admin/{path}"))["object"] == "list"
        assert auditor.get("/metrics").status_code == 200
        refused(auditor.post("/v1/chat/completions", json=CHAT), 403, "role_not_allowed")
        for path in ("people", "keys", "plans", "teams", "invitations"):
            refused(auditor.post(f"/v1/admin/{path}", json={"name": "x"}), 403, "owner_only")
        refused(auditor.delete("/v1/admin/people/olga"), 403, "owner_only")


def test_an_admin_manages_but_never_becomes_an_owner(box, owner):
    add(owner, "adam", role="admin")
    key = good(owner.post("/v1/admin/keys", json={"user": "adam"}), 201)["secret"]
    with box.http(key) as admin:
        good(admin.post("/v1/admin/people", json={"name": "max"}), 201)
        for role in ("owner", "admin"):
            refused(admin.post("/v1/admin/people", json={"name": "eve", "role": role}), 403, "role_not_allowed")
            refused(admin.post("/v1/admin/invitations", json={"role": role}), 403, "role_not_allowed")
            refused(admin.post("/v1/admin/people/adam", json={"role": "owner"}), 403, "role_not_allowed")
        olga = good(owner.get("/v1/admin/keys", params={"user": "olga"}))["data"][0]["id"]
        refused(admin.post("/v1/admin/keys", json={"user": "olga"}), 403, "role_not_allowed")
        refused(admin.post(f"/v1/admin/keys/{olga}/rotate", json={}), 403, "role_not_allowed")
        refused(admin.delete(f"/v1/admin/keys/{olga}"), 403, "role_not_allowed")
        refused(admin.post("/v1/admin/people/olga", json={"password": "0123456789"}), 403, "role_not_allowed")
        refused(admin.delete("/v1/admin/people/olga"), 403, "role_not_allowed")
        good(admin.delete("/v1/admin/people/max"), 204)
    refused(owner.delete("/v1/admin/people/olga"), 409, "last_owner")
    refused(owner.post("/v1/admin/people/olga", json={"role": "member"}), 409, "last_owner")


@pytest.mark.parametrize(
    ("scope", "open_", "shut"),
    [
        ("inference", ("POST", "/v1/chat/completions"), [("GET", "/v1/models"), ("GET", "/v1/files"), ("GET", "/v1/account")]),
        ("models", ("GET", "/v1/models"), [("POST", "/v1/chat/completions"), ("POST", "/api/chat")]),
        ("files", ("GET", "/v1/files"), [("GET", "/v1/models"), ("POST", "/v1/embeddings")]),
        ("account", ("GET", "/v1/account"), [("GET", "/v1/admin/people"), ("POST", "/v1/messages")]),
        ("admin", ("GET", "/v1/admin/people"), [("GET", "/v1/account"), ("POST", "/v1/responses")]),
    ],
)
def test_a_key_opens_the_endpoints_it_is_made_for(box, owner, scope, open_, shut):
    made = good(owner.post("/v1/admin/keys", json={"user": "olga", "scopes": [scope]}), 201)
    assert made["scopes"] == [scope]
    with box.http(made["secret"]) as bound:
        good(bound.request(*open_, json=CHAT if open_[0] == "POST" else None))
        for method, path in shut:
            answer = bound.request(method, path, json=CHAT if method == "POST" else None)
            assert answer.status_code == 403, (path, answer.text)


def test_keys_expire_turn_and_tell_when_they_were_used(box, owner):
    made = good(owner.post("/v1/admin/keys", json={"user": "olga", "name": "ci", "expires_in_seconds": 2}), 201)
    with box.http(made["secret"]) as bound:
        good(bound.get("/v1/models"))
        allerac.wait_for("the key expires", lambda: bound.get("/v1/models").status_code == 401)
        refused(bound.get("/v1/models"), 401, "key_expired")
    made = good(owner.post("/v1/admin/keys", json={"user": "olga"}), 201)
    turned = good(owner.post(f"/v1/admin/keys/{made['id']}/rotate", json={"overlap_seconds": 3600}))
    for secret in (made["secret"], turned["secret"]):
        with box.http(secret) as either:
            good(either.get("/v1/models"))
    assert turned["old_secret_until"] > time.time() + 3500
    last = good(owner.post(f"/v1/admin/keys/{made['id']}/rotate", json={}))
    for secret, status in ((made["secret"], 401), (turned["secret"], 401), (last["secret"], 200)):
        with box.http(secret) as each:
            assert each.get("/v1/models").status_code == status
    # What the server has not written down yet it writes when it is asked to stop.
    assert good(owner.get(f"/v1/admin/keys/{made['id']}"))["revoked_at"] is None


def test_people_make_keys_within_what_they_may(box, owner):
    anna = sign_in(box, owner, "anna")
    made = good(anna.post("/v1/account/keys", json={"name": "laptop", "scopes": ["inference", "account"]}), 201)
    refused(anna.post("/v1/account/keys", json={"user": "olga"}), 400, "invalid_value")
    with box.http(made["secret"]) as key:
        good(key.post("/v1/chat/completions", json=CHAT))
        refused(key.post("/v1/account/keys", json={}), 403, "scope_not_allowed")
        small = good(key.post("/v1/account/keys", json={"scopes": ["inference"], "expires_in_seconds": 600}), 201)
        refused(key.post("/v1/account/keys", json={"scopes": ["inference"], "upstreams": ["gpu"]}), 403, "upstream_not_allowed")
    bound = good(anna.post("/v1/account/keys", json={"models": ["smol*"]}), 201)
    with box.http(bound["secret"]) as key:
        # A key that is bound to models makes none that is not.
        refused(key.post("/v1/account/keys", json={}), 403, "key_is_bound")
        refused(key.post(f"/v1/account/keys/{made['id']}/rotate", json={}), 403, "key_is_bound")
        refused(key.get("/v1/account/keys", params={"limit": 0}), 400, "invalid_value")
    listed = good(anna.get("/v1/account/keys", params={"limit": 2}))
    assert ([row["id"] for row in listed["data"]], listed["has_more"]) == ([bound["id"], small["id"]], True)
    assert "secret" not in listed["data"][0]
    rest = good(anna.get("/v1/account/keys", params={"after": small["id"]}))
    assert [row["id"] for row in rest["data"]] == [made["id"]]
    turned = good(anna.post(f"/v1/account/keys/{made['id']}/rotate", json={}))
    assert turned["id"] == made["id"] and turned["secret"] != made["secret"]
    olga = good(owner.get("/v1/admin/keys", params={"user": "olga"}))["data"][0]["id"]
    refused(anna.delete(f"/v1/account/keys/{olga}"), 404, "not_found")
    refused(anna.post(f"/v1/account/keys/{olga}/rotate", json={}), 404, "not_found")
    assert good(anna.delete(f"/v1/account/keys/{made['id']}"))["revoked_at"] is not None


def test_a_session_asks_as_its_person_and_ends(box, owner):
    ben = sign_in(box, owner, "ben")
    cookie = next(iter(ben.cookies.jar))
    assert (cookie.name, cookie.path, cookie.secure, cookie.has_nonstandard_attr("HttpOnly")) == ("allerac_session", "/", False, True)
    assert cookie.get_nonstandard_attr("SameSite") == "Strict"
    account = good(ben.get("/v1/account"))
    assert (account["person"]["name"], account["signed_in"]) == ("ben", True)
    answer = good(ben.post("/v1/chat/completions", json=CHAT))
    allerac.wait_for(
        "what ben asked is counted as his",
        lambda: good(ben.get("/v1/account"))["person"]["month"]["used"] == answer["usage"]["total_tokens"],
    )
    sessions = good(ben.get("/v1/account/sessions"))["data"]
    assert [(row["current"], row["address"]) for row in sessions] == [(True, "127.0.0.1")]
    # The secret is nowhere on the disk.
    assert cookie.value.split("-")[-1].encode() not in (box.data / "ledger.db").read_bytes()
    second = page(box)
    good(second.post("/auth/login", json={"name": "BEN", "password": PASSWORD}))
    good(second.delete(f"/v1/account/sessions/{sessions[0]['id']}"), 204)
    refused(ben.get("/v1/models"), 401, "signed_out")
    out = second.post("/auth/logout")
    assert out.status_code == 204 and "Max-Age=0" in out.headers["set-cookie"]
    refused(second.get("/v1/models"), 401, "invalid_api_key")
    taken = page(box)
    taken.cookies.set("allerac_session", cookie.value)
    refused(taken.get("/v1/models"), 401, "signed_out")


def test_a_foreign_page_does_nothing_with_somebodys_cookie(box, owner):
    carl = sign_in(box, owner, "carl")
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        refused(carl.post("/v1/account/keys", json={}, headers=headers), 403, "foreign_origin")
        refused(carl.get("/v1/account", headers=headers), 403, "foreign_origin")
    del carl.headers["origin"]
    refused(carl.post("/v1/chat/completions", json=CHAT), 403, "foreign_origin")
    assert good(carl.get("/v1/account/keys"))["data"] == []
    evil = {"origin": "http://evil.example"}
    refused(httpx.post(f"{box.url}/auth/login", json={"name": "carl", "password": PASSWORD}, headers=evil), 403, "foreign_origin")
    # Over HTTPS, which a proxy speaks, the cookie never travels in the clear.
    https = {"origin": box.url.replace("http:", "https:")}
    answer = httpx.post(f"{box.url}/auth/login", json={"name": "carl", "password": PASSWORD}, headers=https)
    assert answer.headers["set-cookie"].endswith("; Secure")


def test_guessing_is_slow_and_says_nothing_of_who_exists(box, owner):
    add(owner, "dora")
    good(owner.post("/v1/admin/people/dora", json={"password": PASSWORD}))
    times = {"dora": [], "nobody here": []}
    with page(box) as guesser:
        for name, taken in times.items():
            for _ in range(5):
                begin = time.monotonic()
                wrong = guesser.post("/auth/login", json={"name": name, "password": "wrong"})
                taken.append(time.monotonic() - begin)
                assert refused(wrong, 401, "wrong_login") == "nobody of this name has this password"
        # The work of one Argon2 is in both; a tenth of it would be a lookup alone.
        assert 0.3 < min(times["dora"]) / min(times["nobody here"]) < 3
        answers = [guesser.post("/auth/login", json={"name": "dora", "password": "wrong"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    refused(answers[-1], 429, "too_many_tries")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 16
    # Also with the right one, until then.
    refused(page(box).post("/auth/login", json={"name": "dora", "password": PASSWORD}), 429, "too_many_tries")


def test_a_second_factor_is_asked_for_and_its_codes_open_once(box, owner):
    emil = sign_in(box, owner, "emil")
    refused(emil.post("/v1/account/second_factor", json={"password": "wrong"}), 403, "wrong_password")
    begun = good(emil.post("/v1/account/second_factor", json={"password": PASSWORD}))
    assert begun["url"].startswith("otpauth://totp/") and f"secret={begun['secret']}" in begun["url"]
    size = len(begun["picture"])
    assert size > 20 and all(len(row) == size and set(row) == {"0", "1"} for row in begun["picture"])
    refused(emil.post("/v1/account/second_factor/confirm", json={"code": "000000"}), 403, "wrong_second_factor")
    now = time.time()
    codes = good(emil.post("/v1/account/second_factor/confirm", json={"code": totp(begun["secret"], now)}))
    recovery = codes["recovery_codes"]
    assert len(set(recovery)) == 10
    login = {"name": "emil", "password": PASSWORD}
    refused(page(box).post("/auth/login", json=login), 401, "second_factor_required")
    # The code that confirmed it was used; the next one opens, once.
    refused(page(box).post("/auth/login", json=login | {"code": totp(begun["secret"], now)}), 401, "wrong_second_factor")
    after = totp(begun["secret"], now + 30)
    good(page(box).post("/auth/login", json=login | {"code": after}))
    refused(page(box).post("/auth/login", json=login | {"code": after}), 401, "wrong_second_factor")
    good(page(box).post("/auth/login", json=login | {"code": recovery[0].upper()}))
    refused(page(box).post("/auth/login", json=login | {"code": recovery[0]}), 401, "wrong_second_factor")
    # Neither secret nor codes are on the disk.
    kept = b"".join(path.read_bytes() for path in box.data.glob("ledger.db*"))
    assert base64.b32decode(begun["secret"]) not in kept and begun["secret"].encode() not in kept
    assert recovery[1].replace("-", "").encode() not in kept
    known = {"password": PASSWORD}
    refused(emil.post("/v1/account/second_factor/remove", json=known), 403, "second_factor_required")
    good(emil.post("/v1/account/second_factor/remove", json=known | {"code": recovery[1]}), 204)
    good(page(box).post("/auth/login", json=login))


def test_an_invitation_makes_a_person_once(box, owner):
    good(owner.post("/v1/admin/teams", json={"name": "shop", "plan": "starter"}), 201)
    asked = {"role": "member", "plan": "starter", "team": "shop", "expires_in_seconds": 600}
    made = good(owner.post("/v1/admin/invitations", json=asked), 201)
    link, secret = made["url"].split("#invitation=")
    assert link == f"{box.url}/"
    guest = page(box)
    said = good(guest.post("/auth/invitation", json={"invitation": secret}))
    assert (said["role"], said["plan"], said["team"], said["name"]) == ("member", "starter", "shop", None)
    accept = {"invitation": secret, "name": "frida", "password": PASSWORD}
    refused(guest.post("/auth/invitation/accept", json=accept | {"password": "short"}), 400, "invalid_value")
    refused(guest.post("/auth/invitation/accept", json=accept | {"name": "olga"}), 409, "name_taken")
    refused(guest.post("/auth/invitation/accept", json=accept | {"name": "a\r\nSet-Cookie: x=y"}), 400, "invalid_value")
    assert good(guest.post("/auth/invitation/accept", json=accept), 201) == {"name": "frida", "role": "member"}
    account = good(guest.get("/v1/account"))
    assert [team["name"] for team in account["teams"]] == ["shop"]
    refused(guest.post("/auth/invitation/accept", json=accept | {"name": "fred"}), 404, "not_found")
    row = good(owner.get(f"/v1/admin/invitations/{made['id']}"))
    assert (row["status"], row["user"], row["created_by"]) == ("taken", "frida", "olga")
    back = good(owner.post("/v1/admin/invitations", json={}), 201)
    assert good(owner.delete(f"/v1/admin/invitations/{back['id']}"))["status"] == "revoked"
    shut = {"invitation": back["url"].split("=")[1], "name": "x", "password": PASSWORD}
    refused(guest.post("/auth/invitation/accept", json=shut), 404, "not_found")
    # A team pays where that is said, and only for its members.
    good(guest.post("/v1/account/team", json={"team": "shop"}), 204)
    used = good(guest.post("/v1/chat/completions", json=CHAT))["usage"]["total_tokens"]
    allerac.wait_for(
        "the team paid", lambda: good(owner.get("/v1/admin/teams/shop"))["month"]["used"] == used
    )
    assert good(guest.get("/v1/account"))["person"]["month"]["used"] == 0
    refused(guest.post("/v1/account/team", json={"team": "other"}), 400, "invalid_value")
    good(owner.delete("/v1/admin/teams/shop/members/frida"))
    refused(guest.get("/v1/account"), 401, "signed_out")
    assert box.cli("ledger", "verify").returncode == 0


def test_plans_are_made_changed_and_removed(owner):
    made = good(owner.post("/v1/admin/plans", json={"name": "kids", "like": "starter", "limits": {"requests_a_minute": 5}}), 201)
    assert (made["limits"]["tokens_a_month"], made["limits"]["requests_a_minute"]) == (1_000_000, 5)
    changed = good(owner.post("/v1/admin/plans/kids", json={"tokens_a_month": 7, "requests_a_minute": None}))
    assert (changed["limits"]["tokens_a_month"], changed["limits"]["requests_a_minute"]) == (7, None)
    for wrong in ({"tokens_a_month": -1}, {"concurrency": 0}, {"gold": 1}, {"counts": "all"}, {"name": "x"}, {"tokens_a_month": 1e300}):
        assert owner.post("/v1/admin/plans/kids", json=wrong).status_code == 400, wrong
    refused(owner.post("/v1/admin/plans", json={"name": "kids"}), 409, "plan_exists")
    add(owner, "kim", plan="kids")
    refused(owner.delete("/v1/admin/plans/kids"), 409, "plan_in_use")
    good(owner.post("/v1/admin/people/kim", json={"plan": "starter", "increase": {"tokens": 5, "ends_at": int(time.time()) + 600}}))
    assert good(owner.get("/v1/admin/people/kim"))["month"]["limit"] == 1_000_005
    refused(owner.post("/v1/admin/people/kim", json={"increase": {"tokens": 5, "ends_at": 1}}), 400, "invalid_value")
    assert good(owner.post("/v1/admin/people/kim", json={"increase": {"tokens": 0}}))["increases"] == []
    good(owner.delete("/v1/admin/plans/kids"), 204)
    refused(owner.get("/v1/admin/plans/kids"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/admin/people", {"name": ""}, "name"),
        ("/v1/admin/people", {"name": "a\nb"}, "name"),
        ("/v1/admin/people", {"name": "ok", "role": "king"}, "role"),
        ("/v1/admin/people", {"name": "ok", "plan": "x'; DROP TABLE users; --"}, "plan"),
        ("/v1/admin/people", {"name": "ok", "hours": "25:00-26:00"}, "hours"),
        ("/v1/admin/people", {"name": "ok", "models": ["a*b"]}, "models"),
        ("/v1/admin/keys", {"user": "olga", "expires_in_seconds": -1}, "expires_in_seconds"),
        ("/v1/admin/keys", {"user": "olga", "scopes": ["root"]}, "scopes[0]"),
        ("/v1/admin/keys", {"user": "olga", "team": "none"}, "team"),
        ("/v1/admin/keys", {"user": "olga", "wings": 2}, "wings"),
        ("/v1/admin/keys", {}, "user"),
        ("/v1/admin/invitations", {"expires_in_seconds": -5}, "expires_in_seconds"),
        ("/v1/admin/people/olga", {"password": "short"}, "password"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_changes_nothing(owner, path, body, param):
    before = good(owner.get("/v1/admin/audit_logs", params={"limit": 1}))["data"][0]["id"]
    answer = owner.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert good(owner.get("/v1/admin/audit_logs", params={"limit": 1}))["data"][0]["id"] == before
    assert owner.get("/v1/admin/people/ok").status_code == 404


def test_keys_in_addresses_and_forged_ones_are_refused(box, owner):
    key = box.owner_key
    for address in (f"/v1/models?api_key={key}", f"/v1/models/{key}"):
        refused(owner.get(address), 400, "key_in_address")
        refused(httpx.get(box.url + address), 400, "key_in_address")
    head, public, secret = key[:10], key.split("-")[2], key.split("-", 3)[3]
    for forged in (key[:-1], key + "A", f"{head}-{public}-" + "A" * 43, f"{head}-' OR 1=1 --" + secret, f"{head}-{public}-", "x" * 5000):
        with box.http(forged) as nobody:
            refused(nobody.get("/v1/models"), 401, "invalid_api_key")
    # A key that does not open is not passed over for a cookie.
    gina = sign_in(box, owner, "gina")
    refused(gina.get("/v1/models", headers={"authorization": f"Bearer {key[:-1]}"}), 401, "invalid_api_key")


def test_everything_done_is_in_the_audit_log(box, owner):
    add(owner, "hans")
    good(owner.post("/v1/admin/people/hans", json={"plan": "pro"}))
    key = good(owner.post("/v1/admin/keys", json={"user": "hans"}), 201)["id"]
    good(owner.post(f"/v1/admin/keys/{key}/rotate", json={}))
    good(owner.post(f"/v1/admin/keys/{key}", json={"plan": "starter"}))
    good(owner.delete(f"/v1/admin/keys/{key}"))
    good(owner.delete("/v1/admin/people/hans"), 204)
    entries = good(owner.get("/v1/admin/audit_logs", params={"limit": 7}))
    told = [(entry["action"], entry["subject"]) for entry in reversed(entries["data"])]
    assert told == [
        ("user.add", "hans"), ("user.change", "hans"), ("key.create", key), ("key.rotate", key), ("key.plan", key),
        ("key.revoke", key), ("user.remove", "hans"),
    ]  # fmt: skip
    owner_id = box.owner_key.split("-")[2]
    assert {entry["actor"] for entry in entries["data"]} == {f"olga, key {owner_id}"}
    more = good(owner.get("/v1/admin/audit_logs", params={"limit": 2, "after": entries["last_id"]}))
    assert int(more["first_id"]) == int(entries["last_id"]) - 1 and more["has_more"]
    assert box.cli("audit", "verify").returncode == 0
    organization = good(owner.get("/v1/organization/users"))["data"]
    assert {"object": "organization.user", "role": "owner"}.items() <= next(p for p in organization if p["id"] == "olga").items()
    assert good(owner.get("/v1/organization/audit_logs", params={"limit": 1}))["data"][0]["type"] == "user.remove"
    assert good(owner.get("/v1/organization/invites"))["object"] == "list"


def test_the_command_line_does_the_same(box, owner):
    run = box.cli
    run("users", "add", "ivo", "--role", "child", "--plan", "starter", "--hours", "00:00-24:00", "--model", "smol*")
    assert good(owner.get("/v1/admin/people/ivo"))["models"] == ["smol*"]
    key = box.create_key("ivo", "--scope", "inference", "--expires", "2090-01-01")
    with box.http(key) as ivo:
        good(ivo.post("/v1/chat/completions", json=CHAT))
    turned = run("keys", "rotate", key.split("-")[2], "--overlap-hours", "0").stdout.strip()
    assert turned.split("-")[2] == key.split("-")[2] and turned != key
    run("users", "set", "ivo", "--role", "member", "--hours", "", "--model", "all")
    row = good(owner.get("/v1/admin/people/ivo"))
    assert (row["role"], row["hours"], row["models"]) == ("member", "", [])
    run("teams", "add", "crew", "--plan", "pro")
    run("teams", "join", "crew", "ivo")
    assert "ivo" in run("teams", "list").stdout
    link = run("invitations", "create", "--role", "auditor", "--url", box.url).stdout.strip()
    invitation = link.split("#invitation=")[1]
    assert good(page(box).post("/auth/invitation", json={"invitation": invitation}))["role"] == "auditor"
    run("invitations", "revoke", invitation.split("-")[2])
    for wrong, status in (
        (("users", "add", "ivo"), 3), (("users", "add", "x", "--role", "king"), 2), (("users", "set", "ivo", "--hours", "9-5"), 2),
        (("keys", "create", "--user", "ivo", "--expires", "2001-01-01"), 2), (("keys", "rotate", "nobody"), None),
        (("teams", "join", "none", "ivo"), None), (("users", "list", "--time-zone", "Mars/Olympus"), 2),
    ):  # fmt: skip
        done = run(*wrong, check=False)
        assert done.returncode != 0 and done.stderr.startswith("error:"), (wrong, done.stderr)
    run("teams", "remove", "crew")
    run("users", "remove", "ivo")
    assert owner.get("/v1/admin/people/ivo").status_code == 404


def test_a_box_can_be_claimed_with_a_password(tmp_path):
    with allerac.Server(allerac.data_dir(tmp_path / "data")) as fresh:
        import re

        code = re.search(r"Claim code +(\S+)", fresh.log)[1]
        claim = {"code": code, "owner": "olga"}
        with page(fresh) as browser:
            refused(browser.post("/claim", json=claim | {"password": "short"}), 400, "invalid_value")
            assert not good(browser.get("/claim"))["claimed"]
            good(browser.post("/claim", json=claim | {"password": PASSWORD}), 201)
            assert good(browser.get("/v1/account"))["person"]["role"] == "owner"
        # A restart signs nobody out.
        fresh.stop()
        fresh.start()
        browser.close()
        with page(fresh) as again:
            good(again.post("/auth/login", json={"name": "olga", "password": PASSWORD}))
            good(again.get("/v1/admin/people"))


def test_a_refused_body_ends_its_connection_and_says_so(box, owner):
    key = good(owner.post("/v1/admin/keys", json={"user": "olga", "scopes": ["models"]}), 201)["secret"]
    with box.http(key) as bound:
        for _ in range(20):
            answer = bound.post("/v1/chat/completions", json=CHAT)
            refused(answer, 403, "scope_not_allowed")
            assert answer.headers["connection"] == "close"
        assert "connection" not in bound.get("/v1/models").headers
