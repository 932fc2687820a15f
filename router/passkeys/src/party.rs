//! For which page a passkey is made.

use sha2::{Digest, Sha256};
use url::{Host, Url};

/// The page that a browser shows: its origin, and the name that passkeys are bound to (section 5.1.2, RP ID). Any port of
/// the name has the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    origin: String,
    host: String,
}

/// Why a page can have no passkeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoParty {
    /// No origin of a page.
    #[error("passkeys are for the box's page in a browser")]
    NoPage,
    /// Over HTTP, where others on the network could change the page.
    #[error("browsers have passkeys over HTTPS only; reach the box by https")]
    Insecure,
    /// By an address, to which passkeys cannot be bound.
    #[error("passkeys are bound to a name, and this page was reached by an address; reach the box by its name")]
    Address,
}

impl RelyingParty {
    /// The page of an origin, as browsers send it in `Origin`.
    ///
    /// # Errors
    /// [`NoParty`] where there can be no passkeys.
    pub fn of(origin: &str) -> Result<Self, NoParty> {
        let url = Url::parse(origin).map_err(|_| NoParty::NoPage)?;
        let is_origin = url.origin().is_tuple() && url.origin().ascii_serialization() == origin;
        let host = match url.host() {
            Some(Host::Domain(host)) if is_origin && !host.is_empty() => host.to_owned(),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) if is_origin => return Err(NoParty::Address),
            _ => return Err(NoParty::NoPage),
        };
        let is_local = host == "localhost" || host.ends_with(".localhost");
        match url.scheme() {
            "https" => {}
            "http" if is_local => {}
            "http" => return Err(NoParty::Insecure),
            _ => return Err(NoParty::NoPage),
        }
        Ok(Self { origin: origin.to_owned(), host })
    }

    /// The name that passkeys are bound to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// What authenticators have of the name.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.host).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_passkeys_by_a_name_and_where_nobody_can_change_it() {
        for (origin, host) in [
            ("https://allerac.local", Ok("allerac.local")),
            ("https://box.example:8443", Ok("box.example")),
            ("http://localhost:8080", Ok("localhost")),
            ("http://a.localhost", Ok("a.localhost")),
            ("http://allerac.local", Err(NoParty::Insecure)),
            ("https://192.168.1.5", Err(NoParty::Address)),
            ("http://127.0.0.1:8080", Err(NoParty::Address)),
            ("https://[::1]", Err(NoParty::Address)),
            ("https://box.example/", Err(NoParty::NoPage)),
            ("https://BOX.example", Err(NoParty::NoPage)),
            ("https://user@box.example", Err(NoParty::NoPage)),
            ("ftp://box.example", Err(NoParty::NoPage)),
            ("chrome-extension://abc", Err(NoParty::NoPage)),
            ("null", Err(NoParty::NoPage)),
            ("", Err(NoParty::NoPage)),
        ] {
            let party = RelyingParty::of(origin);
            assert_eq!(party.as_ref().map(RelyingParty::host).map_err(|why| *why), host, "{origin}");
        }
    }
}
