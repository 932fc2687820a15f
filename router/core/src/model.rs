//! An installed model, as the router knows it.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use allerac_engine_link::AdapterId;
use allerac_models::{Catalogue, Entry, Header, Installed, ModelKind, SamplingDefaults, adapter};

use crate::residency::Key;

/// An installed model, or an adapter of one: then its engine and all files are those of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalModel {
    /// The name that clients use.
    pub id: String,
    /// Its id in the catalogue.
    pub model: String,
    /// What it is for.
    pub kind: ModelKind,
    /// Whether the beginning of a vector is a vector by itself.
    pub matryoshka: bool,
    /// The model that it is an adapter of.
    pub base: Option<String>,
    /// What is added to the model for it.
    pub adapter: AdapterId,
    /// All adapters of the same files, which its engine has, too.
    pub adapters: Vec<(AdapterId, PathBuf)>,
    /// Their length.
    pub adapters_bytes: u64,
    /// Its file, or that of its weights.
    pub path: PathBuf,
    /// By which path its engine loads it.
    pub load_path: PathBuf,
    /// Its other files, by their names in the model.
    pub parts: Vec<(String, PathBuf)>,
    /// The SHA-256 of the file at `path`.
    pub weights_digest: String,
    /// The length of what its engine loads, without adapters.
    pub weights_bytes: u64,
    /// The file of a smaller model that guesses what it says.
    pub draft: Option<PathBuf>,
    /// The length of that file.
    pub draft_bytes: u64,
    /// The SHA-256 of its own file, in hexadecimal.
    pub digest: String,
    /// The length of its own files.
    pub size_bytes: u64,
    /// Parameters.
    pub parameters: u64,
    /// What a request gets that says nothing else.
    pub sampling: SamplingDefaults,
    /// When it was installed, in seconds since 1970.
    pub created: i64,
    /// What its file says of itself; `None` where that is no GGUF, or damaged.
    pub header: Option<Arc<Header>>,
    /// The same for all names of the same files.
    pub(crate) key: Key,
}

/// Smaller models that guess, by the id of the larger one.
pub(crate) type Drafts = BTreeMap<String, String>;

impl LocalModel {
    /// What the catalogue says of it, where it is there.
    #[must_use]
    pub fn entry(&self) -> Option<&'static Entry> {
        Catalogue::builtin().get(&self.model)
    }

    /// A model as it is installed, among others: one of them may guess for it, others are adapters. `None` for an adapter
    /// whose model is not there, or another one than it was made for.
    pub(crate) fn new(
        installed: &Installed,
        all: &[Installed],
        drafts: &Drafts,
        headers: &mut Headers,
    ) -> Option<Self> {
        let base = match &installed.base {
            Some(base) => all.iter().find(|model| model.id == *base && model.base.is_none())?,
            None => installed,
        };
        let header = headers.of(base);
        let adapters = adapters_of(base, all, header.as_deref(), headers);
        let adapter = if installed.base.is_some() { name_of(installed) } else { AdapterId::NONE };
        if installed.base.is_some() && adapters.iter().all(|(id, _)| *id != adapter) {
            return None;
        }
        let entry = Catalogue::builtin().get(&base.model);
        let draft = drafts.get(&base.model).and_then(|draft| all.iter().find(|model| model.id == *draft));
        // Adapters are loaded with the model: with others it is another engine.
        let digests: Vec<&str> =
            base.files().map(|(_, sha256)| sha256).chain(adapters.values().map(|one| one.sha256.as_str())).collect();
        Some(Self {
            id: installed.id.clone(),
            model: installed.model.clone(),
            kind: installed.kind,
            matryoshka: entry.is_some_and(|entry| entry.matryoshka),
            base: installed.base.clone(),
            adapter,
            adapters_bytes: adapters.values().map(|one| one.size_bytes).sum(),
            path: base.path.clone(),
            load_path: base.load_path.clone(),
            parts: base.parts.iter().map(|part| (part.name.clone(), part.path.clone())).collect(),
            weights_digest: base.sha256.clone(),
            weights_bytes: base.size_bytes,
            draft: draft.map(|draft| draft.path.clone()),
            draft_bytes: draft.map_or(0, |draft| draft.size_bytes),
            digest: installed.sha256.clone(),
            size_bytes: installed.size_bytes,
            parameters: base.parameters,
            sampling: entry.map(|entry| entry.sampling).unwrap_or_default(),
            created: installed.installed_at,
            header,
            key: digests.join(" ").into(),
            adapters: adapters.into_iter().map(|(id, one)| (id, one.path.clone())).collect(),
        })
    }

    /// Whether it is somebody's own: an adapter, or a model to chat with that no catalogue has.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.base.is_some() || (self.kind == ModelKind::Chat && self.entry().is_none())
    }

    /// A number that is another one when its file was replaced: to try a model again that could not be loaded.
    pub(crate) fn file_mark(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| mark(&metadata))
    }
}

