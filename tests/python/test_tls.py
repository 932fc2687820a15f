"""HTTPS: by the box's own authority and by a certificate of the owner's, over both versions of HTTP, with every refusal."""

import contextlib
import hashlib
import re
import socket
import ssl
import subprocess
import time

import httpx
import openai
import pytest

import allerac


def secured(server) -> str:
    """Where it serves HTTPS."""
    return allerac.wait_for("an https address", lambda: re.search(r"(https://127\.0\.0\.1:\d+)", server.log))[1]


def data_in(folder):
    """A data directory that stays for the next server."""
    return folder / "data" if (folder / "data").exists() else allerac.data_dir(folder / "data")


def context(authority: bytes) -> ssl.SSLContext:
    """Of a device that trusts nobody else."""
    return ssl.create_default_context(cadata=authority)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data = allerac.data_dir(tmp_path_factory.mktemp("tls") / "data")
    with allerac.Server(data, arguments=("--listen-tls", "127.0.0.1:0")) as running:
        yield running


@pytest.fixture(scope="module")
def authority(server):
    with server.http() as http:
        answer = http.get("/authority.crt")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-x509-ca-cert")
    return answer.content


@pytest.fixture(scope="module")
def key(server):
    return server.create_key("anna")


def test_the_fingerprint_that_the_server_prints_is_that_of_the_file(server, authority):
    digest = hashlib.sha256(authority).hexdigest().upper()
    wanted = ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))
    assert re.search(r"Fingerprint +([0-9A-F:]+)", server.log)[1] == wanted
    shown = allerac.cli("console", "--once", "--url", server.url).stdout
    assert shown.replace("\n", "").replace(" ", "").find(wanted) > 0


def test_a_device_that_does_not_trust_the_box_refuses_it(server):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(secured(server) + "/healthz")


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_requests_and_streams_work_over_both_versions(server, authority, key, http2):
    http = httpx.Client(http2=http2, verify=context(authority), timeout=120)
    with openai.OpenAI(base_url=f"{secured(server)}/v1", api_key=key, max_retries=0, http_client=http) as client:
        body = {"model": allerac.MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0}
        whole = client.chat.completions.create(**body)
        pieces = client.chat.completions.create(**body, stream=True)
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert text == whole.choices[0].message.content != ""
        answer = http.get(secured(server) + "/healthz")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")


def test_errors_keep_their_shape_over_http2(server, authority):
    with httpx.Client(http2=True, verify=context(authority), base_url=secured(server)) as http:
        refused = http.post("/v1/chat/completions", json={})
        assert refused.status_code == 401 and refused.json()["error"]["type"] == "authentication_error"
        refused = http.post("/v1/messages", json={}, headers={"anthropic-version": "2023-06-01"})
        assert refused.json()["type"] == "error"


def test_a_client_that_leaves_in_the_middle_of_a_stream_is_noticed(server, authority, key):
    before = server.totals()["requests"]
    body = {"model": allerac.MODEL, "messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 3000,
            "stream": True}  # fmt: skip
    with httpx.Client(http2=True, verify=context(authority), headers={"authorization": f"Bearer {key}"}) as http:
        with http.stream("POST", secured(server) + "/v1/chat/completions", json=body) as answer:
            next(answer.iter_lines())
        # httpx resets no stream, so that only the end of its connection tells.
    allerac.wait_for("the request is settled", lambda: server.totals()["requests"] == before + 1)
    assert server.totals()["completion_tokens"] < 2900


def test_the_page_of_the_box_may_claim_it_over_https_and_no_other(tmp_path):
    with allerac.Server(data_in(tmp_path), arguments=("--listen-tls", "127.0.0.1:0")) as server:
        url = secured(server)
        with server.http() as http:
            trusted = context(allerac.wait_for("the server", lambda: http.get("/authority.crt")).content)
        code = re.search(r"Claim code +(\S+)", server.log)[1]
        for http2 in (False, True):
            with httpx.Client(http2=http2, verify=trusted, base_url=url) as http:
                claim = {"code": code, "owner": "olga"}
                refused = http.post("/claim", json=claim, headers={"origin": "https://elsewhere.example"})
                assert refused.json()["error"]["code"] == "foreign_origin"
        with httpx.Client(http2=True, verify=trusted, base_url=url) as http:
            assert http.post("/claim", json=claim, headers={"origin": url}).status_code == 201


def test_what_is_no_tls_is_dropped_and_nobody_waits_for_it(server, authority):
    host, port = "127.0.0.1", int(secured(server).rsplit(":", 1)[1])
    for sent in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64, b""):
        with socket.create_connection((host, port), timeout=5) as plain:
            with contextlib.suppress(OSError):
                plain.sendall(sent)
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(4096):
                    pass
    silent = [socket.create_connection((host, port)) for _ in range(50)]
    began = time.monotonic()
    assert httpx.get(secured(server) + "/healthz", verify=context(authority)).status_code == 200
    assert time.monotonic() - began < 5
    # Whoever says nothing is sent away.
    silent[0].settimeout(15)
    assert silent[0].recv(1) == b""
    for one in silent:
        one.close()


def test_old_versions_of_tls_are_refused(server, authority):
    old = context(authority)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    host, port = "127.0.0.1", int(secured(server).rsplit(":", 1)[1])
    with socket.create_connection((host, port)) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(plain, server_hostname="127.0.0.1")


def test_the_authority_outlives_a_restart_and_stays_with_the_owner(tmp_path):
    def run():
        with allerac.Server(data_in(tmp_path), arguments=("--listen-tls", "127.0.0.1:0")) as server:
            with server.http() as http:
                certificate = http.get("/authority.crt").content
            assert server.stop() == 0
        return certificate

    first = run()
    assert run() == first
    key = tmp_path / "data/tls/authority.key"
    assert key.stat().st_mode & 0o777 == 0o600 and key.parent.stat().st_mode & 0o777 == 0o700
    key.write_text("damaged")
    done = allerac.cli("serve", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0",
                       check=False)  # fmt: skip
    assert done.returncode != 0 and "authority.key is damaged\nhint: restore it" in done.stderr


def test_without_https_there_is_no_authority(tmp_path):
    with allerac.Server(data_in(tmp_path)) as server, server.http() as http:
        answer = http.get("/authority.crt")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_authority")
    assert not (tmp_path / "data/tls").exists()


def make_certificate(folder, serial: int):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=box.example", "-set_serial", str(serial), "-addext", "subjectAltName=DNS:box.example,IP:127.0.0.1",
         "-keyout", folder / "site.key", "-out", folder / "site.crt"],
        check=True, capture_output=True,
    )  # fmt: skip


def test_a_certificate_of_the_owners_is_served(tmp_path):
    make_certificate(tmp_path, 7)
    config = '[tls]\nlisten = "127.0.0.1:0"\ncertificate = "site.crt"\nkey = "site.key"\n'
    with allerac.Server(data_in(tmp_path), config=config) as server:
        trusted = ssl.create_default_context(cafile=tmp_path / "site.crt")
        assert httpx.get(secured(server) + "/healthz", verify=trusted).status_code == 200
        with server.http() as http:
            assert http.get("/authority.crt").status_code == 404
    (tmp_path / "site.key").write_text("no key")
    with pytest.raises(AssertionError, match="site.key cannot be used"):
        allerac.Server(data_in(tmp_path), config=config).start()
    half = config.replace('key = "site.key"\n', "")
    with pytest.raises(AssertionError, match="only one of `certificate` and `key`"):
        allerac.Server(data_in(tmp_path), config=half).start()
