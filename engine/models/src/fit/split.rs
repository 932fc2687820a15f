//! What of a model a graphics processor holds: as much as its memory allows, in the order in which it gains most.

use super::{F32, Facts, Plan};

/// What drivers, compiled shaders and copies on their way take, in bytes: measured with llama.cpp's Vulkan back end.
const DRIVER_BYTES: u64 = 192 << 20;
/// The part of the memory that stays free, for screens and for what was not foreseen.
const SPARE_PARTS: u64 = 16;
/// No model has more layers: a file that says so is broken, or made to break what computes with the number.
const LAYERS_MAX: u64 = 4096;

/// What somebody asks of the division.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Layers on the graphics processor at most; as many as fit where nobody says.
    pub layers: Option<u32>,
}

/// A model, divided between a graphics processor and the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Layers on the graphics processor, as llama.cpp counts: what scores tokens is one and comes first, then the model's
    /// last ones.
    pub layers: u32,
    /// All of these: one more than the model has.
    pub layers_max: u32,
    /// The first so many layers have their experts on the processor: each token needs a few of them only, so they are what
    /// fast memory is wasted on.
    pub cpu_expert_layers: u32,
    /// Memory of the graphics processor that it takes, in bytes.
    pub bytes: u64,
}

impl Split {
    /// Whether the graphics processor has all of the model.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.layers == self.layers_max && self.cpu_expert_layers == 0
    }
}

/// What the parts of a model take on a graphics processor, in bytes.
struct Parts {
    layers: u64,
    /// A layer without its experts, with its KV.
    layer: u64,
    /// The experts of a layer.
    experts: u64,
    /// What scores tokens, with the scores.
    output: u64,
    step: u64,
}

impl Facts {
    /// Divides the model for a graphics processor with so much free memory; `None` where not even a layer fits.
    ///
    /// All of it where it fits. Else, of a mixture of experts, everything but the experts of its first layers: with these on
    /// the processor, a token needs little of the slow memory. Else the last layers.
    #[must_use]
    pub fn split(&self, plan: &Plan, free_bytes: u64, asked: Asked) -> Option<Split> {
        let parts = self.parts(plan)?;
        let room = free_bytes.saturating_sub(free_bytes / SPARE_PARTS).saturating_sub(DRIVER_BYTES);
        let most = parts.layers + 1;
        let fit = if parts.bytes(most, 0) <= room {
            most
        } else {
            let for_layers = room.checked_sub(parts.bytes(1, 0))?;
            for_layers.checked_div(parts.layer).unwrap_or(parts.layers).min(parts.layers) + 1
        };
        let layers = asked.layers.map_or(fit, |layers| fit.min(layers.into()));
        if layers == 0 {
            return None;
        }
        let without_experts = parts.bytes(layers, 0);
        let with_experts = match room.checked_sub(without_experts).map(|left| left.checked_div(parts.experts)) {
            _ if parts.experts == 0 => parts.layers,
            Some(Some(fit)) => fit.min(layers - 1),
            Some(None) | None => 0,
        };
        let narrow = |number: u64| u32::try_from(number).ok();
        Some(Split {
            layers: narrow(layers)?,
            layers_max: narrow(most)?,
            cpu_expert_layers: narrow(parts.layers - with_experts)?,
            bytes: parts.bytes(layers, with_experts).saturating_add(DRIVER_BYTES),
        })
    }

    fn parts(&self, plan: &Plan) -> Option<Parts> {
        let layers = self.layers;
        if !(1..=LAYERS_MAX).contains(&layers) {
            return None;
        }
        let apart = self.table_bytes.saturating_add(if self.has_output { self.output_bytes } else { 0 });
        let plain = self.file_bytes.saturating_sub(apart).saturating_sub(self.expert_bytes);
        let each = |bytes: u64| bytes.checked_div(layers);
        let batch = plan.batch.max(plan.sequences);
        Some(Parts {
            layers,
            layer: each(plain)?.saturating_add(each(self.kv_bytes(plan))?),
            experts: each(self.expert_bytes)?,
            // Scores of all tokens of a step: memory there is set aside in full.
            output: self.output_bytes.saturating_add(batch.saturating_mul(self.shape.vocabulary).saturating_mul(F32)),
            step: self.step_bytes(plan),
        })
    }
}

