//! The file: blocks of equal size, each with a header, so that nothing is ever moved and no list of what is where has
//! to be kept in step. An entry is there when all its blocks are. What is damaged, stale or half overwritten does not
//! open, and its blocks are free.
//!
//! A block is a [`Header`], in an entry's first block the sealed description (whose sequence it is), then a sealed
//! piece of the KV.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use allerac_engine_core::Kept;
use allerac_engine_core::archive::AfterPrompt;
use allerac_engine_core::request::{Scope, TokenId};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::seal::{Key, SealId, Sealer, TAG_BYTES};

/// Small enough to waste little, large enough to read the headers of a large file at once.
pub const BLOCK_BYTES: usize = 2 << 20;
/// The longest description; a context of a million tokens.
const DESCRIPTION_BYTES_MAX: usize = BLOCK_BYTES / 2;
/// What is left free for others on the file system.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Begins every block; the last byte is the version.
const MAGIC: [u8; 8] = *b"ALLRKV\0\x02";
/// The number of the sealed description among the pieces.
const DESCRIPTION: u32 = u32::MAX;

/// The part of an entry that is read at the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) scope: Scope,
    pub(crate) common: u32,
    pub(crate) tokens: Vec<TokenId>,
    after_prompt: Option<u32>,
    state_bytes: u64,
}

/// Begins a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    id: SealId,
    /// Orders entries by age.
    age: u64,
    /// Which of how many blocks of the entry this is.
    index: u32,
    count: u32,
    /// Lengths of what follows, sealed.
    description: u32,
    piece: u32,
}

const HEADER_BYTES: usize = 8 + 16 + 8 + 4 * 4;

/// An entry's blocks, in order.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    id: SealId,
    blocks: Vec<u32>,
}

