//! How what is written is made unreadable and unchangeable: AES-256-GCM under a key of its own for each entry, so that
//! a nonce, which is the number of a piece, never comes twice.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes that sealing adds.
pub(crate) const TAG_BYTES: usize = 16;

/// Names an entry on disk; random.
pub(crate) type SealId = [u8; 16];

/// The key that everything in one file is sealed with. It is derived from what makes the content usable, so that
/// whatever was written for another model, or by another version, cannot be read.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// From a secret of the box, and a text that says for what.
    #[must_use]
    pub fn derive(secret: &[u8; 32], purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("allerac 2026 archived KV of sequences");
        hasher.update(secret).update(purpose.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// What seals one entry.
    pub(crate) fn of_entry(&self, id: &SealId) -> Sealer {
        let key = blake3::keyed_hash(&self.0, id);
        let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("the key has the length of the cipher's");
        Sealer(LessSafeKey::new(key))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Seals the pieces of one entry.
pub(crate) struct Sealer(LessSafeKey);

impl Sealer {
    /// Encrypts `data` from `from` on in place and appends its tag. `about` is not encrypted but cannot be changed
    /// either.
    pub(crate) fn seal(&self, piece: u32, about: &[u8], data: &mut Vec<u8>, from: usize) {
        let sealed = self.0.seal_in_place_separate_tag(nonce(piece), Aad::from(about), &mut data[from..]);
        data.extend_from_slice(sealed.expect("a piece is far shorter than the cipher's limit").as_ref());
    }

    /// Decrypts what was appended to `data` from `from` on; `None` when anything of it was changed.
    pub(crate) fn open(&self, piece: u32, about: &[u8], data: &mut Vec<u8>, from: usize) -> Option<()> {
        let length = self.0.open_in_place(nonce(piece), Aad::from(about), &mut data[from..]).ok()?.len();
        data.truncate(from + length);
        Some(())
    }
}

fn nonce(piece: u32) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&piece.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_the_same_key_only() {
        let sealer = |secret: u8, purpose: &str| Key::derive(&[secret; 32], purpose).of_entry(&[5; 16]);
        let mut sealed = b"..text".to_vec();
        sealer(1, "a").seal(3, b"about", &mut sealed, 2);
        assert_eq!(sealed.len(), 6 + TAG_BYTES);
        assert_ne!(&sealed[2..6], b"text");
        let open = |sealer: &Sealer, piece, about: &[u8], mut data: Vec<u8>| {
            sealer.open(piece, about, &mut data, 2).map(|()| data)
        };
        assert_eq!(open(&sealer(1, "a"), 3, b"about", sealed.clone()).as_deref(), Some(&b"..text"[..]));
        assert_eq!(open(&sealer(2, "a"), 3, b"about", sealed.clone()), None);
        assert_eq!(open(&sealer(1, "b"), 3, b"about", sealed.clone()), None);
        assert_eq!(open(&sealer(1, "a"), 4, b"about", sealed.clone()), None);
        assert_eq!(open(&sealer(1, "a"), 3, b"About", sealed.clone()), None);
        for place in 2..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(open(&sealer(1, "a"), 3, b"about", changed), None);
        }
    }
}
