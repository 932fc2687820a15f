//! What would make a machine faster, of what is known for certain about it.

use serde::Serialize;

use super::{Attachment, Graphics, Machine, Medium, Modules};
use crate::smbios::{Firmware, Module};

/// The part of a processor's own limit below which another one is worth a word: firmware rounds.
const POWER_SHARE: f64 = 0.9;
/// The part of the time that a machine may be slower by heat before it is worth a word. A short peak at full load is normal.
const HEAT_SHARE: f64 = 0.01;
/// The part of the speed of a module's rating below which its setting is worth a word: 5186 is written as 5200.
const SPEED_SHARE: f64 = 0.97;
/// Processors with a single memory channel, by family and model: Alder Lake-N and Twin Lake.
const ONE_CHANNEL: [(u32, u32); 1] = [(6, 0xBE)];

/// Something that could be better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// In a word or two.
    pub subject: &'static str,
    /// What is so.
    pub found: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl Machine {
    /// What would make it faster. It says nothing of what it cannot know.
    #[must_use]
    pub fn advice(&self) -> Vec<Advice> {
        let mut advice: Vec<Advice> = Vec::new();
        if let Modules::Known(firmware) = &self.modules {
            advice.extend(self.channels(firmware));
            advice.extend(speed(firmware));
        }
        advice.extend(self.power());
        advice.extend(self.clock());
        advice.extend(self.throttled());
        advice.extend(self.graphics.iter().filter_map(driverless));
        advice.extend(self.thunderbolt());
        advice.extend(self.slow_swap());
        advice
    }

    /// One channel has half the bandwidth of two, and bandwidth is what answers are made of.
    fn channels(&self, firmware: &Firmware) -> Option<Advice> {
        let (family, model, _) = self.processor.signature;
        // Two places for modules on one channel are of no use to speed.
        let has_two = !ONE_CHANNEL.contains(&(family, model)) && firmware.slots >= 2;
        let modules = &firmware.modules;
        let is_one = modules.len() == 1 || firmware.channels() == Some(1);
        if !has_two || !is_one || modules.iter().any(|module| module.soldered) {
            return None;
        }
        let places = firmware.slots;
        let found = match modules.len() {
            1 => format!("one module in {places} places, so memory is read by one channel at half its speed"),
            many => format!("{many} modules on the same channel, so memory is read at half its speed"),
        };
        Some(Advice {
            subject: "memory channels",
            found,
            hint: "put a second module of the same kind into a place of the other channel (the board's manual says which); answers \
                   become up to twice as fast",
        })
    }

    fn power(&self) -> Option<Advice> {
        let lowered = self.power_limits.iter().filter(|limit| limit.name == "long_term");
        let (watts, own) = lowered
            .filter_map(|limit| Some((limit.watts, limit.own_watts?)))
            .find(|(watts, own)| *watts < own * POWER_SHARE)?;
        Some(Advice {
            subject: "power limit",
            found: format!("the processor may draw {watts:.0} W for long, and is made for {own:.0} W"),
            hint: "raise the limit in the firmware's set-up (PL1, or a mode such as `performance`), where cooling allows",
        })
    }

    fn clock(&self) -> Option<Advice> {
        let governor = self.processor.governor.as_ref().filter(|governor| governor.is_slow())?;
        let preference = governor.preference.as_ref().map_or_else(String::new, |words| format!(", preferring {words}"));
        Some(Advice {
            subject: "clock",
            found: format!(
                "{} ({}{preference}) keeps the processor slow while it works",
                governor.name, governor.driver
            ),
            hint: "choose another power profile, such as `balanced` or `performance` (powerprofilesctl, cpupower)",
        })
    }

    fn throttled(&self) -> Option<Advice> {
        let throttling = self.heat.throttling?;
        let (time, uptime) = (throttling.time?, throttling.uptime?);
        let share = time.as_secs_f64() / uptime.as_secs_f64().max(1.0);
        (share > HEAT_SHARE).then(|| Advice {
            subject: "heat",
            found: format!(
                "the processor was too hot, and slower by it, for {:.0} s of the last {:.0} min ({:.0} %)",
                time.as_secs_f64(),
                uptime.as_secs_f64() / 60.0,
                share * 100.0
            ),
            hint: "give it air: clean the fan, stand it upright, move it from what is warm",
        })
    }

    fn thunderbolt(&self) -> Option<Advice> {
        let refused = self.thunderbolt.iter().find(|device| !device.authorised)?;
        let words: Vec<&str> = [&refused.vendor, &refused.device].into_iter().flatten().map(String::as_str).collect();
        let name = if words.is_empty() { refused.name.clone() } else { words.join(" ") };
        Some(Advice {
            subject: "Thunderbolt",
            found: format!("{name} is plugged in and not authorised, so a graphics processor in it is not there"),
            hint: "authorise it once: boltctl list, then boltctl enroll UUID",
        })
    }

    fn slow_swap(&self) -> Option<Advice> {
        let slow = |medium: Option<Medium>| match medium? {
            Medium::Rotating => Some("a disk that turns"),
            Medium::Card => Some("a card"),
            Medium::Memory | Medium::SolidState => None,
        };
        let (swap, what) = self.swaps.iter().find_map(|swap| Some((swap, slow(swap.medium)?)))?;
        Some(Advice {
            subject: "swap",
            found: format!("memory is written to {}, on {what}, when there is too little", swap.path),
            hint: "use compressed memory instead (zram-generator), or move the swap to an SSD: a model that is swapped out stands \
                   still",
        })
    }
}

/// Modules that run slower than they could.
fn speed(firmware: &Firmware) -> Option<Advice> {
    let slow = |module: &&Module| match (module.rated_mts, module.configured_mts) {
        (Some(rated), Some(configured)) => f64::from(configured) < f64::from(rated) * SPEED_SHARE,
        _ => false,
    };
    let module = firmware.modules.iter().find(slow)?;
    let (configured, rated) = (module.configured_mts?, module.rated_mts?);
    Some(Advice {
        subject: "memory speed",
        found: format!("modules made for {rated} MT/s run at {configured} MT/s"),
        hint: "switch on the modules' profile in the firmware's set-up (XMP or EXPO), where the processor allows it",
    })
}

fn driverless(graphics: &Graphics) -> Option<Advice> {
    // What is integrated shares the memory that bounds the processor too.
    let is_card =
        graphics.attachment != Attachment::Integrated && ["NVIDIA", "AMD", "Intel"].contains(&&*graphics.vendor);
    (is_card && graphics.driver.is_none()).then(|| Advice {
        subject: "graphics",
        found: format!("the graphics processor of {} ({} at {}) has no driver", graphics.vendor, graphics.id, graphics.address),
        hint: match graphics.vendor.as_str() {
            "NVIDIA" => "install NVIDIA's driver, or load nouveau",
            _ => "install the firmware of the graphics processor (firmware-amd-graphics, firmware-misc-nonfree) and start anew",
        },
    })
}
