"""Embeddings and reranking over the product: against BERT in numpy, alone and in company, with every refusal."""

import base64
import hashlib
import json
import os
import shutil
import signal
import struct
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy
import ollama
import openai
import pytest

import allerac
from bert import Bert, WordPiece, read_safetensors, write_safetensors

MODEL = "all-minilm-l6-v2"
EMBEDDING_DATA = Path(os.environ.get("ALLERAC_TEST_EMBEDDING", allerac.REPOSITORY / ".cache/test-embedding"))
RERANKER = "tiny-reranker"
# The lengths, scripts and oddities that tokenisers and kernels differ in.
TEXTS = [
    "Why is the sky blue?",
    "a",
    " ",
    "The quick brown fox jumps over the lazy dog. " * 4,
    "Straße, größer, naïve café, Łódź, İstanbul",
    "Почему небо голубое?",
    "为什么天空是蓝色的？ 東京タワー",
    "لماذا السماء زرقاء؟",
    "हिन्दी में एक वाक्य",
    "🎉 emoji 👩‍👩‍👧 and\ttabs\nand lines\r\n",
    "x" * 101 + " a word too long",
    "def f(x):\n    return x ** 2  # code, with_punctuation!",
    " ".join(f"word{number}" for number in range(100)),
]


def model_files(data: Path) -> dict[str, Path]:
    record = tomllib.loads((data / f"models/installed/{MODEL}.toml").read_text())
    digests = {"model.safetensors": record["sha256"]} | {part["name"]: part["sha256"] for part in record["parts"]}
    return {name: data / f"models/blobs/sha256-{sha256}" for name, sha256 in digests.items()}


def data_dir(path: Path) -> Path:
    """A fresh data directory with a model to chat with and one for embeddings."""
    if not EMBEDDING_DATA.exists():
        raise FileNotFoundError(f"{EMBEDDING_DATA} is missing; fetch it: make test-model")
    allerac.data_dir(path)
    shutil.copytree(EMBEDDING_DATA / "models", path / "models", copy_function=allerac.link_or_copy, dirs_exist_ok=True)
    return path


