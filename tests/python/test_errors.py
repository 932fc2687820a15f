"""Mistakes of clients: each is a clear error in OpenAI's shape, and nothing is charged."""

import contextlib
import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

import allerac

CHAT = {"model": allerac.MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def settled_totals(server) -> dict:
    """The usage once nothing is open: an answer does not wait for the disk."""
    with contextlib.closing(allerac.Books(server.data)) as books:
        allerac.wait_for("nothing open", lambda: books.open_reservations() == 0)
    return server.totals()


@pytest.fixture(autouse=True)
def nothing_is_charged(request, server, key):
    """Every test here ends with the usage it began with, unless it says what it pays for."""
    pays = request.node.get_closest_marker("pays")
    before = settled_totals(server)
    yield
    after = settled_totals(server)
    assert after["requests"] - before["requests"] == (pays.args[0] if pays else 0)


def error(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return body["error"]


def post(http, body, path="/v1/chat/completions") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(path, content=content, headers={"content-type": "application/json"})


# Keys.


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{allerac.MODEL}", "/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Basic YTpi", "bearer x", "sk-allerac-", "Bearer sk-wrong", "Bearer sk-allerac-aaaaaaaaaaaa-" + "A" * 43],
)
def test_nothing_answers_without_a_key(server, path, authorization):
    headers = {"authorization": authorization} if authorization is not None else {}
    method = "POST" if path.endswith("completions") else "GET"
    detail = error(httpx.request(method, server.url + path, headers=headers, json=CHAT), 401)
    assert (detail["type"], detail["code"]) == ("authentication_error", "invalid_api_key")


def test_the_client_says_authentication_error(server):
    with pytest.raises(openai.AuthenticationError), server.client("sk-nobody") as nobody:
        nobody.models.list()


def test_a_key_is_refused_before_the_body_is_read(server):
    """Ten megabytes are announced and never sent; the answer comes all the same."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n"
    assert raw_exchange(server, head).startswith(b"HTTP/1.1 401")


def test_health_and_page_want_no_key(server):
    assert httpx.get(f"{server.url}/healthz").text.strip() == "ok"
    assert httpx.get(f"{server.url}/readyz").json()["status"] == "ready"
    page = httpx.get(f"{server.url}/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_revoked_key_is_refused_from_the_next_request_on(server):
    key = server.create_key("rita", "--name", "old phone")
    with server.http(key) as http:
        assert http.get("/v1/models").status_code == 200
        listed = json.loads(server.cli("keys", "list", "--json").stdout)
        (public_id,) = [row["id"] for row in listed if row["user"] == "rita"]
        assert public_id in key
        server.cli("keys", "revoke", public_id)
        detail = error(http.get("/v1/models"), 401)
    assert detail["code"] == "invalid_api_key"
    assert "revoked" in detail["message"]
    assert public_id not in detail["message"]


# What is asked for.


def test_an_unknown_model(http, client):
    detail = error(post(http, CHAT | {"model": "gpt-9"}), 404)
    assert (detail["type"], detail["param"], detail["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert "gpt-9" in detail["message"]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**CHAT | {"model": "gpt-9"})


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat", "/nothing", "/v1/chat/completions/5"])
def test_an_unknown_path(http, path):
    assert "no" in error(http.get(path), 404)["message"].lower()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/chat/completions", "with /v1"), ("/models", "with /v1"), ("/v1/v1/messages", "without /v1"), ("/v1/api/chat", "without /v1")],
)  # fmt: skip
def test_an_address_that_is_likely_wrong_is_explained(http, path, words):
    assert error(http.post(path, json={}), 404)["message"].endswith(words)


@pytest.mark.pays(1)
@pytest.mark.parametrize("path", ["/v1//chat/completions", "//v1/chat/completions", "/v1/chat/completions/"])
def test_slashes_too_many_lead_to_the_path_that_was_meant(server, key, path):
    def ask(method, path, **options):
        return httpx.request(method, server.url + path, headers={"authorization": f"Bearer {key}"}, timeout=60, **options)

    answer = ask("POST", path, json=CHAT)
    assert (answer.status_code, answer.headers["location"]) == (308, "/v1/chat/completions")
    # As OpenAI's client does.
    assert ask("POST", path, json=CHAT, follow_redirects=True).status_code == 200
    assert ask("GET", "/v1/models/?limit=1").headers["location"] == "/v1/models?limit=1"
    assert ask("GET", "//elsewhere.example/x").headers["location"] == "/elsewhere.example/x"


@pytest.mark.pays(1)
@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity"])
def test_a_compressed_body_is_refused_by_name(http, encoding):
    body = json.dumps(CHAT).encode()
    told = {"content-encoding": encoding, "content-type": "application/json"}
    detail = error(http.post("/v1/chat/completions", content=gzip.compress(body), headers=told), 415)
    assert (detail["code"], "Content-Encoding" in detail["message"]) == ("unsupported_encoding", True)
    plain = told | {"content-encoding": "identity"}
    assert http.post("/v1/chat/completions", content=body, headers=plain).status_code == 200


def test_a_wrong_method(http):
    for answer in (http.get("/v1/completions"), http.get("/v1/responses"), http.delete("/v1/models")):
        assert error(answer, 405)["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"hello", b'{"model": "m",}', b"[" * 100_000, b'{"a":' * 50_000],
    ids=["empty", "cut", "array", "null", "text", "comma", "deep array", "deep object"],
)
def test_malformed_json(http, body):
    detail = error(post(http, body), 400)
    assert (detail["type"], detail["param"]) == ("invalid_request_error", None)
    assert "JSON" in detail["message"]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"0x1"])
def test_what_is_no_json_number(http, number):
    body = json.dumps(CHAT).encode()[:-1] + b', "temperature": ' + number + b"}"
    assert error(post(http, body), 400)["type"] == "invalid_request_error"


@pytest.mark.parametrize("garbage", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
def test_invalid_utf8(http, garbage):
    body = json.dumps(CHAT).encode().replace(b"hi", b"h" + garbage)
    assert "JSON" in error(post(http, body), 400)["message"]


def test_a_lone_surrogate_is_no_text(http):
    error(post(http, json.dumps(CHAT).encode().replace(b"hi", rb"h\ud800")), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", "hi"), ("messages", []), ("messages", None), ("messages", {}), ("model", 5), ("model", None),
        ("max_tokens", -1), ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", "9"), ("max_tokens", 2**40),
        ("max_completion_tokens", -1), ("temperature", -0.1), ("temperature", 2.1), ("temperature", "hot"),
        ("temperature", []), ("top_p", -1), ("top_p", 1.5), ("top_k", -1), ("min_p", -0.5), ("min_p", 2),
        ("presence_penalty", -3), ("presence_penalty", 2.5), ("frequency_penalty", 99), ("n", 0), ("n", -2),
        ("n", 1000), ("seed", "x"), ("seed", 1.5), ("stop", 5), ("stop", [""]), ("stop", ["a"] * 5),
        ("stop", "x" * 20_000), ("logprobs", 5), ("top_logprobs", 3), ("top_logprobs", -1), ("stream", "yes"),
        ("stream_options", {"include_usage": True}), ("user", 5), ("logit_bias", []), ("typical_p", 2),
        ("repeat_penalty", 0), ("repetition_penalty", -1), ("repeat_last_n", -2), ("dry_multiplier", "x"),
        ("dry_base", 0.5), ("dry_allowed_length", -1), ("dry_penalty_last_n", -2), ("dry_sequence_breakers", "x"),
        ("xtc_probability", 2), ("xtc_threshold", -1), ("mirostat", 3), ("mirostat_tau", -1), ("mirostat_eta", 2),
        ("post_sampling_probs", 1), ("min_tokens", -1), ("ignore_eos", 1),
        ("stream_options", {"include_usage": True}), ("user", 5), ("logit_bias", []),
        ("response_format", "json"), ("grammar", 5), ("grammar", ""), ("grammar", "root ::= x"), ("guided_choice", []),
        ("guided_regex", "(a"), ("guided_json", {"type": "nonsense"}), ("structured_outputs", []),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_wrong_value_is_named(http, field, value):
    detail = error(post(http, CHAT | {field: value}), 400)
    assert (detail["type"], detail["param"]) == ("invalid_request_error", field)
    assert detail["code"] in {"invalid_type", "invalid_value", "missing_required_parameter"}


@pytest.mark.parametrize(
    ("bias", "param"),
    [({"5": 101}, "logit_bias.5"), ({"x": 1}, "logit_bias.x"), ({"-1": 1}, "logit_bias.-1"), ({"5": "1"}, "logit_bias.5")],
)
def test_a_wrong_bias_is_named(http, bias, param):
    assert error(post(http, CHAT | {"logit_bias": bias}), 400)["param"] == param


def test_a_bias_for_a_token_that_does_not_exist(http):
    detail = error(post(http, CHAT | {"logit_bias": {"4000000000": 5}}), 400)
    assert detail["param"].startswith("logit_bias")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio", {"voice": "a"}), ("modalities", ["audio"]),
        ("web_search_options", {}), ("functions", [{"name": "f"}]), ("temprature", 1), ("grammer", "root ::= x"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(http, client, field, value):
    detail = error(post(http, CHAT | {field: value}), 400)
    assert detail["param"] == field
    assert field in detail["message"]
    assert detail["code"] in {"unsupported_parameter", "unknown_parameter"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**CHAT, extra_body={field: value})
    assert (caught.value.param, caught.value.code) == (field, detail["code"])


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(http, missing):
    detail = error(post(http, {name: value for name, value in CHAT.items() if name != missing}), 400)
    assert (detail["param"], detail["code"]) == (missing, "missing_required_parameter")


@pytest.mark.parametrize("prompt", [[70_000], [[1, 2], [70_000]], [-1], [1.5], [[]], [], "", 5, [1, "a"], {"a": 1}], ids=str)
def test_a_wrong_prompt_is_named(http, prompt):
    detail = error(post(http, {"model": allerac.MODEL, "prompt": prompt, "max_tokens": 1}, "/v1/completions"), 400)
    assert detail["param"].startswith("prompt")


def test_a_prompt_longer_than_the_context_says_both_counts(client):
    words = 3 * allerac.CONTEXT
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=allerac.MODEL, prompt=[28] * words, max_tokens=1)
    assert caught.value.code == "context_length_exceeded"
    assert str(words) in caught.value.message
    assert str(allerac.CONTEXT) in caught.value.message


def test_a_conversation_longer_than_the_context_is_not_cut(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            **CHAT | {"messages": [{"role": "user", "content": "word " * 6000}, *CHAT["messages"]]}
        )
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert str(allerac.CONTEXT) in caught.value.message


@pytest.mark.pays(1)
def test_prompt_and_answer_fit_the_context_to_the_token(client):
    """Ten tokens of prompt: the rest of the context is the most that may be asked for."""
    request = {"model": allerac.MODEL, "prompt": [28] * 10, "temperature": 0, "logit_bias": {"28": 100}, "stop": ","}
    answer = client.completions.create(**request, max_tokens=allerac.CONTEXT - 10)
    assert (answer.choices[0].finish_reason, answer.choices[0].text) == ("stop", "")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**request, max_tokens=allerac.CONTEXT - 9)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.pays(1)
def test_a_stop_string_of_ten_thousand_characters_is_honoured(http):
    answer = post(http, {"model": allerac.MODEL, "prompt": "1, 2, 3,", "max_tokens": 8, "temperature": 0,
                         "stop": ["x" * 10_000, "6"]}, "/v1/completions")  # fmt: skip
    assert answer.json()["choices"][0]["text"] == " 4, 5, "


# What is sent, and how.


def raw_exchange(server, *pieces: bytes, seconds: float = 20) -> bytes:
    """Sends bytes as they are; returns what comes back until the server closes or has answered."""
    port = int(server.url.rsplit(":", 1)[1])
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while b"\r\n\r\n" not in received:
                piece = connection.recv(65536)
                if not piece:
                    break
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return received


def head(key: str, *lines: str) -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines)
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\n{fields}\r\n"
    ).encode()


def test_a_body_of_ten_megabytes(http):
    body = json.dumps(CHAT | {"messages": [{"role": "user", "content": "x" * 10_000_000}]})
    detail = error(post(http, body.encode()), 413)
    assert detail["type"] == "invalid_request_error"


def test_a_claim_is_short(server):
    """Nobody needs a key to send one, so it may not be large."""
    error(httpx.post(f"{server.url}/claim", json={"code": "x" * 5000, "owner": "anna"}), 413)


def test_ten_megabytes_in_chunks(server, key):
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    assert raw_exchange(server, head(key, "transfer-encoding: chunked"), *[chunk] * 10).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=["tls", "no target", "version", "negative length", "two lengths", "huge header"],
)  # fmt: skip
def test_what_is_no_http(server, request_bytes):
    answer = raw_exchange(server, request_bytes)
    assert answer == b"" or answer.split()[1].startswith(b"4")
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_request_cut_off_in_its_body(server, key):
    raw = head(key, "content-length: 500") + b'{"model":'
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(raw)
    assert httpx.get(f"{server.url}/healthz").status_code == 200


@pytest.mark.pays(1)
def test_slow_clients_are_shown_the_door_and_hold_up_nobody(server, key, client):
    """One byte a second is no request: headers get 10 s, a body 30 s."""

    def drip(start: bytes, rest: bytes) -> float:
        """How long the server put up with it."""
        port = int(server.url.rsplit(":", 1)[1])
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(start)
            connection.settimeout(1)
            for index in range(60):
                try:
                    connection.sendall(rest[index : index + 1])
                    if not connection.recv(65536):
                        break
                except TimeoutError:
                    continue
                except (ConnectionResetError, BrokenPipeError):
                    break
        return time.monotonic() - began

    with ThreadPoolExecutor(64) as pool:
        headers = [pool.submit(drip, b"GET /healthz HTTP/1.1\r\nx: ", b"y" * 60) for _ in range(48)]
        bodies = [pool.submit(drip, head(key, "content-length: 1000"), b"{" + b" " * 59) for _ in range(8)]
        time.sleep(1)
        began = time.monotonic()
        client.chat.completions.create(**CHAT)
        assert time.monotonic() - began < 5
        assert max(one.result() for one in headers) < 15
        assert max(one.result() for one in bodies) < 40
