//! On which processors the engine computes.

use anyhow::Context;

use crate::args::Args;

/// Binds the process. Called before any thread is started, and before OpenMP is loaded anew with its bounded spinning:
/// threads inherit it, and OpenMP counts the processors it has when it is loaded.
///
/// A processor that went away (one taken offline, a container made smaller) must not keep the model from answering, so
/// then the process runs wherever it may. A measurement would not be what it says, so that fails.
pub(crate) fn bind(args: &Args) -> anyhow::Result<()> {
    let Some(cpus) = &args.cpus else { return Ok(()) };
    let bound = cpus.bind().with_context(|| format!("cannot run on the processors {cpus}"));
    if args.measure.is_some() {
        return bound;
    }
    if let Err(error) = bound {
        tracing::warn!("{error:#}; any will do");
    }
    Ok(())
}