@pytest.fixture(scope="module")
def files():
    return model_files(EMBEDDING_DATA)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with allerac.Server(data_dir(tmp_path_factory.mktemp("embedding") / "data")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with server.client(server.create_key("anna")) as made:
        yield made


@pytest.fixture(scope="module")
def http(server):
    with server.http(server.create_key("bert")) as made:
        yield made


@pytest.fixture
def fresh(tmp_path):
    with allerac.Server(data_dir(tmp_path / "data")) as running:
        yield running


@pytest.fixture(scope="module")
def tokeniser(files):
    return WordPiece(files["tokenizer.json"])


@pytest.fixture(scope="module")
def reference(files, tokeniser):
    bert = Bert(read_safetensors(files["model.safetensors"]), json.loads(files["config.json"].read_text()))
    return lambda text: bert.embedding(tokeniser.tokens(text))


def vectors(client, texts, **options) -> list[numpy.ndarray]:
    answer = client.embeddings.create(model=MODEL, input=texts, **options)
    return [numpy.array(item.embedding) for item in answer.data]


def cosine(one, other) -> float:
    return float(one @ other / numpy.linalg.norm(one) / numpy.linalg.norm(other))


@pytest.fixture(scope="module")
def alone(client):
    return [vectors(client, text)[0] for text in TEXTS]


def test_vectors_are_those_of_the_model(alone, reference):
    for text, vector in zip(TEXTS, alone):
        assert vector.shape == (384,)
        assert abs(numpy.linalg.norm(vector) - 1) < 1e-6
        assert cosine(vector, reference(text)) >= 0.99999, text


def test_the_longest_text_is_read_whole(client, reference, tokeniser):
    text = "sky " * 510
    assert len(tokeniser.tokens(text)) == 512
    assert cosine(vectors(client, text)[0], reference(text)) >= 0.99999


def test_company_changes_nothing(client, alone):
    for vector, single in zip(vectors(client, TEXTS), alone):
        assert numpy.abs(vector - single).max() <= 1e-6


def test_requests_at_once_get_their_own_vectors(client, alone):
    turned = [TEXTS[place:] + TEXTS[:place] for place in range(len(TEXTS))]
    with ThreadPoolExecutor(len(TEXTS)) as pool:
        found = list(pool.map(lambda texts: vectors(client, texts), turned))
    for place, answer in enumerate(found):
        for vector, single in zip(answer, alone[place:] + alone[:place]):
            assert numpy.abs(vector - single).max() <= 1e-6


def test_both_formats_say_the_same(client, http, alone, tokeniser):
    answers = {}
    for form in ("float", "base64"):
        answer = http.post("/v1/embeddings", json={"model": MODEL, "input": TEXTS[0], "encoding_format": form, "user": "u"})
        assert answer.status_code == 200 and answer.headers["x-allerac-served-by"] == "local"
        answers[form] = answer.json()
    tokens = len(tokeniser.tokens(TEXTS[0]))
    for answer in answers.values():
        assert set(answer) == {"object", "data", "model", "usage"}
        assert (answer["object"], answer["model"]) == ("list", MODEL)
        assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        assert {**answer["data"][0], "embedding": 0} == {"object": "embedding", "index": 0, "embedding": 0}
    decoded = struct.unpack("<384f", base64.b64decode(answers["base64"]["data"][0]["embedding"]))
    assert numpy.abs(numpy.array(decoded) - numpy.array(answers["float"]["data"][0]["embedding"])).max() < 1e-7


def test_tokens_are_taken_as_they_are(client, alone, tokeniser):
    tokens = [tokeniser.tokens(text) for text in TEXTS[:2]]
    assert numpy.abs(vectors(client, tokens[0])[0] - alone[0]).max() <= 1e-6
    for vector, single in zip(vectors(client, tokens), alone):
        assert numpy.abs(vector - single).max() <= 1e-6


def test_usage_counts_each_token(client, tokeniser):
    answer = client.embeddings.create(model=MODEL, input=TEXTS)
    assert answer.usage.prompt_tokens == sum(len(tokeniser.tokens(text)) for text in TEXTS)
    assert [item.index for item in answer.data] == list(range(len(TEXTS)))


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input[1]", "invalid_value"),
        ({"input": [[1], []]}, "input[1]", "invalid_value"),
        ({"input": ["a", 1]}, "input[1]", "invalid_type"),
        ({"input": [1, -1]}, "input[1]", "invalid_value"),
        ({"input": [30522]}, "input", "invalid_prompt"),
        ({"input": {"text": "a"}}, "input", "invalid_type"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": ["a", "sky " * 511]}, "input[1]", "context_length_exceeded"),
        ({"input": [[1] * 500] * 601}, "input", "context_length_exceeded"),
        ({"input": "a", "dimensions": 256}, "dimensions", "unsupported_value"),
        ({"input": "a", "dimensions": 0}, "dimensions", "invalid_value"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"input": "a", "truncate": True}, "truncate", "unknown_parameter"),
        ({"input": "a", "model": allerac.MODEL}, "model", "model_not_supported"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_honoured_is_refused_by_name(http, body, param, code):
    answer = http.post("/v1/embeddings", json={"model": MODEL, **body})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")


def test_an_embedding_model_does_not_chat_and_all_its_numbers_may_be_asked_for(client, http):
    for path, body in [("chat/completions", {"messages": [{"role": "user", "content": "hi"}]}), ("completions", {"prompt": "hi"})]:
        answer = http.post(f"/v1/{path}", json={"model": MODEL, **body})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "model_not_supported"
        assert "/v1/embeddings" in answer.json()["error"]["message"]
    assert len(vectors(client, "a", dimensions=384)[0]) == 384
    assert MODEL in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nowhere", input="a")
    assert http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}, headers={"authorization": ""}).status_code == 401


def test_the_books_have_each_token_once(fresh, books, tokeniser):
    key = fresh.create_key("anna", "--plan", "starter")
    with fresh.client(key) as client:
        answer = client.embeddings.create(model=MODEL, input=TEXTS)
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model=MODEL, input="sky " * 511)
        books.settled(1)
        with fresh.http(key) as http:
            ranked = http.post("/v1/rerank", json={"model": MODEL, "query": "a", "documents": ["b"]}).json()
    assert books.settled(2) == [
        ("completed", answer.usage.prompt_tokens, 0),
        ("completed", ranked["usage"]["total_tokens"], 0),
    ]
    assert books.rows("SELECT endpoint FROM usage ORDER BY id") == [("embeddings",), ("rerank",)]


def test_a_crash_of_the_engine_is_ridden_out(fresh, alone):
    with fresh.client(fresh.create_key("anna")) as client:
        before = set(fresh.engine_pids())
        vectors(client, "a")
        (engine,) = set(fresh.engine_pids()) - before
        os.kill(engine, signal.SIGKILL)
        assert numpy.abs(vectors(client, TEXTS[0])[0] - alone[0]).max() <= 1e-6


def test_the_engine_is_confined(fresh):
    with fresh.client(fresh.create_key("anna")) as client:
        before = set(fresh.engine_pids())
        vectors(client, "a")
        (engine,) = set(fresh.engine_pids()) - before
    for task in Path(f"/proc/{engine}/task").iterdir():
        # 2: a filter of system calls, on each thread, those that compute too.
        assert "Seccomp:\t2" in (task / "status").read_text()


