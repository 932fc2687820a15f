//! Graphics processors on the PCI bus.

use serde::Serialize;

use crate::tree::Tree;

/// Devices on the PCI bus.
const FOLDER: &str = "/sys/bus/pci/devices";
/// Base class of display controllers (PCI code and ID assignment specification, section 1.4).
const DISPLAY: u32 = 0x03;
/// Flags of a resource, as the kernel numbers them in `include/linux/ioport.h`: that it is memory.
const IORESOURCE_MEM: u64 = 0x200;

/// A graphics processor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Graphics {
    /// Where on the bus it is: `0000:01:00.0`.
    pub address: String,
    /// Who made it.
    pub vendor: String,
    /// The maker's number and the device's, as lists of devices have them: `10de:2805`.
    pub id: String,
    /// How it is attached.
    pub attachment: Attachment,
    /// The driver that has it; `None` where none does.
    pub driver: Option<String>,
    /// Memory of its own, where its driver tells.
    pub memory_bytes: Option<u64>,
    /// The largest piece of its memory that the processor sees at once.
    pub window_bytes: u64,
    /// How fast it is connected, where it is connected by a link of its own.
    pub link: Option<Link>,
}

/// How a graphics processor is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// Part of the processor, with which it shares memory.
    Integrated,
    /// By a Thunderbolt or USB4 port.
    Thunderbolt,
    /// In a slot, or by a cable that is a slot to the machine, as OCuLink is.
    Pcie,
}

/// A PCI Express link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// Billion transfers a second and lane.
    pub gts: f64,
    /// Lanes.
    pub lanes: u32,
    /// The most that the device could do.
    pub gts_max: f64,
    /// The same of lanes.
    pub lanes_max: u32,
}

pub(crate) fn read(tree: &Tree) -> Vec<Graphics> {
    tree.names(FOLDER).into_iter().filter_map(|address| graphics(tree, address)).collect()
}

fn graphics(tree: &Tree, address: String) -> Option<Graphics> {
    let folder = format!("{FOLDER}/{address}");
    let number = |name: &str| tree.hexadecimal(&format!("{folder}/{name}"));
    if number("class")? >> 16 != DISPLAY {
        return None;
    }
    let (vendor, device) = (number("vendor")?, number("device")?);
    let is_removable = tree.text(&format!("{folder}/removable")).as_deref() == Some("removable");
    let attachment = match &address {
        // The kernel says so of what is behind a port that leads outside.
        _ if is_removable => Attachment::Thunderbolt,
        // The first bus is that of the processor's own devices.
        address if is_on_first_bus(address) => Attachment::Integrated,
        // AMD's processors have theirs on a bus inside of them.
        _ if vendor == 0x1002 && is_apu(tree, &folder) => Attachment::Integrated,
        _ => Attachment::Pcie,
    };
    Some(Graphics {
        vendor: vendor_name(vendor),
        id: format!("{vendor:04x}:{device:04x}"),
        driver: tree.link(&format!("{folder}/driver")),
        memory_bytes: tree.value(&format!("{folder}/mem_info_vram_total")),
        window_bytes: window_bytes(&tree.text(&format!("{folder}/resource")).unwrap_or_default()),
        link: if attachment == Attachment::Integrated { None } else { link(tree, &folder) },
        attachment,
        address,
    })
}

/// `0000:00:02.0`, unlike `0000:01:00.0`.
fn is_on_first_bus(address: &str) -> bool {
    address.split(':').nth(1) == Some("00")
}

/// Whether graphics of AMD's are part of a processor: then another function of the same device is the processor's
/// cryptographic engine.
fn is_apu(tree: &Tree, folder: &str) -> bool {
    let Some((siblings, _)) = folder.rsplit_once('.') else { return false };
    const ENCRYPTION: u32 = 0x10;
    (1..8).any(|function| {
        tree.hexadecimal(&format!("{siblings}.{function}/class")).is_some_and(|class| class >> 16 == ENCRYPTION)
    })
}

fn vendor_name(vendor: u32) -> String {
    match vendor {
        0x8086 => "Intel".to_owned(),
        0x10de => "NVIDIA".to_owned(),
        0x1002 => "AMD".to_owned(),
        0x1af4 | 0x1b36 | 0x1234 => "a virtual machine's".to_owned(),
        0x1a03 => "ASPEED".to_owned(),
        0x102b => "Matrox".to_owned(),
        other => format!("vendor {other:04x}"),
    }
}

