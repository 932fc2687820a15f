//! Public keys as COSE has them (RFC 9053, RFC 8230), and signatures of them.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use ciborium::Value;

use crate::Refused;
use crate::authenticator::item;

/// The algorithms that are known here, the preferred one first: ES256, `EdDSA` and RS256 (IANA's COSE registry).
pub const ALGORITHMS: [i32; 3] = [ES256, EDDSA, RS256];

const ES256: i32 = -7;
const EDDSA: i32 = -8;
const RS256: i32 = -257;

/// Labels of a key's parts.
const KIND: i32 = 1;
const ALGORITHM: i32 = 3;
const CURVE: i32 = -1;
const X: i32 = -2;
const Y: i32 = -3;
/// Of RSA, modulus and exponent have the numbers that curve and X have elsewhere.
const MODULUS: i32 = -1;
const EXPONENT: i32 = -2;

/// Kinds of keys, and curves.
const OKP: i32 = 1;
const EC2: i32 = 2;
const RSA: i32 = 3;
const P256: i32 = 1;
const CURVE_25519: i32 = 6;

/// Bytes of a coordinate of P-256 and of a key of Ed25519.
const POINT_BYTES: usize = 32;
/// Bytes of an RSA modulus, 2048 to 8192 bits, and the most of its exponent.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
const EXPONENT_BYTES_MAX: usize = 8;

const MALFORMED: Refused = Refused::Malformed("the public key");

/// A key that can be asked whether a signature is its own.
#[derive(Debug)]
pub(crate) enum PublicKey {
    Point(ParsedPublicKey),
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl PublicKey {
    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, Refused> {
        let parts = item(&mut bytes).map_err(|_| MALFORMED)?;
        let parts = Parts(parts.as_map().filter(|_| bytes.is_empty()).ok_or(MALFORMED)?);
        match (parts.number(KIND)?, parts.number(ALGORITHM)?) {
            (EC2, ES256) if parts.number(CURVE)? == P256 => {
                let mut point = vec![4];
                point.extend(parts.point(X)?);
                point.extend(parts.point(Y)?);
                Self::point(ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).ok())
            }
            (OKP, EDDSA) if parts.number(CURVE)? == CURVE_25519 => {
                Self::point(ParsedPublicKey::new(&ED25519, parts.point(X)?).ok())
            }
            (RSA, RS256) => {
                let (modulus, exponent) = (parts.bytes(MODULUS)?.to_vec(), parts.bytes(EXPONENT)?.to_vec());
                let fits = MODULUS_BYTES.contains(&modulus.len()) && exponent.len() <= EXPONENT_BYTES_MAX;
                if fits { Ok(Self::Rsa { modulus, exponent }) } else { Err(MALFORMED) }
            }
            _ => Err(Refused::Algorithm),
        }
    }

    fn point(key: Option<ParsedPublicKey>) -> Result<Self, Refused> {
        key.map(Self::Point).ok_or(MALFORMED)
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let verified = match self {
            Self::Point(key) => key.verify_sig(message, signature),
            Self::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
        };
        verified.map_err(|_| Refused::Signature)
    }
}

/// The parts of a key by their labels.
struct Parts<'a>(&'a [(Value, Value)]);

impl<'a> Parts<'a> {
    fn get(&self, label: i32) -> Result<&'a Value, Refused> {
        let is_it = |key: &Value| key.as_integer() == Some(label.into());
        self.0.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value).ok_or(MALFORMED)
    }

    fn number(&self, label: i32) -> Result<i32, Refused> {
        let number = self.get(label)?.as_integer().ok_or(MALFORMED)?;
        i32::try_from(i128::from(number)).map_err(|_| MALFORMED)
    }

    fn bytes(&self, label: i32) -> Result<&'a [u8], Refused> {
        self.get(label)?.as_bytes().map(Vec::as_slice).ok_or(MALFORMED)
    }

    fn point(&self, label: i32) -> Result<&'a [u8], Refused> {
        self.bytes(label).and_then(|bytes| if bytes.len() == POINT_BYTES { Ok(bytes) } else { Err(MALFORMED) })
    }
}
