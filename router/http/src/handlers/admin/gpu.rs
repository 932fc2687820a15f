//! The graphics processor, for who looks after the box, and for the command line on the box itself.

use allerac_router_core::{GpuView, ModelState, Split};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::AtTheGpu;
use crate::state::AppState;

/// Whether models are computed by a graphics processor, and which.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct GpuObject {
    /// `gpu`.
    pub object: String,
    /// `ready`: models are loaded onto it; `ejecting` while answers end that are computed on it, then `ejected`; `failed`: it is
    /// tried again; `absent`: there is none with memory of its own; `looking`: it is not known yet; `off`: the configuration says
    /// so; `no_module`: llama.cpp's module for graphics processors is not installed.
    pub status: String,
    /// Why it is not used, where there is more to say.
    pub reason: Option<String>,
    /// When it is tried again, in seconds from now.
    pub retry_in_seconds: Option<u64>,
    /// All graphics processors that the module can use.
    pub devices: Vec<DeviceObject>,
    /// Models in memory of which it has something.
    pub models: Vec<PlacedObject>,
}

/// A graphics processor.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeviceObject {
    /// What llama.cpp calls it.
    pub name: String,
    /// What its maker calls it.
    pub description: String,
    /// Whether it shares memory with the processor; such are used only where the configuration says so.
    pub is_integrated: bool,
    /// Whether models are loaded onto it.
    pub is_used: bool,
    /// All of its memory.
    pub memory_bytes: u64,
    /// What of it was free when it was looked at last.
    pub free_bytes: u64,
}

/// What of a model a graphics processor has.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PlacedObject {
    /// The model.
    pub model: String,
    /// How much of it.
    #[serde(flatten)]
    pub share: ShareObject,
}

/// How much of a model a graphics processor has.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ShareObject {
    /// Layers on it; the one that scores tokens counts.
    pub layers: u32,
    /// All layers.
    pub layers_max: u32,
    /// Layers whose experts are with the processor.
    pub cpu_expert_layers: u32,
    /// What it takes of its memory, as estimated.
    pub bytes: u64,
}

impl From<Split> for ShareObject {
    fn from(split: Split) -> Self {
        let Split { layers, layers_max, cpu_expert_layers, bytes } = split;
        Self { layers, layers_max, cpu_expert_layers, bytes }
    }
}

/// `GET /v1/admin/gpu`.
pub(crate) async fn show(State(state): State<AppState>, _: AtTheGpu) -> Json<GpuObject> {
    Json(told(&state))
}

/// `POST /v1/admin/gpu/eject`: it can be unplugged when the status is `ejected`.
pub(crate) async fn eject(State(state): State<AppState>, _: AtTheGpu) -> Json<GpuObject> {
    state.registry.eject_gpu().await;
    Json(told(&state))
}

/// `POST /v1/admin/gpu/use`.
pub(crate) async fn use_again(State(state): State<AppState>, _: AtTheGpu) -> Json<GpuObject> {
    state.registry.use_gpu().await;
    Json(told(&state))
}

fn told(state: &AppState) -> GpuObject {
    let view = state.registry.gpu();
    let placed = state.registry.engines().into_iter();
    let placed = placed.filter_map(|ModelState { model, split, .. }| {
        Some(PlacedObject { model: model.id.clone(), share: split?.into() })
    });
    object(&view, placed.collect())
}

fn object(view: &GpuView, models: Vec<PlacedObject>) -> GpuObject {
    let status = match view.standing.name() {
        "ejected" if !models.is_empty() => "ejecting",
        name => name,
    };
    let devices = view.devices.iter().map(|device| DeviceObject {
        name: device.name.clone(),
        description: device.description.clone(),
        is_integrated: device.is_integrated,
        is_used: view.chosen.as_ref() == Some(&device.name),
        memory_bytes: device.memory_bytes,
        free_bytes: device.free_bytes,
    });
    GpuObject {
        object: "gpu".to_owned(),
        status: status.to_owned(),
        reason: view.reason.clone(),
        retry_in_seconds: view.retry_in.map(|wait| wait.as_secs()),
        devices: devices.collect(),
        models,
    }
}
