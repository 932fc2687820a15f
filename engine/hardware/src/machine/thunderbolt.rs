//! What is plugged into Thunderbolt and USB4 ports.

use serde::Serialize;

use crate::tree::Tree;

/// Devices and hosts alike.
const FOLDER: &str = "/sys/bus/thunderbolt/devices";

/// A device behind a Thunderbolt or USB4 port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thunderbolt {
    /// Where it is: `0-1`, or `0-301` behind another.
    pub name: String,
    /// Who made it.
    pub vendor: Option<String>,
    /// What they call it.
    pub device: Option<String>,
    /// Whether what is in it may be used.
    pub authorised: bool,
    /// 1 to 3 for Thunderbolt, 4 for USB4.
    pub generation: Option<u32>,
}

pub(super) fn read(tree: &Tree) -> Vec<Thunderbolt> {
    tree.names(FOLDER).into_iter().filter_map(|name| device(tree, name)).collect()
}

fn device(tree: &Tree, name: String) -> Option<Thunderbolt> {
    // `DOMAIN-ROUTE`: the route 0 is the machine's own end; `domain0`, `0-0:1.1` are no devices.
    let (domain, route) = name.split_once('-')?;
    domain.parse::<u32>().ok()?;
    (u64::from_str_radix(route, 16).ok()? != 0).then_some(())?;
    let path = |file: &str| format!("{FOLDER}/{name}/{file}");
    // 2 stands for one whose key was checked.
    let authorised = tree.value::<u32>(&path("authorized"))? > 0;
    let (vendor, device) = (tree.word(&path("vendor_name")), tree.word(&path("device_name")));
    Some(Thunderbolt { vendor, device, authorised, generation: tree.value(&path("generation")), name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    #[test]
    fn devices_are_told_from_the_machines_own_end() {
        let written = Written::new(&[
            ("sys/bus/thunderbolt/devices/domain0/security", "user"),
            ("sys/bus/thunderbolt/devices/0-0/authorized", "1"),
            ("sys/bus/thunderbolt/devices/0-1/authorized", "0"),
            ("sys/bus/thunderbolt/devices/0-1/vendor_name", "Razer\n"),
            ("sys/bus/thunderbolt/devices/0-1/device_name", "Core X\n"),
            ("sys/bus/thunderbolt/devices/0-1/generation", "3"),
            ("sys/bus/thunderbolt/devices/0-301/authorized", "2"),
            ("sys/bus/thunderbolt/devices/0-0:1.1/device", "x"),
        ]);
        let word = |text: &str| Some(text.to_owned());
        let first = Thunderbolt {
            name: "0-1".into(),
            vendor: word("Razer"),
            device: word("Core X"),
            authorised: false,
            generation: Some(3),
        };
        let second =
            Thunderbolt { name: "0-301".into(), vendor: None, device: None, authorised: true, generation: None };
        assert_eq!(read(&written.tree()), [first, second]);
    }
}
