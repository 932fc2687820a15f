//! Signing in with another provider: OpenID Connect Core 1.0 as a relying party, by the code flow with PKCE (RFC 7636).
//!
//! What is here asks the provider and checks what it says. Who somebody is on this box, and what the browser is given to
//! come back with, is elsewhere. Nothing is asked before somebody begins to sign in.

mod claims;
mod fetch;
mod keys;
mod provider;
mod settings;

pub use claims::Identity;
pub use provider::{Provider, Secrets};
pub use settings::{Settings, SettingsError};

/// Why somebody cannot sign in with the provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SsoError {
    /// It does not answer, or not as it should.
    #[error("the provider cannot be asked: {0}")]
    Unreachable(String),
    /// It says of itself what cannot be.
    #[error("the provider is not set up as OpenID Connect asks: {0}")]
    Provider(String),
    /// It said no, in its own word for why.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// What it says of somebody does not hold.
    #[error("what the provider says does not hold: {0}")]
    Token(&'static str),
    /// It knows them, and they are not among those who may come here.
    #[error("{0}")]
    NotAllowed(&'static str),
}
