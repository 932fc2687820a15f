//! The provider: where it is, what it publishes, and the two steps of signing in with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::claims::{Expected, Identity, check, text};
use crate::keys::{Keys, Published, Unsigned};
use crate::settings::{Nearness, Settings, SettingsError, is_safe};
use crate::{SsoError, fetch};

/// How long what the provider publishes is taken to be so.
const PUBLISHED_FOR: Duration = Duration::from_secs(3600);
/// How often the keys are asked for again because a token names one that is not among them: anybody can send such.
const KEYS_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How long a provider that did not answer is not asked again.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(3);

/// What the browser's way to the provider and back is tied together by; each 256 bits that nobody else knows.
#[derive(Clone, Copy)]
pub struct Secrets {
    /// Comes back in the address, and is the browser's.
    pub state: [u8; 32],
    /// Comes back in the token.
    pub nonce: [u8; 32],
    /// Shows the provider that who fetches the token is who began (RFC 7636).
    pub verifier: [u8; 32],
}

/// What a provider says of itself (OpenID Connect Discovery 1.0, section 3).
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Address,
    token_endpoint: Address,
    jwks_uri: Address,
    userinfo_endpoint: Option<Address>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// An address to which tokens may go.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Address(Url);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).ok().filter(is_safe);
        url.map(Self).ok_or_else(|| format!("its address {} is not over HTTPS", word(&text)))
    }
}

impl Metadata {
    /// Refuses addresses that are nearer than the provider itself: one on the internet is not to have the box ask what only
    /// the box, or its network, can reach.
    fn check(&self, issuer: &Url) -> Result<(), SsoError> {
        let others = [&self.authorization_endpoint, &self.token_endpoint, &self.jwks_uri].into_iter();
        let mut all = others.chain(&self.userinfo_endpoint);
        match all.find(|Address(url)| Nearness::of(url) > Nearness::of(issuer)) {
            Some(Address(url)) => {
                let named = word(url.as_str());
                Err(SsoError::Provider(format!("its address {named} is on this machine or network, and it is not")))
            }
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
    access_token: Option<String>,
    error: Option<String>,
}

/// What was asked of a provider, and when.
#[derive(Default)]
struct Known {
    metadata: Option<(Arc<Metadata>, Instant)>,
    keys: Option<(Arc<Keys>, Instant)>,
    /// When the keys were asked for because one was not among them.
    again_at: Option<Instant>,
    failed: Option<(SsoError, Instant)>,
}

/// A provider of identities.
pub struct Provider {
    settings: Settings,
    client: Client,
    /// One asks at a time; the others wait for what it learns.
    known: Mutex<Known>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Provider({})", self.settings.issuer)
    }
}

impl Secrets {
    /// What stands in the address.
    #[must_use]
    pub fn state(&self) -> String {
        BASE64URL_NOPAD.encode(&self.state)
    }
}

impl Provider {
    /// A provider that is not asked yet.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let client = fetch::client(&settings)?;
        Ok(Self { settings, client, known: Mutex::default() })
    }

