#!/usr/bin/env python3
"""What an image is made of: Debian's packages, the crates in our programs, and models, as SPDX 2.3.

image/sbom.py crates > FILE                                  what cargo linked into the programs; needs cargo
image/sbom.py write MANIFEST CRATES MODELS EPOCH > FILE      the document; the same input gives the same bytes
"""

import datetime
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

PROGRAMS = ["allerac", "allerac-engine", "allerac-installer", "allerac-steward"]
TARGET = "x86_64-unknown-linux-gnu"
UNKNOWN = "NOASSERTION"


def crates() -> list[dict]:
    """Everything that the programs link, themselves included; what only builds and tests them is not in them."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]
    metadata = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    linked = {
        node["id"]: [d["pkg"] for d in node["deps"] if any(k["kind"] is None for k in d["dep_kinds"])]
        for node in metadata["resolve"]["nodes"]
    }
    with open("Cargo.lock", "rb") as lock:
        sums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}
    open_ids = [id for id in metadata["workspace_members"] if packages[id]["name"] in PROGRAMS]
    found: dict[str, dict] = {}
    while open_ids:
        id = open_ids.pop()
        if id in found:
            continue
        package = packages[id]
        key = (package["name"], package["version"])
        found[id] = {"name": key[0], "version": key[1], "license": package["license"], "sha256": sums.get(key)}
        open_ids += linked[id]
    return sorted(found.values(), key=lambda crate: (crate["name"], crate["version"]))


def package(kind: str, name: str, version: str, *, purl: str | None = None, licence: str | None = None, sha256: str | None = None) -> dict:
    one = {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{kind}-{name}-{version}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        # Old manifests of crates have a slash where SPDX has a word.
        "licenseDeclared": licence.replace("/", " OR ") if licence else UNKNOWN,
        "copyrightText": UNKNOWN,
    }
    if sha256:
        one["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    if purl:
        one["externalRefs"] = [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        ]
    return one


def models(folder: Path) -> list[dict]:
    found = []
    for file in sorted(folder.glob("installed/*.toml")):
        record = tomllib.loads(file.read_text())
        digest = record.get("sha256")
        found.append(package("model", file.stem, digest[:12] if digest else UNKNOWN, sha256=digest))
    return found


def document(manifest: dict, linked: list[dict], brought: list[dict], epoch: int) -> dict:
    config = manifest["config"]
    image = package("image", config["name"], config["version"])
    parts = [
        package(
            "deb", p["name"], p["version"],
            purl=f"pkg:deb/debian/{quote(p['name'])}@{quote(p['version'], safe='')}?arch={p['architecture']}&distro={config['release']}",
        )
        for p in manifest["packages"]
    ]  # fmt: skip
    parts += [
        package("crate", c["name"], c["version"], licence=c["license"], sha256=c["sha256"],
                purl=f"pkg:cargo/{c['name']}@{quote(c['version'])}" if c["sha256"] else None)
        for c in linked
    ]  # fmt: skip
    parts += brought
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    name = f"{config['name']}_{config['version']}"
    created = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://allerac.invalid/spdx/{name}-{digest}",
        "creationInfo": {"created": created, "creators": ["Tool: image/sbom.py"]},
        "packages": [image, *parts],
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": image["SPDXID"]},
            *(
                {"spdxElementId": image["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": part["SPDXID"]}
                for part in parts
            ),
        ],
    }


def main():
    match sys.argv[1:]:
        case ["crates"]:
            made = crates()
        case ["write", manifest, linked, store, epoch]:
            read = [json.loads(Path(file).read_text()) for file in (manifest, linked)]
            made = document(*read, models(Path(store)), int(epoch))
        case _:
            sys.exit(__doc__)
    json.dump(made, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
