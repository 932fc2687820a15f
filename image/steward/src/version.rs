//! Which version of the image runs.

use std::fs;
use std::path::Path;

/// What the running system says of itself, as os-release(5) has it.
const OS_RELEASE: &str = "usr/lib/os-release";

/// The version of the system below a root, `/` for this one; nothing where that was not made from the image.
#[must_use]
pub fn running(root: &Path) -> Option<String> {
    version(&fs::read_to_string(root.join(OS_RELEASE)).ok()?)
}

fn version(os_release: &str) -> Option<String> {
    let mut lines = os_release.lines();
    if !lines.clone().any(|line| line == "IMAGE_ID=allerac" || line == "IMAGE_ID=\"allerac\"") {
        return None;
    }
    let version = lines.find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    Some(version.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_images() {
        assert_eq!(version("ID=debian\nIMAGE_ID=allerac\nIMAGE_VERSION=0.1.0.7\n").as_deref(), Some("0.1.0.7"));
        assert_eq!(version("IMAGE_VERSION=\"2\"\nIMAGE_ID=\"allerac\"\n").as_deref(), Some("2"));
        assert_eq!(version("ID=debian\nIMAGE_VERSION=2\n"), None);
    }
}
