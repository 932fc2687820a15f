//! What the page looks like: one document without scripts, for whatever browser somebody has at hand.

use allerac_steward::Trouble;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:2rem auto;padding:0 1rem}\
    fieldset{margin:1rem 0;border:1px solid #999;border-radius:.5rem}button{font:inherit;padding:.4rem .8rem;margin:.2rem 0}\
    input{font:inherit;padding:.3rem}.told{border-left:.3rem solid #b30;padding-left:1rem}";

/// The page; `told` is what became of what was asked last.
pub(super) fn render(trouble: Option<&Trouble>, told: Option<&str>) -> String {
    let what = trouble.map_or(
        "The server of this box does not run, and its system does not say why. Switch the box off and on.",
        |trouble| trouble.cause.words(),
    );
    let told = told.map(|told| format!("<p class=\"told\" role=\"alert\">{}</p>", escaped(told))).unwrap_or_default();
    let version = trouble.map(|trouble| escaped(&trouble.version)).unwrap_or_default();
    let back = trouble.and_then(|trouble| trouble.previous.as_deref()).map(|previous| {
        let previous = escaped(previous);
        format!("<p><button name=\"act\" value=\"back\">Go back to version {previous}</button></p>")
    });
    let back = back.unwrap_or_default();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Allerac does not start</title><style>{STYLE}</style><h1>Allerac {version} does not start</h1>\
         <p>{what}</p><p>The box tries again by itself every quarter of an hour.</p>{told}\
         <form method=\"post\" action=\"/\"><p><label>The code on the screen of the box <input name=\"code\" required \
         autocomplete=\"off\" maxlength=\"64\" placeholder=\"K7QF-3MTP\"></label></p>\
         <p><button name=\"act\" value=\"logs\">Save the log</button></p>\
         <p><button name=\"act\" value=\"start\">Start again</button></p>{back}\
         <fieldset><legend>Forget everything</legend><p>People, keys, conversations and models that were fetched are erased \
         for good. Backups elsewhere stay.</p><p><label>To do that, type <b>erase everything</b> \
         <input name=\"confirm\" autocomplete=\"off\" maxlength=\"64\"></label></p>\
         <p><button name=\"act\" value=\"factory_reset\">Erase everything</button></p></fieldset></form></html>"
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use allerac_steward::Cause;

    use super::*;

    #[test]
    fn what_was_said_is_no_markup_and_the_log_is_not_shown() {
        let said = vec!["error: the ledger is damaged".to_owned()];
        let trouble = Trouble { cause: Cause::Damaged, said, version: "0.1".into(), previous: None };
        let page = render(Some(&trouble), Some("<script>"));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
        assert!(page.contains(Cause::Damaged.words()) && !page.contains("error: the ledger"));
        assert!(!page.contains("Go back"));
        let page = render(Some(&Trouble { previous: Some("0.0.9".into()), ..trouble }), None);
        assert!(page.contains("Go back to version 0.0.9"));
    }
}
