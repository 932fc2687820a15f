"""Alerts: a real receiver that checks signatures with the library of Standard Webhooks, and a real SMTP server."""

import base64
import http.server
import json
import socket
import ssl
import subprocess
import threading

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

import allerac
from test_faults import SHORT

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
# Prompt and answer of SHORT.
SHORT_TOKENS = 12


def spend(client):
    client.completions.create(**SHORT)


class Receiver:
    """Takes webhooks; answers what it is told to."""

    def __init__(self):
        self.taken, self.seen, self.status = [], [], 200
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.seen.append(self.headers["webhook-id"])
                # Raises where the signature does not fit, or the time is off.
                alert = Webhook(SECRET).verify(body, dict(self.headers))
                if receiver.status == 200:
                    receiver.taken.append((dict(self.headers), body, alert))
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    running = Receiver()
    yield running
    running.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Inbox:
    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content.decode(), session.ssl is not None))
        return "250 OK"


def box(tmp_path, config: str) -> allerac.Server:
    (tmp_path / "secret").write_text(SECRET + "\n")
    return allerac.Server(allerac.data_dir(tmp_path / "data"), config=config)


def hook(url: str, more: str = "") -> str:
    return f'[alerts]\n[[alerts.webhook]]\nname = "ops"\nurl = "{url}"\nsecret_file = "secret"\n{more}'


def told(receiver) -> list[tuple]:
    return [(alert["data"]["percent"], alert["data"]["refused"]) for _, _, alert in receiver.taken]


def deliveries(server, *arguments: str) -> list[dict]:
    return json.loads(server.cli("alerts", "list", "--json", *arguments).stdout)


def test_each_part_of_a_limit_is_told_once_and_signed(tmp_path, receiver):
    with box(tmp_path, hook(receiver.url)) as server:
        server.cli("plans", "add", "small", "--tokens-a-month", str(10 * SHORT_TOKENS))
        key = server.create_key("anna", "--plan", "small")
        with server.client(key) as client:
            for _ in range(4):
                spend(client)
            assert receiver.seen == []
            spend(client)
            allerac.wait_for("half is told", lambda: told(receiver) == [(50, False)])
            for _ in range(5):
                spend(client)
            allerac.wait_for("the rest is told", lambda: told(receiver) == [(50, False), (80, False), (100, False)])
            with server.http(key) as http:
                assert http.post("/v1/completions", json=SHORT).status_code == 429
            # Another limit that is reached shows that no more came of this one.
            other = server.create_key("kim", "--plan", "small")
            with server.client(other) as kim:
                for _ in range(5):
                    spend(kim)
            allerac.wait_for("another is told", lambda: len(receiver.taken) == 4)
        headers, body, alert = receiver.taken[0]
        assert alert["type"] == "limit.reached" and alert["box"] == "allerac"
        assert alert["summary"].startswith("anna used 50 % of 20")
        assert alert["data"] | {"month": ""} == {
            "percent": 50, "user": "anna", "key": None, "plan": "small", "month": "", "used": 5 * SHORT_TOKENS,
            "limit": 10 * SHORT_TOKENS, "refused": False,
        }  # fmt: skip
        assert receiver.taken[3][2]["data"]["user"] == "kim"
        assert len(set(receiver.seen)) == 4
        all_of = lambda: {(row["state"], row["tries"], row["channel"]) for row in deliveries(server)}
        allerac.wait_for("that is noted", lambda: all_of() == {("delivered", 1, "ops")})
        # Changed, or of another time, it is not ours.
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body.replace(b"50", b"51"), headers)
        lower = {name.lower(): value for name, value in headers.items()}
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body, lower | {"webhook-timestamp": str(int(lower["webhook-timestamp"]) - 600)})
        # Who is erased is in none of them.
        server.cli("users", "erase", "anna", "--yes")
        assert {row["detail"]["user"] for row in deliveries(server)} == {"kim"}


def test_a_refusal_for_want_of_tokens_is_the_hundredth_part(tmp_path, receiver):
    with box(tmp_path, hook(receiver.url, "[alerts.email]\nserver='localhost'\nsecurity='none'\nport=1\nfrom='a@b.c'\nto=['d@e.f']\nevents=['disk.low']\n")) as server:
        server.cli("plans", "add", "small", "--tokens-a-month", str(SHORT_TOKENS - 1))
        key = server.create_key("anna", "--plan", "small")
        with server.http(key) as http:
            for _ in range(3):
                assert http.post("/v1/completions", json=SHORT).status_code == 429
        allerac.wait_for("it is told", lambda: told(receiver) == [(100, True)])
        # Mail wants other things.
        states = lambda: [(row["channel"], row["state"]) for row in deliveries(server)]
        allerac.wait_for("that is noted", lambda: states() == [("ops", "delivered")])


