//! How long OpenMP's threads spin while they wait for each other.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The variable that libgomp reads when it is loaded, and no more afterwards.
const VARIABLE: &str = "GOMP_SPINCOUNT";

/// Turns of the waiting loop before a thread sleeps. A token takes hundreds of barriers; with libgomp's own
/// number (300,000) a thread whose peer was put aside by the system burns its core instead of yielding it.
/// Measured with a 135M model and two threads on two cores, tokens a second alone and, after the slash,
/// beside a busy process: 300,000: 167 / 0.6 to 84; 1000: 166 / 33; 300: 170 / 64; 100: 120 / 86; 0: 56 / 94.
const TURNS: &str = "300";

/// Starts this program again with the variable set, in the same process. Does nothing where it is set
/// already, by the first start or by someone who knows better.
pub(crate) fn bound() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).env(VARIABLE, TURNS).exec();
    tracing::warn!("cannot start anew to bound the spinning of threads: {error}");
}
