use proptest::prelude::*;

use super::*;

/// What a test wants of a module; the rest is as firmware usually has it.
pub(crate) struct Wanted<'a> {
    pub(crate) slot: &'a str,
    pub(crate) bank: &'a str,
    pub(crate) mib: u32,
    pub(crate) kind: u8,
    pub(crate) form: u8,
    pub(crate) rated: u16,
    pub(crate) configured: u16,
    pub(crate) bits: u16,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        let (kind, form, rated, configured) = (0x1A, 0x09, 3200, 3200);
        Self { slot: "ChannelA-DIMM0", bank: "BANK 0", mib: 16384, kind, form, rated, configured, bits: 64 }
    }
}

/// A structure and its words, as DSP0134 has them.
pub(crate) fn structure(kind: u8, fields: &[u8], words: &[&str]) -> Vec<u8> {
    let length = u8::try_from(HEADER + fields.len()).unwrap();
    let mut bytes = vec![kind, length, 0x34, 0x12];
    bytes.extend(fields);
    words.iter().for_each(|word| bytes.extend([word.as_bytes(), &[0]].concat()));
    bytes.extend(if words.is_empty() { &[0, 0][..] } else { &[0][..] });
    bytes
}

pub(crate) fn device(wanted: &Wanted) -> Vec<u8> {
    let mut fields = vec![0; 0x5C - HEADER];
    let mut put = |at: usize, bytes: &[u8]| fields[at - HEADER..at - HEADER + bytes.len()].copy_from_slice(bytes);
    put(0x08, &72u16.to_le_bytes());
    put(0x0A, &wanted.bits.to_le_bytes());
    put(0x0C, &u16::try_from(wanted.mib).ok().filter(|mib| *mib < 0x7FFF).unwrap_or(0x7FFF).to_le_bytes());
    put(0x0E, &[wanted.form]);
    put(0x10, &[1, 2, wanted.kind]);
    put(0x15, &wanted.rated.to_le_bytes());
    put(0x17, &[3, 4, 0, 5]);
    put(0x1C, &wanted.mib.to_le_bytes());
    put(0x20, &wanted.configured.to_le_bytes());
    structure(MEMORY_DEVICE, &fields, &[wanted.slot, wanted.bank, "Kingston", "SERIAL", "KF432C16  "])
}

fn array(slots: u16, used_as: u8) -> Vec<u8> {
    let slots = slots.to_le_bytes();
    structure(PHYSICAL_MEMORY_ARRAY, &[3, used_as, 3, 0, 0, 0, 4, 0xFE, 0xFF, slots[0], slots[1]], &[])
}

/// The table of a board with so many slots and these modules.
pub(crate) fn table(slots: u16, modules: &[Wanted]) -> Vec<u8> {
    let mut table = structure(0, &[1, 2], &["American Megatrends", "1.0"]);
    table.extend(array(slots, SYSTEM_MEMORY));
    modules.iter().for_each(|wanted| table.extend(device(wanted)));
    let empty = slots.saturating_sub(u16::try_from(modules.len()).unwrap());
    let place = Wanted { mib: 0, slot: "DIMM", ..Wanted::default() };
    (0..empty).for_each(|_| table.extend(device(&place)));
    table.extend(structure(END_OF_TABLE, &[], &[]));
    table
}

#[test]
fn modules_are_read_and_empty_places_counted() {
    let mut bytes = table(4, &[Wanted { mib: 32768, ..Wanted::default() }]);
    // What stands behind the end is not of the table.
    bytes.extend(device(&Wanted::default()));
    let firmware = Firmware::parse(&bytes);
    let expected = Module {
        slot: "ChannelA-DIMM0".into(),
        bank: "BANK 0".into(),
        bytes: 32 << 30,
        kind: Some("DDR4"),
        soldered: false,
        rated_mts: Some(3200),
        configured_mts: Some(3200),
        width_bits: Some(64),
        manufacturer: Some("Kingston".into()),
        part_number: Some("KF432C16".into()),
    };
    assert_eq!((firmware.slots, firmware.modules), (4, vec![expected]));
    // Memory that is no main memory has places of its own.
    assert_eq!(Firmware::parse(&array(2, 5)).slots, 0);
}

