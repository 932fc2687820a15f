//! What Ollama's clients ask of models: `/api/tags`, `/api/ps`, `/api/show` and `/api/version`.

use std::sync::Arc;
use std::time::Instant;

use allerac_engine_link::protocol::ModelInfo;
use allerac_parse::Dialect;
use allerac_router_core::{LocalModel, ModelKind, Route};
use allerac_wire::ollama::{
    Details, ListedModels, LoadedModel, LoadedModels, ModelEntry, Shown, VersionBody, model_name,
};
use axum::Json;
use axum::extract::State;
use jiff::SignedDuration;
use serde_json::Map;

use super::model_info;
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::models::usable;
use crate::handlers::{Bounded, SmallBody};
use crate::state::AppState;

/// The version of Ollama whose API this is like: clients look at it to know what they may send.
const VERSION: &str = "0.12.11";
/// What else requests about a model say of it; it changes nothing here.
pub(crate) const SHOW_KNOWN: &[&str] = &["verbose", "system", "template", "options"];
/// When a model leaves memory that nobody plans to take out of it.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// `GET /api/version`.
pub(crate) async fn version(_: Authenticated) -> Json<VersionBody> {
    Json(VersionBody { version: VERSION })
}

/// `GET /api/tags`: what this key can use.
pub(crate) async fn tags(State(state): State<AppState>, caller: Authenticated) -> Json<ListedModels> {
    let models = usable(&state, &caller).into_iter().map(|model| {
        let name = tagged(&model.id);
        let (modified, size, digest) = match &model.place {
            Route::Local(local) => (local.created, local.size_bytes, local.digest.clone()),
            Route::Upstream(..) => (0, 0, String::new()),
        };
        let details = details(&model.place);
        ModelEntry { model: name.clone(), name, modified_at: time(modified), size, digest, details }
    });
    Json(ListedModels { models: models.collect() })
}

/// `GET /api/ps`: what is in memory, and how much of it each takes. A model of several names is there under one.
pub(crate) async fn ps(State(state): State<AppState>, caller: Authenticated) -> Json<LoadedModels> {
    let mut models = Vec::new();
    for each in state.registry.engines() {
        let usable = state.route(&each.model.id, &caller).is_ok();
        let Some(info) = each.loaded().filter(|_| usable) else { continue };
        let name = tagged(&each.model.id);
        models.push(LoadedModel {
            model: name.clone(),
            name,
            size: each.memory_bytes,
            digest: each.model.digest.clone(),
            expires_at: each.until.map_or_else(|| NEVER.to_owned(), in_future),
            size_vram: 0,
            context_length: info.context,
            details: details(&Route::Local(each.model)),
        });
    }
    Json(LoadedModels { models })
}

/// A moment of this process's clock, on the calendar.
fn in_future(moment: Instant) -> String {
    let rest =
        SignedDuration::try_from(moment.saturating_duration_since(Instant::now())).unwrap_or(SignedDuration::MAX);
    jiff::Timestamp::now().checked_add(rest).map_or_else(|_| NEVER.to_owned(), |at| at.to_string())
}

/// `POST /api/show`: all that is known of a model, also while it is not in memory.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Authenticated,
    Bounded(body): SmallBody,
) -> Result<Json<Shown>, ApiError> {
    let name = model_name(&body, SHOW_KNOWN)?;
    let place = state.route(&name, &caller).map_err(|reason| ApiError::no_route(&name, reason))?;
    let mut shown = Shown {
        license: String::new(),
        modelfile: format!("FROM {name}\n"),
        parameters: String::new(),
        template: String::new(),
        details: details(&place),
        model_info: Map::new(),
        capabilities: vec!["completion", "tools"],
        modified_at: time(0),
    };
    if let Route::Local(local) = place {
        shown.modified_at = time(local.created);
        describe(&mut shown, &state, &local);
    }
    Ok(Json(shown))
}

