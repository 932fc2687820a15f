//! How what is kept is made unreadable and unchangeable: AES-256-GCM under a key of its own for each text, so that a
//! nonce never comes twice.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of the random name of a text's key, which stands before it.
const NAME_BYTES: usize = 16;

/// The key that everything is sealed with.
#[derive(Clone)]
pub struct Seal([u8; 32]);

impl Seal {
    /// From the secret of the box.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(blake3::derive_key("allerac 2026 objects that people keep", secret))
    }

    /// Seals a text. `about` is not part of it, and opens it only when it is the same again.
    #[must_use]
    pub fn seal(&self, about: &str, text: &[u8]) -> Vec<u8> {
        let name: [u8; NAME_BYTES] = rand::random();
        let mut sealed = Vec::with_capacity(NAME_BYTES + text.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&name);
        sealed.extend_from_slice(text);
        let tag = self.key(&name).seal_in_place_separate_tag(nonce(), Aad::from(about), &mut sealed[NAME_BYTES..]);
        sealed.extend_from_slice(tag.expect("a text is far shorter than the cipher's limit").as_ref());
        sealed
    }

    /// Opens a text; `None` when anything of it was changed, or another key sealed it.
    #[must_use]
    pub fn open(&self, about: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = sealed.split_first_chunk::<NAME_BYTES>()?;
        let mut text = rest.to_vec();
        let length = self.key(name).open_in_place(nonce(), Aad::from(about), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    fn key(&self, name: &[u8; NAME_BYTES]) -> LessSafeKey {
        let key = blake3::keyed_hash(&self.0, name);
        let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("the key has the length of the cipher's");
        LessSafeKey::new(key)
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Seal(..)")
    }
}

/// Each key seals one text, so the nonce may always be the same.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_the_same_key_only() {
        let seal = Seal::new(&[1; 32]);
        let sealed = seal.seal("about", b"text");
        assert_eq!(seal.open("about", &sealed).as_deref(), Some(&b"text"[..]));
        assert!(!sealed.windows(4).any(|window| window == b"text"));
        assert_ne!(seal.seal("about", b"text"), sealed);
        assert_eq!(Seal::new(&[2; 32]).open("about", &sealed), None);
        assert_eq!(seal.open("About", &sealed), None);
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(seal.open("about", &changed), None, "at {place}");
        }
        assert_eq!(seal.open("about", b"short"), None);
    }
}
