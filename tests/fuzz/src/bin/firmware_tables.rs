//! Tables of the firmware: what a board's maker wrote, or a virtual machine made up.
#![no_main]

use allerac_hardware::smbios::Firmware;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let firmware = Firmware::parse(bytes);
    // A structure has four bytes and two behind it.
    assert!(firmware.modules.len() <= bytes.len() / 6);
    assert!(firmware.modules.iter().all(|module| module.bytes > 0));
    let _ = (firmware.channels(), firmware.bytes_per_second_max());
});