#[test]
fn sizes_and_speeds_have_two_forms() {
    let mut small = device(&Wanted { mib: 512, ..Wanted::default() });
    assert_eq!(Firmware::parse(&small).modules[0].bytes, 512 << 20);
    small[0x0C..0x0E].copy_from_slice(&(0x8000u16 | 640).to_le_bytes());
    assert_eq!(Firmware::parse(&small).modules[0].bytes, 640 << 10);
    let mut fast = device(&Wanted { rated: 0xFFFF, ..Wanted::default() });
    fast[0x54..0x58].copy_from_slice(&70_000u32.to_le_bytes());
    assert_eq!(Firmware::parse(&fast).modules[0].rated_mts, Some(70_000));
    // Before version 2.7 a structure ends earlier: no speed at which it runs.
    let (fields, words) = (&device(&Wanted::default())[HEADER..0x1B], ["DIMM0", "", "Unknown", "", "Default string"]);
    let old = Firmware::parse(&structure(MEMORY_DEVICE, fields, &words));
    let module = &old.modules[0];
    assert_eq!((module.configured_mts, module.manufacturer.clone(), module.channel()), (None, None, None));
    assert_eq!(module.rated_mts, Some(3200));
}

#[test]
fn channels_follow_from_what_boards_call_their_places() {
    for (slot, bank, expected) in [
        ("Controller0-ChannelA-DIMM0", "BANK 0", Some("CONTROLLER0A")),
        ("Controller1-ChannelA-DIMM0", "BANK 1", Some("CONTROLLER1A")),
        ("ChannelB-DIMM1", "BANK 3", Some("B")),
        ("DIMM_A1", "BANK 0", Some("A")),
        ("A1_DIMM0", "A1_BANK0", Some("A")),
        ("DIMMB2", "", Some("B")),
        ("DIMM 0", "P0 CHANNEL A", Some("P0A")),
        ("DIMM 1", "P0 CHANNEL B", Some("P0B")),
        ("DIMM0", "BANK 0", None),
        ("M1", "BANK 0", None),
        ("", "", None),
    ] {
        let module = Module { slot: slot.into(), bank: bank.into(), ..Module::default() };
        assert_eq!(module.channel().as_deref(), expected, "{slot} {bank}");
    }
}

#[test]
fn bandwidth_is_that_of_the_slowest_on_all_channels() {
    let modules = |slots: &[&'static str]| {
        let wanted: Vec<Wanted> = slots.iter().map(|slot| Wanted { slot, ..Wanted::default() }).collect();
        Firmware::parse(&table(4, &wanted))
    };
    let two = modules(&["ChannelA-DIMM0", "ChannelB-DIMM0"]);
    assert_eq!((two.channels(), two.bytes_per_second_max()), (Some(2), Some(51_200_000_000)));
    let same = modules(&["ChannelA-DIMM0", "ChannelA-DIMM1"]);
    assert_eq!((same.channels(), same.bytes_per_second_max()), (Some(1), Some(25_600_000_000)));
    assert_eq!(modules(&["ChannelA-DIMM0", "DIMM 7"]).channels(), None);
    assert_eq!(Firmware::default().bytes_per_second_max(), None);
}

#[test]
fn a_table_cut_anywhere_is_read_as_far_as_it_goes() {
    let whole = table(2, &[Wanted::default(), Wanted { slot: "ChannelB-DIMM0", ..Wanted::default() }]);
    let all = Firmware::parse(&whole).modules;
    for length in 0..whole.len() {
        let some = Firmware::parse(&whole[..length]).modules;
        assert!(all.starts_with(&some), "{length}");
    }
}

proptest! {
    #[test]
    fn no_table_is_too_strange(mut bytes in proptest::collection::vec(any::<u8>(), 0..512), at in any::<usize>()) {
        let firmware = Firmware::parse(&bytes);
        prop_assert!(firmware.modules.len() <= bytes.len() / HEADER);
        let good = table(2, &[Wanted::default()]);
        bytes.splice(at % (bytes.len() + 1)..at % (bytes.len() + 1), good);
        let _ = Firmware::parse(&bytes).bytes_per_second_max();
    }
}
