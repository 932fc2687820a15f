//! The graphics processor that a part of the model is for.

use std::io::Write;

use allerac_engine_link::GpuDevice;
use allerac_engine_llama::{Gpu, GpuError, Offload, load_gpus, open_gpu};
use anyhow::Context;

use crate::args::Args;

/// Prints the graphics processors that there are, as a line of JSON.
pub(crate) fn list(args: &Args) -> anyhow::Result<()> {
    let module = args.gpu_module.as_deref().context("name the module with --gpu-module")?;
    let devices: Vec<GpuDevice> = load_gpus(module)?.into_iter().map(told).collect();
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&devices)?)?)
}

fn told(gpu: Gpu) -> GpuDevice {
    GpuDevice {
        name: gpu.name,
        description: gpu.description,
        is_integrated: gpu.is_integrated,
        memory_bytes: gpu.memory_bytes,
        free_bytes: gpu.free_bytes,
    }
}

/// Opens the driver of the graphics processor that was asked for, where one was: before the process gives up the right to
/// most of what drivers open.
pub(crate) fn open(args: &Args) -> Result<Option<Offload>, GpuError> {
    let (Some(module), Some(name)) = (&args.gpu_module, &args.gpu) else { return Ok(None) };
    let gpu = load_gpus(module)?.into_iter().find(|gpu| gpu.name == *name);
    let gpu = gpu.ok_or_else(|| GpuError::Missing(name.clone()))?;
    open_gpu(&gpu)?;
    Ok(Some(Offload { gpu, layers: args.gpu_layers, cpu_expert_layers: args.cpu_expert_layers }))
}
