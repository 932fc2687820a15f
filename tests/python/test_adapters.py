"""LoRA adapters: models of their own over the files of one, exact beside each other."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import allerac
import lora
from allerac import wait_for

ONE, TWO = f"{allerac.MODEL}:one", f"{allerac.MODEL}:two"
PROMPT = "Water boils at a lower temperature on a mountain because"
STRENGTH = 0.6
# Without guesses: what an adapter adds is computed by other kernels for one token than for several.
SMALL = "context = 1024\ncells = 4096\nsequences = 4\nkv_memory_mib = 64\nspeculate = false\n"


def models(data, *arguments, ok=True) -> subprocess.CompletedProcess:
    command = [str(allerac.BINARY), "models", *map(str, arguments), "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not ok or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two")):
        lora.write_adapter(folder / f"{name}.gguf", lora.factors(seed, STRENGTH))
    return folder


@pytest.fixture(scope="module")
def box(tmp_path_factory, files):
    """A server with the test model and two adapters of it."""
    data = allerac.data_dir(tmp_path_factory.mktemp("box") / "data")
    said = models(data, "import", files / "one.gguf").stdout
    assert said.startswith(f"{ONE} is installed (") and said.endswith(f"; an adapter of {allerac.MODEL}\n")
    models(data, "import", files / "two.gguf", "--base", allerac.MODEL)
    with allerac.Server(data, config=SMALL) as server:
        server.owner = server.claim()
        yield server


def complete(server, model, prompt=PROMPT, key=None, **fields):
    body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 24, "logit_bias": allerac.NEVER_END} | fields
    with server.http(key or server.owner) as http:
        return http.post("/v1/completions", json=body)


def text(server, model, prompt=PROMPT) -> str:
    answer = complete(server, model, prompt)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def test_an_adapter_is_a_model_of_its_own(box):
    with box.http(box.owner) as http:
        assert {model["id"] for model in http.get("/v1/models").json()["data"]} == {allerac.MODEL, ONE, TWO}
        told = {model["id"]: model for model in http.get("/v1/admin/models").json()["data"]}
        assert [told[id]["base"] for id in (allerac.MODEL, ONE, TWO)] == [None, allerac.MODEL, allerac.MODEL]
        assert [id for id, model in told.items() if model["is_default"]] == [allerac.MODEL]
        assert http.post("/api/show", json={"model": ONE}).json()["details"]["parent_model"] == allerac.MODEL
        chat = {"model": ONE, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        answer = http.post("/v1/chat/completions", json=chat)
        assert (answer.json()["model"], answer.headers["x-allerac-served-by"]) == (ONE, "local")
    assert len({text(box, model) for model in (allerac.MODEL, ONE, TWO)}) == 3
    # All of it in one process.
    assert len(box.engine_pids()) == 1
    listed = models(box.data, "list", "--installed").stdout
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [[allerac.MODEL, "chat"], [ONE, "adapter"], [TWO, "adapter"]]
    assert f"adapter of  {allerac.MODEL}" in models(box.data, "show", ONE).stdout


def test_beside_others_it_answers_as_alone(box):
    for prompt in (f"{number}. {PROMPT}" for number in range(3)):
        asked = [(model, prompt) for model in (allerac.MODEL, ONE, TWO)]
        alone = [text(box, *one) for one in asked]
        with ThreadPoolExecutor(len(asked)) as pool:
            together = list(pool.map(lambda one: text(box, *one), asked))
        assert together == alone


def test_what_is_known_under_one_is_not_known_under_another(box):
    prompt = "The cat sat on the mat and the dog ran. " * 12

    def cached(model):
        return complete(box, model, prompt, max_tokens=1).json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert [cached(ONE), cached(allerac.MODEL), cached(TWO)] == [0, 0, 0]
    assert all(cached(model) > 100 for model in (ONE, allerac.MODEL, TWO))


def test_it_does_what_the_same_merged_into_the_weights_does(tmp_path):
    changed = lora.factors(7, STRENGTH)
    data = tmp_path / "data"
    models(data, "import", lora.write_model(tmp_path / "plain.gguf", changed, merge=False))
    models(data, "import", lora.write_model(tmp_path / "merged.gguf", changed, merge=True))
    models(data, "import", lora.write_adapter(tmp_path / "seven.gguf", changed), "--base", "plain", "--name", "seven")
    # Half as strong is another one.
    models(data, "import", lora.write_adapter(tmp_path / "weak.gguf", changed, alpha=lora.RANK / 2), "--base", "plain", "--name", "weak")
    with allerac.Server(data, config=SMALL) as server:
        server.owner = server.claim()
        answers = {model: text(server, model) for model in ("plain", "merged", "seven", "weak")}
    assert answers["seven"] == answers["merged"]
    assert len({answers[model] for model in ("plain", "seven", "weak")}) == 3


def test_it_comes_to_a_model_that_is_in_use(tmp_path, files):
    data = allerac.data_dir(tmp_path / "data")
    prompt = "The cat sat on the mat and the dog ran. " * 12
    with allerac.Server(data, config=SMALL) as server:
        server.owner = server.claim()
        before = text(server, allerac.MODEL, prompt)
        with server.http(server.owner) as http:
            body = {"model": allerac.MODEL, "prompt": "1, 2, 3,", "max_tokens": 400, "stream": True,
                    "logit_bias": allerac.NEVER_END, "stream_options": {"include_usage": True}}  # fmt: skip
            with http.stream("POST", "/v1/completions", json=body) as answer:
                lines = answer.iter_lines()
                next(lines)
                models(data, "import", files / "one.gguf")
                wait_for("the adapter", lambda: complete(server, ONE, max_tokens=1).status_code == 200)
                # What ran meanwhile ends well, on the engine that it began on.
                assert '"completion_tokens":400' in "".join(lines).replace(" ", "")
        answer = complete(server, allerac.MODEL, prompt).json()
        assert answer["choices"][0]["text"] == before
        models(data, "rm", allerac.MODEL)
        wait_for("the end of both", lambda: complete(server, ONE).status_code == 404)
    assert ONE in models(data, "list", "--installed").stdout


def test_plans_include_it_or_do_not(box):
    personal, pro = box.create_key("paul"), box.create_key("petra", "--plan", "pro")
    refused = complete(box, ONE, key=personal)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert "your plan includes no adapters" in refused.json()["error"]["message"]
    assert complete(box, allerac.MODEL, key=personal, max_tokens=1).status_code == 200
    assert complete(box, ONE, key=pro, max_tokens=1).status_code == 200
    with box.http(personal) as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == [allerac.MODEL]


def test_what_does_not_fit_is_refused(tmp_path, files):
    data = allerac.data_dir(tmp_path / "data")
    fine = lora.factors(1, STRENGTH)
    name, (first, second) = next(iter(fine.items()))

    def refused(said, changed=fine, **options):
        path = lora.write_adapter(tmp_path / "bad.gguf", changed, **options)
        done = models(data, "import", path, ok=False)
        assert done.returncode == 1, done
        assert said in done.stderr, done.stderr

    refused("is for models of the architecture qwen2, and this model is of llama", architecture="qwen2")
    refused("LoRA adapters can be used", kind="control_vector")
    refused("the model's matrix has another size", {name: (first[:, :64], second)})
    refused("the model has no such matrix", {"blk.99.attn_q.weight": (first, second)})
    # Either would end llama.cpp's process while it loads.
    refused("is no number of 32 bits", add=lambda writer: writer.add_float64("adapter.lora.alpha", 4.0))
    refused("is no number of 32 bits", add=lambda writer: writer.add_string("adapter.lora.alpha", "4"))
    refused("activated LoRA", add=lambda writer: writer.add_array("adapter.alora.invocation_tokens", [1, 2]))
    (tmp_path / "cut.gguf").write_bytes((files / "one.gguf").read_bytes()[:100_000])
    assert "longer than the file" in models(data, "import", tmp_path / "cut.gguf", ok=False).stderr
    missing = models(data, "import", files / "one.gguf", "--base", "nowhere", ok=False)
    assert (missing.returncode, "the model nowhere is not installed" in missing.stderr) == (3, True)
    empty = models(tmp_path / "empty", "import", files / "one.gguf", ok=False)
    assert "no installed model fits\nhint: install the model that it was made for first" in empty.stderr
    assert [path.name for path in (data / "models/installed").iterdir()] == [f"{allerac.MODEL}.toml"]