fn describe(shown: &mut Shown, state: &AppState, local: &Arc<LocalModel>) {
    let info = loaded(state, local);
    let template = template(local, info.as_deref());
    shown.model_info = model_info::of(local, state.registry.context(local));
    shown.capabilities = capabilities(local, info.as_deref(), &template);
    let sampling = [
        ("temperature", local.sampling.temperature.map(f64::from)),
        ("top_p", local.sampling.top_p.map(f64::from)),
        ("top_k", local.sampling.top_k.map(f64::from)),
        ("min_p", local.sampling.min_p.map(f64::from)),
    ];
    let lines = sampling.into_iter().filter_map(|(name, value)| Some(format!("{name:<30} {:.3}", value?)));
    shown.parameters = lines.collect::<Vec<_>>().join("\n");
    if let Some(entry) = local.entry() {
        shown.license.clone_from(&entry.licence);
    }
    shown.template = template;
}

/// The model's template: as the engine has it, else as its file says.
fn template(local: &LocalModel, info: Option<&ModelInfo>) -> String {
    let of_file = || local.header.as_ref().and_then(|header| header.text("tokenizer.chat_template"));
    info.and_then(|info| info.chat_template.as_deref()).or_else(of_file).unwrap_or_default().to_owned()
}

/// What the very model can do. Tools are among it where its template tells it of them; other models get them explained,
/// and may do less well.
fn capabilities(local: &LocalModel, info: Option<&ModelInfo>, template: &str) -> Vec<&'static str> {
    match local.kind {
        ModelKind::Embedding => vec!["embedding"],
        ModelKind::Reranker => vec!["rerank"],
        ModelKind::Chat => {
            let knows_tools = info.map_or_else(|| template.contains("tools"), |info| info.knows_tools);
            let thinks = !template.is_empty() && Dialect::of_template(template).thinks(template);
            let all = [("completion", true), ("tools", knows_tools), ("thinking", thinks)];
            all.into_iter().filter_map(|(name, can)| can.then_some(name)).collect()
        }
    }
}

/// What a model is, where it is in memory.
fn loaded(state: &AppState, local: &LocalModel) -> Option<Arc<ModelInfo>> {
    state.registry.states().iter().find(|each| each.model.id == local.id)?.loaded().cloned()
}

/// Ollama's names have tags; a name without one has this.
fn tagged(id: &str) -> String {
    if id.contains(':') { id.to_owned() } else { format!("{id}:latest") }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn details(place: &Route<'_>) -> Details {
    let Route::Local(model) = place else { return Details::default() };
    let entry = model.entry();
    let family = entry.map(|entry| entry.family.clone()).unwrap_or_default();
    Details {
        parent_model: model.base.clone().unwrap_or_default(),
        format: if model.kind == ModelKind::Chat { "gguf" } else { "safetensors" }.to_owned(),
        families: vec![family.clone()],
        family,
        parameter_size: parameter_size(model.parameters),
        quantization_level: entry.and_then(|entry| quantization(&entry.file.name)).unwrap_or("unknown").to_owned(),
    }
}

/// A number of parameters, as people say it: `134.5M`, `7.6B`.
fn parameter_size(parameters: u64) -> String {
    let (unit, letter) = if parameters >= 1_000_000_000 { (1_000_000_000, 'B') } else { (1_000_000, 'M') };
    let tenths = (parameters * 10 + unit / 2) / unit;
    format!("{}.{}{letter}", tenths / 10, tenths % 10)
}

/// How weights are stored, as files are named after it: `model.Q4_K_M.gguf`.
fn quantization(file: &str) -> Option<&str> {
    let stem = file.strip_suffix(".gguf").unwrap_or(file);
    let last = stem.rsplit(['.', '-']).next()?;
    let digits = last.trim_start_matches('I').strip_prefix('Q');
    let is_known = digits.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        || ["F16", "BF16", "F32", "MXFP4"].contains(&last.to_ascii_uppercase().as_str());
    is_known.then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_quantizations_are_named_as_people_do() {
        for (parameters, size) in [(134_515_008, "134.5M"), (7_615_616_512, "7.6B"), (999_960_000, "1000.0M")] {
            assert_eq!(parameter_size(parameters), size);
        }
        for (file, wanted) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", Some("Q4_1")),
            ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("model-IQ4_XS.gguf", Some("IQ4_XS")),
            ("model-f16.gguf", Some("f16")),
            ("Qwen.gguf", None),
        ] {
            assert_eq!(quantization(file), wanted, "{file}");
        }
        assert_eq!((tagged("a"), tagged("a:7b")), ("a:latest".to_owned(), "a:7b".to_owned()));
    }
}
