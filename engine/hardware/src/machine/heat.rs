//! How hot the machine is, and whether it became slower by it.

use std::time::Duration;

use serde::Serialize;

use crate::tree::Tree;

/// Sensors of a chip that are looked at.
const SENSORS_MAX: u32 = 64;
/// Hotter or colder is no temperature of a machine that runs, in degrees: sensors that are not connected say such things.
const CELSIUS: std::ops::RangeInclusive<f64> = -40.0..=150.0;

/// Temperatures, and what came of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Heat {
    /// What each sensor says now.
    pub temperatures: Vec<Temperature>,
    /// How often the processor slowed down since the start; `None` where it does not count.
    pub throttling: Option<Throttling>,
}

/// What a sensor says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Temperature {
    /// Whose it is: `coretemp`, `nvme`, `acpitz`.
    pub source: String,
    /// Of what: `Package id 0`, `Composite`.
    pub label: Option<String>,
    /// Degrees.
    pub celsius: f64,
    /// From which on the machine protects itself.
    pub critical_celsius: Option<f64>,
}

/// How often and how long a processor slowed down because of heat, since the machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// Of the core that did so most often.
    pub core_count: u64,
    /// Of the whole processor.
    pub package_count: u64,
    /// How long, all together; `None` with kernels before 5.6.
    #[serde(serialize_with = "seconds", rename = "seconds")]
    pub time: Option<Duration>,
    /// How long the machine has been running.
    #[serde(serialize_with = "seconds", rename = "uptime_seconds")]
    pub uptime: Option<Duration>,
}

fn seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

impl Heat {
    pub(super) fn read(tree: &Tree) -> Self {
        let mut temperatures = monitors(tree);
        if temperatures.is_empty() {
            temperatures = zones(tree);
        }
        Self { temperatures, throttling: throttling(tree) }
    }
}

fn degrees(tree: &Tree, path: &str) -> Option<f64> {
    let thousandths: i32 = tree.value(path)?;
    Some(f64::from(thousandths) / 1000.0).filter(|celsius| CELSIUS.contains(celsius))
}

/// Chips that measure (hwmon).
fn monitors(tree: &Tree) -> Vec<Temperature> {
    const FOLDER: &str = "/sys/class/hwmon";
    let chip = |name: String| {
        let folder = format!("{FOLDER}/{name}");
        let source = tree.word(&format!("{folder}/name")).unwrap_or(name);
        let sensor = move |number: u32| {
            Some(Temperature {
                celsius: degrees(tree, &format!("{folder}/temp{number}_input"))?,
                source: source.clone(),
                label: tree.word(&format!("{folder}/temp{number}_label")),
                critical_celsius: degrees(tree, &format!("{folder}/temp{number}_crit")).filter(|limit| *limit > 0.0),
            })
        };
        (1..=SENSORS_MAX).filter_map(sensor)
    };
    tree.names(FOLDER).into_iter().flat_map(chip).collect()
}

/// What the firmware calls zones; less exact, and often the same sensors.
fn zones(tree: &Tree) -> Vec<Temperature> {
    const FOLDER: &str = "/sys/class/thermal";
    let zone = |name: String| {
        let folder = format!("{FOLDER}/{name}");
        let celsius = degrees(tree, &format!("{folder}/temp"))?;
        let source = tree.word(&format!("{folder}/type")).unwrap_or(name);
        Some(Temperature { source, label: None, celsius, critical_celsius: None })
    };
    tree.names(FOLDER).into_iter().filter_map(zone).collect()
}

/// Counters that Intel's processors have.
fn throttling(tree: &Tree) -> Option<Throttling> {
    const FOLDER: &str = "/sys/devices/system/cpu";
    let cpus: Vec<String> =
        tree.names(FOLDER).into_iter().filter(|name| tree.has(&format!("{FOLDER}/{name}/thermal_throttle"))).collect();
    let most = |file: &str| {
        cpus.iter().filter_map(|cpu| tree.value::<u64>(&format!("{FOLDER}/{cpu}/thermal_throttle/{file}"))).max()
    };
    let time =
        [most("core_throttle_total_time_ms"), most("package_throttle_total_time_ms")].into_iter().flatten().max();
    let uptime = tree.text("/proc/uptime").and_then(|text| text.split('.').next()?.parse().ok());
    Some(Throttling {
        core_count: most("core_throttle_count")?,
        package_count: most("package_throttle_count").unwrap_or(0),
        time: time.map(Duration::from_millis),
        uptime: uptime.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    #[test]
    fn sensors_of_chips_come_before_zones() {
        let zone =
            [("sys/class/thermal/thermal_zone0/type", "acpitz"), ("sys/class/thermal/thermal_zone0/temp", "27800")];
        let written = Written::new(&zone);
        let temperature = |source: &str, label: Option<&str>, celsius, critical_celsius| Temperature {
            source: source.into(),
            label: label.map(str::to_owned),
            celsius,
            critical_celsius,
        };
        assert_eq!(Heat::read(&written.tree()).temperatures, [temperature("acpitz", None, 27.8, None)]);
        for (path, text) in [
            ("sys/class/hwmon/hwmon1/name", "coretemp"),
            ("sys/class/hwmon/hwmon1/temp1_input", "61000"),
            ("sys/class/hwmon/hwmon1/temp1_label", "Package id 0"),
            ("sys/class/hwmon/hwmon1/temp1_crit", "105000"),
            // Not connected.
            ("sys/class/hwmon/hwmon1/temp2_input", "-128000"),
            ("sys/class/hwmon/hwmon1/temp3_input", "59000"),
        ] {
            written.file(path, text.as_bytes());
        }
        let expected = [
            temperature("coretemp", Some("Package id 0"), 61.0, Some(105.0)),
            temperature("coretemp", None, 59.0, None),
        ];
        assert_eq!(Heat::read(&written.tree()).temperatures, expected);
    }

    #[test]
    fn the_core_that_slowed_down_most_counts() {
        let written = Written::new(&[("proc/uptime", "3600.25 7000.1\n")]);
        assert_eq!(Heat::read(&written.tree()).throttling, None);
        let cpu = |cpu: u32, file: &str, number: &str| {
            written.file(&format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle/{file}"), number.as_bytes());
        };
        cpu(0, "core_throttle_count", "3");
        cpu(1, "core_throttle_count", "7");
        cpu(1, "package_throttle_count", "9");
        cpu(1, "package_throttle_total_time_ms", "1500");
        let seconds = Duration::from_secs(3600);
        let expected = Throttling {
            core_count: 7,
            package_count: 9,
            time: Some(Duration::from_millis(1500)),
            uptime: Some(seconds),
        };
        let heat = Heat::read(&written.tree());
        assert_eq!(heat.throttling, Some(expected));
        let json = serde_json::to_value(heat).unwrap();
        assert_eq!(
            (&json["throttling"]["seconds"], &json["throttling"]["uptime_seconds"]),
            (&1.5.into(), &3600.0.into())
        );
    }
}
