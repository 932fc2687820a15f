use super::*;

type Matrix<'a> = (&'a str, u32, &'a [u64]);

/// A header with these values, each of its kind and as the format has it, and these tensors.
fn header(values: &[(&str, u32, Vec<u8>)], tensors: &[Matrix<'_>]) -> Header {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    for (name, kind, value) in values {
        bytes.extend([text(name), kind.to_le_bytes().to_vec(), value.clone()].concat());
    }
    for (name, kind, lengths) in tensors {
        bytes.extend(text(name));
        bytes.extend(u32::try_from(lengths.len()).unwrap().to_le_bytes());
        bytes.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
    }
    Header::parse(&bytes[..], 1 << 30).unwrap()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn said<'a>(kind: &str, architecture: &str) -> Vec<(&'a str, u32, Vec<u8>)> {
    vec![
        ("general.type", 8, text("adapter")),
        ("adapter.type", 8, text(kind)),
        ("general.architecture", 8, text(architecture)),
        (ALPHA, 6, 16f32.to_le_bytes().to_vec()),
    ]
}

const MODEL: &[Matrix<'_>] = &[
    ("token_embd.weight", 0, &[64, 100]),
    ("output.weight", 0, &[64, 100]),
    ("blk.0.attn_k.weight", 0, &[64, 32]),
    ("blk.0.ffn_up_exps.weight", 0, &[64, 128, 8]),
    ("blk.0.attn_norm.weight", 0, &[64]),
];

fn model(tensors: &[Matrix<'_>]) -> Header {
    header(&[("general.architecture", 8, text("llama"))], tensors)
}

fn checked(tensors: &[Matrix<'_>]) -> Result<(), Misfit> {
    fits(&header(&said("lora", "llama"), tensors), &model(MODEL))
}

#[test]
fn factors_of_a_models_matrices_fit() {
    let all: &[Matrix<'_>] = &[
        ("blk.0.attn_k.weight.lora_a", 1, &[64, 4]),
        ("blk.0.attn_k.weight.lora_b", 0, &[4, 32]),
        ("blk.0.ffn_up_exps.weight.lora_a", 0, &[64, 4, 8]),
        ("blk.0.ffn_up_exps.weight.lora_b", 0, &[4, 128, 8]),
        ("token_embd.weight.lora_a", 0, &[4, 100]),
        ("token_embd.weight.lora_b", 0, &[4, 64]),
    ];
    assert_eq!(checked(all), Ok(()));
    let without_alpha = header(&said("lora", "llama")[..3], &all[..2]);
    assert_eq!(fits(&without_alpha, &model(MODEL)), Ok(()));
}

/// Some of these would end llama.cpp's process when it computes.
#[test]
fn what_does_not_fit_is_said() {
    let cases: &[(&[Matrix<'_>], &str)] = &[
        (&[], "there is nothing in it"),
        (&[("blk.0.attn_k.weight.lora_a", 0, &[64, 4])], "one of two factors is missing"),
        (&[("blk.0.attn_k.weight", 0, &[64, 32])], "more than matrices"),
        (
            &[("blk.0.attn_norm.weight.lora_a", 0, &[64, 4]), ("blk.0.attn_norm.weight.lora_b", 0, &[4, 1])],
            "the model has no such matrix",
        ),
        (
            &[("blk.1.attn_k.weight.lora_a", 0, &[64, 4]), ("blk.1.attn_k.weight.lora_b", 0, &[4, 32])],
            "the model has no such matrix",
        ),
        (
            &[("blk.0.attn_k.weight.lora_a", 0, &[32, 4]), ("blk.0.attn_k.weight.lora_b", 0, &[4, 32])],
            "has another size",
        ),
        (
            &[("blk.0.attn_k.weight.lora_a", 0, &[64, 4]), ("blk.0.attn_k.weight.lora_b", 0, &[8, 32])],
            "has another size",
        ),
        (
            &[("blk.0.attn_k.weight.lora_a", 0, &[64, 4, 2]), ("blk.0.attn_k.weight.lora_b", 0, &[4, 32])],
            "has another size",
        ),
        (
            &[
                ("blk.0.ffn_up_exps.weight.lora_a", 0, &[64, 4, 7]),
                ("blk.0.ffn_up_exps.weight.lora_b", 0, &[4, 128, 8]),
            ],
            "has another size",
        ),
        (&[("token_embd.weight.lora_a", 0, &[64, 4]), ("token_embd.weight.lora_b", 0, &[4, 100])], "has another size"),
        (
            &[("blk.0.attn_k.weight.lora_a", 26, &[64, 4]), ("blk.0.attn_k.weight.lora_b", 0, &[4, 32])],
            "of a kind that is not used",
        ),
    ];
    for (tensors, wanted) in cases {
        let error = checked(tensors).unwrap_err().to_string();
        assert!(error.contains(wanted), "{tensors:?}: {error}");
    }
}

#[test]
fn what_it_says_of_itself_is_checked() {
    let fine: &[Matrix<'_>] =
        &[("blk.0.attn_k.weight.lora_a", 0, &[64, 4]), ("blk.0.attn_k.weight.lora_b", 0, &[4, 32])];
    let told = |values: &[(&str, u32, Vec<u8>)]| fits(&header(values, fine), &model(MODEL)).unwrap_err().to_string();
    assert!(told(&said("control", "llama")).contains("`control`"));
    assert!(told(&said("lora", "qwen2")).contains("of the architecture qwen2, and this model is of llama"));
    let with = |name, kind, value| [&said("lora", "llama")[..3], &[(name, kind, value)]].concat();
    // llama.cpp takes it for 32 bits, and ends the process where it is anything else.
    assert!(told(&with(ALPHA, 12, 16f64.to_le_bytes().to_vec())).contains("no number of 32 bits"));
    assert!(told(&with(ALPHA, 6, f32::NAN.to_le_bytes().to_vec())).contains("no number of 32 bits"));
    assert!(
        told(&with(INVOCATION, 9, [4u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec(), vec![0; 4]].concat()))
            .contains("activated LoRA")
    );
    assert_eq!(fits(&model(MODEL), &model(MODEL)), Err(Misfit::Kind(String::new())));
    // One table looks tokens up and scores them.
    let tied = model(&[MODEL[0], MODEL[2]]);
    let table = header(
        &said("lora", "llama"),
        &[("token_embd.weight.lora_a", 0, &[4, 100]), ("token_embd.weight.lora_b", 0, &[4, 64])],
    );
    assert!(fits(&table, &tied).unwrap_err().to_string().contains("by the same table"));
}