    /// Its address, as it names itself.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Where a browser is sent to sign in. It comes back to `back`.
    ///
    /// # Errors
    /// [`SsoError`].
    pub async fn begin(&self, back: &str, secrets: &Secrets) -> Result<Url, SsoError> {
        let Address(mut url) = self.metadata().await?.authorization_endpoint.clone();
        let scopes = std::iter::once("openid").chain(self.settings.scopes.iter().map(String::as_str));
        let challenge = Sha256::digest(BASE64URL_NOPAD.encode(&secrets.verifier));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", back)
            .append_pair("scope", &scopes.collect::<Vec<_>>().join(" "))
            .append_pair("state", &secrets.state())
            .append_pair("nonce", &BASE64URL_NOPAD.encode(&secrets.nonce))
            .append_pair("code_challenge", &BASE64URL_NOPAD.encode(&challenge))
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Who signed in, by the code that the browser came back with. `from` is the issuer that stood beside it (RFC 9207).
    ///
    /// # Errors
    /// [`SsoError`].
    pub async fn finish(
        &self,
        (code, from): (&str, Option<&str>),
        back: &str,
        secrets: &Secrets,
        now_s: i64,
    ) -> Result<Identity, SsoError> {
        let metadata = self.metadata().await?;
        let must_say = metadata.authorization_response_iss_parameter_supported;
        if from.map_or(must_say, |from| from != metadata.issuer) {
            return Err(SsoError::Token("the browser comes from another provider"));
        }
        let (token, access) = self.exchange(&metadata, code, back, secrets).await?;
        let claims = self.opened(&metadata, &token).await?;
        let nonce = BASE64URL_NOPAD.encode(&secrets.nonce);
        let expected = Expected { issuer: &metadata.issuer, client_id: &self.settings.client_id, nonce: &nonce, now_s };
        let subject = check(&claims, &expected)?;
        let mut identity = Identity { issuer: metadata.issuer.clone(), subject, ..Identity::default() };
        identity.fill(&claims, &self.settings.groups_claim);
        if let (true, Some(address), Some(access)) = (self.lacks(&identity), &metadata.userinfo_endpoint, access) {
            let more: Map<String, Value> = fetch::get(self.client.get(address.0.clone()).bearer_auth(access)).await?;
            if text(&more, "sub") != Some(identity.subject.as_str()) {
                return Err(SsoError::Token("the provider tells of somebody else"));
            }
            identity.fill(&more, &self.settings.groups_claim);
        }
        self.settings.admits(&identity)?;
        Ok(identity)
    }

    /// Whether the token left something open that the provider may tell when it is asked.
    fn lacks(&self, identity: &Identity) -> bool {
        let groups = !self.settings.groups.is_empty() && identity.groups.is_empty();
        groups || identity.email.is_none() || (identity.user_name.is_none() && identity.name.is_none())
    }

    /// The tokens for a code: who somebody is, and what opens more about them.
    async fn exchange(
        &self,
        metadata: &Metadata,
        code: &str,
        back: &str,
        secrets: &Secrets,
    ) -> Result<(String, Option<String>), SsoError> {
        let request = self.token_request(metadata, code, back, secrets)?;
        let (status, answer): (_, TokenAnswer) = fetch::ask(request).await?;
        match answer {
            TokenAnswer { error: Some(error), .. } => Err(SsoError::Refused(word(&error))),
            TokenAnswer { id_token: Some(token), access_token, .. } if status.is_success() => Ok((token, access_token)),
            _ if status.is_success() => Err(SsoError::Provider("it gave no token that says who signed in".to_owned())),
            _ => Err(SsoError::Unreachable(format!("it answers {status}"))),
        }
    }

    fn token_request(
        &self,
        metadata: &Metadata,
        code: &str,
        back: &str,
        secrets: &Secrets,
    ) -> Result<RequestBuilder, SsoError> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code").append_pair("code", code);
        form.append_pair("redirect_uri", back).append_pair("code_verifier", &BASE64URL_NOPAD.encode(&secrets.verifier));
        let request = self.client.post(metadata.token_endpoint.0.clone()).header("accept", "application/json");
        let request = self.authenticated(request, &mut form, metadata)?;
        Ok(request.header("content-type", "application/x-www-form-urlencoded").body(form.finish()))
    }

    /// Shows the provider that it is the box that asks (RFC 6749, section 2.3.1).
    fn authenticated(
        &self,
        request: RequestBuilder,
        form: &mut Serializer<'_, String>,
        metadata: &Metadata,
    ) -> Result<RequestBuilder, SsoError> {
        let id = &self.settings.client_id;
        let Some(secret) = &self.settings.secret else {
            form.append_pair("client_id", id);
            return Ok(request);
        };
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        let knows = |method: &str| methods.is_some_and(|methods| methods.iter().any(|known| known == method));
        if methods.is_none() || knows("client_secret_basic") {
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = BASE64.encode(format!("{}:{}", encoded(id), encoded(secret)).as_bytes());
            return Ok(request.header("authorization", format!("Basic {pair}")));
        }
        if knows("client_secret_post") {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
            return Ok(request);
        }
        Err(SsoError::Provider("it takes no client secret in a way that is known here".to_owned()))
    }