/// Lines of start, end and flags, one for each of the device's regions.
fn window_bytes(resource: &str) -> u64 {
    let number = |word: Option<&str>| u64::from_str_radix(word?.strip_prefix("0x")?, 16).ok();
    let region = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end, flags) = (number(words.next())?, number(words.next())?, number(words.next())?);
        let is_memory = flags & IORESOURCE_MEM != 0 && end > start;
        is_memory.then(|| (end - start).saturating_add(1))
    };
    // The seventh is the expansion ROM.
    resource.lines().take(6).filter_map(region).max().unwrap_or(0)
}

/// `16.0 GT/s PCIe`, and older kernels' `8 GT/s`.
fn link(tree: &Tree, folder: &str) -> Option<Link> {
    let speed = |name: &str| {
        let text = tree.text(&format!("{folder}/{name}"))?;
        text.split_whitespace().next()?.parse::<f64>().ok().filter(|speed| speed.is_finite())
    };
    let lanes = |name: &str| tree.value::<u32>(&format!("{folder}/{name}")).filter(|lanes| (1..=32).contains(lanes));
    Some(Link {
        gts: speed("current_link_speed")?,
        lanes: lanes("current_link_width")?,
        gts_max: speed("max_link_speed")?,
        lanes_max: lanes("max_link_width")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    fn device(files: &[(&str, &str)], address: &str) -> Vec<Graphics> {
        let written = Written::new(&[]);
        files.iter().for_each(|(name, text)| written.file(&format!("{FOLDER}/{address}/{name}"), text.as_bytes()));
        written.link(&format!("{FOLDER}/{address}/driver"), "../../../bus/pci/drivers/nvidia");
        read(&written.tree())
    }

    const RTX_4060_TI: [(&str, &str); 8] = [
        ("class", "0x030000"),
        ("vendor", "0x10de"),
        ("device", "0x2805"),
        (
            "resource",
            "0x80000000 0x80ffffff 0x40200\n0x4000000000 0x43ffffffff 0x14220c\n0x0 0x0 0x0\n0x4000 0x407f 0x40101\n",
        ),
        ("current_link_speed", "16.0 GT/s PCIe"),
        ("current_link_width", "4"),
        ("max_link_speed", "16.0 GT/s PCIe"),
        ("max_link_width", "8"),
    ];

    #[test]
    fn a_card_in_a_slot_has_a_link() {
        let cards = device(&RTX_4060_TI, "0000:01:00.0");
        let expected = Graphics {
            address: "0000:01:00.0".into(),
            vendor: "NVIDIA".into(),
            id: "10de:2805".into(),
            attachment: Attachment::Pcie,
            driver: Some("nvidia".into()),
            memory_bytes: None,
            window_bytes: 16 << 30,
            link: Some(Link { gts: 16.0, lanes: 4, gts_max: 16.0, lanes_max: 8 }),
        };
        assert_eq!(cards, [expected]);
    }

    #[test]
    fn what_is_behind_a_port_that_leads_outside_is_thunderbolt() {
        let files = [&RTX_4060_TI[..], &[("removable", "removable\n")]].concat();
        assert_eq!(device(&files, "0000:2c:00.0")[0].attachment, Attachment::Thunderbolt);
    }

    #[test]
    fn integrated_graphics_share_the_processors_bus_or_package() {
        let files = [("class", "0x030000"), ("vendor", "0x8086"), ("device", "0x46d1")];
        let cards = device(&files, "0000:00:02.0");
        assert_eq!((cards[0].attachment, cards[0].vendor.as_str()), (Attachment::Integrated, "Intel"));
        let written = Written::new(&[
            ("sys/bus/pci/devices/0000:0e:00.0/class", "0x030000"),
            ("sys/bus/pci/devices/0000:0e:00.0/vendor", "0x1002"),
            ("sys/bus/pci/devices/0000:0e:00.0/device", "0x164e"),
            ("sys/bus/pci/devices/0000:0e:00.0/mem_info_vram_total", "536870912\n"),
            ("sys/bus/pci/devices/0000:0e:00.2/class", "0x108000"),
        ]);
        let cards = read(&written.tree());
        assert_eq!((cards.len(), cards[0].attachment), (1, Attachment::Integrated));
        assert_eq!((cards[0].driver.clone(), cards[0].memory_bytes), (None, Some(512 << 20)));
        // What is no display is none.
        assert_eq!(device(&[("class", "0x020000"), ("vendor", "0x10de"), ("device", "0x1")], "0000:01:00.0"), []);
    }
}
