//! The running server: what it prints, keys made beside it, signals, the service manager.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{DEADLINE, Home};

#[test]
fn keys_made_and_revoked_beside_the_server_count_at_once() {
    let home = Home::new();
    let server = home.serve(&["--config", &home.engine_stand_in()]);
    assert_eq!(server.get("/v1/models", None).0, 401);
    let key = home.run(&["keys", "create", "--user", "anna"]).stdout;
    assert_eq!(server.get("/v1/models", Some(key.trim())).0, 200);
    let id = home.json(&["keys", "list", "--json"])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(home.run(&["keys", "revoke", &id]).code, 0);
    assert_eq!(server.get("/v1/models", Some(key.trim())).0, 401);
}

#[test]
fn a_missing_model_keeps_nothing_from_starting() {
    let home = Home::new();
    let server = home.serve(&["--config", &home.engine_stand_in()]);
    assert_eq!(server.get("/healthz", None).0, 200);
    let (status, body) = server.get("/readyz", None);
    assert_eq!(status, 503);
    assert!(body.contains("no_model"), "{body}");
    let pull = format!("models pull smollm2-135m-instruct --data-dir {}", home.data_dir().display());
    assert!(server.banner.contains(&pull), "{}", server.banner);
}

#[test]
fn the_claim_code_is_shown_until_the_box_has_an_owner() {
    let home = Home::new();
    let config = home.engine_stand_in();
    let server = home.serve(&["--config", &config]);
    let line = server.banner.lines().find(|line| line.starts_with("Claim code")).unwrap();
    let code = line.split_whitespace().nth(2).unwrap().to_owned();
    assert_eq!(code.len(), "K7QF-3MTP".len());
    let body = format!(r#"{{"code":"{code}","owner":"anna"}}"#);
    let url = format!("http://{}/claim", server.address);
    let claim = ["-sf", "--max-time", "30", "-H", "Content-Type: application/json", "-d", &body, &url];
    let claimed = Command::new("curl").args(claim).output().expect("`curl` is missing: apt install curl");
    assert!(claimed.status.success(), "{}", String::from_utf8_lossy(&claimed.stdout));
    drop(server);
    let server = home.serve(&["--config", &config]);
    assert!(!server.banner.contains("Claim code"), "{}", server.banner);
}

#[test]
fn the_printed_curl_line_works_as_pasted() {
    let home = Home::new();
    home.install_test_model();
    let server = home.serve(&[]);
    let line = server.banner.lines().find(|line| line.trim_start().starts_with("curl ")).unwrap();
    let answer = Command::new("bash").args(["-c", &format!("{line} -s --max-time 60")]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).expect("JSON; is curl installed?");
    assert_eq!(answer["object"], "chat.completion", "{answer:#}");
    assert_eq!(server.get("/readyz", None).0, 200);

    // The answer does not wait until it is in the books.
    let until = Instant::now() + DEADLINE;
    let usage = loop {
        let usage = home.json(&["usage", "--json"]);
        if usage != serde_json::json!([]) || Instant::now() > until {
            break usage;
        }
    };
    assert_eq!(usage.as_array().unwrap().len(), 1);
    assert_eq!(usage[0]["requests"], 1);
    for name in ["prompt_tokens", "completion_tokens"] {
        assert_eq!(usage[0][name], answer["usage"][name], "{name}");
    }
    let by_user = home.json(&["usage", "--by", "user", "--json"]);
    assert_eq!(by_user[0]["user"], "me");
    let other_month = home.json(&["usage", "--month", "2001-01", "--json"]);
    assert_eq!(other_month, serde_json::json!([]));
}

#[test]
fn signals_end_it_in_order_and_in_time() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let server = home.serve(&["--config", &home.engine_stand_in()]);
        server.signal(signal);
        let (status, took) = server.ended();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[test]
fn the_service_manager_is_told_when_it_is_ready() {
    let home = Home::new();
    let path = home.folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let config = home.engine_stand_in();
    let server = home.serve_with(&["--config", &config], |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let mut message = [0; 64];
    let length = manager.recv(&mut message).unwrap();
    assert!(String::from_utf8_lossy(&message[..length]).starts_with("READY=1"));
    drop(server);
}

#[test]
fn logs_are_json_when_asked() {
    let home = Home::new();
    let config = home.engine_stand_in();
    let ran = home.run(&["serve", "--listen", "192.0.2.1:0", "--config", &config, "--log-format", "json"]);
    assert_eq!(ran.code, 4);
    let mut child = home.command(&["serve", "--listen", "127.0.0.1:0", "--config", &config, "--log-format", "json"]);
    let mut child = child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let listening = lines.find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        (entry["message"] == "listening").then_some(entry)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(listening.unwrap()["level"], "INFO");
}
