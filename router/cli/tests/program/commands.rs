//! Keys, usage, models, completions, help.

use crate::support::Home;
use serde_json::json;

#[test]
fn a_key_is_the_only_thing_printed() {
    let home = Home::new();
    let ran = home.run(&["keys", "create", "--user", "anna", "--name", "laptop"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let key = ran.stdout.strip_suffix('\n').unwrap();
    let parts: Vec<_> = key.strip_prefix("sk-allerac-").unwrap().splitn(2, '-').collect();
    assert_eq!((parts[0].len(), parts[1].len()), (12, 43));
    assert!(!key.contains('\n'));
}

#[test]
fn keys_are_listed_without_their_secrets_and_revoked() {
    let home = Home::new();
    let secret = home.run(&["keys", "create", "--user", "anna", "--plan", "pro", "--allow-upstream", "gpu"]).stdout;
    home.run(&["keys", "create", "--user", "kid", "--plan", "starter"]);
    let listed = home.run(&["keys", "list", "--json"]);
    // The secret may have hyphens in it.
    let (_, secret_part) = secret.trim().split_at(secret.trim().len() - 43);
    assert!(!listed.stdout.contains(secret_part));
    let keys: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = keys[0]["id"].as_str().unwrap();
    assert!(secret.contains(id));
    let shape = json!({
        "id": id, "user": "anna", "name": "", "user_plan": "pro", "plan": null, "upstreams": ["gpu"],
        "scopes": ["inference", "models", "files", "account", "admin"], "models": [], "hours": "", "team": null,
        "created_at": keys[0]["created_at"], "expires_at": null, "used_at": null, "revoked_at": null,
    });
    assert_eq!(keys[0], shape);
    assert!(keys[0]["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&keys[1]["user_plan"], &keys[1]["upstreams"]), (&json!("starter"), &json!([])));

    assert_eq!(home.run(&["keys", "revoke", id]).stdout, format!("revoked the key {id} of anna\n"));
    assert!(home.json(&["keys", "list", "--json"])[0]["revoked_at"].is_string());
    let table = home.run(&["keys", "list"]).stdout;
    assert!(
        table.starts_with("ID            USER  NAME  PLAN     UPSTREAMS  BOUND TO  CREATED     USED  STATE\n"),
        "{table}"
    );
    assert!(table.contains("revoked"), "{table}");
}

#[test]
fn what_is_not_there_and_what_is_refused_have_codes_of_their_own() {
    let home = Home::new();
    home.run(&["keys", "revoke", "nobody"]).refused(3, "there is no key nobody", "allerac keys list");
    home.run(&["models", "show", "nothing"]).refused(3, "no model nothing in the catalogue", "allerac models list");
    home.run(&["models", "pull", "nothing"]).refused(3, "no model nothing in the catalogue", "allerac models list");
    home.run(&["models", "rm", "nothing"]).refused(3, "nothing is not installed", "allerac models list");
    let leaving = ["keys", "create", "--user", "kid", "--plan", "starter", "--allow-upstream", "all"];
    home.run(&leaving).refused(4, "the plan starter does not include other servers", "--plan pro");
}

#[test]
fn a_wrong_command_line_is_refused_with_what_would_be_right() {
    let home = Home::new();
    let gold = home.run(&["keys", "create", "--user", "x", "--plan", "gold"]);
    gold.refused(3, "there is no plan gold", "allerac plans list");
    let wrong: &[&[&str]] = &[
        &[],
        &["srve"],
        &["serve", "--listen", "8080"],
        &["serve", "--time-zone", "Mars"],
        &["usage", "--month", "november"],
        &["usage", "--by", "colour"],
        &["keys", "create"],
    ];
    for arguments in wrong {
        assert_eq!(home.run(arguments).code, 2, "{arguments:?}");
    }
    home.run(&["keys", "create", "--user", ""]).refused(2, "1 to 64 visible characters", "");
    home.run(&["serve", "--profile", "giant"]).refused(2, "no hardware profile `giant`", "lite, home, pro or generic");
}

#[test]
fn listings_are_json_when_asked_even_when_empty() {
    let home = Home::new();
    assert_eq!(home.json(&["keys", "list", "--json"]), json!([]));
    assert_eq!(home.json(&["usage", "--json"]), json!([]));
    assert_eq!(home.json(&["models", "list", "--installed", "--json"]), json!([]));
    let catalogue = home.json(&["models", "list", "--json"]);
    let starter = catalogue.as_array().unwrap().iter().find(|row| row["id"] == "smollm2-135m-instruct").unwrap();
    assert_eq!((&starter["installed"], &starter["path"]), (&json!(false), &json!(null)));
    assert_eq!(starter, &home.json(&["models", "show", "smollm2-135m-instruct", "--json"]));
}

#[test]
fn an_installed_model_is_listed_checked_and_removed() {
    let home = Home::new();
    home.install_test_model();
    let installed = home.json(&["models", "list", "--installed", "--json"]);
    assert_eq!(installed[0]["id"], "smollm2-135m-instruct");
    let again = home.run(&["models", "pull", "smollm2-135m-instruct"]);
    assert_eq!(again.stdout, "smollm2-135m-instruct is installed already\n");
    assert_eq!(home.run(&["models", "rm", "smollm2-135m-instruct"]).stdout, "removed smollm2-135m-instruct\n");
    assert_eq!(home.json(&["models", "list", "--installed", "--json"]), json!([]));
}

#[test]
fn every_command_explains_itself_with_examples() {
    let home = Home::new();
    let commands: &[&[&str]] = &[
        &[],
        &["serve"],
        &["keys"],
        &["keys", "create"],
        &["keys", "list"],
        &["keys", "revoke"],
        &["keys", "set"],
        &["users"],
        &["users", "list"],
        &["users", "set"],
        &["users", "increase"],
        &["plans"],
        &["plans", "list"],
        &["plans", "add"],
        &["plans", "set"],
        &["plans", "remove"],
        &["ledger"],
        &["ledger", "verify"],
        &["audit"],
        &["audit", "list"],
        &["audit", "verify"],
        &["audit", "export"],
        &["audit", "requests"],
        &["usage"],
        &["models"],
        &["models", "list"],
        &["models", "pull"],
        &["models", "rm"],
        &["models", "show"],
        &["doctor"],
        &["tune"],
        &["completions"],
    ];
    for command in commands {
        let ran = home.run(&[command, &["--help"][..]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{command:?}");
        assert!(ran.stdout.contains("Examples:\n  "), "{command:?}: {}", ran.stdout);
    }
    assert!(home.run(&["--help"]).stdout.contains("Exit codes:\n  0  done\n"));
    assert!(home.run(&["--version"]).stdout.starts_with("allerac 0."));
}

#[test]
fn each_shell_gets_its_completions() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = home.run(&["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("revoke") && ran.stdout.contains("allow-upstream"), "{shell}");
    }
    assert_eq!(home.run(&["completions", "cmd"]).code, 2);
}
