//! Models of a hub that no catalogue has: `USER/REPOSITORY`, with the quantisation and the revision behind it.

use std::fmt;
use std::str::FromStr;

use super::{RemoteFile, Repository};
use crate::catalogue::{Entry, FileSpec, ModelKind, SamplingDefaults, Source};
use crate::error::ModelsError;
use crate::hub::RemoteDigest;
use crate::pull::beside;
use crate::split::{self, PartName};

/// Where a repository is fetched from unless the reference names another revision.
const REVISION: &str = "main";
/// What is taken where nothing is said, in this order: small enough for most machines, and good.
const QUANTS_USUAL: [&str; 4] = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q8_0"];
/// What other programs write before a reference.
const PREFIXES: [&str; 5] = ["https://huggingface.co/", "hf.co/", "huggingface.co/", "hf://", "hub:"];
/// The longest part of a reference, in bytes.
const WORD_BYTES_MAX: usize = 96;
/// Names of quantisations shown in an error.
const QUANTS_SHOWN: usize = 24;

/// `USER/REPOSITORY[:QUANT][@REVISION]`, or `USER/REPOSITORY/FILE.gguf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub(crate) repository: String,
    pub(crate) quant: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) revision: String,
}

/// Text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no model of a hub; write it like USER/REPOSITORY:Q4_K_M, or USER/REPOSITORY/FILE.gguf")]
pub struct InvalidReference(String);

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference(text.chars().take(WORD_BYTES_MAX).collect());
        let bare = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        let (bare, revision) = bare.split_once('@').unwrap_or((bare, REVISION));
        let (path, quant) = match bare.split_once(':') {
            Some((path, quant)) => (path, Some(quant)),
            None => (bare, None),
        };
        let steps: Vec<&str> = path.split('/').collect();
        let words = steps.iter().copied().chain(quant).chain([revision]);
        if steps.len() < 2 || !words.clone().all(is_word) || (quant.is_some() && steps.len() > 2) {
            return Err(invalid());
        }
        let file = (steps.len() > 2).then(|| steps[2..].join("/"));
        if file.as_ref().is_some_and(|file| !is_gguf(file)) {
            return Err(invalid());
        }
        Ok(Self {
            repository: steps[..2].join("/"),
            quant: quant.filter(|quant| *quant != "latest").map(str::to_owned),
            file,
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.repository)?;
        match (&self.file, &self.quant) {
            (Some(file), _) => write!(formatter, "/{file}")?,
            (None, Some(quant)) => write!(formatter, ":{quant}")?,
            (None, None) => {}
        }
        if self.revision == REVISION { Ok(()) } else { write!(formatter, "@{}", self.revision) }
    }
}

/// It becomes part of an address and of names.
fn is_word(word: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    (1..=WORD_BYTES_MAX).contains(&word.len()) && word.chars().all(fits) && !matches!(word, "." | "..")
}

fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

impl Reference {
    /// The model that it means in a repository.
    pub(crate) fn entry(&self, repository: &Repository) -> Result<Entry, ModelsError> {
        let file = self.choose(repository)?;
        let parts = split::others(&file.name).into_iter().map(|name| {
            let remote = beside(&file.name, "", &name);
            let found = repository.files.iter().find(|file| file.name == remote);
            let found = found.ok_or_else(|| {
                ModelsError::Hub(format!("{} is one of several parts, and {remote} is not there", file.name))
            })?;
            Ok(FileSpec { name, ..spec(found)? })
        });
        let parts = parts.collect::<Result<Vec<FileSpec>, ModelsError>>()?;
        let name = self.repository.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let name = name.strip_suffix("-gguf").unwrap_or(&name).to_owned();
        let stem = stem(&file.name).to_ascii_lowercase();
        let id = match self.quant.clone().or_else(|| quant_of(&file.name)) {
            Some(quant) => format!("{name}:{}", quant.to_ascii_lowercase()),
            None if stem.starts_with(&name) => stem,
            None => format!("{name}:{stem}"),
        };
        Ok(Entry {
            id,
            name: self.to_string(),
            family: String::new(),
            // Its file says better how many it has; this is for whoever asks before.
            parameters: 1,
            context: u32::MAX,
            licence: repository.licence.clone().unwrap_or_else(|| "unknown".to_owned()),
            licence_url: repository.licence_url.clone(),
            languages: Vec::new(),
            kind: ModelKind::Chat,
            sampling: SamplingDefaults::default(),
            sources: vec![Source::Hub {
                repository: self.repository.clone(),
                file: file.name.clone(),
                revision: repository.commit.clone(),
            }],
            file: spec(file)?,
            parts,
            is_reference: true,
            ..Entry::default()
        })
    }

