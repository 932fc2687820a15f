//! What a token says, and whether it says it to us, now (OpenID Connect Core, section 3.1.3.7).

use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use crate::SsoError;

/// How wrong the clocks of box and provider may be, in seconds.
const SKEW_S: i64 = 60;
/// How old a token may be when it comes, in seconds: it is fetched right after somebody signed in.
const AGE_S_MAX: i64 = 600;
/// The longest subject, in characters, as the standard has it.
const SUBJECT_CHARS_MAX: usize = 255;
/// Groups of somebody that are looked at.
const GROUPS_MAX: usize = 1000;

/// Somebody, as the provider knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The provider, by its address.
    pub issuer: String,
    /// Whom it means: a word that never means anybody else there.
    pub subject: String,
    /// Their address, where the provider says that it is verified.
    pub email: Option<String>,
    /// The name that they sign in with there.
    pub user_name: Option<String>,
    /// Their name in full.
    pub name: Option<String>,
    /// Their groups there.
    pub groups: Vec<String>,
}

/// What a token is to say.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) now_s: i64,
}

/// Checks what a signed token says; whom it means.
pub(crate) fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<String, SsoError> {
    let wrong = SsoError::Token;
    if text(claims, "iss") != Some(expected.issuer) {
        return Err(wrong("it is of another provider"));
    }
    let audience = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client_id) {
        return Err(wrong("it is for somebody else than this box"));
    }
    let party = text(claims, "azp");
    if (audience.len() > 1 && party.is_none()) || party.is_some_and(|party| party != expected.client_id) {
        return Err(wrong("it was given to somebody else than this box"));
    }
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for ages to come")]
    let (now, skew, age) = (expected.now_s as f64, SKEW_S as f64, AGE_S_MAX as f64);
    if time("exp").is_none_or(|end| end <= now - skew) {
        return Err(wrong("it has expired; compare the clocks of the box and the provider"));
    }
    if time("iat").is_none_or(|at| at > now + skew || at < now - age - skew)
        || time("nbf").is_some_and(|begin| begin > now + skew)
    {
        return Err(wrong("it is not of now; compare the clocks of the box and the provider"));
    }
    let nonce = text(claims, "nonce").unwrap_or_default();
    if expected.nonce.is_empty() || !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(wrong("it answers somebody else's question"));
    }
    let subject = text(claims, "sub").filter(|subject| (1..=SUBJECT_CHARS_MAX).contains(&subject.chars().count()));
    subject.map(str::to_owned).ok_or(wrong("it names nobody"))
}

/// A provider that verifies addresses of any domain: also of people who have left whoever rules it.
const GOOGLE: &str = "https://accounts.google.com";

impl Identity {
    /// Whether the provider speaks for the domain of an address that it verified. Google does for its own, and for those
    /// that it hosts (<https://developers.google.com/identity/gsi/web/guides/verify-google-id-token>).
    fn is_vouched(&self, email: &str, claims: &Map<String, Value>) -> bool {
        let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
        let is = |other: &str| domain.eq_ignore_ascii_case(other);
        self.issuer != GOOGLE || is("gmail.com") || text(claims, "hd").is_some_and(is)
    }

    /// Takes what it lacks from claims.
    pub(crate) fn fill(&mut self, claims: &Map<String, Value>, groups_claim: &str) {
        let own = |name| text(claims, name).filter(|text| !text.trim().is_empty()).map(|text| text.trim().to_owned());
        let is_verified = matches!(claims.get("email_verified"), Some(Value::Bool(true)))
            || text(claims, "email_verified") == Some("true");
        let email = own("email").filter(|email| is_verified && self.is_vouched(email, claims));
        self.email = self.email.take().or(email);
        self.user_name = self.user_name.take().or_else(|| own("preferred_username"));
        self.name = self.name.take().or_else(|| own("name"));
        if self.groups.is_empty() {
            self.groups = match claims.get(groups_claim) {
                Some(Value::String(one)) => vec![one.clone()],
                Some(Value::Array(several)) => {
                    several.iter().take(GROUPS_MAX).filter_map(Value::as_str).map(str::to_owned).collect()
                }
                _ => Vec::new(),
            };
        }
    }
}

