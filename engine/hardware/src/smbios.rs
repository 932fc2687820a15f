//! Memory modules as the firmware describes them: the table of the System Management BIOS (DMTF DSP0134, version 3.7).
//!
//! A parser of our own: of some fifty kinds of structures two matter here, and firmware writes nonsense, so every read is
//! checked and none is unsafe. Serial numbers are passed over.

use serde::Serialize;

/// What a structure begins with: its kind, its length and its handle.
const HEADER: usize = 4;
/// The kinds of structures that matter, section 7.
const PHYSICAL_MEMORY_ARRAY: u8 = 16;
const MEMORY_DEVICE: u8 = 17;
const END_OF_TABLE: u8 = 127;
/// Of memory arrays those that are the system's memory, section 7.17.2.
const SYSTEM_MEMORY: u8 = 3;
/// The most structures that are looked at: a large server has some hundreds.
const STRUCTURES_MAX: usize = 4096;

/// What the firmware says of the memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Firmware {
    /// Places for modules.
    pub slots: u32,
    /// The modules that are there.
    pub modules: Vec<Module>,
}

/// A module, or chips that are soldered and described like one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Module {
    /// Where it is, in the words of the maker of the board.
    pub slot: String,
    /// Its bank, in the same words.
    pub bank: String,
    /// Its size.
    pub bytes: u64,
    /// `DDR4`, `LPDDR5`; `None` for what is none of the usual ones.
    pub kind: Option<&'static str>,
    /// Whether it is soldered, so that nobody can put in another one.
    pub soldered: bool,
    /// What it is made for, in million transfers a second.
    pub rated_mts: Option<u32>,
    /// At what it runs.
    pub configured_mts: Option<u32>,
    /// Bits that are transferred at once, without those that correct errors.
    pub width_bits: Option<u32>,
    /// Who made it.
    pub manufacturer: Option<String>,
    /// What its maker calls it.
    pub part_number: Option<String>,
}

impl Module {
    /// The memory channel it is on, where its place names one: `ChannelA-DIMM0`, `DIMM_B1`, `P0 CHANNEL A`, `A1_DIMM0`.
    #[must_use]
    pub fn channel(&self) -> Option<String> {
        channel(&self.slot).or_else(|| channel(&self.bank))
    }
}

impl Firmware {
    /// Reads a table as `/sys/firmware/dmi/tables/DMI` has it. What is cut short or makes no sense is passed over.
    #[must_use]
    pub fn parse(table: &[u8]) -> Self {
        let mut firmware = Self::default();
        let mut rest = table;
        for _ in 0..STRUCTURES_MAX {
            let Some((structure, after)) = Structure::first(rest) else { break };
            match structure.kind() {
                END_OF_TABLE => break,
                PHYSICAL_MEMORY_ARRAY if structure.byte(5) == Some(SYSTEM_MEMORY) => {
                    firmware.slots = firmware.slots.saturating_add(structure.word(0x0D).unwrap_or(0).into());
                }
                MEMORY_DEVICE => firmware.modules.extend(structure.module()),
                _ => {}
            }
            rest = after;
        }
        firmware
    }

    /// How many channels have modules; `None` where the places do not say.
    #[must_use]
    pub fn channels(&self) -> Option<usize> {
        let mut channels = self.modules.iter().map(Module::channel).collect::<Option<Vec<_>>>()?;
        channels.sort();
        channels.dedup();
        (!channels.is_empty()).then_some(channels.len())
    }

    /// The most that all channels together can transfer, in bytes a second; `None` where something is not told.
    #[must_use]
    pub fn bytes_per_second_max(&self) -> Option<u64> {
        let slowest = self.modules.iter().map(|module| module.configured_mts).min()??;
        // A channel has as many bits as its module; modules on the same one take turns.
        let width = self.modules.iter().map(|module| module.width_bits).min()??;
        let channels = u64::try_from(self.channels()?).ok()?;
        Some(channels.saturating_mul(u64::from(width / 8)).saturating_mul(u64::from(slowest)).saturating_mul(1_000_000))
    }
}

/// A structure and the words behind it.
struct Structure<'a> {
    formatted: &'a [u8],
    words: &'a [u8],
}

impl<'a> Structure<'a> {
    /// The first structure of a table, and what comes after it, section 6.1.2.
    fn first(table: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = usize::from(*table.get(1)?);
        if length < HEADER {
            return None;
        }
        let (formatted, behind) = table.split_at_checked(length)?;
        let end = behind.windows(2).position(|pair| pair == [0, 0])?;
        Some((Self { formatted, words: &behind[..end] }, &behind[end + 2..]))
    }

