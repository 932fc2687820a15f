//! A signed request, as [Standard Webhooks](https://www.standardwebhooks.com) has it: whoever gets one can tell that it is
//! ours, and that it is not an old one again.

use std::time::Duration;

use allerac_ledger::Alert;
use aws_lc_rs::hmac;
use data_encoding::BASE64;
use jiff::Timestamp;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde_json::json;

use crate::channel::NotSent;
use crate::text::subject;

/// How long the other side may take to answer, all in all.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// What secrets begin with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret: as Standard Webhooks asks.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How a webhook is set up.
#[derive(Clone)]
pub struct WebhookConfig {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// `whsec_` and 24 to 64 bytes in base64.
    pub secret: String,
    /// Kinds of alerts that it wants; all where empty.
    pub events: Vec<String>,
}

/// A webhook.
pub struct Webhook {
    name: String,
    url: Url,
    key: hmac::Key,
    events: Vec<String>,
    client: Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Webhook({})", self.name)
    }
}

impl Webhook {
    /// Checks what it is set up with.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn new(config: WebhookConfig) -> Result<Self, String> {
        let WebhookConfig { name, url, secret, events } = config;
        let url: Url = url.parse().map_err(|error| format!("`{url}` is no address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{url}` begins with neither http:// nor https://"));
        }
        let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(&secret);
        let secret = BASE64.decode(encoded.as_bytes()).ok().filter(|secret| SECRET_BYTES.contains(&secret.len()));
        let secret = secret.ok_or_else(|| {
            "its secret is not whsec_ and 24 to 64 bytes in base64; make one: `echo whsec_$(head -c 32 /dev/urandom | base64)`"
                .to_owned()
        })?;
        // What is signed is for this address alone.
        let client = Client::builder().timeout(ANSWER_WAIT).redirect(Policy::none()).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { name, url, key: hmac::Key::new(hmac::HMAC_SHA256, &secret), events, client })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn events(&self) -> &[String] {
        &self.events
    }

    pub(crate) async fn send(&self, alert: &Alert, box_name: &str) -> Result<(), NotSent> {
        let at = Timestamp::from_second(alert.at).unwrap_or_default().to_string();
        let body = json!({
            "type": alert.kind, "timestamp": at, "box": box_name, "summary": subject(alert), "data": alert.detail,
        });
        let body = body.to_string();
        // Of each try anew: an old one is refused by who looks at it.
        let now = Timestamp::now().as_second();
        let signature = hmac::sign(&self.key, format!("{}.{now}.{body}", alert.id).as_bytes());
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &alert.id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", format!("v1,{}", BASE64.encode(signature.as_ref())))
            .body(body);
        let answer = request.send().await.map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            NotSent::now(format!("it cannot be reached: {}", source.unwrap_or_else(|| "no answer in time".to_owned())))
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // As Standard Webhooks has it: it is not to be asked again.
            StatusCode::GONE => Err(NotSent::ever("it answers that it is gone (410)")),
            status => Err(NotSent::now(format!("it answers {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_addresses_are_checked() {
        let with = |url: &str, secret: &str| {
            let config = WebhookConfig { name: "x".into(), url: url.into(), secret: secret.into(), events: vec![] };
            Webhook::new(config).map(drop)
        };
        let secret = format!("whsec_{}", BASE64.encode(&[1; 24]));
        assert_eq!(with("https://h/x", &secret), Ok(()));
        assert!(with("ftp://h/x", &secret).unwrap_err().contains("neither http"));
        assert!(with("h", &secret).unwrap_err().contains("no address"));
        for bad in ["", "whsec_", "whsec_short", "password"] {
            assert!(with("https://h/x", bad).unwrap_err().contains("24 to 64 bytes"), "{bad}");
        }
    }
}