class Elsewhere(BaseHTTPRequestHandler):
    """Another server, that remembers what it was asked."""

    answer = {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}

    def log_message(self, *_):
        """Says nothing."""

    def do_POST(self):
        self.server.seen.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
        content = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_models_elsewhere_get_the_request_as_it_came(tmp_path):
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    upstream.seen = []
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    config = f"""
        [[upstream]]
        name = "gpu"
        base_url = "http://127.0.0.1:{upstream.server_port}/v1"
        models = ["theirs"]
        aliases = {{ ours = "theirs" }}
    """
    with allerac.Server(allerac.data_dir(tmp_path / "data"), config=config) as server:
        books = allerac.Books(server.data)
        key = server.create_key("anna", "--plan", "pro", "--allow-upstream", "gpu")
        with server.http(key) as http:
            body = {"model": "ours", "input": ["a", ""], "dimensions": 3, "unknown": None}
            answer = http.post("/v1/embeddings", json=body)
            assert answer.json() == Elsewhere.answer and answer.headers["x-allerac-served-by"] == "upstream:gpu"
            query = {"model": "ours", "query": "q", "documents": ["a"]}
            assert http.post("/v1/rerank", json=query).status_code == 200
        assert upstream.seen == [("/v1/embeddings", body | {"model": "theirs"}), ("/v1/rerank", query | {"model": "theirs"})]
        assert books.settled(2) == [("completed", 7, 0), ("completed", 7, 0)]
        books.close()
    upstream.shutdown()
    upstream.server_close()


# Reranking.


def rerank(http, status=200, **body):
    answer = http.post("/v1/rerank", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_an_embedding_model_ranks_by_cosine(http, reference, tokeniser):
    query, documents = "What colour is the sky?", ["Bread is baked.", "The sky is blue.", {"text": "Clouds are white."}]
    answer = rerank(http, model=MODEL, query=query, documents=documents, top_n=2, return_documents=True)
    texts = ["Bread is baked.", "The sky is blue.", "Clouds are white."]
    scores = {place: cosine(reference(query), reference(text)) for place, text in enumerate(texts)}
    wanted = sorted(scores, key=lambda place: -scores[place])[:2]
    assert [result["index"] for result in answer["results"]] == wanted
    for result in answer["results"]:
        assert abs(result["relevance_score"] - scores[result["index"]]) < 1e-5
        assert result["document"] == {"text": texts[result["index"]]}
    tokens = sum(len(tokeniser.tokens(text)) for text in [query, *texts])
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    plain = rerank(http, model=MODEL, query=query, documents=texts)
    assert [set(result) for result in plain["results"]] == [{"index", "relevance_score"}] * 3
    assert plain["id"].startswith("rerank-")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": ["a", "sky " * 511]}, "documents[1]"),
        ({"query": "sky " * 511}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"rank_fields": ["a"]}, "rank_fields"),
        ({"model": allerac.MODEL}, "model"),
    ],
    ids=str,
)
def test_what_cannot_be_ranked_is_refused_by_name(http, body, param):
    refused = rerank(http, 400, **{"model": MODEL, "query": "q", "documents": ["a"], **body})
    assert refused["error"]["param"] == param


def tiny_reranker(folder, tokenizer_json):
    """A cross-encoder with random weights: small, and exact all the same."""
    random = numpy.random.default_rng(7)
    vocabulary, hidden, wide, layers = 30522, 24, 40, 2
    config = {
        "model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": hidden,
        "intermediate_size": wide, "num_hidden_layers": layers, "num_attention_heads": 3, "vocab_size": vocabulary,
        "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
        "id2label": {"0": "LABEL_0"},
    }  # fmt: skip
    weights = {}

    def linear(name, inputs, outputs):
        weights[f"{name}.weight"] = random.normal(0, 0.3, (outputs, inputs))
        weights[f"{name}.bias"] = random.normal(0, 0.3, outputs)

    def norm(name):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = random.normal(1, 0.1, hidden), random.normal(0, 0.1, hidden)

    for table, rows in [("word", vocabulary), ("position", 64), ("token_type", 2)]:
        weights[f"bert.embeddings.{table}_embeddings.weight"] = random.normal(0, 0.5, (rows, hidden))
    norm("bert.embeddings.LayerNorm")
    for index in range(layers):
        name = f"bert.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            linear(f"{name}.attention.self.{part}", hidden, hidden)
        linear(f"{name}.attention.output.dense", hidden, hidden)
        norm(f"{name}.attention.output.LayerNorm")
        linear(f"{name}.intermediate.dense", hidden, wide)
        linear(f"{name}.output.dense", wide, hidden)
        norm(f"{name}.output.LayerNorm")
    linear("bert.pooler.dense", hidden, hidden)
    linear("classifier", hidden, 1)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", weights)
    shutil.copy(tokenizer_json, folder / "tokenizer.json")
    return Bert(read_safetensors(folder / "model.safetensors"), config, "bert.")


