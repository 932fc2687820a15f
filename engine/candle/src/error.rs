//! What can be wrong with a model.

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file that the model needs is not among its files.
    #[error("the model has no file {0}")]
    Missing(&'static str),
    /// A file cannot be read.
    #[error("cannot read {name}: {source}")]
    Unreadable {
        /// Its name in the model.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{name} is not valid: {reason}")]
    Invalid {
        /// Its name in the model.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A model of a kind that is not supported.
    #[error("{name} asks for {what}, which is not supported")]
    Unsupported {
        /// Its name in the model.
        name: &'static str,
        /// What it asks for.
        what: String,
    },
}

impl LoadError {
    pub(crate) fn invalid(name: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self::Invalid { name, reason: reason.to_string() }
    }

    pub(crate) fn unsupported(name: &'static str, what: impl Into<String>) -> Self {
        Self::Unsupported { name, what: what.into() }
    }
}
