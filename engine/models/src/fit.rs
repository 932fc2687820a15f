//! What a model will take on a machine, and how fast it will be there, before it is fetched. Pure: what was measured of the
//! machine is told.
//!
//! The constants were fitted to engines of SmolLM2 135M (Q4_1) and Gemma 3 270M (Q4_K_M) on a virtual machine with two
//! processors; `docs/models.md` says how well they hold there.

mod split;

pub use split::{Asked, Split};

use crate::catalogue::{Entry, Layers};
use crate::gguf::{Header, Shape};

/// What an engine process takes before it has a model: its program, and what llama.cpp sets aside.
const PROCESS_BYTES: u64 = 22 << 20;
/// What the vocabulary takes, per token, in its several forms.
const TOKEN_BYTES: u64 = 195;
/// llama.cpp rounds the cells of a sequence up to a multiple of this.
const CELLS_STEP: u64 = 256;
/// Numbers that share a scale in quantised formats; a head is a whole number of them.
const NUMBERS: u64 = 32;
/// Bytes of a number while it is computed with.
const F32: u64 = 4;
/// ggml's numbers of the kinds of weights that its CPU kernels lay out anew at loading, so that they are there twice:
/// Q4_0, Q4_K, IQ4_NL.
const LAID_OUT_ANEW: [u32; 3] = [2, 12, 20];
/// Kinds of weights with a minimum in each block of 32, Q4_1 and Q5_1: their kernels are half as fast.
const SLOW_KINDS: [u32; 2] = [3, 7];

/// What of the bandwidth that plain reading has decoding gets.
const BANDWIDTH_SHARE: f64 = 0.6;
/// What a layer costs a token beside its numbers, in seconds: on one thread, and where threads wait for each other.
const LAYER_S: f64 = 25e-6;
const LAYER_TOGETHER_S: f64 = 200e-6;
/// Tokens a second from which on answers come faster than people read, and from which on they are bearable.
const DECODE_WELL: f64 = 10.0;
const DECODE_BEARABLE: f64 = 4.0;
/// Tokens a second from which on a page of text is read within seconds.
const PREFILL_WELL: f64 = 50.0;

/// What decides how much a model takes, and how fast it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Facts {
    /// Its layers.
    pub shape: Shape,
    /// How many there are.
    pub layers: u64,
    /// Its file.
    pub file_bytes: u64,
    /// What of it is there twice.
    pub laid_out_anew_bytes: u64,
    /// What of it are experts.
    pub expert_bytes: u64,
    /// What of it is the table that tokens are looked up in.
    pub table_bytes: u64,
    /// What scores tokens: a matrix of its own, or that table.
    pub output_bytes: u64,
    /// Whether it is a matrix of its own.
    pub has_output: bool,
    /// What of it a token reads.
    pub read_bytes: u64,
    /// Multiplications for a token of an answer.
    pub decode_products: u64,
    /// Multiplications for a token of a prompt: nothing is scored there.
    pub prefill_products: u64,
    /// Whether its kernels are slow ones.
    pub is_slow_kind: bool,
}

/// How an engine is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Longest prompt and output together, in tokens.
    pub context: u64,
    /// Sequences at once.
    pub sequences: u64,
    /// KV cells in all.
    pub cells: u64,
    /// Tokens in one step.
    pub batch: u64,
    /// Bytes of 32 numbers of keys, and of values.
    pub key_block_bytes: u64,
    /// The same of values.
    pub value_block_bytes: u64,
    /// Whether flash attention is off, so that scores of all cells lie in memory.
    pub without_flash: bool,
}

/// Memory of an engine process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needed {
    /// Its file, which is mapped: the kernel can take it back and read it again.
    pub mapped: u64,
    /// Weights that are laid out anew.
    pub weights: u64,
    /// The KV cache.
    pub kv: u64,
    /// What a step computes with, and its results.
    pub compute: u64,
    /// The program and the vocabulary.
    pub process: u64,
}

impl Needed {
    /// What is not mapped.
    #[must_use]
    pub fn own(&self) -> u64 {
        [self.weights, self.kv, self.compute, self.process].into_iter().fold(0, u64::saturating_add)
    }

    /// What it cannot do without. Weights that are laid out anew are not read from the file again, so the kernel takes that
    /// part of the file back when it wants to.
    #[must_use]
    pub fn lasting(&self) -> u64 {
        self.mapped.saturating_sub(self.weights).saturating_add(self.own())
    }

    /// All of it, as the kernel counts it while nobody else wants memory.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.mapped.saturating_add(self.own())
    }
}

