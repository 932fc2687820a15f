//! The two ceremonies: making a passkey (section 7.1) and being let in by one (section 7.2).

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::authenticator::{AuthenticatorData, item, under};
use crate::key::PublicKey;
use crate::{Refused, RelyingParty, client};

/// A passkey just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What the authenticator calls it.
    pub credential: Vec<u8>,
    /// Its public key, as COSE has it (RFC 9052).
    pub public_key: Vec<u8>,
    /// How often it signed; 0 with those that do not count.
    pub counter: u32,
    /// Whether it is kept elsewhere too, with the maker of the device.
    pub is_synced: bool,
}

/// What a passkey signed.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// `clientDataJSON`.
    pub client_data: &'a [u8],
    /// `authenticatorData`.
    pub authenticator_data: &'a [u8],
    /// `signature`.
    pub signature: &'a [u8],
}

/// A passkey that signed what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asserted {
    /// How often it signed; 0 with those that do not count. Whether it went up is for who keeps it to say.
    pub counter: u32,
    /// Whether it is kept elsewhere too.
    pub is_synced: bool,
}

/// Checks a new passkey. The challenge is one that was given out for this, and is not given out again.
///
/// # Errors
/// [`Refused`].
pub fn register(
    party: &RelyingParty,
    challenge: &[u8],
    client_data: &[u8],
    mut attestation: &[u8],
) -> Result<Registered, Refused> {
    const MALFORMED: Refused = Refused::Malformed("attestationObject");
    client::check(client_data, "webauthn.create", challenge, party)?;
    let object = item(&mut attestation).map_err(|_| MALFORMED)?;
    let object = object.as_map().filter(|_| attestation.is_empty()).ok_or(MALFORMED)?;
    // `fmt` and `attStmt` tell what the maker vouches for, which nobody here asked.
    let data = under(object, "authData").and_then(|data| data.into_bytes().ok()).ok_or(MALFORMED)?;
    let data = checked(&data, party)?;
    let credential = data.credential.as_ref().ok_or(MALFORMED)?;
    PublicKey::parse(credential.key)?;
    Ok(Registered {
        credential: credential.id.to_vec(),
        public_key: credential.key.to_vec(),
        counter: data.counter,
        is_synced: data.is_synced(),
    })
}

/// Checks what a passkey signed, by its public key as [`register`] returned it.
///
/// # Errors
/// [`Refused`].
pub fn assert(
    party: &RelyingParty,
    challenge: &[u8],
    public_key: &[u8],
    assertion: &Assertion<'_>,
) -> Result<Asserted, Refused> {
    client::check(assertion.client_data, "webauthn.get", challenge, party)?;
    let data = checked(assertion.authenticator_data, party)?;
    let key = PublicKey::parse(public_key)?;
    let signed = [assertion.authenticator_data, &Sha256::digest(assertion.client_data)].concat();
    key.verify(&signed, assertion.signature)?;
    Ok(Asserted { counter: data.counter, is_synced: data.is_synced() })
}

/// What an authenticator says, where it is for this page and made sure of its person.
fn checked<'a>(bytes: &'a [u8], party: &RelyingParty) -> Result<AuthenticatorData<'a>, Refused> {
    let data = AuthenticatorData::parse(bytes)?;
    if !bool::from(data.party_hash.ct_eq(&party.hash())) {
        return Err(Refused::Origin);
    }
    if data.is_verified() { Ok(data) } else { Err(Refused::Unverified) }
}
