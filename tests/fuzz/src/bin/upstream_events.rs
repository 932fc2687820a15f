//! Server-sent events, as another server could send them.
#![no_main]

use allerac_router_core::sse::Parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = Parser::default().push(bytes).expect("it is short");
    // In two pieces it is the same.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut parser = Parser::default();
    let mut events = parser.push(first).expect("it is short");
    events.extend(parser.push(second).expect("it is short"));
    assert_eq!(events, whole);
});