/// What was measured of a machine, on so many threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Threads.
    pub threads: u32,
    /// How fast memory is read, in bytes a second.
    pub bytes_per_second: f64,
    /// Multiplications of small whole numbers, each with its addition, a second.
    pub products_per_second: f64,
}

/// Tokens a second, at the beginning of a conversation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Of a prompt.
    pub prefill: f64,
    /// Of one answer.
    pub decode: f64,
}

/// Whether a model is any good on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answers come faster than people read.
    RunsWell,
    /// They are bearable.
    Runs,
    /// They are not.
    Slow,
    /// There is not enough memory.
    DoesNotFit,
}

impl Verdict {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RunsWell => "runs well",
            Self::Runs => "runs",
            Self::Slow => "slow",
            Self::DoesNotFit => "does not fit",
        }
    }
}

impl Facts {
    /// From a model's file.
    #[must_use]
    pub fn of_header(header: &Header, file_bytes: u64) -> Option<Self> {
        let (shape, weights) = (header.shape()?, header.weights());
        let used = header.own("expert_used_count").unwrap_or(0) as f64;
        let share = used / header.own("expert_count").unwrap_or(0).max(1) as f64;
        let idle = |all: u64| part(all, 1.0 - share);
        // A table of its own scores tokens, or the one that they are looked up in does it too.
        let table = shape.vocabulary.saturating_mul(shape.embedding);
        let (looked_up, looked_up_bytes) = if weights.has_output { (table, weights.table_bytes) } else { (0, 0) };
        let products = weights.parameters.saturating_sub(idle(weights.expert_parameters)).saturating_sub(looked_up);
        let slow: u64 = SLOW_KINDS.iter().filter_map(|kind| weights.matrices.get(kind)).sum();
        let laid_out_anew_bytes = LAID_OUT_ANEW.iter().filter_map(|kind| weights.matrices.get(kind)).sum();
        Some(Self {
            shape,
            layers: header.own("block_count")?,
            file_bytes,
            laid_out_anew_bytes,
            expert_bytes: weights.expert_bytes,
            table_bytes: weights.table_bytes,
            output_bytes: if weights.has_output { weights.output_bytes } else { weights.table_bytes },
            has_output: weights.has_output,
            read_bytes: weights.bytes.saturating_sub(idle(weights.expert_bytes)).saturating_sub(looked_up_bytes),
            decode_products: products,
            prefill_products: products.saturating_sub(table),
            is_slow_kind: slow > weights.matrices.values().sum::<u64>() / 2,
        })
    }

    /// From the catalogue, before the file is here. `None` where it does not say what the layers are.
    #[must_use]
    pub fn of_entry(entry: &Entry) -> Option<Self> {
        let Layers { count, attending, heads, kv_heads, head_length, embedding, feed_forward, vocabulary } =
            entry.layers?;
        let kv = attending.unwrap_or(count).saturating_mul(kv_heads).saturating_mul(head_length);
        let context = u64::from(entry.context);
        let shape = Shape { keys: kv, values: kv, heads, embedding, feed_forward, vocabulary, context };
        let active = entry.active_parameters.unwrap_or(entry.parameters);
        let file_bytes = entry.likely_bytes();
        let quant = entry.quant.as_deref().unwrap_or("Q4_K_M").to_ascii_uppercase();
        // Mixtures of four and six bits are two thirds of a kind that is laid out anew.
        let anew = match quant.as_str() {
            "Q4_0" | "IQ4_NL" | "Q4_K_S" => 0.9,
            "Q4_K_M" => 0.6,
            _ => 0.0,
        };
        let matrix_bytes = part(file_bytes, vocabulary.saturating_mul(embedding) as f64 / entry.parameters as f64);
        Some(Self {
            shape,
            layers: count,
            file_bytes,
            laid_out_anew_bytes: part(file_bytes, anew),
            expert_bytes: part(file_bytes, expert_share(entry.parameters, active)),
            table_bytes: matrix_bytes,
            output_bytes: matrix_bytes,
            has_output: true,
            read_bytes: part(file_bytes, active as f64 / entry.parameters as f64),
            decode_products: active,
            prefill_products: active.saturating_sub(vocabulary.saturating_mul(embedding)),
            is_slow_kind: matches!(quant.as_str(), "Q4_1" | "Q5_1"),
        })
    }

