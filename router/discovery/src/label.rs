use std::fmt;

use crate::DiscoveryError;

/// The longest accepted label, in bytes. RFC 1035 allows 63; the rest is room for `-2` to `-999`.
pub(crate) const LENGTH_MAX: usize = 59;

/// One DNS label: the box's host name without `.local`, and the name of its services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// Checks a name against the host name rules of RFC 1123.
    ///
    /// # Errors
    /// [`DiscoveryError::BadLabel`].
    pub fn new(name: &str) -> Result<Self, DiscoveryError> {
        let fits = (1..=LENGTH_MAX).contains(&name.len());
        let characters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if fits && characters && !name.starts_with('-') && !name.ends_with('-') {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(DiscoveryError::BadLabel { name: name.to_owned() })
        }
    }

    /// The label alone, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host name, `allerac.local`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.local", self.0)
    }

    /// The name to try when this one is taken: `allerac`, `allerac-2`, `allerac-3`.
    pub(crate) fn next(&self) -> Self {
        let numbered = self
            .0
            .rsplit_once('-')
            .and_then(|(stem, digits)| digits.parse::<u32>().ok().map(|number| (stem, number)))
            .filter(|(stem, _)| !stem.is_empty());
        match numbered {
            Some((stem, number)) => Self(format!("{stem}-{}", number.saturating_add(1))),
            None => Self(format!("{}-2", self.0)),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_host_names_only() {
        assert_eq!(Label::new("Allerac").unwrap().host(), "allerac.local");
        for bad in ["", "-a", "a-", "a.b", "a b", "a_b", "å", &"a".repeat(60)] {
            assert!(Label::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn counts_up_when_taken() {
        let label = Label::new("allerac").unwrap();
        assert_eq!(label.next().as_str(), "allerac-2");
        assert_eq!(label.next().next().as_str(), "allerac-3");
        assert_eq!(Label::new("my-box").unwrap().next().as_str(), "my-box-2");
    }
}
