"""Models in several files, as the largest are given."""

import subprocess

import gguf
import pytest

import allerac
import hub as hubs
import lora

PROMPT = "1, 2, 3,"
COUNT = 3


def models(data, *arguments, ok=True) -> subprocess.CompletedProcess:
    command = [str(allerac.BINARY), "models", *map(str, arguments), "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not ok or done.returncode == 0, done.stderr
    return done


def split(folder, name):
    """The test model in parts, as llama.cpp's own tool cuts it: all values in the first."""
    reader = gguf.GGUFReader(allerac.MODEL_FILE)
    size = -(-len(reader.tensors) // COUNT)
    paths = []
    for part in range(COUNT):
        paths.append(folder / f"{name}-{part + 1:05}-of-{COUNT:05}.gguf")
        writer = gguf.GGUFWriter(paths[-1], "llama")
        for field in reader.fields.values() if part == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                kind, of = field.types[0], field.types[-1]
                writer.add_key_value(field.name, field.contents(), kind, sub_type=of if kind == gguf.GGUFValueType.ARRAY else None)
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", COUNT)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[part * size : (part + 1) * size]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        lora._finish(writer, paths[-1])
    return paths


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return split(tmp_path_factory.mktemp("split"), "Large-Q4_1")


def test_a_model_in_parts_is_imported_and_answers_like_the_whole(tmp_path, parts):
    data = allerac.data_dir(tmp_path / "data")
    # Whichever part is named.
    assert models(data, "import", parts[1]).stdout.startswith("large-q4_1 is installed (98.")
    assert "PARAMETERS" in models(data, "list", "--installed").stdout
    fit = models(data, "fit", "large-q4_1", "--json").stdout
    assert '"verdict"' in fit
    adapter = lora.write_adapter(tmp_path / "one.gguf", lora.factors(1, 0.6))
    assert "large-q4_1:one" in models(data, "import", adapter, "--base", "large-q4_1").stdout
    with allerac.Server(data) as server:
        owner = server.claim()
        with server.http(owner) as http:

            def answer(model):
                body = {"model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": 16}
                return http.post("/v1/completions", json=body).json()["choices"][0]["text"]

            assert answer("large-q4_1") == answer(allerac.MODEL)
            assert answer("large-q4_1:one") != answer(allerac.MODEL)
            told = {model["id"]: model for model in http.get("/v1/admin/models").json()["data"]}
        assert told["large-q4_1"]["parameters"] == 134_515_008
        assert told["large-q4_1"]["size_bytes"] == sum(path.stat().st_size for path in parts)
    assert models(data, "scrub", "large-q4_1").stdout.count("whole") == COUNT
    models(data, "rm", "large-q4_1:one")
    models(data, "rm", "large-q4_1")
    assert list((data / "models/split").iterdir()) == []
    assert len(list((data / "models/blobs").iterdir())) == 1


def test_parts_that_are_none_of_one_model_are_refused(tmp_path, parts):
    data = tmp_path / "data"
    alone = tmp_path / "alone" / parts[0].name
    alone.parent.mkdir()
    alone.write_bytes(parts[0].read_bytes())
    assert "00002-of-00003.gguf does not lie beside it" in models(data, "import", alone, ok=False).stderr
    for part in parts[1:]:
        (alone.parent / part.name).write_bytes(parts[2].read_bytes())
    assert "its parts are not those of one model" in models(data, "import", alone, ok=False).stderr
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(parts[0].read_bytes())
    assert "the others do not lie beside it" in models(data, "import", renamed, ok=False).stderr


def test_a_model_in_parts_is_fetched_whole(tmp_path, parts):
    data = tmp_path / "data"
    with hubs.Hub() as hub:
        hub.more = {f"Q4_1/{path.name}": path.read_bytes() for path in parts}
        command = [str(allerac.BINARY), "models", "pull", f"{hubs.REPOSITORY}/Q4_1/{parts[0].name}", "--data-dir", str(data)]
        environment = {"HF_ENDPOINT": hub.url, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        # A part that is cut off is taken up where it was.
        hub.faults = [3_000_000]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        assert f"is installed and verified ({sum(path.stat().st_size for path in parts) / 1e6:.2f} MB)" in done.stdout
    (record,) = (data / "models/installed").iterdir()
    with allerac.Server(data) as server, server.http(server.claim()) as http:
        body = {"model": record.stem, "prompt": PROMPT, "temperature": 0, "max_tokens": 4}
        assert http.post("/v1/completions", json=body).json()["choices"][0]["text"] == " 4, "