    /// What an engine takes with these settings.
    #[must_use]
    pub fn needed(&self, plan: &Plan) -> Needed {
        let Shape { vocabulary, .. } = self.shape;
        Needed {
            mapped: self.file_bytes,
            weights: self.laid_out_anew_bytes,
            kv: self.kv_bytes(plan),
            compute: self.compute_bytes(plan),
            process: PROCESS_BYTES.saturating_add(vocabulary.saturating_mul(TOKEN_BYTES)),
        }
    }

    pub(crate) fn kv_bytes(&self, plan: &Plan) -> u64 {
        let bytes = |numbers: u64, block: u64| numbers.saturating_mul(block) / NUMBERS;
        let cell = bytes(self.shape.keys, plan.key_block_bytes)
            .saturating_add(bytes(self.shape.values, plan.value_block_bytes));
        let context = plan.context.min(self.shape.context);
        let sequences = plan.sequences.max(1);
        let own = context.saturating_mul(sequences) <= plan.cells;
        let cells = if own { context.next_multiple_of(CELLS_STEP) * sequences } else { plan.cells };
        cell.saturating_mul(cells)
    }

    /// The widest of a layer's parts, which are in memory together, and the scores of each sequence's next token. llama.cpp
    /// sets more aside, for scores of all tokens of a batch, and does not touch it.
    fn compute_bytes(&self, plan: &Plan) -> u64 {
        self.step_bytes(plan).saturating_add(plan.sequences.saturating_mul(self.shape.vocabulary).saturating_mul(F32))
    }

    /// The widest of a layer's parts.
    fn step_bytes(&self, plan: &Plan) -> u64 {
        let Shape { embedding, feed_forward, heads, .. } = self.shape;
        let layer =
            embedding.saturating_mul(6).saturating_add(feed_forward.saturating_mul(2)).saturating_mul(115) / 100;
        let context = plan.context.min(self.shape.context);
        let scores = if plan.without_flash { heads.saturating_mul(context) } else { context / 2 };
        let batch = plan.batch.max(plan.sequences);
        batch.saturating_mul(layer.saturating_add(scores)).saturating_mul(F32)
    }

    /// How fast it will be: as bandwidth and arithmetic allow, with the best of these numbers of threads.
    #[must_use]
    pub fn speed(&self, measured: &[Rates]) -> Speed {
        let decode = |rates: &Rates| {
            let reading = self.read_bytes as f64 / (rates.bytes_per_second * BANDWIDTH_SHARE);
            let layer = if rates.threads > 1 { LAYER_TOGETHER_S } else { LAYER_S };
            1.0 / (reading.max(self.decode_products as f64 / self.products(rates)) + self.layers as f64 * layer)
        };
        let prefill = |rates: &Rates| self.products(rates) / self.prefill_products.max(1) as f64;
        let best = |speed: &dyn Fn(&Rates) -> f64| measured.iter().map(speed).fold(0.0, f64::max);
        Speed { prefill: best(&prefill), decode: best(&decode) }
    }

    fn products(&self, rates: &Rates) -> f64 {
        rates.products_per_second * if self.is_slow_kind { 0.5 } else { 1.0 }
    }
}

/// Whether it is any good with this much memory for models, and why.
#[must_use]
pub fn verdict(needed: &Needed, memory_bytes: u64, speed: &Speed) -> (Verdict, String) {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    if needed.lasting() > memory_bytes {
        let (all, has) = (gib(needed.lasting()), gib(memory_bytes));
        return (Verdict::DoesNotFit, format!("it needs {all:.1} GiB, and models may have {has:.1} GiB"));
    }
    let Speed { prefill, decode } = *speed;
    if decode < DECODE_BEARABLE {
        return (Verdict::Slow, format!("answers come at {decode:.1} tokens a second, slower than people read"));
    }
    if decode < DECODE_WELL {
        return (Verdict::Runs, format!("answers come at {decode:.1} tokens a second, about as fast as people read"));
    }
    if prefill < PREFILL_WELL {
        return (
            Verdict::Runs,
            format!("answers come fast enough, but a page of text takes {:.0} s to read", 500.0 / prefill),
        );
    }
    (Verdict::RunsWell, "answers come faster than people read".to_owned())
}

/// Which part of a model is experts, where only the numbers of parameters in all and of a token are known: mixtures use
/// one in eight to sixteen of their experts.
fn expert_share(parameters: u64, active: u64) -> f64 {
    const USED: f64 = 1.0 / 16.0;
    parameters.saturating_sub(active) as f64 / (1.0 - USED) / parameters.max(1) as f64
}

fn part(of: u64, share: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 1")]
    let part = (of as f64 * share.clamp(0.0, 1.0)) as u64;
    part
}

#[cfg(test)]
mod tests;
