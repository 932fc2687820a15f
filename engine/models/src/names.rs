//! Names with tags, as Ollama's clients have them.

/// What Ollama adds to a name that has no tag.
const LATEST: &str = ":latest";
/// Where Ollama's own models are, when a name says it.
const PLACES: [&str; 2] = ["registry.ollama.ai/", "library/"];

/// The one of `ids` that a name means: itself, or with `-` for the `:` before its tag; where a tag leaves the end of an id
/// open (`smollm2:135m` for `smollm2-135m-instruct`), the only one that begins like it.
pub fn named<'a>(name: &str, ids: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let name = PLACES.iter().fold(name, |name, place| name.strip_prefix(place).unwrap_or(name));
    let name = name.strip_suffix(LATEST).unwrap_or(name).to_lowercase();
    let tagged = name.contains(':');
    let dashed = name.replace(':', "-");
    let exact = ids.clone().find(|id| *id == name).or_else(|| ids.clone().find(|id| tagged && *id == dashed));
    if exact.is_some() || !tagged {
        return exact;
    }
    let beginning = format!("{dashed}-");
    let mut open = ids.filter(|id| id.starts_with(&beginning));
    match (open.next(), open.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_and_never_guessed() {
        let ids =
            ["smollm2-135m-instruct", "smollm2-360m-instruct", "qwen2.5-7b-instruct", "qwen2.5-7b-coder", "own:v2"];
        for (name, id) in [
            ("smollm2-135m-instruct", Some("smollm2-135m-instruct")),
            ("smollm2-135m-instruct:latest", Some("smollm2-135m-instruct")),
            ("SmolLM2:135m", Some("smollm2-135m-instruct")),
            ("library/smollm2:135m-instruct", Some("smollm2-135m-instruct")),
            ("registry.ollama.ai/library/smollm2:360m", Some("smollm2-360m-instruct")),
            ("own:v2", Some("own:v2")),
            ("smollm2", None),
            ("smollm2:1", None),
            ("qwen2.5:7b", None),
            ("qwen2.5:7b-coder", Some("qwen2.5-7b-coder")),
            ("", None),
            (":", None),
        ] {
            assert_eq!(named(name, ids.into_iter()), id, "{name}");
        }
    }
}
