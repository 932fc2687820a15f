//! Announces the box on the local network over multicast DNS (RFC 6762) with service discovery (RFC 6763).
//!
//! `_http._tcp` leads a browser to the page. `_saturn._tcp` tells programs that an OpenAI-compatible API is here, and
//! is announced only once the box has an owner. Neither carries a secret or a list of models.

mod advertiser;
mod label;
mod network;
mod responder;

pub use advertiser::{AdvertiseConfig, Advertiser, State};
pub use label::Label;
pub use network::{Scope, lan_addresses};

/// Why the box cannot be announced.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The name is not one DNS label.
    #[error("`{name}` cannot be a host name: use 1 to {max} letters, digits and inner hyphens", max = label::LENGTH_MAX)]
    BadLabel {
        /// What was given.
        name: String,
    },
    /// The system did not say which addresses it has.
    #[error("cannot list the network interfaces")]
    Interfaces(#[source] std::io::Error),
}
