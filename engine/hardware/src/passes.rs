//! Timing what several threads do side by side.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// How many seconds a pass of `work` takes, the median of several. Each thread prepares what it works on by `prepare` first;
/// a pass ends when the last of them has done its part, as a step of an engine does.
///
/// # Panics
/// When a thread cannot be started.
pub(crate) fn median_pass<T>(
    threads: usize,
    passes: usize,
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&T) + Sync,
) -> f64 {
    let barrier = Barrier::new(threads + 1);
    let take_part = || {
        let prepared = prepare();
        for _ in 0..passes {
            barrier.wait();
            work(&prepared);
            barrier.wait();
        }
    };
    let mut seconds: Vec<f64> = thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(take_part)));
        let pass = |_| {
            barrier.wait();
            let begun = Instant::now();
            barrier.wait();
            begun.elapsed().as_secs_f64()
        };
        (0..passes).map(pass).collect()
    });
    seconds.sort_by(f64::total_cmp);
    seconds[passes / 2]
}