pub(crate) fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_795_172_400;

    fn checked(change: &Value) -> Result<String, SsoError> {
        let mut claims = json!({
            "iss": "https://id.example", "sub": "42", "aud": "box", "nonce": "n", "iat": NOW - 5, "exp": NOW + 300,
        });
        let claims = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            claims.insert(name.clone(), value.clone());
        }
        let expected = Expected { issuer: "https://id.example", client_id: "box", nonce: "n", now_s: NOW };
        check(claims, &expected)
    }

    #[test]
    fn a_token_is_for_us_and_of_now() {
        for right in [
            json!({}),
            json!({"aud": ["box"]}),
            json!({"aud": ["box", "other"], "azp": "box"}),
            json!({"exp": NOW - 59, "iat": NOW - 300}),
            json!({"iat": NOW + 60, "nbf": NOW + 60}),
            json!({"exp": 1_795_172_700.5}),
        ] {
            assert_eq!(checked(&right), Ok("42".to_owned()), "{right}");
        }
        for (wrong, part) in [
            (json!({"iss": "https://id.example/"}), "another provider"),
            (json!({"iss": null}), "another provider"),
            (json!({"aud": "other"}), "somebody else"),
            (json!({"aud": []}), "somebody else"),
            (json!({"aud": {"box": 1}}), "somebody else"),
            (json!({"aud": ["box", "other"]}), "given to"),
            (json!({"azp": "other"}), "given to"),
            (json!({"exp": NOW - 60}), "expired"),
            (json!({"exp": null}), "expired"),
            (json!({"exp": "never"}), "expired"),
            (json!({"iat": NOW + 61}), "not of now"),
            (json!({"iat": NOW - 661}), "not of now"),
            (json!({"iat": null}), "not of now"),
            (json!({"nbf": NOW + 61}), "not of now"),
            (json!({"nonce": "m"}), "question"),
            (json!({"nonce": null}), "question"),
            (json!({"sub": ""}), "nobody"),
            (json!({"sub": 42}), "nobody"),
            (json!({"sub": "x".repeat(256)}), "nobody"),
        ] {
            let refused = checked(&wrong).unwrap_err().to_string();
            assert!(refused.contains(part), "{wrong}: {refused}");
        }
    }

    #[test]
    fn an_address_counts_where_it_is_verified() {
        let filled = |claims: &Value| {
            let mut identity = Identity::default();
            identity.fill(claims.as_object().unwrap(), "groups");
            identity
        };
        assert_eq!(filled(&json!({"email": "a@example.com"})).email, None);
        assert_eq!(filled(&json!({"email": "a@example.com", "email_verified": false})).email, None);
        let verified =
            filled(&json!({"email": " a@example.com", "email_verified": "true", "groups": "one", "name": ""}));
        assert_eq!((verified.email.as_deref(), verified.groups), (Some("a@example.com"), vec!["one".to_owned()]));
        assert_eq!(verified.name, None);
    }

    #[test]
    fn google_speaks_for_the_domains_that_it_hosts() {
        let came = |claims: &Value| {
            let mut identity = Identity { issuer: GOOGLE.into(), ..Identity::default() };
            identity.fill(claims.as_object().unwrap(), "groups");
            identity.email
        };
        let verified = |email: &str, hd: Option<&str>| came(&json!({"email": email, "email_verified": true, "hd": hd}));
        assert_eq!(verified("a@gmail.com", None).as_deref(), Some("a@gmail.com"));
        assert_eq!(verified("a@example.com", Some("Example.com")).as_deref(), Some("a@example.com"));
        assert_eq!(verified("a@example.com", None), None);
        assert_eq!(verified("a@example.com", Some("other.com")), None);
    }
}
