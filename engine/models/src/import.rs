//! Takes a file of this machine, or of a stick, for a model.

use std::fs;
use std::io;
use std::path::Path;

use crate::blocks;
use crate::catalogue::ModelKind;
use crate::downloads::check_room;
use crate::error::ModelsError;
use crate::gguf::Header;
use crate::hub::pins::KnownFile;
use crate::order::check_name;
use crate::record::{Record, sync_directory};
use crate::store::{Installed, Store};

impl Store {
    /// Installs a GGUF file under a name. Its file is shared by a hard link where it lies on the same disk, else copied.
    /// What its engine says of it is for the caller to ask before.
    ///
    /// # Errors
    /// [`ModelsError::NotModel`] for a file that is none, [`ModelsError::Name`] and [`ModelsError::Taken`] for the name.
    pub async fn import(&self, file: &Path, id: &str, licence: Option<&str>) -> Result<Installed, ModelsError> {
        check_name(id)?;
        let header = check_model(file)?;
        if crate::Catalogue::builtin().get(id).is_some() {
            return Err(ModelsError::Taken(id.to_owned()));
        }
        for directory in ["blobs", "blocks", "installed", "partial"] {
            let path = self.root().join(directory);
            fs::create_dir_all(&path).map_err(ModelsError::file("create", &path))?;
        }
        let _kept = self.keep_files()?;
        let size_bytes = fs::metadata(file).map_err(ModelsError::file("read", file))?.len();
        let (sha256, _) = blocks::of_path(file.to_owned()).await?;
        if let Some(there) = self.get(id)? {
            return if there.sha256 == sha256 { Ok(there) } else { Err(ModelsError::Taken(id.to_owned())) };
        }
        let known = KnownFile { name: file.display().to_string(), size_bytes, sha256 };
        if !self.blob_path(&known.sha256).exists() {
            let _lock = crate::pull::lock(&self.part_path(&known.sha256).with_extension("lock"), id)?;
            self.take(file, id, &known).await?;
            self.install(&known).await?;
            sync_directory(&self.root().join("blobs"))?;
        }
        let mut record = Record::own(ModelKind::Chat, &known.sha256, header.parameters());
        record.licence = licence.map(str::to_owned);
        record.write(&self.record_path(id))?;
        self.get(id)?.ok_or_else(|| ModelsError::NotInstalled(id.to_owned()))
    }

    /// Puts the file where fetched ones lie that are not compared yet.
    async fn take(&self, file: &Path, id: &str, known: &KnownFile) -> Result<(), ModelsError> {
        let part = self.part_path(&known.sha256);
        let _ = fs::remove_file(&part);
        if fs::hard_link(file, &part).is_ok() {
            return Ok(());
        }
        check_room(self.root(), id, known.size_bytes)?;
        let (from, to, size_bytes) = (file.to_owned(), part.clone(), known.size_bytes);
        let copied = tokio::task::spawn_blocking(move || {
            io::copy(&mut fs::File::open(from)?, &mut fs::File::create(&to)?)?;
            fs::File::open(&to)?.sync_all()
        });
        let copied = copied.await.map_err(|error| ModelsError::Download(error.to_string()))?;
        copied.map_err(|source| crate::download::file_error(source, &part, size_bytes))
    }
}

/// The header of a file that may be a model.
fn check_model(file: &Path) -> Result<Header, ModelsError> {
    let not = |reason: String| ModelsError::NotModel { path: file.to_owned(), reason };
    if !fs::metadata(file).map_err(ModelsError::file("read", file))?.is_file() {
        return Err(not("it is no file".to_owned()));
    }
    let header = Header::read(file).map_err(|error| not(error.to_string()))?;
    if header.architecture().is_empty() || header.weights().parameters == 0 {
        return Err(not("it has no model in it, a vocabulary alone or an adapter".to_owned()));
    }
    if header.number("split.count").is_some_and(|count| count > 1) {
        return Err(not("it is one of several parts; join them with llama.cpp's llama-gguf-split --merge".to_owned()));
    }
    if header.text("general.type").is_some_and(|kind| kind != "model") {
        return Err(not(format!("it is of the type {}", header.text("general.type").unwrap_or_default())));
    }
    Ok(header)
}