    /// What a token says, where it is signed by a key of the provider's. Providers change their keys at any time.
    async fn opened(&self, metadata: &Metadata, token: &str) -> Result<Map<String, Value>, SsoError> {
        match self.keys(metadata, false).await?.open(token) {
            Ok(claims) => return Ok(claims),
            Err(Unsigned::Wrong(why)) => return Err(why),
            Err(Unsigned::UnknownKey) => {}
        }
        match self.keys(metadata, true).await?.open(token) {
            Ok(claims) => Ok(claims),
            Err(Unsigned::Wrong(why)) => Err(why),
            Err(Unsigned::UnknownKey) => Err(SsoError::Token("it is signed by a key that is none of the provider's")),
        }
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, SsoError> {
        let mut known = self.known.lock().await;
        if let Some((metadata, _)) = known.metadata.as_ref().filter(|(_, at)| at.elapsed() < PUBLISHED_FOR) {
            return Ok(Arc::clone(metadata));
        }
        if let Some((why, _)) = known.failed.as_ref().filter(|(_, at)| at.elapsed() < REST_AFTER_FAILURE) {
            return Err(why.clone());
        }
        match self.discover().await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                known.metadata = Some((Arc::clone(&metadata), Instant::now()));
                // They may be somewhere else now.
                known.keys = None;
                Ok(metadata)
            }
            Err(why) => {
                known.failed = Some((why.clone(), Instant::now()));
                Err(why)
            }
        }
    }

    async fn discover(&self) -> Result<Metadata, SsoError> {
        let issuer = &self.settings.issuer;
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let told: Value = fetch::get(self.client.get(address)).await?;
        let metadata: Metadata = serde_json::from_value(told).map_err(|why| SsoError::Provider(why.to_string()))?;
        if metadata.issuer != *issuer {
            let named = word(&metadata.issuer);
            return Err(SsoError::Provider(format!("it calls itself {named}, and `issuer` here is {issuer}")));
        }
        let issuer = Url::parse(issuer).map_err(|why| SsoError::Provider(why.to_string()))?;
        metadata.check(&issuer)?;
        Ok(metadata)
    }

    async fn keys(&self, metadata: &Metadata, again: bool) -> Result<Arc<Keys>, SsoError> {
        let mut known = self.known.lock().await;
        let may_ask = known.again_at.is_none_or(|at| at.elapsed() >= KEYS_AGAIN_AFTER);
        if let Some((keys, _)) =
            known.keys.as_ref().filter(|(_, at)| at.elapsed() < PUBLISHED_FOR && !(again && may_ask))
        {
            return Ok(Arc::clone(keys));
        }
        if again {
            known.again_at = Some(Instant::now());
        }
        let published: Published = fetch::get(self.client.get(metadata.jwks_uri.0.clone())).await?;
        let keys = Arc::new(Keys::from(published));
        known.keys = Some((Arc::clone(&keys), Instant::now()));
        Ok(keys)
    }
}

/// A word of the provider's, cut to what fits a message.
fn word(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What becomes of a provider whose tokens are at an address.
    fn checked(issuer: &str, token_endpoint: &str) -> Result<(), String> {
        let told = json!({"issuer": issuer, "authorization_endpoint": issuer, "token_endpoint": token_endpoint,
            "jwks_uri": issuer, "userinfo_endpoint": issuer});
        let metadata: Metadata = serde_json::from_value(told).map_err(|error| error.to_string())?;
        metadata.check(&Url::parse(issuer).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_provider_names_nothing_that_is_nearer_than_itself() {
        let (far, near, here) = ("https://id.example", "https://192.168.1.5", "http://127.0.0.1:9000");
        for (issuer, addresses) in [
            (far, ["https://other.example/token", "https://93.184.216.34/token"]),
            (near, ["https://10.0.0.7/token", "https://id.example/token"]),
            (here, ["http://localhost:9000/token", "https://192.168.1.5/token"]),
        ] {
            for address in addresses {
                assert_eq!(checked(issuer, address), Ok(()), "{issuer} {address}");
            }
        }
        let inside = [
            "http://127.0.0.1:8080/token",
            "http://localhost/token",
            "https://localhost/token",
            "https://box.localhost/token",
            "https://127.1.2.3/token",
            "https://[::1]/token",
            "https://[::ffff:127.0.0.1]/token",
            "https://0.0.0.0/token",
        ];
        let network = [
            "https://10.0.0.1/token",
            "https://172.16.0.1/token",
            "https://192.168.0.1/token",
            "https://169.254.169.254/token",
            "https://100.64.0.1/token",
            "https://[fd00::1]/token",
            "https://[fe80::1]/token",
        ];
        for address in inside.into_iter().chain(network) {
            assert!(checked(far, address).unwrap_err().contains("machine or network"), "{address}");
        }
        for address in inside {
            assert!(checked(near, address).is_err(), "{address}");
        }
        assert!(checked(far, "http://other.example/token").unwrap_err().contains("not over HTTPS"));
    }
}
