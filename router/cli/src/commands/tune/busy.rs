//! How much of the processors others use meanwhile.

use std::fs;
use std::time::Instant;

/// The kernel's counters of what processors did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
    processors: u32,
}

impl Ticks {
    fn now() -> Self {
        parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user. What the host of a
/// virtual machine took (steal) is busy too.
fn parse(stat: &str) -> Ticks {
    let numbers = |line: &str| line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let total: Vec<u64> = stat.lines().next().map(numbers).unwrap_or_default();
    let all: u64 = total.iter().sum();
    let idle: u64 = total.iter().skip(3).take(2).sum();
    let processors = stat.lines().skip(1).filter(|line| line.starts_with("cpu")).count();
    Ticks { busy: all - idle, all, processors: u32::try_from(processors).unwrap_or(0) }
}

/// Watches the processors while something is measured.
pub(crate) struct Watch {
    begun: Instant,
    before: Ticks,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now(), before: Ticks::now() }
    }

    /// What others used since the start, in percent of all processors, when we used so many seconds of them.
    pub(crate) fn others_percent(&self, ours_seconds: f64) -> u32 {
        others_percent(self.before, Ticks::now(), self.begun.elapsed().as_secs_f64(), ours_seconds)
    }
}

fn others_percent(before: Ticks, after: Ticks, seconds: f64, ours_seconds: f64) -> u32 {
    let share = after.busy.saturating_sub(before.busy) as f64 / after.all.saturating_sub(before.all).max(1) as f64;
    let ours = ours_seconds / (seconds * f64::from(after.processors.max(1)));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 100")]
    let percent = ((share - ours) * 100.0).round().clamp(0.0, 100.0) as u32;
    percent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_of_others() {
        let before = parse(
            "cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 50 0 25 400 25 0 0 0 7 0\ncpu1 50 0 25 400 25 0 0 0 0 0\nintr 5\n",
        );
        assert_eq!(before, Ticks { busy: 150, all: 1000, processors: 2 });
        // Ten seconds of two processors at 100 ticks a second: 15 s busy, of which 10 are ours.
        let after = parse("cpu  1000 100 250 1250 100 100 100 100\ncpu0 0\ncpu1 0\n");
        assert_eq!((after.busy - before.busy, after.all - before.all), (1500, 2000));
        assert_eq!(others_percent(before, after, 10.0, 10.0), 25);
        assert_eq!(others_percent(before, after, 10.0, 15.2), 0);
        assert_eq!(parse(""), Ticks::default());
    }
}
