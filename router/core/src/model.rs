//! An installed model, as the router knows it.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use allerac_models::{Catalogue, Entry, Header, Installed, ModelKind, SamplingDefaults};

use crate::residency::Key;

/// An installed model.
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
    /// Its file, or that of its weights.
    pub path: PathBuf,
    /// Its other files, by their names in the model.
    pub parts: Vec<(String, PathBuf)>,
    /// The file of a smaller model that guesses what it says.
    pub draft: Option<PathBuf>,
    /// The length of that file.
    pub draft_bytes: u64,
    /// The SHA-256 of its file, in hexadecimal.
    pub digest: String,
    /// The length of its files.
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
pub(crate) type Drafts = std::collections::BTreeMap<String, String>;

impl LocalModel {
    /// What the catalogue says of it, where it is there.
    #[must_use]
    pub fn entry(&self) -> Option<&'static Entry> {
        Catalogue::builtin().get(&self.model)
    }

    /// A model as it is installed, among others of which one may guess for it.
    pub(crate) fn new(installed: &Installed, all: &[Installed], drafts: &Drafts, headers: &mut Headers) -> Self {
        let entry = Catalogue::builtin().get(&installed.model);
        let draft = drafts.get(&installed.model).and_then(|draft| all.iter().find(|model| model.id == *draft));
        let parts = installed.parts.iter().map(|part| part.sha256.as_str());
        let digests: Vec<&str> = std::iter::once(installed.sha256.as_str()).chain(parts).collect();
        let header = installed.parts.is_empty().then(|| headers.of(&installed.path)).flatten();
        Self {
            id: installed.id.clone(),
            model: installed.model.clone(),
            kind: installed.kind,
            matryoshka: entry.is_some_and(|entry| entry.matryoshka),
            path: installed.path.clone(),
            parts: installed.parts.iter().map(|part| (part.name.clone(), part.path.clone())).collect(),
            draft: draft.map(|draft| draft.path.clone()),
            draft_bytes: draft.map_or(0, |draft| draft.size_bytes),
            digest: installed.sha256.clone(),
            size_bytes: installed.size_bytes,
            parameters: installed.parameters,
            sampling: entry.map(|entry| entry.sampling).unwrap_or_default(),
            created: installed.installed_at,
            header,
            key: digests.join(" ").into(),
        }
    }

    /// A number that is another one when its file was replaced: to try a model again that could not be loaded.
    pub(crate) fn file_mark(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| mark(&metadata))
    }
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
    fn of(&mut self, path: &Path) -> Option<Arc<Header>> {
        let now = mark(&std::fs::metadata(path).ok()?);
        if let Some((before, header)) = self.0.get(path).filter(|(before, _)| *before == now) {
            debug_assert_eq!(*before, now);
            return header.clone();
        }
        let read = Header::read(path).map(Arc::new);
        if let Err(error) = &read {
            tracing::warn!("{}: {error}", path.display());
        }
        let header = read.ok();
        self.0.insert(path.to_owned(), (now, header.clone()));
        header
    }

    /// Forgets files that no model has any more.
    pub(crate) fn only(&mut self, models: &[Arc<LocalModel>]) {
        self.0.retain(|path, _| models.iter().any(|model| model.path == *path));
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
        size_bytes: 1,
        sha256: format!("digest of {id}"),
        parts: Vec::new(),
        parameters,
        installed_at: 0,
    };
    LocalModel::new(&installed, &[], &Drafts::new(), &mut Headers::default())
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
