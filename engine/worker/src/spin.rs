//! How long OpenMP's threads spin while they wait for each other.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The variable that libgomp reads when it is loaded, and no more afterwards.
const VARIABLE: &str = "GOMP_SPINCOUNT";

/// Turns of the waiting loop before a thread sleeps. A token takes hundreds of barriers; with libgomp's own
/// number (300,000) a thread whose peer was put aside by the system burns its core until the engine computes
/// on one thread. With too few, threads that wake from sleep put each other to sleep again. Measured with a
/// 135M model and two threads on two cores, tokens a second and, after the slash, the milliseconds of a prompt
/// of 20 tokens: 100: 87 / 83; 300: 131 / 79; 1000: 147 / 62; 3000: 145 / 62.
const TURNS: &str = "1000";

/// Starts this program again with the variable set, in the same process. Does nothing where it is set
/// already, by the first start or by someone who knows better.
pub(crate) fn bound() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).env(VARIABLE, TURNS).exec();
    tracing::warn!("cannot start anew to bound the spinning of threads: {error}");
}
