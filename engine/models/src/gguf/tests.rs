use proptest::prelude::*;

use super::*;

/// A file of these values, each written as the format has it.
fn file(values: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    for (name, kind, value) in values {
        bytes.extend(text(name));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn number(number: u32) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn list(kind: u32, length: u64, rest: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), rest].concat()
}

fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::parse(bytes, bytes.len() as u64)
}

fn llama(heads_kv: (u32, Vec<u8>)) -> Vec<u8> {
    file(&[
        ("general.architecture", 8, text("llama")),
        ("llama.block_count", 4, number(3)),
        ("llama.context_length", 4, number(8192)),
        ("llama.embedding_length", 4, number(64)),
        ("llama.feed_forward_length", 4, number(128)),
        ("llama.attention.head_count", 4, number(4)),
        ("llama.attention.head_count_kv", heads_kv.0, heads_kv.1),
        ("tokenizer.ggml.tokens", 9, list(8, 2, &[text("a"), text("bc")].concat())),
        ("tokenizer.chat_template", 8, text("{{ messages }}")),
    ])
}

#[test]
fn a_model_says_what_it_takes() {
    let header = parse(&llama((4, number(2)))).unwrap();
    let shape = Shape {
        keys: 3 * 2 * 16,
        values: 3 * 2 * 16,
        heads: 4,
        embedding: 64,
        feed_forward: 128,
        vocabulary: 2,
        context: 8192,
    };
    assert_eq!(header.shape(), Some(shape));
    assert_eq!(header.text("tokenizer.chat_template"), Some("{{ messages }}"));
    let layers: Vec<u8> = [2u32, 0, 4].iter().flat_map(|number| number.to_le_bytes()).collect();
    let uneven = parse(&llama((9, list(5, 3, &layers)))).unwrap();
    assert_eq!(uneven.shape().unwrap().keys, (2 + 4) * 16);
    assert_eq!(Header::default().shape(), None);
}

#[test]
fn every_kind_of_value_is_read() {
    let kinds: &[(u32, Vec<u8>, Value)] = &[
        (0, vec![200], Value::Unsigned(200)),
        (1, vec![0xFF], Value::Signed(-1)),
        (2, vec![1, 1], Value::Unsigned(257)),
        (3, vec![0xFE, 0xFF], Value::Signed(-2)),
        (5, (-3i32).to_le_bytes().to_vec(), Value::Signed(-3)),
        (6, 0.5f32.to_le_bytes().to_vec(), Value::Float(0.5)),
        (7, vec![1], Value::Bool(true)),
        (10, u64::MAX.to_le_bytes().to_vec(), Value::Unsigned(u64::MAX)),
        (11, i64::MIN.to_le_bytes().to_vec(), Value::Signed(i64::MIN)),
        (12, 0.25f64.to_le_bytes().to_vec(), Value::Double(0.25)),
        (9, list(0, 2, &[1, 2]), Value::Numbers(vec![1, 2])),
        (9, list(6, 1, &[0; 4]), Value::List(1)),
        (9, list(4, 2000, &[0; 8000]), Value::List(2000)),
    ];
    for (kind, bytes, value) in kinds {
        let header = parse(&file(&[("x", *kind, bytes.clone())])).unwrap();
        assert_eq!(header.values().collect::<Vec<_>>(), [("x", value)]);
    }
}

#[test]
fn hostile_headers_are_refused_before_anything_is_set_aside_for_them() {
    let whole = llama((4, number(2)));
    for cut in 4..whole.len() {
        assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let damaged = |values: &[(&str, u32, Vec<u8>)]| parse(&file(values)).unwrap_err().to_string();
    let huge = u64::MAX.to_le_bytes().to_vec();
    assert!(damaged(&[("x", 8, huge.clone())]).contains("a text is too long"));
    assert!(damaged(&[("x", 9, list(8, u64::MAX, &[]))]).contains("longer than the file"));
    assert!(damaged(&[("x", 9, list(10, 1 << 61, &[]))]).contains("longer than the file"));
    assert!(damaged(&[("x", 9, list(8, 1, &huge))]).contains("ends too early"));
    assert!(damaged(&[("x", 9, list(9, 1, &[0; 64]))]).contains("list is of an unknown kind"));
    assert!(damaged(&[("x", 13, vec![0; 64])]).contains("unknown kind"));
    assert!(damaged(&[("x", 7, vec![0]), ("x", 7, vec![0])]).contains("twice"));
    assert!(damaged(&[("x", 8, [&1u64.to_le_bytes()[..], &[0xFF]].concat())]).contains("UTF-8"));
    let mut many = file(&[]);
    many[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(parse(&many).unwrap_err().to_string().contains("too many values"));
    assert!(matches!(parse(b"PK\x03\x04"), Err(GgufError::NotGguf)));
    assert!(matches!(parse(b"GG"), Err(GgufError::NotGguf)));
    assert!(matches!(parse(b"GGUF\x04\0\0\0"), Err(GgufError::Version(4))));
    // What it says of its size does not overflow.
    let layers = ("llama.block_count", 10, huge.clone());
    let header = file(&[
        ("general.architecture", 8, text("llama")),
        layers,
        ("llama.embedding_length", 10, huge.clone()),
        ("llama.attention.head_count", 4, number(1)),
        ("llama.attention.head_count_kv", 10, huge),
    ]);
    assert_eq!(parse(&header).unwrap().shape().unwrap().keys, u64::MAX);
}

proptest! {
    /// A header with wrong bytes is read or refused, and what it says of its size does not overflow.
    #[test]
    fn damage_is_no_trouble(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = llama((4, number(2)));
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = parse(&bytes).map(|header| header.shape());
    }
}
