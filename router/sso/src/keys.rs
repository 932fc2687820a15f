//! The provider's keys (RFC 7517), and whether a token is signed by one of them.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::SsoError;

/// How tokens may be signed. Never by a secret that both sides know, and never not at all.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// Keys of a provider that are looked at.
const KEYS_MAX: usize = 100;

/// Keys of a kind that is not known are passed over.
#[derive(Deserialize)]
pub(crate) struct Published {
    keys: Vec<Value>,
}

/// The keys that sign.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<Jwk>);

/// A token that was not found to be signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsigned {
    /// By a key that the provider did not have when it was asked last.
    UnknownKey,
    /// For another reason.
    Wrong(SsoError),
}

impl From<Published> for Keys {
    fn from(published: Published) -> Self {
        let keys = published.keys.into_iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value(key).ok());
        Self(keys.filter(|key: &Jwk| key.common.public_key_use != Some(PublicKeyUse::Encryption)).collect())
    }
}

impl Keys {
    /// What a signed token says.
    pub(crate) fn open(&self, token: &str) -> Result<Map<String, Value>, Unsigned> {
        let wrong = |why| Unsigned::Wrong(SsoError::Token(why));
        let header = decode_header(token).map_err(|_| wrong("it is no signed token"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(wrong("it is signed in a way that is not accepted; RS256, ES256 and EdDSA are"));
        }
        let key = self.find(header.kid.as_deref(), header.alg).ok_or(Unsigned::UnknownKey)?;
        let key = DecodingKey::from_jwk(key).map_err(|_| wrong("its key cannot be used"))?;
        let mut validation = Validation::new(header.alg);
        // Its claims are checked by `claims`, which is told the time.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let opened = decode(token, &key, &validation).map_err(|_| wrong("its signature is wrong"))?;
        Ok(opened.claims)
    }

    /// The key of a name; where the token names none, the only one of its kind (OpenID Connect Core, 10.1).
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Jwk> {
        let mut fitting = self.0.iter().filter(|key| is_for(key, algorithm));
        match id {
            Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

fn is_for(key: &Jwk, algorithm: Algorithm) -> bool {
    let kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == jsonwebtoken::jwk::EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
        _ => return false,
    };
    let named = key.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    kind == algorithm && named
}
