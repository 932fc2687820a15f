//! Frames, as a compromised engine could send them to the router, and the other way round.
#![no_main]

use allerac_engine_link::frame;
use allerac_engine_link::protocol::{FromEngine, ToEngine};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = frame::read::<ToEngine>(&mut &*bytes);
    if let Ok(message) = frame::decode::<FromEngine>(bytes) {
        // What was understood is sent and understood again.
        let mut buffer = Vec::new();
        frame::encode(&message, &mut buffer).expect("it came in a frame");
        frame::read::<FromEngine>(&mut buffer.as_slice()).expect("we wrote it");
    }
});
