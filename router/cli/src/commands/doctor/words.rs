//! Parts of a machine in words.

use allerac_hardware::machine::{Attachment, Graphics, Modules};
use allerac_hardware::smbios::{Firmware, Module};

use crate::output::bytes;

/// Each module; none where the firmware does not tell.
pub(crate) fn modules(modules: &Modules) -> Vec<String> {
    match modules {
        Modules::Known(firmware) => firmware.modules.iter().map(module).collect(),
        Modules::Denied | Modules::Untold => Vec::new(),
    }
}

/// `2 of 4 places: 16 GiB DDR5 at 5600 MT/s, 16 GiB DDR5 at 5600 MT/s; 2 channels, 89.6 GB/s at most`.
pub(crate) fn firmware(firmware: &Firmware) -> String {
    let modules: Vec<String> = firmware.modules.iter().map(module).collect();
    let mut text = format!("{} of {} places: {}", modules.len(), firmware.slots.max(1), modules.join(", "));
    match (firmware.channels(), firmware.bytes_per_second_max()) {
        (Some(channels), Some(most)) => {
            let plural = if channels == 1 { "" } else { "s" };
            text.push_str(&format!("; {channels} channel{plural}, {:.1} GB/s at most", most as f64 / 1e9));
        }
        (Some(channels), None) => text.push_str(&format!("; {channels} channels")),
        (None, _) => {}
    }
    text
}

fn module(module: &Module) -> String {
    let mut words = vec![format!("{} GiB", module.bytes >> 30)];
    words.extend(module.kind.map(str::to_owned));
    words.extend(module.configured_mts.or(module.rated_mts).map(|mts| format!("at {mts} MT/s")));
    words.join(" ")
}

/// `NVIDIA 10de:2805 at 0000:01:00.0, by Thunderbolt or USB4, driver none`.
pub(crate) fn graphics(card: &Graphics) -> String {
    let attachment = match card.attachment {
        Attachment::Integrated => "integrated",
        Attachment::Thunderbolt => "by Thunderbolt or USB4",
        Attachment::Pcie => "by PCI Express (a slot, or OCuLink)",
    };
    let link = card.link.as_ref().map_or_else(String::new, |link| {
        format!(", {} GT/s on {} lanes of {} on {}", link.gts, link.lanes, link.gts_max, link.lanes_max)
    });
    let memory = card.memory_bytes.map_or_else(String::new, |size| format!(", {} of its own", bytes(size)));
    let driver = card.driver.as_deref().unwrap_or("none");
    format!("{} {} at {}, {attachment}{link}{memory}, driver {driver}", card.vendor, card.id, card.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_in_a_line() {
        let module = |slot: &str| Module {
            slot: slot.into(),
            bytes: 16 << 30,
            kind: Some("DDR5"),
            rated_mts: Some(5600),
            configured_mts: Some(5200),
            width_bits: Some(64),
            ..Module::default()
        };
        let firmware = Firmware { slots: 4, modules: vec![module("DIMM_A1"), module("DIMM_B1")] };
        let expected =
            "2 of 4 places: 16 GiB DDR5 at 5200 MT/s, 16 GiB DDR5 at 5200 MT/s; 2 channels, 83.2 GB/s at most";
        assert_eq!(super::firmware(&firmware), expected);
        let unnamed = Firmware { slots: 0, modules: vec![Module { bytes: 8 << 30, ..Module::default() }] };
        assert_eq!(super::firmware(&unnamed), "1 of 1 places: 8 GiB");
    }
}
