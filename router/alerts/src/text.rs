//! What an alert says, in words: never of a prompt, because none is in it.

use allerac_ledger::Alert;
use serde_json::Value;

/// One line.
pub(crate) fn subject(alert: &Alert) -> String {
    let text = |name: &str| alert.detail[name].as_str().unwrap_or_default().to_owned();
    match alert.kind.as_str() {
        "limit.reached" => format!("{} used {} % of {}", whose(alert), alert.detail["percent"], text("month")),
        "budget.reached" => match alert.detail["upstream"].as_str() {
            Some(name) => {
                format!("{} % of the budget of {name} for {} is spent", alert.detail["percent"], text("month"))
            }
            None => format!(
                "{} spent {} % of {}'s budget for other servers",
                whose(alert),
                alert.detail["percent"],
                text("month")
            ),
        },
        "backup.failed" => "a backup failed".to_owned(),
        "disk.low" => "the disk is nearly full".to_owned(),
        "model.failed" => format!("the model {} does not run", text("model")),
        "test" => "a test".to_owned(),
        other => other.to_owned(),
    }
}

/// Somebody, or a key of theirs.
fn whose(alert: &Alert) -> String {
    let user = alert.detail["user"].as_str().unwrap_or_default();
    alert.detail["key"].as_str().map_or_else(|| user.to_owned(), |key| format!("key {key} of {user}"))
}

/// All of it, a line for each thing known.
pub(crate) fn body(alert: &Alert, box_name: &str) -> String {
    let mut lines = vec![format!("{box_name}: {}", subject(alert)), String::new()];
    let known = alert.detail.as_object().into_iter().flatten();
    lines.extend(known.filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    }));
    lines.extend([String::new(), format!("id: {}", alert.id)]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_reads_well() {
        let detail = json!({"percent": 80, "user": "anna", "key": null, "month": "2026-11", "used": 80, "limit": 100});
        let alert = Alert { id: "1".into(), at: 0, kind: "limit.reached".into(), detail };
        assert_eq!(subject(&alert), "anna used 80 % of 2026-11");
        let expected =
            "box: anna used 80 % of 2026-11\n\npercent: 80\nuser: anna\nmonth: 2026-11\nused: 80\nlimit: 100\n\nid: 1";
        assert_eq!(body(&alert, "box"), expected);
        let of_key = Alert { detail: json!({"percent": 100, "user": "anna", "key": "k1", "month": "m"}), ..alert };
        assert_eq!(subject(&of_key), "key k1 of anna used 100 % of m");
    }

    #[test]
    fn money_reads_well_too() {
        let told = |detail| subject(&Alert { id: "1".into(), at: 0, kind: "budget.reached".into(), detail });
        let of_server = json!({"percent": 80, "upstream": "far", "month": "2026-11"});
        assert_eq!(told(of_server), "80 % of the budget of far for 2026-11 is spent");
        let of_key = json!({"percent": 50, "user": "anna", "key": "k1", "month": "2026-11"});
        assert_eq!(told(of_key), "key k1 of anna spent 50 % of 2026-11's budget for other servers");
    }
}
