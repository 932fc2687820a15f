//! What the authenticator says of itself and, once, of its new key (sections 6.1 and 6.5.1).

use ciborium::Value;

use crate::Refused;

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

/// The longest id of a credential, in bytes (section 4, Credential ID).
const CREDENTIAL_BYTES_MAX: usize = 1023;
/// Nothing in it lies deeper.
const NESTED_MAX: usize = 16;

const MALFORMED: Refused = Refused::Malformed("authenticatorData");

/// All of it.
#[derive(Debug)]
pub(crate) struct AuthenticatorData<'a> {
    pub(crate) party_hash: &'a [u8],
    flags: u8,
    pub(crate) counter: u32,
    pub(crate) credential: Option<Credential<'a>>,
}

/// A new key.
#[derive(Debug)]
pub(crate) struct Credential<'a> {
    pub(crate) id: &'a [u8],
    /// As COSE has it (RFC 9052, section 7).
    pub(crate) key: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut rest = bytes;
        let party_hash = take(&mut rest, 32)?;
        let flags = take(&mut rest, 1)?[0];
        let counter = take(&mut rest, 4)?;
        let counter = u32::from_be_bytes(counter.try_into().map_err(|_| MALFORMED)?);
        let credential = if flags & HAS_CREDENTIAL == 0 { None } else { Some(credential(&mut rest)?) };
        if flags & HAS_EXTENSIONS != 0 {
            item(&mut rest)?;
        }
        let is_backup_sane = flags & BACKED_UP == 0 || flags & BACKUP_ELIGIBLE != 0;
        if rest.is_empty() && is_backup_sane {
            Ok(Self { party_hash, flags, counter, credential })
        } else {
            Err(MALFORMED)
        }
    }

    /// Whether somebody was there, and showed who they are.
    pub(crate) fn is_verified(&self) -> bool {
        self.flags & USER_PRESENT != 0 && self.flags & USER_VERIFIED != 0
    }

    /// Whether the key is kept elsewhere too.
    pub(crate) fn is_synced(&self) -> bool {
        self.flags & BACKED_UP != 0
    }
}

fn credential<'a>(rest: &mut &'a [u8]) -> Result<Credential<'a>, Refused> {
    let _model_of_the_device = take(rest, 16)?;
    let length = take(rest, 2)?;
    let length = usize::from(u16::from_be_bytes(length.try_into().map_err(|_| MALFORMED)?));
    if !(1..=CREDENTIAL_BYTES_MAX).contains(&length) {
        return Err(MALFORMED);
    }
    let id = take(rest, length)?;
    let begin = *rest;
    item(rest)?;
    Ok(Credential { id, key: &begin[..begin.len() - rest.len()] })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Refused> {
    let (taken, after) = rest.split_at_checked(length).ok_or(MALFORMED)?;
    *rest = after;
    Ok(taken)
}

/// The next item of CBOR (RFC 8949).
pub(crate) fn item(rest: &mut &[u8]) -> Result<Value, Refused> {
    ciborium::de::from_reader_with_recursion_limit(rest, NESTED_MAX).map_err(|_| MALFORMED)
}

/// The value of a text in a map.
pub(crate) fn under(map: &[(Value, Value)], name: &str) -> Option<Value> {
    map.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value.clone())
}
