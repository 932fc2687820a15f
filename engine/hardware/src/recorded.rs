//! Machines that are not here, described in `machines/`, read by the same code as this one.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::cpus::CpuSet;
use crate::machine::{Attachment, Machine, Modules};
use crate::probe::Probe;
use crate::profile::Profile;
use crate::smbios::tests::{Wanted, table};
use crate::tree::Tree;
use crate::tree::fixtures::Written;

const MACHINES: [(&str, &str); 6] = [
    ("n100", include_str!("../machines/n100.toml")),
    ("n305", include_str!("../machines/n305.toml")),
    ("i5-13400", include_str!("../machines/i5-13400.toml")),
    ("ryzen-5-7600", include_str!("../machines/ryzen-5-7600.toml")),
    ("i7-13700", include_str!("../machines/i7-13700.toml")),
    ("ryzen-7-7700x", include_str!("../machines/ryzen-7-7700x.toml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    sources: Vec<String>,
    cpu_model: String,
    vendor: String,
    signature: (u32, u32, u32),
    flags: String,
    memory_kib: u64,
    slots: u16,
    #[serde(default)]
    threads_apart: bool,
    cores: Vec<Cores>,
    module: Vec<Stick>,
    files: BTreeMap<String, String>,
    links: BTreeMap<String, String>,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cores {
    kind: Option<String>,
    count: u32,
    threads: u32,
    khz_max: u32,
    /// Level, kind, size, and how many cores share one.
    caches: Vec<(u32, String, String, u32)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stick {
    slot: String,
    bank: String,
    gib: u32,
    kind: String,
    form: String,
    mts: u16,
    configured_mts: Option<u16>,
    bits: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    profile: String,
    threads: u32,
    cpus: Option<CpuSet>,
    cores: String,
    gigabytes_per_second_max: f64,
    advice: Vec<String>,
}

fn described(name: &str) -> (Description, Written) {
    let text = MACHINES.iter().find(|(machine, _)| *machine == name).unwrap().1;
    let description: Description = toml::from_str(text).unwrap();
    let written = Written::new(&[]);
    let Description { cpu_model, vendor, signature: (family, model, stepping), flags, memory_kib, .. } = &description;
    let cpuinfo = format!(
        "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {cpu_model}\n\
         stepping\t: {stepping}\nflags\t\t: {flags}\n"
    );
    written.file("proc/cpuinfo", cpuinfo.as_bytes());
    written.file("proc/meminfo", format!("MemTotal:       {memory_kib} kB\n").as_bytes());
    write_cores(&description, &written);
    let modules: Vec<Wanted> = description.module.iter().map(wanted).collect();
    written.file("sys/firmware/dmi/tables/DMI", &table(description.slots, &modules));
    description.files.iter().for_each(|(path, text)| written.file(path, text.as_bytes()));
    description.links.iter().for_each(|(path, target)| written.link(path, target));
    (description, written)
}

fn wanted(stick: &Stick) -> Wanted<'_> {
    Wanted {
        slot: &stick.slot,
        bank: &stick.bank,
        mib: stick.gib * 1024,
        kind: match stick.kind.as_str() {
            "DDR4" => 0x1A,
            "DDR5" => 0x22,
            "LPDDR5" => 0x23,
            other => panic!("{other}"),
        },
        form: match stick.form.as_str() {
            "DIMM" => 0x09,
            "SODIMM" => 0x0D,
            "chips" => 0x0B,
            other => panic!("{other}"),
        },
        rated: stick.mts,
        configured: stick.configured_mts.unwrap_or(stick.mts),
        bits: stick.bits.unwrap_or(64),
    }
}

/// Numbers processors as Linux does: the threads of a core one after the other, or the second ones after all first ones.
fn write_cores(description: &Description, written: &Written) {
    let all: u32 = description.cores.iter().map(|cores| cores.count * cores.threads).sum();
    let write = |path: String, text: &str| written.file(&format!("sys/devices/{path}"), format!("{text}\n").as_bytes());
    write("system/cpu/online".to_owned(), &format!("0-{}", all - 1));
    let mut next = 0;
    for group in &description.cores {
        let threads = |core: u32| -> CpuSet {
            let thread = |thread| match description.threads_apart {
                true => next + core + thread * group.count,
                false => next + core * group.threads + thread,
            };
            (0..group.threads).map(thread).collect()
        };
        for core in 0..group.count {
            for cpu in threads(core).iter() {
                write(format!("system/cpu/cpu{cpu}/topology/core_cpus_list"), &threads(core).to_string());
                write(format!("system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq"), &group.khz_max.to_string());
                for (index, (level, kind, size, shared)) in group.caches.iter().enumerate() {
                    let folder = format!("system/cpu/cpu{cpu}/cache/index{index}");
                    let first = core / shared * shared;
                    let near: CpuSet = (first..group.count.min(first + shared))
                        .flat_map(|core| threads(core).iter().collect::<Vec<_>>())
                        .collect();
                    // What all share, cores of the other kind share too.
                    let near = if *shared > group.count { (0..all).collect() } else { near };
                    write(format!("{folder}/level"), &level.to_string());
                    write(format!("{folder}/type"), kind);
                    write(format!("{folder}/size"), size);
                    write(format!("{folder}/shared_cpu_list"), &near.to_string());
                }
            }
        }
        let end = next + group.count * group.threads;
        match group.kind.as_deref() {
            Some("performance") => write("cpu_core/cpus".to_owned(), &format!("{next}-{}", end - 1)),
            Some("efficiency") => write("cpu_atom/cpus".to_owned(), &format!("{next}-{}", end - 1)),
            _ => {}
        }
        next = end;
    }
}

fn read(tree: &Tree) -> (Probe, Machine) {
    let probe = Probe::read(tree, &(0..64).collect());
    let machine = Machine::read(tree, &probe.topology);
    (probe, machine)
}

#[test]
fn each_machine_gets_its_profile_its_threads_and_its_advice() {
    for (name, _) in MACHINES {
        let (description, written) = described(name);
        let (probe, machine) = read(&written.tree());
        let Expected { profile, threads, cpus, cores, gigabytes_per_second_max, advice } = description.expected;
        assert!(!description.sources.is_empty(), "{name}");
        assert_eq!(Profile::detect(&probe).name, profile, "{name}");
        assert_eq!(probe.topology.placement(), (threads, cpus), "{name}");
        assert_eq!(probe.topology.describe(), cores, "{name}");
        assert_eq!(machine.processor.model, description.cpu_model, "{name}");
        let Modules::Known(firmware) = &machine.modules else { panic!("{name}: no modules") };
        let total: u64 = firmware.modules.iter().map(|module| module.bytes >> 30).sum();
        assert_eq!(total, description.module.iter().map(|stick| u64::from(stick.gib)).sum::<u64>(), "{name}");
        let most = firmware.bytes_per_second_max().unwrap() as f64 / 1e9;
        assert_eq!(most, gigabytes_per_second_max, "{name}");
        let subjects: Vec<&str> = machine.advice().into_iter().map(|advice| advice.subject).collect();
        assert_eq!(subjects, advice, "{name}");
    }
}

#[test]
fn caches_count_once_for_all_that_share_them() {
    let caches = |name| {
        let (_, machine) = read(&described(name).1.tree());
        let all = machine.processor.caches.into_iter();
        all.map(|cache| (cache.level, cache.kind, cache.bytes >> 10, cache.count)).collect::<Vec<_>>()
    };
    let cache = |level, kind: &str, kib, count| (level, kind.to_owned(), kib, count);
    let hybrid = [
        cache(1, "Data", 32, 4),
        cache(1, "Data", 48, 6),
        cache(1, "Instruction", 32, 6),
        cache(1, "Instruction", 64, 4),
        cache(2, "Unified", 1280, 6),
        cache(2, "Unified", 2048, 1),
        cache(3, "Unified", 20480, 1),
    ];
    assert_eq!(caches("i5-13400"), hybrid);
    assert_eq!(caches("n305")[2..], [cache(2, "Unified", 2048, 2), cache(3, "Unified", 6144, 1)]);
    assert_eq!(caches("ryzen-7-7700x")[3], cache(3, "Unified", 32768, 1));
}

#[test]
fn cores_of_each_kind_have_a_clock_of_their_own() {
    let (_, machine) = read(&described("i7-13700").1.tree());
    let groups = machine.processor.cores.iter();
    let groups: Vec<_> =
        groups.map(|group| (group.kind, group.cores, group.processors.to_string(), group.mhz_max)).collect();
    let expected = [("P-cores", 8, "0-15".to_owned(), Some(5200)), ("E-cores", 8, "16-23".to_owned(), Some(4100))];
    assert_eq!(groups, expected);
    let (_, machine) = read(&described("ryzen-7-7700x").1.tree());
    let cards: Vec<_> = machine.graphics.iter().map(|card| (card.vendor.as_str(), card.attachment)).collect();
    assert_eq!(cards, [("NVIDIA", Attachment::Pcie), ("AMD", Attachment::Integrated)]);
}

#[test]
fn advice_goes_when_its_reason_does() {
    let without = |name: &str, path: &str, text: &str| {
        let (_, written) = described(name);
        written.file(path, text.as_bytes());
        let (_, machine) = read(&written.tree());
        machine.advice().into_iter().map(|advice| advice.subject).collect::<Vec<_>>()
    };
    let limit = "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw";
    assert_eq!(without("n305", limit, "15000000"), ["clock"]);
    let preference = "sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference";
    assert_eq!(without("n305", preference, "balance_performance"), ["power limit"]);
    assert_eq!(without("i7-13700", "sys/bus/thunderbolt/devices/0-1/authorized", "1"), ["heat"]);
    assert_eq!(without("i7-13700", "proc/uptime", "720000.0 1.0"), ["Thunderbolt"]);
    assert_eq!(without("ryzen-7-7700x", "sys/devices/ata1/sda/queue/rotational", "0"), ["graphics"]);
    // On this processor a second module would be on the same channel.
    let (description, written) = described("n100");
    let modules: Vec<Wanted> = description.module.iter().map(wanted).collect();
    written.file("sys/firmware/dmi/tables/DMI", &table(2, &modules));
    assert_eq!(read(&written.tree()).1.advice(), []);
}

#[test]
fn this_machine_is_read_like_the_others() {
    let (tree, allowed) = (Tree::default(), CpuSet::allowed().unwrap());
    let probe = Probe::read(&tree, &allowed);
    let machine = Machine::read(&tree, &probe.topology);
    assert_eq!((machine.processor.model.clone(), machine.memory_bytes), (probe.cpu_model.clone(), probe.memory_bytes));
    let cores: u32 = machine.processor.cores.iter().map(|group| group.cores).sum();
    assert_eq!((cores, allowed), (probe.topology.cores(None), probe.topology.all()));
    let (threads, cpus) = probe.topology.placement();
    assert!(threads >= 1 && threads <= cores && cpus.is_none_or(|cpus| cpus.and(&probe.topology.all()) == cpus));
    assert!(Profile::named(&Profile::detect(&probe).name).is_some());
    serde_json::to_value(machine).unwrap();
}
