//! Where updates come from: an address, or a folder such as a stick's. Either way they are signed.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use crate::failure::{Exit, Failure};

/// Where the box keeps it.
pub(super) const FILE: &str = "/var/lib/allerac-update/source";
/// No address is longer.
const CHARS_MAX: usize = 1000;

/// An address of `http`, `https` or `file`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source(String);

impl Source {
    /// As it stands in a definition, where a percent sign begins what is expanded.
    pub(super) fn escaped(&self) -> String {
        self.0.replace('%', "%%")
    }

    /// Keeps it for later updates; a power cut leaves the old one or the new one.
    pub(super) fn keep(&self, file: &Path) -> io::Result<()> {
        let partial = file.with_extension("partial");
        let folder = file.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let mut kept = fs::File::create(&partial)?;
        writeln!(kept, "{}", self.0)?;
        kept.sync_all()?;
        fs::rename(partial, file)?;
        fs::File::open(folder)?.sync_all()
    }
}

impl FromStr for Source {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || {
            Failure::new(Exit::Usage, format!("`{text}` is no place where updates can come from"))
                .hint("give an address like https://updates.example.org/allerac, or the path of a folder")
        };
        let text = text.trim();
        if text.len() > CHARS_MAX || text.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return Err(bad());
        }
        let url = if text.starts_with('/') { format!("file://{text}") } else { text.to_owned() };
        let parsed = reqwest::Url::parse(&url).map_err(|_| bad())?;
        let is_known = match parsed.scheme() {
            "http" | "https" => parsed.has_host() && parsed.query().is_none() && parsed.fragment().is_none(),
            "file" => !parsed.has_host(),
            _ => false,
        };
        if is_known { Ok(Self(parsed.as_str().trim_end_matches('/').to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.strip_prefix("file://").unwrap_or(&self.0))
    }
}

/// What is given, else what the box keeps.
pub(super) fn of(given: Option<&str>) -> Result<Source, Failure> {
    match given {
        Some(given) => given.parse(),
        None => match fs::read_to_string(FILE) {
            Ok(kept) => kept.parse(),
            Err(_) => Err(Failure::new(Exit::NotFound, "the box was not told where updates come from")
                .hint("give --source, or keep one for good: allerac update source ADDRESS")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_folders_are_sources() {
        for (text, shown) in [
            ("https://example.org/allerac/", "https://example.org/allerac"),
            ("http://10.0.0.7:8000\n", "http://10.0.0.7:8000"),
            ("/run/stick", "/run/stick"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), shown);
        }
        assert_eq!("/run/stick".parse::<Source>().unwrap().escaped(), "file:///run/stick");
        assert_eq!("https://a.org/x%20y".parse::<Source>().unwrap().escaped(), "https://a.org/x%%20y");
        for bad in ["", "stick", "ftp://example.org", "https://a.org/x\nPath=y", "https://a.org/?x=1", "https://"] {
            let failure = bad.parse::<Source>().unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn a_source_is_kept_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/source");
        "https://example.org".parse::<Source>().unwrap().keep(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "https://example.org\n");
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }
}