def test_what_is_not_taken_comes_again_after_a_kill_and_is_given_up_when_told(tmp_path, receiver):
    receiver.status = 500
    with box(tmp_path, hook(receiver.url)) as server:
        owner_key = server.claim("olga")
        server.cli("plans", "add", "small", "--tokens-a-month", str(SHORT_TOKENS))
        key = server.create_key("anna", "--plan", "small")
        with server.client(key) as client:
            spend(client)
        allerac.wait_for("it is tried", lambda: receiver.seen)
        row = allerac.wait_for("that is noted", lambda: [row for row in deliveries(server) if row["tries"] == 1])[0]
        assert (row["state"], row["error"]) == ("waiting", "it answers 500 Internal Server Error")
        server.kill()
        receiver.status = 410
        server.start()
        allerac.wait_for("it is tried again", lambda: deliveries(server, "--dead"), 30)
        assert deliveries(server, "--dead")[0]["error"] == "it answers that it is gone (410)"
        # Dead ones are seen, however much was told since.
        assert deliveries(server, "--dead", "--last", "1")[0]["state"] == "dead"
        with server.http(owner_key) as owner, server.http(key) as http:
            (dead,) = owner.get("/v1/admin/alerts", params={"state": "dead"}).raise_for_status().json()["data"]
            assert (dead["type"], dead["channel"], dead["error"], dead["next_at"]) == (
                "limit.reached", "ops", "it answers that it is gone (410)", None,
            )  # fmt: skip
            assert (dead["detail"]["user"], dead["tries"]) == ("anna", 2)
            assert http.get("/v1/admin/alerts").status_code == 403
            assert http.post("/v1/admin/alerts/retry").status_code == 403
            receiver.status = 200
            assert owner.post("/v1/admin/alerts/retry", json={"alert": "nobody"}).json()["deliveries"] == 0
            assert owner.post("/v1/admin/alerts/retry").json() == {"object": "alert.retried", "deliveries": 1}
            allerac.wait_for("it is taken", lambda: told(receiver) == [(100, False)])
            taken = lambda: owner.get("/v1/admin/alerts").json()["data"][0]["state"]
            allerac.wait_for("that is noted", lambda: taken() == "delivered")
        assert len(set(receiver.seen)) == 1, "the same id each time"


def test_alerts_are_listed_a_page_at_a_time(tmp_path, receiver):
    other = f'[[alerts.webhook]]\nname = "log"\nurl = "{receiver.url}"\nsecret_file = "secret"\n'
    with box(tmp_path, hook(receiver.url, other)) as server:
        server.cli("plans", "add", "small", "--tokens-a-month", str(SHORT_TOKENS))
        for user in ("anna", "kim", "tom"):
            with server.client(server.create_key(user, "--plan", "small")) as client:
                spend(client)
        allerac.wait_for("all are told", lambda: len(receiver.taken) == 6)
        with server.http(server.claim("olga")) as owner:
            pages, after = [], {}
            while True:
                page = owner.get("/v1/admin/alerts", params={"limit": 2, **after}).raise_for_status().json()
                pages.append([(row["detail"]["user"], row["channel"]) for row in page["data"]])
                if not page["has_more"]:
                    break
                after = {"after": page["last_id"]}
            assert pages == [[(user, "log"), (user, "ops")] for user in ("tom", "kim", "anna")]
            assert owner.get("/v1/admin/alerts", params={"state": "waiting"}).json()["data"] == []
            for query in ("state=lost", "after=x", "limit=0", "limit=1001", "order=asc"):
                assert owner.get(f"/v1/admin/alerts?{query}").status_code == 400, query


def test_a_full_disk_and_a_failed_backup_are_told(tmp_path, receiver):
    config = hook(receiver.url).replace("[alerts]\n", "[alerts]\ndisk_free_mib = 16000000\n")
    recipient = "age1ymw8wqs5t2jn57clayjngmcutefpqcjx4m3dm6n6ntdtnd0w496q988ee4"
    config += f'[backup]\nfolder = "{tmp_path}/nowhere"\nrecipients = ["{recipient}"]\n'
    with box(tmp_path, config) as server:
        kinds = lambda: sorted(alert["type"] for _, _, alert in receiver.taken)
        allerac.wait_for("both are told", lambda: kinds() == ["backup.failed", "disk.low"], 30)
        backup = next(alert for _, _, alert in receiver.taken if alert["type"] == "backup.failed")
        assert backup["data"]["place"] == f"{tmp_path}/nowhere" and "No such file" in backup["data"]["error"]
        assert server.process.poll() is None


