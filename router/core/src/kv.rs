//! Where engines keep what they know beyond their memory: one sealed file for each model.

use std::path::PathBuf;

use allerac_engine_link::KvFile;
use allerac_engine_link::protocol::KvKey;

/// A folder of such files, and the secret of the box that their keys are derived from.
#[derive(Clone)]
pub struct KvFolder {
    /// Where the files are.
    pub path: PathBuf,
    /// 256 random bits.
    pub secret: [u8; 32],
}

impl KvFolder {
    /// The name of the file of a model, whose own file has this digest.
    #[must_use]
    pub fn file_name(digest: &str) -> String {
        format!("sha256-{digest}.kv")
    }

    /// The file of a model, under a key that opens no other model's.
    #[must_use]
    pub fn file(&self, digest: &str) -> KvFile {
        let mut hasher = blake3::Hasher::new_derive_key("allerac 2026 key of one model's archived KV");
        hasher.update(&self.secret).update(digest.as_bytes());
        let key = KvKey(*hasher.finalize().as_bytes());
        KvFile { path: self.path.join(Self::file_name(digest)), key }
    }
}

impl std::fmt::Debug for KvFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvFolder({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_has_a_file_and_a_key_of_its_own() {
        let folder = |secret| KvFolder { path: "/kv".into(), secret: [secret; 32] };
        let file = folder(1).file("aa");
        assert_eq!(file.path, PathBuf::from("/kv/sha256-aa.kv"));
        assert_eq!(file.key, folder(1).file("aa").key);
        assert_ne!(file.key, folder(1).file("ab").key);
        assert_ne!(file.key, folder(2).file("aa").key);
        assert_eq!(format!("{:?} {:?}", folder(1), file.key), "KvFolder(/kv) KvKey(..)");
    }
}
