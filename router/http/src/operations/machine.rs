//! The machine and its models, for who looks after it.

use axum::routing::{delete, get, post};

use super::people::request;
use super::under;
use crate::handlers::admin::{downloads, gpu, models, system};
use crate::handlers::list::PAGE_MAX;
use crate::hardware::Hardware;
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    under("Administration: models", models_()).chain(under("Administration: the system", system_())).collect()
}

fn models_() -> [Operation; 10] {
    const CATALOGUE: &str = "/v1/admin/models/catalogue";
    [
        Operation::get(
            "/v1/admin/hardware",
            get(models::hardware),
            "What the box is made of, and what would make it faster",
        )
        .gives::<Hardware>(200),
        Operation::get(
            "/v1/admin/gpu",
            get(gpu::show),
            "Whether models are computed by a graphics processor, and which",
        )
        .gives::<gpu::GpuObject>(200),
        Operation::post(
            "/v1/admin/gpu/eject",
            post(gpu::eject),
            "Take all models off the graphics processor as their answers end, so that it can be unplugged",
        )
        .gives::<gpu::GpuObject>(200),
        Operation::post("/v1/admin/gpu/use", post(gpu::use_again), "Use the graphics processor again")
            .gives::<gpu::GpuObject>(200),
        Operation::get("/v1/admin/models", get(models::list), "The installed models, and which are in memory")
            .lists::<models::InstalledObject>(PAGE_MAX),
        Operation::get(CATALOGUE, get(models::catalogue), "Models that can be fetched, and what each would do here")
            .gives::<models::CatalogueObject>(200),
        Operation::post(
            CATALOGUE,
            post(models::measure),
            "The same, after measuring the machine anew, which takes seconds",
        )
        .gives::<models::CatalogueObject>(200),
        Operation::delete("/v1/admin/models/{id}", delete(models::remove), "Remove a model; what runs on it ends well")
            .in_path("id", "Its id.")
            .gives_none(),
        Operation::get(
            "/v1/admin/downloads",
            get(downloads::list),
            "Models that are being fetched, and how far they are",
        )
        .lists::<downloads::DownloadObject>(PAGE_MAX),
        Operation::delete("/v1/admin/downloads/{id}", delete(downloads::cancel), "End a download; what came is kept")
            .in_path("id", "The model's id.")
            .gives_none(),
    ]
}

fn system_() -> [Operation; 7] {
    [
        Operation::get("/v1/admin/system", get(system::get), "Which version of a box's system runs, and what is new")
            .gives::<system::SystemObject>(200),
        Operation::get("/v1/admin/system/logs", get(system::logs), "The end of the system's log; for owners")
            .gives_plain("text/plain; charset=utf-8"),
        Operation::post("/v1/admin/system/check", post(system::check), "Look for a newer version; for owners")
            .gives::<system::CheckedObject>(200),
        Operation::post(
            "/v1/admin/system/update",
            post(system::update),
            "Install a newer version and restart; for owners",
        )
        .accepts(),
        Operation::post("/v1/admin/system/restart", post(system::restart), "Restart the box; for owners").accepts(),
        Operation::post(
            "/v1/admin/system/back",
            post(system::back),
            "Give up the version that runs for the one before; for owners",
        )
        .takes(request::<system::BackRequest>())
        .accepts(),
        Operation::post(
            "/v1/admin/system/factory_reset",
            post(system::factory_reset),
            "Erase all that the box remembers; for owners",
        )
        .takes(request::<system::ResetRequest>())
        .accepts(),
    ]
}
