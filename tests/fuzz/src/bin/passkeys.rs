//! What browsers send of passkeys, from anybody who reaches the box.
#![no_main]

use allerac_passkeys::{Assertion, RelyingParty, assert, challenge_of, register};
use libfuzzer_sys::fuzz_target;

const CLIENT: &[u8] = br#"{"type":"webauthn.create","challenge":"YQ","origin":"https://allerac.local"}"#;

fuzz_target!(|bytes: &[u8]| {
    let party = RelyingParty::of("https://allerac.local").expect("it is a name over HTTPS");
    let _ = challenge_of(bytes);
    // As the attestation, as what was signed, and as the public key that was kept of it.
    let _ = register(&party, b"a", CLIENT, bytes);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let client = String::from_utf8_lossy(CLIENT).replace("create", "get").into_bytes();
    let assertion = Assertion { client_data: &client, authenticator_data: first, signature: second };
    let _ = assert(&party, b"a", second, &assertion);
    let _ = RelyingParty::of(&String::from_utf8_lossy(bytes));
});
