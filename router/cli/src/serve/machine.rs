//! What the server tells of the machine that it runs on.

use std::sync::Arc;

use allerac_hardware::Tree;
use allerac_hardware::machine::Machine;
use allerac_http::{AdviceObject, Hardware, Look, PowerObject, TemperatureObject};
use allerac_router_core::Outlook;

use crate::commands::doctor::words;
use crate::commands::models::fit::rates;
use crate::setup::Prepared;

/// Predicts with as many threads as engines compute with.
pub(super) fn outlook(prepared: &Prepared) -> Outlook {
    let threads = prepared.settings.threads.max(1);
    Outlook::new(Arc::new(move || rates(threads)))
}

/// Reads the machine anew each time: temperatures and what is plugged in change.
pub(super) fn look(prepared: &Prepared) -> Look {
    let (profile, settings) = (prepared.profile.name.clone(), prepared.settings.clone());
    let recommended_model = prepared.worth_having.first().cloned();
    let model_memory_bytes = prepared.config.models.memory(allerac_hardware::memory().total_bytes).budget_bytes;
    Look::new(move || {
        let probe = allerac_hardware::probe();
        let machine = Machine::read(&Tree::default(), &probe.topology);
        Hardware {
            object: "hardware",
            name: machine.name.clone(),
            is_virtual: machine.is_virtual,
            profile: profile.clone(),
            processor: probe.cpu_model.clone(),
            cores: probe.topology.describe(),
            features: probe.features.clone(),
            threads: settings.threads,
            cpus: settings.cpus.as_ref().map(ToString::to_string),
            memory_bytes: probe.memory_bytes,
            model_memory_bytes,
            memory_modules: words::modules(&machine.modules),
            graphics: machine.graphics.iter().map(words::graphics).collect(),
            temperatures: temperatures(&machine),
            power_limits: powers(&machine),
            recommended_model: recommended_model.clone(),
            advice: advice(&machine),
        }
    })
}

fn temperatures(machine: &Machine) -> Vec<TemperatureObject> {
    let told = |sensor: &allerac_hardware::machine::Temperature| {
        let words = [Some(&sensor.source), sensor.label.as_ref()].into_iter().flatten();
        let source = words.map(String::as_str).collect::<Vec<_>>().join(" ");
        TemperatureObject { source, celsius: sensor.celsius }
    };
    machine.heat.temperatures.iter().map(told).collect()
}

fn powers(machine: &Machine) -> Vec<PowerObject> {
    let limits = machine.power_limits.iter();
    limits
        .map(|limit| PowerObject { name: limit.name.clone(), watts: limit.watts, own_watts: limit.own_watts })
        .collect()
}

fn advice(machine: &Machine) -> Vec<AdviceObject> {
    let told = |advice: allerac_hardware::machine::Advice| AdviceObject {
        subject: advice.subject.to_owned(),
        found: advice.found,
        hint: advice.hint.to_owned(),
    };
    machine.advice().into_iter().map(told).collect()
}