    fn choose<'a>(&self, repository: &'a Repository) -> Result<&'a RemoteFile, ModelsError> {
        let models = || {
            repository.files.iter().filter(|file| is_gguf(&file.name) && !is_helper(&file.name) && is_first(&file.name))
        };
        if let Some(name) = &self.file {
            // Whichever part is named, a model begins with the first.
            let first = first_part(name);
            let found = models().find(|file| file.name == first);
            return found.ok_or_else(|| ModelsError::Hub(format!("{} has no file {name}", self.repository)));
        }
        let of = |quant: &str| {
            models().find(|file| quant_of(&file.name).is_some_and(|found| found.eq_ignore_ascii_case(quant)))
        };
        let found = match &self.quant {
            Some(quant) => of(quant),
            None => QUANTS_USUAL.iter().find_map(|quant| of(quant)).or_else(|| {
                let mut all = models();
                all.next().filter(|_| all.next().is_none())
            }),
        };
        found.ok_or_else(|| {
            let mut there: Vec<String> = models().filter_map(|file| quant_of(&file.name)).collect();
            there.sort();
            there.dedup();
            there.truncate(QUANTS_SHOWN);
            ModelsError::Hub(if there.is_empty() {
                format!("{} has no GGUF file to run", self.repository)
            } else {
                let asked = self.quant.as_deref().unwrap_or("any of the usual quantisations");
                format!("{} does not have {asked}; it has {}", self.repository, there.join(", "))
            })
        })
    }
}

/// What a file must be.
fn spec(file: &RemoteFile) -> Result<FileSpec, ModelsError> {
    let RemoteDigest::Sha256(sha256) = &file.digest else {
        return Err(ModelsError::Hub(format!("{} has no sha256 at the hub", file.name)));
    };
    Ok(FileSpec { name: file.name.clone(), size_bytes: Some(file.size_bytes), sha256: Some(sha256.clone()) })
}

/// The path of a model's first file, by that of any.
fn first_part(path: &str) -> String {
    let own = path.rsplit('/').next().unwrap_or(path);
    let first = PartName::parse(own).and_then(|part| part.all().next());
    first.map_or_else(|| path.to_owned(), |first| beside(path, "", &first))
}

/// Whether a file is a whole model, or the first part of one.
fn is_first(path: &str) -> bool {
    first_part(path) == path
}

/// Files that belong to a model and are none: projectors of pictures, matrices for quantising.
fn is_helper(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    name.starts_with("mmproj") || name.contains("imatrix")
}

/// The name of a file without its end, and without the number of a part.
fn stem(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    let part = PartName::parse(name).map(|part| part.stem);
    part.unwrap_or_else(|| name.get(..name.len().saturating_sub(5)).unwrap_or(name))
}

