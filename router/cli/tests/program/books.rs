//! The ledger's checks and the audit log.

use crate::support::Home;
use serde_json::json;

/// Changes a row of the ledger behind its back.
fn change(home: &Home, sql: &str) {
    let database = rusqlite::Connection::open(home.data_dir().join("ledger.db")).unwrap();
    database.execute_batch("DROP TRIGGER IF EXISTS audit_is_not_changed").unwrap();
    database.execute_batch(sql).unwrap();
}

#[test]
fn a_ledger_that_adds_up_is_told_from_one_that_does_not() {
    let home = Home::new();
    home.run(&["ledger", "verify"]).refused(3, "there is no ledger in", "start the server once");
    home.run(&["keys", "create", "--user", "anna"]);
    let verified = home.run(&["ledger", "verify"]);
    let said = "the ledger adds up: 0 balances, 0 settled requests, 0 open ones\n";
    assert_eq!((verified.code, verified.stdout.as_str()), (0, said));
    let expected = json!({"accounts": 0, "requests": 0, "open": 0, "differences": []});
    assert_eq!(home.json(&["ledger", "verify", "--json"]), expected);

    change(&home, "INSERT INTO balances (account, month, used, reserved) VALUES ('user:1', '2026-11', 12, 3)");
    let off = home.run(&["ledger", "verify"]);
    assert_eq!(off.code, 1);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let expected = [
        "ACCOUNT MONTH WHAT BOOKS JOURNAL OFF BY",
        "user anna 2026-11 used 12 0 +12",
        "user anna 2026-11 reserved 3 0 +3",
    ];
    assert_eq!(off.stdout.lines().map(words).collect::<Vec<_>>(), expected);
    assert!(off.stderr.starts_with("error: 2 sums of the ledger are off\nhint: keep a copy"), "{}", off.stderr);
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("2 sums are off, used of user anna in 2026-11 first"), "{}", doctor.stdout);
}

#[test]
fn what_administrators_do_is_listed_checked_and_exported() {
    let home = Home::new();
    home.run(&["keys", "create", "--user", "anna", "--name", "laptop"]);
    home.run(&["plans", "set", "starter", "--concurrency", "2"]);
    home.run(&["audit", "requests", "on"]);
    let entries = home.json(&["audit", "list", "--json"]);
    let actions: Vec<_> = entries.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["audit.requests", "plan.change", "key.create"]);
    assert_eq!(entries[1]["detail"]["after"]["concurrency"], 2);
    assert!(entries[2]["actor"].as_str().unwrap().starts_with("command line, user "));
    let last = home.run(&["audit", "list", "--last", "1"]).stdout;
    assert_eq!(last.lines().count(), 2, "{last}");

    let head = format!("3:{}", entries[0]["hash"].as_str().unwrap());
    let verified = home.run(&["audit", "verify"]);
    assert_eq!(verified.stdout, format!("the audit log is whole: 3 entries; the last is {head}\n"));
    let file = home.folder.path().join("audit.jsonl");
    std::fs::write(&file, home.run(&["audit", "export"]).stdout).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(home.run(&["audit", "verify", "--file", file]).stdout, verified.stdout);

    change(&home, "UPDATE audit SET subject = 'pro' WHERE id = 2");
    home.run(&["audit", "verify"]).refused(1, "the audit log was tampered with: entry 2 was changed", "");
    // The export was made before, and what was noted of the end holds for it.
    assert_eq!(home.run(&["audit", "verify", "--file", file, "--noted", &head]).code, 0);
    let other = format!("2:{}", &head[2..]);
    home.run(&["audit", "verify", "--file", file, "--noted", &other]).refused(1, "entry 2 is not the one", "");
    home.run(&["audit", "verify", "--file", "/nowhere"]).refused(3, "cannot read /nowhere", "");
    std::fs::write(file, "{}\n").unwrap();
    home.run(&["audit", "verify", "--file", file]).refused(1, "is no export of an audit log", "allerac audit export");
    for wrong in [["--noted", "x"], ["--noted", "1:abc"]] {
        assert_eq!(home.run(&[&["audit", "verify"][..], &wrong].concat()).code, 2);
    }
}

#[test]
fn commands_count_the_days_that_the_server_was_told() {
    let home = Home::new();
    let config = home.config("time_zone = \"Pacific/Kiritimati\"\n[engine]\nbinary = \"/bin/true\"\n");
    drop(home.serve(&["--config", &config]));
    home.run(&["keys", "create", "--user", "anna"]);
    let renews = |arguments: &[&str]| {
        home.json(&[arguments, &["users", "list", "--json"]].concat())[0]["renews_at"].as_i64().unwrap()
    };
    // The month begins 14 hours earlier there.
    let hour = renews(&[]).rem_euclid(86_400) / 3600;
    assert_eq!((hour, renews(&["--time-zone", "UTC"]).rem_euclid(86_400)), (10, 0));
}