@pytest.fixture(scope="module")
def ranking(tmp_path_factory, files):
    """A server with a reranker in its store, and the reranker in numpy."""
    data = data_dir(tmp_path_factory.mktemp("ranking") / "data")
    folder = tmp_path_factory.mktemp("tiny")
    bert = tiny_reranker(folder, files["tokenizer.json"])
    digests = {}
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        shutil.copy(folder / name, data / f"models/blobs/sha256-{digests[name]}")
    parts = "".join(f'[[parts]]\nname = "{name}"\nsha256 = "{digests[name]}"\n' for name in ("config.json", "tokenizer.json"))
    (data / f"models/installed/{RERANKER}.toml").write_text(
        f'version = 1\nkind = "reranker"\nsha256 = "{digests["model.safetensors"]}"\nparameters = 1000\ninstalled_at = 0\n{parts}'
    )
    with allerac.Server(data) as server:
        yield server, bert


def test_a_reranker_looks_at_query_and_document_together(ranking, tokeniser):
    server, bert = ranking
    query, documents = "why is the sky blue", ["because it is", "bread", "the sky, the sky!", "größe"]
    scores, tokens = [], 0
    for document in documents:
        first, second = tokeniser.tokens(query), tokeniser.tokens(document)[1:]
        scores.append(bert.score(first + second, len(first)))
        tokens += len(first + second)
    with server.http(server.create_key("anna")) as http:
        answer = rerank(http, model=RERANKER, query=query, documents=documents)
        assert [result["index"] for result in answer["results"]] == sorted(range(4), key=lambda place: -scores[place])
        for result in answer["results"]:
            assert abs(result["relevance_score"] - scores[result["index"]]) < 1e-5
        assert answer["usage"]["total_tokens"] == tokens
        refused = http.post("/v1/embeddings", json={"model": RERANKER, "input": "a"})
        assert refused.json()["error"]["code"] == "model_not_supported"
        too_long = rerank(http, 400, model=RERANKER, query=query, documents=["a", "sky " * 60])
        assert too_long["error"]["param"] == "documents[1]"


# Ollama's clients.


@pytest.fixture(scope="module")
def ollama_client(server):
    return ollama.Client(host=server.url, headers={"authorization": f"Bearer {server.create_key('olli')}"})


def test_ollama_gets_the_same_vectors(ollama_client, alone):
    done = ollama_client.embed(model=f"{MODEL}:latest", input=TEXTS, keep_alive="5m", options={"num_ctx": 512})
    assert len(done.embeddings) == len(TEXTS) and done.prompt_eval_count > len(TEXTS) and done.total_duration > 0
    for vector, single in zip(done.embeddings, alone):
        assert numpy.abs(numpy.array(vector) - single).max() <= 1e-6
    one = ollama_client.embeddings(model=MODEL, prompt=TEXTS[0])
    assert numpy.abs(numpy.array(one.embedding) - alone[0]).max() <= 1e-6


def test_ollama_cuts_what_is_too_long_unless_told_not_to(ollama_client, client):
    longest = "sky " * 510
    cut = ollama_client.embed(model=MODEL, input="sky " * 600)
    assert cut.prompt_eval_count == 512
    assert numpy.abs(numpy.array(cut.embeddings[0]) - vectors(client, longest)[0]).max() <= 1e-6
    with pytest.raises(ollama.ResponseError) as caught:
        ollama_client.embed(model=MODEL, input="sky " * 600, truncate=False)
    assert caught.value.status_code == 400 and "512 tokens" in caught.value.error


def test_ollama_asks_for_a_model_to_be_there(ollama_client):
    assert ollama_client.embed(model=MODEL, input="").embeddings == []


def test_ollama_hears_what_is_wrong(ollama_client):
    for options, status in (
        ({"model": allerac.MODEL, "input": "a"}, 400), ({"model": "nowhere", "input": "a"}, 404),
        ({"model": MODEL, "input": "a", "options": {"no": 1}}, 400), ({"model": MODEL, "input": "a", "dimensions": 100}, 400),
    ):  # fmt: skip
        with pytest.raises(ollama.ResponseError) as caught:
            ollama_client.embed(**options)
        assert caught.value.status_code == status, caught.value


def test_ollama_is_told_what_the_model_is_for(ollama_client):
    assert ollama_client.show(MODEL).capabilities == ["embedding"]
    assert ollama_client.show(allerac.MODEL).capabilities == ["completion"]
