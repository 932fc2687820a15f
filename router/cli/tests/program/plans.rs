//! Plans and users.

use crate::support::Home;
use serde_json::{Value, json};

fn plan(home: &Home, name: &str) -> Value {
    let plans = home.json(&["plans", "list", "--json"]);
    plans.as_array().unwrap().iter().find(|plan| plan["name"] == name).cloned().unwrap_or(Value::Null)
}

#[test]
fn the_presets_are_listed_smallest_first() {
    let home = Home::new();
    let table = home.run(&["plans", "list"]).stdout;
    let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let expected = [
        "PLAN TOKENS A MONTH COUNTS REQUESTS/MIN TOKENS/MIN AT ONCE MODELS CLASS UPSTREAMS STORAGE USERS KEYS",
        "starter 1 000 000 both - - - up to 8B chat no 5.00 GB 0 0",
        "personal 10 000 000 both - - - up to 14B voice no 50.00 GB 0 0",
        "pro 50 000 000 both - - - all voice up to 20.00 200.00 GB 0 0",
        "unlimited - both - - - all voice yes - 0 0",
    ];
    assert_eq!(lines.into_iter().map(words).collect::<Vec<_>>(), expected);
}

#[test]
fn a_plan_is_made_changed_and_removed() {
    let home = Home::new();
    let limits = [
        "--tokens-a-month",
        "500k",
        "--soft-limit",
        "400k",
        "--requests-a-minute",
        "20",
        "--tokens-a-minute",
        "10k",
        "--concurrency",
        "2",
        "--models-up-to",
        "1.5B",
        "--model",
        "qwen-*",
        "--model",
        "phi",
        "--class",
        "chat",
        "--upstreams",
        "false",
        "--carry-over",
        "true",
        "--counts",
        "weighted",
        "--weight",
        "phi=0.5,2",
        "--storage-gb",
        "1.5",
        "--upstream-budget",
        "12.50",
    ];
    assert_eq!(home.run(&[&["plans", "add", "kids"][..], &limits].concat()).stdout, "made the plan kids\n");
    let mut expected = json!({
        "name": "kids", "tokens_a_month": 500_000, "soft_tokens_a_month": 400_000, "counts": "weighted",
        "weights": [{"model": "phi", "input_thousandths": 500, "output_thousandths": 2000}], "carry_over": true,
        "requests_a_minute": 20, "tokens_a_minute": 10_000, "concurrency": 2, "parameters_below": 1_600_000_000u64,
        "models": ["qwen-*", "phi"], "class": "chat", "upstreams": false, "storage_bytes": 1_500_000_000,
        "upstream_budget_billionths": 12_500_000_000u64, "users": 0, "keys": 0,
    });
    assert_eq!(plan(&home, "kids"), expected);
    // What is not named stays as it is.
    home.run(&["plans", "set", "kids", "--concurrency", "none", "--model", "all", "--counts", "both"]);
    (expected["concurrency"], expected["models"]) = (Value::Null, json!([]));
    (expected["counts"], expected["weights"]) = (json!("both"), json!([]));
    assert_eq!(plan(&home, "kids"), expected);
    home.run(&["plans", "add", "teens", "--like", "kids", "--tokens-a-month", "1M"]);
    (expected["name"], expected["tokens_a_month"]) = (json!("teens"), json!(1_000_000));
    assert_eq!(plan(&home, "teens"), expected);

    home.run(&["keys", "create", "--user", "kim", "--plan", "kids"]);
    home.run(&["plans", "remove", "kids"]).refused(4, "1 users and 0 keys have the plan kids", "give them another");
    assert_eq!(home.run(&["users", "set", "kim", "--plan", "teens"]).stdout, "kim has the plan teens now\n");
    assert_eq!(home.run(&["plans", "remove", "kids"]).stdout, "removed the plan kids\n");
    assert_eq!(plan(&home, "kids"), Value::Null);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let home = Home::new();
    let before = home.json(&["plans", "list", "--json"]);
    for amount in ["-5", "1e6", "x", "1.5"] {
        let ran = home.run(&["plans", "set", "starter", &format!("--tokens-a-month={amount}")]);
        assert_eq!(ran.code, 2, "{amount}: {ran:?}");
    }
    for wrong in
        [["--class", "first"], ["--counts", "some"], ["--weight", "m"], ["--models-up-to", "8"], ["--storage-gb", "x"]]
    {
        assert_eq!(home.run(&[&["plans", "set", "starter"][..], &wrong].concat()).code, 2, "{wrong:?}");
    }
    home.run(&["plans", "set", "starter"]).refused(2, "nothing is to be changed", "--help");
    home.run(&["plans", "set", "gold", "--concurrency", "1"]).refused(3, "no plan gold", "allerac plans list");
    home.run(&["plans", "set", "starter", "--concurrency", "0"]).refused(2, "at least 1", "revoke keys");
    home.run(&["plans", "set", "starter", "--soft-limit", "2M"]).refused(2, "beyond", "");
    home.run(&["plans", "add", "starter"]).refused(4, "a plan starter already", "allerac plans set");
    home.run(&["plans", "add", "My Plan"]).refused(2, "its name has", "");
    home.run(&["plans", "remove", "unlimited"]).refused(4, "is given to new users or owners", "change it instead");
    assert_eq!(home.json(&["plans", "list", "--json"]), before);
}

