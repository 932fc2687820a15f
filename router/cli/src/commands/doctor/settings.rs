//! Which settings engines run with, and where they come from.

use std::path::Path;

use allerac_engine_link::EngineSettings;
use allerac_hardware::tuning::Tuning;
use allerac_hardware::{Probe, Profile};
use allerac_models::Store;

use super::Check;
use crate::args::Doctor;
use crate::commands::tune::placement;
use crate::config::ConfigFile;
use crate::setup;
use crate::tuned::{self, Tuned};

/// The profile, what was measured, and the settings that follow from both and the configuration.
pub(super) fn checks(args: &Doctor, config: &ConfigFile, probe: &Probe, data_dir: &Path) -> Vec<Check> {
    let profile = match setup::profile(&args.setup, config, probe) {
        Ok(profile) => profile,
        Err(failure) => return vec![Check::broken("profile", failure)],
    };
    let tuned = Tuned::load(data_dir, probe);
    let mut checks = vec![profile_check(args, config, &profile, probe), tuning(&tuned, config)];
    match setup::settings(config, &profile, probe, &tuned) {
        Ok(settings) => {
            checks.extend(recommended(config, &profile, &settings, data_dir));
            let choice = tuned::choice_of(&settings);
            let anywhere = format!(" on any of {}", probe.topology.all());
            let on = if choice.cpus.is_some() { "" } else { &anywhere };
            checks.push(Check::ok("threads", placement(&choice) + on));
            checks.push(Check::ok("attention", choice.attention().to_string()));
            checks.push(Check::ok("batch", format!("{} tokens of a prompt in one step", choice.batch)));
        }
        Err(failure) => checks.push(Check::broken("engine settings", failure)),
    }
    checks
}

/// Which profile, and why.
fn profile_check(args: &Doctor, config: &ConfigFile, profile: &Profile, probe: &Probe) -> Check {
    let is_asked = args.setup.profile.is_some() || config.profile.is_some();
    let why = match profile.reason(probe) {
        _ if is_asked => "as the command or the configuration file says".to_owned(),
        Some(part) => format!("since the processor's name has {part} in it, and there is memory enough"),
        None => "since no other one is made for this processor with this memory".to_owned(),
    };
    Check::ok("profile", format!("{} ({}), {why}", profile.name, profile.description))
}

/// The best model that the profile knows for this much memory, and whether it is here.
fn recommended(config: &ConfigFile, profile: &Profile, settings: &EngineSettings, data_dir: &Path) -> Option<Check> {
    let memory_bytes = config.models.memory(allerac_hardware::memory().total_bytes).budget_bytes;
    let best = setup::worth_having(profile, settings, memory_bytes).into_iter().next()?;
    let is_here = Store::open(data_dir).list().ok()?.iter().any(|model| model.id == best);
    let mut check = Check::ok("recommended", format!("{best}{}", if is_here { ", which is installed" } else { "" }));
    check.hint = (!is_here)
        .then(|| format!("see what it would do: allerac models fit {best}; fetch it: allerac models pull {best}"));
    Some(check)
}

fn tuning(tuned: &Tuned, config: &ConfigFile) -> Check {
    const NAME: &str = "tuning";
    let measured = |tuning: &Tuning| {
        let how = if tuning.quick { "quickly, " } else { "" };
        format!("{how}at {} with {}", tuning.measured_at, tuning.model)
    };
    match tuned {
        Tuned::Not => Check::ok(NAME, "not measured; `allerac tune` finds out how this machine is fastest"),
        Tuned::Current(tuning) => {
            let overruled = config.engine.configured().words();
            let but = if overruled.is_empty() {
                String::new()
            } else {
                format!("; the configuration file has its own {}", overruled.join(" and "))
            };
            Check::ok(NAME, format!("measured {}{but}", measured(tuning)))
        }
        Tuned::Stale(tuning, why) => {
            let detail = format!("measured {}, and not used: {why}", measured(tuning));
            Check::warning(NAME, detail, "measure again: allerac tune")
        }
        Tuned::Unusable(why) => {
            Check::warning(NAME, format!("{} is not used: {why}", tuned::FILE), "measure again: allerac tune")
        }
    }
}
