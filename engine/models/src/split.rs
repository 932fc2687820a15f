//! Models in several files. llama.cpp's `llama-gguf-split` names them `NAME-00001-of-00003.gguf` and so on, and llama.cpp
//! finds the others by the name of the first.

use std::path::{Path, PathBuf};

use crate::gguf::{GgufError, Header};

/// Files of one model. A model of 500 GB in files of 2 GB has some hundreds.
const PARTS_MAX: u32 = 1000;
/// Digits of a number in a name.
const DIGITS: usize = 5;
const END: &str = ".gguf";

/// What the name of a part says: how it begins, which it is, from 1 on, and of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartName<'a> {
    pub(crate) stem: &'a str,
    pub(crate) number: u32,
    pub(crate) count: u32,
}

impl<'a> PartName<'a> {
    /// `None` for the name of a model in one file.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let end = name.len().checked_sub(END.len())?;
        let bare = name.get(..end).filter(|_| name[end..].eq_ignore_ascii_case(END))?;
        let (rest, count) = bare.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let parse = |digits: &str| {
            let plain = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|_| plain)
        };
        let (number, count) = (parse(number)?, parse(count)?);
        (1 <= number && number <= count && count <= PARTS_MAX).then_some(Self { stem, number, count })
    }

    /// The names of all parts, in order.
    pub(crate) fn all(self) -> impl Iterator<Item = String> {
        (1..=self.count).map(move |number| name(self.stem, number, self.count))
    }
}

fn name(stem: &str, number: u32, count: u32) -> String {
    format!("{stem}-{number:05}-of-{count:05}{END}")
}

/// The names of the other parts, from the folder that the first is in; none for a model in one file.
pub(crate) fn others(first: &str) -> Vec<String> {
    let own = first.rsplit('/').next().unwrap_or(first);
    PartName::parse(own).map_or_else(Vec::new, |part| part.all().skip(1).collect())
}

/// All files of a model, in order, by any of them: itself where it is the only one.
pub fn all_parts(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str());
    match name.and_then(PartName::parse) {
        Some(part) => part.all().map(|name| path.with_file_name(name)).collect(),
        None => vec![path.to_owned()],
    }
}

/// Where parts lie under names by which llama.cpp finds them, below a folder of their own.
pub(crate) fn laid_out(folder: &Path, count: usize) -> Vec<PathBuf> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    (1..=count).map(|number| folder.join(name("model", number, count))).collect()
}

impl Header {
    /// Reads the header of a model in these files, in order: what the first says of the model, and the tensors of all.
    ///
    /// # Errors
    /// [`GgufError`] saying what is wrong, also where they are not all parts of one model.
    pub fn read_all<P: AsRef<Path>>(files: &[P]) -> Result<Self, GgufError> {
        let (first, others) = files.split_first().ok_or(GgufError::Damaged("it has no files"))?;
        let mut whole = Self::read(first.as_ref())?;
        whole.check_part(0, files.len())?;
        for (place, path) in (1..).zip(others) {
            let part = Self::read(path.as_ref())?;
            part.check_part(place, files.len())?;
            whole.join(part)?;
        }
        Ok(whole)
    }

    fn check_part(&self, place: u64, files: usize) -> Result<(), GgufError> {
        let count = self.number("split.count").unwrap_or(0).max(1);
        if count == files as u64 && (files == 1 || self.number("split.no") == Some(place)) {
            Ok(())
        } else if files == 1 {
            Err(GgufError::Damaged("it is one of several parts, and the others do not lie beside it under their names"))
        } else {
            Err(GgufError::Damaged("its parts are not those of one model"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        assert_eq!(PartName::parse("a-b-00002-of-00003.gguf"), Some(PartName { stem: "a-b", number: 2, count: 3 }));
        for name in [
            "a.gguf",
            "a-00001-of-00003",
            "a-0001-of-0003.gguf",
            "a-00004-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-00001-of-99999.gguf",
            "a-+0001-of-00003.gguf",
            "00001-of-00002.gguf",
            "",
            "ä.gguf",
        ] {
            assert_eq!(PartName::parse(name), None, "{name}");
        }
        assert_eq!(others("q4/m-00001-of-00003.gguf"), ["m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]);
        assert_eq!(others("m.gguf"), [""; 0]);
        assert_eq!(
            all_parts(Path::new("/x/m-00002-of-00002.gguf")),
            [PathBuf::from("/x/m-00001-of-00002.gguf"), PathBuf::from("/x/m-00002-of-00002.gguf")]
        );
        assert_eq!(all_parts(Path::new("/x/m.gguf")), [PathBuf::from("/x/m.gguf")]);
        assert_eq!(laid_out(Path::new("/s"), 2)[1], PathBuf::from("/s/model-00002-of-00002.gguf"));
    }
}
