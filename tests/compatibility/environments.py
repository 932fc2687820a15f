"""The packages of each suite, in environments of their own under .cache/compatibility: their wishes fight."""

import filecmp
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
CACHE = REPOSITORY / ".cache/compatibility"
NODE_MIN = (20, 15)
# Some packages want a younger Node.js than Debian 12 has; npm carries one.
NODE_FROM_NPM = "node@22.21.1"


def python(name: str) -> Path:
    """The Python of an environment, made anew when its requirements changed."""
    folder, wanted = CACHE / name, HERE / "requirements" / f"{name}.txt"
    kept = folder / "requirements.txt"
    if not (kept.exists() and filecmp.cmp(kept, wanted, shallow=False)):
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        run([*pip, "-r", str(wanted)])
        shutil.copy(wanted, kept)
    return folder / "bin/python"


def node_modules(name: str) -> Path:
    """The folder of a package.json with its modules beside it, under the cache."""
    source, folder = HERE / name, CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "installed.json"
    if not (kept.exists() and filecmp.cmp(kept, source / "package.json", shallow=False)):
        shutil.copy(source / "package.json", folder / "package.json")
        run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder)
        shutil.copy(source / "package.json", kept)
    for file in source.glob("*.js"):
        shutil.copy(file, folder / file.name)
    return folder


def node() -> str:
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
    if version and tuple(map(int, version.split(".")[:2])) >= NODE_MIN:
        return "node"
    npm = ["npm", "exec", "--yes", "--loglevel=error", f"--package={NODE_FROM_NPM}", "--", "sh", "-c", "command -v node"]
    return subprocess.run(npm, capture_output=True, text=True, check=True).stdout.strip()


def version(package: str, environment: str, kind: str) -> str:
    """The installed version of a package."""
    if kind == "program":
        return importlib.metadata.version(package)
    for folder in (CACHE / "js", CACHE / "agents"):
        file = folder / "node_modules" / package / "package.json"
        if (kind == "js" or package.startswith("@")) and file.exists():
            return json.loads(file.read_text())["version"]
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    for name in (environment, "aider"):
        program = CACHE / name / "bin/python"
        if name and program.exists():
            done = subprocess.run([str(program), "-c", ask], capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
    return "?"


def run(command: list[str], cwd: Path | None = None):
    print("+", " ".join(command), flush=True)
    subprocess.run(command, cwd=cwd, check=True)
