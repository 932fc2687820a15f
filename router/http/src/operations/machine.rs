//! The machine and its models, for who looks after it.

use axum::routing::{delete, get, post};

use super::under;
use crate::handlers::admin::{gpu, models};
use crate::handlers::list::PAGE_MAX;
use crate::hardware::Hardware;
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    const CATALOGUE: &str = "/v1/admin/models/catalogue";
    let all = [
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
    ];
    under("Administration: models", all).collect()
}
