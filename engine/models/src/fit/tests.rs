use super::*;
use crate::Catalogue;

/// As its file says.
pub(super) fn smollm2() -> Facts {
    Facts {
        shape: Shape {
            keys: 30 * 3 * 64,
            values: 30 * 3 * 64,
            heads: 9,
            embedding: 576,
            feed_forward: 1536,
            vocabulary: 49_152,
            context: 8192,
        },
        layers: 30,
        file_bytes: 98_362_432,
        laid_out_anew_bytes: 0,
        expert_bytes: 0,
        table_bytes: 30_081_024,
        output_bytes: 30_081_024,
        has_output: false,
        read_bytes: 96_600_000,
        decode_products: 134_515_008,
        prefill_products: 106_203_456,
        is_slow_kind: true,
    }
}

fn gemma3() -> Facts {
    Facts {
        shape: Shape {
            keys: 18 * 256,
            values: 18 * 256,
            heads: 4,
            embedding: 640,
            feed_forward: 2048,
            vocabulary: 262_144,
            context: 32_768,
        },
        layers: 18,
        file_bytes: 253_113_024,
        laid_out_anew_bytes: 13_271_040,
        expert_bytes: 0,
        table_bytes: 178_257_920,
        output_bytes: 178_257_920,
        has_output: false,
        read_bytes: 246_600_000,
        decode_products: 268_098_176,
        prefill_products: 100_326_016,
        is_slow_kind: false,
    }
}

fn plan(context: u64, sequences: u64, cells: u64, batch: u64) -> Plan {
    Plan { context, sequences, cells, batch, key_block_bytes: 64, value_block_bytes: 64, without_flash: false }
}

fn within(percent: f64, predicted: f64, measured: f64) {
    let off = (predicted / measured - 1.0) * 100.0;
    assert!(off.abs() <= percent, "{predicted:.1} is {off:+.1} % off {measured:.1}");
}

/// Proportional set sizes of engine processes that had answered a prompt of 700 words, in MiB.
#[test]
fn memory_is_what_engines_were_measured_to_take() {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (facts, plan, measured) in [
        (smollm2(), plan(4096, 8, 32_768, 512), 861.6),
        (smollm2(), plan(1024, 2, 2048, 512), 183.7),
        (smollm2(), plan(1024, 2, 2048, 128), 173.1),
        (gemma3(), plan(4096, 8, 32_768, 512), 926.4),
        (gemma3(), plan(1024, 2, 2048, 512), 374.1),
        (gemma3(), plan(1024, 2, 2048, 128), 360.4),
    ] {
        within(10.0, mib(facts.needed(&plan).all()), measured);
    }
}

/// Tokens a second of `allerac-engine --measure quick` on a machine whose memory and arithmetic were measured beside it, and
/// of `benches/RESULTS.md` for answers on two threads.
#[test]
fn speed_is_what_engines_were_measured_to_have() {
    let one = Rates { threads: 1, bytes_per_second: 37.5e9, products_per_second: 51e9 };
    let two = Rates { threads: 2, bytes_per_second: 71e9, products_per_second: 102e9 };
    for (facts, rates, prefill, decode) in [
        (smollm2(), vec![one], 240.7, 167.1),
        (gemma3(), vec![one], 532.4, 88.5),
        (smollm2(), vec![one, two], 461.1, 152.2),
        (gemma3(), vec![one, two], 953.2, 90.7),
    ] {
        let speed = facts.speed(&rates);
        within(25.0, speed.prefill, prefill);
        within(25.0, speed.decode, decode);
    }
}

#[test]
fn a_verdict_has_its_reason() {
    let needed = Needed { mapped: 5 << 30, ..Needed::default() };
    let says = |memory: u64, prefill, decode| verdict(&needed, memory << 30, &Speed { prefill, decode });
    assert_eq!(says(4, 999.0, 99.0), (Verdict::DoesNotFit, "it needs 5.0 GiB, and models may have 4.0 GiB".to_owned()));
    // What is laid out anew needs no more room than it did.
    let anew = Needed { mapped: 5 << 30, weights: 3 << 30, ..Needed::default() };
    assert_eq!((anew.all() >> 30, anew.lasting() >> 30), (8, 5));
    assert_eq!(says(6, 999.0, 2.0).0, Verdict::Slow);
    assert_eq!(says(6, 999.0, 5.0).0, Verdict::Runs);
    assert_eq!(
        says(6, 25.0, 12.0),
        (Verdict::Runs, "answers come fast enough, but a page of text takes 20 s to read".to_owned())
    );
    assert_eq!(says(6, 100.0, 12.0).0, Verdict::RunsWell);
}

#[test]
fn a_mixture_of_experts_reads_what_it_uses() {
    let text = "version = 1\n[[model]]\nid = \"a\"\nname = \"A\"\nfamily = \"f\"\nparameters = 30_000_000_000\n\
        active_parameters = 3_000_000_000\ncontext = 4096\nlicence = \"MIT\"\nlanguages = []\nquant = \"Q4_K_M\"\n\
        layers = { count = 48, heads = 32, kv_heads = 4, head_length = 128, embedding = 2048, feed_forward = 768, vocabulary = 151936 }\n\
        [model.file]\nname = \"a.gguf\"\n[[model.source]]\nkind = \"hub\"\nrepository = \"u/a\"\nfile = \"a.gguf\"\n";
    let catalogue = Catalogue::parse(text).unwrap();
    let facts = Facts::of_entry(catalogue.get("a").unwrap()).unwrap();
    assert_eq!(facts.file_bytes / facts.read_bytes, 10);
    assert_eq!(facts.needed(&plan(4096, 1, 4096, 512)).kv, 48 * 4 * 128 * 2 * 2 * 4096);
    // Numbers beyond all measure overflow nothing.
    let huge =
        Facts { shape: Shape { keys: u64::MAX, vocabulary: u64::MAX, ..facts.shape }, file_bytes: u64::MAX, ..facts };
    assert_eq!(huge.needed(&plan(u64::MAX / 512, 1, u64::MAX, u64::MAX)).all(), u64::MAX);
}
