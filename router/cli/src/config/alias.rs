//! `aliases`: other names for models.

use std::collections::BTreeMap;

use toml::Spanned;

use super::load::Mistake;

/// What a type cannot say about them.
pub(super) fn check(aliases: &BTreeMap<String, Spanned<String>>) -> Result<(), Mistake> {
    for (name, model) in aliases {
        let mistake = |message: String| Mistake::at(format!("aliases.{name}"), model, message);
        let beginning = name.strip_suffix('*').unwrap_or(name);
        if name.is_empty() || beginning.contains('*') {
            return Err(mistake("a name has a `*` at its end or nowhere".to_owned()));
        }
        let target = model.get_ref();
        if target.is_empty() || target.contains('*') {
            return Err(mistake("write the name of a model".to_owned()));
        }
        if aliases.contains_key(target) && target != name {
            return Err(mistake(format!("`{target}` is an alias itself; name the model")));
        }
    }
    Ok(())
}
