//! What is being done, a line for each step, with how far it is.

use std::io::Write;

/// Steps of percents that are told: a terminal over a serial line is slow.
const TOLD_EVERY_PERCENT: u64 = 10;

pub(crate) struct Progress<W> {
    output: W,
    told_percent: u64,
}

impl<W: Write> Progress<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, told_percent: 0 }
    }

    /// The next step begins. That nobody sees it is no reason to stop.
    pub(crate) fn step(&mut self, what: &str) {
        self.told_percent = 0;
        let _ = writeln!(self.output, "  {what}");
        let _ = self.output.flush();
    }

    pub(crate) fn reached(&mut self, done: u64, all: u64) {
        let percent = (done * 100).checked_div(all).unwrap_or(100) / TOLD_EVERY_PERCENT * TOLD_EVERY_PERCENT;
        if percent > self.told_percent {
            self.told_percent = percent;
            let _ = writeln!(self.output, "    {percent} %");
            let _ = self.output.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_tens_of_percents_are_told() {
        let mut output = Vec::new();
        let mut progress = Progress::new(&mut output);
        progress.step("copying");
        for done in 0..=40 {
            progress.reached(done, 200);
        }
        progress.step("next");
        progress.reached(5, 5);
        assert_eq!(String::from_utf8(output).unwrap(), "  copying\n    10 %\n    20 %\n  next\n    100 %\n");
    }
}