/// The file of one model.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: File,
    key: Key,
    free: BTreeSet<u32>,
    /// Blocks in the file.
    blocks: u32,
    blocks_max: u32,
    age: u64,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.id);
        bytes[24..32].copy_from_slice(&self.age.to_le_bytes());
        for (place, number) in [self.index, self.count, self.description, self.piece].into_iter().enumerate() {
            bytes[32 + 4 * place..][..4].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` for what is no header, or says what cannot be.
    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number = |place: usize| u32::from_le_bytes(bytes[place..place + 4].try_into().expect("four bytes"));
        let header = Self {
            id: bytes[8..24].try_into().expect("sixteen bytes"),
            age: u64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes")),
            index: number(32),
            count: number(36),
            description: number(40),
            piece: number(44),
        };
        let fits = HEADER_BYTES as u64 + u64::from(header.description) + u64::from(header.piece) <= BLOCK_BYTES as u64;
        let has_description = (header.index == 0) == (header.description > 0);
        let is_valid = bytes[..8] == MAGIC && header.index < header.count && fits && has_description;
        is_valid.then_some(header)
    }
}

impl BlockFile {
    /// Reads what is in the file; the entries that are whole, oldest first.
    pub(crate) fn open(file: File, key: Key, bytes_max: u64) -> io::Result<(Self, Vec<(Description, Place)>)> {
        let block_count = |blocks: u64| u32::try_from(blocks).unwrap_or(u32::MAX);
        // The last block of an entry is written as far as it is used.
        let blocks = block_count(file.metadata()?.len().div_ceil(BLOCK_BYTES as u64));
        let blocks_max = block_count(bytes_max / BLOCK_BYTES as u64);
        let mut this = Self { file, key, free: (0..blocks).collect(), blocks, blocks_max, age: 0 };
        let mut found: HashMap<SealId, Vec<Option<(Header, u32)>>> = HashMap::new();
        for block in 0..blocks {
            let Some(header) = this.header(block) else { continue };
            // No entry has more blocks than there are.
            if header.count > blocks {
                continue;
            }
            let places = found.entry(header.id).or_insert_with(|| vec![None; header.count as usize]);
            if let Some(place) = places.get_mut(header.index as usize) {
                *place = Some((header, block));
            }
        }
        let mut entries = Vec::new();
        for (id, places) in found {
            let Some(places) = places.into_iter().collect::<Option<Vec<_>>>() else { continue };
            let Some(description) = this.describe(places[0]) else { continue };
            this.age = this.age.max(places[0].0.age);
            let blocks: Vec<u32> = places.iter().map(|(_, block)| *block).collect();
            entries.push((places[0].0.age, description, Place { id, blocks }));
        }
        entries.sort_by_key(|(age, ..)| *age);
        for (_, _, place) in &entries {
            this.free.retain(|block| !place.blocks.contains(block));
        }
        Ok((this, entries.into_iter().map(|(_, description, place)| (description, place)).collect()))
    }

    fn header(&self, block: u32) -> Option<Header> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, offset(block)).ok()?;
        Header::from_bytes(&bytes)
    }

    fn describe(&self, (header, block): (Header, u32)) -> Option<Description> {
        let mut bytes = vec![0; header.description as usize];
        self.file.read_exact_at(&mut bytes, offset(block) + HEADER_BYTES as u64).ok()?;
        self.key.of_entry(&header.id).open(DESCRIPTION, &header.to_bytes(), &mut bytes, 0)?;
        postcard::from_bytes(&bytes).ok()
    }

    /// How many blocks an entry takes; `None` for one that is too large.
    pub(crate) fn blocks_of(kept: &Kept) -> Option<u32> {
        let description = sealed_description(kept)?;
        let first = BLOCK_BYTES - HEADER_BYTES - description - TAG_BYTES;
        let rest = content_bytes(kept).saturating_sub(first);
        u32::try_from(1 + rest.div_ceil(BLOCK_BYTES - HEADER_BYTES - TAG_BYTES)).ok()
    }

    /// Blocks that can still be written.
    pub(crate) fn room(&self) -> u32 {
        self.blocks_max.saturating_sub(self.blocks) + u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// When the disk is full or fails; then nothing of the entry is there.
    pub(crate) fn write(&mut self, kept: &Kept) -> io::Result<Place> {
        let count = Self::blocks_of(kept).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut id = SealId::default();
        rand::rng().fill(&mut id[..]);
        self.age += 1;
        let sealer = self.key.of_entry(&id);
        let mut content = Content::new(kept);
        let mut place = Place { id, blocks: Vec::new() };
        for index in 0..count {
            let written = self.take_block().and_then(|block| {
                place.blocks.push(block);
                let bytes =
                    content.next_block(&sealer, Header { id, age: self.age, index, count, description: 0, piece: 0 });
                self.file.write_all_at(&bytes, offset(block))
            });
            if let Err(error) = written {
                self.remove(&place);
                return Err(error);
            }
        }
        Ok(place)
    }

    /// A block to write to, that the file has or grows by.
    fn take_block(&mut self) -> io::Result<u32> {
        if let Some(block) = self.free.pop_first() {
            return Ok(block);
        }
        let system = rustix::fs::fstatvfs(&self.file)?;
        if self.blocks >= self.blocks_max || system.f_bavail.saturating_mul(system.f_frsize) < FREE_BYTES_MIN {
            self.blocks_max = self.blocks;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blocks += 1;
        Ok(self.blocks - 1)
    }

    /// Reads an entry; `None` when anything of it is damaged.
    pub(crate) fn read(&self, place: &Place) -> Option<Kept> {
        let sealer = self.key.of_entry(&place.id);
        let first = self.header(place.blocks[0]).filter(|header| header.id == place.id)?;
        let description = self.describe((first, place.blocks[0]))?;
        let mut content = Vec::with_capacity(place.blocks.len() * BLOCK_BYTES);
        for (index, block) in (0u32..).zip(&place.blocks) {
            let header = self.header(*block).filter(|header| header.id == place.id && header.index == index)?;
            let from = content.len();
            content.resize(from + header.piece as usize, 0);
            let at = offset(*block) + HEADER_BYTES as u64 + u64::from(header.description);
            self.file.read_exact_at(&mut content[from..], at).ok()?;
            sealer.open(index, &header.to_bytes(), &mut content, from)?;
        }
        let state_bytes = usize::try_from(description.state_bytes).ok()?;
        let logits = content.split_off(state_bytes.min(content.len()));
        let after_prompt = description.after_prompt.map(|length| AfterPrompt { length, logits: floats(&logits) });
        let Description { scope, common, tokens, .. } = description;
        Some(Kept { scope, common, tokens, after_prompt, state: content })
    }

    /// Forgets an entry, also for the next start.
    pub(crate) fn remove(&mut self, place: &Place) {
        if let Some(first) = place.blocks.first() {
            // Where even this fails the entry may come back, which does no harm.
            let _ = self.file.write_all_at(&[0; HEADER_BYTES], offset(*first));
        }
        self.free.extend(&place.blocks);
    }
}

impl Place {
    /// Blocks it takes.
    pub(crate) fn blocks(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }
}

/// What of an entry is still to be written: the KV, then the logits.
struct Content<'a> {
    kept: &'a Kept,
    logits: Vec<u8>,
    from: usize,
}

impl<'a> Content<'a> {
    fn new(kept: &'a Kept) -> Self {
        let logits = kept.after_prompt.iter().flat_map(|after| &after.logits);
        Self { kept, logits: logits.flat_map(|logit| logit.to_le_bytes()).collect(), from: 0 }
    }

    /// The next block, whole; `header` lacks the lengths.
    fn next_block(&mut self, sealer: &Sealer, header: Header) -> Vec<u8> {
        let description = if header.index == 0 { describe(self.kept) } else { Vec::new() };
        let sealed = if header.index == 0 { description.len() + TAG_BYTES } else { 0 };
        let all = self.kept.state.len() + self.logits.len();
        let to = all.min(self.from + BLOCK_BYTES - HEADER_BYTES - sealed - TAG_BYTES);
        let number = |length: usize| u32::try_from(length).expect("a block is short");
        let header = Header { description: number(sealed), piece: number(to - self.from + TAG_BYTES), ..header };
        let about = header.to_bytes();
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        block.extend_from_slice(&about);
        if header.index == 0 {
            block.extend_from_slice(&description);
            sealer.seal(DESCRIPTION, &about, &mut block, HEADER_BYTES);
        }
        let (begin, state) = (block.len(), &self.kept.state);
        block.extend_from_slice(&state[self.from.min(state.len())..to.min(state.len())]);
        let logits = |place: usize| place.saturating_sub(state.len());
        block.extend_from_slice(&self.logits[logits(self.from)..logits(to)]);
        sealer.seal(header.index, &about, &mut block, begin);
        self.from = to;
        block
    }
}

fn describe(kept: &Kept) -> Vec<u8> {
    let description = Description {
        scope: kept.scope,
        common: kept.common,
        tokens: kept.tokens.clone(),
        after_prompt: kept.after_prompt.as_ref().map(|after| after.length),
        state_bytes: kept.state.len() as u64,
    };
    postcard::to_stdvec(&description).expect("plain data can be written")
}

fn sealed_description(kept: &Kept) -> Option<usize> {
    let bytes = describe(kept).len() + TAG_BYTES;
    (bytes <= DESCRIPTION_BYTES_MAX).then_some(bytes)
}

/// Bytes of KV and logits.
fn content_bytes(kept: &Kept) -> usize {
    kept.state.len() + kept.after_prompt.as_ref().map_or(0, |after| 4 * after.logits.len())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect()
}

fn offset(block: u32) -> u64 {
    u64::from(block) * BLOCK_BYTES as u64
}