def mail(port: int, security: str, more: str = "") -> str:
    return f"""
        [alerts.email]
        server = "localhost"
        port = {port}
        security = "{security}"
        from = "box@home.lan"
        to = ["Olga <olga@home.lan>", "ops@home.lan"]
        {more}
    """


def try_out(tmp_path, config: str) -> subprocess.CompletedProcess:
    path = tmp_path / "alerts.toml"
    path.write_text(config)
    return allerac.cli("alerts", "test", "--config", str(path), check=False)


def certificate(tmp_path) -> tuple[str, ssl.SSLContext]:
    pem, key = tmp_path / "cert.pem", tmp_path / "cert.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*command, *names, "-out", str(pem), "-keyout", str(key)], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, key)
    return str(pem), context


def test_mail_goes_in_the_clear_to_this_machine_only(tmp_path):
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        port = controller.server.sockets[0].getsockname()[1]
        done = try_out(tmp_path, mail(port, "none"))
        assert (done.returncode, done.stdout) == (0, "ok      email\n"), done
        sender, to, text, _ = inbox.mails[0]
        assert (sender, to) == ("box@home.lan", ["olga@home.lan", "ops@home.lan"])
        assert "Subject: [allerac] a test\r\n" in text and "Message-ID: <test-" in text
        away = try_out(tmp_path, mail(port, "none").replace('"localhost"', '"smtp.example.org"'))
        assert away.returncode == 2 and "without TLS mail goes to" in away.stderr
    finally:
        controller.stop()
    gone = try_out(tmp_path, mail(port, "none"))
    assert gone.returncode == 1 and gone.stdout.startswith("FAILED  email: ")


def test_mail_over_starttls_with_a_login_and_never_without_tls(tmp_path):
    pem, context = certificate(tmp_path)
    inbox = Inbox()

    def login(server, session, envelope, mechanism, data):
        return AuthResult(success=(data.login, data.password) == (b"box", b"pass word"), handled=False)

    (tmp_path / "password").write_text("pass word\n")
    account = f'user = "box"\npassword_file = "password"\ncertificate_file = "{pem}"'
    options = {"tls_context": context, "require_starttls": True, "authenticator": login, "auth_required": True}
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        port = controller.server.sockets[0].getsockname()[1]
        done = try_out(tmp_path, mail(port, "starttls", account))
        assert (done.returncode, done.stdout) == (0, "ok      email\n"), done
        assert inbox.mails[0][3], "it did not come over TLS"
        unknown = try_out(tmp_path, mail(port, "starttls", account.split("certificate_file")[0]))
        assert unknown.returncode == 1 and "certificate" in unknown.stdout.lower(), unknown.stdout
        (tmp_path / "password").write_text("wrong\n")
        wrong = try_out(tmp_path, mail(port, "starttls", account))
        assert wrong.returncode == 1 and "535" in wrong.stdout, wrong.stdout
        assert len(inbox.mails) == 1
    finally:
        controller.stop()
    # A server that offers no TLS gets nothing, password least of all.
    plain = Controller(inbox, hostname="127.0.0.1", port=free_port())
    plain.start()
    try:
        port = plain.server.sockets[0].getsockname()[1]
        refused = try_out(tmp_path, mail(port, "starttls", account))
        assert refused.returncode == 1 and len(inbox.mails) == 1, refused.stdout
    finally:
        plain.stop()


def test_mail_over_tls_from_the_first_byte_by_the_server(tmp_path, receiver):
    pem, context = certificate(tmp_path)
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), ssl_context=context, server_hostname="localhost")
    controller.start()
    try:
        port = controller.server.sockets[0].getsockname()[1]
        config = hook(receiver.url) + mail(port, "tls", f'certificate_file = "{pem}"')
        with box(tmp_path, config) as server:
            server.cli("plans", "add", "small", "--tokens-a-month", str(SHORT_TOKENS))
            key = server.create_key("anna", "--plan", "small")
            with server.client(key) as client:
                spend(client)
            allerac.wait_for("both are told", lambda: inbox.mails and receiver.taken)
            text = inbox.mails[0][2]
            assert "anna used 100 % of " in text and f"Message-ID: <{receiver.seen[0]}@allerac.allerac>" in text
    finally:
        controller.stop()


def test_nobody_named_nobody_told(fresh, books):
    fresh.cli("plans", "add", "small", "--tokens-a-month", str(SHORT_TOKENS))
    with fresh.client(fresh.create_key("anna", "--plan", "small")) as client:
        spend(client)
    assert fresh.cli("alerts", "list").stdout == "nothing was told\n"
    assert books.rows("SELECT count(*) FROM alerts") == [(0,)]
    done = fresh.cli("alerts", "test", check=False)
    assert done.returncode == 2 and "nobody is to be told" in done.stderr
