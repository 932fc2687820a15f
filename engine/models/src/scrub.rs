//! Finds files whose content is not what it was, and mends them by the blocks that are damaged.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use reqwest::Client;
use reqwest::StatusCode;
use reqwest::header::RANGE;

use crate::blocks::{self, BLOCK_BYTES, Blocks};
use crate::catalogue::{Catalogue, Source};
use crate::error::ModelsError;
use crate::hub;
use crate::hub::pins::Pins;
use crate::pull::beside;
use crate::store::{Installed, Store};
use crate::transfer::retry::{Failure, wait};

/// What was found of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Of which model.
    pub id: String,
    /// Which file: the weights have the model's name.
    pub file: String,
    /// Its length.
    pub size_bytes: u64,
    /// Blocks that are not what they were; `None` where the file is damaged and nobody knows where.
    pub damaged: Option<Vec<usize>>,
    /// What was done about it.
    pub mended: Mended,
}

/// What was done about damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// There is none.
    Whole,
    /// The damaged blocks were fetched anew, and the file is whole again. So many bytes came.
    Fetched(u64),
    /// It is as it was.
    Not(String),
}

/// Where a file can be had by ranges.
struct Origin {
    url: String,
    repository: String,
    is_hub: bool,
}

impl Store {
    /// Reads all files of a model and compares them with what they must be. Where one is damaged, what is damaged of it is
    /// fetched again, if its source gives parts of files; nothing else is written.
    ///
    /// # Errors
    /// When a file cannot be read. Damage is no error.
    pub async fn scrub(&self, model: &Installed, mend: bool) -> Result<Vec<Scrubbed>, ModelsError> {
        let mut all = Vec::new();
        let names = std::iter::once(model.id.clone()).chain(model.parts.iter().map(|part| part.name.clone()));
        for ((path, sha256), file) in model.files().zip(names) {
            let size_bytes = fs::metadata(path).map_err(ModelsError::file("read", path))?.len();
            let list_path = self.blocks_path(sha256);
            let (found, now) = blocks::of_path(path.to_owned()).await?;
            let known = Blocks::read(&list_path, size_bytes);
            let mut scrubbed = Scrubbed {
                id: model.id.clone(),
                file: file.clone(),
                size_bytes,
                damaged: Some(Vec::new()),
                mended: Mended::Whole,
            };
            if found == sha256 {
                if known.is_none() {
                    now.write(&list_path)?;
                }
            } else {
                scrubbed.damaged = known.as_ref().map(|known| known.differing(&now));
                scrubbed.mended = Mended::Not(format!("run allerac models rm {0}, then pull {0}", model.id));
                if let (true, Some(known), Some(damaged)) = (mend, &known, &scrubbed.damaged) {
                    let is_part = (file != model.id).then_some(file.as_str());
                    let mended = self.mend(model, is_part, path, known, damaged).await;
                    scrubbed.mended = match mended {
                        Ok(bytes) if blocks::of_path(path.to_owned()).await?.0 == sha256 => Mended::Fetched(bytes),
                        Ok(_) => Mended::Not("its list of blocks is damaged too".to_owned()),
                        Err(error) => Mended::Not(error.to_string()),
                    };
                }
            }
            all.push(scrubbed);
        }
        Ok(all)
    }

    /// Fetches blocks and puts them in their places; how many bytes came. A block is compared before it is written.
    async fn mend(
        &self,
        model: &Installed,
        part: Option<&str>,
        path: &Path,
        known: &Blocks,
        damaged: &[usize],
    ) -> Result<u64, ModelsError> {
        let client = hub::client()?;
        let origins = self.origins(model, part)?;
        let size_bytes = fs::metadata(path).map_err(ModelsError::file("read", path))?.len();
        let file = OpenOptions::new().write(true).open(path).map_err(ModelsError::file("write", path))?;
        let mut fetched = 0;
        for block in damaged {
            let from = *block as u64 * BLOCK_BYTES as u64;
            let until = (from + BLOCK_BYTES as u64).min(size_bytes);
            let mut last = ModelsError::Download("its source does not give parts of files".to_owned());
            let mut content = None;
            for origin in &origins {
                match self.range(&client, origin, from, until).await {
                    Ok(bytes) if known.is(*block, &bytes) => content = Some(bytes),
                    Ok(_) => {
                        last = ModelsError::Download("what came in place of a damaged block is wrong too".to_owned());
                    }
                    Err(error) => last = error,
                }
                if content.is_some() {
                    break;
                }
            }
            let content = content.ok_or(last)?;
            file.write_all_at(&content, from).map_err(ModelsError::file("write", path))?;
            fetched += content.len() as u64;
        }
        file.sync_all().map_err(ModelsError::file("write", path))?;
        Ok(fetched)
    }

    /// Where a file of a model can be had by ranges: from a hub, or from a plain address.
    fn origins(&self, model: &Installed, part: Option<&str>) -> Result<Vec<Origin>, ModelsError> {
        let hub = &self.downloads().hub;
        let of_hub = |repository: &str, revision: &str, file: &str| Origin {
            url: hub.address(repository, revision, file),
            repository: repository.to_owned(),
            is_hub: true,
        };
        let mut origins = Vec::new();
        if let Some(origin) = &model.origin {
            // Parts lie beside the first.
            let file = part.map_or_else(|| origin.file.clone(), |part| beside(&origin.file, "", part));
            origins.push(of_hub(&origin.repository, &origin.revision, &file));
        }
        let Some(entry) = Catalogue::builtin().get(&model.model).filter(|_| model.origin.is_none()) else {
            return Ok(origins);
        };
        let pins = Pins::read(&self.root().join("pins.toml"))?;
        let name = part.unwrap_or(&entry.file.name);
        for source in &entry.sources {
            match source {
                Source::Hub { repository, file, revision } => {
                    let commit = pins.get(repository, revision).map_or(revision, |pin| &pin.commit);
                    origins.push(of_hub(repository, commit, &beside(file, &entry.file.name, name)));
                }
                Source::Url { url } => {
                    let url = beside(url, &entry.file.name, name);
                    origins.push(Origin { url, repository: String::new(), is_hub: false });
                }
                Source::Pypi { .. } => {}
            }
        }
        Ok(origins)
    }

    async fn range(&self, client: &Client, origin: &Origin, from: u64, until: u64) -> Result<Vec<u8>, ModelsError> {
        let mut tries = 0;
        loop {
            let failure = match self.try_range(client, origin, from, until).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            tries += 1;
            tokio::time::sleep(wait(failure, tries)?).await;
        }
    }

    async fn try_range(&self, client: &Client, origin: &Origin, from: u64, until: u64) -> Result<Vec<u8>, Failure> {
        let hub = &self.downloads().hub;
        let mut request = client.get(&origin.url).header(RANGE, format!("bytes={from}-{}", until - 1));
        if let Some(token) = hub.token().filter(|_| origin.is_hub) {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => {
                let reason = "its source does not give parts of files".to_owned();
                return Err(Failure::Final(ModelsError::Download(reason)));
            }
            _ if origin.is_hub => return Err(hub.refusal(&response, &origin.repository)),
            _ => return Err(Failure::of(&response)),
        }
        let wanted = usize::try_from(until - from).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(wanted.min(BLOCK_BYTES));
        while let Some(piece) = response.chunk().await? {
            self.downloads().pace.spend(piece.len() as u64).await;
            bytes.extend_from_slice(&piece[..piece.len().min(wanted - bytes.len())]);
        }
        if bytes.len() == wanted { Ok(bytes) } else { Err(Failure::again("the connection broke off")) }
    }
}
