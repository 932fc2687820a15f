//! The arrows of ARCHITECTURE.md, held over `cargo metadata`: who may depend on whom, and which outside
//! libraries stay behind one crate.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Our crates and the whole set of our crates that each may depend on (not counting tests).
const ARROWS: &[(&str, &[&str])] = &[
    ("allerac-engine-core", &[]),
    ("allerac-engine-archive", &["allerac-engine-core"]),
    ("allerac-engine-candle", &["allerac-engine-core"]),
    ("allerac-engine-grammar", &["allerac-engine-core"]),
    ("allerac-engine-link", &["allerac-engine-core", "allerac-hardware"]),
    ("allerac-engine-llama", &["allerac-engine-core"]),
    (
        "allerac-engine",
        &[
            "allerac-engine-archive",
            "allerac-engine-candle",
            "allerac-engine-core",
            "allerac-engine-grammar",
            "allerac-engine-link",
            "allerac-engine-llama",
            "allerac-hardware",
        ],
    ),
    ("allerac-installer", &[]),
    ("allerac-steward", &[]),
    ("allerac-models", &[]),
    ("allerac-hardware", &["allerac-engine-core"]),
    ("allerac-wire", &[]),
    ("allerac-parse", &["allerac-wire"]),
    ("allerac-passkeys", &[]),
    ("allerac-sso", &[]),
    ("allerac-schema", &[]),
    ("allerac-ledger", &["allerac-schema"]),
    ("allerac-objects", &["allerac-schema"]),
    ("allerac-backup", &["allerac-ledger", "allerac-objects"]),
    ("allerac-alerts", &["allerac-ledger"]),
    ("allerac-discovery", &[]),
    ("allerac-tls", &[]),
    ("allerac-router-core", &["allerac-engine-link", "allerac-models"]),
    ("allerac-metrics", &["allerac-engine-core", "allerac-engine-link"]),
    ("allerac-energy", &["allerac-engine-core", "allerac-engine-link", "allerac-ledger", "allerac-metrics"]),
    (
        "allerac-http",
        &[
            "allerac-energy",
            "allerac-engine-core",
            "allerac-engine-link",
            "allerac-ledger",
            "allerac-metrics",
            "allerac-objects",
            "allerac-parse",
            "allerac-passkeys",
            "allerac-router-core",
            "allerac-sso",
            "allerac-steward",
            "allerac-wire",
        ],
    ),
    (
        "allerac",
        &[
            "allerac-alerts",
            "allerac-backup",
            "allerac-discovery",
            "allerac-energy",
            "allerac-engine-core",
            "allerac-engine-link",
            "allerac-hardware",
            "allerac-http",
            "allerac-ledger",
            "allerac-metrics",
            "allerac-models",
            "allerac-objects",
            "allerac-router-core",
            "allerac-sso",
            "allerac-steward",
            "allerac-tls",
            "allerac-wire",
        ],
    ),
];

/// Outside libraries that only the named crates may use directly.
const PRIVATE: &[(&str, &[&str])] = &[
    ("llama-cpp-2", &["allerac-engine-llama"]),
    ("llama-cpp-sys-2", &["allerac-engine-llama"]),
    ("candle-core", &["allerac-engine-candle"]),
    ("tokenizers", &["allerac-engine-candle"]),
    ("pulp", &["allerac-engine-candle"]),
    ("llguidance", &["allerac-engine-grammar"]),
    // Each its own file: what people said never gets in the ledger's.
    ("rusqlite", &["allerac-ledger", "allerac-objects", "allerac-schema"]),
    ("axum", &["allerac-http", "allerac", "allerac-steward"]),
    ("rcgen", &["allerac-tls"]),
    ("mdns-sd", &["allerac-discovery"]),
    ("minijinja", &["allerac-engine"]),
    ("prometheus-client", &["allerac-metrics"]),
    ("ciborium", &["allerac-passkeys"]),
    ("jsonwebtoken", &["allerac-sso"]),
    ("age", &["allerac-backup"]),
    ("rusty-s3", &["allerac-backup"]),
    ("lettre", &["allerac-alerts"]),
    ("crossterm", &["allerac"]),
];

/// Direct, non-development dependencies of each workspace member.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let name = package["name"].as_str().expect("a name").to_owned();
            let direct = package["dependencies"].as_array().expect("dependencies");
            let direct = direct.iter().filter(|d| d["kind"] != "dev");
            (name, direct.map(|d| d["name"].as_str().expect("a name").to_owned()).collect())
        })
        .collect()
}

#[test]
fn our_crates_depend_only_along_the_arrows() {
    let dependencies = dependencies();
    for (name, allowed) in ARROWS {
        let direct = dependencies.get(*name).unwrap_or_else(|| panic!("no crate named {name}"));
        let ours: BTreeSet<_> = direct.iter().filter(|d| d.starts_with("allerac")).map(String::as_str).collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        let beyond: Vec<_> = ours.difference(&allowed).collect();
        assert!(beyond.is_empty(), "{name} must not depend on {beyond:?}");
    }
}

#[test]
fn every_shipped_crate_has_its_arrows_written_down() {
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<_> = dependencies()
        .into_keys()
        .filter(|name| !known.contains(name.as_str()))
        .filter(|name| !name.ends_with("-tests") && !name.ends_with("-benches") && !name.ends_with("-fuzz"))
        .filter(|name| !name.ends_with("-example"))
        .collect();
    assert!(unknown.is_empty(), "add {unknown:?} to ARROWS and to ARCHITECTURE.md");
}

#[test]
fn libraries_stay_behind_their_crate() {
    for (name, direct) in dependencies() {
        for (library, owners) in PRIVATE {
            let allowed = owners.contains(&name.as_str());
            assert!(allowed || !direct.contains(*library), "{name} must not use {library} directly");
        }
    }
}
