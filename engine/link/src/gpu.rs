//! Graphics processors: asking the engine's program which ones there are, and what one of them is to hold of a model.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::settings::GpuMode;

/// Where llama.cpp's module for graphics processors is, from the folder that the engine's program is in.
const MODULE: &str = "../lib/allerac/gpu/libggml-vulkan.so";
/// Drivers start within a second; one that hangs is of no use.
const LIST_TIME_MAX: Duration = Duration::from_secs(20);
/// The last of what a program says that fails, in bytes.
const REASON_BYTES_MAX: usize = 500;

/// A graphics processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuDevice {
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
}

/// What of a model a graphics processor holds and computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offload {
    /// llama.cpp's module.
    pub module: PathBuf,
    /// The name of the device.
    pub device: String,
    /// So many layers: what scores tokens is one and comes first, then the model's last ones.
    pub layers: u32,
    /// The first layers, so many of them, whose experts stay with the processor.
    pub cpu_expert_layers: u32,
    /// Where its driver keeps compiled shaders; made where it is missing.
    pub shader_cache: PathBuf,
}

/// llama.cpp's module for graphics processors, where it is installed beside the engine's program.
#[must_use]
pub fn gpu_module(binary: &Path) -> Option<PathBuf> {
    // Links are followed first, as those of a package lead elsewhere.
    let program = binary.canonicalize().ok()?;
    program.parent()?.join(MODULE).canonicalize().ok()
}

/// The one that models are loaded onto: with the most memory of its own. One that shares memory with the processor is no
/// faster where answers are concerned, as memory is what bounds them, so it is used only where somebody says so.
#[must_use]
pub fn choose_gpu(devices: &[GpuDevice], mode: GpuMode) -> Option<&GpuDevice> {
    let may = |device: &&GpuDevice| match mode {
        GpuMode::Off => false,
        GpuMode::Auto => !device.is_integrated,
        GpuMode::On => true,
    };
    devices.iter().filter(may).max_by_key(|device| (!device.is_integrated, device.memory_bytes))
}

/// The nodes of graphics processors: others when one is plugged in or out.
#[must_use]
pub fn device_nodes() -> HashSet<String> {
    let names = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let names = names("/dev/dri").chain(names("/dev")).map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| ["card", "render", "nvidia"].iter().any(|kind| name.starts_with(kind))).collect()
}

/// The graphics processors that the engine's program can use. It is asked in a process of its own, because drivers crash.
///
/// # Errors
/// Why there are none, for the administrator.
pub async fn list_gpus(binary: &Path, module: &Path) -> Result<Vec<GpuDevice>, String> {
    let mut ask = Command::new(binary);
    ask.arg("--list-gpus").arg("--gpu-module").arg(module).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(LIST_TIME_MAX, ask.output()).await {
        Err(_) => return Err("the driver of the graphics processor does not answer".to_owned()),
        Ok(Err(error)) => return Err(format!("cannot start {}: {error}", binary.display())),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("the program that lists graphics processors failed").trim();
        let last = last.strip_prefix("ERROR allerac_engine: ").unwrap_or(last);
        return Err(last.chars().take(REASON_BYTES_MAX).collect());
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the list of graphics processors is damaged: {error}"))
}

impl Offload {
    /// The arguments of `allerac-engine` that say this.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let numbers = [("--gpu-layers", self.layers), ("--cpu-expert-layers", self.cpu_expert_layers)];
        let words: [(&str, OsString); 3] = [
            ("--gpu-module", self.module.clone().into()),
            ("--gpu", self.device.clone().into()),
            ("--shader-cache", self.shader_cache.clone().into()),
        ];
        let numbers = numbers.map(|(flag, number)| (flag, number.to_string().into()));
        words.into_iter().chain(numbers).flat_map(|(flag, value)| [flag.into(), value]).collect()
    }

    /// What tells drivers where they may keep shaders: Mesa's, and NVIDIA's.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        ["MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"]
            .into_iter()
            .map(move |name| (name, &*self.shader_cache))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_looked_for_beside_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let program = root.join("bin/allerac-engine");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "").unwrap();
        assert_eq!(gpu_module(&program), None);
        let module = root.join("lib/allerac/gpu/libggml-vulkan.so");
        std::fs::create_dir_all(module.parent().unwrap()).unwrap();
        std::fs::write(&module, "").unwrap();
        assert_eq!(gpu_module(&program), Some(module));
    }

    #[test]
    fn one_with_memory_of_its_own_is_chosen_and_another_only_when_told_to() {
        let device = |name: &str, memory_bytes, is_integrated| GpuDevice {
            name: name.into(),
            description: String::new(),
            is_integrated,
            memory_bytes,
            free_bytes: 0,
        };
        let shared = device("shared", 64, true);
        let all = [shared.clone(), device("small", 8, false), device("large", 16, false)];
        let chosen = |devices: &[GpuDevice]| {
            [GpuMode::Off, GpuMode::Auto, GpuMode::On].map(|mode| Some(choose_gpu(devices, mode)?.name.clone()))
        };
        assert_eq!(chosen(&all), [None, Some("large".into()), Some("large".into())]);
        assert_eq!(chosen(&[shared]), [None, None, Some("shared".into())]);
    }

    #[tokio::test]
    async fn a_list_is_read_and_a_failure_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let program = |text: &str| {
            let path = folder.path().join("engine");
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            path
        };
        let card = GpuDevice {
            name: "Vulkan0".into(),
            description: "a card".into(),
            is_integrated: false,
            memory_bytes: 16 << 30,
            free_bytes: 15 << 30,
        };
        let line = serde_json::to_string(&[&card]).unwrap();
        let module = Path::new("/m.so");
        let said = program(&format!("[ \"$*\" = '--list-gpus --gpu-module /m.so' ] && echo '{line}'"));
        assert_eq!(list_gpus(&said, module).await, Ok(vec![card]));
        let failing = program("echo 'ERROR allerac_engine: no driver' >&2; exit 1");
        assert_eq!(list_gpus(&failing, module).await, Err("no driver".to_owned()));
        assert!(list_gpus(&program("echo nonsense"), module).await.unwrap_err().contains("damaged"));
        assert!(list_gpus(Path::new("/nowhere"), module).await.unwrap_err().contains("cannot start"));
    }
}
