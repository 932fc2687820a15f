"""What an image says that it is made of. Needs no machine: the document is made of a small manifest."""

import json
import subprocess
import sys
from pathlib import Path

SBOM = Path(__file__).parents[2] / "image/sbom.py"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def write(folder: Path) -> dict:
    manifest, crates, store = folder / "manifest", folder / "crates.json", folder / "models/installed"
    store.mkdir(parents=True)
    (store / "small.toml").write_text(f'version = 1\nsha256 = "{DIGEST}"\n')
    config = {"name": "allerac", "version": "0.1.0.7", "release": "trixie"}
    packages = [{"type": "deb", "name": "libstdc++6", "version": "14.2.0-19+x~1", "architecture": "amd64"}]
    manifest.write_text(json.dumps({"config": config, "packages": packages}))
    linked = [
        {"name": "allerac", "version": "0.1.0", "license": "MIT OR Apache-2.0", "sha256": None},
        {"name": "old", "version": "1.0.0+a", "license": "MIT/Apache-2.0", "sha256": DIGEST},
    ]
    crates.write_text(json.dumps(linked))
    command = [sys.executable, SBOM, "write", manifest, crates, folder / "models", "1795243276"]
    first, again = (subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2))
    assert first == again
    return json.loads(first)


def test_packages_crates_and_models_are_named(tmp_path):
    document = write(tmp_path)
    assert (document["spdxVersion"], document["creationInfo"]["created"]) == ("SPDX-2.3", "2026-11-21T06:41:16Z")
    parts = {part["name"]: part for part in document["packages"]}
    purls = {part["name"]: part["externalRefs"][0]["referenceLocator"] for part in document["packages"] if "externalRefs" in part}
    assert purls == {
        "libstdc++6": "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19%2Bx~1?arch=amd64&distro=trixie",
        "old": "pkg:cargo/old@1.0.0%2Ba",
    }
    assert parts["old"]["licenseDeclared"] == "MIT OR Apache-2.0"
    assert parts["old"]["checksums"] == parts["small"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": DIGEST}]


def test_everything_hangs_on_the_image(tmp_path):
    document = write(tmp_path)
    ids = [part["SPDXID"] for part in document["packages"]]
    assert len(set(ids)) == 5
    image = "SPDXRef-image-allerac-0.1.0.7"
    assert document["relationships"][0]["relatedSpdxElement"] == image
    contained = [r["relatedSpdxElement"] for r in document["relationships"] if r["relationshipType"] == "CONTAINS"]
    assert contained == ids[1:] and ids[0] == image


def test_what_cargo_links_is_listed_and_what_only_tests_is_not():
    listed = subprocess.run([sys.executable, SBOM, "crates"], capture_output=True, check=True, cwd=SBOM.parents[1]).stdout
    names = {crate["name"] for crate in json.loads(listed)}
    assert {"allerac", "allerac-engine", "allerac-installer", "tokio", "llama-cpp-2"} <= names
    assert not {"proptest", "insta", "wiremock", "allerac-architecture"} & names
