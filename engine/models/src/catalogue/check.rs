//! What must hold between the models of a catalogue.

use super::{Entry, ModelKind};

/// What is wrong with them, by name.
pub(super) fn all(models: &[Entry]) -> Result<(), String> {
    for (index, entry) in models.iter().enumerate() {
        let named = |what: &str| format!("model `{}`: {what}", entry.id);
        entry.check().map_err(named)?;
        if models[..index].iter().any(|earlier| earlier.id == entry.id) {
            return Err(format!("model `{}` is there twice", entry.id));
        }
        drafts(entry, models).map_err(|what| named(&what))?;
        base(entry, models).map_err(|what| named(&what))?;
    }
    Ok(())
}

/// An adapter is of a model that goes on with texts, and of no other adapter.
fn base(entry: &Entry, models: &[Entry]) -> Result<(), String> {
    let Some(base) = &entry.base else { return Ok(()) };
    let found = models.iter().find(|other| other.id == *base);
    let found = found.ok_or_else(|| format!("the model `{base}` that it is an adapter of is not there"))?;
    if found.kind == ModelKind::Chat && entry.kind == ModelKind::Chat && found.base.is_none() && found.id != entry.id {
        Ok(())
    } else {
        Err(format!("it cannot be an adapter of `{base}`; adapters are of models that chat"))
    }
}

/// Follows the models that guess for one another.
fn drafts(entry: &Entry, models: &[Entry]) -> Result<(), String> {
    let mut seen = vec![entry.id.as_str()];
    let mut at = entry;
    while let Some(draft) = &at.draft {
        if seen.contains(&draft.as_str()) {
            return Err(format!("its drafts go round in a circle: {} -> {draft}", seen.join(" -> ")));
        }
        seen.push(draft);
        at = models
            .iter()
            .find(|other| other.id == *draft)
            .ok_or_else(|| format!("its draft `{draft}` is not there"))?;
        if at.parameters >= entry.parameters {
            return Err(format!("its draft `{draft}` is not smaller"));
        }
    }
    Ok(())
}
