//! What the machine refuses: ports, directories, disks. And `doctor`, which finds it.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::support::Home;

#[test]
fn a_port_in_use_is_refused() {
    let home = Home::new();
    let config = home.engine_stand_in();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let ran = home.run(&["serve", "--listen", &address, "--config", &config]);
    ran.refused(4, &format!("the port of {address} is in use"), "another port with --listen");
    let foreign = home.run(&["serve", "--listen", "192.0.2.1:0", "--config", &config]);
    foreign.refused(4, "192.0.2.1 is no address of this machine", "0.0.0.0");
}

#[test]
fn two_servers_do_not_share_a_data_directory() {
    let home = Home::new();
    let config = home.engine_stand_in();
    let _first = home.serve(&["--config", &config]);
    let second = home.run(&["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    second.refused(4, "another allerac server uses", "--data-dir");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let home = Home::new();
    let config = home.engine_stand_in();
    let file = home.folder.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.join("data").to_str().unwrap(), "/proc/allerac"] {
        let ran = home.run(&["serve", "--listen", "127.0.0.1:0", "--config", &config, "--data-dir", place]);
        ran.refused(5, &format!("the data directory {place} cannot be used"), "--data-dir");
        home.run(&["keys", "create", "--user", "x", "--data-dir", place]).refused(5, place, "");
    }
}

/// A file system of a few kilobytes, mounted for the test.
struct Tiny<'a>(&'a std::path::Path);

impl Tiny<'_> {
    fn mount(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(self.0);
        assert!(mount.status().unwrap().success(), "this test mounts a small tmpfs and needs root");
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let home = Home::new();
    let config = home.engine_stand_in();
    fs::create_dir(home.data_dir()).unwrap();
    let data_dir = home.data_dir();
    let tiny = Tiny(&data_dir);
    tiny.mount();
    let ran = home.run(&["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    ran.refused(5, "disk is full", "free some space");
}

#[test]
fn doctor_finds_nothing_on_a_sound_box() {
    let home = Home::new();
    home.install_test_model();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let report = home.json(&["doctor", "--listen", &port, "--json"]);
    assert_eq!(report["ok"], true, "{report:#}");
    // What else there is to say depends on the machine.
    let of_machine = report["machine"]["processor"]["model"].as_str();
    assert!(of_machine.is_some_and(|model| !model.is_empty()), "{report:#}");
    let by_machine = ["file system", "memory nodes", "graphics", "temperature", "power", "memory channels"];
    let advice = ["memory speed", "power limit", "clock", "heat", "Thunderbolt", "swap", "recommended"];
    let names = report["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap());
    let names: Vec<_> = names.filter(|name| !by_machine.contains(name) && !advice.contains(name)).collect();
    let expected = [
        "data directory",
        "disk",
        "ledger",
        "processor",
        "memory modules",
        "configuration",
        "profile",
        "tuning",
        "threads",
        "attention",
        "batch",
        "model smollm2-135m-instruct",
        "engine",
        "kernels",
        "confinement",
        "port",
    ];
    assert_eq!(names, expected);
    assert!(report["checks"].as_array().unwrap().iter().all(|check| check["status"] != "broken"), "{report:#}");
}

#[test]
fn doctor_says_what_is_broken_and_exits_with_1() {
    let home = Home::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = home.config("[engine]\nbinary = \"/nowhere/allerac-engine\"\n");
    let address = holder.local_addr().unwrap().to_string();
    let ran = home.run(&["doctor", "--json", "--listen", &address, "--config", &config]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let status = |name: &str| {
        let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap();
        (check["status"].as_str().unwrap().to_owned(), check["hint"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(status("engine").0, "broken");
    assert_eq!(status("port").0, "broken");
    assert!(status("port").1.contains("--listen"));
    assert_eq!(status("models").0, "warning");
    let checks = report["checks"].as_array().unwrap().len();
    assert!(ran.stderr.contains(&format!("2 of {checks} checks found something broken")), "{}", ran.stderr);
}

#[test]
fn doctor_finds_a_damaged_model() {
    let home = Home::new();
    home.install_test_model();
    let blobs = home.data_dir().join("models/blobs");
    let blob = fs::read_dir(&blobs).unwrap().next().unwrap().unwrap().path();
    // The blob is a link to the shared file: replace the link, not the file.
    let size = fs::metadata(&blob).unwrap().len();
    fs::remove_file(&blob).unwrap();
    fs::File::create(&blob).unwrap().set_len(size).unwrap();
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("BROKEN   model smollm2-135m-instruct"), "{}", ran.stdout);
    assert!(ran.stdout.contains("allerac models rm smollm2-135m-instruct, then pull"), "{}", ran.stdout);
}

#[test]
fn doctor_says_which_draft_models_are_missing() {
    let home = Home::new();
    home.install_test_model();
    let check = |drafts: &str| {
        let config = home.config(&format!("[engine]\ndrafts = {drafts}\n"));
        let ran = home.run(&["doctor", "--json", "--listen", "127.0.0.1:0", "--config", &config]);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == "draft models");
        found.map(|check| {
            [&check["status"], &check["detail"], &check["hint"]].map(|value| value.as_str().unwrap_or("").to_owned())
        })
    };
    let model = "smollm2-135m-instruct";
    let sound = check(&format!("{{ \"{model}\" = \"{model}\" }}")).unwrap();
    assert_eq!(sound, ["ok".to_owned(), format!("{model} for {model}"), String::new()]);
    let missing = check(&format!("{{ \"{model}\" = \"tiny\" }}")).unwrap();
    assert_eq!(missing[0], "warning");
    assert!(missing[1].contains("answers without its draft model tiny, which is not installed"), "{missing:?}");
    assert!(missing[2].contains("correct [engine] drafts"), "{missing:?}");
    // Switched off, and for a model that is not here.
    assert_eq!(check(&format!("{{ \"{model}\" = \"\", \"other\" = \"tiny\" }}")), None);
}
