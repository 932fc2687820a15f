//! Takes files of this machine, or of a stick, for a model.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::adapter::{self, Misfit};
use crate::blocks;
use crate::catalogue::{Catalogue, ModelKind};
use crate::downloads::check_room;
use crate::error::ModelsError;
use crate::gguf::Header;
use crate::hub::pins::KnownFile;
use crate::order::check_name;
use crate::record::{Record, sync_directory};
use crate::split::{PartName, all_parts};
use crate::store::{Installed, Store};

/// Files that may become a model, as far as their headers say.
#[derive(Debug)]
pub struct Import {
    /// All files, in order.
    pub files: Vec<PathBuf>,
    /// The model that it is an adapter of.
    pub base: Option<Installed>,
    parameters: u64,
}

impl Import {
    /// What it is called where nobody says: as its file, behind the model that it is an adapter of.
    #[must_use]
    pub fn usual_name(&self) -> String {
        let file = self.files[0].file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = PartName::parse(file).map(|part| part.stem).or_else(|| Path::new(file).file_stem()?.to_str());
        let stem = stem.unwrap_or_default().to_lowercase();
        self.base.as_ref().map_or(stem.clone(), |base| format!("{}:{stem}", base.id))
    }
}

impl Store {
    /// Looks at the headers of a file, and of the other parts of its model that lie beside it. An adapter is one of `base`,
    /// or of the only installed model that it fits.
    ///
    /// # Errors
    /// [`ModelsError::NotModel`] for what is none, [`ModelsError::Misfit`] and [`ModelsError::NoBase`] for an adapter
    /// that no installed model can be used with.
    pub fn look(&self, file: &Path, base: Option<&str>) -> Result<Import, ModelsError> {
        let not = |reason: String| ModelsError::NotModel { path: file.to_owned(), reason };
        if !fs::metadata(file).map_err(ModelsError::file("read", file))?.is_file() {
            return Err(not("it is no file".to_owned()));
        }
        let files = all_parts(file);
        if let Some(missing) = files.iter().find(|part| !part.is_file()) {
            return Err(not(format!("it is one of several parts, and {} does not lie beside it", missing.display())));
        }
        let header = Header::read_all(&files).map_err(|error| not(error.to_string()))?;
        if header.architecture().is_empty() || header.weights().parameters == 0 {
            return Err(not("it has no model in it".to_owned()));
        }
        let parameters = header.parameters();
        if adapter::is_adapter(&header) {
            let base = self.base_of(&header, file, base)?;
            return Ok(Import { files, base: Some(base), parameters });
        }
        if base.is_some() {
            return Err(not("it is a whole model and no adapter".to_owned()));
        }
        match header.text("general.type") {
            Some(kind) if kind != "model" => Err(not(format!("it is of the type {kind}"))),
            _ => Ok(Import { files, base: None, parameters }),
        }
    }

    /// The model that an adapter is used with: the one that is named, or the only installed one that it fits.
    pub(crate) fn base_of(&self, adapter: &Header, path: &Path, named: Option<&str>) -> Result<Installed, ModelsError> {
        let models = self.list()?.into_iter().filter(|model| model.kind == ModelKind::Chat && model.base.is_none());
        let fits = |model: &Installed| -> Result<(), Misfit> {
            let header = Header::read_all(&model.paths()).unwrap_or_default();
            adapter::fits(adapter, &header)
        };
        if let Some(named) = named {
            let model = models.into_iter().find(|model| model.id == named);
            let model = model.ok_or_else(|| ModelsError::NotInstalled(named.to_owned()))?;
            return match fits(&model) {
                Ok(()) => Ok(model),
                Err(why) => Err(ModelsError::Misfit { path: path.to_owned(), model: model.id, why }),
            };
        }
        // Of several names of the same files its own one counts.
        let originals = models.into_iter().filter(|model| model.id == model.model || model.id.contains(':'));
        let (fitting, others): (Vec<_>, Vec<_>) = originals.partition(|model| fits(model).is_ok());
        let no_base = |why: String| ModelsError::NoBase { path: path.to_owned(), why };
        match (&fitting[..], &others[..]) {
            ([only], _) => Ok(only.clone()),
            // What is wrong with it is best said of the only model that it can be for.
            ([], [only]) => {
                let why = fits(only).err().unwrap_or(Misfit::Empty);
                Err(ModelsError::Misfit { path: path.to_owned(), model: only.id.clone(), why })
            }
            ([], _) => Err(no_base("no installed model fits; install the model that it was made for first".to_owned())),
            (several, _) => {
                let ids: Vec<&str> = several.iter().map(|model| model.id.as_str()).collect();
                Err(no_base(format!("several models fit; name one with --base: {}", ids.join(", "))))
            }
        }
    }

    /// Installs what was looked at under a name. A file is shared by a hard link where it lies on the same disk, else
    /// copied. What its engine says of it is for the caller to ask before.
    ///
    /// # Errors
    /// [`ModelsError::Name`] and [`ModelsError::Taken`] for the name, others for the disk.
    pub async fn import(&self, import: &Import, id: &str, licence: Option<&str>) -> Result<Installed, ModelsError> {
        check_name(id)?;
        if Catalogue::builtin().order(id).is_some() {
            return Err(ModelsError::Taken(id.to_owned()));
        }
        for directory in ["blobs", "blocks", "installed", "partial"] {
            let path = self.root().join(directory);
            fs::create_dir_all(&path).map_err(ModelsError::file("create", &path))?;
        }
        let _kept = self.keep_files()?;
        let mut known = Vec::new();
        for file in &import.files {
            known.push(known_file(file).await?);
        }
        if let Some(there) = self.get(id)? {
            return if there.sha256 == known[0].sha256 { Ok(there) } else { Err(ModelsError::Taken(id.to_owned())) };
        }
        for (file, known) in import.files.iter().zip(&known) {
            if !self.blob_path(&known.sha256).exists() {
                let _lock = crate::pull::lock(&self.part_path(&known.sha256).with_extension("lock"), id)?;
                self.take(file, id, known).await?;
                self.install(known).await?;
            }
        }
        sync_directory(&self.root().join("blobs"))?;
        let mut record = Record::own(ModelKind::Chat, &known, import.parameters);
        record.licence = licence.map(str::to_owned);
        record.base = import.base.as_ref().map(|base| base.id.clone());
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

async fn known_file(file: &Path) -> Result<KnownFile, ModelsError> {
    let size_bytes = fs::metadata(file).map_err(ModelsError::file("read", file))?.len();
    let (sha256, _) = blocks::of_path(file.to_owned()).await?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    Ok(KnownFile { name, size_bytes, sha256 })
}
