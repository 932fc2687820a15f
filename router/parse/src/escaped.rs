//! Grammars of text, as grammars of the same text within a string of JSON.
//!
//! What a custom tool is given is text, and models write it as a string among the arguments of a call. JSON escapes
//! single characters, so escaping each terminal of a grammar by itself escapes what they add up to.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};
use serde_json::Value;

use crate::grammar::{quoted, slashes_escaped};

/// What Lark's library has with characters in it that JSON escapes. All else of it stays an import.
const COMMON: &[(&str, &str)] = &[
    ("CR", r"\r"),
    ("LF", r"\n"),
    ("NEWLINE", r"(\r?\n)+"),
    ("WS", r"[ \t\f\r\n]+"),
    ("WS_INLINE", r"[ \t]+"),
    ("ESCAPED_STRING", r#""([^"\\]|\\.)*""#),
    ("SH_COMMENT", r"#[^\n]*"),
    ("CPP_COMMENT", r"//[^\n]*"),
    ("SQL_COMMENT", r"--[^\n]*"),
];

/// What of Lark has no place in a string.
const NOT_TEXT: &[&str] = &["%json", "%lark", "%regex", "%llguidance", "%override", "%if"];

/// A Lark grammar of the text as it stands within a string.
///
/// # Errors
/// What cannot be escaped, for the client's developer.
pub fn escaped_lark(grammar: &str) -> Result<String, String> {
    let mut written = String::with_capacity(grammar.len() * 2);
    let mut rest = grammar;
    while let Some(character) = rest.chars().next() {
        if let Some(keyword) = NOT_TEXT.iter().find(|keyword| rest.starts_with(**keyword)) {
            return Err(format!("`{keyword}` has no place in the grammar of a text"));
        }
        rest = match character {
            '#' => rest.find('\n').map_or("", |end| &rest[end..]),
            '/' if rest.starts_with("//") => rest.find('\n').map_or("", |end| &rest[end..]),
            '/' => expression(rest, &mut written)?,
            '"' => string(rest, &mut written)?,
            '%' if rest.starts_with("%import") => import(rest, &mut written)?,
            '~' | '&' | '<' | '@' => return Err(format!("`{character}` is not supported in the grammar of a tool")),
            _ => {
                written.push(character);
                &rest[character.len_utf8()..]
            }
        };
    }
    Ok(written)
}

/// A regular expression of the text as it stands within a string.
fn escaped_regex(regex: &str, flags: &str) -> Result<String, String> {
    let mut parser = ParserBuilder::new()
        .case_insensitive(flags.contains('i'))
        .dot_matches_new_line(flags.contains('s'))
        .multi_line(flags.contains('m'))
        .ignore_whitespace(flags.contains('x'))
        .build();
    let parsed = parser.parse(regex).map_err(|error| format!("a regular expression is wrong: {error}"))?;
    Ok(slashes_escaped(&escaped(&parsed)?.to_string()))
}

fn escaped(hir: &Hir) -> Result<Hir, String> {
    Ok(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|_| "bytes that are no text".to_owned())?;
            Hir::literal(json_escaped(text).into_bytes())
        }
        HirKind::Class(Class::Unicode(class)) => escaped_class(class),
        HirKind::Class(Class::Bytes(_)) => {
            return Err("classes of bytes are not supported in the grammar of a tool".into());
        }
        HirKind::Look(_) => return Err("anchors and word borders are not supported in the grammar of a tool".into()),
        HirKind::Repetition(repetition) => {
            let mut repetition = repetition.clone();
            repetition.sub = Box::new(escaped(&repetition.sub)?);
            Hir::repetition(repetition)
        }
        HirKind::Capture(capture) => escaped(&capture.sub)?,
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(escaped).collect::<Result<_, _>>()?),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(escaped).collect::<Result<_, _>>()?),
    })
}

/// A class, with the escapes of those of its characters that JSON has no other spelling for.
fn escaped_class(class: &ClassUnicode) -> Hir {
    let range = |first: char, last: char| ClassUnicodeRange::new(first, last);
    let special = ClassUnicode::new([range('\0', '\x1f'), range('"', '"'), range('\\', '\\')]);
    let mut plain = class.clone();
    plain.difference(&special);
    let mut found = special;
    found.intersect(class);
    let characters = found.iter().flat_map(|range| range.start()..=range.end());
    let escapes = characters.map(|character| Hir::literal(json_escaped(&character.to_string()).into_bytes()));
    let plain = (!plain.ranges().is_empty()).then(|| Hir::class(Class::Unicode(plain)));
    Hir::alternation(plain.into_iter().chain(escapes).collect())
}

