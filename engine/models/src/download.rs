//! Downloads that resume where they stopped, also after a crash.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::error::ModelsError;
use crate::pace::Pace;
use crate::transfer::retry::{Failure, wait};

/// How long a server may take to accept a connection.
pub(crate) const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a server may send nothing.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is downloaded.
pub(crate) struct Wanted<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a str,
    pub(crate) pace: &'a Pace,
    /// Its exact length where it is known; else no more than this is accepted.
    pub(crate) size_bytes: Option<u64>,
    pub(crate) size_bytes_max: u64,
}

/// Downloads into `part`, taking up what is there. It is complete, though not verified, on return. `tell` hears how many
/// bytes there are, and of how many.
pub(crate) async fn download(
    wanted: &Wanted<'_>,
    part: &Path,
    tell: &mut impl FnMut(u64, u64),
) -> Result<(), ModelsError> {
    let mut tries = 0;
    loop {
        let before = length(part).await;
        let failure = match attempt(wanted, part, tell).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        tries = if length(part).await > before { 1 } else { tries + 1 };
        tokio::time::sleep(wait(failure, tries)?).await;
    }
}

async fn attempt(wanted: &Wanted<'_>, part: &Path, tell: &mut impl FnMut(u64, u64)) -> Result<(), Failure> {
    let have = length(part).await;
    if have > 0 && Some(have) == wanted.size_bytes {
        return Ok(());
    }
    let mut request = wanted.client.get(wanted.url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
        // A file that changed in between is sent whole.
        if let Ok(etag) = tokio::fs::read_to_string(etag_path(part)).await {
            request = request.header(IF_RANGE, etag);
        }
    }
    let response = request.send().await?;
    let resumes = response.status() == StatusCode::PARTIAL_CONTENT && starts_at(&response, have);
    match response.status() {
        StatusCode::OK => {}
        StatusCode::PARTIAL_CONTENT if resumes => {}
        // What is here is not a beginning of what is there.
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            let _ = tokio::fs::remove_file(part).await;
            return Err(Failure::again("the file at the server has changed"));
        }
        _ => return Err(Failure::of(&response)),
    }
    receive(response, wanted, part, if resumes { have } else { 0 }, tell).await
}

async fn receive(
    mut response: Response,
    wanted: &Wanted<'_>,
    part: &Path,
    have: u64,
    tell: &mut impl FnMut(u64, u64),
) -> Result<(), Failure> {
    let refused = |source| Failure::Final(file_error(source, part, wanted.size_bytes_max));
    if let Some(etag) = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()) {
        tokio::fs::write(etag_path(part), etag).await.map_err(refused)?;
    }
    let opened = if have > 0 { OpenOptions::new().append(true).open(part).await } else { File::create(part).await };
    let mut file = opened.map_err(refused)?;
    let announced = response.content_length().map(|rest| have + rest);
    let total = wanted.size_bytes.or(announced).unwrap_or(wanted.size_bytes_max);
    let mut done = have;
    tell(done, total);
    while let Some(piece) = response.chunk().await? {
        wanted.pace.spend(piece.len() as u64).await;
        done += piece.len() as u64;
        if done > wanted.size_bytes.unwrap_or(wanted.size_bytes_max) {
            drop(file);
            let _ = tokio::fs::remove_file(part).await;
            return Err(Failure::Final(ModelsError::Download("the file is longer than it should be".into())));
        }
        file.write_all(&piece).await.map_err(refused)?;
        tell(done, total);
    }
    file.flush().await.map_err(refused)?;
    file.sync_all().await.map_err(refused)?;
    match wanted.size_bytes.or(announced) {
        Some(whole) if done < whole => {
            Err(Failure::again(format!("the connection broke off at {done} of {whole} bytes")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn file_error(source: std::io::Error, path: &Path, bytes: u64) -> ModelsError {
    if source.kind() == std::io::ErrorKind::StorageFull {
        return ModelsError::DiskFull { path: path.to_owned(), bytes };
    }
    ModelsError::file("write", path)(source)
}

fn starts_at(response: &Response, have: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// Where the version of a partial file is kept.
pub(crate) fn etag_path(part: &Path) -> std::path::PathBuf {
    part.with_extension("etag")
}

async fn length(path: &Path) -> u64 {
    tokio::fs::metadata(path).await.map_or(0, |metadata| metadata.len())
}