    fn kind(&self) -> u8 {
        self.formatted[0]
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.formatted.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.formatted.get(at..at + 2)?.try_into().ok()?))
    }

    fn double(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.formatted.get(at..at + 4)?.try_into().ok()?))
    }

    /// The text whose number stands there; they count from 1. Firmware fills in its own words where it knows nothing.
    fn text(&self, at: usize) -> Option<String> {
        const NOTHING: [&str; 8] = [
            "unknown",
            "not specified",
            "none",
            "no dimm",
            "undefined",
            "to be filled by o.e.m.",
            "default string",
            "n/a",
        ];
        let number = usize::from(self.byte(at)?).checked_sub(1)?;
        let word = String::from_utf8_lossy(self.words.split(|byte| *byte == 0).nth(number)?);
        let word: String = word.trim().chars().filter(|c| !c.is_control()).collect();
        (!word.is_empty() && !NOTHING.contains(&word.to_lowercase().as_str())).then_some(word)
    }

    /// A memory device, section 7.18; `None` for an empty place.
    fn module(&self) -> Option<Module> {
        let bytes = self.size_bytes()?;
        let form = self.byte(0x0E).unwrap_or(0);
        Some(Module {
            slot: self.text(0x10).unwrap_or_default(),
            bank: self.text(0x11).unwrap_or_default(),
            bytes,
            kind: kind(self.byte(0x12)?),
            // A row of chips, a die: no socket.
            soldered: matches!(form, 0x0B | 0x10),
            rated_mts: self.speed(0x15, 0x54),
            configured_mts: self.speed(0x20, 0x58),
            width_bits: self.word(0x0A).filter(|bits| (8..=1024).contains(bits)).map(u32::from),
            manufacturer: self.text(0x17),
            part_number: self.text(0x1A),
        })
    }

    fn size_bytes(&self) -> Option<u64> {
        let bytes = match self.word(0x0C)? {
            0 | 0xFFFF => 0,
            0x7FFF => u64::from(self.double(0x1C)? & 0x7FFF_FFFF) << 20,
            kib if kib & 0x8000 != 0 => u64::from(kib & 0x7FFF) << 10,
            mib => u64::from(mib) << 20,
        };
        (bytes > 0).then_some(bytes)
    }

    /// A speed of two bytes, or of four elsewhere when these do not suffice.
    fn speed(&self, at: usize, extended: usize) -> Option<u32> {
        let speed = match self.word(at)? {
            0xFFFF => self.double(extended)? & 0x7FFF_FFFF,
            speed => speed.into(),
        };
        (speed > 0).then_some(speed)
    }
}

/// Section 7.18.2.
fn kind(number: u8) -> Option<&'static str> {
    Some(match number {
        0x13 => "DDR2",
        0x18 => "DDR3",
        0x1A => "DDR4",
        0x1D => "LPDDR3",
        0x1E => "LPDDR4",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => return None,
    })
}

/// The channel that a place names. Where a board has several controllers, each has a channel of the same name.
fn channel(place: &str) -> Option<String> {
    let upper = place.to_uppercase();
    let parts: Vec<&str> = upper.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let controller = parts.iter().find(|part| part.starts_with("CONTROLLER")).copied().unwrap_or_default();
    let processor = parts.iter().find(|part| is_processor(part)).copied().unwrap_or_default();
    let named = parts.iter().enumerate().find_map(|(index, part)| {
        let name = part.strip_prefix("CHANNEL")?;
        if name.is_empty() { parts.get(index + 1).copied() } else { Some(name) }
    });
    // Without that word: a letter and the number of the place on the channel.
    let short = || {
        let dimm = parts.iter().any(|part| part.starts_with("DIMM"));
        let place = parts.iter().map(|part| part.strip_prefix("DIMM").unwrap_or(part));
        let letter = |part: &str| {
            let mut letters = part.chars();
            let first = letters.next().filter(|letter| ('A'..='H').contains(letter))?;
            letters.as_str().parse::<u8>().ok().map(|_| first.to_string())
        };
        if dimm { place.into_iter().find_map(letter) } else { None }
    };
    let channel = named.map(str::to_owned).or_else(short).filter(|name| name.len() <= 2)?;
    Some(format!("{processor}{controller}{channel}"))
}

/// `P0`, `CPU1`: in front of a channel, where a board has several processors.
fn is_processor(part: &str) -> bool {
    let number = part.strip_prefix("CPU").or_else(|| part.strip_prefix('P'));
    number.is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
#[path = "smbios_tests.rs"]
pub(crate) mod tests;
