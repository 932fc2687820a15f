//! Graphics processors: llama.cpp's module for them, which ones there are, and what of a model one of them holds.

use std::ffi::{CString, NulError};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use crate::model::library;

/// The module cannot be used, or a device is not there.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The module is missing, was built for another version, or found no driver.
    #[error(
        "no graphics processor can be used through {0}: there is no driver for one, or the module is not of this version"
    )]
    Module(PathBuf),
    /// The device is gone.
    #[error("the graphics processor {0} is not there")]
    Missing(String),
    /// The driver does not let it be used.
    #[error("the driver of the graphics processor {0} does not start")]
    Driver(String),
    /// Not a path of files.
    #[error("no path can have a zero byte")]
    Path(#[from] NulError),
}

/// A graphics processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// What llama.cpp calls it: `Vulkan0`.
    pub name: String,
    /// What its maker calls it.
    pub description: String,
    /// Whether it shares memory with the processor.
    pub is_integrated: bool,
    /// All of its memory.
    pub memory_bytes: u64,
    /// What of it is free.
    pub free_bytes: u64,
    index: usize,
}

/// What of a model a graphics processor holds and computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offload {
    /// Which one.
    pub gpu: Gpu,
    /// So many layers: what scores tokens is one and comes first, then the model's last ones.
    pub layers: u32,
    /// The experts of the model's first layers, so many of them, stay with the processor.
    pub cpu_expert_layers: u32,
}

/// Loads llama.cpp's module for graphics processors, and lists them. Nothing of a model may have been loaded.
///
/// # Errors
/// [`GpuError::Module`].
pub fn load_gpus(module: &Path) -> Result<Vec<Gpu>, GpuError> {
    let unusable = || GpuError::Module(module.to_owned());
    // What it logs from here on goes where all logs go.
    library().map_err(|_| unusable())?;
    let path = CString::new(module.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string that outlives the call. The module is part of this program: it is built from the
    // same sources, and llama.cpp compares the versions of their interface before it uses any of it.
    let registered = unsafe { llama_cpp_sys_2::ggml_backend_load(path.as_ptr()) };
    if registered.is_null() {
        return Err(unusable());
    }
    Ok(list_llama_ggml_backend_devices().into_iter().filter_map(gpu).collect())
}

fn gpu(device: LlamaBackendDevice) -> Option<Gpu> {
    let is_integrated = match device.device_type {
        LlamaBackendDeviceType::Gpu => false,
        LlamaBackendDeviceType::IntegratedGpu => true,
        LlamaBackendDeviceType::Cpu | LlamaBackendDeviceType::Accelerator | LlamaBackendDeviceType::Unknown => {
            return None;
        }
    };
    Some(Gpu {
        name: device.name,
        description: device.description,
        is_integrated,
        memory_bytes: device.memory_total as u64,
        free_bytes: device.memory_free as u64,
        index: device.index,
    })
}

/// Opens the driver of a device for the rest of the process's life. What comes later finds it open, when the process may
/// not open much any more.
///
/// # Errors
/// [`GpuError::Driver`].
pub fn open_gpu(gpu: &Gpu) -> Result<(), GpuError> {
    // SAFETY: the index is one of the list, which does not shrink.
    let backend = unsafe {
        let device = llama_cpp_sys_2::ggml_backend_dev_get(gpu.index);
        llama_cpp_sys_2::ggml_backend_dev_init(device, std::ptr::null())
    };
    // It is never freed: contexts share what it opened.
    if backend.is_null() { Err(GpuError::Driver(gpu.name.clone())) } else { Ok(()) }
}

/// No model has more layers; their names are written out one by one.
const LAYERS_MAX: u32 = 4096;

impl Offload {
    /// The names of the tensors that stay with the processor, as llama.cpp has them in an expression; `None` where none do.
    pub(crate) fn kept(&self) -> Option<CString> {
        let layers: Vec<String> = (0..self.cpu_expert_layers.min(LAYERS_MAX)).map(|layer| layer.to_string()).collect();
        let expression = format!(r"blk\.({})\.ffn_(up|down|gate|gate_up)_(ch|)exps", layers.join("|"));
        (!layers.is_empty()).then(|| CString::new(expression).expect("it has no zero byte"))
    }
}

/// Parameters that divide a model so, or leave all of it to the processor. `kept` must outlive them.
pub(crate) fn divide(params: LlamaModelParams, offload: Option<&Offload>, kept: Option<&CString>) -> LlamaModelParams {
    let devices: Vec<usize> = offload.iter().map(|offload| offload.gpu.index).collect();
    let layers = offload.map_or(0, |offload| offload.layers);
    // Without a list llama.cpp would take every device that there is.
    let mut params = params.with_n_gpu_layers(layers).with_devices(&devices).expect("the index is one of the list");
    if let Some(kept) = kept {
        Pin::new(&mut params).add_cpu_buft_override(kept);
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_of_the_first_layers_stay() {
        let gpu = Gpu {
            name: "Vulkan0".into(),
            description: "x".into(),
            is_integrated: false,
            memory_bytes: 1,
            free_bytes: 1,
            index: 0,
        };
        let kept = |cpu_expert_layers| Offload { gpu: gpu.clone(), layers: 3, cpu_expert_layers }.kept();
        assert_eq!(kept(0), None);
        let expression = kept(3).unwrap().into_string().unwrap();
        assert_eq!(expression, r"blk\.(0|1|2)\.ffn_(up|down|gate|gate_up)_(ch|)exps");
    }

    #[test]
    fn a_module_that_is_not_there_is_an_error() {
        let error = load_gpus(Path::new("/nowhere/libggml-vulkan.so")).unwrap_err();
        assert!(matches!(error, GpuError::Module(_)));
    }
}