/// Text as it stands within a string.
fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Behind a string, or a range of two.
fn string<'g>(rest: &'g str, written: &mut String) -> Result<&'g str, String> {
    let (text, behind) = literal(rest)?;
    if let Some(second) = behind.trim_start().strip_prefix("..") {
        let (last, behind) = literal(second.trim_start())?;
        let (Some(first), Some(last)) = (one(&text), one(&last)) else {
            return Err("a range is of two letters".into());
        };
        let class = ClassUnicode::new([ClassUnicodeRange::new(first.min(last), first.max(last))]);
        written.push_str(&format!("/{}/", slashes_escaped(&escaped_class(&class).to_string())));
        return Ok(behind);
    }
    if let Some(behind) = behind.strip_prefix('i') {
        written.push_str(&format!("/{}/", escaped_regex(&regex_syntax::escape(&text), "i")?));
        return Ok(behind);
    }
    written.push_str(&quoted(&json_escaped(&text)));
    Ok(behind)
}

fn one(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// What a string of a grammar says, and what follows it.
fn literal(rest: &str) -> Result<(String, &str), String> {
    let mut escape = false;
    let end = rest.char_indices().skip(1).find(|(_, character)| {
        let ends = *character == '"' && !escape;
        escape = *character == '\\' && !escape;
        ends
    });
    let (end, _) = end.filter(|_| rest.starts_with('"')).ok_or("a string of the grammar has no end")?;
    let text =
        serde_json::from_str(&rest[..=end]).map_err(|error| format!("a string of the grammar is wrong: {error}"))?;
    Ok((text, &rest[end + 1..]))
}

/// Behind a regular expression.
fn expression<'g>(rest: &'g str, written: &mut String) -> Result<&'g str, String> {
    let mut escape = false;
    let end = rest.char_indices().skip(1).find(|(_, character)| {
        let ends = *character == '/' && !escape;
        escape = *character == '\\' && !escape;
        ends
    });
    let (end, _) = end.ok_or("a regular expression of the grammar has no end")?;
    let behind = &rest[end + 1..];
    let flags = behind.len() - behind.trim_start_matches(['i', 'm', 's', 'l', 'u', 'x']).len();
    let regex = escaped_regex(&rest[1..end].replace("\\/", "/"), &behind[..flags])?;
    written.push_str(&format!("/{regex}/"));
    Ok(&behind[flags..])
}

/// Behind an import: what has characters that JSON escapes is defined here.
fn import<'g>(rest: &'g str, written: &mut String) -> Result<&'g str, String> {
    let end = rest.find('\n').unwrap_or(rest.len());
    let line = rest[..end].split("//").next().unwrap_or_default().trim();
    let known = line.strip_prefix("%import").map(str::trim).and_then(|name| name.strip_prefix("common."));
    let (name, alias) = match known.map(|name| name.split_once("->").unwrap_or((name, name))) {
        Some((name, alias)) => (name.trim(), alias.trim()),
        None => return Err(format!("`{line}` is not supported: import one name of `common`")),
    };
    match COMMON.iter().find(|(known, _)| *known == name) {
        Some((_, regex)) => written.push_str(&format!("{alias}: /{}/", escaped_regex(regex, "")?)),
        None => written.push_str(line),
    }
    Ok(&rest[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_escaped_one_by_one() {
        let table = [
            ("start: \"a\" B // so\nB: /x+/", "start: \"a\" B \nB: /x+/"),
            (r#"start: "say \"hi\"\n""#, r#"start: "say \\\"hi\\\"\\n""#),
            ("start: \"a\"..\"c\"", "start: /[a-c]/"),
            ("%import common.INT\nstart: INT", "%import common.INT\nstart: INT"),
        ];
        for (grammar, wanted) in table {
            assert_eq!(escaped_lark(grammar).unwrap(), wanted);
        }
    }

    #[test]
    fn an_expression_matches_what_is_escaped() {
        let matches = |regex: &str, flags: &str, text: &str| {
            let regex = escaped_regex(regex, flags).unwrap().replace("\\/", "/");
            let string = Value::from(text).to_string();
            regex::Regex::new(&format!("^(?:{regex})$")).unwrap().is_match(&string[1..string.len() - 1])
        };
        assert!(matches("(.*)", "", "say \"hi\" \\ \t/"));
        assert!(!matches("(.*)", "", "a\nb"));
        assert!(matches("(.*)", "s", "a\nb"));
        assert!(matches("[^a]{2}", "", "\"\\"));
        assert!(!matches("[^\"]{2}", "", "a\""));
        assert!(matches("h\\wllo", "i", "HÉLLO"));
        assert!(matches("a/b", "", "a/b"));
    }

    #[test]
    fn what_cannot_be_escaped_is_named() {
        for (grammar, named) in [
            ("start: /^a$/", "anchors"),
            ("start: %json {}", "%json"),
            ("start: <tool>", "`<`"),
            ("start: \"a", "no end"),
            ("start: /(/", "wrong"),
            ("%import python.NAME\n", "%import python.NAME"),
        ] {
            let error = escaped_lark(grammar).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
