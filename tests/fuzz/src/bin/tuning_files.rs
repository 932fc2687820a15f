//! Files of measurements, as somebody could have changed or damaged them.
#![no_main]

use allerac_hardware::tuning::{Tuning, choose};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tuning) = Tuning::parse(text) {
        assert!(choose(&tuning.trials, 100).chosen < tuning.trials.len().max(1));
        // What was understood is written and understood again; as text, since a NaN equals nothing.
        let written = tuning.render();
        assert_eq!(Tuning::parse(&written).expect("we wrote it").render(), written);
    }
});