/// The name of an adapter, which follows from its content.
fn name_of(adapter: &Installed) -> AdapterId {
    let begin = adapter.sha256.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    AdapterId(begin.unwrap_or(u64::MAX).max(1))
}

/// The adapters of a model's files by their names, whatever the model is called. One that does not fit is left out, since
/// llama.cpp would end the engine over some.
fn adapters_of<'a>(
    base: &Installed,
    all: &'a [Installed],
    header: Option<&Header>,
    headers: &mut Headers,
) -> BTreeMap<AdapterId, &'a Installed> {
    let same_files = |id: &str| all.iter().any(|model| model.id == id && model.sha256 == base.sha256);
    let mut adapters = BTreeMap::new();
    for one in all.iter().filter(|one| one.base.as_deref().is_some_and(same_files)) {
        let fits = match (headers.of(one), header) {
            (Some(own), Some(header)) => adapter::fits(&own, header).map_err(|why| why.to_string()),
            _ => Err("its header, or that of the model, cannot be read".to_owned()),
        };
        match fits {
            Ok(()) => drop(adapters.insert(name_of(one), one)),
            Err(why) => tracing::warn!("{} is left out, as it is no adapter for {}: {why}", one.id, base.id),
        }
    }
    adapters
}

/// Which file it is, and when it was last written.
fn mark(metadata: &Metadata) -> u64 {
    let times = metadata.mtime_nsec().unsigned_abs() ^ (metadata.mtime().unsigned_abs() << 30);
    metadata.ino().rotate_left(32) ^ times ^ metadata.len().rotate_left(16)
}

/// Headers of files that were read. A file is read again when it is another one.
#[derive(Debug, Default)]
pub(crate) struct Headers(HashMap<PathBuf, (u64, Option<Arc<Header>>)>);

impl Headers {
    /// That of a model, of all its files; `None` where it is none of GGUF.
    fn of(&mut self, model: &Installed) -> Option<Arc<Header>> {
        if model.kind != ModelKind::Chat && !model.parts.is_empty() {
            return None;
        }
        let path: &Path = &model.path;
        let now = mark(&std::fs::metadata(path).ok()?);
        if let Some((before, header)) = self.0.get(path).filter(|(before, _)| *before == now) {
            debug_assert_eq!(*before, now);
            return header.clone();
        }
        let read = Header::read_all(&model.paths()).map(Arc::new);
        if let Err(error) = &read {
            tracing::warn!("{}: {error}", path.display());
        }
        let header = read.ok();
        self.0.insert(path.to_owned(), (now, header.clone()));
        header
    }

    /// Forgets files that no model has any more.
    pub(crate) fn only(&mut self, models: &[Arc<LocalModel>]) {
        let is_there = |path: &PathBuf| {
            models.iter().any(|model| model.path == *path || model.adapters.iter().any(|(_, adapter)| adapter == path))
        };
        self.0.retain(|path, _| is_there(path));
    }
}

/// The model that answers when nobody chose one: of the preferred ones the first that is here, else the first to chat
/// with.
pub fn default_model<'a>(
    preferred: &[String],
    mut models: impl Iterator<Item = (&'a str, ModelKind)> + Clone,
) -> Option<&'a str> {
    let chats = |model: &(&str, ModelKind)| model.1 == ModelKind::Chat;
    let preferred = preferred.iter().find_map(|wanted| models.clone().filter(chats).find(|(id, _)| id == wanted));
    preferred.or_else(|| models.find(chats)).map(|(id, _)| id)
}

#[cfg(test)]
pub(crate) fn test_model(id: &str, parameters: u64) -> LocalModel {
    let installed = Installed {
        id: id.into(),
        model: id.into(),
        kind: ModelKind::Chat,
        path: format!("/nowhere/{id}").into(),
        load_path: format!("/nowhere/{id}").into(),
        size_bytes: 1,
        sha256: format!("digest of {id}"),
        parts: Vec::new(),
        parameters,
        installed_at: 0,
        origin: None,
        licence: None,
        base: None,
    };
    LocalModel::new(&installed, &[], &Drafts::new(), &mut Headers::default()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_preferred_or_the_first_to_chat_with() {
        let models = [("e", ModelKind::Embedding), ("b", ModelKind::Chat), ("c", ModelKind::Chat)];
        let default = |preferred: &[&str]| {
            default_model(&preferred.iter().map(ToString::to_string).collect::<Vec<_>>(), models.into_iter())
        };
        assert_eq!(default(&["nowhere", "c"]), Some("c"));
        assert_eq!(default(&["e"]), Some("b"));
        assert_eq!(default_model(&[], models[..1].iter().copied()), None);
    }
}
