//! On which processors the engine computes.

use crate::args::Args;

/// Binds the process. Called before any thread is started, and before OpenMP is loaded anew with its bounded spinning:
/// threads inherit it, and OpenMP counts the processors it has when it is loaded.
///
/// A processor that went away (one taken offline, a container made smaller) must not keep the model from answering, so
/// then the process runs wherever it may.
pub(crate) fn bind(args: &Args) {
    let Some(cpus) = &args.cpus else { return };
    if let Err(error) = cpus.bind() {
        tracing::warn!("cannot run on the processors {cpus}, so takes any: {error}");
    }
}