impl Parts {
    /// So many layers, of which so many with their experts.
    fn bytes(&self, layers: u64, with_experts: u64) -> u64 {
        let output = if layers > 0 { self.output } else { 0 };
        let all = layers.saturating_sub(1).saturating_mul(self.layer);
        let experts = with_experts.saturating_mul(self.experts);
        [all, experts, output].into_iter().fold(self.step, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    const GIB: u64 = 1 << 30;

    fn plan() -> Plan {
        Plan {
            context: 4096,
            sequences: 4,
            cells: 16_384,
            batch: 512,
            key_block_bytes: 64,
            value_block_bytes: 64,
            without_flash: false,
        }
    }

    fn split(model: &str, gib: u64) -> Option<Split> {
        let facts = Facts::of_entry(Catalogue::builtin().get(model).unwrap()).unwrap();
        facts.split(&plan(), gib * GIB, Asked::default())
    }

    #[test]
    fn a_small_model_is_there_whole() {
        let whole = split("qwen2.5-7b-instruct", 16).unwrap();
        assert!(whole.is_whole(), "{whole:?}");
        assert_eq!((whole.layers, whole.layers_max, whole.cpu_expert_layers), (29, 29, 0));
        assert!((5 * GIB..8 * GIB).contains(&whole.bytes), "{whole:?}");
    }

    #[test]
    fn of_a_large_one_as_many_layers_as_fit() {
        let part = split("llama-3.3-70b-instruct", 16).unwrap();
        assert!((20..40).contains(&part.layers), "{part:?}");
        assert!(part.bytes <= 15 * GIB && part.bytes > 14 * GIB, "{part:?}");
        assert_eq!((part.layers_max, part.is_whole()), (81, false));
        // More memory, more layers; and all of it is there when all of it fits.
        let layers: Vec<u32> = [4, 8, 16, 24, 48, 96]
            .iter()
            .filter_map(|gib| Some(split("llama-3.3-70b-instruct", *gib)?.layers))
            .collect();
        assert!(layers.is_sorted() && layers.last() == Some(&81), "{layers:?}");
    }

    #[test]
    fn of_a_mixture_only_experts_stay_behind() {
        let mixture = split("qwen3-30b-a3b-instruct-2507", 16).unwrap();
        assert_eq!((mixture.layers, mixture.layers_max), (49, 49));
        assert!((1..48).contains(&mixture.cpu_expert_layers), "{mixture:?}");
        assert!(mixture.bytes <= 15 * GIB, "{mixture:?}");
        let small = split("qwen3-30b-a3b-instruct-2507", 4).unwrap();
        assert!(small.layers == 49 && small.cpu_expert_layers > mixture.cpu_expert_layers, "{small:?}");
        assert!(split("qwen3-30b-a3b-instruct-2507", 40).unwrap().is_whole());
    }

    /// The buffers that llama.cpp says it has on the device (weights, KV, computing), with settings for 32 768 cells, of the
    /// model that the tests use. Its weights come to 92.10 MiB there, the table of tokens once more among them.
    #[test]
    fn what_is_predicted_is_what_llama_cpp_sets_aside() {
        let plan = Plan { sequences: 8, cells: 32_768, ..plan() };
        let facts = crate::fit::tests::smollm2();
        for (layers, mib) in [(31, 92.10 + 720.0 + 104.52), (10, 47.71 + 216.0 + 102.75)] {
            let split = facts.split(&plan, 2 * GIB, Asked { layers: Some(layers) }).unwrap();
            let predicted = (split.bytes - DRIVER_BYTES) as f64 / f64::from(1 << 20);
            assert!(
                (predicted / mib - 1.0).abs() < 0.05,
                "{layers} layers: {predicted:.1} MiB predicted, {mib} measured"
            );
        }
    }

    #[test]
    fn no_room_is_no_division_and_who_asks_gets_what_was_asked_where_it_fits() {
        assert_eq!(split("llama-3.3-70b-instruct", 0), None);
        let facts = Facts::of_entry(Catalogue::builtin().get("qwen2.5-7b-instruct").unwrap()).unwrap();
        let in_room = |layers, gib| facts.split(&plan(), gib * GIB, Asked { layers: Some(layers) });
        let asked = |layers| in_room(layers, 16).unwrap();
        assert_eq!((asked(10).layers, asked(10).cpu_expert_layers), (10, 0));
        assert_eq!(asked(1000).layers, 29);
        assert!(asked(10).bytes < asked(20).bytes);
        assert_eq!(in_room(28, 3), split("qwen2.5-7b-instruct", 3));
        assert!(in_room(28, 3).unwrap().layers < 28);
        assert_eq!(in_room(1, 0), None);
        assert_eq!(Facts::default().split(&plan(), 16 * GIB, Asked::default()), None);
    }

    #[test]
    fn a_number_of_layers_that_no_model_has_is_no_division() {
        let plain = Facts::of_entry(Catalogue::builtin().get("qwen2.5-7b-instruct").unwrap()).unwrap();
        for layers in [LAYERS_MAX + 1, u64::MAX - 1, u64::MAX] {
            let facts = Facts { layers, ..plain };
            for asked in [None, Some(1), Some(u32::MAX)] {
                assert_eq!(facts.split(&plan(), 16 * GIB, Asked { layers: asked }), None);
            }
        }
    }
}
