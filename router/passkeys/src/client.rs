//! What the browser says that it asked the authenticator for (section 5.8.1), as the bytes that were signed.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use crate::{Refused, RelyingParty};

/// Browsers put other things in it too, and may put in more.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

/// The challenge that something answers, so that it can be looked up before anything else is believed.
///
/// # Errors
/// [`Refused::Malformed`].
pub fn challenge_of(client_data: &[u8]) -> Result<Vec<u8>, Refused> {
    let data = parse(client_data)?;
    BASE64URL_NOPAD.decode(data.challenge.as_bytes()).map_err(|_| Refused::Malformed("clientDataJSON"))
}

fn parse(bytes: &[u8]) -> Result<ClientData, Refused> {
    serde_json::from_slice(bytes).map_err(|_| Refused::Malformed("clientDataJSON"))
}

/// Whether it was asked for here, now, and for this.
pub(crate) fn check(bytes: &[u8], kind: &str, challenge: &[u8], party: &RelyingParty) -> Result<(), Refused> {
    let data = parse(bytes)?;
    if data.kind != kind {
        return Err(Refused::Challenge);
    }
    if data.origin != party.origin() || data.cross_origin {
        return Err(Refused::Origin);
    }
    let expected = BASE64URL_NOPAD.encode(challenge);
    let is_asked = bool::from(expected.as_bytes().ct_eq(data.challenge.as_bytes()));
    if is_asked && !challenge.is_empty() { Ok(()) } else { Err(Refused::Challenge) }
}
