//! What the owner sets up.

use std::net::Ipv4Addr;

use url::{Host, Url};

use crate::SsoError;
use crate::claims::Identity;

/// A provider, and who of those that it knows may come.
#[derive(Clone)]
pub struct Settings {
    /// Its address, as it names itself.
    pub issuer: String,
    /// What it calls the box.
    pub client_id: String,
    /// What proves to it that it is the box; none where PKCE alone does.
    pub secret: Option<String>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim that has somebody's groups.
    pub groups_claim: String,
    /// Domains of addresses that may come; all where there is none.
    pub domains: Vec<String>,
    /// Groups that may come, one of them is enough; all where there is none.
    pub groups: Vec<String>,
    /// Certificates of authorities (PEM) that are trusted beside those that everybody trusts.
    pub certificates: Option<Vec<u8>>,
}

/// Settings that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The issuer is no address of a provider.
    #[error("`{0}` is no address of a provider; write it as the provider does, beginning with https://")]
    Issuer(String),
    /// No name for the box.
    #[error("`client_id` is empty; the provider gives one when the box is registered there")]
    ClientId,
    /// A domain that is none.
    #[error("`{0}` is no domain; write it like example.com")]
    Domain(String),
    /// The certificates cannot be read.
    #[error("the certificates cannot be used: {0}")]
    Certificates(String),
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Settings({} at {})", self.client_id, self.issuer)
    }
}

impl Settings {
    /// Whether they can be.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(&self) -> Result<(), SettingsError> {
        let issuer = Url::parse(&self.issuer).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
        if !issuer.is_some_and(|url| is_safe(&url)) {
            return Err(SettingsError::Issuer(self.issuer.clone()));
        }
        if self.client_id.trim().is_empty() {
            return Err(SettingsError::ClientId);
        }
        let is_domain = |domain: &str| domain.contains('.') && Host::parse(domain).is_ok() && !domain.contains('@');
        match self.domains.iter().find(|domain| !is_domain(domain)) {
            Some(domain) => Err(SettingsError::Domain(domain.clone())),
            None => Ok(()),
        }
    }

    /// Whether somebody may come.
    pub(crate) fn admits(&self, identity: &Identity) -> Result<(), SsoError> {
        let domain = identity.email.as_deref().and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain);
        let is_of = |allowed: &String| domain.is_some_and(|domain| domain.eq_ignore_ascii_case(allowed));
        if !self.domains.is_empty() && !self.domains.iter().any(is_of) {
            return Err(SsoError::NotAllowed(
                "your address, as the provider verified it, is of no domain that may come",
            ));
        }
        let groups = &identity.groups;
        if !self.groups.is_empty() && !self.groups.iter().any(|group| groups.contains(group)) {
            return Err(SsoError::NotAllowed("you are in no group that may come"));
        }
        Ok(())
    }
}

/// Over HTTPS, or on this machine: tokens and secrets go there.
pub(crate) fn is_safe(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Domain(host))) => host == "localhost",
        ("http", Some(Host::Ipv4(host))) => host.is_loopback(),
        ("http", Some(Host::Ipv6(host))) => host.is_loopback(),
        _ => false,
    }
}

/// From where an address can be reached, as far as it says. What a name leads to is not asked: firms have providers in
/// their own networks under names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    /// From anywhere.
    Anywhere,
    /// From this network.
    Network,
    /// From this machine.
    Machine,
}

impl Nearness {
    pub(crate) fn of(url: &Url) -> Self {
        match url.host() {
            Some(Host::Ipv4(address)) => Self::of_ipv4(address),
            Some(Host::Ipv6(address)) => match address.to_ipv4_mapped() {
                Some(address) => Self::of_ipv4(address),
                None if address.is_loopback() || address.is_unspecified() => Self::Machine,
                None if address.is_unique_local() || address.is_unicast_link_local() => Self::Network,
                None => Self::Anywhere,
            },
            Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => Self::Machine,
            Some(Host::Domain(_)) | None => Self::Anywhere,
        }
    }

    fn of_ipv4(address: Ipv4Addr) -> Self {
        // Addresses that providers of internet access share out inside (RFC 6598).
        let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0b1100_0000 == 64;
        if address.is_loopback() || address.is_unspecified() {
            Self::Machine
        } else if address.is_private() || address.is_link_local() || is_shared {
            Self::Network
        } else {
            Self::Anywhere
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            issuer: "https://id.example/realms/home".into(),
            client_id: "box".into(),
            secret: None,
            scopes: vec![],
            groups_claim: "groups".into(),
            domains: vec![],
            groups: vec![],
            certificates: None,
        }
    }

    #[test]
    fn tokens_go_nowhere_in_the_clear() {
        for (issuer, may_be) in [
            ("https://id.example", true),
            ("http://localhost:9000", true),
            ("http://127.0.0.1:9000/x", true),
            ("http://id.example", false),
            ("http://192.168.1.5:9000", false),
            ("https://id.example/?x=1", false),
            ("https://id.example/#x", false),
            ("id.example", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(Settings { issuer: issuer.into(), ..settings() }.check().is_ok(), may_be, "{issuer}");
        }
        for domain in ["", "example", "@example.com", "a@example.com", "exa mple.com"] {
            assert!(Settings { domains: vec![domain.into()], ..settings() }.check().is_err(), "{domain}");
        }
        assert_eq!(Settings { client_id: " ".into(), ..settings() }.check(), Err(SettingsError::ClientId));
    }

    #[test]
    fn who_may_come_is_of_a_domain_and_a_group() {
        let with = |domains: &[&str], groups: &[&str]| Settings {
            domains: domains.iter().map(ToString::to_string).collect(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..settings()
        };
        let who = Identity {
            email: Some("anna@Example.com".into()),
            groups: vec!["staff".into(), "ai".into()],
            ..Identity::default()
        };
        let nobody = Identity::default();
        for (settings, who, may) in [
            (with(&[], &[]), &nobody, true),
            (with(&["example.com"], &[]), &who, true),
            (with(&["other.example", "example.com"], &["ai", "x"]), &who, true),
            (with(&["example.org"], &[]), &who, false),
            (with(&["ample.com"], &[]), &who, false),
            (with(&["example.com"], &["x"]), &who, false),
            (with(&["example.com"], &[]), &nobody, false),
            (with(&[], &["AI"]), &who, false),
        ] {
            assert_eq!(settings.admits(who).is_ok(), may, "{:?} {:?}", settings.domains, settings.groups);
        }
    }
}
