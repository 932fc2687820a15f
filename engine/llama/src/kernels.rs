//! Where llama.cpp's kernels come from. A build for one machine has them in it. A portable build (feature `portable`)
//! has them as modules in `../lib/allerac` beside the program, one for each generation of CPUs; llama.cpp loads the
//! best that this CPU can run.

use std::fs;
use std::path::{Path, PathBuf};

/// The kernels cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("no kernels of llama.cpp for this CPU in {0}; install the program with its libraries")]
pub struct NoKernels(PathBuf);

/// Loads the kernels. Must come before a model is loaded, and before the process gives up the right to open them.
///
/// # Errors
/// [`NoKernels`] when the modules of a portable build are missing.
pub fn load_kernels() -> Result<(), NoKernels> {
    #[cfg(feature = "portable")]
    {
        let program = std::env::current_exe().unwrap_or_default();
        let folder = program.parent().and_then(Path::parent).unwrap_or(Path::new("/")).join("lib/allerac");
        if folder.is_dir() {
            llama_cpp_2::llama_backend::load_backends_from_path(&folder);
        }
        if loaded_kernels().is_none() {
            return Err(NoKernels(folder));
        }
    }
    Ok(())
}

/// For which generation of CPUs the loaded kernels are, in llama.cpp's words; `None` where they are part of the
/// program.
#[must_use]
pub fn loaded_kernels() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    kernels_in(&maps)
}

/// The module among the files that a process has mapped.
fn kernels_in(maps: &str) -> Option<String> {
    let file_of = |line: &str| Path::new(line.split_whitespace().last()?).file_name()?.to_str().map(str::to_owned);
    let names = maps.lines().filter_map(file_of);
    names.filter_map(|name| Some(name.strip_prefix("libggml-cpu-")?.strip_suffix(".so")?.to_owned())).next()
}

#[cfg(test)]
mod tests {
    use super::kernels_in;

    #[test]
    fn the_module_is_found_among_the_mapped_files() {
        let maps = "7f00-7f01 r--p 00000000 fe:00 1 /usr/lib/allerac/libggml-base.so\n\
                    7f02-7f03 r-xp 00001000 fe:00 2 /usr/lib/allerac/libggml-cpu-alderlake.so\n\
                    7ffc-7ffd rw-p 00000000 00:00 0 [stack]\n";
        assert_eq!(kernels_in(maps).as_deref(), Some("alderlake"));
        assert_eq!(kernels_in("7f00-7f01 r--p 00000000 fe:00 1 /usr/bin/allerac-engine\n"), None);
    }
}