/// The quantisation in the name of a file, like `Q4_K_M`, `IQ3_XS`, `BF16`, `MXFP4`; also of one that is cut into parts.
pub(crate) fn quant_of(name: &str) -> Option<String> {
    let last = stem(name).rsplit(['-', '.']).next()?.to_ascii_uppercase();
    let digit_after = |prefix: &str| {
        last.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let is_quant = ["Q", "IQ", "TQ", "BF", "F", "MXFP"].iter().any(|prefix| digit_after(prefix));
    is_quant.then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[&str]) -> Repository {
        let file = |name: &&str| RemoteFile {
            name: (*name).to_owned(),
            size_bytes: 5,
            digest: RemoteDigest::Sha256("0".repeat(64)),
        };
        Repository {
            id: "u/Model-1B-GGUF".into(),
            commit: "1".repeat(40),
            files: files.iter().map(file).collect(),
            licence: Some("mit".into()),
            licence_url: None,
            gated: false,
        }
    }

    fn chosen(reference: &str, files: &[&str]) -> Result<(String, String), String> {
        let reference: Reference = reference.parse().map_err(|error: InvalidReference| error.to_string())?;
        let entry = reference.entry(&repository(files)).map_err(|error| error.to_string())?;
        Ok((entry.id, entry.file.name))
    }

    #[test]
    fn a_reference_means_one_file() {
        let files = ["README.md", "Model-1B-Q8_0.gguf", "Model-1B-Q4_K_M.gguf", "mmproj-Model-1B-f16.gguf"];
        let is = |id: &str, file: &str| Ok((id.to_owned(), file.to_owned()));
        for reference in
            ["u/Model-1B-GGUF", "hf.co/u/Model-1B-GGUF:q4_k_m", "u/Model-1B-GGUF:latest", "u/Model-1B-GGUF:Q4_K_M@main"]
        {
            assert_eq!(chosen(reference, &files), is("model-1b:q4_k_m", "Model-1B-Q4_K_M.gguf"), "{reference}");
        }
        assert_eq!(chosen("u/Model-1B-GGUF/Model-1B-Q8_0.gguf", &files), is("model-1b:q8_0", "Model-1B-Q8_0.gguf"));
        assert_eq!(chosen("u/Model-1B-GGUF", &["x/model-1b.gguf"]), is("model-1b", "x/model-1b.gguf"));
        let missing = chosen("u/Model-1B-GGUF:Q2_K", &files).unwrap_err();
        assert_eq!(missing, "u/Model-1B-GGUF does not have Q2_K; it has Q4_K_M, Q8_0");
        assert!(chosen("u/Model-1B-GGUF", &["README.md"]).unwrap_err().contains("no GGUF file"));
    }

    #[test]
    fn a_model_in_parts_is_all_of_them() {
        let files = ["q/m-Q8_0-00002-of-00002.gguf", "q/m-Q8_0-00001-of-00002.gguf", "x/m-Q8_0-00002-of-00002.gguf"];
        for named in ["u/Model-1B-GGUF:Q8_0", "u/Model-1B-GGUF", "u/Model-1B-GGUF/q/m-Q8_0-00002-of-00002.gguf"] {
            let reference: Reference = named.parse().unwrap();
            let entry = reference.entry(&repository(&files)).unwrap();
            assert_eq!((entry.id.as_str(), entry.file.name.as_str()), ("model-1b:q8_0", files[1]), "{named}");
            let parts: Vec<&str> = entry.parts.iter().map(|part| part.name.as_str()).collect();
            assert_eq!((parts, entry.size_bytes()), (vec!["m-Q8_0-00002-of-00002.gguf"], Some(10)));
        }
        let missing = chosen("u/Model-1B-GGUF:Q8_0", &["m-Q8_0-00001-of-00002.gguf"]).unwrap_err();
        assert!(missing.contains("one of several parts, and m-Q8_0-00002-of-00002.gguf is not there"), "{missing}");
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "model",
            "",
            "u/",
            "/r",
            "u/r:",
            "u/../x",
            "u/r/x.bin",
            "u/r/x.gguf:Q4",
            "u/r@",
            "u/r:Q 4",
            "u/r?x",
            "u/r#x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        for good in ["u/r", "u/r:Q4_0", "u/r@v1.0", "u/r/x.gguf@abc"] {
            assert_eq!(good.parse::<Reference>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn quantisations_are_found_in_names() {
        for (name, quant) in [
            ("a-Q4_K_M.gguf", Some("Q4_K_M")),
            ("a.q8_0.gguf", Some("Q8_0")),
            ("x/a-IQ3_XS-00001-of-00003.gguf", Some("IQ3_XS")),
            ("gpt-oss-20b-mxfp4.gguf", Some("MXFP4")),
            ("a-bf16.gguf", Some("BF16")),
            ("qwen2.gguf", None),
            ("fast.gguf", None),
        ] {
            assert_eq!(quant_of(name).as_deref(), quant, "{name}");
        }
    }
}
