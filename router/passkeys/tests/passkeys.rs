//! Passkeys of an authenticator in software, and what is done to them on the way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allerac_passkeys::{Assertion, Refused, RelyingParty, assert, challenge_of, register};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use ciborium::{Value, cbor};
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

const ORIGIN: &str = "https://allerac.local";
const CHALLENGE: &[u8] = b"0123456789abcdef";
/// User present and verified, with a new credential.
const MADE: u8 = 0x45;
/// User present and verified.
const USED: u8 = 0x05;

enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Key {
    fn all() -> [Self; 3] {
        [
            Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
            Self::EdDsa(Ed25519KeyPair::generate().unwrap()),
            Self::Rs256(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap()),
        ]
    }

    fn cose(&self) -> Value {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        match self {
            Self::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (bytes(&point[1..33]), bytes(&point[33..]));
                cbor!({1 => 2, 3 => -7, -1 => 1, -2 => x, -3 => y}).unwrap()
            }
            Self::EdDsa(pair) => cbor!({1 => 1, 3 => -8, -1 => 6, -2 => bytes(pair.public_key().as_ref())}).unwrap(),
            Self::Rs256(pair) => {
                let (modulus, exponent) = (pair.public_key().modulus(), pair.public_key().exponent());
                let modulus = bytes(modulus.big_endian_without_leading_zero());
                let exponent = bytes(exponent.big_endian_without_leading_zero());
                cbor!({1 => 3, 3 => -257, -1 => modulus, -2 => exponent}).unwrap()
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn client_data(kind: &str, challenge: &[u8], origin: &str) -> Vec<u8> {
    let challenge = BASE64URL_NOPAD.encode(challenge);
    format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}","crossOrigin":false,"other":[1]}}"#)
        .into_bytes()
}

fn authenticator_data(host: &str, flags: u8, counter: u32, key: Option<&Value>) -> Vec<u8> {
    let mut data = Sha256::digest(host).to_vec();
    data.push(flags);
    data.extend(counter.to_be_bytes());
    if let Some(key) = key {
        data.extend([7; 16]);
        data.extend([0, 4]);
        data.extend(b"cred");
        data.extend(encoded(key));
    }
    data
}

fn attestation(data: Vec<u8>) -> Vec<u8> {
    encoded(&cbor!({"fmt" => "none", "attStmt" => {}, "authData" => Value::Bytes(data)}).unwrap())
}

fn party() -> RelyingParty {
    RelyingParty::of(ORIGIN).unwrap()
}

fn made(key: &Key) -> Vec<u8> {
    let attested = attestation(authenticator_data("allerac.local", MADE, 3, Some(&key.cose())));
    let client = client_data("webauthn.create", CHALLENGE, ORIGIN);
    register(&party(), CHALLENGE, &client, &attested).unwrap().public_key
}

#[test]
fn a_passkey_of_each_kind_is_made_and_opens() {
    for key in Key::all() {
        let attested = attestation(authenticator_data("allerac.local", MADE | 0x18, 3, Some(&key.cose())));
        let client = client_data("webauthn.create", CHALLENGE, ORIGIN);
        assert_eq!(challenge_of(&client).unwrap(), CHALLENGE);
        let passkey = register(&party(), CHALLENGE, &client, &attested).unwrap();
        assert_eq!((passkey.credential.as_slice(), passkey.counter, passkey.is_synced), (&b"cred"[..], 3, true));
        assert_eq!(passkey.public_key, encoded(&key.cose()));

        let data = authenticator_data("allerac.local", USED, 4, None);
        let client = client_data("webauthn.get", b"another", ORIGIN);
        let signature = key.sign(&[data.as_slice(), &Sha256::digest(&client)].concat());
        let assertion = Assertion { client_data: &client, authenticator_data: &data, signature: &signature };
        let asserted = assert(&party(), b"another", &passkey.public_key, &assertion).unwrap();
        assert_eq!((asserted.counter, asserted.is_synced), (4, false));

        // Each bit counts.
        let mut forged = signature.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let forged = Assertion { signature: &forged, ..assertion };
        assert_eq!(assert(&party(), b"another", &passkey.public_key, &forged), Err(Refused::Signature));
        let counted = authenticator_data("allerac.local", USED, 5, None);
        let counted = Assertion { authenticator_data: &counted, ..assertion };
        assert_eq!(assert(&party(), b"another", &passkey.public_key, &counted), Err(Refused::Signature));
        for other in Key::all() {
            let foreign = assert(&party(), b"another", &made(&other), &assertion);
            assert_eq!(foreign, Err(Refused::Signature));
        }
    }
}

#[test]
fn what_was_made_elsewhere_or_for_something_else_is_refused() {
    let key = Key::EdDsa(Ed25519KeyPair::generate().unwrap());
    let public_key = made(&key);
    let sign_in = |kind, challenge, origin, (host, flags): (&str, u8)| {
        let (client, data) = (client_data(kind, challenge, origin), authenticator_data(host, flags, 1, None));
        let signature = key.sign(&[data.as_slice(), &Sha256::digest(&client)].concat());
        let assertion = Assertion { client_data: &client, authenticator_data: &data, signature: &signature };
        assert(&party(), CHALLENGE, &public_key, &assertion).map(|_| ())
    };
    let here = ("allerac.local", USED);
    assert_eq!(sign_in("webauthn.get", CHALLENGE, ORIGIN, here), Ok(()));
    assert_eq!(sign_in("webauthn.create", CHALLENGE, ORIGIN, here), Err(Refused::Challenge));
    assert_eq!(sign_in("webauthn.get", b"another", ORIGIN, here), Err(Refused::Challenge));
    assert_eq!(sign_in("webauthn.get", CHALLENGE, "https://evil.example", here), Err(Refused::Origin));
    assert_eq!(sign_in("webauthn.get", CHALLENGE, "https://allerac.local:8443", here), Err(Refused::Origin));
    assert_eq!(sign_in("webauthn.get", CHALLENGE, ORIGIN, ("evil.example", USED)), Err(Refused::Origin));
    // Nobody there, and nobody who showed who they are.
    assert_eq!(sign_in("webauthn.get", CHALLENGE, ORIGIN, ("allerac.local", 0x04)), Err(Refused::Unverified));
    assert_eq!(sign_in("webauthn.get", CHALLENGE, ORIGIN, ("allerac.local", 0x01)), Err(Refused::Unverified));
    // Backed up, and such that it cannot be.
    let insane = sign_in("webauthn.get", CHALLENGE, ORIGIN, ("allerac.local", USED | 0x10));
    assert_eq!(insane, Err(Refused::Malformed("authenticatorData")));

    let framed = String::from_utf8(client_data("webauthn.get", CHALLENGE, ORIGIN)).unwrap();
    let framed = framed.replace("\"crossOrigin\":false", "\"crossOrigin\":true").into_bytes();
    let data = authenticator_data("allerac.local", USED, 1, None);
    let signature = key.sign(&[data.as_slice(), &Sha256::digest(&framed)].concat());
    let assertion = Assertion { client_data: &framed, authenticator_data: &data, signature: &signature };
    assert_eq!(assert(&party(), CHALLENGE, &public_key, &assertion), Err(Refused::Origin));
}

#[test]
fn a_key_that_cannot_be_is_not_kept() {
    let client = client_data("webauthn.create", CHALLENGE, ORIGIN);
    let register = |flags, key: Option<&Value>| {
        let attested = attestation(authenticator_data("allerac.local", flags, 0, key));
        register(&party(), CHALLENGE, &client, &attested).map(|_| ())
    };
    let bytes = |length: usize| Value::Bytes(vec![9; length]);
    let off_the_curve = cbor!({1 => 2, 3 => -7, -1 => 1, -2 => bytes(32), -3 => bytes(32)}).unwrap();
    let short = cbor!({1 => 1, 3 => -8, -1 => 6, -2 => bytes(31)}).unwrap();
    let small = cbor!({1 => 3, 3 => -257, -1 => bytes(128), -2 => bytes(3)}).unwrap();
    for key in [off_the_curve, short, small, Value::Null, cbor!({1 => 2}).unwrap()] {
        assert_eq!(register(MADE, Some(&key)), Err(Refused::Malformed("the public key")), "{key:?}");
    }
    // ES384, and ES256 over another curve.
    for key in [cbor!({1 => 2, 3 => -35, -1 => 2}).unwrap(), cbor!({1 => 2, 3 => -7, -1 => 2}).unwrap()] {
        assert_eq!(register(MADE, Some(&key)), Err(Refused::Algorithm));
    }
    let good = Key::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()).cose();
    assert_eq!(register(MADE, Some(&good)), Ok(()));
    assert_eq!(register(USED, None), Err(Refused::Malformed("attestationObject")));
    // Something after the end, and extensions that are said to be there.
    assert_eq!(register(USED, Some(&good)), Err(Refused::Malformed("authenticatorData")));
    assert_eq!(register(MADE | 0x80, Some(&good)), Err(Refused::Malformed("authenticatorData")));
}

proptest::proptest! {
    /// Whatever comes, nothing panics; `tests/fuzz` looks further.
    #[test]
    fn anything_may_come(bytes: Vec<u8>, cut in 0_usize..200, flip in 0_usize..200) {
        let client = client_data("webauthn.create", CHALLENGE, ORIGIN);
        let key = Key::EdDsa(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap());
        let mut attested = attestation(authenticator_data("allerac.local", MADE, 3, Some(&key.cose())));
        if let Some(byte) = attested.get_mut(flip) {
            *byte ^= 0x41;
        }
        let _ = register(&party(), CHALLENGE, &client, &attested);
        let _ = register(&party(), CHALLENGE, &client, &attested[..cut.min(attested.len())]);
        let _ = register(&party(), CHALLENGE, &client, &bytes);
        let _ = register(&party(), CHALLENGE, &bytes, &attested);
    }
}