#[test]
fn users_are_listed_with_what_they_have_left() {
    let home = Home::new();
    assert_eq!(home.json(&["users", "list", "--json"]), json!([]));
    home.run(&["keys", "create", "--user", "anna", "--plan", "starter"]);
    let increased =
        home.run(&["--time-zone", "UTC", "users", "increase", "anna", "--tokens", "2M", "--until", "2099-12-24"]);
    assert_eq!(increased.stdout, "anna has 2 000 000 more tokens a month until 2099-12-24T00:00:00Z\n");
    let users = home.json(&["users", "list", "--json"]);
    let expected = json!([{
        "user": "anna", "role": "member", "plan": "starter", "keys": 1, "limit": 3_000_000, "soft_limit": null,
        "used": 0, "reserved": 0, "free": 3_000_000, "renews_at": users[0]["renews_at"],
        "spending": {"limit": null, "used": 0, "reserved": 0, "free": null},
        "increases": [{"tokens": 2_000_000, "ends_at": 4_101_753_600i64}],
        "hours": "", "models": [], "password": false, "second_factor": false, "passkeys": 0, "identities": 0,
        "created_at": users[0]["created_at"],
    }]);
    assert_eq!(users, expected);
    assert_eq!(home.run(&["users", "increase", "anna", "--end"]).stdout, "ended 1 increases of anna\n");
    assert_eq!(home.json(&["users", "list", "--json"])[0]["limit"], 1_000_000);
    home.run(&["users", "increase", "anna", "--tokens", "1", "--until", "2001-01-01"]).refused(
        2,
        "its end has passed",
        "",
    );
    home.run(&["users", "increase", "bert", "--tokens", "1", "--until", "2099-01-01"]).refused(
        3,
        "no user bert",
        "users list",
    );
    home.run(&["users", "increase", "anna", "--tokens", "1", "--until", "soon"]).refused(
        2,
        "`soon` is no time",
        "2026-12-24",
    );
    home.run(&["users", "set", "anna", "--plan", "gold"]).refused(3, "no plan gold", "allerac plans list");
}

#[test]
fn a_key_gets_a_plan_of_its_own_and_loses_it() {
    let home = Home::new();
    home.run(&["keys", "create", "--user", "anna", "--plan", "pro"]);
    let id = home.json(&["keys", "list", "--json"])[0]["id"].as_str().unwrap().to_owned();
    let plan = || home.json(&["keys", "list", "--json"])[0]["plan"].clone();
    home.run(&["keys", "set", &id, "--plan", "starter"]);
    assert_eq!(plan(), "starter");
    home.run(&["keys", "set", &id, "--plan", "none"]);
    assert_eq!(plan(), Value::Null);
    home.run(&["keys", "set", "nobody", "--plan", "none"]).refused(3, "no key nobody", "allerac keys list");
    home.run(&["keys", "set", &id, "--plan", "gold"]).refused(3, "no plan gold", "allerac plans list");
}
